"""The kernels of attention by ModelConfig.attention: 'splash' has those of TPUs,
'cudnn' those of GPUs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import (
  attention,
  gpu_attention,
  gpu_decode,
  paging,
  tpu_attention,
  tpu_decode,
)
from r1jax.models.attention import CachedLayer, Form
from r1jax.models.model_config import ModelConfig

# Over a call's own keys, in training and prefill.
OWN_KEYS = dict(splash=tpu_attention.splash, cudnn=gpu_attention.flash)
# The same, where rows have several sequences.
OWN_KEYS_PACKED = dict(
  splash=tpu_attention.splash, cudnn=gpu_attention.flash_packed
)
# Over the filled part of each row's cache, in decoding.
FILLED_CACHE: dict[str, Callable] = dict(
  splash=tpu_decode.attend_filled, cudnn=gpu_decode.attend_filled
)


def own_keys(cfg: ModelConfig) -> Callable:
  """The kernel (form, q, kv, positions, window, sinks) over a call's own keys."""
  kernels = OWN_KEYS_PACKED if cfg.sequence_packing else OWN_KEYS
  return kernels[cfg.attention]


def can_share_prompts(attention: str) -> bool:
  """Whether rows of a packed row can share their prompt. A kernel of TPUs knows
  sequences alone."""
  return attention != 'splash'


def can_decode(cfg: ModelConfig, channels: int, value_channels: int) -> bool:
  """Whether a kernel of FILLED_CACHE takes the keys and values of the layers."""
  if cfg.attention == 'cudnn':
    # It cannot read a layer's part of a stacked cache.
    fits = gpu_decode.has_kernel(channels, value_channels)
    return fits and not cfg.scan_layers
  return cfg.attention == 'splash' and channels % tpu_decode.SUBLANES == 0


def decode(
  cfg: ModelConfig,
  form: Form,
  q_BTKGC: Array,
  new: tuple[Array, ...],
  past: tuple[Array, ...] | CachedLayer,
  pos_BT: Array,
  window: Array | int | None,
  value_channels: int,
  sink_KG: Array | None = None,
) -> tuple[Array, tuple[Array, ...]]:
  """(out_BTKGC, the cache) of attention over a layer's cache and the call's own
  keys `new`, as gqa.attend returns them, by a kernel of FILLED_CACHE. Values are
  the first channels of the last of the arrays."""
  kernel, pos_B = FILLED_CACHE[cfg.attention], pos_BT[:, 0]
  if isinstance(past, CachedLayer):
    before = kernel(form, q_BTKGC, past, pos_B, pos_B, window, value_channels)
    visible_BTT = attention.visible(pos_BT, pos_BT, window)
    kv = new[0], new[-1][..., :value_channels]
    own = attention.attend_with_lse(form, q_BTKGC, kv, visible_BTT)
    out, lse = attention.merge(before, own)
  else:
    new = tuple(
      paging.write(cfg, old, keys, pos_B) for old, keys in zip(past, new)
    )
    cached = CachedLayer(jax.tree.map(lambda a: a[None], new), 0)
    # A draft behind the last column is not kept.
    length_B = jnp.minimum(pos_B + q_BTKGC.shape[1], paging.columns(new[0]))
    out, lse = kernel(
      form, q_BTKGC, cached, pos_B, length_B, window, value_channels
    )
  return attention.with_sink(out, lse, sink_KG), new


def page_columns(cfg: ModelConfig) -> int:
  """The columns of which pages of a cache must have a multiple."""
  if not cfg.reads_filled_cache:
    return 1
  return dict(splash=attention.TILE, cudnn=gpu_decode.BLOCK)[cfg.attention]


def can_address(attention: str, past: Any) -> bool:
  """Whether the kernel can address the cache of a layer, an argument of decode."""
  return attention != 'cudnn' or gpu_decode.has_offsets(past)
