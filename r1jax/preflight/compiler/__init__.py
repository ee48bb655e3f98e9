"""The programs of a run, compiled for TPUs that are not present."""
