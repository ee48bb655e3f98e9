"""DeepSeek-R1 in JAX: GRPO, rejection sampling, reward models, distillation."""
