"""The config of DeepSeek-V3 and R1, DeepSeek-V2, and GLM-4.7-Flash, read from
config.json and written to it."""

import dataclasses
from typing import Any

from r1jax.models import hf_rope, mla, moe, mtp
from r1jax.models.hf_config import HfConfig
from r1jax.models.model_config import LayerSizes
from r1jax.models.moe_config import MoeConfig

# The model_type of each architecture.
ARCHITECTURES = dict(
  DeepseekV3='deepseek_v3',
  DeepseekV2='deepseek_v2',
  Glm4MoeLite='glm4_moe_lite',
)
# transformers' values of keys that a config.json lacks.
DEFAULTS: dict[str, dict[str, Any]] = dict(
  DeepseekV3=dict(
    q_lora_rank=1536,
    first_k_dense_replace=3,
    n_shared_experts=1,
    num_experts_per_tok=8,
    n_group=8,
    topk_group=4,
    routed_scaling_factor=2.5,
    max_position_embeddings=4096,
  ),
  DeepseekV2=dict(q_lora_rank=1536, n_shared_experts=2),
  Glm4MoeLite=dict(
    q_lora_rank=768,
    n_shared_experts=1,
    num_experts_per_tok=4,
    routed_scaling_factor=1.8,
    rms_norm_eps=1e-5,
    max_position_embeddings=202752,
  ),
)
STACKS = ('dense_layers', 'layers', 'mtp')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(mla.MlaConfig):
  architecture: str = 'DeepseekV3'
  ffn: int  # of the dense layers
  dense_layers: int  # the first ones; the others have experts
  moe: MoeConfig

  @property
  def stacks(self) -> dict[str, int]:
    """The layers of each stack that the model has, but for 'mtp'."""
    counts = self.dense_layers, self.layers - self.dense_layers
    return {name: count for name, count in zip(STACKS, counts) if count}

  @property
  def mtp_numbers(self) -> range:
    """The numbers of the modules, which follow the layers."""
    return range(self.layers, self.layers + self.mtp_layers)

  @property
  def num_experts(self) -> int:
    return self.moe.experts if 'layers' in self.stacks else 0

  @property
  def layer_sizes(self) -> LayerSizes:
    share = 1 - self.dense_layers / self.layers
    ffn = (1 - share) * self.ffn + share * self.moe.ffn_of_token
    return moe.with_experts(self.sizes_with(ffn), self.width, self.moe, share)

  @property
  def skipped_tensors(self) -> tuple[str, ...]:
    modules = [f'model.layers.{n}.' for n in self.mtp_numbers]
    if not self.keep_mtp:
      return tuple(modules)
    return tuple(m + name for m in modules for name in mtp.REPEATED)


def read(hf: HfConfig) -> Config:
  """The Config of a config.json; UserError for values that are not supported."""
  hf = hf.with_defaults(DEFAULTS[hf.architecture])
  hf.check(hidden_act='silu', attention_bias=False, mlp_bias=False)
  hf.check(moe_layer_freq=1)
  heads, rotary = hf.number('num_attention_heads'), 'qk_rope_head_dim'
  if hf.number('num_key_value_heads', heads) != heads:
    hf.refuse('num_key_value_heads', f'but latent attention has {heads} heads')
  if hf.number(rotary) % 2:
    hf.refuse(rotary, 'but rotary embedding needs it even')
  return Config(
    **hf.sizes(),
    architecture=hf.architecture,
    heads=heads,
    q_lora_rank=hf.count('q_lora_rank'),
    kv_lora_rank=hf.number('kv_lora_rank'),
    qk_nope_head_dim=hf.number('qk_nope_head_dim'),
    qk_rope_head_dim=hf.number(rotary),
    v_head_dim=hf.number('v_head_dim'),
    rope=hf_rope.read(hf, hf.number(rotary)),
    rope_interleave=hf.flag('rope_interleave', default=True),
    ffn=hf.number('intermediate_size'),
    dense_layers=_dense_layers(hf),
    moe=_moe_config(hf),
    mtp_layers=_mtp_layers(hf),
  )


def _mtp_layers(hf):
  if hf.architecture == 'DeepseekV2':
    return 0
  default = hf.count('num_mtp_layers', 1)  # its name in transformers 5
  return hf.count('num_nextn_predict_layers', default)


