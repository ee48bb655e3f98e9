"""What a compiled program moves on each chip: bytes of HBM, and collectives
with their sizes, loops counted as often as they run."""

import collections
import dataclasses
import functools
import math
import re

import numpy as np

from r1jax.preflight.compiler import hlo

COLLECTIVES = (
  'all-gather',
  'all-reduce',
  'reduce-scatter',
  'all-to-all',
  'ragged-all-to-all',
  'collective-permute',
)
# They name, group or wait for what is there; nothing moves.
FREE = (
  'parameter',
  'constant',
  'tuple',
  'get-tuple-element',
  'bitcast',
  'after-all',
  'partition-id',
  'replica-id',
  'opt-barrier',
  'domain',
  'copy-done',
  'slice-done',
  'async-update',
  'async-done',
  'recv-done',
  'send-done',
  *(f'{kind}-done' for kind in COLLECTIVES),
)
UPDATES = {'dynamic-update-slice': 1, 'scatter': 2}  # what is written
FREE_CALLS = ('ConcatBitcast', 'AllocateBuffer', 'AsyncCollective')


@dataclasses.dataclass(frozen=True)
class Collective:
  kind: str
  dtype: str
  axes: str  # of the mesh, joined by '+'
  group: int  # devices that take part

  def wire(self, size):
    """Bytes that a chip sends, for a result of so many bytes."""
    share = (self.group - 1) / max(self.group, 1)
    if self.kind == 'all-reduce':
      return 2 * size * share
    if self.kind == 'reduce-scatter':
      return size * (self.group - 1)
    if self.kind in ('collective-permute', 'send'):
      return size
    return size * share


@dataclasses.dataclass
class Traffic:
  """Of a program, a chip and a call."""

  hbm: float = 0.0
  table: dict = dataclasses.field(
    default_factory=lambda: collections.defaultdict(lambda: np.zeros(2))
  )  # Collective -> (how many, bytes of their results)
  # A call of the body of each loop whose length depends on data; not above.
  loops: list = dataclasses.field(default_factory=list)

  def add(self, other, times=1):
    self.hbm += times * other.hbm
    self.loops += other.loops
    for key, row in other.table.items():
      self.table[key] += times * row
    return self

  def wire(self, far):
    """Bytes sent between slices (far), or inside one."""
    return sum(
      key.wire(size)
      for key, (_, size) in self.table.items()
      if (key.kind == 'send') == far
    )


def measure(text, axes):
  """The Traffic of compiled.as_text(); axes are (name, size) of the mesh."""
  module = hlo.parse(text)

  @functools.cache
  def total(name):
    found, body = Traffic(), module.bodies[name]
    for op in body.ops:
      if op.kind == 'while':
        times, inner = hlo.trips(module, op), total(op.named('body')[0])
        if times is None:
          found.loops.append(inner)
        else:
          found.add(inner, times)
      elif op.kind == 'conditional':
        worst = max((total(b) for b in op.branches), key=lambda t: t.hbm)
        found.add(worst)
      elif op.kind in ('call', 'async-start'):
        for callee in op.named('to_apply') + op.named('calls'):
          found.add(total(callee))
      else:
        found.hbm += _hbm(module, body, op)
        for key, size in _collectives(module, op, axes):
          found.table[key] += (1, size)
    return found

  return total(module.entry)


def _free(op):
  return op.kind in FREE or (
    op.kind == 'custom-call' and any(name in op.rest for name in FREE_CALLS)
  )


def _hbm(module, body, op):
  """Bytes that one operation reads from HBM and writes to it."""
  if _free(op):
    return 0

  def operand(i):
    return body.by_name[op.operands[i]]

  if op.kind == 'fusion':
    inner = module.bodies[op.named('calls')[0]]
    reads = sum(_reads(module, inner, i) for i in inner.parameters)
    return reads + _writes(module, inner)
  if op.kind == 'copy-start':  # (new, old, …)
    return sum(a.bytes for a in op.arrays[:2] if a.hbm)
  if op.kind == 'slice-start':  # ((old), new, …)
    old, new = op.arrays[:2]
    return new.bytes * (old.hbm + new.hbm)
  if op.kind in ('slice', 'dynamic-slice', 'gather'):
    return op.hbm + op.bytes * bool(operand(0).hbm)
  if op.kind in UPDATES:
    new = operand(UPDATES[op.kind])
    return new.hbm + new.bytes * bool(op.hbm)
  read = sum(operand(i).hbm for i in range(len(op.operands)))
  return read if op.kind == 'send' else op.hbm + read


def _reads(module, inner, number):
  """Bytes of a fusion's parameter that it reads from HBM."""
  parameter = inner.parameters[number]
  if not parameter.hbm:
    return 0
  return min(parameter.hbm, _used(module, inner, parameter.name))


