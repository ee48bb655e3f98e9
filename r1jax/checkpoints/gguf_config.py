"""The keys of config.json from a GGUF file's metadata."""

import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from r1jax import errors
from r1jax.models import hf_config

ROPE_FACTORS = 'rope_freqs.weight'
# Of Llama 3.1 to 3.3. GGUF files have only the factors that follow from these.
LLAMA3 = dict(
  rope_type='llama3',
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8192,
)
# n_group and topk_group of DeepSeek-V3 and V2 by the number of experts, for
# files that were written before their metadata had them.
GROUPS = {256: (8, 4), 160: (8, 3)}
SIGMOID = 2  # of expert_gating_func


@dataclasses.dataclass(frozen=True)
class GgufFile:
  """The metadata and tensors of a file. Errors name its path."""

  path: pathlib.Path
  metadata: Mapping[str, Any]
  tensors: Mapping[str, Any]

  @property
  def arch(self) -> Any:
    return self.metadata.get('general.architecture')

  def number(self, key: str, default: Any = None) -> Any:
    """A number above 0."""
    key = f'{self.arch}.{key}'
    x = self.metadata.get(key, default)
    if not isinstance(x, (int, float)) or x <= 0:
      raise errors.UserError(f'{self.path}: {key} is {x!r}, not a number > 0')
    return _decimal(x)

  def optional(self, key: str) -> Any:
    """A value, None if there is none."""
    return _decimal(self.metadata.get(f'{self.arch}.{key}'))


def _decimal(x):
  """The shortest decimal of a float32: 1e-05, not 9.999999747378752e-06."""
  return float(str(np.float32(x))) if isinstance(x, float) else x


def config(file: GgufFile) -> dict[str, Any]:
  """The keys of config.json. Raises UserError."""
  if file.arch not in ARCHITECTURES:
    raise errors.UserError(
      f'{file.path} holds a {file.arch!r} model; r1jax reads '
      f'{", ".join(ARCHITECTURES)}'
    )
  if 'token_embd.weight' not in file.tensors:
    raise errors.UserError(f'{file.path} lacks the tensor token_embd.weight')
  heads = file.number('attention.head_count')
  keys = dict(
    vocab_size=int(file.tensors['token_embd.weight'].shape[-1]),
    hidden_size=file.number('embedding_length'),
    num_hidden_layers=file.number('block_count'),
    num_attention_heads=heads,
    num_key_value_heads=file.number('attention.head_count_kv', heads),
    intermediate_size=file.number('feed_forward_length'),
    rms_norm_eps=file.number('attention.layer_norm_rms_epsilon'),
    rope_theta=file.number('rope.freq_base', 10000.0),
    max_position_embeddings=file.number('context_length'),
    tie_word_embeddings='output.weight' not in file.tensors,
  )
  return keys | ARCHITECTURES[file.arch](file, keys)


def _dense(name):
  def keys_of(file, keys):
    head_dim = _head_dim(file, keys)
    if file.optional('expert_count'):
      raise errors.UserError(
        f'{file.path} holds a {file.arch!r} model with experts, which r1jax '
        'does not read'
      )
    return dict(
      architectures=[f'{name}ForCausalLM'],
      head_dim=head_dim,
      rope_scaling=_rope_scaling(file, keys),
      partial_rotary_factor=_partial(file, head_dim),
    )

  return keys_of


def _head_dim(file, keys):
  default = keys['hidden_size'] // keys['num_attention_heads']
  return file.number('attention.key_length', max(default, 1))


def _partial(file, head_dim):
  """The share of rotated channels. Those of the llama architecture are in an
  order that is known for whole heads only."""
  count = file.number('rope.dimension_count', head_dim)
  if count != head_dim and file.arch == 'llama':
    raise errors.UserError(
      f'{file.path}: partial rotary embedding ({count} of {head_dim} channels) '
      'is not supported in files of the llama architecture'
    )
  return count / head_dim


def _rope_scaling(file, keys):
  """rope_scaling, None for plain rope."""
  llama3 = _llama3(file, keys['rope_theta'])
  factor = file.optional('rope.scaling.factor')
  factor = factor or file.optional('rope.scale_linear') or 1.0
  kind = file.optional('rope.scaling.type')
  if kind is None:
    kind = 'linear' if factor != 1 else 'none'  # as in llama.cpp
  if kind == 'none' or (kind == 'linear' and factor == 1):
    return llama3
  if kind not in ('linear', 'yarn') or llama3:
    raise errors.UserError(
      f'{file.path}: the rope scaling is {kind!r}'
      f'{" beside factors of Llama 3" if llama3 else ""}; r1jax reads linear '
      'and yarn'
    )
  scaling = dict(rope_type=kind, factor=float(factor))
  if kind == 'linear':
    return scaling
  names = dict(
    original_max_position_embeddings='original_context_length',
    attn_factor='attn_factor',
    beta_fast='yarn_beta_fast',
    beta_slow='yarn_beta_slow',
  )
  scaling |= {k: file.optional(f'rope.scaling.{x}') for k, x in names.items()}
  if scaling['attn_factor'] is None:
    scaling['attn_factor'] = file.optional('rope.scaling.yarn_attn_factor')
  return {key: value for key, value in scaling.items() if value is not None}


