"""Tiny random models, computed by transformers: `python make_convert.py
DIRECTORY`, with an interpreter that has torch and transformers.

Writes DIRECTORY/FAMILY, checkpoints by save_pretrained, and convert.json: their
configs, tensor shapes, 64 greedy tokens and some logits. The tests read the
convert.json beside this file and need no torch: weights() returns the same
tensors on every machine.
"""

import json
import pathlib
import sys

import numpy as np

PROMPT = [3, 17, 60, 1, 42, 8, 29]
SIZES = dict(vocab_size=61, max_position_embeddings=128, num_hidden_layers=3)
LLAMA3 = dict(
  rope_type='llama3',
  rope_theta=500.0,
  factor=8.0,
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=32,
)
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


def reference(family, directory):
  """Writes the family's checkpoint; returns its entry of convert.json."""
  import safetensors.numpy
  import torch
  import transformers

  sizes = dict(FAMILIES[family])
  kind = sizes.pop('kind')
  config = getattr(transformers, f'{kind}Config')(**SIZES, **sizes)
  kind = getattr(transformers, f'{kind}ForCausalLM')
  kind(config).save_pretrained(directory / family)
  # The tensors of the file: those of experts are one in the model.
  path = directory / family / 'model.safetensors'
  arrays = safetensors.numpy.load_file(path)
  shapes = {name: list(array.shape) for name, array in arrays.items()}
  metadata = dict(format='pt')
  safetensors.numpy.save_file(weights(shapes), path, metadata)
  model = kind.from_pretrained(
    directory / family, dtype=torch.float32, experts_implementation='eager'
  ).eval()
  tokens = model.generate(
    torch.tensor([PROMPT]),
    do_sample=False,
    max_new_tokens=64,
    min_new_tokens=64,
    pad_token_id=0,
  )
  with torch.no_grad():
    logits = model(tokens).logits[0, ::10].double().numpy()
  return dict(
    config=json.loads((directory / family / 'config.json').read_text()),
    shapes=shapes,
    tokens=tokens[0].tolist(),
    logits_every_10=logits.round(6).tolist(),
  )


def main(directory):
  directory = pathlib.Path(directory)
  entries = {family: reference(family, directory) for family in FAMILIES}
  lines = (f'"{family}": {json.dumps(e)}' for family, e in entries.items())
  text = '{\n' + ',\n'.join(lines) + '\n}\n'
  (directory / 'convert.json').write_text(text)


if __name__ == '__main__':
  main(sys.argv[1])
