"""The collectives of a compiled program: kind, size, and the mesh axes along
which they communicate."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from r1jax.preflight.compiler.hlo import Computation, Module, Op
from r1jax.preflight.plan import Axes

KINDS = (
  'all-gather all-reduce reduce-scatter all-to-all ragged-all-to-all '
  'collective-permute'
).split()
# [2,4]<=[8], [2,4]<=[4,2]T(1,0): numbers in order, reshaped and transposed.
IOTA = r'\[([\d,]+)\](?:T\(([\d,]+)\))?'


@dataclasses.dataclass(frozen=True)
class Collective:
  kind: str
  dtype: str
  axes: str  # of the mesh, joined by '+'
  group: int  # devices that take part

  def bytes_sent(self, size: float) -> float:
    """Bytes that a chip sends for a result of `size` bytes, in a ring."""
    if self.kind == 'reduce-scatter':
      return size * (self.group - 1)
    if self.kind in ('collective-permute', 'send'):
      return size
    passes = 2 if self.kind == 'all-reduce' else 1
    return passes * size * ((self.group - 1) / max(self.group, 1))


def collectives_of(
  module: Module, op: Op, axes: Axes
) -> Iterator[tuple[Collective, float]]:
  """(Collective, bytes of its result) of an operation, also of fused ones."""
  kind = op.kind.removesuffix('-start')
  if kind == 'fusion' and not continues_collective(module.fused(op)):
    inner = module.fused(op)
    is_scatter = 'all-reduce-scatter' in f'{op.name} {inner.name}'
    for part in inner.ops:
      for key, size in collectives_of(module, part, axes):
        if is_scatter and part.kind == 'all-reduce':
          size /= key.group
        if is_scatter:
          key = dataclasses.replace(key, kind='reduce-scatter')
        yield key, size
  elif kind == 'send' and '_xla_megascale' in op.attributes:
    sent = op.arrays[0]
    key = Collective(kind=kind, dtype=sent.dtype, axes='slice', group=2)
    yield key, sent.bytes
  elif kind in KINDS:
    size = op.bytes
    if op.kind != kind and len(op.arrays) > 1:  # (operand, result, ...)
      size = max(a.bytes for a in op.arrays)
    ids = group_of(op.attributes, math.prod(n for _, n in axes))
    names, dtype = axes_of(ids, axes), op.arrays[0].dtype
    yield Collective(kind=kind, dtype=dtype, axes=names, group=len(ids)), size


def continues_collective(inner: Computation) -> bool:
  """Whether a fusion continues a collective that another fusion started."""
  return inner.name.startswith('async_collective_fusion') or any(
    'AsyncCollectiveDone' in op.attributes for op in inner.ops
  )


def group_of(attributes: str, devices: int) -> list[int]:
  """The devices of the first group, from any notation of replica_groups."""
  pairs = re.search(r'source_target_pairs=\{\{(\d+),(\d+)', attributes)
  if pairs:
    return [int(pairs[1]), int(pairs[2])]
  text = attributes.partition('replica_groups=')[2]
  listed = re.match(r'\{\{([\d,]+)\}', text)
  if listed:
    return [int(n) for n in listed[1].split(',')]
  iota = re.match(rf'\[(\d+),(\d+)\]<={IOTA}', text)
  if iota:
    return _iota(iota[3], iota[4])[: int(iota[2])].tolist()
  # mesh['a'=2,'b'=2], device_ids=(...) {'a'}
  mesh = re.match(r'mesh\[([^\]]*)\]', text)
  if not mesh:
    return list(range(devices))
  named = re.findall(r"'?(\w+)'?=(\d+)", mesh[1])
  sizes, text = [int(n) for _, n in named], text[mesh.end() :]
  shuffled = re.match(rf', device_ids=\({IOTA}\)', text)
  ids = np.arange(math.prod(sizes))
  if shuffled:
    ids, text = _iota(*shuffled.groups()), text[shuffled.end() :]
  over = re.match(r'\s*\{([^}]*)\}', text)
  assert over, f'cannot read the replica groups {text[:80]!r}'
  names = re.findall(r'\w+', over[1])
  index = tuple(slice(None) if name in names else 0 for name, _ in named)
  return ids.reshape(sizes)[index].ravel().tolist()


def _iota(dims, order):
  shape = [int(n) for n in dims.split(',')]
  ids = np.arange(math.prod(shape)).reshape(shape)
  if order:
    ids = ids.transpose([int(n) for n in order.split(',')])
  return ids.ravel()


def axes_of(ids: Sequence[int], axes: Axes) -> str:
  """The names of the mesh axes along which the devices differ."""
  coordinates = np.unravel_index(ids, [n for _, n in axes])
  pairs = zip(axes, coordinates)
  return '+'.join(name for (name, _), x in pairs if len(set(x.tolist())) > 1)
