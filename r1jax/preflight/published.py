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
VARIANTS = '-Instruct', '-Base', '-instruct', '-it', '-pt'
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


# Models by their whole config.json as far as it is computed.
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
# The rope of Phi-4-mini has a factor for each frequency, which cost nothing and
# are left out here.
PHI_4_MINI = dict(
  architectures=['Phi3ForCausalLM'],
  vocab_size=200_064,
  hidden_size=3_072,
  intermediate_size=8_192,
  num_hidden_layers=32,
  num_attention_heads=24,
  num_key_value_heads=8,
  partial_rotary_factor=0.75,
  rms_norm_eps=1e-5,
  rope_theta=10_000.0,
  max_position_embeddings=131_072,
  sliding_window=262_144,
  tie_word_embeddings=True,
)
SMOLLM3_3B = dict(
  architectures=['SmolLM3ForCausalLM'],
  vocab_size=128_256,
  hidden_size=2_048,
  intermediate_size=11_008,
  num_hidden_layers=36,
  num_attention_heads=16,
  num_key_value_heads=4,
  no_rope_layer_interval=4,
  rms_norm_eps=1e-6,
  rope_theta=5e6,
  max_position_embeddings=65_536,
  tie_word_embeddings=True,
)
OLMO_2_1B = dict(
  architectures=['Olmo2ForCausalLM'],
  vocab_size=100_352,
  hidden_size=2_048,
  intermediate_size=8_192,
  num_hidden_layers=16,
  num_attention_heads=16,
  num_key_value_heads=16,
  rms_norm_eps=1e-6,
  rope_theta=5e5,
  max_position_embeddings=4_096,
  tie_word_embeddings=False,
)


def _mistral_7b(vocab_size, theta, window):
  return dict(
    architectures=['MistralForCausalLM'],
    vocab_size=vocab_size,
    hidden_size=4_096,
    intermediate_size=14_336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    rms_norm_eps=1e-5,
    rope_theta=theta,
    max_position_embeddings=32_768,
    sliding_window=window,
    tie_word_embeddings=False,
  )


def _gpt_oss(layers, experts):
  return dict(
    architectures=['GptOssForCausalLM'],
    vocab_size=201_088,
    hidden_size=2_880,
    intermediate_size=2_880,
    num_hidden_layers=layers,
    num_attention_heads=64,
    num_key_value_heads=8,
    head_dim=64,
    num_local_experts=experts,
    num_experts_per_tok=4,
    sliding_window=128,
    max_position_embeddings=131_072,
    rope_theta=150_000.0,
    rope_scaling=dict(
      rope_type='yarn',
      factor=32.0,
      original_max_position_embeddings=4_096,
      beta_fast=32.0,
      beta_slow=1.0,
      truncate=False,
    ),
    tie_word_embeddings=False,
  )


def _gemma(architecture, vocab_size, width, ffn, layers, heads, **more):
  """heads: those of queries and of keys."""
  return dict(
    architectures=[f'{architecture}ForCausalLM'],
    vocab_size=vocab_size,
    hidden_size=width,
    intermediate_size=ffn,
    num_hidden_layers=layers,
    num_attention_heads=heads[0],
    num_key_value_heads=heads[1],
    head_dim=256,
    query_pre_attn_scalar=256,
    rms_norm_eps=1e-6,
    **more,
  )


GEMMA_2_2B = _gemma(
  'Gemma2',
  256_000,
  2_304,
  9_216,
  26,
  (8, 4),
  sliding_window=4_096,
  max_position_embeddings=8_192,
)
GEMMA_3_1B = _gemma(
  'Gemma3',
  262_144,
  1_152,
  6_912,
  26,
  (4, 1),
  sliding_window=512,
  max_position_embeddings=32_768,
)
# The text model; the checkpoint on the hub has one for images too.
GEMMA_3_4B = _gemma(
  'Gemma3',
  262_208,
  2_560,
  10_240,
  34,
  (8, 4),
  sliding_window=1_024,
  max_position_embeddings=131_072,
  rope_scaling=dict(rope_type='linear', factor=8.0),
)
WHOLE: dict[str, dict[str, Any]] = {
  'google/gemma-2-2b': GEMMA_2_2B,
  'google/gemma-3-1b': GEMMA_3_1B,
  'google/gemma-3-4b': GEMMA_3_4B,
  'mistralai/Mistral-7B-v0.1': _mistral_7b(32_000, 10_000.0, 4_096),
  'mistralai/Mistral-7B-v0.3': _mistral_7b(32_768, 1e6, None),
  'microsoft/Phi-4-mini': PHI_4_MINI,
  'HuggingFaceTB/SmolLM3-3B': SMOLLM3_3B,
  'allenai/OLMo-2-0425-1B': OLMO_2_1B,
  'deepseek-ai/DeepSeek-V3': DEEPSEEK_V3,
  'deepseek-ai/DeepSeek-R1': DEEPSEEK_V3,
  'Qwen/Qwen3-30B-A3B': QWEN3_30B_A3B,
  'openai/gpt-oss-20b': _gpt_oss(24, 32),
  'openai/gpt-oss-120b': _gpt_oss(36, 128),
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
