"""Rotary position embedding (RoFormer), with the frequency scaling of Llama 3.

Channel i is paired with channel i + C / 2, as in Hugging Face's Llama.
"""

import jax.numpy as jnp
from jax import Array

from r1jax.models.model_config import ModelConfig


def cos_sin(cfg: ModelConfig, pos_BT: Array) -> tuple[Array, Array]:
  """cos and sin of position * theta^(-2 i / C), [B, T, C / 2] each, float32."""
  half, scaling = cfg.head_dim // 2, cfg.rope_scaling
  freq = cfg.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if scaling:
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    length = scaling.original_max_position_embeddings
    kept = (length * freq / (2 * jnp.pi) - low) / (high - low)
    kept = jnp.clip(kept, 0, 1)
    freq = freq * (kept + (1 - kept) / scaling.factor)
  angle = pos_BT[..., None].astype(jnp.float32) * freq[None, None]
  return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, cos_sin: tuple[Array, Array]) -> Array:
  """x [B, T, ..., C] with each pair of channels rotated by its angle."""
  head_axes = tuple(range(2, x.ndim - 1))
  cos, sin = (jnp.expand_dims(a, head_axes) for a in cos_sin)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  out = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return out.astype(x.dtype)
