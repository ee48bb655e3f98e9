"""The traffic of a compiled program on each chip: bytes of HBM, and collectives
with their sizes. Loops count as often as they run."""

from __future__ import annotations

import collections
import dataclasses

import numpy as np

from r1jax.models import expert_rounds
from r1jax.preflight.compiler import collectives, hlo
from r1jax.preflight.compiler.collectives import Collective
from r1jax.preflight.plan import Axes

# Operations that move nothing.
FREE = (
  'parameter constant tuple get-tuple-element bitcast after-all partition-id '
  'replica-id opt-barrier domain copy-done slice-done async-update async-done '
  'recv-done send-done'
).split() + [f'{kind}-done' for kind in collectives.KINDS]
FREE_CALLS = ('ConcatBitcast', 'AllocateBuffer', 'AsyncCollective')
# The decode kernel. Its operands of CACHE_AXES axes are caches, of which it reads
# an index of the first axis, the layer.
CACHE_KERNEL, CACHE_AXES = 'attend_filled', 5
SLICES = ('slice', 'dynamic-slice', 'gather')
UPDATES = {'dynamic-update-slice': 1, 'scatter': 2}  # operand that is written


@dataclasses.dataclass
class Traffic:
  """One call of a program on one chip."""

  hbm: float = 0.0
  # The part of it that kernels read of whole caches; they read less of caches
  # that are not full.
  cache: float = 0.0
  # {Collective: [count, bytes of the results]}
  table: dict[Collective, np.ndarray] = dataclasses.field(
    default_factory=lambda: collections.defaultdict(lambda: np.zeros(2))
  )
  # One run of the body of each loop of unknown length; not in the sums above.
  loops: list[Traffic] = dataclasses.field(default_factory=list)

  def add(self, other: Traffic, times: float = 1) -> None:
    self.hbm += times * other.hbm
    self.cache += times * other.cache
    self.loops += other.loops
    for key, row in other.table.items():
      self.table[key] += times * row

  def sent(self) -> tuple[float, float]:
    """Bytes sent (within a slice, between slices)."""
    sent = [0.0, 0.0]
    for key, (_, size) in self.table.items():
      sent[key.kind == 'send'] += key.bytes_sent(size)
    return sent[0], sent[1]


def measure(text: str, axes: Axes, rounds: float = 1) -> Traffic:
  """The Traffic of compiled.as_text() on a mesh, with so many rounds of
  models/expert_rounds.py."""
  module = hlo.parse(text)
  return _traffic(module, module.entry, axes, rounds)


def _traffic(module, name, axes, rounds):
  found, computation = Traffic(), module.computations[name]
  for op in computation.ops:
    if op.kind == 'while':
      times = hlo.trip_count(module, op)
      body = _traffic(module, op.called('body')[0], axes, rounds)
      if times is None and expert_rounds.SCOPE in op.attributes:
        times = rounds
      if times is None:
        found.loops.append(body)
      else:
        found.add(body, times)
    elif op.kind == 'conditional':
      two = op.called('true_computation') + op.called('false_computation')
      names = op.called('branch_computations') or two
      branches = [_traffic(module, branch, axes, rounds) for branch in names]
      found.add(max(branches, key=lambda branch: branch.hbm))
    elif op.kind in ('call', 'async-start'):
      for callee in op.called('to_apply') + op.called('calls'):
        found.add(_traffic(module, callee, axes, rounds))
    else:
      found.hbm += _hbm(module, computation, op)
      found.cache += _cache_bytes(computation, op)
      for key, size in collectives.collectives_of(module, op, axes):
        found.table[key] += (1, size)
  return found


def _is_free(op, inner=None):
  """Whether an operation moves nothing; `inner` is the fusion that it is in."""
  if op.kind == 'custom-call':
    return any(name in op.attributes for name in FREE_CALLS)
  if inner and op.kind in collectives.KINDS:
    return collectives.continues_collective(inner)
  return op.kind in FREE


def _cache_bytes(computation, op):
  """Bytes of the keys and values in HBM that a decode kernel may read."""
  return sum(a.stored / a.sizes[0] for a in _caches(computation, op))


def _caches(computation, op):
  """The caches in HBM of a decode kernel."""
  if op.kind != 'custom-call' or not op.name.startswith(CACHE_KERNEL):
    return []
  # The pages of a block have an operand each, which is the same array.
  operands = [computation.by_name[name] for name in dict.fromkeys(op.operands)]
  arrays = [a for operand in operands for a in operand.arrays]
  return [a for a in arrays if a.in_hbm and len(a.sizes) == CACHE_AXES]


def _hbm(module, computation, op):
  """Bytes that an operation reads from HBM and writes to it."""
  if _is_free(op):
    return 0
  operands = [computation.by_name[name] for name in op.operands]
  if op.kind == 'fusion':
    inner = module.fused(op)
    moved = _written_by(module, inner)
    for value in inner.parameters.values():
      if value.hbm_bytes:
        moved += min(value.hbm_bytes, _used(module, inner, value))
    return moved
  if op.kind == 'copy-start':  # The result is (new, old, ...).
    return sum(a.stored for a in op.arrays[:2] if a.in_hbm)
  if op.kind == 'slice-start':  # The result is ((old), new, ...).
    old, new = op.arrays[:2]
    return new.stored * (old.in_hbm + new.in_hbm)
  if op.kind in SLICES:
    return op.hbm_bytes + op.stored * bool(operands[0].hbm_bytes)
  if op.kind in UPDATES:
    update = operands[UPDATES[op.kind]]
    return update.hbm_bytes + update.stored * bool(op.hbm_bytes)
  names = dict.fromkeys(op.operands)
  read = sum(computation.by_name[name].hbm_bytes for name in names)
  caches = _caches(computation, op)
  read += _cache_bytes(computation, op) - sum(a.stored for a in caches)
  return read if op.kind == 'send' else op.hbm_bytes + read


def _used(module, inner, value):
  """Bytes of a value that the operations of a fusion use."""
  used = 0.0
  for op in inner.ops:
    for i, name in enumerate(op.operands):
      if name != value.name:
        continue
      if op.kind == 'bitcast' and not op.is_root:
        used += _used(module, inner, op)
      elif op.kind in SLICES and i == 0:
        used += op.stored
      elif op.kind == 'fusion':
        nested = module.fused(op)
        used += _used(module, nested, nested.parameters[i])
      elif op.kind in UPDATES and i == 0:
        continue  # It is updated in place.
      elif op.kind == 'bitcast' or not _is_free(op, inner):
        return value.stored
  return used


def _written_by(module, inner):
  """Bytes that a fusion's result writes to HBM."""
  root = inner.root
  names = root.operands if root.kind == 'tuple' else (root.name,)
  return sum(_written(module, inner, inner.by_name[name]) for name in names)


def _written(module, inner, op):
  if op.kind == 'bitcast' and op.hbm_bytes:
    return _written(module, inner, inner.by_name[op.operands[0]])
  if not op.hbm_bytes or _is_free(op, inner):
    return 0
  if op.kind in UPDATES:
    return inner.by_name[op.operands[UPDATES[op.kind]]].stored
  if op.kind == 'fusion':
    return _written_by(module, module.fused(op))
  return op.hbm_bytes
