"""Where arrays live and how pure functions run on them: replicas under pmap, or
one program over a ('data', 'model') mesh. One device, pmap and mesh give the
same numbers."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax import errors, hosts, train, watch
from r1jax import split as splits
from r1jax.config import option

# FSDP over 'data' and tensor parallelism over 'model', by the leaf's name. The
# optimiser's moments bear the same names.
TABLE = dict(
  embed=P('model', 'data'),
  head=P('model', 'data'),
  qkv=P(None, 'data', 'model', None, None),
  qkv_bias=P(None, 'model'),
  out=P(None, 'model', None, None, 'data'),
  gate_up=P(None, 'data', None, 'model'),
  down=P(None, 'model', 'data'),
)


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
  kind: str = option('pmap', 'pmap: a replica a device; mesh: sharded')
  model: int = option(1, "devices on the mesh's 'model' axis", least=1)
  slices: int = option(
    1, 'slices of TPUs, of which each holds all parameters', least=1
  )


@dataclasses.dataclass(frozen=True)
class Placement:
  kind: str
  mesh: Mesh

  @property
  def devices(self):
    return list(self.mesh.devices.flat)

  @property
  def row_spec(self):
    """The axes along which the rows of a batch are cut."""
    return P(tuple(x for x in self.mesh.axis_names if x != 'model'))

  @property
  def rows(self):
    """How many shards the rows of a batch are cut into."""
    return self.mesh.size // self.mesh.shape.get('model', 1)


def placement(c, devices=None):
  """All devices, or those given, as c says."""
  devices = devices or jax.devices()
  if c.kind not in ('pmap', 'mesh'):
    raise errors.UserError(
      f"config.parallel.kind is '{c.kind}'; it can be pmap or mesh"
    )
  size = c.slices * c.model
  if len(devices) % size or (c.kind == 'pmap' and size > 1):
    raise errors.UserError(
      f'config.parallel.model is {c.model} and slices {c.slices}: their product '
      f'must divide the {len(devices)} devices, and be 1 under pmap'
    )
  grid = np.array(devices).reshape(c.slices, -1, c.model)
  axes = ('slice', 'data', 'model')
  if c.kind == 'pmap':
    # pmap's own mesh: under another one its output would be a new kind of
    # input, and every program compiled a second time.
    devices = sorted(devices, key=lambda device: device.process_index)
    grid = np.array(devices).reshape(1, -1, 1)
    grid, axes = grid[0, :, 0], ('data',)
  elif c.slices == 1:
    grid, axes = grid[0], axes[1:]
  return Placement(
    c.kind, Mesh(grid, axes, axis_types=(AxisType.Auto,) * grid.ndim)
  )


def shardings(place, tree):
  """The NamedSharding of every leaf of a tree of parameters or of a state."""

  def one(path, leaf):
    names = [str(getattr(k, 'key', getattr(k, 'name', ''))) for k in path]
    spec = TABLE.get(names[-1], P()) if place.kind == 'mesh' else P()
    if not leaf.ndim:
      spec = P()
    for axis, name in enumerate(spec):
      if name and leaf.shape[axis] % place.mesh.shape[name]:
        raise errors.UserError(
          f'{"/".join(names)} has {leaf.shape[axis]} along axis {axis}, which '
          f"the {place.mesh.shape[name]} devices of the mesh's '{name}' axis "
          'do not divide: change config.parallel.model'
        )
    return NamedSharding(place.mesh, spec)

  return jax.tree_util.tree_map_with_path(one, tree)


def shapes(place, tree):
  """What put_state(place, tree) gives, as ShapeDtypeStructs: a program can be
  compiled for devices that are not here."""
  like = lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)
  return jax.tree.map(like, tree, shardings(place, tree))


def row_shapes(place, tree):
  """The same of put_rows; under a mesh."""
  s = NamedSharding(place.mesh, place.row_spec)
  like = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)
  return jax.tree.map(like, tree)


def put_state(place, tree):
  """Parameters or a state, the same on the hosts of all, replicated or sharded
  as the placement says. Under pmap a host's devices alone hold its arrays."""
  return jax.tree.map(_put, tree, shardings(_own(place), tree))


def new_state(place, params, tx):
  """The state of a run that begins with parameters on the host; no device has
  more than its part of it at any time."""
  params = put_state(place, params)
  rest = lambda params: train.new_state(params, tx).replace(params=None)
  where = shardings(_own(place), jax.eval_shape(rest, params))
  return jax.jit(rest, out_shardings=where)(params).replace(params=params)


def get_state(tree):
  """Parameters back on the host. With several hosts the first alone has them;
  the others help, leaf by leaf and layer by layer, and have None."""
  first = hosts.index() == 0

  def one(path, leaf):
    if leaf.is_fully_addressable or leaf.is_fully_replicated:
      return np.asarray(leaf) if first else None
    if not any(getattr(key, 'key', '') == 'layers' for key in path):
      whole = multihost_utils.process_allgather(leaf, tiled=True)
      return whole if first else None
    out = np.empty(leaf.shape, leaf.dtype) if first else None
    for n in range(len(leaf)):
      layer = multihost_utils.process_allgather(leaf[n], tiled=True)
      if first:
        out[n] = layer
    return out

  return jax.tree_util.tree_map_with_path(one, tree)


