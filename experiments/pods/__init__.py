"""R1-Zero on TPU pods: a config file a model, for 256 chips of any kind.

What a run on v5e:16x16, v5p:4x8x8 or v6e:16x16 takes of their memory and time,
as `python -m r1jax preflight` says it, stands in experiments/pods.md. For other
numbers of chips change grpo.prompts_per_step and micro, which must be multiples of the
devices over parallel.tensor_parallel.
"""
