"""gpt-oss: attention sinks, alternating windows, and experts with biases and
clamped projections."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from jax import Array

from r1jax.models import dense, hf_layers, hf_rope, moe, sparse
from r1jax.models.hf_config import HfConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.moe_config import Activation
from r1jax.models.stack import Cache, Output

ARCHITECTURES = dict(GptOss=None)
PARTITION = sparse.PARTITION
STACKS = sparse.STACKS
# transformers' values of keys that a config.json lacks.
DEFAULTS = dict(
  num_key_value_heads=8,
  head_dim=64,
  sliding_window=128,
  max_position_embeddings=131_072,
  rms_norm_eps=1e-5,
  num_experts_per_tok=4,
  swiglu_alpha=1.702,
  swiglu_limit=7.0,
  attention_bias=True,
)
ROPE = dict(
  rope_type='yarn',
  factor=32.0,
  original_max_position_embeddings=4096,
  truncate=False,
)
THETA = 150_000.0
PERIOD = 2  # of the kinds of layers
UP_OFFSET = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(sparse.SparseConfig):
  """Router logits are softmaxed over a token's experts, which is the softmax
  over all of them, normalized."""


def config_from_hf(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  hf = hf.with_defaults(DEFAULTS)
  if not hf.values.get('rope_scaling') and not hf.values.get('rope_parameters'):
    hf = hf.with_defaults(dict(rope_theta=THETA))
    hf = dataclasses.replace(hf, values={**hf.values, 'rope_scaling': ROPE})
  hf.check(hidden_act='silu')
  sizes = hf.attention_sizes()
  rope = hf_rope.read(hf, sizes['head_dim'], theta=THETA)
  kinds = hf_layers.periodic(hf, PERIOD, rope, rope)
  has_bias, ffn = hf.flag('attention_bias'), hf.number('intermediate_size')
  experts, experts_per_token = hf.expert_counts('num_local_experts')
  return Config(
    **hf.sizes(),
    **sizes,
    **dense.layer_kinds(kinds),
    qkv_bias=has_bias,
    out_bias=has_bias,
    sinks=True,
    moe=moe.MoeConfig(
      experts=experts,
      experts_per_token=experts_per_token,
      ffn=ffn,
      score='softmax',
      normalize=True,
      linear_bias=True,
      activation=Activation(
        alpha=hf.number('swiglu_alpha', kind=float),
        limit=hf.number('swiglu_limit', kind=float),
        up_offset=UP_OFFSET,
      ),
    ),
    dense_ffn=ffn,
  )


def config_to_hf(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  kinds, experts = cfg.layer_kinds, cfg.moe
  return dict(
    architecture='GptOss',
    model_type='gpt_oss',
    num_attention_heads=cfg.heads,
    num_key_value_heads=cfg.kv_heads,
    head_dim=cfg.head_dim,
    attention_bias=cfg.qkv_bias,
    intermediate_size=experts.ffn,
    hidden_act='silu',
    num_local_experts=experts.experts,
    num_experts_per_tok=experts.experts_per_token,
    swiglu_alpha=experts.activation.alpha,
    swiglu_limit=experts.activation.limit,
    sliding_window=max(kind.window for kind in kinds) or None,
    layer_types=hf_layers.types_of(kinds),
    pad_token_id=None,
    **hf_rope.written(kinds[0].rope),
  )


def hf_tensors(cfg: Config) -> Iterator[HfTensor]:
  """The tensors of a checkpoint."""
  return sparse.hf_tensors(cfg, _expert_tensors(cfg.width, cfg.moe))


def _expert_tensors(D, experts):
  """The tensors of a layer's experts. A matrix has gate and up projections in
  turn."""
  E, F = experts.experts, experts.ffn
  name, gate_up = 'mlp.experts', 'experts_gate_up'
  return [
    HfTensor('mlp.router.weight', (E, D), 'router', axes=(0, -1)),
    HfTensor('mlp.router.bias', (E,), 'router_linear_bias'),
    HfTensor(f'{name}.gate_up_proj', (E, D, 2 * F), gate_up, axes=(-2, -1)),
    HfTensor(
      f'{name}.gate_up_proj_bias', (E, 2 * F), f'{gate_up}_bias', axes=(-2, -1)
    ),
    HfTensor(f'{name}.down_proj', (E, F, D), 'experts_down'),
    HfTensor(f'{name}.down_proj_bias', (E, D), 'experts_down_bias'),
  ]


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
