"""The products of a buffer of rows with the experts of one device.

A row [M] is a token for one of its experts. Rows are sorted by expert; those
after the rows of the last expert belong to none, and their results are undefined.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import grouped, linear
from r1jax.models.moe_config import Activation


class Rows(NamedTuple):
  x_MD: Array
  weight_M: Array  # of what the expert returns, float32
  size_E: Array  # rows of each expert


class Weights(NamedTuple):
  """Of this device's experts."""

  # One [E, D, 2 F], or gate and up [E, D, F]: one would then be a copy.
  gate_up: tuple[Array, ...]
  down_EFD: Array
  gate_up_bias_E2F: Array | None = None  # float32
  down_bias_ED: Array | None = None


def forward(
  dot: Callable[..., Array],
  form: grouped.Form,
  act: Activation,
  rows: Rows,
  weights: Weights,
) -> Array:
  """out_MD = weight (act(x W_gate + b, x W_up + b) W_down + b) in float32.

  The weight is applied before W_down, so that the backward pass needs no row's
  output. `dot` is grouped.dot, or without gradients grouped.times.
  """
  is_of_ME, bias_E2F = _experts(rows), weights.gate_up_bias_E2F
  gate_MF, up_MF = _gate_up(dot, form, rows, weights)
  x_MF = _hidden(act, is_of_ME, gate_MF, up_MF, rows.weight_M, bias_E2F)
  x_MF = x_MF.astype(rows.x_MD.dtype)
  out_MD = dot(form, x_MF, weights.down_EFD, rows.size_E)
  if weights.down_bias_ED is None:
    return out_MD
  return out_MD + _down_bias(is_of_ME, rows.weight_M, weights.down_bias_ED)


def backward(
  form: grouped.Form,
  act: Activation,
  rows: Rows,
  weights: Weights,
  g_MD: Array,
  sums: Weights,
) -> tuple[Array, Array, Weights]:
  """(dx_MD, dweight_M, sums + the gradients of the weights) for the cotangent
  g_MD of `forward`, in the dtype of x. `sums` are float32, with gate_up as one
  array."""
  dtype, size_E, is_of_ME = g_MD.dtype, rows.size_E, _experts(rows)
  (w,), (sum_w,) = weights.gate_up, sums.gate_up
  gate_MF, up_MF = _gate_up(grouped.times, form, rows, weights)
  hidden = functools.partial(_hidden, act, is_of_ME)
  x_MF, pull = jax.vjp(
    hidden, gate_MF, up_MF, rows.weight_M, weights.gate_up_bias_E2F
  )
  x_MF = x_MF.astype(dtype)
  dx_MF = grouped.times_transposed(form, g_MD, weights.down_EFD, size_E)
  # As everywhere, the cotangent of a product is rounded to its dtype.
  dx_MF = dx_MF.astype(dtype).astype(jnp.float32)
  dgate_MF, dup_MF, dweight_M, dbias_E2F = pull(dx_MF)
  d_gate_up = jnp.concatenate([dgate_MF, dup_MF], axis=1).astype(dtype)
  dx_MD = grouped.times_transposed(form, d_gate_up, w, size_E).astype(dtype)
  sums = sums._replace(
    gate_up=(grouped.add_outer(form, sum_w, rows.x_MD, d_gate_up, size_E),),
    down_EFD=grouped.add_outer(form, sums.down_EFD, x_MF, g_MD, size_E),
  )
  if weights.down_bias_ED is not None:
    _, pull = jax.vjp(
      functools.partial(_down_bias, is_of_ME),
      rows.weight_M,
      weights.down_bias_ED,
    )
    more_M, ddown_ED = pull(g_MD.astype(jnp.float32))
    dweight_M += more_M
    sums = sums._replace(
      gate_up_bias_E2F=sums.gate_up_bias_E2F + dbias_E2F,
      down_bias_ED=sums.down_bias_ED + ddown_ED,
    )
  return dx_MD, dweight_M, sums


def _gate_up(dot, form, rows, weights):
  """float32 (gate_MF, up_MF) without biases."""
  found = [dot(form, rows.x_MD, w, rows.size_E) for w in weights.gate_up]
  return jnp.split(found[0], 2, axis=1) if len(found) == 1 else found


def _experts(rows):
  """[M, E]: whether it is the row's expert."""
  end_E = jnp.cumsum(rows.size_E)
  number_M1 = jnp.arange(len(rows.x_MD))[:, None]
  return (number_M1 >= (end_E - rows.size_E)[None]) & (number_M1 < end_E[None])


def _hidden(act, is_of_ME, gate_MF, up_MF, weight_M, bias_E2F):
  """weight act(gate + b, up + b), and 0 in the rows of no expert, also for the
  gradients: there `gate` and `up` may be NaN."""
  is_used_M1 = is_of_ME.any(axis=1)[:, None]
  gate_MF = jnp.where(is_used_M1, gate_MF, 0)
  up_MF = jnp.where(is_used_M1, up_MF, 0)
  if bias_E2F is not None:
    is_of_ME = is_of_ME.astype(jnp.float32)
    gate_MF += linear.product('me,ef->mf', is_of_ME, bias_E2F[:, 0])
    up_MF += linear.product('me,ef->mf', is_of_ME, bias_E2F[:, 1])
  return jnp.where(is_used_M1, act(gate_MF, up_MF) * weight_M[:, None], 0)


def _down_bias(is_of_ME, weight_M, bias_ED):
  """weight b."""
  return linear.product('me,ed->md', is_of_ME * weight_M[:, None], bias_ED)
