"""A tiny gpt-oss whose experts are in MXFP4."""

import json

import numpy as np
import safetensors.numpy

from r1jax.checkpoints import pretrained
from r1jax.models import gqa, moe
from r1jax.models.families import gpt_oss
from r1jax.models.moe_config import Activation

CFG = gpt_oss.Config(
  vocab_size=28,
  width=64,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=6,
  qkv_bias=True,
  out_bias=True,
  sinks=True,
  kinds=(gqa.LayerKind(window=5), gqa.LayerKind()),
  kind_N=(0, 1),
  tie_embeddings=False,
  dense_ffn=96,
  moe=moe.MoeConfig(
    experts=4,
    experts_per_token=3,
    ffn=96,
    score='softmax',
    normalize=True,
    linear_bias=True,
    activation=Activation(1.702, 7.0, 1.0),
  ),
)
VALUES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def write_directory(path, params, without=()):
  """Writes params with experts of random numbers in MXFP4; returns the tensors
  that these stand for, by name."""
  pretrained.save(path, params, CFG)
  file, random = path / 'model.safetensors', np.random.default_rng(0)
  tensors, meant = safetensors.numpy.load_file(file), {}
  for name in list(tensors):
    if not name.endswith('_proj') or 'experts' not in name:
      continue
    E, D, R = tensors.pop(name).shape
    blocks = random.integers(0, 256, (E, R, D // 32, 16), np.uint8)
    scales = random.integers(120, 130, (E, R, D // 32), np.uint8)
    tensors |= {f'{name}_blocks': blocks, f'{name}_scales': scales}
    meant[name] = dequantized(blocks, scales)
  tensors = {k: a for k, a in tensors.items() if not k.endswith(tuple(without))}
  safetensors.numpy.save_file(tensors, file, metadata=dict(format='pt'))
  config = json.loads((path / 'config.json').read_text())
  table = dict(quant_method='mxfp4', modules_to_not_convert=['lm_head'])
  config |= dict(quantization_config=table)
  (path / 'config.json').write_text(json.dumps(config))
  return meant


def dequantized(blocks, scales):
  """[E, D, R], number by number."""
  E, R, count, _ = blocks.shape
  out = np.zeros((E, count * 32, R), np.float32)
  for e, r, d in np.ndindex(E, R, count * 32):
    byte = int(blocks[e, r, d // 32, d % 32 // 2])
    nibble = byte >> 4 if d % 2 else byte & 15
    sign = -1.0 if nibble & 8 else 1.0
    scale = 2.0 ** (int(scales[e, r, d // 32]) - 127)
    out[e, d, r] = sign * VALUES[nibble & 7] * scale
  return out
