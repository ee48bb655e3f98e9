"""DeepSeek-V3 and R1, DeepSeek-V2, and GLM-4.7-Flash: multi-head latent
attention, dense first layers, then mixtures of experts."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import (
  deepseek_config,
  hf_attention,
  hf_tensor,
  layer,
  mla,
  moe,
  mtp,
  stack,
)
from r1jax.models.deepseek_config import Config
from r1jax.models.hf_config import HfConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.stack import Cache, LayerOutput, Output

ARCHITECTURES = deepseek_config.ARCHITECTURES
PARTITION = (
  layer.PARTITION
  | mla.PARTITION
  | moe.PARTITION
  | mtp.PARTITION
  | dict(
    gate_up=P(None, 'data', None, 'model'),
    down=P(None, 'model', 'data'),
  )
)
STACKS = deepseek_config.STACKS


class Block(layer.Layer):
  """x + attention(norm(x)), then x + mlp(norm(x)) or x + experts(norm(x))."""

  cfg: Config
  has_experts: bool

  @nn.compact
  def __call__(self, x_BTD, cos_sin, pos_BT, past, routing_BTE) -> LayerOutput:
    args = x_BTD, cos_sin, pos_BT, past, routing_BTE
    return decoder_layer(self.cfg, self, self.has_experts, *args)


class MtpModule(layer.Layer):
  """See mtp.inputs; then a layer with experts, and a norm."""

  cfg: Config

  @nn.compact
  def __call__(self, e_BTD, hidden_BTD, cos_sin, pos_BT, past) -> LayerOutput:
    x_BTD = mtp.inputs(self.cfg, self, e_BTD, hidden_BTD)
    args = x_BTD, cos_sin, pos_BT, past, None
    out = decoder_layer(self.cfg, self, True, *args)
    return out._replace(x_BTD=self.norm('mtp_norm', out.x_BTD))


def decoder_layer(
  cfg: Config,
  module: layer.Layer,
  has_experts: bool,
  x_BTD: Array,
  cos_sin: tuple[Array, Array],
  pos_BT: Array,
  past: Any,
  routing_BTE: Array | None,
) -> LayerOutput:
  """A layer, whose parameters are those of `module`."""
  sharding = cfg.sharding
  h_BTD = sharding.all_gather_tokens(module.norm('norm1', x_BTD))
  h_BTD, latents = mla.attend_layer(cfg, module, h_BTD, cos_sin, pos_BT, past)
  x_BTD += sharding.reduce_scatter_tokens(h_BTD)
  h_BTD = module.norm('norm2', x_BTD)
  if has_experts:
    h_BTD, routing_BTE = moe.layer(
      cfg, cfg.moe, module, h_BTD, pos_BT, routing_BTE
    )
    return LayerOutput(x_BTD + h_BTD, latents, routing_BTE)
  h_BTD = module.gated_mlp(sharding.all_gather_tokens(h_BTD), cfg.ffn)
  return LayerOutput(x_BTD + sharding.reduce_scatter_tokens(h_BTD), latents)


def config_from_hf(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  return deepseek_config.read(hf)


def config_to_hf(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  return deepseek_config.written(cfg)


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  yield from hf_tensor.outer(cfg)
  D = cfg.width
  common = [
    HfTensor('input_layernorm.weight', (D,), 'norm1'),
    HfTensor('post_attention_layernorm.weight', (D,), 'norm2'),
    *hf_attention.latent_tensors(cfg),
  ]
  mlps = dict(
    dense_layers=hf_tensor.gated_mlp(D, cfg.ffn),
    layers=list(moe.hf_tensors(D, cfg.moe)),
  )
  first = 0
  for name, count in cfg.stacks.items():
    numbers = range(first, first + count)
    yield from hf_tensor.in_layers(common + mlps[name], numbers, name)
    first += count
  if cfg.keep_mtp:
    tensors = [*common, *mlps['layers'], *mtp.hf_tensors(D)]
    yield from hf_tensor.in_layers(tensors, cfg.mtp_numbers, 'mtp')


def init(key: Array, cfg: Config) -> dict:
  """Random float32 parameters of the whole model."""
  cfg = layer.whole(cfg)
  x_BTD, pos_BT = jnp.zeros((1, 1, cfg.width)), jnp.zeros((1, 1), jnp.int32)
  args = x_BTD, mla.rope_table(cfg, pos_BT), pos_BT, None, None
  params = layer.init_outer(key, cfg)
  for number, (name, count) in enumerate(cfg.stacks.items()):
    block = Block(cfg, has_experts=name == 'layers')
    stack_key = jax.random.fold_in(key, number)
    params[name] = layer.init_layers(stack_key, block, count, args)
  if cfg.keep_mtp:
    params['mtp'] = layer.init_layers(
      jax.random.fold_in(key, 2),
      MtpModule(cfg),
      cfg.mtp_layers,
      (x_BTD, *args[:-1]),
    )
  return params


def init_cache(cfg: Config, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as forward takes and returns it."""
  return tuple(
    mla.init_cache(cfg, count, rows, length) for count in cfg.stacks.values()
  )


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
  cos_sin = mla.rope_table(cfg, pos_BT)
  caches, chosen = [], None
  for number, name in enumerate(cfg.stacks):
    has_experts = name == 'layers'

    def block(x_BTD, params, kind, past, routing, has_experts=has_experts):
      del kind
      args = x_BTD, cos_sin, pos_BT, past, routing
      return Block(cfg, has_experts).apply(dict(params=params), *args)

    x_BTD, cache, chosen = stack.run(
      cfg,
      block,
      x_BTD,
      params[name],
      (),
      pos_BT,
      None if past is None else past[number],
      routing if has_experts else None,
    )
    caches.append(cache)
  return Output(layer.last_norm(params, cfg, x_BTD), tuple(caches), chosen)


def init_mtp_cache(cfg: Config, rows: int, length: int) -> Cache:
  """An empty cache of mtp_forward."""
  return mla.init_cache(_unrolled(cfg), 1, rows, length)


def mtp_forward(
  params: dict,
  cfg: Config,
  next_BT: Array,
  pos_BT: Array,
  hidden_BTD: Array,
  past: Cache = None,
) -> Output:
  """See transformer.mtp_forward."""
  cfg, e_BTD = layer.embed(params, _unrolled(cfg), next_BT)
  hidden_BTD = cfg.sharding.own_tokens(hidden_BTD)
  past = None if past is None else past[0]
  args = e_BTD, hidden_BTD, mla.rope_table(cfg, pos_BT), pos_BT, past
  weights = stack.unstack(params['mtp'])[0]
  out: Any = MtpModule(cfg).apply(dict(params=weights), *args)
  hidden_BTD = cfg.sharding.all_gather_tokens(out.x_BTD)
  return Output(hidden_BTD, (out.cache,))


def _unrolled(cfg):
  """The config of the module's one layer."""
  return dataclasses.replace(cfg, scan_layers=False)
