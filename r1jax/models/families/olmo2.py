"""OLMo 2 and OLMo 3: norms after attention and MLP, not before, and a norm of
the queries and the keys of all heads."""

import dataclasses
from collections.abc import Iterator
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

# transformers' values of keys that a config.json lacks.
ARCHITECTURES = dict(
  Olmo2=dict(rms_norm_eps=1e-5),
  Olmo3=dict(rms_norm_eps=1e-5, rope_theta=5e5, sliding_window=4096),
)
PARTITION = dense.PARTITION
STACKS = dense.STACKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(dense.DenseConfig):
  architecture: str = 'Olmo2'  # a key of ARCHITECTURES, for exports

  @property
  def norm_after(self) -> bool:
    return True


class Block(layer.Layer):
  """x + norm(attention(x)), then x + norm(mlp(x))."""

  cfg: Config

  @nn.compact
  def __call__(self, x_BTD, tables, kind, pos_BT, past) -> LayerOutput:
    cfg, sharding = self.cfg, self.cfg.sharding
    h_BTD = sharding.all_gather_tokens(x_BTD)
    h_BTD, kv = gqa.attend_layer(cfg, self, h_BTD, tables, kind, pos_BT, past)
    x_BTD += self.norm('norm1_after', sharding.reduce_scatter_tokens(h_BTD))
    h_BTD = self.gated_mlp(sharding.all_gather_tokens(x_BTD), cfg.ffn)
    h_BTD = sharding.reduce_scatter_tokens(h_BTD)
    return LayerOutput(x_BTD + self.norm('norm2_after', h_BTD), kv)


def config_from_hf(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  architecture = hf.architecture
  hf = hf.with_defaults(ARCHITECTURES[architecture])
  hf.check(hidden_act='silu', attention_bias=False)
  attention_sizes = hf.attention_sizes()
  return Config(
    **hf.sizes(),
    **attention_sizes,
    **dense.layer_kinds(_kinds(hf, attention_sizes['head_dim'])),
    ffn=hf.number('intermediate_size'),
    qk_norm_heads=True,
    architecture=architecture,
  )


def _kinds(hf, head_dim):
  """The kind of each layer. Three of four have in OLMo 3 a window, and no
  scaling of their rope."""
  full = hf_rope.read(hf, head_dim)
  if hf.architecture == 'Olmo2':
    hf.check_full_attention()
    return [gqa.LayerKind(full)]
  local = hf_rope.read_local(hf, head_dim, 'rope_theta')
  if local.theta != full.theta:
    hf.refuse('rope_parameters', 'but r1jax needs one rope_theta')
  return hf_layers.periodic(hf, 4, full, local)


def config_to_hf(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  kinds = cfg.layer_kinds
  keys = dict(
    architecture=cfg.architecture,
    model_type=cfg.architecture.lower(),
    **dense.sizes_to_hf(cfg),
    hidden_act='silu',
    pad_token_id=None,
  )
  full, local = hf_layers.ropes(kinds)
  keys |= hf_rope.written(full)
  if cfg.architecture == 'Olmo3':
    # From the form of transformers 4, version 5 would read another theta.
    keys['rope_parameters'] = hf_rope.nested(full, local)
    keys['layer_types'] = hf_layers.types_of(kinds)
    keys['sliding_window'] = max(kind.window for kind in kinds) or None
  return keys


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  yield from hf_tensor.outer(cfg)
  D, F = cfg.width, cfg.ffn
  tensors = [
    HfTensor('post_attention_layernorm.weight', (D,), 'norm1_after'),
    HfTensor('post_feedforward_layernorm.weight', (D,), 'norm2_after'),
    *hf_tensor.gated_mlp(D, F),
    *hf_attention.tensors(cfg),
  ]
  yield from hf_tensor.in_layers(tensors, range(cfg.layers))


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
