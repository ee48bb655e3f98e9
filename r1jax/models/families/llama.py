"""Llama, Qwen2 and Qwen3: grouped-query attention and a gated MLP."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import gqa, hf_rope, hf_tensor, layer, stack
from r1jax.models.hf_config import HfConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.model_config import LayerSizes
from r1jax.models.stack import Cache, LayerOutput, Output

# The (qkv_bias, qk_norm) of each architecture.
ARCHITECTURES = dict(
  Llama=(False, False),
  Qwen2=(True, False),
  Qwen3=(False, True),
)
PARTITION = (
  layer.PARTITION
  | gqa.PARTITION
  | dict(
    gate_up=P(None, 'data', None, 'model'),
    down=P(None, 'model', 'data'),
  )
)
STACKS = ('layers',)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gqa.GqaConfig):
  ffn: int

  @property
  def layer_sizes(self) -> LayerSizes:
    return self.sizes_with(self.ffn)


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
  hf.check(hidden_act='silu', attention_bias=False, mlp_bias=False)
  hf.check_full_attention()
  qkv_bias, qk_norm = ARCHITECTURES[hf.architecture]
  attention_sizes = hf.attention_sizes()
  setting = hf_rope.read(hf, attention_sizes['head_dim'])
  return Config(
    **hf.sizes(),
    **attention_sizes,
    ffn=hf.number('intermediate_size'),
    qkv_bias=qkv_bias,
    qk_norm=qk_norm,
    kinds=(gqa.LayerKind(rope=setting),),
  )


def config_to_hf(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  kind = cfg.qkv_bias, cfg.qk_norm
  names = [name for name, value in ARCHITECTURES.items() if value == kind]
  assert names, 'no architecture has both qkv_bias and qk_norm'
  return dict(
    architecture=names[0],
    model_type=names[0].lower(),
    num_attention_heads=cfg.heads,
    num_key_value_heads=cfg.kv_heads,
    head_dim=cfg.head_dim,
    intermediate_size=cfg.ffn,
    hidden_act='silu',
    **hf_rope.written(cfg.kinds[0].rope),
  )


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  yield from hf_tensor.outer(cfg)
  D, F = cfg.width, cfg.ffn
  tensors = [
    HfTensor('input_layernorm.weight', (D,), 'norm1'),
    HfTensor('post_attention_layernorm.weight', (D,), 'norm2'),
    *hf_tensor.gated_mlp(D, F),
    *gqa.hf_tensors(cfg),
  ]
  yield from hf_tensor.in_layers(tensors, range(cfg.layers))


def init(key: Array, cfg: Config) -> dict:
  """Random float32 parameters of the whole model."""
  cfg = layer.whole(cfg)
  x_BTD, pos_BT = jnp.zeros((1, 1, cfg.width)), jnp.zeros((1, 1), jnp.int32)
  args = x_BTD, gqa.rope_tables(cfg, pos_BT), 0, pos_BT, None
  layers = layer.init_layers(key, Block(cfg), cfg.layers, args)
  return layer.init_outer(key, cfg) | dict(layers=layers)


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
  cfg, x_BTD = layer.embed(params, cfg, tokens_BT)
  tables = gqa.rope_tables(cfg, pos_BT)

  def block(x_BTD, params, kind, past, routing):
    args = x_BTD, tables, kind, pos_BT, past
    return Block(cfg).apply(dict(params=params), *args)

  x_BTD, kv, _ = stack.run(
    cfg, block, x_BTD, params['layers'], cfg.kind_N, pos_BT, past
  )
  return Output(layer.last_norm(params, cfg, x_BTD), kv)