def _dense_layers(hf):
  """The number of first layers without experts."""
  layers, key = hf.number('num_hidden_layers'), 'first_k_dense_replace'
  kinds = hf.values.get('mlp_layer_types')  # of GLM, by transformers 5
  if kinds is None:
    dense = hf.count(key, default=1 if hf.architecture == 'Glm4MoeLite' else 0)
    if dense > layers:
      hf.refuse(key, f'but the model has {layers} layers')
    return dense
  dense = list(kinds).count('dense')
  if kinds != ['dense'] * dense + ['sparse'] * (layers - dense):
    why = f'but r1jax needs {layers} values: dense ones, then sparse ones'
    hf.refuse('mlp_layer_types', why)
  return dense


def _moe_config(hf):
  is_v2 = hf.architecture == 'DeepseekV2'
  ffn, experts = hf.number('moe_intermediate_size'), 'num_experts_per_tok'
  if is_v2:
    hf.check(scoring_func='softmax', norm_topk_prob=False)
  else:
    hf.check(scoring_func='sigmoid', topk_method='noaux_tc')
  groups, top_groups = hf.number('n_group', 1), hf.number('topk_group', 1)
  if is_v2 and _topk_method(hf) == 'greedy':
    groups = top_groups = 1
  total = hf.number('n_routed_experts')
  if total % groups:
    hf.refuse('n_group', f'which does not divide {total} experts')
  if not is_v2 and groups > 1 and total < 2 * groups:
    hf.refuse('n_group', f'but a group needs two of the {total} experts')
  if top_groups > groups:
    hf.refuse('topk_group', f'but there are {groups} groups of experts')
  if hf.number(experts) > top_groups * total // groups:
    why = f'but a token can choose among {top_groups * total // groups} experts'
    hf.refuse(experts, why)
  return MoeConfig(
    experts=total,
    experts_per_token=hf.number(experts),
    ffn=ffn,
    score='softmax' if is_v2 else 'sigmoid',
    normalize=hf.flag('norm_topk_prob', default=not is_v2),
    scale=hf.number('routed_scaling_factor', 1.0, float),
    groups=groups,
    top_groups=top_groups,
    group_score='max' if is_v2 else 'top2',
    correction_bias=not is_v2,
    shared_ffn=hf.count('n_shared_experts') * ffn,
  )


def _topk_method(hf):
  method = hf.values.get('topk_method') or 'greedy'
  if method not in ('greedy', 'group_limited_greedy'):
    why = 'but only greedy and group_limited_greedy are supported'
    hf.refuse('topk_method', why)
  return method


def written(cfg: Config) -> dict[str, Any]:
  """The keys of config.json that are this family's own."""
  experts = cfg.moe
  own: dict[str, Any] = dict(
    architecture=cfg.architecture,
    model_type=ARCHITECTURES[cfg.architecture],
    num_attention_heads=cfg.heads,
    num_key_value_heads=cfg.heads,
    q_lora_rank=cfg.q_lora_rank or None,
    kv_lora_rank=cfg.kv_lora_rank,
    qk_nope_head_dim=cfg.qk_nope_head_dim,
    qk_rope_head_dim=cfg.qk_rope_head_dim,
    v_head_dim=cfg.v_head_dim,
    intermediate_size=cfg.ffn,
    first_k_dense_replace=cfg.dense_layers,
    moe_intermediate_size=experts.ffn,
    moe_layer_freq=1,
    n_routed_experts=experts.experts,
    n_shared_experts=experts.shared_ffn // experts.ffn,
    num_experts_per_tok=experts.experts_per_token,
    n_group=experts.groups,
    topk_group=experts.top_groups,
    scoring_func=experts.score,
    norm_topk_prob=experts.normalize,
    routed_scaling_factor=experts.scale,
    hidden_act='silu',
    attention_bias=False,
    **hf_rope.written(cfg.rope),
  )
  if cfg.architecture == 'DeepseekV2':
    limited = experts.groups > 1
    method = 'group_limited_greedy' if limited else 'greedy'
    return own | dict(topk_method=method)
  modules = cfg.mtp_layers if cfg.keep_mtp else 0
  own |= dict(topk_method='noaux_tc', num_nextn_predict_layers=modules)
  if cfg.architecture == 'Glm4MoeLite':
    sparse = cfg.layers - cfg.dense_layers
    kinds = ['dense'] * cfg.dense_layers + ['sparse'] * sparse
    own |= dict(mlp_layer_types=kinds)
  return own | dict(rope_interleave=cfg.rope_interleave)