def _used(module, inner, name):
  """Bytes of a value that the operations of a fusion look at."""
  size = inner.by_name[name].bytes
  used = 0
  for op, i in inner.users.get(name, ()):
    if op.kind == 'bitcast':  # A root's users stand outside.
      used += size if op.root else _used(module, inner, op.name)
    elif op.kind in ('slice', 'dynamic-slice', 'gather') and i == 0:
      used += op.bytes
    elif op.kind == 'fusion':
      nested = module.bodies[op.named('calls')[0]]
      used += _used(module, nested, nested.parameters[i].name)
    elif op.kind in UPDATES and i == 0 or _free(op):
      pass
    elif op.kind in COLLECTIVES and _later(inner):
      pass
    else:
      return size
  return used


def _writes(module, inner):
  """Bytes that the result of a fusion writes to HBM."""
  root = inner.root
  names = root.operands if root.kind == 'tuple' else (root.name,)
  return sum(_written(module, inner, inner.by_name[name]) for name in names)


def _written(module, inner, op):
  if op.kind == 'bitcast':
    source = inner.by_name[op.operands[0]]
    return _written(module, inner, source) if op.hbm else 0
  if not op.hbm or _free(op) or (op.kind in COLLECTIVES and _later(inner)):
    return 0
  if op.kind in UPDATES:
    return inner.by_name[op.operands[UPDATES[op.kind]]].bytes
  if op.kind == 'fusion':
    return _writes(module, module.bodies[op.named('calls')[0]])
  return op.hbm


def _later(inner):
  """Whether a fusion goes on with a collective that another one started."""
  return inner.name.startswith('async_collective_fusion') or any(
    'AsyncCollectiveDone' in op.rest for op in inner.ops
  )


def _collectives(module, op, axes):
  """(Collective, bytes of its result) of an operation, fused ones too."""
  if op.kind == 'fusion':
    inner = module.bodies[op.named('calls')[0]]
    if _later(inner):
      return
    for part in inner.ops:
      for key, size in _collectives(module, part, axes):
        if (
          'all-reduce-scatter' in op.name or 'all-reduce-scatter' in inner.name
        ):
          size = size / key.group if part.kind == 'all-reduce' else size
          key = dataclasses.replace(key, kind='reduce-scatter')
        yield key, size
    return
  kind = op.kind.removesuffix('-start')
  if kind == 'send':
    if '_xla_megascale' in op.rest:
      yield (
        Collective('send', op.arrays[0].dtype, 'slice', 2),
        op.arrays[0].bytes,
      )
  elif kind in COLLECTIVES:
    size = op.bytes
    if op.kind.endswith('-start') and len(op.arrays) > 1:
      size = max(a.bytes for a in op.arrays)
    ids = group(op.rest, math.prod(n for _, n in axes))
    yield Collective(kind, op.arrays[0].dtype, along(ids, axes), len(ids)), size


def group(rest, devices):
  """The devices of one group, from any spelling of replica_groups."""
  pairs = re.search(r'source_target_pairs=\{\{(\d+),(\d+)', rest)
  if pairs:
    return [int(pairs[1]), int(pairs[2])]
  text = rest.partition('replica_groups=')[2]
  listed = re.match(r'\{\{([\d,]+)\}', text)
  if listed:
    return [int(n) for n in listed[1].split(',')]
  order = r'\[([\d,]+)\](?:T\(([\d,]+)\))?'
  iota = re.match(rf'\[(\d+),(\d+)\]<={order}', text)
  if iota:
    ids = _iota(iota[3], iota[4])
    return ids.reshape(int(iota[1]), int(iota[2]))[0].tolist()
  named = re.match(r'mesh\[([^\]]*)\]', text)
  if named:
    sizes = {k: int(n) for k, n in re.findall(r"'?(\w+)'?=(\d+)", named[1])}
    text = text[named.end() :]
    shuffled = re.match(rf', device_ids=\({order}\)', text)
    ids = np.arange(math.prod(sizes.values()))
    if shuffled:
      ids, text = _iota(*shuffled.groups()), text[shuffled.end() :]
    over = re.findall(r'\w+', re.match(r'\s*\{([^}]*)\}', text)[1])
    pick = tuple(slice(None) if name in over else 0 for name in sizes)
    return ids.reshape(*sizes.values())[pick].ravel().tolist()
  return list(range(devices))


def _iota(dims, order):
  dims = [int(n) for n in dims.split(',')]
  ids = np.arange(math.prod(dims)).reshape(dims)
  if order:
    ids = ids.transpose([int(n) for n in order.split(',')])
  return ids.ravel()


def along(ids, axes):
  """The names of the mesh's axes along which the devices differ."""
  places = np.unravel_index(ids, [n for _, n in axes])
  names = [name for (name, _), x in zip(axes, places) if len(set(x)) > 1]
  return '+'.join(names)
