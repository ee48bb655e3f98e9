"""Configs and parameter shapes of models without their weights: of a local
checkpoint, or as published for well-known models."""

import dataclasses
import functools
import math
import pathlib

import jax

from r1jax import errors
from r1jax.checkpoints import gguf_file, hf_files, policy
from r1jax.models import registry, transformer
from r1jax.preflight.chips import Chip

KEYS = (
  'vocab_size hidden_size num_hidden_layers num_attention_heads '
  'num_key_value_heads intermediate_size head_dim tie_word_embeddings '
  'rms_norm_eps rope_theta max_position_embeddings'
).split()
# The values of KEYS in each model's config.json on huggingface.co.
_QWEN_2 = {
  '0.5B': (151_936, 896, 24, 14, 2, 4_864, 64, True, 1e-6, 1e6, 32_768),
  '1.5B': (151_936, 1_536, 28, 12, 2, 8_960, 128, True, 1e-6, 1e6, 131_072),
  '3B': (151_936, 2_048, 36, 16, 2, 11_008, 128, True, 1e-6, 1e6, 32_768),
  '7B': (152_064, 3_584, 28, 28, 4, 18_944, 128, False, 1e-6, 1e6, 131_072),
  '14B': (152_064, 5_120, 48, 40, 8, 13_824, 128, False, 1e-5, 1e6, 131_072),
  '32B': (152_064, 5_120, 64, 40, 8, 27_648, 128, False, 1e-5, 1e6, 131_072),
}
_QWEN_3 = {
  '0.6B': (151_936, 1_024, 28, 16, 8, 3_072, 128, True, 1e-6, 1e6, 40_960),
  '1.7B': (151_936, 2_048, 28, 16, 8, 6_144, 128, True, 1e-6, 1e6, 40_960),
  '4B': (151_936, 2_560, 36, 32, 8, 9_728, 128, True, 1e-6, 1e6, 40_960),
  '8B': (151_936, 4_096, 36, 32, 8, 12_288, 128, False, 1e-6, 1e6, 40_960),
}
_LLAMA = {
  '3.1-8B': (128_256, 4_096, 32, 32, 8, 14_336, 128, False, 1e-5, 5e5, 131_072),
  '3.2-1B': (128_256, 2_048, 16, 32, 8, 8_192, 64, True, 1e-5, 5e5, 131_072),
  '3.2-3B': (128_256, 3_072, 28, 24, 8, 8_192, 128, True, 1e-5, 5e5, 131_072),
}
_SMOLLM = {
  '135M': (49_152, 576, 30, 9, 3, 1_536, 64, True, 1e-5, 1e5, 8_192),
  '360M': (49_152, 960, 32, 15, 5, 2_560, 64, True, 1e-5, 1e5, 8_192),
  '1.7B': (49_152, 2_048, 24, 32, 32, 8_192, 64, True, 1e-5, 1.3e5, 8_192),
}
PUBLISHED = {
  **{f'Qwen/Qwen2.5-{size}': row for size, row in _QWEN_2.items()},
  **{f'Qwen/Qwen3-{size}': row for size, row in _QWEN_3.items()},
  **{f'meta-llama/Llama-{size}': row for size, row in _LLAMA.items()},
  **{f'HuggingFaceTB/SmolLM2-{size}': row for size, row in _SMOLLM.items()},
}
VARIANTS = '-Instruct', '-Base'
VARIANT_LEN = 32_768  # max_position_embeddings of Qwen's variants
ARCHITECTURES = {
  'Qwen/Qwen2.5': 'Qwen2ForCausalLM',
  'Qwen/Qwen3': 'Qwen3ForCausalLM',
  'meta-llama/Llama': 'LlamaForCausalLM',
  'HuggingFaceTB/SmolLM2': 'LlamaForCausalLM',
}
LLAMA_ROPE = dict(
  rope_type='llama3',
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8_192,
)
# Ids of the tokenizers: fewer than the rows of the padded vocabularies.
TOKENIZER_IDS = {'Qwen/Qwen2.5': 151_665, 'Qwen/Qwen3': 151_669}


def model_config(init: str) -> transformer.ModelConfig:
  """The ModelConfig of config.init: a checkpoint, or a name in PUBLISHED or a
  variant of it."""
  source = pathlib.Path(init)
  if init and source.is_dir():
    raw = hf_files.read_json(source / 'config.json')
  elif init and source.is_file():
    raw = gguf_file.GgufReader(source).config
  else:
    raw = _published(init)
  return registry.model_config(raw, init)


def _published(init):
  """The config.json of a model on the hub."""
  name = init
  for suffix in VARIANTS:
    name = name.removesuffix(suffix)
  if name not in PUBLISHED:
    near = [known for known in PUBLISHED if known.endswith(f'/{name}')]
    hint = f'; did you mean {near[0]}?' if near else ''
    raise errors.UserError(
      f"config.init is '{init}', which is no local model and none of "
      f'{", ".join(PUBLISHED)}, with or without {" or ".join(VARIANTS)}{hint}'
    )
  raw = dict(zip(KEYS, PUBLISHED[name]))
  raw['architectures'] = [ARCHITECTURES[_family(name)]]
  if name.startswith('meta-llama'):
    factor = 32.0 if '3.2' in name else 8.0
    raw['rope_scaling'] = LLAMA_ROPE | dict(factor=factor)
  if name.startswith('Qwen') and name != init:
    raw['max_position_embeddings'] = VARIANT_LEN
  return raw


def _family(name):
  """The key of ARCHITECTURES that a name on the hub begins with; '' if none."""
  return next((x for x in ARCHITECTURES if name.startswith(f'{x}-')), '')


def computed(
  init: str, compute: policy.ComputeConfig, chip: Chip
) -> transformer.ModelConfig:
  """The ModelConfig of config.init as it is computed on a kind of chip."""
  cfg = model_config(init)
  real_vocab = TOKENIZER_IDS.get(_family(init), 0)
  if real_vocab and not pathlib.Path(init).exists():
    cfg = dataclasses.replace(cfg, real_vocab=real_vocab)
  return policy.with_compute(cfg, compute, 'tpu' if chip.is_tpu else 'gpu')


def parameters(cfg: transformer.ModelConfig) -> dict:
  """The tree of the parameters' shapes and dtypes."""
  # Options of the computation do not change the shapes. Without them one cache
  # entry serves many plans.
  plain = dataclasses.replace(
    cfg, dtype='float32', remat='none', attention='einsum', head_chunk=1
  )
  return _parameters(plain)


@functools.cache
def _parameters(cfg):
  return jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))


def num_parameters(cfg: transformer.ModelConfig) -> int:
  return sum(math.prod(x.shape) for x in jax.tree.leaves(parameters(cfg)))
