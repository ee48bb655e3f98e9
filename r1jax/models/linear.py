"""Matrix products with float32 results and backward products in the operands'
own dtype. The forms that pay on XLA's CPU backend alone live in cpu.py."""

import functools

import jax
import jax.numpy as jnp

from r1jax.models import cpu


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def linear(cpu_layout, x, w):
  """x[..., D] @ w[D, ...] in float32.

  The cotangent is cast to the operands' dtype before the backward products:
  left to itself autodiff multiplies float32 by bfloat16, which no backend does
  fast.
  """
  if cpu_layout:
    out = cpu.dot(x.reshape(-1, x.shape[-1]), w.reshape(w.shape[0], -1))
    return out.reshape(x.shape[:-1] + w.shape[1:])
  return _contract(x, w, x.ndim - 1, 0, 1)


def _linear_forward(cpu_layout, x, w):
  return linear(cpu_layout, x, w), (x, w)


def _linear_backward(cpu_layout, saved, g):
  x, w = saved
  g = g.astype(x.dtype)
  if cpu_layout:
    x_MD, w_DF = x.reshape(-1, x.shape[-1]), w.reshape(w.shape[0], -1)
    g_MF = g.reshape(x_MD.shape[0], -1)
    dx, dw = (
      cpu.dot(g_MF, cpu.transpose(w_DF)),
      cpu.dot(cpu.transpose(x_MD), g_MF),
    )
  else:
    dx = _contract(g, w, x.ndim - 1, 1, w.ndim - 1)
    dw = _contract(x, g, 0, 0, x.ndim - 1)
  return dx.reshape(x.shape).astype(x.dtype), dw.reshape(w.shape).astype(
    w.dtype
  )


linear.defvjp(_linear_forward, _linear_backward)


def _contract(a, b, a_first, b_first, count):
  """Contract `count` axes of each, from the first ones given."""
  axes = (
    tuple(range(a_first, a_first + count)),
    tuple(range(b_first, b_first + count)),
  )
  return jax.lax.dot_general(
    a, b, (axes, ((), ())), preferred_element_type=jnp.float32
  )
