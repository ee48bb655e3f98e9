"""TensorBoard, wandb, trackio and the user's own trackers, by config.trackers."""
