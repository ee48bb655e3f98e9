"""Models of grouped-query attention with mixtures of experts in all layers, or
most: what their families share."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from r1jax.models import dense, gqa, hf_attention, hf_tensor, layer, moe, stack
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.model_config import LayerSizes
from r1jax.models.stack import Cache, LayerOutput, Output

PARTITION = dense.PARTITION | moe.PARTITION
SPARSE, DENSE = 'layers', 'dense_layers'
STACKS = (SPARSE, DENSE)


class Segment(NamedTuple):
  """Consecutive layers of the model that are of one stack."""

  stack: str
  numbers: range  # in the model
  start: int  # in the stack


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseConfig(gqa.GqaConfig):
  moe: moe.MoeConfig
  dense_ffn: int  # of the layers without experts
  dense_numbers: tuple[int, ...] = ()  # these layers

  @property
  def segments(self) -> list[Segment]:
    """The layers in their order."""
    found, used = [], dict.fromkeys(STACKS, 0)
    for is_dense, group in itertools.groupby(
      range(self.layers), self.dense_numbers.__contains__
    ):
      numbers = list(group)
      name = DENSE if is_dense else SPARSE
      span = range(numbers[0], numbers[-1] + 1)
      found.append(Segment(name, span, used[name]))
      used[name] += len(span)
    return found

  @property
  def stacks(self) -> dict[str, list[int]]:
    """The numbers of the layers of each stack that the model has."""
    numbers: dict[str, list[int]] = {}
    for segment in self.segments:
      numbers.setdefault(segment.stack, []).extend(segment.numbers)
    return numbers

  @property
  def layer_sizes(self) -> LayerSizes:
    share = 1 - len(self.dense_numbers) / self.layers
    ffn = (1 - share) * self.dense_ffn + share * self.moe.ffn_of_token
    sizes = self.sizes_with(ffn)
    return moe.with_experts(sizes, self.width, self.moe, share)

  @property
  def num_experts(self) -> int:
    return self.moe.experts if SPARSE in self.stacks else 0


class Block(layer.Layer):
  """x + attention(norm(x)), then x + experts(norm(x)) or x + mlp(norm(x))."""

  cfg: SparseConfig
  has_experts: bool

  @nn.compact
  def __call__(
    self, x_BTD, tables, kind, pos_BT, past, routing_BTE
  ) -> LayerOutput:
    cfg, sharding = self.cfg, self.cfg.sharding
    h_BTD = sharding.all_gather_tokens(self.norm('norm1', x_BTD))
    h_BTD, kv = gqa.attend_layer(cfg, self, h_BTD, tables, kind, pos_BT, past)
    x_BTD += sharding.reduce_scatter_tokens(h_BTD)
    h_BTD = self.norm('norm2', x_BTD)
    if self.has_experts:
      h_BTD, routing_BTE = moe.layer(
        cfg, cfg.moe, self, h_BTD, pos_BT, routing_BTE
      )
      return LayerOutput(x_BTD + h_BTD, kv, routing_BTE)
    h_BTD = self.gated_mlp(sharding.all_gather_tokens(h_BTD), cfg.dense_ffn)
    return LayerOutput(x_BTD + sharding.reduce_scatter_tokens(h_BTD), kv)


def hf_tensors(
  cfg: SparseConfig, experts: Sequence[HfTensor]
) -> Iterator[HfTensor]:
  """The tensors of a checkpoint, with those of the experts of a layer."""
  yield from hf_tensor.outer(cfg)
  common = [
    HfTensor('input_layernorm.weight', (cfg.width,), 'norm1'),
    HfTensor('post_attention_layernorm.weight', (cfg.width,), 'norm2'),
    *hf_attention.tensors(cfg),
  ]
  mlps = {
    SPARSE: list(experts),
    DENSE: hf_tensor.gated_mlp(cfg.width, cfg.dense_ffn),
  }
  for name, numbers in cfg.stacks.items():
    yield from hf_tensor.in_layers(common + mlps[name], numbers, name)


def init(key: Array, cfg: SparseConfig) -> dict:
  """Random float32 parameters of the whole model."""
  cfg = layer.whole(cfg)
  x_BTD, pos_BT = jnp.zeros((1, 1, cfg.width)), jnp.zeros((1, 1), jnp.int32)
  args = x_BTD, gqa.rope_tables(cfg, pos_BT), 0, pos_BT, None, None
  params = layer.init_outer(key, cfg)
  for name, numbers in cfg.stacks.items():
    stack_key = jax.random.fold_in(key, STACKS.index(name))
    block = Block(cfg, has_experts=name == SPARSE)
    params[name] = layer.init_layers(stack_key, block, len(numbers), args)
  return params


def init_cache(cfg: SparseConfig, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as forward takes and returns it."""
  K = cfg.kv_heads // cfg.sharding.tensor_parallel
  shape = rows, K, length, cfg.head_dim
  return tuple(
    stack.init_cache(cfg, len(segment.numbers), (shape, shape))
    for segment in cfg.segments
  )


def forward(
  params: dict,
  cfg: SparseConfig,
  tokens_BT: Array,
  pos_BT: Array,
  past: Cache = None,
  routing: Array | None = None,
) -> Output:
  """See transformer.forward."""
  cfg, x_BTD = layer.embed(params, cfg, tokens_BT)
  tables = gqa.rope_tables(cfg, pos_BT)
  caches, chosen = [], list[Array]()
  for number, segment in enumerate(cfg.segments):
    has_experts = segment.stack == SPARSE

    def block(x_BTD, params, kind, past, routing, has_experts=has_experts):
      args = x_BTD, tables, kind, pos_BT, past, routing
      return Block(cfg, has_experts).apply(dict(params=params), *args)

    own_routing = None
    if has_experts and routing is not None:
      own_routing = _part(routing, segment)
    x_BTD, cache, choice = stack.run(
      cfg,
      block,
      x_BTD,
      _layers(params[segment.stack], segment),
      [cfg.kind_N[n] for n in segment.numbers] if cfg.kind_N else (),
      pos_BT,
      None if past is None else past[number],
      own_routing,
    )
    caches.append(cache)
    if choice is not None:
      chosen.append(choice)
  routing = jnp.concatenate(chosen) if chosen else None
  return Output(layer.last_norm(params, cfg, x_BTD), tuple(caches), routing)


def _layers(layers, segment):
  """The parameters of a segment, from those of its stack."""
  if isinstance(layers, tuple):
    return _part(layers, segment)
  return jax.tree.map(lambda leaf: _part(leaf, segment), layers)


def _part(layers, segment):
  count = len(segment.numbers)
  if len(layers) == count:
    return layers
  return layers[segment.start : segment.start + count]
