"""Checksums detect every change of the values, and ignore the sharding."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax.training import checksum

DTYPES = 'float32', 'bfloat16', 'float16', 'int32', 'uint8', 'bool', 'int64'


def sums(x):
  return checksum.compute({'x': x})['x']


def values(dtype):
  x = np.random.default_rng(0).normal(size=(12, 5, 8)) * 9
  return x.astype(getattr(ml_dtypes, dtype, None) or dtype)


@pytest.mark.parametrize('dtype', DTYPES)
def test_every_flipped_bit_changes_both_sums(dtype):
  x = values(dtype)
  rng, before = np.random.default_rng(1), sums(x)
  for _ in range(16):
    bits = x.copy().reshape(-1).view(np.uint8)
    bit = 0 if dtype == 'bool' else rng.integers(8)
    bits[rng.integers(bits.size)] ^= np.uint8(1 << bit)
    after = sums(bits.view(x.dtype).reshape(x.shape))
    assert after[0] != before[0] and after[1] != before[1]


def test_moved_values_and_another_shape_change_the_sums():
  x = np.zeros((3, 4), np.float32)
  x[1, 2] = 1
  moved = [np.roll(x, 1, 0), np.roll(x, 1, 1), x.reshape(4, 3), x.T, -x]
  assert len({tuple(sums(a)) for a in [x, *moved]}) == 6
  assert sums(np.array(0.0)) != sums(np.array(-0.0))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'bool'])
def test_the_sums_do_not_depend_on_the_sharding(dtype):
  x, mesh = values(dtype), jax.make_mesh((2, 2), ('data', 'model'))
  for spec in (P(), P('data'), P('model', None, 'data'), P(('data', 'model'))):
    sharded = jax.device_put(x, NamedSharding(mesh, spec))
    assert sums(sharded) == sums(x) == sums(jnp.asarray(x))


def test_no_array_is_gathered():
  mesh = jax.make_mesh((4,), ('data',))
  x = jax.device_put(values('float32'), NamedSharding(mesh, P('data')))
  text = checksum._sums.lower(x).compile().as_text()
  assert 'all-reduce' in text and 'all-gather' not in text


def test_mix_is_one_to_one():
  """Of all 16-bit numbers, repeated in the upper and the lower half."""
  bits = np.arange(1 << 16, dtype=np.uint32) * np.uint32(65537)
  mixed = np.asarray(checksum._mix(jnp.asarray(bits)))
  assert np.unique(mixed).size == bits.size
