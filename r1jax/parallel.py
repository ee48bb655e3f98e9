"""Where arrays live and how pure functions run on them: replicas under pmap, or
one program over a ('data', 'model') mesh. One device, pmap and mesh give the
same numbers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax import errors, train
from r1jax.config import option

# FSDP over 'data' and tensor parallelism over 'model', by the leaf's name. The
# optimiser's moments bear the same names.
TABLE = dict(
  embed=P('model', 'data'),
  head=P('model', 'data'),
  qkv=P(None, 'data', 'model'),
  qkv_bias=P(None, 'model'),
  out=P(None, 'model', None, None, 'data'),
  gate_up=P(None, 'data', None, 'model'),
  down=P(None, 'model', 'data'),
)
# Where groups of devices take turns of their own, weights are whole over 'data'
# and the tables are cut along D: the logits then come whole. Cut along V they
# would be shifted by collective-permutes, in which each waits for all: a hang.
IN_LOOPS = {
  name: P(*(None if axis == 'data' else axis for axis in spec))
  for name, spec in TABLE.items()
} | dict(embed=P(None, 'model'), head=P(None, 'model'))


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
  kind: str = option('pmap', 'pmap: a replica a device; mesh: sharded')
  model: int = option(1, "devices on the mesh's 'model' axis", least=1)


@dataclasses.dataclass(frozen=True)
class Placement:
  kind: str
  mesh: Mesh

  @property
  def devices(self):
    return list(self.mesh.devices.flat)

  @property
  def rows(self):
    """How many shards the rows of a batch are cut into."""
    return self.mesh.shape['data']


def placement(c, devices=None):
  """All devices, or those given, as c says."""
  devices = devices or jax.devices()
  if c.kind not in ('pmap', 'mesh'):
    raise errors.UserError(
      f"config.parallel.kind is '{c.kind}'; it can be pmap or mesh"
    )
  if len(devices) % c.model or (c.kind == 'pmap' and c.model > 1):
    raise errors.UserError(
      f'config.parallel.model is {c.model}: it must divide the {len(devices)} '
      'devices, and be 1 under pmap'
    )
  grid, axes = np.array(devices).reshape(-1, c.model), ('data', 'model')
  if c.kind == 'pmap':
    # pmap's own mesh: under another one its output would be a new kind of
    # input, and every program compiled a second time.
    grid, axes = grid[:, 0], axes[:1]
  return Placement(
    c.kind, Mesh(grid, axes, axis_types=(AxisType.Auto,) * grid.ndim)
  )


def shardings(place, tree, table=TABLE):
  """The NamedSharding of every leaf of a tree of parameters or of a state."""

  def one(path, leaf):
    names = [str(getattr(k, 'key', getattr(k, 'name', ''))) for k in path]
    spec = table.get(names[-1], P()) if place.kind == 'mesh' else P()
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


def put_state(place, tree):
  """Parameters or a state, replicated or sharded as the placement says."""
  return jax.device_put(tree, shardings(place, tree))


@jax.jit
def copy(tree):
  """The same arrays in buffers of their own, which outlive a donation."""
  return jax.tree.map(jnp.copy, tree)


def put_rows(place, tree):
  """Host arrays [B, ...] to devices: [D, B / D, ...] under pmap, a global
  array under a mesh."""
  if place.kind == 'mesh':
    return jax.device_put(tree, NamedSharding(place.mesh, P('data')))
  cut = lambda a: np.reshape(a, (place.rows, -1) + np.shape(a)[1:])
  return jax.tree.map(cut, tree)


def get_rows(place, tree):
  """Device rows back to host arrays [B, ...]."""
  tree = jax.device_get(tree)
  if place.kind == 'mesh':
    return tree
  join = lambda a: np.reshape(a, (-1,) + np.shape(a)[2:])
  return jax.tree.map(join, tree)


def map_rows(place, fn):
  """fn(params, rows) -> rows, run by every device on its own rows."""
  if place.kind == 'pmap':
    placed = jax.pmap(fn, axis_name='data', in_axes=(None, 0))
  else:
    placed = jax.jit(fn)
  return lambda params, rows: get_rows(
    place, placed(params, put_rows(place, rows))
  )


def map_loops(place, fn):
  """The same for a fn with a loop of its own on every device: it never waits
  for the rows of the others. The weights are gathered over 'data' once."""
  if place.kind == 'pmap':
    return map_rows(place, fn)
  shared = jax.shard_map(
    fn, mesh=place.mesh, in_specs=(P(), P('data')), out_specs=P('data'),
    axis_names={'data'}, check_vma=False,
  )  # fmt: skip
  placed = jax.jit(shared)

  def call(params, rows):
    params = jax.device_put(params, shardings(place, params, IN_LOOPS))
    return get_rows(place, placed(params, put_rows(place, rows)))

  return call


def train_step(place, loss_fn, tx):
  """step(state, micro_batches) -> (state, sums): one update from the sum of
  the micro-batches' gradients, each of a shape of its own. The state is
  donated; one micro-batch is one program."""
  gradient, update = train.make_gradient(loss_fn), train.make_update(tx)
  add = functools.partial(jax.tree.map, lambda a, b: a + b)
  if place.kind == 'pmap':
    total = lambda tree: jax.lax.psum(tree, 'data')
    over_rows = functools.partial(jax.pmap, axis_name='data', out_axes=None)
  else:
    total = lambda tree: tree
    over_rows = lambda fn, in_axes, **kw: jax.jit(fn, **kw)
  whole = over_rows(
    train.make_step(loss_fn, tx, total), in_axes=(None, 0), donate_argnums=0
  )
  first = over_rows(
    lambda params, batch: total(gradient(params, batch)), in_axes=(None, 0)
  )
  more = over_rows(
    lambda part, params, batch: add(part, total(gradient(params, batch))),
    in_axes=(None, None, 0), donate_argnums=0,
  )  # fmt: skip
  last = jax.jit(lambda state, part: update(state, *part), donate_argnums=0)

  def step(state, micro_batches):
    batches = [put_rows(place, batch) for batch in micro_batches]
    if len(batches) == 1:
      return whole(state, batches[0])
    part = first(state.params, batches[0])
    for batch in batches[1:]:
      part = more(part, state.params, batch)
    return last(state, part)

  return step
