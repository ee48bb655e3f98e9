"""Configs and parameter shapes of models without their weights: of a local
checkpoint, or as published for the models of experiments/pods."""

import dataclasses
import functools
import math
import pathlib

import jax

from r1jax import errors
from r1jax.checkpoints import gguf_file, hf_files, policy
from r1jax.models import hf_config, transformer
from r1jax.preflight.chips import Chip

KEYS = (
  'vocab_size hidden_size num_hidden_layers num_attention_heads '
  'num_key_value_heads intermediate_size tie_word_embeddings rms_norm_eps'
).split()
# The values of KEYS in each model's config.json on huggingface.co.
PUBLISHED = {
  'Qwen/Qwen2.5-1.5B': (151_936, 1_536, 28, 12, 2, 8_960, True, 1e-6),
  'Qwen/Qwen2.5-7B': (152_064, 3_584, 28, 28, 4, 18_944, False, 1e-6),
  'Qwen/Qwen2.5-32B': (152_064, 5_120, 64, 40, 8, 27_648, False, 1e-5),
  'meta-llama/Llama-3.1-8B': (128_256, 4_096, 32, 32, 8, 14_336, False, 1e-5),
}
QWEN = dict(architectures=['Qwen2ForCausalLM'], rope_theta=1e6)
LLAMA_ROPE = dict(
  rope_type='llama3',
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8_192,
)
LLAMA = dict(architectures=['LlamaForCausalLM'], rope_theta=5e5)
QWEN_TOKENIZER_IDS = 151_665  # fewer than the rows of its padded vocabulary


def model_config(init: str) -> transformer.ModelConfig:
  """The ModelConfig of config.init: a checkpoint or a name in PUBLISHED."""
  source = pathlib.Path(init)
  if init and source.is_dir():
    raw = hf_files.read_json(source / 'config.json')
  elif init and source.is_file():
    raw = gguf_file.GgufReader(source).config
  elif init in PUBLISHED:
    raw = QWEN if 'Qwen' in init else LLAMA | dict(rope_scaling=LLAMA_ROPE)
    raw = raw | dict(zip(KEYS, PUBLISHED[init]))
    raw['max_position_embeddings'] = 131_072
  else:
    known = ', '.join(PUBLISHED)
    raise errors.UserError(
      f"config.init is '{init}', which is no local model and none of {known}"
    )
  return hf_config.model_config(raw, init)


def computed(
  init: str, compute: policy.ComputeConfig, chip: Chip
) -> transformer.ModelConfig:
  """The ModelConfig of config.init as it is computed on a kind of chip."""
  cfg = model_config(init)
  if init in PUBLISHED and 'Qwen' in init:
    cfg = dataclasses.replace(cfg, real_vocab=QWEN_TOKENIZER_IDS)
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
