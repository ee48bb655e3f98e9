"""A policy: parameters, how they are computed, and the tokenizer they speak."""

import dataclasses
from typing import Any, NamedTuple

import jax

from r1jax import errors
from r1jax.checkpoints import pretrained, tokenization
from r1jax.config import option
from r1jax.models import transformer

ATTENTION = 'auto', 'einsum', 'splash'


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
  """How a model is computed; none of it changes what the model is."""

  dtype: str = option('float32', 'of matrix products: float32 or bfloat16')
  scan_layers: bool = option(True, 'one compiled layer while training')
  scan_decode: bool = option(False, 'one compiled layer while decoding')
  remat: str = option(
    'none', 'recompute in the backward pass: none, full, dots'
  )
  attention: str = option(
    'auto', 'einsum, splash (the kernel of TPUs), auto: by the devices'
  )
  head_chunk: int = option(
    128, 'columns whose logits exist at one time', least=1
  )


@dataclasses.dataclass(frozen=True)
class ScratchConfig:
  """A small Llama with fresh weights over bytes, the four tags and `words`."""

  layers: int = option(2, 'layers', least=1)
  width: int = option(96, 'model width', least=1)
  heads: int = option(4, 'attention heads', least=1)
  ffn: int = option(256, 'feed-forward width', least=1)
  extra_tokens: tuple[str, ...] = option((), 'texts that are one token each')


class Policy(NamedTuple):
  params: dict  # numpy arrays on the host
  cfg: transformer.ModelConfig
  tokenizer: Any


def load(init, compute, scratch, seed, score=False):
  """(params on the host, cfg, tokenizer) of a path, a hub name, or 'scratch'; a
  reward model only where `score` says that one is wanted."""
  if compute.dtype not in ('float32', 'bfloat16') or (
    compute.remat not in ('none', *transformer.REMAT)
    or compute.attention not in ATTENTION
  ):
    raise errors.UserError(
      'config.compute.dtype can be float32 or bfloat16, config.compute.remat '
      f'none, {" or ".join(transformer.REMAT)}, config.compute.attention '
      f'{" or ".join(ATTENTION)}'
    )
  if not init or init == 'scratch' and scratch is None:
    raise errors.UserError(
      f"config.init is '{init}': name the directory of a trained model, a GGUF "
      'file or a model of the hub (ORG/NAME)'
    )
  if init == 'scratch':
    if scratch.width % (2 * scratch.heads):
      raise errors.UserError(
        f'config.scratch.width is {scratch.width}: it must be a multiple of '
        f'twice config.scratch.heads, which is {scratch.heads}'
      )
    words = tokenization.ByteTokenizer(
      (*tokenization.TAGS, *scratch.extra_tokens)
    )
    cfg = transformer.ModelConfig(
      vocab_size=words.vocab_size,
      width=scratch.width,
      layers=scratch.layers,
      heads=scratch.heads,
      kv_heads=scratch.heads,
      head_dim=scratch.width // scratch.heads,
      ffn=scratch.ffn,
    )
    params = jax.device_get(transformer.init(jax.random.key(seed), cfg))
  else:
    params, cfg, words = pretrained.load(init)
    if cfg.score and not score:
      raise errors.UserError(
        f'{init} is a reward model, which gives scores and no text: name a '
        'policy here, and this one by config.reward_models'
      )
    if words is None:
      raise errors.UserError(
        f'{init} holds no tokenizer: put its tokenizer.json or tokenizer.model '
        'beside the weights'
      )
    if not words.eos_ids:
      raise errors.UserError(
        f'the tokenizer of {init} names no end token, so no response could '
        'end: give the checkpoint an eos_token'
      )
  return Policy(params, computed(cfg, compute, words.vocab_size), words)


def computed(cfg, compute, real_vocab, backend=None):
  """The model's config with how it is computed on the devices of a backend."""
  backend, attention = backend or jax.default_backend(), compute.attention
  if attention == 'auto':
    attention = 'splash' if backend == 'tpu' else 'einsum'
  return dataclasses.replace(
    cfg,
    real_vocab=real_vocab,
    dtype=compute.dtype,
    scan_layers=compute.scan_layers,
    remat=compute.remat,
    head_chunk=compute.head_chunk,
    attention=attention,
    cpu_layout=backend == 'cpu',
  )


def check_length(cfg, tokens):
  """Refuses rows longer than the positions that the model has learnt."""
  if tokens > cfg.max_len:
    raise errors.UserError(
      f'prompt and response may have {tokens} tokens; the model knows '
      f'{cfg.max_len} positions: set config.prompt.max_len or '
      'config.sample.max_new_tokens lower, or max_position_embeddings of its '
      'config.json higher'
    )
