"""Tiny random models, computed by transformers: `python -m golden.make_convert
DIRECTORY` in tests/, with an interpreter that has torch and transformers.

Writes DIRECTORY/FAMILY, checkpoints by save_pretrained, and convert.json: their
configs, tensor shapes, 64 greedy tokens and some logits. The tests read the
convert.json beside this file and need no torch: weights() returns the same
tensors on every machine.
"""

import sys

import numpy as np
from golden import reference

SIZES = dict(vocab_size=61, max_position_embeddings=128, num_hidden_layers=3)
LLAMA3 = dict(
  rope_type='llama3',
  rope_theta=500.0,
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=32,
)
YARN = dict(
  rope_type='yarn',
  rope_theta=500.0,
  factor=4.0,
  original_max_position_embeddings=32,
)
LONGROPE = dict(
  rope_type='longrope',
  rope_theta=100.0,
  partial_rotary_factor=0.75,
  short_factor=[1.0, 1.5, 2.0],
  long_factor=[1.0, 3.0, 9.0],
  attention_factor=1.1,
)
GEMMA3 = dict(
  full_attention=dict(rope_type='linear', rope_theta=800.0, factor=4.0),
  sliding_attention=dict(rope_type='default', rope_theta=40.0),
)
OLMO3 = dict(
  full_attention=YARN,
  sliding_attention=dict(rope_type='default', rope_theta=500.0),
)
# The classes' own are beyond the small vocabulary.
NO_IDS = dict(pad_token_id=None, bos_token_id=None, eos_token_id=None)
FAMILIES = dict(
  llama3=dict(
    kind='Llama',
    hidden_size=30,
    intermediate_size=28,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    rope_parameters=LLAMA3,
    tie_word_embeddings=False,
  ),
  llama_tied=dict(
    kind='Llama',
    hidden_size=24,
    intermediate_size=36,
    num_attention_heads=4,
    num_key_value_heads=4,
    tie_word_embeddings=True,
  ),
  qwen2=dict(
    kind='Qwen2',
    hidden_size=32,
    intermediate_size=44,
    num_attention_heads=8,
    num_key_value_heads=2,
    tie_word_embeddings=True,
  ),
  qwen3=dict(
    kind='Qwen3',
    hidden_size=28,
    intermediate_size=52,
    num_attention_heads=6,
    num_key_value_heads=3,
    head_dim=10,
    tie_word_embeddings=False,
  ),
  qwen3_moe=dict(
    kind='Qwen3Moe',
    hidden_size=26,
    intermediate_size=40,
    moe_intermediate_size=18,
    num_experts=7,
    num_experts_per_tok=3,
    norm_topk_prob=True,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    tie_word_embeddings=False,
  ),
  qwen3_moe_dense_layers=dict(
    kind='Qwen3Moe',
    num_hidden_layers=5,
    mlp_only_layers=[0, 3],
    attention_bias=True,
    hidden_size=22,
    intermediate_size=30,
    moe_intermediate_size=14,
    num_experts=5,
    num_experts_per_tok=2,
    norm_topk_prob=False,
    num_attention_heads=6,
    num_key_value_heads=3,
    head_dim=4,
    tie_word_embeddings=True,
  ),
  gpt_oss=dict(
    kind='GptOss',
    hidden_size=26,
    intermediate_size=18,
    num_local_experts=7,
    num_experts_per_tok=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    sliding_window=9,
    swiglu_limit=0.9,
    rope_parameters=YARN | dict(truncate=False),
    **NO_IDS,
  ),
  llama_bias=dict(
    kind='Llama',
    attention_bias=True,
    hidden_size=36,
    intermediate_size=28,
    num_attention_heads=6,
    num_key_value_heads=2,
    tie_word_embeddings=True,
  ),
  mistral=dict(
    kind='Mistral',
    hidden_size=28,
    intermediate_size=36,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=10,
    sliding_window=9,
    tie_word_embeddings=True,
    **NO_IDS,
  ),
  qwen2_window=dict(
    kind='Qwen2',
    hidden_size=32,
    intermediate_size=44,
    num_attention_heads=4,
    num_key_value_heads=2,
    use_sliding_window=True,
    sliding_window=11,
    max_window_layers=1,
    tie_word_embeddings=True,
    rope_parameters=YARN,
  ),
  phi3=dict(
    kind='Phi3',
    hidden_size=48,
    intermediate_size=44,
    num_attention_heads=6,
    num_key_value_heads=2,
    original_max_position_embeddings=6,
    rope_parameters=LONGROPE,
    tie_word_embeddings=True,
    **NO_IDS,
  ),
  smollm3=dict(
    kind='SmolLM3',
    hidden_size=30,
    intermediate_size=28,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    no_rope_layers=[1, 0, 1],
    **NO_IDS,
  ),
  gemma2=dict(
    kind='Gemma2',
    hidden_size=36,
    intermediate_size=44,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    query_pre_attn_scalar=14,
    sliding_window=7,
    attn_logit_softcapping=4.0,
    final_logit_softcapping=12.0,
    **NO_IDS,
  ),
  gemma3=dict(
    kind='Gemma3Text',
    policy='Gemma3',
    hidden_size=36,
    intermediate_size=44,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=10,
    query_pre_attn_scalar=14,
    sliding_window=7,
    sliding_window_pattern=3,
    rope_parameters=GEMMA3,
    **NO_IDS,
  ),
  olmo2=dict(
    kind='Olmo2',
    hidden_size=36,
    intermediate_size=28,
    num_attention_heads=6,
    num_key_value_heads=2,
    **NO_IDS,
  ),
  olmo3=dict(
    kind='Olmo3',
    hidden_size=36,
    intermediate_size=28,
    num_attention_heads=6,
    num_key_value_heads=2,
    sliding_window=7,
    layer_types=['sliding_attention', 'full_attention', 'sliding_attention'],
    rope_parameters=OLMO3,
    **NO_IDS,
  ),
)


def weights(shapes):
  """Random float32 arrays of the given shapes, the same on every machine."""
  random = np.random.RandomState(7)

  def scale(name):
    return 0.1 if 'embed' in name else 0.3

  arrays = {}
  for name in sorted(shapes):
    mean = 1 if 'norm' in name else 0
    noise = random.standard_normal(shapes[name])
    arrays[name] = (mean + scale(name) * noise).astype(np.float32)
  return arrays


def entry_of(family, directory):
  """Writes the family's checkpoint; returns its entry of convert.json."""
  import torch
  import transformers

  sizes = dict(FAMILIES[family])
  kind = sizes.pop('kind')
  policy = sizes.pop('policy', kind)
  config = getattr(transformers, f'{kind}Config')(**(SIZES | sizes))
  path = directory / family
  model, arrays = reference.write_checkpoint(
    policy, config, path, weights, experts_implementation='eager'
  )
  tokens = reference.greedy_tokens(model)
  with torch.no_grad():
    logits = model(tokens).logits[0, ::10]
  return dict(
    config=reference.read_config(path),
    shapes={name: list(array.shape) for name, array in arrays.items()},
    tokens=tokens[0].tolist(),
    logits_every_10=reference.rounded(logits),
  )


if __name__ == '__main__':
  reference.write_entries(entry_of, FAMILIES, sys.argv[1], 'convert.json')
