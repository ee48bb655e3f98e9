"""The optimiser step: gradients of any loss, guarded, into a new state. Knows
no model and no algorithm."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct

from r1jax import errors
from r1jax.config import option


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  lr: float = option(3e-6, 'peak learning rate (R1: 3e-6)', least=0)
  warmup: int = option(0, 'steps of linear warm-up', least=0)
  schedule: Literal['constant', 'cosine'] = option('constant', 'after warm-up')
  final: float = option(0.1, 'last learning rate of the cosine over the peak')
  b1: float = option(0.9, 'AdamW: decay of the first moment')
  b2: float = option(0.95, 'AdamW: decay of the second moment')
  eps: float = option(1e-8, 'AdamW: added to the root of the second moment')
  weight_decay: float = option(0.0, 'AdamW: decoupled weight decay')
  clip_norm: float = option(1.0, 'largest global norm of the gradient', least=0)
  patience: int = option(10, 'skipped steps in a row that end the run', least=1)


@struct.dataclass
class TrainState:
  """step counts updates, skipped ones too; skipped those in a row so far."""

  params: dict
  opt: tuple
  step: jax.Array
  skipped: jax.Array


def learning_rate(c, steps):
  """The rate at each optimiser step, of `steps` in all."""
  if c.schedule == 'cosine':
    body = optax.cosine_decay_schedule(
      c.lr, max(steps - c.warmup, 1), alpha=c.final
    )
  else:
    assert c.schedule == 'constant', c.schedule
    body = optax.constant_schedule(c.lr)
  ramp = optax.linear_schedule(0.0, c.lr, max(c.warmup, 1))
  return optax.join_schedules([ramp, body], [c.warmup]) if c.warmup else body


def optimizer(c, steps):
  """Clipping by global norm, then AdamW, in float32."""
  return optax.chain(
    optax.clip_by_global_norm(c.clip_norm),
    optax.adamw(
      learning_rate(c, steps),
      b1=c.b1, b2=c.b2, eps=c.eps, weight_decay=c.weight_decay,
    ),
  )  # fmt: skip


def new_state(params, tx):
  zero = lambda: jnp.zeros((), jnp.int32)
  return TrainState(params, tx.init(params), zero(), zero())


def make_gradient(loss_fn):
  """The pure (params, batch) -> (gradients, sums) of loss_fn(params, batch) ->
  (scalar, sums)."""

  def gradient(params, batch):
    (_, sums), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
    return grads, sums

  return gradient


def make_update(tx):
  """The pure (state, gradients, sums) -> (state, sums).

  A loss or a gradient norm that is not finite leaves parameters and optimiser
  as they were and counts in state.skipped. It is looked for before clipping,
  which would spread one NaN to every leaf.
  """

  def update(state, grads, sums):
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(norm) & jnp.isfinite(sums['loss'])
    changes, opt = tx.update(grads, state.opt, state.params)
    params = optax.apply_updates(state.params, changes)
    keep = lambda new, old: jnp.where(finite, new, old)
    new = TrainState(
      jax.tree.map(keep, params, state.params),
      jax.tree.map(keep, opt, state.opt),
      state.step + 1,
      jnp.where(finite, 0, state.skipped + 1),
    )
    return new, sums | dict(grad_norm=norm, skipped=new.skipped)

  return update


def make_step(loss_fn, tx, total=lambda tree: tree):
  """The pure (state, batch) -> (state, sums); `total` adds gradients and sums
  over devices where each has rows of its own."""
  gradient, update = make_gradient(loss_fn), make_update(tx)

  def step(state, batch):
    return update(state, *total(gradient(state.params, batch)))

  return step


def stop_if_stuck(c, skipped, step, steps):
  """Ends a run whose last updates, or all of its `steps`, were skipped."""
  if skipped >= min(c.patience, steps):
    raise errors.UserError(
      f'the last {skipped} updates up to step {step} had a loss or gradient '
      'that is not finite and were skipped; look at samples.jsonl and '
      'metrics.jsonl for what went wrong, lower config.optim.lr, and start '
      'again in another --workdir'
    )
