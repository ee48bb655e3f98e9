"""What a run's programs are made of, in bytes of one device."""

import dataclasses
import functools
import math

import jax

from r1jax import errors
from r1jax.models import transformer


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What all programs are made of, on one device."""

  parameters: float  # float32, cut as in training
  optimiser: float
  weights: float  # in the products' dtype, whole over 'data': the rollout's
  layer: float  # elements of one layer, whole over 'data'
  table: float  # elements of the head, whole over 'data'
  embed: float  # the same of the embedding
  cache: float  # of all slots
  prompt_kv: float


def width(plan):
  """Bytes of a number in the matrix products."""
  return 2 if plan.cfg.dtype == 'bfloat16' else 4


def of(plan):
  """The Sizes, from the shapes of the parameters and the table of specs."""
  cfg, w, axes = plan.cfg, width(plan), plan.axes
  cut, whole, layer, tables = 0, 0, 0, {}
  specs = {} if plan.c.parallel.strategy == 'pmap' else transformer.PARTITION
  for path, leaf in leaves(cfg):
    name = path[-1].key
    spec = specs.get(name, ())
    loops = tuple(None if axis == 'data' else axis for axis in spec)
    cut += 4 * local(name, leaf.shape, spec, axes)
    here = local(name, leaf.shape, loops, axes)
    whole += here * (w if name in transformer.PARTITION else 4)
    if path[0].key == 'layers':
      layer += here / cfg.layers
    tables[name] = here
  column = 2 * w * cfg.layers * cfg.kv_heads * cfg.head_dim
  column /= plan.c.parallel.tensor_parallel
  return Sizes(
    cut,
    2 * cut,
    whole,
    layer,
    tables[transformer.table(cfg)],
    tables['embed'],
    plan.slots * plan.row_len * column,
    plan.prompts * plan.prompt_len * column,
  )


def leaves(cfg):
  """(path, shape) of every parameter."""
  # How it is computed does not matter here; so one tree serves many plans.
  plain = dict(dtype='float32', remat='none', attention='einsum', head_chunk=1)
  return _leaves(dataclasses.replace(cfg, **plain))


@functools.cache
def _leaves(cfg):
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  return jax.tree_util.tree_leaves_with_path(shapes)


def local(name, shape, spec, axes):
  """How many elements of a parameter lie on one device."""
  size = math.prod(shape)
  for length, axis in zip(shape, spec):
    devices = dict(axes).get(axis, 1)
    if length % devices:
      raise errors.UserError(
        f'{name} has {length} along an axis that the {devices} devices of '
        f"'{axis}' do not divide: change config.parallel.tensor_parallel or --topology"
      )
    size /= devices
  return size
