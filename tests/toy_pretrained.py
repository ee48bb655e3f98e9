"""Checkpoints of tiny random models, and what transformers computes with them
(golden/convert.json, written by golden/make_convert.py)."""

import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from golden import make_convert, reference

from r1jax.models import transformer

GOLDEN = json.loads(
  pathlib.Path(make_convert.__file__).with_name('convert.json').read_text()
)
FAMILIES = tuple(GOLDEN)


def write_directory(path, family='llama3', **changes):
  """A golden checkpoint as files; `changes` are keys of its config.json."""
  entry = GOLDEN[family]
  path.mkdir(exist_ok=True)
  (path / 'config.json').write_text(json.dumps(entry['config'] | changes))
  arrays = make_convert.weights(entry['shapes'])
  safetensors.numpy.save_file(arrays, path / 'model.safetensors')
  return path


def all_logits(params, cfg, tokens):
  """The logits [T, V] of a row of ids."""
  tokens_BT = jnp.array([tokens])
  pos_BT = jnp.arange(len(tokens))[None]

  @jax.jit
  def logits(params):
    hidden_BTD = transformer.forward(params, cfg, tokens_BT, pos_BT).hidden_BTD
    return transformer.unembed(params, cfg, hidden_BTD)[0]

  return np.asarray(logits(params))


def assert_same_tree(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def assert_same_function(params, cfg, entry):
  """Logits within 1e-5 of the entry's, and the same greedy tokens. Programs
  that XLA does not optimise round in another order."""
  logits_TV = all_logits(params, cfg, entry['tokens'])
  is_optimised = 'optimization_level=0' not in os.environ.get('XLA_FLAGS', '')
  tolerance = 1e-5 if is_optimised else 2e-5
  np.testing.assert_allclose(
    logits_TV[::10], entry['logits_every_10'], rtol=0, atol=tolerance
  )
  start = len(reference.PROMPT)
  greedy = logits_TV[start - 1 : -1].argmax(axis=1)
  np.testing.assert_array_equal(greedy, entry['tokens'][start:])
