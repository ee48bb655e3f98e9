"""Qwen3-MoE: Qwen3, in which most layers have a mixture of experts."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from jax import Array

from r1jax.models import gqa, hf_rope, moe, sparse
from r1jax.models.hf_config import HfConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.stack import Cache, Output

ARCHITECTURES = dict(Qwen3Moe=None)
PARTITION = sparse.PARTITION
STACKS = sparse.STACKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(sparse.SparseConfig):
  """With experts, all of which are the routed ones."""


def config_from_hf(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  hf.check(hidden_act='silu')
  hf.check_full_attention()
  sizes = hf.attention_sizes()
  kind = gqa.LayerKind(rope=hf_rope.read(hf, sizes['head_dim']))
  has_bias = hf.flag('attention_bias')
  experts, experts_per_token = hf.expert_counts('num_experts')
  return Config(
    **hf.sizes(),
    **sizes,
    qk_norm=True,
    qkv_bias=has_bias,
    out_bias=has_bias,
    kinds=(kind,),
    moe=moe.MoeConfig(
      experts=experts,
      experts_per_token=experts_per_token,
      ffn=hf.number('moe_intermediate_size'),
      score='softmax',
      normalize=hf.flag('norm_topk_prob'),
    ),
    dense_ffn=hf.number('intermediate_size'),
    dense_numbers=_dense_numbers(hf),
  )


def _dense_numbers(hf):
  """The numbers of the layers without experts."""
  layers, key = hf.number('num_hidden_layers'), 'mlp_only_layers'
  step = hf.number('decoder_sparse_step', 1)
  named = hf.values.get(key) or []
  if not isinstance(named, list) or any(n not in range(layers) for n in named):
    hf.refuse(key, f'which must be a list of numbers from 0 to {layers - 1}')
  return tuple(n for n in range(layers) if n in named or (n + 1) % step)


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
    attention_bias=cfg.qkv_bias,
    num_experts=cfg.moe.experts,
    num_experts_per_tok=cfg.moe.experts_per_token,
    moe_intermediate_size=cfg.moe.ffn,
    norm_topk_prob=cfg.moe.normalize,
    decoder_sparse_step=1,
    mlp_only_layers=list(cfg.dense_numbers),
    **hf_rope.written(cfg.kinds[0].rope),
  )


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  return sparse.hf_tensors(cfg, list(moe.hf_tensors(cfg.width, cfg.moe)))


def init(key: Array, cfg: Config) -> dict:
  """Random float32 parameters of the whole model."""
  return sparse.init(key, cfg)


def init_cache(cfg: Config, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as forward takes and returns it."""
  return sparse.init_cache(cfg, rows, length)


def forward(
  params: dict,
  cfg: Config,
  tokens_BT: Array,
  pos_BT: Array,
  past: Cache = None,
  routing: Array | None = None,
) -> Output:
  """See transformer.forward."""
  return sparse.forward(params, cfg, tokens_BT, pos_BT, past, routing)
