"""Llama, and the families whose layers have its form: Mistral, Qwen2, Qwen3,
SmolLM3 and Phi-3."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from flax import linen as nn
from jax import Array

from r1jax.models import (
  dense,
  gqa,
  hf_attention,
  hf_layers,
  hf_rope,
  hf_tensor,
  layer,
)
from r1jax.models.hf_config import HfConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.stack import Cache, LayerOutput, Output


@dataclasses.dataclass(frozen=True)
class Variant:
  """What distinguishes an architecture from Llama."""

  model_type: str
  qkv_bias: bool = False
  qk_norm: bool = False
  # Whether config.json says with attention_bias that q, k, v and out have one.
  has_bias_key: bool = False
  # One tensor has the matrices of q, k and v, another those of gate and up.
  is_fused: bool = False
  # transformers' values of keys that a config.json lacks.
  defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)


ARCHITECTURES = dict(
  Llama=Variant('llama', has_bias_key=True),
  Qwen2=Variant('qwen2', qkv_bias=True),
  Qwen3=Variant('qwen3', qk_norm=True, has_bias_key=True),
  Mistral=Variant(
    'mistral', defaults=dict(sliding_window=4096, num_key_value_heads=8)
  ),
  SmolLM3=Variant(
    'smollm3',
    has_bias_key=True,
    defaults=dict(
      rope_theta=2e6, num_key_value_heads=4, tie_word_embeddings=True
    ),
  ),
  Phi3=Variant(
    'phi3',
    is_fused=True,
    defaults=dict(rms_norm_eps=1e-5, max_position_embeddings=4096),
  ),
)
PARTITION = dense.PARTITION
STACKS = dense.STACKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(dense.DenseConfig):
  architecture: str = 'Llama'  # a key of ARCHITECTURES, for exports


class Block(layer.Layer):
  """x + attention(norm(x)), then x + mlp(norm(x))."""

  cfg: Config

  @nn.compact
  def __call__(self, x_BTD, tables, kind, pos_BT, past) -> LayerOutput:
    cfg, sharding = self.cfg, self.cfg.sharding
    h_BTD = sharding.all_gather_tokens(self.norm('norm1', x_BTD))
    h_BTD, kv = gqa.attend_layer(cfg, self, h_BTD, tables, kind, pos_BT, past)
    x_BTD += sharding.reduce_scatter_tokens(h_BTD)
    h_BTD = sharding.all_gather_tokens(self.norm('norm2', x_BTD))
    h_BTD = self.gated_mlp(h_BTD, cfg.ffn)
    return LayerOutput(x_BTD + sharding.reduce_scatter_tokens(h_BTD), kv)


def config_from_hf(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  architecture = hf.architecture
  variant = ARCHITECTURES[architecture]
  hf = hf.with_defaults(variant.defaults)
  hf.check(hidden_act='silu', mlp_bias=False)
  has_bias = variant.has_bias_key and hf.flag('attention_bias')
  if not variant.has_bias_key:
    hf.check(attention_bias=False)
  if not variant.is_fused:
    hf.check(partial_rotary_factor=1.0)  # transformers ignores it there
  sizes, attention_sizes = hf.sizes(), hf.attention_sizes()
  setting = hf_rope.read(hf, attention_sizes['head_dim'])
  return Config(
    **sizes,
    **attention_sizes,
    **dense.layer_kinds(hf_layers.read(hf, setting)),
    ffn=hf.number('intermediate_size'),
    qkv_bias=variant.qkv_bias or has_bias,
    out_bias=has_bias,
    qk_norm=variant.qk_norm,
    architecture=architecture,
  )


def config_to_hf(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  variant = ARCHITECTURES[cfg.architecture]
  own = variant.qkv_bias or cfg.out_bias, variant.qk_norm
  assert own == (cfg.qkv_bias, cfg.qk_norm), cfg.architecture
  assert variant.has_bias_key or not cfg.out_bias, cfg.architecture
  keys = dict(
    architecture=cfg.architecture,
    model_type=variant.model_type,
    **dense.sizes_to_hf(cfg),
    hidden_act='silu',
    pad_token_id=None,
    **hf_rope.written(cfg.rope),
    **hf_layers.written(cfg, cfg.architecture),
  )
  if cfg.out_bias:
    keys['attention_bias'] = True
  if cfg.architecture == 'Phi3' and keys['rope_scaling']:
    # transformers 4 allows Phi-3 these three keys only.
    table = dict(keys['rope_scaling'])
    table['type'] = table.pop('rope_type')
    del table['original_max_position_embeddings']
    keys['rope_scaling'] = table
  return keys


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  yield from hf_tensor.outer(cfg)
  D, F = cfg.width, cfg.ffn
  norms = [
    HfTensor('input_layernorm.weight', (D,), 'norm1'),
    HfTensor('post_attention_layernorm.weight', (D,), 'norm2'),
  ]
  if ARCHITECTURES[cfg.architecture].is_fused:
    matrices = [
      *hf_tensor.fused_gated_mlp(D, F),
      *hf_attention.fused_tensors(cfg),
    ]
  else:
    matrices = [*hf_tensor.gated_mlp(D, F), *hf_attention.tensors(cfg)]
  yield from hf_tensor.in_layers([*norms, *matrices], range(cfg.layers))


def init(key: Array, cfg: Config) -> dict:
  """Random float32 parameters of the whole model."""
  return dense.init(key, cfg, Block)


def init_cache(cfg: Config, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as forward takes and returns it."""
  return gqa.init_cache(cfg, rows, length)


def forward(
  params: dict,
  cfg: Config,
  tokens_BT: Array,
  pos_BT: Array,
  past: Cache = None,
  routing: Array | None = None,
) -> Output:
  """See transformer.forward."""
  return dense.forward(params, cfg, Block, tokens_BT, pos_BT, past)
