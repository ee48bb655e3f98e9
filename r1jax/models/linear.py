"""Matrix products with float32 results, and the layouts of their operands.

With cpu_layout, products and transposes use forms that are faster on CPUs only.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.layout import Layout, with_layout_constraint

FEW_ROWS = 64  # of a decode step


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def linear(cpu_layout: bool, x: Array, w: Array) -> Array:
  """x[..., D] @ w[D, ...] in float32.

  The backward pass casts the float32 cotangent to the dtype of x. Plain
  autodiff would multiply float32 by bfloat16, which is slow on every backend.
  """
  return _linear(cpu_layout, x, w)


def _linear(cpu_layout, x, w):
  if cpu_layout:
    x_2d = single_row_twice(x.reshape(-1, x.shape[-1]))
    out = dot(x_2d, w.reshape(w.shape[0], -1))
    out = out[: x.size // x.shape[-1]]
    return out.reshape(x.shape[:-1] + w.shape[1:])
  return dot(x, w)


def outputs_first(x: Array, w: Array) -> Array:
  """x[..., D] @ w' in float32, for w [..., D] with the outputs first.

  XLA's CPU backend packs the right operand in every call. With few rows this
  takes longer than the product, so there the weights are the left operand,
  which is read as it is. The barriers keep XLA from swapping the operands back.
  """
  x_2d, w_2d = x.reshape(-1, x.shape[-1]), w.reshape(-1, w.shape[-1])
  rows = single_row_twice(x_2d)
  if len(rows) <= FEW_ROWS:
    rows_DB = jax.lax.optimization_barrier(row_major(rows.T))
    out = jax.lax.optimization_barrier(dot(w_2d, rows_DB)).T
  else:
    out = dot(rows, w_2d, ((1,), (1,)))
  return out[: len(x_2d)].reshape(x.shape[:-1] + w.shape[:-1])


def single_row_twice(x: Array) -> Array:
  """x [B, ..., D], twice if it is a single row of bfloat16. XLA's CPU backend has
  no fast kernel for the product of one such row and a matrix."""
  is_single = x.size == x.shape[-1] and x.dtype == jnp.bfloat16
  return jnp.concatenate([x, x]) if is_single else x


def _forward(cpu_layout, x, w):
  # Not linear itself, in which a policy of remat would not see the product.
  return _linear(cpu_layout, x, w), (x, w)


def _backward(cpu_layout, saved, g):
  x, w = saved
  g = g.astype(x.dtype)
  if cpu_layout:
    x_2d, w_2d = x.reshape(-1, x.shape[-1]), w.reshape(w.shape[0], -1)
    g_2d = g.reshape(x_2d.shape[0], -1)
    dx = dot(g_2d, transpose(True, w_2d))
    dw = dot(transpose(True, x_2d), g_2d)
  else:
    rows, outputs = tuple(range(x.ndim - 1)), tuple(range(1, w.ndim))
    dx = dot(g, w, (tuple(range(x.ndim - 1, g.ndim)), outputs))
    dw = dot(x, g, (rows, rows))
  dx = dx.reshape(x.shape).astype(x.dtype)
  return dx, dw.reshape(w.shape).astype(w.dtype)


linear.defvjp(_forward, _backward)


def dot(a: Array, b: Array, axes: Any = 1) -> Array:
  """jnp.tensordot in float32; by default a @ b."""
  return jnp.tensordot(
    a, b, axes, precision=precision(a), preferred_element_type=jnp.float32
  )


def product(spec: str, a: Array, b: Array) -> Array:
  """jnp.einsum in float32."""
  return jnp.einsum(
    spec, a, b, precision=precision(a), preferred_element_type=jnp.float32
  )


def precision(operand: Array) -> jax.lax.Precision | None:
  """The precision of a product. By default GPUs and TPUs round float32 operands,
  to TF32 and to bfloat16."""
  is_float32 = operand.dtype == jnp.float32
  return jax.lax.Precision.HIGHEST if is_float32 else None


def transpose(cpu_layout: bool, a: Array) -> Array:
  """a with its last two axes swapped. With cpu_layout, a bfloat16 result is
  also made row-major in memory, as the fast kernels require."""
  a = a.swapaxes(-1, -2)
  return row_major(a) if cpu_layout and a.dtype == jnp.bfloat16 else a


def row_major(a: Array) -> Array:
  """a, constrained to row-major layout."""
  return with_layout_constraint(a, Layout(tuple(range(a.ndim))))
