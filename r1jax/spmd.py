"""Pure functions as one program on many devices: under pmap, or per device of a
mesh (shard_map). One device, pmap and mesh give the same numbers."""

import dataclasses
import functools
from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P

from r1jax import parallel, train
from r1jax import split as splits


def on(place, cfg):
  """The model's config for what runs on each of these devices."""
  if place.kind == 'pmap':
    return cfg
  cut = tuple(
    (name, spec.index('data') - len(spec))
    for name, spec in parallel.TABLE.items()
    if 'data' in spec
  )
  split = splits.Split(place.mesh.shape['model'], cut)
  return dataclasses.replace(cfg, split=split)


def each(place, fn, in_specs, out_specs):
  """fn as every device of a mesh runs it, on its own parts."""
  return jax.shard_map(
    fn, mesh=place.mesh, in_specs=in_specs, out_specs=out_specs,
    check_vma=False,
  )  # fmt: skip


def rows_program(place, fn):
  """The jitted fn(params, rows) -> rows, run by every device."""
  if place.kind == 'pmap':
    return jax.pmap(
      fn, axis_name='data', in_axes=(None, 0), devices=_others(place)
    )

  @jax.jit
  def program(params, rows):
    parts = parallel.specs(place, params), place.row_spec
    return each(place, fn, parts, place.row_spec)(params, rows)

  return program


def _others(place):
  """The devices of a placement for pmap, None where they are its default."""
  devices = place.devices
  return None if devices == jax.devices()[: len(devices)] else devices


def map_rows(place, make, cfg):
  """fn(params, rows) -> rows, run by every device on its own rows; make(cfg)
  gives fn for the model's config on one device. A loop in fn may end on each
  device by itself: it never waits for the rows of others."""
  program = rows_program(place, make(on(place, cfg)))
  return lambda params, rows: parallel.get_rows(
    place, program(params, parallel.put_rows(place, rows))
  )


@dataclasses.dataclass(frozen=True)
class Programs:
  """The jitted parts of an update, by micro-batches."""

  whole: Callable  # (state, batch) -> (state, sums), of a single one
  first: Callable  # (params, batch) -> (gradients, sums)
  more: Callable  # (part, params, batch) -> part: the sum with one more
  last: Callable  # (state, part) -> (state, sums)


def train_programs(place, loss_fn, tx):
  """The Programs of an update; states and parts are donated."""
  gradient, update = train.make_gradient(loss_fn), train.make_update(tx)
  add = functools.partial(jax.tree.map, lambda a, b: a + b)
  if place.kind == 'pmap':
    total = lambda tree: jax.lax.psum(tree, 'data')
    over_rows = functools.partial(jax.pmap, axis_name='data', out_axes=None)
    return Programs(
      over_rows(
        train.make_step(loss_fn, tx, total), in_axes=(None, 0), donate_argnums=0
      ),
      over_rows(
        lambda params, batch: total(gradient(params, batch)), in_axes=(None, 0)
      ),
      over_rows(
        lambda part, params, batch: add(part, total(gradient(params, batch))),
        in_axes=(None, None, 0), donate_argnums=0,
      ),
      jax.jit(lambda state, part: update(state, *part), donate_argnums=0),
    )  # fmt: skip
  gradient = split_gradient(place, loss_fn)
  # What the micro-batches of a slice add up to goes between slices once.
  apart = split_gradient(place, loss_fn, place.far)
  front = tuple(range(len(place.far)))
  total = functools.partial(jax.tree.map, lambda x: x.sum(front))
  return Programs(
    jax.jit(
      lambda state, batch: update(state, *gradient(state.params, batch)),
      donate_argnums=0,
    ),
    jax.jit(apart),
    jax.jit(
      lambda part, params, batch: add(part, apart(params, batch)),
      donate_argnums=0,
    ),
    jax.jit(lambda state, part: update(state, *total(part)), donate_argnums=0),
  )


def split_gradient(place, loss_fn, apart=()):
  """(params, batch) -> (gradients, sums) with every device differentiating on
  its own parts: the sum over devices of loss / copies, see split.py. Leaves
  are summed over the axes along which they are not cut, but for the axes
  `apart`, which they have in front."""
  axes = [axis for axis in place.mesh.axis_names if axis not in apart]
  rows = [axis for axis in axes if axis != 'model']
  copies = place.mesh.shape['model']  # of every row's loss

  def part(params, batch):
    loss, sums = loss_fn(params, batch)
    return loss / copies, sums

  def program(params, batch):
    cut = parallel.specs(place, params)

    def total(g, spec):
      return jax.lax.psum(g, [axis for axis in axes if axis not in spec])

    def fn(params, batch):
      grads, sums = train.make_gradient(part)(params, batch)
      found = jax.tree.map(total, grads, cut), jax.lax.psum(sums, rows)
      return jax.tree.map(lambda x: x[(None,) * len(apart)], found)

    out = jax.tree.map(lambda spec: P(*apart, *spec), cut), P(*apart)
    return each(place, fn, (cut, place.row_spec), out)(params, batch)

  return program


def train_step(place, loss_fn, tx):
  """step(state, micro_batches) -> (state, sums): one update from the sum of
  the micro-batches' gradients, each of a shape of its own. The state is
  donated; one micro-batch is one program."""
  do = train_programs(place, loss_fn, tx)

  def step(state, micro_batches):
    batches = [parallel.put_rows(place, batch) for batch in micro_batches]
    if len(batches) == 1:
      return do.whole(state, batches[0])
    part = do.first(state.params, batches[0])
    for batch in batches[1:]:
      part = do.more(part, state.params, batch)
    return do.last(state, part)

  return step
