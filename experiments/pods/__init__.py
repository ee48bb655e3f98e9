"""R1-Zero on TPU pods: one config file a model, for 256 chips of any kind.

experiments/pods.md has the memory and time that they need on v5e:16x16,
v5p:4x8x8 and v6e:16x16, by `python -m r1jax preflight`. For another number of
chips change config.grpo.prompts_per_step and config.micro_batch_size: both must
be multiples of the number of devices over config.parallel.tensor_parallel.
"""
