"""Rotary position embedding (RoFormer) with the frequency scalings in use.

Of the R rotated channels, i is paired with i + R / 2, as in Hugging Face's
Llama; the channels from R on keep their values. The fields of a scaling have
the names of the keys in config.json, and `kind` is its rope_type.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jax import Array


@dataclasses.dataclass(frozen=True)
class LinearScaling:
  """Position interpolation: all frequencies are divided by `factor`."""

  factor: float
  kind = 'linear'
  attention = 1.0

  def scaled(self, theta: float, freq: np.ndarray) -> np.ndarray:
    del theta
    return freq / self.factor


@dataclasses.dataclass(frozen=True)
class DynamicScaling:
  """Dynamic NTK scaling, which raises theta in calls that are longer than the
  model's max_position_embeddings. r1jax refuses such rows, so the frequencies
  are always the plain ones, which is exact; the factor is kept for exports."""

  factor: float
  kind = 'dynamic'
  attention = 1.0

  def scaled(self, theta: float, freq: np.ndarray) -> np.ndarray:
    del theta
    return freq


@dataclasses.dataclass(frozen=True)
class Llama3Scaling:
  """RoPE scaling of Llama 3: frequencies with fewer than low_freq_factor
  periods in the original max. length are divided by `factor`, those with more
  than high_freq_factor are kept, and those between are interpolated."""

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_position_embeddings: int
  kind = 'llama3'
  attention = 1.0

  def scaled(self, theta: float, freq: np.ndarray) -> np.ndarray:
    del theta
    low, high = self.low_freq_factor, self.high_freq_factor
    length = self.original_max_position_embeddings
    kept = (length * freq / (2 * np.pi) - low) / (high - low)
    kept = np.clip(kept, 0, 1)
    return freq * (kept + (1 - kept) / self.factor)


@dataclasses.dataclass(frozen=True)
class YarnScaling:
  """YaRN (arXiv:2309.00071): frequencies with more than beta_fast periods in
  the original max. length are kept, those with fewer than beta_slow are divided
  by `factor`, with a ramp over the channels between. cos and sin are multiplied
  by `attention`."""

  factor: float
  original_max_position_embeddings: int
  beta_fast: float = 32.0
  beta_slow: float = 1.0
  mscale: float | None = None
  mscale_all_dim: float | None = None
  attention_factor: float | None = None
  attn_factor: float | None = None
  truncate: bool = True
  kind = 'yarn'

  @property
  def attention(self) -> float:
    """attention_factor, or by default m(mscale) / m(mscale_all_dim) if both are
    given, else m(1), with m = yarn_mscale(factor, .). attn_factor multiplies
    the default, as in vLLM and llama.cpp. transformers ignores it."""
    if self.attention_factor is not None:
      return self.attention_factor
    default = yarn_mscale(self.factor)
    if self.mscale and self.mscale_all_dim:
      default = yarn_mscale(self.factor, self.mscale)
      default /= yarn_mscale(self.factor, self.mscale_all_dim)
    return default * (1.0 if self.attn_factor is None else self.attn_factor)

  def scaled(self, theta: float, freq: np.ndarray) -> np.ndarray:
    channels = 2 * len(freq)

    def channel(periods):
      """The pair whose frequency has that many periods."""
      length = self.original_max_position_embeddings / (2 * math.pi * periods)
      return channels * math.log(length) / (2 * math.log(theta))

    low, high = channel(self.beta_fast), channel(self.beta_slow)
    if self.truncate:
      low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, channels - 1)
    if low == high:
      high += 0.001  # as transformers, so that the ramp is a step
    divided = np.clip((np.arange(len(freq)) - low) / (high - low), 0, 1)
    return freq * (1 - divided) + freq / self.factor * divided


@dataclasses.dataclass(frozen=True)
class LongRopeScaling:
  """LongRoPE (arXiv:2402.13753): each frequency is divided by a factor of its
  own. cos and sin are multiplied by `attention`.

  transformers uses long_factor in calls of more than
  original_max_position_embeddings tokens, and short_factor in shorter ones, so
  the keys of a row would change while it is sampled. Here the choice is the
  model's, as in vLLM: long_factor if its max_position_embeddings exceed the
  original ones, whatever the length of a row. Logits are those of transformers
  for calls of that kind. To have short_factor, lower max_position_embeddings in
  config.json to the original, and set attention_factor there to keep it.
  """

  short_factor: tuple[float, ...]
  long_factor: tuple[float, ...]
  original_max_position_embeddings: int
  max_position_embeddings: int
  factor: float | None = None
  attention_factor: float | None = None
  kind = 'longrope'

  @property
  def attention(self) -> float:
    """attention_factor, by default sqrt(1 + ln(factor) / ln(original length)),
    where factor is by default max. length / original length."""
    if self.attention_factor is not None:
      return self.attention_factor
    original = self.original_max_position_embeddings
    factor = self.factor or self.max_position_embeddings / original
    if factor <= 1:
      return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(original))

  def scaled(self, theta: float, freq: np.ndarray) -> np.ndarray:
    del theta
    original = self.original_max_position_embeddings
    is_long = self.max_position_embeddings > original
    return freq / np.array(self.long_factor if is_long else self.short_factor)


Scaling = (
  LinearScaling | DynamicScaling | Llama3Scaling | YarnScaling | LongRopeScaling
)


@dataclasses.dataclass(frozen=True)
class Rope:
  """The rotary embedding of a layer: frequencies theta^(-2 i / R), scaled."""

  theta: float = 10000.0
  scaling: Scaling | None = None
  partial: float = 1.0  # R / C

  def frequencies(self, channels: int) -> np.ndarray:
    """The angle per position of each of the R / 2 pairs, float32."""
    half = rotated(self.partial, channels) // 2
    freq = self.theta ** (-np.arange(half) / half)
    if self.scaling:
      freq = self.scaling.scaled(self.theta, freq)
    return freq.astype(np.float32)


def rotated(partial: float, channels: int) -> int:
  """The number R of rotated channels of a head."""
  return int(channels * partial)


def yarn_mscale(factor: float, mscale: float = 1.0) -> float:
  """0.1 mscale ln(factor) + 1; 1 for factors up to 1."""
  return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def cos_sin(rope: Rope, channels: int, pos_BT: Array) -> tuple[Array, Array]:
  """cos and sin of position * frequency, [B, T, R / 2] each, float32, times the
  scaling's `attention`."""
  freq = jnp.asarray(rope.frequencies(channels))
  angle = pos_BT[..., None].astype(jnp.float32) * freq[None, None]
  size = rope.scaling.attention if rope.scaling else 1.0
  if size == 1:
    return jnp.cos(angle), jnp.sin(angle)
  return jnp.cos(angle) * size, jnp.sin(angle) * size


def rotate(x: Array, cos_sin: tuple[Array, Array]) -> Array:
  """x [B, T, ..., C] with each pair of its first R channels rotated by its
  angle."""
  head_axes = tuple(range(2, x.ndim - 1))
  cos, sin = (jnp.expand_dims(a, head_axes) for a in cos_sin)
  half = cos.shape[-1]
  sizes = half, half, x.shape[-1] - 2 * half
  parts = jnp.split(x, np.cumsum(sizes[:-1]), axis=-1)
  a, b = (part.astype(jnp.float32) for part in parts[:2])
  out = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
  out = out.astype(x.dtype)
  return jnp.concatenate([out, parts[2]], axis=-1) if sizes[2] else out
