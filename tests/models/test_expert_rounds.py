"""Rounds of experts on four devices give the layer of one device and its
gradients, whatever the router chooses."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from models.test_moe import CFG, KINDS, Layer, dense, make

from r1jax.models import expert_rounds, grouped, sharding

B, T = 2, 12
KIND = dataclasses.replace(KINDS['gpt_oss'], shared_ffn=8)
SHARED = dict(
  shared_gate_up=P(None, None, 'model'), shared_down=P('model', None)
)


def small_rounds(monkeypatch, is_exchanged):
  """A round has a quarter of the mean number of rows, or of those of a pair of
  devices."""
  monkeypatch.setattr(expert_rounds, 'is_exchanged', lambda *_: is_exchanged)
  for name in 'SLACK', 'SENT_SLACK':
    monkeypatch.setattr(expert_rounds, name, 0.25)
  for name in 'TILE', 'SENT_TILE':
    monkeypatch.setattr(expert_rounds, name, 1)


def undefined_rows(monkeypatch):
  """Products are NaN in rows of no group, as the kernel of TPUs leaves them."""

  def with_nan(times):
    def product(form, x_MD, w_EDF, size_E):
      is_used = jnp.arange(len(x_MD))[:, None] < size_E.sum()
      return jnp.where(is_used, times(form, x_MD, w_EDF, size_E), jnp.nan)

    return product

  for name in 'times', 'times_transposed':
    product = with_nan(getattr(grouped, name))
    monkeypatch.setattr(grouped, name, product)


def on_four_devices(params):
  """The gradients of sum(noise * layer) in (params, h_BTD), as a function of
  (params, h_BTD, ids, noise), all of the whole model."""
  devices = sharding.FsdpTensorParallel(tensor_parallel=4, shard_tokens=True)
  cfg = dataclasses.replace(CFG, sharding=devices)
  specs = {name: P() for name in params} | SHARED
  specs |= {name: P('model') for name in params if 'experts' in name}
  tokens = P(None, 'model')

  def gradients(params, h_BTD, id_BTE, noise_BTD):
    def loss(params, h_BTD):
      args = dict(params=params), h_BTD, id_BTE, jnp.zeros((B, T), jnp.int32)
      return (Layer(cfg, KIND).apply(*args)[0] * noise_BTD).sum()

    found, dh_BTD = jax.grad(loss, (0, 1))(params, h_BTD)
    for name, spec in specs.items():
      if spec == P():
        found[name] = jax.lax.psum(found[name], 'model')
    return found, dh_BTD

  return jax.jit(
    jax.shard_map(
      gradients,
      mesh=jax.make_mesh(
        (4,), ('model',), axis_types=(jax.sharding.AxisType.Auto,)
      ),
      in_specs=(specs, tokens, P(), tokens),
      out_specs=(specs, tokens),
      check_vma=False,
    )
  )


@functools.cache
def inputs():
  """(params, h_BTD, noise_BTD)."""
  params, _ = make(KIND)
  noise = np.random.default_rng(2).standard_normal((2, B, T, CFG.width))
  return params, *np.float32(noise)


@jax.jit
def exact(params, h_BTD, id_BTE, noise_BTD):
  def loss(params, h_BTD):
    return (dense(KIND, params, h_BTD, id_BTE) * noise_BTD).sum()

  return jax.grad(loss, (0, 1))(params, h_BTD)


@pytest.mark.parametrize('is_exchanged', [False, True])
def test_gradients_are_exact_however_many_rounds_run(is_exchanged, monkeypatch):
  small_rounds(monkeypatch, is_exchanged)
  undefined_rows(monkeypatch)
  params, h_BTD, noise_BTD = inputs()
  gradients = on_four_devices(params)
  random = np.random.default_rng(4)
  any_BTE = random.permuted(np.tile(np.arange(12), (B, T, 1)), axis=2)[..., :3]
  # The other devices have no rows.
  same_BTE = np.broadcast_to(np.int64([1, 0, 2]), any_BTE.shape)
  for id_BTE in any_BTE, same_BTE:
    found = gradients(params, h_BTD, id_BTE, noise_BTD)
    want = exact(params, h_BTD, id_BTE, noise_BTD)
    for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
