"""The shapes of models without their weights: from a local checkpoint, or as
published for the names that the pods' experiments use."""

import pathlib

from r1jax import errors
from r1jax.checkpoints import gguf_file, hf_files, policy
from r1jax.models import hf_config

QWEN = dict(
  architectures=['Qwen2ForCausalLM'],
  rope_theta=1e6,
  rms_norm_eps=1e-6,
  max_position_embeddings=131_072,
  tie_word_embeddings=False,
)
# The values of each model's config.json on its page of huggingface.co.
PUBLISHED = {
  'Qwen/Qwen2.5-1.5B': QWEN
  | dict(
    vocab_size=151_936,
    hidden_size=1_536,
    num_hidden_layers=28,
    num_attention_heads=12,
    num_key_value_heads=2,
    intermediate_size=8_960,
    tie_word_embeddings=True,
  ),
  'Qwen/Qwen2.5-7B': QWEN
  | dict(
    vocab_size=152_064,
    hidden_size=3_584,
    num_hidden_layers=28,
    num_attention_heads=28,
    num_key_value_heads=4,
    intermediate_size=18_944,
  ),
  'Qwen/Qwen2.5-32B': QWEN
  | dict(
    vocab_size=152_064,
    hidden_size=5_120,
    num_hidden_layers=64,
    num_attention_heads=40,
    num_key_value_heads=8,
    intermediate_size=27_648,
    rms_norm_eps=1e-5,
  ),
  'meta-llama/Llama-3.1-8B': dict(
    architectures=['LlamaForCausalLM'],
    rope_theta=5e5,
    rms_norm_eps=1e-5,
    vocab_size=128_256,
    hidden_size=4_096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14_336,
    max_position_embeddings=131_072,
    tie_word_embeddings=False,
    rope_scaling=dict(
      rope_type='llama3',
      factor=8.0,
      low_freq_factor=1.0,
      high_freq_factor=4.0,
      original_max_position_embeddings=8_192,
    ),
  ),
}
# Where the vocabulary is padded, how many ids the tokenizer has.
TOKENIZER_IDS = {name: 151_665 for name in PUBLISHED if 'Qwen' in name}


def model_config(init):
  """The ModelConfig of config.init; a local checkpoint goes before a name."""
  source = pathlib.Path(init)
  if init and source.is_dir():
    raw = hf_files.read_json(source / 'config.json')
  elif init and source.is_file():
    raw = gguf_file.read(source)[0]
  elif init in PUBLISHED:
    raw = PUBLISHED[init]
  else:
    raise errors.UserError(
      f"config.init is '{init}', which is no local model; without one the "
      f'shapes of {", ".join(PUBLISHED)} are known'
    )
  return hf_config.model_config(raw, init)


def computed(init, compute, chip):
  """The model of config.init as it is computed on a kind of chip."""
  ids = TOKENIZER_IDS.get(init, 0)
  cfg = model_config(init)
  return policy.computed(cfg, compute, ids, 'tpu' if chip.tpu else 'gpu')
