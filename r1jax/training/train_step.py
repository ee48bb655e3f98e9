"""One optimiser step: computes the gradient of a loss and applies it, unless
the result is not finite. Runs under pmap or over a mesh (FSDP and tensor
parallelism)."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from flax import struct

from r1jax.distributed import device_placement, watchdog
from r1jax.distributed.device_placement import Placement
from r1jax.models import moe
from r1jax.training import gradients
from r1jax.training.gradients import Batch, LossFn, Params, Sums

Optimizer: TypeAlias = optax.GradientTransformation


class TrainState(struct.PyTreeNode):
  """step counts updates, skipped ones too; skipped counts those in a row."""

  params: Params
  opt_state: optax.OptState
  step: jax.Array
  skipped: jax.Array


def init_state(params: Params, tx: Optimizer) -> TrainState:
  """The state before the first update."""
  step, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
  opt_state = tx.init(trained(params))
  return TrainState(
    params=params, opt_state=opt_state, step=step, skipped=skipped
  )


def trained(params: Params) -> Params:
  """What the optimiser changes: all leaves but the routers' correction biases,
  which are state."""
  return {
    name: trained(x) if isinstance(x, dict) else x
    for name, x in params.items()
    if name != moe.BIAS
  }


def with_trained(params: Params, new: Params) -> Params:
  """The parameters with the leaves of `new`, which has those of trained()."""

  def leaf_or_tree(name, x):
    if name == moe.BIAS:
      return x
    return with_trained(x, new[name]) if isinstance(x, dict) else new[name]

  return {name: leaf_or_tree(name, x) for name, x in params.items()}


def with_balanced_experts(params: Params, sums: Sums, rate: float) -> Params:
  """The parameters with correction biases that are changed by the load of the
  experts in the whole batch; see moe.balanced."""
  if not rate:
    return params
  layers = params['layers']
  bias_NE = moe.balanced(layers[moe.BIAS], sums[moe.LOAD], rate)
  return params | dict(layers=layers | {moe.BIAS: bias_NE})


def create_state(
  placement: Placement, params: Params, tx: Optimizer
) -> TrainState:
  """init_state on the devices, from parameters that may be unread. No device
  holds more than its part of the state at any time."""
  params = device_placement.put_state(placement, params)

  def without_params(params):
    return init_state(params, tx).replace(params=None)

  shapes = jax.eval_shape(without_params, params)
  own_devices = device_placement.own_devices(placement)
  shardings = device_placement.shardings(own_devices, shapes)
  state = jax.jit(without_params, out_shardings=shardings)(params)
  return state.replace(params=params)


def apply_gradient(
  tx: Optimizer,
  state: TrainState,
  grads: Params,
  sums: Sums,
  router_bias_rate: float = 0.0,
) -> tuple[TrainState, Sums]:
  """(state, sums with 'grad_norm' and 'skipped') after one update. If the loss,
  the gradient norm, or any number of the new parameters or of the optimiser's
  state is not finite, both are unchanged, and the schedule of the learning rate
  goes on: it is a function of state.step. The norm is taken before clipping,
  which would turn one NaN into NaNs everywhere."""

  def changed(state, grads):
    old = trained(state.params)
    changes, opt_state = tx.update(trained(grads), state.opt_state, old)
    new = optax.apply_updates(old, changes)
    params = with_trained(state.params, new)
    return with_balanced_experts(params, sums, router_bias_rate), opt_state

  def unchanged(state, grads):
    return state.params, advance_schedules(state.opt_state)

  norm = optax.tree.norm(grads)
  finite = jnp.isfinite(norm) & jnp.isfinite(sums['loss'])
  finite &= stays_finite(changed(state, grads), unchanged(state, grads))
  # The branch computes the new state again. A select would keep old and new
  # state in memory at once.
  params, opt_state = jax.lax.cond(finite, changed, unchanged, state, grads)
  step, skipped = state.step + 1, jnp.where(finite, 0, state.skipped + 1)
  state = state.replace(
    params=params, opt_state=opt_state, step=step, skipped=skipped
  )
  return state, sums | dict(grad_norm=norm, skipped=skipped)


def stays_finite(new: Any, old: Any) -> jax.Array:
  """Whether every number of `new` is finite, except where `old` is not finite
  either: an optimiser's state may begin with infinities."""

  def leaf_stays_finite(new, old):
    return (jnp.isfinite(new) | ~jnp.isfinite(old)).all()

  leaves = jax.tree.leaves(jax.tree.map(leaf_stays_finite, new, old))
  return jnp.stack(leaves).all()


