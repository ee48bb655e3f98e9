"""One optimiser step: the gradient of a loss, guarded, applied to a state.

The same step runs as programs under pmap (one replica a device) or over a mesh
(FSDP and tensor parallelism). Nothing here knows a model or an algorithm.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import PartitionSpec as P

from r1jax.distributed import device_placement, programs
from r1jax.distributed.device_placement import Placement

Params = dict
Batch = dict
Sums = dict  # sums of weight * x by name, beside 'weight'; 'loss' among them
# (params, batch) -> (scalar, sums); the scalar is a sum over the batch's rows.
LossFn = Callable[[Params, Batch], tuple[jax.Array, Sums]]


@struct.dataclass
class TrainState:
  """step counts updates, skipped ones too; skipped counts those in a row."""

  params: Params
  opt_state: optax.OptState
  step: jax.Array
  skipped: jax.Array


def init_state(params: Params, tx: optax.GradientTransformation) -> TrainState:
  """The state before the first update."""
  return TrainState(
    params=params,
    opt_state=tx.init(params),
    step=jnp.zeros((), jnp.int32),
    skipped=jnp.zeros((), jnp.int32),
  )


def create_state(
  placement: Placement, params: Params, tx: optax.GradientTransformation
) -> TrainState:
  """init_state on the devices, from parameters on the host. No device holds
  more than its part of the state at any time."""
  params = device_placement.put_state(placement, params)

  def without_params(params):
    return init_state(params, tx).replace(params=None)

  shardings = device_placement.shardings(
    device_placement.own_devices(placement),
    jax.eval_shape(without_params, params),
  )
  state = jax.jit(without_params, out_shardings=shardings)(params)
  return state.replace(params=params)


def gradient(
  loss_fn: LossFn, params: Params, batch: Batch
) -> tuple[Params, Sums]:
  """(gradients, sums) of loss_fn at params."""
  (_, sums), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
  return grads, sums


def apply_gradient(
  tx: optax.GradientTransformation, state: TrainState, grads: Params, sums: Sums
) -> tuple[TrainState, Sums]:
  """(state, sums with 'grad_norm' and 'skipped') after one update.

  If the loss or the gradient norm is not finite, parameters and optimiser stay
  as they were and state.skipped goes up. The norm is taken before clipping,
  which would spread one NaN to every leaf.
  """
  norm = optax.tree.norm(grads)
  finite = jnp.isfinite(norm) & jnp.isfinite(sums['loss'])
  changes, opt_state = tx.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, changes)

  def keep_finite(new, old):
    return jnp.where(finite, new, old)

  new = TrainState(
    params=jax.tree.map(keep_finite, params, state.params),
    opt_state=jax.tree.map(keep_finite, opt_state, state.opt_state),
    step=state.step + 1,
    skipped=jnp.where(finite, 0, state.skipped + 1),
  )
  return new, sums | dict(grad_norm=norm, skipped=new.skipped)


@dataclasses.dataclass(frozen=True)
class UpdatePrograms:
  """The compiled parts of an update. States and totals are donated.

  A total is the (gradients, sums) of the micro-batches so far.
  """

  step: Callable  # (state, batch) -> (state, sums): a single micro-batch
  grad: Callable  # (params, batch) -> total: the first of several
  accumulate: Callable  # (total, params, batch) -> total: the following ones
  apply: Callable  # (state, total) -> (state, sums)


def update_programs(
  placement: Placement, loss_fn: LossFn, tx: optax.GradientTransformation
) -> UpdatePrograms:
  """The programs of an update, as the placement's strategy says."""
  if placement.strategy == 'pmap':
    return pmap_programs(placement, loss_fn, tx)
  return mesh_programs(placement, loss_fn, tx)


