"""The kernels of attention by ModelConfig.attention: 'splash' has those of TPUs,
'cudnn' those of GPUs."""

from collections.abc import Callable

from r1jax.models import gpu_attention, tpu_attention
from r1jax.models.attention import KeysValues
from r1jax.models.model_config import ModelConfig

# Over a call's own keys, in training and prefill.
OWN_KEYS = dict(splash=tpu_attention.splash, cudnn=gpu_attention.flash)
# The same, where rows have several sequences.
OWN_KEYS_PACKED = dict(
  splash=tpu_attention.splash, cudnn=gpu_attention.flash_packed
)
# Over the filled part of each row's cache, in decoding.
FILLED_CACHE = dict(
  splash=tpu_attention.attend_filled, cudnn=gpu_attention.attend_filled
)


def own_keys(cfg: ModelConfig) -> Callable:
  """The kernel (form, q, kv, positions, window, sinks) over a call's own keys."""
  kernels = OWN_KEYS_PACKED if cfg.sequence_packing else OWN_KEYS
  return kernels[cfg.attention]


def can_share_prompts(attention: str) -> bool:
  """Whether rows of a packed row can share their prompt. A kernel of TPUs knows
  sequences alone."""
  return attention != 'splash'


def can_decode(attention: str, channels: int) -> bool:
  """Whether a kernel of FILLED_CACHE takes heads of this many channels."""
  if attention == 'cudnn':
    return gpu_attention.has_decode_kernel(channels)
  return attention == 'splash' and channels % tpu_attention.SUBLANES == 0


def can_address(attention: str, cache_BKSC: KeysValues) -> bool:
  """Whether the kernel can address this cache."""
  return attention != 'cudnn' or gpu_attention.has_decode_offsets(cache_BKSC)
