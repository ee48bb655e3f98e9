"""Rope frequencies of transformers: `python make_rope.py > rope.json`, with an
interpreter that has torch and transformers. `config` is what r1jax reads,
`frequencies` and `attention` what ROPE_INIT_FUNCTIONS computes from it, of calls
as long as max_position_embeddings."""

import json

import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

LONG = dict(
  short_factor=[1.0, 1.1, 1.25, 1.5, 2.0, 3.0],
  long_factor=[1.0, 2.5, 5.0, 9.0, 20.0, 40.0],
)
# (max_position_embeddings, head_dim, the rope settings)
CASES = dict(
  default=(64, 16, dict(rope_type='default', rope_theta=500.0)),
  linear=(64, 16, dict(rope_type='linear', factor=3.0)),
  dynamic=(64, 16, dict(rope_type='dynamic', factor=4.0)),
  llama3=(
    256,
    16,
    dict(
      rope_type='llama3',
      rope_theta=500.0,
      factor=8.0,
      low_freq_factor=1.0,
      high_freq_factor=4.0,
      original_max_position_embeddings=32,
    ),
  ),
  yarn_qwen=(
    32768,
    32,
    dict(
      rope_type='yarn',
      rope_theta=1e6,
      factor=4.0,
      original_max_position_embeddings=32768,
    ),
  ),
  yarn_deepseek=(
    163840,
    64,
    dict(
      type='yarn',
      factor=40,
      original_max_position_embeddings=4096,
      beta_fast=32,
      beta_slow=1,
      mscale=1.0,
      mscale_all_dim=1.0,
    ),
  ),
  yarn_mscale=(
    8192,
    16,
    dict(
      rope_type='yarn',
      factor=2.0,
      original_max_position_embeddings=4096,
      beta_fast=16.0,
      beta_slow=2.0,
      mscale=1.0,
      mscale_all_dim=0.707,
      truncate=False,
    ),
  ),
  yarn_attention_factor=(
    256,
    16,
    dict(
      rope_type='yarn',
      factor=8.0,
      original_max_position_embeddings=32,
      attention_factor=1.25,
      partial_rotary_factor=0.5,
    ),
  ),
  longrope_long=(
    256,
    16,
    dict(
      rope_type='longrope',
      original_max_position_embeddings=32,
      partial_rotary_factor=0.75,
      **LONG,
    ),
  ),
  longrope_short=(
    32,
    16,
    dict(
      rope_type='longrope',
      original_max_position_embeddings=32,
      attention_factor=1.3,
      partial_rotary_factor=0.75,
      **LONG,
    ),
  ),
  longrope_factor=(
    32,
    12,
    dict(
      rope_type='longrope',
      original_max_position_embeddings=32,
      factor=4.0,
      **LONG,
    ),
  ),
)


def main():
  entries = {}
  for name, (max_len, head_dim, settings) in CASES.items():
    config = transformers.LlamaConfig(
      max_position_embeddings=max_len,
      head_dim=head_dim,
      rope_parameters=dict(settings),
    )
    kind = config.rope_parameters['rope_type']
    if kind == 'default':
      llama = transformers.models.llama.modeling_llama
      frequencies = llama.LlamaRotaryEmbedding(config).inv_freq
      attention = 1.0
    else:
      function = ROPE_INIT_FUNCTIONS[kind]
      frequencies, attention = function(config, 'cpu', seq_len=max_len)
    entries[name] = dict(
      config=dict(
        max_position_embeddings=max_len,
        head_dim=head_dim,
        rope_parameters=settings,
      ),
      frequencies=[float(f'{x:.8g}') for x in frequencies.tolist()],
      attention=attention,
    )
  lines = (f'"{name}": {json.dumps(e)}' for name, e in entries.items())
  print('{\n' + ',\n'.join(lines) + '\n}')


if __name__ == '__main__':
  main()
