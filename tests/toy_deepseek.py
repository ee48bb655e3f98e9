"""Tiny DeepSeek models, and what transformers computes with them
(golden/deepseek.json, written by golden/make_deepseek.py)."""

import json
import pathlib

import jax
import numpy as np
import safetensors.numpy
from golden import make_deepseek

from r1jax.models import registry, transformer
from r1jax.models.families import deepseek
from r1jax.models.moe import MoeConfig
from r1jax.models.rope import Rope, YarnScaling

GOLDEN = json.loads(
  pathlib.Path(make_deepseek.__file__).with_name('deepseek.json').read_text()
)
KINDS = tuple(GOLDEN)
CFG = deepseek.Config(
  vocab_size=28,
  width=16,
  layers=3,
  heads=4,
  q_lora_rank=8,
  kv_lora_rank=12,
  qk_nope_head_dim=5,
  qk_rope_head_dim=6,
  v_head_dim=7,
  rope=Rope(50.0, YarnScaling(4.0, 8, 4.0, 1.0, 1.0, 1.0)),
  ffn=20,
  dense_layers=1,
  moe=MoeConfig(
    experts=8,
    experts_per_token=2,
    ffn=12,
    score='sigmoid',
    normalize=True,
    scale=2.5,
    groups=4,
    top_groups=2,
    correction_bias=True,
    shared_ffn=24,
  ),
  head_chunk=4,
  tie_embeddings=False,
)


def random_params(cfg, scale=0.3):
  """Parameters all of which are random."""
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  noise = np.random.default_rng(0).standard_normal
  return jax.tree.map(lambda a: np.float32(scale * noise(a.shape)), shapes)


def write_directory(path, kind, more=(), **changes):
  """A golden checkpoint as files, with `more` tensors; `changes` are keys of
  its config.json."""
  config = GOLDEN[kind]['config']
  path.mkdir(exist_ok=True)
  (path / 'config.json').write_text(json.dumps(config | changes))
  cfg = registry.model_config(config, kind)
  shapes = {t.name: t.shape for t in deepseek.hf_tensors(cfg)}
  arrays = make_deepseek.weights(shapes) | dict(more)
  safetensors.numpy.save_file(arrays, path / 'model.safetensors')
  return path
