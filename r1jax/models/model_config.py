"""What the configs of all model families have in common."""

import dataclasses
from typing import Self

from r1jax.models.moe_config import MoeConfig
from r1jax.models.packing import Packing
from r1jax.models.sharding import FsdpTensorParallel, NoSharding


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSizes:
  """What a layer stores and computes for a token, for estimates of costs. Sizes
  are those of the whole model; where layers differ, their mean."""

  heads: int
  query: float  # channels of the queries of all heads
  projected: float  # channels of queries, keys and values
  attended: float  # multiplications of a query and a key: channels of both sums
  attended_in_decode: float
  ffn: float  # feed-forward channels that a token uses
  weights: float  # elements of the matrices that a token multiplies
  replicated: float = 0.0  # of other such matrices, which no device shares
  cache_arrays: int  # 2: keys and values
  cache_heads: int
  cache_channels: int  # of a head
  cache_is_sharded: bool = True  # along 'model'; else each device has all of it
  norm_after: bool = False  # a norm of what the MLP returns
  windows: tuple[int, ...] = (0,)  # of each layer, see gqa.LayerKind
  moe: MoeConfig | None = None  # of the layers that have experts
  expert_layers: float = 0.0  # the share of these layers

  @property
  def cache(self) -> int:
    """Numbers that the cache holds of a token."""
    return self.cache_arrays * self.cache_heads * self.cache_channels

  @property
  def experts(self) -> int:
    """The experts of a token."""
    return self.moe.experts_per_token if self.moe else 0

  @property
  def expert_ffn(self) -> int:
    """Channels of an expert."""
    return self.moe.ffn if self.moe else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
  """The architecture, and how it is computed. Sizes are those of the whole
  model, not of a device's shard. Each family adds its own fields."""

  vocab_size: int
  width: int
  layers: int
  norm_eps: float = 1e-6
  tie_embeddings: bool = True
  max_len: int = 32768
  score: bool = False  # a reward model, with params['score']
  mtp_layers: int = 0  # modules of multi-token prediction in the checkpoint
  keep_mtp: bool = False  # they are in params['mtp']
  # The fields below do not change the function, apart from rounding.
  real_vocab: int = 0  # ids from here on pad the vocabulary; 0: none do
  saved_dtype: str = 'float32'  # of the matrices in the checkpoint
  dtype: str = 'float32'  # of the matrix products
  scan_layers: bool = True
  remat: str = 'none'  # or a name in stack.REMAT
  head_chunk: int = 128  # columns whose logits exist at a time
  attention: str = 'einsum'  # or kernels: 'splash' of TPUs, 'cudnn' of GPUs
  cpu_layout: bool = False  # forms for XLA's CPU backend, see linear.py
  tpu_layout: bool = False  # caches for TPUs, see attention.in_cache_layout
  gate_up_first: bool = False  # see layer.gate_up_first
  outputs_first: bool = False  # see layer.outputs_first
  sharding: FsdpTensorParallel = NoSharding()
  packing: Packing | None = None  # rows have several responses to a prompt
  sequence_packing: bool = False  # rows have several sequences

  @property
  def table_name(self) -> str:
    """The parameter with the head's [V, D] matrix."""
    return 'embed' if self.tie_embeddings else 'head'

  @property
  def skipped_tensors(self) -> tuple[str, ...]:
    """The beginnings of the names of tensors that a checkpoint may have and
    that are not read."""
    return ()

  def sharded(self, sharding: FsdpTensorParallel) -> Self:
    """The config of the model that the devices compute together."""
    return dataclasses.replace(self, sharding=sharding)

  @property
  def layer_sizes(self) -> LayerSizes:
    raise NotImplementedError

  @property
  def max_tensor_parallel(self) -> int:
    """The most devices among which heads can be divided."""
    raise NotImplementedError

  @property
  def qk_head_dim(self) -> int:
    """Channels of a query and of a key."""
    raise NotImplementedError

  @property
  def reads_filled_cache(self) -> bool:
    """Whether decoding reads only the filled part of each row's cache."""
    return False

  @property
  def has_sinks(self) -> bool:
    """Whether the heads of attention have sinks, see attention.with_sink."""
    return False

  @property
  def num_experts(self) -> int:
    """The experts among which a layer's router chooses; 0: it has none."""
    return 0

  @property
  def logit_softcap(self) -> float:
    """Logits are cap * tanh(logits / cap); 0: they are not capped."""
    return 0.0

  @property
  def norm_offset(self) -> float:
    """Norms multiply by offset + scale."""
    return 0.0

  @property
  def embed_scale(self) -> float:
    """The factor of the embeddings, not of the head."""
    return 1.0
