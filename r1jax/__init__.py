"""r1jax: DeepSeek-R1 in JAX, from GRPO to distillation, on any TPU pod."""
