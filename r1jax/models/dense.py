"""Models of grouped-query attention and a gated MLP in every layer: what their
families share beside the block of a layer."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import gqa, layer, stack
from r1jax.models.model_config import LayerSizes
from r1jax.models.stack import Cache, Output

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
class DenseConfig(gqa.GqaConfig):
  ffn: int

  @property
  def norm_after(self) -> bool:
    """Whether layers have a norm of what the MLP returns."""
    return False

  @property
  def layer_sizes(self) -> LayerSizes:
    sizes = self.sizes_with(self.ffn)
    return dataclasses.replace(sizes, norm_after=self.norm_after)


def sizes_to_hf(cfg: DenseConfig) -> dict[str, Any]:
  """The keys of config.json with the sizes of a layer."""
  return dict(
    num_attention_heads=cfg.heads,
    num_key_value_heads=cfg.kv_heads,
    head_dim=cfg.head_dim,
    intermediate_size=cfg.ffn,
  )


def layer_kinds(each_N: Sequence[gqa.LayerKind]) -> dict[str, Any]:
  """The fields `kinds` and `kind_N` of a model with layers of these kinds."""
  kinds = tuple(dict.fromkeys(each_N))
  if len(kinds) == 1:
    return dict(kinds=kinds)
  return dict(kinds=kinds, kind_N=tuple(kinds.index(x) for x in each_N))


def init(key: Array, cfg: DenseConfig, block: type[layer.Layer]) -> dict:
  """Random float32 parameters of the whole model."""
  cfg = layer.whole(cfg)
  x_BTD, pos_BT = jnp.zeros((1, 1, cfg.width)), jnp.zeros((1, 1), jnp.int32)
  args = x_BTD, gqa.rope_tables(cfg, pos_BT), 0, pos_BT, None
  layers = layer.init_layers(key, block(cfg), cfg.layers, args)
  return layer.init_outer(key, cfg) | dict(layers=layers)


def forward(
  params: dict,
  cfg: DenseConfig,
  block: type[layer.Layer],
  tokens_BT: Array,
  pos_BT: Array,
  past: Cache,
) -> Output:
  """See transformer.forward. A call of the block returns a LayerOutput."""
  cfg, x_BTD = layer.embed(params, cfg, tokens_BT)
  tables = gqa.rope_tables(cfg, pos_BT)

  def run_block(x_BTD, params, kind, past, routing):
    args = x_BTD, tables, kind, pos_BT, past
    return block(cfg).apply(dict(params=params), *args)

  x_BTD, kv, _ = stack.run(
    cfg, run_block, x_BTD, params['layers'], cfg.kind_N, pos_BT, past
  )
  return Output(layer.last_norm(params, cfg, x_BTD), kv)
