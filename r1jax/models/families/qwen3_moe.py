"""Qwen3-MoE: grouped-query attention and a mixture of experts."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from r1jax.models import gqa, hf_rope, hf_tensor, layer, moe, stack
from r1jax.models.hf_config import HfConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.model_config import LayerSizes
from r1jax.models.stack import Cache, LayerOutput, Output

ARCHITECTURES = dict(Qwen3Moe=None)
PARTITION = layer.PARTITION | gqa.PARTITION | moe.PARTITION
STACKS = ('layers',)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gqa.GqaConfig):
  moe: moe.MoeConfig
  dense_ffn: int  # of layers without experts; this family's models have none

  @property
  def layer_sizes(self) -> LayerSizes:
    sizes = self.sizes_with(self.moe.ffn_of_token)
    return moe.with_experts(sizes, self.width, self.moe)

  @property
  def num_experts(self) -> int:
    return self.moe.experts


class Block(layer.Layer):
  """x + attention(norm(x)), then x + experts(norm(x))."""

  cfg: Config

  @nn.compact
  def __call__(
    self, x_BTD, tables, kind, pos_BT, past, routing_BTE
  ) -> LayerOutput:
    cfg, sharding = self.cfg, self.cfg.sharding
    h_BTD = sharding.all_gather_tokens(self.norm('norm1', x_BTD))
    h_BTD, kv = gqa.attend_layer(cfg, self, h_BTD, tables, kind, pos_BT, past)
    x_BTD += sharding.reduce_scatter_tokens(h_BTD)
    h_BTD = sharding.all_gather_tokens(self.norm('norm2', x_BTD))
    h_BTD, routing_BTE = moe.layer(cfg, cfg.moe, self, h_BTD, routing_BTE)
    x_BTD += sharding.reduce_scatter_tokens(h_BTD)
    return LayerOutput(x_BTD, kv, routing_BTE)


def config_from_hf(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  hf.check(hidden_act='silu', attention_bias=False, decoder_sparse_step=1)
  hf.check_full_attention()
  if hf.values.get('mlp_only_layers'):
    hf.refuse('mlp_only_layers', 'but layers without experts are not supported')
  experts_key = 'num_experts'
  if experts_key not in hf.values:
    experts_key = 'num_local_experts'  # as transformers 5 writes it
  experts = hf.number(experts_key)
  experts_per_token = hf.number('num_experts_per_tok')
  if experts_per_token > experts:
    why = f'but the model has only {experts} experts'
    hf.refuse('num_experts_per_tok', why)
  sizes = hf.attention_sizes()
  kind = gqa.LayerKind(rope=hf_rope.read(hf, sizes['head_dim']))
  return Config(
    **hf.sizes(),
    **sizes,
    qk_norm=True,
    kinds=(kind,),
    moe=moe.MoeConfig(
      experts=experts,
      experts_per_token=experts_per_token,
      ffn=hf.number('moe_intermediate_size'),
      score='softmax',
      normalize=hf.flag('norm_topk_prob'),
    ),
    dense_ffn=hf.number('intermediate_size'),
  )


def config_to_hf(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  return dict(
    architecture='Qwen3Moe',
    model_type='qwen3_moe',
    num_attention_heads=cfg.heads,
    num_key_value_heads=cfg.kv_heads,
    head_dim=cfg.head_dim,
    intermediate_size=cfg.dense_ffn,
    hidden_act='silu',
    num_experts=cfg.moe.experts,
    num_experts_per_tok=cfg.moe.experts_per_token,
    moe_intermediate_size=cfg.moe.ffn,
    norm_topk_prob=cfg.moe.normalize,
    decoder_sparse_step=1,
    mlp_only_layers=[],
    **hf_rope.written(cfg.kinds[0].rope),
  )


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  yield from hf_tensor.outer(cfg)
  tensors = [
    HfTensor('input_layernorm.weight', (cfg.width,), 'norm1'),
    HfTensor('post_attention_layernorm.weight', (cfg.width,), 'norm2'),
    *moe.hf_tensors(cfg.width, cfg.moe),
    *gqa.hf_tensors(cfg),
  ]
  yield from hf_tensor.in_layers(tensors, range(cfg.layers))


def init(key: Array, cfg: Config) -> dict:
  """Random float32 parameters of the whole model."""
  cfg = layer.whole(cfg)
  x_BTD, pos_BT = jnp.zeros((1, 1, cfg.width)), jnp.zeros((1, 1), jnp.int32)
  args = x_BTD, gqa.rope_tables(cfg, pos_BT), 0, pos_BT, None, None
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

  def block(x_BTD, params, kind, past, routing_BTE):
    args = x_BTD, tables, kind, pos_BT, past, routing_BTE
    return Block(cfg).apply(dict(params=params), *args)

  x_BTD, kv, routing = stack.run(
    cfg, block, x_BTD, params['layers'], cfg.kind_N, pos_BT, past, routing
  )
  return Output(layer.last_norm(params, cfg, x_BTD), kv, routing)
