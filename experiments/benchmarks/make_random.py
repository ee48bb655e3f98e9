"""Writes a model of a published size, or a small one, with random weights, in
bfloat16, as a Hugging Face directory:
python -m experiments.benchmarks.make_random NAME DIR"""

import sys

import jax

from r1jax.checkpoints import pretrained, tokenization
from r1jax.models import transformer
from r1jax.models.families import llama
from r1jax.models.gqa import LayerKind
from r1jax.models.rope import Rope

SIZES = {
  'small': llama.Config(
    vocab_size=4096,
    width=256,
    layers=4,
    heads=4,
    kv_heads=2,
    head_dim=64,
    ffn=1024,
    max_len=8192,
  ),
  'smollm2-135m': llama.Config(
    vocab_size=49_152,
    width=576,
    layers=30,
    heads=9,
    kv_heads=3,
    head_dim=64,
    ffn=1536,
    norm_eps=1e-5,
    max_len=8192,
    kinds=(LayerKind(Rope(theta=100_000.0)),),
  ),
  # Qwen2.5-0.5B.
  '0.5b': llama.Config(
    vocab_size=151_936,
    width=896,
    layers=24,
    heads=14,
    kv_heads=2,
    head_dim=64,
    qkv_bias=True,
    architecture='Qwen2',
    ffn=4864,
    max_len=32_768,
    kinds=(LayerKind(Rope(theta=1e6)),),
  ),
  # Qwen2.5-1.5B without the biases of its projections.
  '1.5b': llama.Config(
    vocab_size=151_936,
    width=1536,
    layers=28,
    heads=12,
    kv_heads=2,
    head_dim=128,
    ffn=8960,
    max_len=32_768,
    kinds=(LayerKind(Rope(theta=1e6)),),
  ),
}


def main(name: str, directory: str) -> None:
  cfg = SIZES[name]
  params = transformer.init(jax.random.key(0), cfg)
  special = [f'<|{n}|>' for n in range(257, 512)]
  tokenizer = tokenization.ByteTokenizer(special)
  pretrained.save(directory, params, cfg, tokenizer, dtype='bfloat16')


if __name__ == '__main__':
  main(*sys.argv[1:])
