"""The kernel of TPUs, interpreted on CPU, against the plain attention."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import attention

B, T, K, G, C = 2, 131, 2, 3, 128


def arrays():
  normal = np.random.default_rng(0).standard_normal
  shapes = (B, T, K, G, C), (B, K, T, C), (B, K, T, C), (B, T, K, G, C)
  return [jnp.float32(normal(shape)) for shape in shapes]


def pulled(attend, pos_BT):
  """(out, gradients of q, k, v) where the queries are real."""
  q, k, v, g = arrays()
  real = (pos_BT >= 0)[:, :, None, None, None]

  def out(q, k, v):
    return attend(q, k, v, pos_BT, pos_BT) * real

  value, pull = jax.vjp(out, q, k, v)
  return value, *pull(g)


@pytest.mark.parametrize('side', ['left', 'right'])
@pytest.mark.parametrize('long', [1, 16384])
def test_the_kernel_gives_what_plain_attention_gives(side, long, monkeypatch):
  """Values and gradients, for rows padded on either side, and a length that is
  no multiple of the kernel's tiles, by either kind of its backward pass."""
  monkeypatch.setattr(attention, 'LONG', long)
  attention._kernel.cache_clear()
  length_B1 = np.array([[90], [T]])
  column_1T = np.arange(T)[None]
  if side == 'left':
    column_1T = column_1T - (T - length_B1)
  inside_BT = (column_1T >= 0) & (column_1T < length_B1)
  pos_BT = jnp.int32(np.where(inside_BT, column_1T, -1))

  def plain(*args):
    return attention.attend(False, *args)

  kernel = functools.partial(attention.splash, interpret=True)
  found = jax.jit(lambda: pulled(kernel, pos_BT))()
  for a, b in zip(found, jax.jit(lambda: pulled(plain, pos_BT))()):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())
