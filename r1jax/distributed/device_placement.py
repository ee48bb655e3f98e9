"""Where arrays live: replicas under pmap, or parts over a mesh of ('slice',)
'data' and 'model'; host arrays to devices and back, over all hosts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax import errors
from r1jax.config import option
from r1jax.distributed import hosts, watchdog
from r1jax.models import transformer


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
  strategy: str = option('pmap', 'pmap: a replica a device; mesh: sharded')
  tensor_parallel: int = option(
    1, "devices on the mesh's 'model' axis", least=1
  )
  slices: int = option(
    1, 'slices of TPUs, of which each holds all parameters', least=1
  )
  rollout_devices: int = option(
    0, 'devices that draw while the others learn; 0: all do both', least=0
  )


@dataclasses.dataclass(frozen=True)
class Placement:
  strategy: str
  mesh: Mesh

  @property
  def devices(self):
    return list(self.mesh.devices.flat)

  @property
  def row_spec(self):
    """The axes along which the rows of a batch are cut."""
    return P(tuple(x for x in self.mesh.axis_names if x != 'model'))

  @property
  def slice_axes(self):
    """The axes between slices."""
    return tuple(x for x in self.mesh.axis_names if x == 'slice')

  @property
  def num_shards(self):
    """How many shards the rows of a batch are cut into."""
    return self.mesh.size // self.mesh.shape.get('model', 1)


def check(c, count):
  """Refuses what so many devices cannot share."""
  if c.strategy not in ('pmap', 'mesh'):
    raise errors.UserError(
      f"config.parallel.strategy is '{c.strategy}'; it can be pmap or mesh"
    )
  size = c.slices * c.tensor_parallel
  if count % size or (c.strategy == 'pmap' and size > 1):
    raise errors.UserError(
      f'config.parallel.tensor_parallel is {c.tensor_parallel} and slices {c.slices}: their product '
      f'must divide the {count} devices, and be 1 under pmap'
    )


def placement(c, devices=None):
  """All devices, or those given, as c says."""
  devices = devices or jax.devices()
  check(c, len(devices))
  grid = np.array(devices).reshape(c.slices, -1, c.tensor_parallel)
  axes = ('slice', 'data', 'model')
  if c.strategy == 'pmap':
    # pmap's own mesh: under another one its output would be a new kind of
    # input, and every program compiled a second time.
    devices = sorted(devices, key=lambda device: device.process_index)
    grid = np.array(devices).reshape(1, -1, 1)
    grid, axes = grid[0, :, 0], ('data',)
  elif c.slices == 1:
    grid, axes = grid[0], axes[1:]
  return Placement(
    c.strategy, Mesh(grid, axes, axis_types=(AxisType.Auto,) * grid.ndim)
  )


def placements(c):
  """(placement of what learns, placement of what draws)."""
  devices = jax.devices()
  if not c.rollout_devices:
    place = placement(c, devices)
    return place, place
  if hosts.count() > 1 or c.rollout_devices >= len(devices):
    raise errors.UserError(
      f'config.parallel.rollout_devices is {c.rollout_devices}: it can be less than the '
      f'{len(devices)} devices of a single host; this run has {hosts.count()}'
    )
  return placement(c, devices[: -c.rollout_devices]), placement(
    c, devices[-c.rollout_devices :]
  )


def shardings(place, tree, front=()):
  """The NamedSharding of every leaf of a tree of parameters or of a state, or
  of parts of a sum over the axes `front`, which lie in front."""

  def one(path, leaf):
    names = [str(getattr(k, 'key', getattr(k, 'name', ''))) for k in path]
    spec = (
      transformer.PARTITION.get(names[-1], P())
      if place.strategy == 'mesh'
      else P()
    )
    spec = P(*front, *spec) if leaf.ndim > len(front) else P(*front)
    for axis, name in enumerate(spec):
      if name and leaf.shape[axis] % place.mesh.shape[name]:
        raise errors.UserError(
          f'{"/".join(names)} has {leaf.shape[axis]} along axis {axis}, which '
          f"the {place.mesh.shape[name]} devices of the mesh's '{name}' axis "
          'do not divide: change config.parallel.tensor_parallel'
        )
    return NamedSharding(place.mesh, spec)

  return jax.tree_util.tree_map_with_path(one, tree)


def shapes(place, tree, front=()):
  """What put_state(place, tree) gives, as ShapeDtypeStructs: a program can be
  compiled for devices that are not here."""

  def like(a, s):
    return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)

  return jax.tree.map(like, tree, shardings(place, tree, front))


def row_shapes(place, tree):
  """The same of put_rows; under a mesh."""
  s = NamedSharding(place.mesh, place.row_spec)

  def like(a):
    return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)

  return jax.tree.map(like, tree)


def put_state(place, tree):
  """Parameters or a state, the same on the hosts of all, replicated or sharded
  as the placement says. Under pmap a host's devices alone hold its arrays."""
  return jax.tree.map(_put, tree, shardings(own_devices(place), tree))


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


def own_devices(place):
  """Where a state lies: under pmap every host has one of its own."""
  if place.strategy == 'mesh':
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
  if place.strategy == 'mesh':
    sharding = NamedSharding(place.mesh, place.row_spec)
    return jax.tree.map(lambda a: _put(a, sharding), tree)
  here = [d.process_index == hosts.index() for d in place.devices]
  own = slice(here.index(True), here.index(True) + sum(here))

  def cut(a):
    return np.reshape(a, (place.num_shards, -1) + np.shape(a)[1:])[own]

  return jax.tree.map(cut, tree)


def get_rows(place, tree):
  """The rows of all devices back to host arrays [B, ...], on all hosts."""
  if hosts.count() == 1:
    tree = jax.device_get(tree)
  else:
    tree = multihost_utils.process_allgather(tree, tiled=True)
  watchdog.heartbeat()
  if place.strategy == 'mesh':
    return tree

  def join(a):
    return np.reshape(a, (-1,) + np.shape(a)[2:])

  return jax.tree.map(join, tree)


def specs(place, tree):
  """The PartitionSpec of every leaf."""
  return jax.tree.map(lambda s: s.spec, shardings(place, tree))
