"""The config.json of well-known models, as published on huggingface.co."""

from typing import Any

from r1jax import errors

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
DENSE = {
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


# Mixtures of experts, by their whole config.json as far as it is computed.
DEEPSEEK_V3 = dict(
  architectures=['DeepseekV3ForCausalLM'],
  vocab_size=129_280,
  hidden_size=7_168,
  intermediate_size=18_432,
  moe_intermediate_size=2_048,
  num_hidden_layers=61,
  first_k_dense_replace=3,
  moe_layer_freq=1,
  num_attention_heads=128,
  num_key_value_heads=128,
  q_lora_rank=1_536,
  kv_lora_rank=512,
  qk_nope_head_dim=128,
  qk_rope_head_dim=64,
  v_head_dim=128,
  n_routed_experts=256,
  n_shared_experts=1,
  num_experts_per_tok=8,
  n_group=8,
  topk_group=4,
  scoring_func='sigmoid',
  topk_method='noaux_tc',
  norm_topk_prob=True,
  routed_scaling_factor=2.5,
  num_nextn_predict_layers=1,
  rms_norm_eps=1e-6,
  rope_theta=10_000.0,
  rope_scaling=dict(
    type='yarn',
    factor=40.0,
    original_max_position_embeddings=4_096,
    beta_fast=32.0,
    beta_slow=1.0,
    mscale=1.0,
    mscale_all_dim=1.0,
  ),
  max_position_embeddings=163_840,
  tie_word_embeddings=False,
  attention_bias=False,
  hidden_act='silu',
)
QWEN3_30B_A3B = dict(
  architectures=['Qwen3MoeForCausalLM'],
  vocab_size=151_936,
  hidden_size=2_048,
  intermediate_size=6_144,
  moe_intermediate_size=768,
  num_hidden_layers=48,
  num_attention_heads=32,
  num_key_value_heads=4,
  head_dim=128,
  num_experts=128,
  num_experts_per_tok=8,
  decoder_sparse_step=1,
  mlp_only_layers=[],
  norm_topk_prob=True,
  rms_norm_eps=1e-6,
  rope_theta=1e6,
  max_position_embeddings=40_960,
  tie_word_embeddings=False,
  attention_bias=False,
  hidden_act='silu',
)
WHOLE: dict[str, dict[str, Any]] = {
  'deepseek-ai/DeepSeek-V3': DEEPSEEK_V3,
  'deepseek-ai/DeepSeek-R1': DEEPSEEK_V3,
  'Qwen/Qwen3-30B-A3B': QWEN3_30B_A3B,
}
PUBLISHED = (*DENSE, *WHOLE)


def config(init: str) -> dict[str, Any]:
  """The config.json of a name in PUBLISHED or a variant of it; UserError for
  other names."""
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
  if name in WHOLE:
    return dict(WHOLE[name])
  raw: dict[str, Any] = dict(zip(KEYS, DENSE[name]))
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


def tokenizer_ids(init: str) -> int:
  """The ids of the tokenizer of a published model; 0: not known here."""
  return TOKENIZER_IDS.get(_family(init), 0)
