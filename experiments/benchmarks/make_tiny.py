"""Writes the tiny model T (Llama, 4 layers, width 128, random weights) as a
Hugging Face directory: python -m experiments.benchmarks.make_tiny DIR"""

import sys

import jax
import numpy as np

from r1jax.checkpoints import pretrained, tokenization
from r1jax.models import transformer
from r1jax.models.families import llama

STD = 0.02


def main(directory: str) -> None:
  cfg = llama.Config(
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
  # Bytes, the end token, and a text for each of the other ids.
  special = [f'<|{n}|>' for n in range(257, cfg.vocab_size)]
  rng = np.random.default_rng(0)

  def init_leaf(path, leaf):
    if 'norm' in path[-1].key:
      return np.ones(leaf.shape, np.float32)
    return rng.normal(0, STD, leaf.shape).astype(np.float32)

  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  params = jax.tree_util.tree_map_with_path(init_leaf, shapes)
  tokenizer = tokenization.ByteTokenizer(special)
  pretrained.save(directory, params, cfg, tokenizer)


if __name__ == '__main__':
  main(sys.argv[1])
