"""One GRPO step: rollout, rewards, batch, update."""
