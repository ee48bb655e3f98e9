"""Where arrays live, and several processes as one run."""
