"""Hugging Face's config.json to a ModelConfig and back."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from r1jax import errors
from r1jax.models.model_config import ModelConfig, RopeScaling

# (qkv_bias, qk_norm, score) of each architecture.
ARCHITECTURES = dict(
  LlamaForCausalLM=(False, False, False),
  Qwen2ForCausalLM=(True, False, False),
  Qwen3ForCausalLM=(False, True, False),
  LlamaForSequenceClassification=(False, False, True),
  Qwen2ForSequenceClassification=(True, False, True),
  Qwen3ForSequenceClassification=(False, True, True),
)
# Sizes in ModelConfig, and their keys in config.json.
SIZES = dict(
  vocab_size='vocab_size',
  width='hidden_size',
  layers='num_hidden_layers',
  heads='num_attention_heads',
  kv_heads='num_key_value_heads',
  head_dim='head_dim',
  ffn='intermediate_size',
  max_len='max_position_embeddings',
)
# Keys that change the computation, each with its one supported value.
SUPPORTED = dict(
  hidden_act='silu',
  attention_bias=False,
  mlp_bias=False,
  partial_rotary_factor=1.0,
  quantization_config=None,
)


# Keys of rope settings that scale nothing.
ROPE_KEYS = {
  'rope_theta',
  'rope_type',
  'type',
  'partial_rotary_factor',
  'original_max_position_embeddings',
}


def model_config(config: Mapping[str, Any], source: object) -> ModelConfig:
  """The ModelConfig of a config.json; UserError for values that r1jax does not
  support. `source` is its path, for errors."""
  _check_supported(config, source)
  qkv_bias, qk_norm, score = ARCHITECTURES[config['architectures'][0]]
  number = functools.partial(_number, config, source)
  width, heads = number('hidden_size'), number('num_attention_heads')
  default = dict(kv_heads=heads, head_dim=width // heads, max_len=2048)
  sizes = {name: number(key, default.get(name)) for name, key in SIZES.items()}
  if heads % sizes['kv_heads']:
    why = f'which does not divide {heads} heads'
    _refuse(config, source, 'num_key_value_heads', why)
  if sizes['head_dim'] % 2:
    _refuse(config, source, 'head_dim', 'but rotary embedding needs it even')
  theta, scaling = _rope(config, source)
  return ModelConfig(
    **sizes,
    rope_theta=theta,
    rope_scaling=scaling,
    norm_eps=number('rms_norm_eps', 1e-6, float),
    # Reward models have no output head, so this key is ignored.
    tie_embeddings=bool(config.get('tie_word_embeddings')) or score,
    qkv_bias=qkv_bias,
    qk_norm=qk_norm,
    score=score,
  )


def config_json(
  cfg: ModelConfig, dtype: np.dtype, eos_ids: Sequence[int] | None = None
) -> dict[str, Any]:
  """The config.json of a ModelConfig with weights of `dtype`, readable by all
  versions of transformers."""
  kind = cfg.qkv_bias, cfg.qk_norm, cfg.score
  names = [name for name, value in ARCHITECTURES.items() if value == kind]
  assert names, 'no architecture has both qkv_bias and qk_norm'
  scaling = None
  if cfg.rope_scaling:
    scaling = dict(rope_type='llama3', **dataclasses.asdict(cfg.rope_scaling))
  config = dict(
    architectures=names,
    model_type=names[0].partition('For')[0].lower(),
    **{key: getattr(cfg, name) for name, key in SIZES.items()},
    hidden_act='silu',
    rms_norm_eps=cfg.norm_eps,
    rope_theta=cfg.rope_theta,
    rope_scaling=scaling,
    tie_word_embeddings=cfg.tie_embeddings,
    torch_dtype=str(dtype),
    bos_token_id=None,
    eos_token_id=None if eos_ids is None else list(eos_ids),
  )
  if cfg.score:
    # Without these transformers makes a classifier with two labels.
    config |= dict(id2label={'0': 'score'}, label2id=dict(score=0))
  return config


def _check_supported(config, source):
  names = config.get('architectures')
  if not isinstance(names, list) or (names or [''])[0] not in ARCHITECTURES:
    why = f'but r1jax reads {", ".join(ARCHITECTURES)}'
    _refuse(config, source, 'architectures', why)
  for key, value in SUPPORTED.items():
    if config.get(key) not in (None, value):
      _refuse(config, source, key, f'but only {value!r} is supported')
  sliding = bool(config.get('use_sliding_window'))
  if config.get('layer_types'):
    sliding = set(config['layer_types']) != {'full_attention'}
  if sliding:
    why = 'but only full attention is supported'
    _refuse(config, source, 'sliding_window', why)


def _rope(config, source):
  """(theta, RopeScaling or None). transformers 4 writes rope_theta and
  rope_scaling; from version 5 on both are in rope_parameters."""
  theta = _number(config, source, 'rope_theta', 10000.0, float)
  table = _rope_table(config, source)
  number = functools.partial(_number, table, source)
  theta = number('rope_theta', theta, float)
  if number('partial_rotary_factor', 1.0, float) != 1:
    raise errors.UserError(f'{source}: partial rotary embedding is unsupported')
  kind = table.get('rope_type', table.get('type', 'default'))
  if kind in ('default', None):
    extra = sorted(key for key in table if table[key] not in (None, 1.0))
    extra = [key for key in extra if key not in ROPE_KEYS]
    if extra:
      raise errors.UserError(
        f'{source}: the rope settings have {extra[0]} {table[extra[0]]!r}, but '
        'no rope type that uses it: name its rope_type'
      )
    return theta, None
  if kind != 'llama3':
    why = f'the rope type is {kind!r}; only default and llama3 are supported'
    raise errors.UserError(f'{source}: {why}')
  names = 'factor', 'low_freq_factor', 'high_freq_factor'
  factors = {name: number(name, kind=float) for name in names}
  length = number('original_max_position_embeddings')
  return theta, RopeScaling(**factors, original_max_position_embeddings=length)


def _rope_table(config, source):
  """The settings of rotary embedding, {} if there are none. Where they are
  nested by the type of layer, those of full attention."""
  merged: dict[str, Any] = {}
  for key in 'rope_scaling', 'rope_parameters':
    table = config.get(key) or {}
    if not isinstance(table, dict):
      raise errors.UserError(f'{source}: the rope settings {key} are {table!r}')
    nested = [name for name in table if isinstance(table[name], dict)]
    if nested:
      table = table.get('full_attention')
    if not isinstance(table, dict):
      raise errors.UserError(
        f'{source}: {key} has settings of {", ".join(nested)}, but r1jax needs '
        'those of full_attention'
      )
    for name, value in table.items():
      if merged.setdefault(name, value) != value:
        raise errors.UserError(
          f'{source}: rope_scaling has {name} {merged[name]!r}, but '
          f'rope_parameters has {value!r}: leave one of them out'
        )
  return merged


def _number(table, source, key, default=None, kind=int):
  """An int above 0, or for kind=float any number above 0."""
  value = default if table.get(key) is None else table[key]
  is_number = isinstance(value, int | kind) and not isinstance(value, bool)
  if not is_number or not 0 < value < math.inf:
    _refuse(table, source, key, 'which must be a number above 0')
  return kind(value)


def _refuse(config, source, key, why) -> NoReturn:
  value = config.get(key)
  raise errors.UserError(f'{source}: the config has {key} {value!r}, {why}')
