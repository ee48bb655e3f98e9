"""Rotary positions: halves of a head's channels turned by position times
frequency (RoFormer), with Llama 3's stretching of the low ones."""

import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Scaling:
  """Llama 3's stretching of the low rotary frequencies."""

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_len: int


def angles(cfg, pos_BT):
  """cos and sin of position times frequency, [B, T, C / 2] each."""
  half = cfg.head_dim // 2
  freq = cfg.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  if cfg.rope_scaling:
    s = cfg.rope_scaling
    turns = s.original_max_len * freq / (2 * jnp.pi)
    smooth = (turns - s.low_freq_factor) / (
      s.high_freq_factor - s.low_freq_factor
    )
    smooth = jnp.clip(smooth, 0, 1)
    freq = freq * (smooth + (1 - smooth) / s.factor)
  angle_BTR = pos_BT[..., None].astype(jnp.float32) * freq[None, None]
  return jnp.cos(angle_BTR), jnp.sin(angle_BTR)


def rotate(x, turns):
  """Turn the halves of the last axis of x [B, T, ..., C] by the angles."""
  heads = tuple(range(2, x.ndim - 1))
  cos, sin = (jnp.expand_dims(r, heads) for r in turns)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  out = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return out.astype(x.dtype)
