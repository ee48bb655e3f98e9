"""The config of a model."""

import dataclasses

from r1jax.models.sharding import FsdpTensorParallel, NoSharding


@dataclasses.dataclass(frozen=True)
class RopeScaling:
  """RoPE scaling of Llama 3: frequencies with fewer than low_freq_factor
  periods in the original max. length are divided by `factor`, those with more
  than high_freq_factor are kept, and those between are interpolated."""

  factor: float
  low_freq_factor: float
  high_freq_factor: float
  original_max_position_embeddings: int


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The architecture, and how it is computed. Sizes are those of the whole
  model, not of a device's shard."""

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  ffn: int
  rope_theta: float = 10000.0
  rope_scaling: RopeScaling | None = None
  norm_eps: float = 1e-6
  tie_embeddings: bool = True
  qkv_bias: bool = False
  qk_norm: bool = False
  max_len: int = 32768
  score: bool = False  # a reward model, with params['score']
  # The fields below do not change the function, apart from rounding.
  real_vocab: int = 0  # ids from here on pad the vocabulary; 0: none do
  dtype: str = 'float32'  # of the matrix products
  scan_layers: bool = True
  remat: str = 'none'  # or a name in transformer.REMAT
  head_chunk: int = 128  # columns whose logits exist at a time
  attention: str = 'einsum'  # or 'splash', a TPU kernel
  cpu_layout: bool = False  # forms for XLA's CPU backend, see linear.py
  tpu_layout: bool = False  # caches for TPUs, see attention.in_cache_layout
  sharding: FsdpTensorParallel = NoSharding()

  @property
  def table_name(self) -> str:
    """The parameter with the head's [V, D] matrix."""
    return 'embed' if self.tie_embeddings else 'head'