def _own(place):
  """Where a state lies: under pmap every host has one of its own."""
  if place.kind == 'mesh':
    return place
  return dataclasses.replace(place, mesh=place.mesh.local_mesh)


def _put(a, sharding):
  if sharding.is_fully_addressable:
    return jax.device_put(a, sharding)
  # device_put would compare what all hosts give it, by way of the devices.
  a = np.asarray(a)
  return jax.make_array_from_callback(a.shape, sharding, lambda index: a[index])


@jax.jit
def copy(tree):
  """The same arrays in buffers of their own, which outlive a donation."""
  return jax.tree.map(jnp.copy, tree)


def put_rows(place, tree):
  """Host arrays [B, ...], the same on all hosts, to devices: a global array
  under a mesh, under pmap the part [D, B / D, ...] of this host's devices."""
  if place.kind == 'mesh':
    sharding = NamedSharding(place.mesh, place.row_spec)
    return jax.tree.map(lambda a: _put(a, sharding), tree)
  here = [d.process_index == hosts.index() for d in place.devices]
  own = slice(here.index(True), here.index(True) + sum(here))
  cut = lambda a: np.reshape(a, (place.rows, -1) + np.shape(a)[1:])[own]
  return jax.tree.map(cut, tree)


def get_rows(place, tree):
  """The rows of all devices back to host arrays [B, ...], on all hosts."""
  if hosts.count() == 1:
    tree = jax.device_get(tree)
  else:
    tree = multihost_utils.process_allgather(tree, tiled=True)
  watch.beat()
  if place.kind == 'mesh':
    return tree
  join = lambda a: np.reshape(a, (-1,) + np.shape(a)[2:])
  return jax.tree.map(join, tree)


def on(place, cfg):
  """The model's config for what runs on each of these devices."""
  if place.kind == 'pmap':
    return cfg
  cut = tuple(
    (name, spec.index('data') - len(spec))
    for name, spec in TABLE.items()
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


def specs(place, tree):
  """The PartitionSpec of every leaf."""
  return jax.tree.map(lambda s: s.spec, shardings(place, tree))


def rows_program(place, fn):
  """The jitted fn(params, rows) -> rows, run by every device."""
  if place.kind == 'pmap':
    return jax.pmap(fn, axis_name='data', in_axes=(None, 0))

  @jax.jit
  def program(params, rows):
    parts = specs(place, params), place.row_spec
    return each(place, fn, parts, place.row_spec)(params, rows)

  return program


def map_rows(place, make, cfg):
  """fn(params, rows) -> rows, run by every device on its own rows; make(cfg)
  gives fn for the model's config on one device. A loop in fn may end on each
  device by itself: it never waits for the rows of others."""
  program = rows_program(place, make(on(place, cfg)))
  return lambda params, rows: get_rows(
    place, program(params, put_rows(place, rows))
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
  last = jax.jit(lambda state, part: update(state, *part), donate_argnums=0)
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
      last,
    )  # fmt: skip
  gradient = split_gradient(place, loss_fn)
  return Programs(
    jax.jit(
      lambda state, batch: update(state, *gradient(state.params, batch)),
      donate_argnums=0,
    ),
    jax.jit(gradient),
    jax.jit(
      lambda part, params, batch: add(part, gradient(params, batch)),
      donate_argnums=0,
    ),
    last,
  )


def split_gradient(place, loss_fn):
  """(params, batch) -> (gradients, sums) with every device differentiating on
  its own parts: the sum over devices of loss / copies, see split.py. Leaves
  are summed over the axes along which they are not cut."""
  axes = place.mesh.axis_names
  rows = [axis for axis in axes if axis != 'model']
  copies = place.mesh.shape['model']  # of every row's loss

  def part(params, batch):
    loss, sums = loss_fn(params, batch)
    return loss / copies, sums

  def program(params, batch):
    cut = specs(place, params)

    def total(g, spec):
      return jax.lax.psum(g, [axis for axis in axes if axis not in spec])

    def fn(params, batch):
      grads, sums = train.make_gradient(part)(params, batch)
      return jax.tree.map(total, grads, cut), jax.lax.psum(sums, rows)

    return each(place, fn, (cut, place.row_spec), (cut, P()))(params, batch)

  return program


def train_step(place, loss_fn, tx):
  """step(state, micro_batches) -> (state, sums): one update from the sum of
  the micro-batches' gradients, each of a shape of its own. The state is
  donated; one micro-batch is one program."""
  do = train_programs(place, loss_fn, tx)

  def step(state, micro_batches):
    batches = [put_rows(place, batch) for batch in micro_batches]
    if len(batches) == 1:
      return do.whole(state, batches[0])
    part = do.first(state.params, batches[0])
    for batch in batches[1:]:
      part = do.more(part, state.params, batch)
    return do.last(state, part)

  return step