def _llama3(file, theta):
  """Llama 3's rope_scaling from the factor of each frequency."""
  if ROPE_FACTORS not in file.tensors:
    return None
  factors = np.asarray(file.tensors[ROPE_FACTORS].data, np.float32)
  factor = float(factors.max())
  low, high = LLAMA3['low_freq_factor'], LLAMA3['high_freq_factor']
  freq = theta ** (-np.arange(len(factors)) / len(factors))
  rotations = LLAMA3['original_max_position_embeddings'] * freq / (2 * math.pi)
  smooth = np.clip((rotations - low) / (high - low), 0, 1)
  if not np.allclose(factors, 1 / ((1 - smooth) / factor + smooth), 1e-4):
    raise errors.UserError(
      f'{file.path}: its rope factors are not of Llama 3.1-3.3'
    )
  return LLAMA3 | dict(factor=factor)


def _gemma2(file, keys):
  return dict(
    **_gemma(file, keys, 'Gemma2', own_scale_layers=46),
    attn_logit_softcapping=file.optional('attn_logit_softcapping'),
    final_logit_softcapping=file.optional('final_logit_softcapping'),
    rope_scaling=_rope_scaling(file, keys),
  )


def _gemma3(file, keys):
  local = file.number('rope.freq_base_swa', 10000.0)
  return dict(
    **_gemma(file, keys, 'Gemma3', own_scale_layers=62),
    rope_theta=file.number('rope.freq_base', 1e6),
    rope_scaling=_rope_scaling(file, keys),
    rope_local_base_freq=local,
  )


def _gemma(file, keys, name, own_scale_layers):
  """The scale of attention is not in the metadata: the 27B models, which are
  known by their layers, divide by the square root of width / heads."""
  head_dim = _head_dim(file, keys)
  scalar = head_dim
  if keys['num_hidden_layers'] == own_scale_layers:
    scalar = keys['hidden_size'] // keys['num_attention_heads']
  own = dict(
    architectures=[f'{name}ForCausalLM'],
    head_dim=head_dim,
    query_pre_attn_scalar=scalar,
    sliding_window=file.number('attention.sliding_window'),
  )
  pattern = file.optional('attention.sliding_window_pattern')
  if isinstance(pattern, list):  # whether a layer has the window
    own['layer_types'] = [
      hf_config.SLIDING if has_window else hf_config.FULL
      for has_window in pattern
    ]
  elif pattern is not None:
    own['sliding_window_pattern'] = pattern
  return own


def _qwen3moe(file, keys):
  return dict(
    architectures=['Qwen3MoeForCausalLM'],
    head_dim=_head_dim(file, keys),
    rope_scaling=_rope_scaling(file, keys),
    num_experts=file.number('expert_count'),
    num_experts_per_tok=file.number('expert_used_count'),
    moe_intermediate_size=file.number('expert_feed_forward_length'),
    norm_topk_prob=True,  # of all models of this architecture in llama.cpp
  )


def _deepseek2(file, keys):
  """DeepSeek-V2 and V3. Newer files have the sizes of latent attention as
  key_length_mla and value_length_mla, with one head of keys."""
  rotated = file.number('rope.dimension_count')
  key = file.number(
    'attention.key_length_mla', file.optional('attention.key_length')
  )
  value = file.number(
    'attention.value_length_mla', file.optional('attention.value_length')
  )
  experts = file.number('expert_count')
  groups, top_groups = GROUPS.get(experts, (1, 1))
  is_v3 = file.optional('expert_gating_func') == SIGMOID
  own = dict(
    num_key_value_heads=keys['num_attention_heads'],
    q_lora_rank=file.optional('attention.q_lora_rank'),
    kv_lora_rank=file.number('attention.kv_lora_rank'),
    qk_nope_head_dim=key - rotated,
    qk_rope_head_dim=rotated,
    v_head_dim=value,
    first_k_dense_replace=file.optional('leading_dense_block_count') or 0,
    n_routed_experts=experts,
    num_experts_per_tok=file.number('expert_used_count'),
    moe_intermediate_size=file.number('expert_feed_forward_length'),
    n_shared_experts=file.optional('expert_shared_count') or 0,
    routed_scaling_factor=file.number('expert_weights_scale', 1.0),
    norm_topk_prob=bool(file.optional('expert_weights_norm')),
    n_group=file.optional('expert_group_count') or groups,
    topk_group=file.optional('expert_group_used_count') or top_groups,
    num_nextn_predict_layers=file.optional('nextn_predict_layers') or 0,
    rope_scaling=_rope_scaling(file, keys),
  )
  own['num_hidden_layers'] = (
    keys['num_hidden_layers'] - own['num_nextn_predict_layers']
  )
  mscale = file.optional('rope.scaling.yarn_log_multiplier')
  if own['rope_scaling'] and mscale:
    mscale = round(10 * mscale, 6)  # it is 0.1 mscale_all_dim
    own['rope_scaling'] |= dict(mscale=mscale, mscale_all_dim=mscale)
  if is_v3:
    return own | dict(architectures=['DeepseekV3ForCausalLM'])
  limited = own['n_group'] > 1
  return own | dict(
    architectures=['DeepseekV2ForCausalLM'],
    topk_method='group_limited_greedy' if limited else 'greedy',
  )


ARCHITECTURES: dict[str, Callable[[GgufFile, dict], dict[str, Any]]] = dict(
  llama=_dense('Llama'),
  qwen2=_dense('Qwen2'),
  qwen3=_dense('Qwen3'),
  gemma2=_gemma2,
  gemma3=_gemma3,
  qwen3moe=_qwen3moe,
  deepseek2=_deepseek2,
)
