"""Compiled functions of a model, which tests share."""

import functools

import jax
import numpy as np

from r1jax.models import token_logprobs, transformer

logprobs = jax.jit(
  token_logprobs.logprobs, static_argnames=('cfg', 'temperature')
)


@functools.partial(jax.jit, static_argnames='cfg')
def logits(params, cfg, tokens_BL, pos_BL):
  """[B, L, V]; column t has the logits of the token at t + 1."""
  out = transformer.forward(params, cfg, tokens_BL, pos_BL)
  return transformer.unembed(params, cfg, out.hidden_BTD)


def random_params(cfg, scale=0.4, seed=0):
  """Float32 parameters, all of which are random, without a compilation."""
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  noise = np.random.default_rng(seed).standard_normal
  return jax.tree.map(lambda a: np.float32(scale * noise(a.shape)), shapes)
