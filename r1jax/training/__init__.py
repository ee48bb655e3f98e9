"""State, optimiser step, checkpoints and metrics."""
