"""The TPU kernel, interpreted on CPU, equals plain attention."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import attention, tpu_attention

B, T, K, G, C = 2, 131, 2, 3, 128


def arrays():
  normal = np.random.default_rng(0).standard_normal
  shapes = (B, T, K, G, C), (B, K, T, C), (B, K, T, C), (B, T, K, G, C)
  return [jnp.float32(normal(shape)) for shape in shapes]


def value_and_grads(attend, pos_BT, sink_KG):
  """(out, gradients of q, k, v and sinks, which may be None); `out` is 0 for
  queries that are padding."""
  q, k, v, g = arrays()
  real = (pos_BT >= 0)[:, :, None, None, None]

  def out(q, k, v, sink_KG):
    return attend(q, (k, v), pos_BT, sink_KG=sink_KG) * real

  value, vjp = jax.vjp(out, q, k, v, sink_KG)
  return value, *vjp(g)


@pytest.mark.parametrize(
  'side, limit, window, softcap, has_sinks',
  [
    ('left', 1, 0, 0.0, False),
    ('left', 16384, 40, 2.0, False),
    ('right', 1, 40, 0.0, True),
    ('right', 16384, 0, 0.0, True),
  ],
)
def test_the_kernel_equals_plain_attention(
  side, limit, window, softcap, has_sinks, monkeypatch
):
  """Values and gradients of rows padded on either side, whose length is not a
  multiple of the kernel's tile, with both backward kernels."""
  monkeypatch.setattr(tpu_attention, 'FUSED_BACKWARD_LIMIT', limit)
  tpu_attention._splash_kernel.cache_clear()
  length_B1 = np.array([[90], [T]])
  column_1T = np.arange(T)[None]
  if side == 'left':
    column_1T = column_1T - (T - length_B1)
  inside_BT = (column_1T >= 0) & (column_1T < length_B1)
  pos_BT = jnp.int32(np.where(inside_BT, column_1T, -1))

  def plain(q, kv, pos_BT, sink_KG):
    visible_BTS = attention.visible(pos_BT, pos_BT, window or None)
    return attention.attend(form, q, kv, visible_BTS, sink_KG)

  form = attention.Form(C**-0.5, softcap)
  kernel = functools.partial(
    tpu_attention.splash, form, window=window, interpret=True
  )
  sink_KG = None
  if has_sinks:
    sink_KG = jnp.linspace(-2, 4, K * G).reshape(K, G)
  got = jax.jit(lambda: value_and_grads(kernel, pos_BT, sink_KG))()
  want = jax.jit(lambda: value_and_grads(plain, pos_BT, sink_KG))()
  for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())
