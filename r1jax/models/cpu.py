"""Layouts and forms that pay on XLA's CPU backend alone. ModelConfig.cpu_layout
is the one switch; elsewhere the plain forms beside each use are taken."""

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


def dot(a_MK, b_KN):
  """a @ b with float32 results."""
  return jnp.dot(a_MK, b_KN, preferred_element_type=jnp.float32)


def transpose(a):
  """The last two axes swapped; in bfloat16 in memory too, since the fast
  bfloat16 kernels take row-major operands only."""
  a = a.swapaxes(-1, -2)
  if a.dtype != jnp.bfloat16:
    return a
  return with_layout_constraint(a, Layout(tuple(range(a.ndim))))


def materialize(a):
  """a, to be computed as it is written: a transposition that is folded into a
  product in bfloat16 gives it operands that no kernel takes."""
  return jax.lax.optimization_barrier(a)


def write(put, cache_BKTC, new_BKC, column_B):
  """put(cache, new, column), but in bfloat16 a select over the whole cache:
  XLA takes a bfloat16 scatter through float32 here, all of it there and back.
  In float32 the scatter is in place, and the select 30 times as slow."""
  if cache_BKTC.dtype != jnp.bfloat16:
    return put(cache_BKTC, new_BKC, column_B)
  here_BT = jnp.arange(cache_BKTC.shape[2])[None] == column_B[:, None]
  return jnp.where(here_BT[:, None, :, None], new_BKC[:, :, None], cache_BKTC)