def advance_schedules(opt_state: optax.OptState) -> optax.OptState:
  """The state with the count of every optax schedule one higher. Those inside
  optax.MultiSteps count its own updates and stay."""
  injected = optax.InjectStatefulHyperparamsState

  def is_node(node):
    schedule = optax.ScaleByScheduleState
    return isinstance(node, (schedule, injected, optax.MultiStepsState))

  def advance(node):
    if isinstance(node, optax.ScaleByScheduleState):
      return node._replace(count=node.count + 1)
    if isinstance(node, injected):
      states = node.hyperparams_states  # {name: (count,)}
      return node._replace(
        hyperparams_states=jax.tree.map(lambda count: count + 1, states),
        inner_state=advance_schedules(node.inner_state),
      )
    return node

  return jax.tree.map(advance, opt_state, is_leaf=is_node)


class UpdatePrograms(NamedTuple):
  """The compiled parts of an update. States and gradients are donated."""

  step: Callable  # (state, batch) -> (state, sums): a single micro-batch
  zeros: Callable  # (params) -> grads: before the first of several
  accumulate: Callable  # (grads, params, batch) -> (grads, sums): each of them
  apply: Callable  # (state, grads, sums) -> (state, sums)


def update_programs(
  placement: Placement,
  loss_fn: LossFn,
  tx: Optimizer,
  router_bias_rate: float = 0.0,
) -> UpdatePrograms:
  """The programs of an update, as the placement's strategy says."""
  if placement.strategy == 'pmap':
    return pmap_programs(placement, loss_fn, tx, router_bias_rate)
  return mesh_programs(placement, loss_fn, tx, router_bias_rate)


def pmap_programs(
  placement: Placement,
  loss_fn: LossFn,
  tx: Optimizer,
  router_bias_rate: float,
) -> UpdatePrograms:
  """Every device holds a replica and differentiates on its own rows."""

  def step(state, batch):
    total = gradients.gradient(loss_fn, state.params, batch)
    grads, sums = jax.lax.psum(total, 'data')
    return apply_gradient(tx, state, grads, sums, router_bias_rate)

  def accumulate(grads, params, batch):
    axes = ('data',) if jax.lax.axis_size('data') > 1 else ()
    leaves = [axes] * len(jax.tree.leaves(params))
    return gradients.add_gradient(
      loss_fn, grads, params, batch, leaves, ('data',)
    )

  def apply(state, grads, sums):
    return apply_gradient(tx, state, grads, sums, router_bias_rate)

  own_devices = device_placement.own_devices(placement)
  pmap = functools.partial(jax.pmap, axis_name='data', out_axes=None)
  return UpdatePrograms(
    step=pmap(step, in_axes=(None, 0), donate_argnums=0),
    zeros=jax.jit(gradients.zeros(own_devices)),
    accumulate=pmap(accumulate, in_axes=(None, None, 0), donate_argnums=0),
    apply=jax.jit(apply, donate_argnums=0),
  )


def mesh_programs(
  placement: Placement,
  loss_fn: LossFn,
  tx: Optimizer,
  router_bias_rate: float,
) -> UpdatePrograms:
  """Every device holds a part of each leaf. The gradients of several
  micro-batches are summed within a slice, and between slices once."""
  grad = gradients.sharded_gradient(placement, loss_fn)

  def step(state, batch):
    grads, sums = grad(state.params, batch)
    return apply_gradient(tx, state, grads, sums, router_bias_rate)

  def apply(state, grads, sums):
    axes = tuple(range(len(placement.slice_axes)))
    grads, sums = jax.tree.map(lambda x: x.sum(axes), (grads, sums))
    return apply_gradient(tx, state, grads, sums, router_bias_rate)

  return UpdatePrograms(
    step=jax.jit(step, donate_argnums=0),
    zeros=jax.jit(gradients.zeros(placement)),
    accumulate=jax.jit(
      gradients.sharded_accumulation(placement, loss_fn), donate_argnums=0
    ),
    apply=jax.jit(apply, donate_argnums=0),
  )


def update(
  placement: Placement,
  compiled: UpdatePrograms,
  state: TrainState,
  micro_batches: Sequence[Batch],
) -> tuple[TrainState, Sums]:
  """(state, sums) after one update by the sum of the micro-batches' gradients.
  Each micro-batch may have a shape of its own. Donates the state."""
  batches = [device_placement.put_rows(placement, x) for x in micro_batches]
  if len(batches) == 1:
    return compiled.step(state, batches[0])
  grads = compiled.zeros(state.params)
  grads, sums = compiled.accumulate(grads, state.params, batches[0])
  for batch in batches[1:]:
    # Waits, so that a long update has heartbeats.
    jax.block_until_ready(sums)
    watchdog.heartbeat()
    grads, more = compiled.accumulate(grads, state.params, batch)
    sums = _add(sums, more)
  return compiled.apply(state, grads, sums)


@jax.jit
def _add(sums, more):
  return jax.tree.map(jnp.add, sums, more)
