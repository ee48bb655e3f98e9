"""Rotary position embedding (RoFormer) with the frequency scalings in use.

Channel i is paired with channel i + C / 2, as in Hugging Face's Llama.
"""

import dataclasses

import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
  """RoPE scaling of Llama 3: frequencies with fewer than low_freq_factor
  periods in the original max. length are divided by `factor`, those with more
  than high_freq_factor are kept, and those between are interpolated."""

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_position_embeddings: int

  def scaled(self, freq: Array) -> Array:
    low, high = self.low_freq_factor, self.high_freq_factor
    length = self.original_max_position_embeddings
    kept = (length * freq / (2 * jnp.pi) - low) / (high - low)
    kept = jnp.clip(kept, 0, 1)
    return freq * (kept + (1 - kept) / self.factor)


@dataclasses.dataclass(frozen=True)
class Rope:
  """The rotary embedding of a layer: frequencies theta^(-2 i / C)."""

  theta: float = 10000.0
  scaling: Llama3Scaling | None = None

  def frequencies(self, channels: int) -> Array:
    """The angle per position of each of the C / 2 pairs, float32."""
    half = channels // 2
    freq = self.theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    return self.scaling.scaled(freq) if self.scaling else freq


def cos_sin(rope: Rope, channels: int, pos_BT: Array) -> tuple[Array, Array]:
  """cos and sin of position * frequency, [B, T, C / 2] each, float32."""
  freq = rope.frequencies(channels)
  angle = pos_BT[..., None].astype(jnp.float32) * freq[None, None]
  return jnp.cos(angle), jnp.sin(angle)


def rotate(x: Array, cos_sin: tuple[Array, Array]) -> Array:
  """x [B, T, ..., C] with each pair of channels rotated by its angle."""
  head_axes = tuple(range(2, x.ndim - 1))
  cos, sin = (jnp.expand_dims(a, head_axes) for a in cos_sin)
  a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  out = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  return out.astype(x.dtype)
