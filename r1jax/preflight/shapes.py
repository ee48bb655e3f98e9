"""Configs and parameter shapes of models without their weights."""

import dataclasses
import functools
import math
import pathlib

import jax

from r1jax.checkpoints import gguf_file, hf_files, policy, text_part
from r1jax.models import registry, transformer
from r1jax.models.sharding import NoSharding
from r1jax.preflight import published
from r1jax.preflight.chips import Chip


def model_config(init: str) -> transformer.ModelConfig:
  """The ModelConfig of config.init: a checkpoint, a config.json alone, or a name
  of published.py."""
  source = pathlib.Path(init)
  if init and source.is_dir():
    raw = text_part.config_of(hf_files.read_config(source))
  elif is_config(source):
    raw = text_part.config_of(hf_files.read_json(source))
  elif init and source.is_file():
    raw = gguf_file.GgufReader(source).config
  else:
    raw = published.config(init)
  return registry.model_config(raw, init)


def is_config(path: pathlib.Path) -> bool:
  """Whether a path is that of a config.json, without a model."""
  return path.suffix == '.json' and path.is_file()


def computed(
  init: str, compute: policy.ComputeConfig, chip: Chip
) -> transformer.ModelConfig:
  """The ModelConfig of config.init as it is computed on a kind of chip."""
  cfg = model_config(init)
  real_vocab = published.tokenizer_ids(init)
  if real_vocab and not pathlib.Path(init).exists():
    cfg = dataclasses.replace(cfg, real_vocab=real_vocab)
  if compute.keep_mtp:
    cfg = dataclasses.replace(cfg, keep_mtp=cfg.mtp_layers == 1)
  return policy.with_compute(cfg, compute, chip.backend, chip.gpu_capability)


def parameters(cfg: transformer.ModelConfig) -> dict:
  """The tree of the parameters' shapes and dtypes."""
  # Options of the computation do not change the shapes. Without them one cache
  # entry serves many plans.
  plain = dataclasses.replace(
    cfg,
    dtype='float32',
    remat='none',
    attention='einsum',
    head_chunk=1,
    sharding=NoSharding(),
  )
  return _parameters(plain)


@functools.cache
def _parameters(cfg):
  return jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))


def num_parameters(cfg: transformer.ModelConfig) -> int:
  return sum(math.prod(x.shape) for x in jax.tree.leaves(parameters(cfg)))