def pmap_programs(
  placement: Placement, loss_fn: LossFn, tx: optax.GradientTransformation
) -> UpdatePrograms:
  """Every device holds a replica and differentiates on its own rows."""

  def grad(params, batch):
    return jax.lax.psum(gradient(loss_fn, params, batch), 'data')

  def step(state, batch):
    return apply_gradient(tx, state, *grad(state.params, batch))

  def accumulate(total, params, batch):
    return _add(total, grad(params, batch))

  def apply(state, total):
    return apply_gradient(tx, state, *total)

  pmap = functools.partial(jax.pmap, axis_name='data', out_axes=None)
  return UpdatePrograms(
    step=pmap(step, in_axes=(None, 0), donate_argnums=0),
    grad=pmap(grad, in_axes=(None, 0)),
    accumulate=pmap(accumulate, in_axes=(None, None, 0), donate_argnums=0),
    apply=jax.jit(apply, donate_argnums=0),
  )


def mesh_programs(
  placement: Placement, loss_fn: LossFn, tx: optax.GradientTransformation
) -> UpdatePrograms:
  """Every device holds a part of each leaf and differentiates on its rows.

  Several micro-batches are summed within a slice, and between slices once.
  """
  slice_axes = placement.slice_axes
  grad = sharded_gradient(placement, loss_fn)
  grad_of_slice = sharded_gradient(placement, loss_fn, slice_axes)

  def step(state, batch):
    return apply_gradient(tx, state, *grad(state.params, batch))

  def accumulate(total, params, batch):
    return _add(total, grad_of_slice(params, batch))

  def sum_over_slices(x):
    return x.sum(tuple(range(len(slice_axes))))

  def apply(state, total):
    return apply_gradient(tx, state, *jax.tree.map(sum_over_slices, total))

  return UpdatePrograms(
    step=jax.jit(step, donate_argnums=0),
    grad=jax.jit(grad_of_slice),
    accumulate=jax.jit(accumulate, donate_argnums=0),
    apply=jax.jit(apply, donate_argnums=0),
  )


def sharded_gradient(
  placement: Placement, loss_fn: LossFn, keep_axes: tuple[str, ...] = ()
) -> Callable[[Params, Batch], tuple[Params, Sums]]:
  """(params, batch) -> (gradients, sums), each device differentiating on its
  own parts the sum over all devices of loss / copies (see models/sharding.py).

  Leaves are summed over the mesh axes along which they are not sharded. The
  axes `keep_axes` are not summed: they lead the result's axes instead.
  """
  axes = [axis for axis in placement.mesh.axis_names if axis not in keep_axes]
  row_axes = [axis for axis in axes if axis != 'model']
  copies = placement.mesh.shape['model']  # of every row's loss

  def loss_of_copy(params, batch):
    loss, sums = loss_fn(params, batch)
    return loss / copies, sums

  def sum_where_replicated(grad, spec):
    return jax.lax.psum(grad, [axis for axis in axes if axis not in spec])

  def lead_with_kept_axes(x):
    return x[(None,) * len(keep_axes)]

  def program(params, batch):
    specs = device_placement.specs(placement, params)

    def on_each_device(params, batch):
      grads, sums = gradient(loss_of_copy, params, batch)
      grads = jax.tree.map(sum_where_replicated, grads, specs)
      sums = jax.lax.psum(sums, row_axes)
      return jax.tree.map(lead_with_kept_axes, (grads, sums))

    out_specs = (
      jax.tree.map(lambda spec: P(*keep_axes, *spec), specs),
      P(*keep_axes),
    )
    in_specs = (specs, placement.row_spec)
    return programs.on_each_device(
      placement, on_each_device, in_specs, out_specs
    )(params, batch)

  return program


def update(
  placement: Placement,
  compiled: UpdatePrograms,
  state: TrainState,
  micro_batches: Sequence[Batch],
) -> tuple[TrainState, Sums]:
  """(state, sums) after one update from the sum of the micro-batches'
  gradients. Each micro-batch may have a shape of its own. Donates the state.
  """
  batches = [
    device_placement.put_rows(placement, batch) for batch in micro_batches
  ]
  if len(batches) == 1:
    return compiled.step(state, batches[0])
  total = compiled.grad(state.params, batches[0])
  for batch in batches[1:]:
    total = compiled.accumulate(total, state.params, batch)
  return compiled.apply(state, total)


def _add(a, b):
  return jax.tree.map(jnp.add, a, b)
