"""Writes the tiny model T (Llama, 4 layers, width 128, random weights) as a
Hugging Face directory: python -m experiments.benchmarks.make_tiny DIR"""

import sys

import jax
import numpy as np

from r1jax.checkpoints import pretrained, tokenization
from r1jax.models import transformer

STD = 0.02


def main(directory):
  cfg = transformer.ModelConfig(
    vocab_size=512,
    width=128,
    layers=4,
    heads=4,
    kv_heads=4,
    head_dim=32,
    ffn=512,
    norm_eps=1e-5,
    max_len=1024,
  )
  # Bytes, the end token, and a text for every id that is left.
  fill = [f'<|{n}|>' for n in range(257, cfg.vocab_size)]
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  params = jax.tree_util.tree_map_with_path(
    lambda path, a: (
      np.ones(a.shape, np.float32)
      if 'norm' in path[-1].key
      else rng.normal(0, STD, a.shape).astype(np.float32)
    ),
    shapes,
  )
  pretrained.save(directory, params, cfg, tokenization.ByteTokenizer(fill))


if __name__ == '__main__':
  main(sys.argv[1])
