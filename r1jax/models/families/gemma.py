"""Gemma 2 and the text models of Gemma 3."""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn
from jax import Array

from r1jax.models import (
  attention,
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

# transformers' values of keys that a config.json lacks. Gemma3Text is the name
# of Gemma 3's reward models.
_DEFAULTS = dict(
  num_attention_heads=8,
  num_key_value_heads=4,
  head_dim=256,
  query_pre_attn_scalar=256,
  sliding_window=4096,
  hidden_activation='gelu_pytorch_tanh',
  tie_word_embeddings=True,
)
_GEMMA3 = _DEFAULTS | dict(
  vocab_size=262_208,
  max_position_embeddings=131_072,
  rope_theta=1e6,
  final_logit_softcapping=None,
  sliding_window_pattern=6,
)
ARCHITECTURES = dict(
  Gemma2=_DEFAULTS
  | dict(
    max_position_embeddings=8192,
    final_logit_softcapping=30.0,
    attn_logit_softcapping=50.0,
    sliding_window_pattern=2,
  ),
  Gemma3=_GEMMA3,
  Gemma3Text=_GEMMA3,
)
PARTITION = dense.PARTITION
STACKS = dense.STACKS
NORMS = dict(
  norm1='input_layernorm',
  norm1_after='post_attention_layernorm',
  norm2='pre_feedforward_layernorm',
  norm2_after='post_feedforward_layernorm',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(dense.DenseConfig):
  query_scalar: int  # scores are divided by its square root
  score_softcap: float = 0.0
  final_softcap: float = 0.0

  @property
  def form(self) -> attention.Form:
    scale = self.query_scalar**-0.5
    return attention.Form(scale, self.score_softcap, self.cpu_layout)

  @property
  def norm_after(self) -> bool:
    return True

  @property
  def logit_softcap(self) -> float:
    return self.final_softcap

  @property
  def norm_offset(self) -> float:
    return 1.0

  @property
  def embed_scale(self) -> float:
    return self.width**0.5


class Block(layer.Layer):
  """x + norm(attention(norm(x))), then x + norm(mlp(norm(x)))."""

  cfg: Config

  @nn.compact
  def __call__(self, x_BTD, tables, kind, pos_BT, past) -> LayerOutput:
    cfg, sharding = self.cfg, self.cfg.sharding
    h_BTD = sharding.all_gather_tokens(self.norm('norm1', x_BTD))
    h_BTD, kv = gqa.attend_layer(cfg, self, h_BTD, tables, kind, pos_BT, past)
    h_BTD = sharding.reduce_scatter_tokens(h_BTD)
    x_BTD += self.norm('norm1_after', h_BTD)
    h_BTD = sharding.all_gather_tokens(self.norm('norm2', x_BTD))
    h_BTD = self.gated_mlp(h_BTD, cfg.ffn, gelu)
    h_BTD = sharding.reduce_scatter_tokens(h_BTD)
    return LayerOutput(x_BTD + self.norm('norm2_after', h_BTD), kv)


gelu = functools.partial(jax.nn.gelu, approximate=True)  # by tanh


def config_from_hf(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  is_gemma2 = hf.architecture == 'Gemma2'
  hf = hf.with_defaults(ARCHITECTURES[hf.architecture])
  hf.check(
    hidden_activation='gelu_pytorch_tanh',
    attention_bias=False,
    use_bidirectional_attention=False,
  )
  if not is_gemma2:
    hf.check(attn_logit_softcapping=None)  # transformers would ignore it
  attention_sizes = hf.attention_sizes()
  return Config(
    **hf.sizes(),
    **attention_sizes,
    **dense.layer_kinds(_kinds(hf, is_gemma2, attention_sizes['head_dim'])),
    ffn=hf.number('intermediate_size'),
    qk_norm=not is_gemma2,
    query_scalar=hf.number('query_pre_attn_scalar'),
    score_softcap=_cap(hf, 'attn_logit_softcapping'),
    final_softcap=_cap(hf, 'final_logit_softcapping'),
  )


def _cap(hf, key):
  """A soft cap, 0 if it is null."""
  return 0.0 if hf.values.get(key) is None else hf.number(key, kind=float)


def _kinds(hf, is_gemma2, head_dim):
  """The kind of each layer. Those with a window have in Gemma 3 their own rope,
  whose theta was rope_local_base_freq."""
  full = local = hf_rope.read(hf, head_dim)
  if not is_gemma2:
    local = hf_rope.read_local(hf, head_dim, 'rope_local_base_freq')
  period = hf.number('sliding_window_pattern')
  return hf_layers.periodic(hf, period, full, local)


def config_to_hf(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  kinds = cfg.layer_kinds
  window = max(kind.window for kind in kinds)
  keys = dict(
    architecture='Gemma2',
    model_type='gemma2',
    **dense.sizes_to_hf(cfg),
    hidden_activation='gelu_pytorch_tanh',
    query_pre_attn_scalar=cfg.query_scalar,
    attn_logit_softcapping=cfg.score_softcap or None,
    final_logit_softcapping=cfg.final_softcap or None,
    sliding_window=window or None,
    layer_types=hf_layers.types_of(kinds),
    pad_token_id=None,
  )
  full, local = hf_layers.ropes(kinds)
  if not cfg.qk_norm:
    return keys | hf_rope.written(full)
  return keys | dict(
    architecture='Gemma3Text' if cfg.score else 'Gemma3',
    model_type='gemma3_text',
    **hf_rope.written(full),
    rope_local_base_freq=local.theta,
  )


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  yield from hf_tensor.outer(cfg)
  tensors = [
    HfTensor(f'{name}.weight', (cfg.width,), leaf)
    for leaf, name in NORMS.items()
  ]
  tensors += [
    *hf_tensor.gated_mlp(cfg.width, cfg.ffn),
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
