"""The gradients of a loss on the devices of a mesh, and their sums over
micro-batches."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement

Params = dict
Batch = dict
Sums = dict  # sums of weight * x by name, beside 'weight'; 'loss' among them
# (params, batch) -> (scalar, sums); the scalar is a sum over the batch's rows.
LossFn = Callable[[Params, Batch], tuple[jax.Array, Sums]]
Total = tuple[Params, Sums]  # (gradients, sums) of one or more micro-batches


def gradient(loss_fn: LossFn, params: Params, batch: Batch) -> Total:
  """(gradients, sums) of loss_fn at params."""
  (_, sums), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch)
  return grads, sums


def add_gradient(
  loss_fn: LossFn,
  grads: Params,
  params: Params,
  batch: Batch,
  axes: Sequence[tuple[str, ...]],
  row_axes: tuple[str, ...],
) -> Total:
  """(grads with the gradients of another micro-batch, its sums). The gradient of
  each leaf is summed over its mesh `axes`. Where it has none, the backward pass
  adds to `grads` in place, so that no second gradient is in memory."""
  leaves, tree = jax.tree.flatten(grads)
  refs = [
    jax.new_ref(jnp.zeros_like(leaf) if names else leaf)
    for leaf, names in zip(leaves, axes, strict=True)
  ]
  backward: Any  # jax.vjp's annotation lacks with_refs
  loss, backward, sums = jax.vjp(
    lambda params: loss_fn(params, batch), params, has_aux=True
  )
  backward.with_refs(jax.tree.unflatten(tree, refs))(jnp.ones_like(loss))
  added = [
    leaf + jax.lax.psum(jax.freeze(ref), names) if names else jax.freeze(ref)
    for leaf, ref, names in zip(leaves, refs, axes)
  ]
  return jax.tree.unflatten(tree, added), jax.lax.psum(sums, row_axes)


def zeros(placement: Placement) -> Callable:
  """(params) -> gradients of zeros, with placement.slice_axes as leading axes."""
  front = placement.slice_axes

  def zeros(params):
    specs = device_placement.specs(placement, params)

    def on_each_device(params):
      return jax.tree.map(
        lambda x: jnp.zeros_like(x)[(None,) * len(front)], params
      )

    out_specs = jax.tree.map(lambda spec: P(*front, *spec), specs)
    return jax.shard_map(
      on_each_device,
      mesh=placement.mesh,
      in_specs=(specs,),
      out_specs=out_specs,
      check_vma=False,
    )(params)

  return zeros


def sharded_gradient(placement: Placement, loss_fn: LossFn) -> Callable:
  """(params, batch) -> total. Each device differentiates loss / tensor_parallel
  on its own shards. Gradients are summed over the mesh axes along which a leaf
  is not sharded."""
  mesh = placement.mesh
  axes = mesh.axis_names
  loss_of_copy = _loss_of_copy(mesh, loss_fn)

  def sum_where_replicated(grad, spec):
    return jax.lax.psum(grad, [axis for axis in axes if axis not in spec])

  def grad(params, batch):
    specs = device_placement.specs(placement, params)

    def on_each_device(params, batch):
      grads, sums = gradient(loss_of_copy, params, batch)
      grads = jax.tree.map(sum_where_replicated, grads, specs)
      sums = jax.lax.psum(sums, [axis for axis in axes if axis != 'model'])
      return grads, sums

    return jax.shard_map(
      on_each_device,
      mesh=mesh,
      in_specs=(specs, placement.row_spec),
      out_specs=(specs, P()),
      check_vma=False,
    )(params, batch)

  return grad


def sharded_accumulation(placement: Placement, loss_fn: LossFn) -> Callable:
  """(grads, params, batch) -> total: add_gradient on the devices' own shards,
  with the loss of sharded_gradient. Gradients and sums have placement.slice_axes
  as leading axes: between slices nothing is summed."""
  mesh, front = placement.mesh, placement.slice_axes
  loss_of_copy = _loss_of_copy(mesh, loss_fn)
  sizes = {axis: n for axis, n in mesh.shape.items() if axis not in front}
  row_axes = tuple(axis for axis in sizes if axis != 'model')

  def accumulate(grads, params, batch):
    specs = device_placement.specs(placement, params)
    axes = [
      tuple(axis for axis, n in sizes.items() if n > 1 and axis not in spec)
      for spec in jax.tree.leaves(specs)
    ]

    def on_each_device(grads, params, batch):
      grads = jax.tree.map(lambda x: x[(0,) * len(front)], grads)
      args = loss_of_copy, grads, params, batch, axes, row_axes
      return jax.tree.map(
        lambda x: x[(None,) * len(front)], add_gradient(*args)
      )

    grad_specs = jax.tree.map(lambda spec: P(*front, *spec), specs)
    return jax.shard_map(
      on_each_device,
      mesh=mesh,
      in_specs=(grad_specs, specs, placement.row_spec),
      out_specs=(grad_specs, P(*front)),
      check_vma=False,
    )(grads, params, batch)

  return accumulate


def _loss_of_copy(mesh, loss_fn):
  """loss_fn whose scalar is a part of the sum over the devices of 'model'."""

  def loss_of_copy(params, batch):
    loss, sums = loss_fn(params, batch)
    return loss / mesh.shape['model'], sums

  return loss_of_copy
