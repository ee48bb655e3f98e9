"""The metadata of a GGUF file from the keys of config.json: the inverse of
gguf_config."""

import math
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from r1jax import errors
from r1jax.checkpoints import gguf_config
from r1jax.models import hf_config, registry
from r1jax.models.model_config import ModelConfig

# The name of an architecture in llama.cpp.
ARCHITECTURES = dict(
  Llama='llama',
  Mistral='llama',
  Qwen2='qwen2',
  Qwen3='qwen3',
  Gemma2='gemma2',
  Gemma3='gemma3',
  Qwen3Moe='qwen3moe',
)
# Which layers have no window in llama.cpp, by their number from 1 on: those
# that this divides.
WINDOW_PERIODS = dict(gemma2=2, gemma3=6)
# Keys of config.json that say nothing about what is computed.
OTHER_KEYS = 'architectures', 'model_type', 'torch_dtype', 'bos_token_id'


def architecture(cfg: ModelConfig) -> str:
  """The name of a model's architecture in llama.cpp. Raises UserError for
  models of which no GGUF files can be written."""
  config = registry.config_json(cfg, np.dtype(np.float32))
  name = hf_config.HfConfig(config, '').architecture
  if cfg.score or name not in ARCHITECTURES:
    what = 'a reward model' if cfg.score else f'a {name} model'
    raise errors.UserError(
      f'this is {what}, of which r1jax writes no GGUF files: it writes those of '
      f'{", ".join(ARCHITECTURES)}. Use --format hf, and the converter of '
      'llama.cpp if it knows the architecture'
    )
  return ARCHITECTURES[name]


def metadata(cfg: ModelConfig) -> dict[str, Any]:
  """The metadata of a model, without that of its tokenizer. Raises UserError if
  a file of its architecture cannot say what the model computes."""
  arch = architecture(cfg)
  config = registry.config_json(cfg, np.dtype(np.float32))
  keys = dict(
    block_count=config['num_hidden_layers'],
    context_length=config['max_position_embeddings'],
    embedding_length=config['hidden_size'],
    feed_forward_length=config['intermediate_size'],
    vocab_size=config['vocab_size'],
  )
  keys |= _attention(config) | _scaling(config)
  keys |= OWN[arch](config) if arch in OWN else {}
  found = {'general.architecture': arch}
  found |= {f'{arch}.{key}': value for key, value in keys.items()}
  _check(cfg, config, found)
  return found


def _attention(config):
  head_dim = config['head_dim']
  return {
    'attention.head_count': config['num_attention_heads'],
    'attention.head_count_kv': config['num_key_value_heads'],
    'attention.key_length': head_dim,
    'attention.value_length': head_dim,
    'attention.layer_norm_rms_epsilon': float(config['rms_norm_eps']),
    'rope.dimension_count': head_dim,
    'rope.freq_base': float(config['rope_theta']),
  }


def _scaling(config):
  """The keys of rope scaling. Llama 3's is a tensor, see rope_factors."""
  scaling = config['rope_scaling'] or {}
  kind = scaling.get('rope_type')
  if kind == 'linear':
    return {
      'rope.scaling.type': 'linear',
      'rope.scaling.factor': float(scaling['factor']),
    }
  if kind != 'yarn':
    return {}
  length = scaling['original_max_position_embeddings']
  keys = {
    'rope.scaling.type': 'yarn',
    'rope.scaling.factor': float(scaling['factor']),
    'rope.scaling.original_context_length': length,
  }
  names = dict(beta_fast='yarn_beta_fast', beta_slow='yarn_beta_slow')
  for name, key in (names | dict(attn_factor='attn_factor')).items():
    if scaling.get(name) is not None:
      keys[f'rope.scaling.{key}'] = float(scaling[name])
  return keys


def rope_factors(cfg: ModelConfig) -> np.ndarray | None:
  """The factor by which Llama 3's scaling divides each frequency, [C / 2];
  None for a model without it."""
  config = registry.config_json(cfg, np.dtype(np.float32))
  scaling = config['rope_scaling'] or {}
  if scaling.get('rope_type') != 'llama3':
    return None
  half = config['head_dim'] // 2
  frequency = config['rope_theta'] ** (-np.arange(half) / half)
  length = scaling['original_max_position_embeddings']
  rotations = length * frequency / (2 * math.pi)
  low, high = scaling['low_freq_factor'], scaling['high_freq_factor']
  smooth = np.clip((rotations - low) / (high - low), 0, 1)
  factors = 1 / ((1 - smooth) / scaling['factor'] + smooth)
  return factors.astype(np.float32)


def _gemma2(config):
  return _window(config) | {
    'attn_logit_softcapping': float(config['attn_logit_softcapping'] or 0),
    'final_logit_softcapping': float(config['final_logit_softcapping'] or 0),
  }


def _gemma3(config):
  local = {'rope.freq_base_swa': float(config['rope_local_base_freq'])}
  return _window(config) | local


def _window(config):
  return {'attention.sliding_window': config['sliding_window'] or 1}


def _qwen3moe(config):
  return dict(
    expert_count=config['num_experts'],
    expert_used_count=config['num_experts_per_tok'],
    expert_feed_forward_length=config['moe_intermediate_size'],
  )


OWN: dict[str, Callable[[dict], dict[str, Any]]] = dict(
  gemma2=_gemma2, gemma3=_gemma3, qwen3moe=_qwen3moe
)


def _check(cfg, config, found):
  """Raises UserError if the metadata, read as a file has them, describe another
  model."""
  arch = found['general.architecture']
  size = config['vocab_size'], config['hidden_size']
  tensors = {'token_embd.weight': types.SimpleNamespace(shape=size[::-1])}
  if not config['tie_word_embeddings']:
    tensors['output.weight'] = tensors['token_embd.weight']
  factors = rope_factors(cfg)
  if factors is not None:
    tensors[gguf_config.ROPE_FACTORS] = types.SimpleNamespace(data=factors)
  path = Path('the GGUF file')
  read = gguf_config.config(gguf_config.GgufFile(path, found, tensors))
  if arch in WINDOW_PERIODS:
    read['layer_types'] = [
      hf_config.SLIDING if n % WINDOW_PERIODS[arch] else hf_config.FULL
      for n in range(1, config['num_hidden_layers'] + 1)
    ]
  again = registry.config_json(
    registry.model_config(read, path), np.dtype(np.float32)
  )
  for key in [x for x in config | again if x not in OTHER_KEYS]:
    if not _are_equal(config.get(key), again.get(key)):
      raise errors.UserError(
        f'the model has {key} {config.get(key)!r} in its config.json, which a '
        f'GGUF file of the architecture {arch} cannot say (llama.cpp would '
        f'compute with {again.get(key)!r}): use --format hf'
      )


def _are_equal(a, b):
  """Whether two values of config.json are equal, up to rounding to float32."""
  if isinstance(a, Mapping) and isinstance(b, Mapping):
    return all(_are_equal(a.get(key), b.get(key)) for key in a.keys() | b)
  if isinstance(a, float) or isinstance(b, float):
    is_number = isinstance(a, float | int) and isinstance(b, float | int)
    return is_number and math.isclose(a, b, rel_tol=1e-6)
  return jax.tree.leaves(a) == jax.tree.leaves(b)
