"""Parses the HLO text of a program compiled for a TPU into operations."""

import dataclasses
import functools
import math
import re
from typing import NamedTuple

ARRAY = re.compile(r'(\w+)\[([\d,]*)\](\{[^{}]*\})?')
COMPUTATION = re.compile(r'(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$')
OPERATION = re.compile(r'\s+(ROOT )?%?([\w.\-]+) = (.*)')


class Array(NamedTuple):
  dtype: str
  sizes: tuple[int, ...]  # of its axes
  bytes: float  # of its elements
  stored: float  # bytes in memory, where its tiles are whole
  in_hbm: bool  # not in an on-chip memory: S(1), S(2), ...


@dataclasses.dataclass(frozen=True)
class Op:
  name: str
  kind: str
  arrays: tuple[Array, ...]  # of the result, tuples flattened
  operands: tuple[str, ...]
  attributes: str  # the text after the operands; of a constant, its value
  is_root: bool
  number: int = -1  # of a parameter

  @property
  def bytes(self) -> float:
    return sum(a.bytes for a in self.arrays)

  @property
  def stored(self) -> float:
    return sum(a.stored for a in self.arrays)

  @property
  def hbm_bytes(self) -> float:
    return sum(a.stored for a in self.arrays if a.in_hbm)

  def called(self, name: str) -> list[str]:
    """The computations that an attribute names."""
    pattern = rf'\b{name}=(\{{[^}}]*\}}|%?[\w.\-]+)'
    match = re.search(pattern, self.attributes)
    return re.findall(r'[\w.\-]+', match[1]) if match else []


@dataclasses.dataclass(frozen=True)
class Computation:
  """Its operations are in order."""

  name: str
  ops: tuple[Op, ...]

  @functools.cached_property
  def by_name(self) -> dict[str, Op]:
    return {op.name: op for op in self.ops}

  @functools.cached_property
  def parameters(self) -> dict[int, Op]:
    return {op.number: op for op in self.ops if op.kind == 'parameter'}

  @property
  def root(self) -> Op:
    return next(op for op in self.ops if op.is_root)


@dataclasses.dataclass(frozen=True)
class Module:
  computations: dict[str, Computation]
  entry: str

  def fused(self, op: Op) -> Computation:
    return self.computations[op.called('calls')[0]]


def parse(text: str) -> Module:
  """The Module of compiled.as_text()."""
  computations: dict[str, Computation] = {}
  name, entry = '', ''
  ops: list[Op] = []
  for line in text.splitlines():
    head, operation = COMPUTATION.match(line), OPERATION.match(line)
    if head:
      name, ops = head[2], []
      entry = name if head[1] else entry
    elif line.rstrip() == '}':  # A line '}},' ends the metadata of a kernel.
      if name:
        computations[name] = Computation(name=name, ops=tuple(ops))
      name = ''
    elif name and operation:
      ops.append(_op(operation))
  assert entry, 'no ENTRY: not the text of a compiled program'
  return Module(computations=computations, entry=entry)


def _op(match):
  text = re.sub(r'/\*.*?\*/', '', match[3])
  end = _end(text) if text.startswith('(') else text.index(' ')
  shape, (kind, text) = text[:end], text[end:].strip().split('(', 1)
  close = _end('(' + text) - 1
  operands, attributes = text[: close - 1], text[close:]
  return Op(
    name=match[2],
    kind=kind,
    arrays=_arrays(shape),
    operands=tuple(re.findall(r'%([\w.\-]+)', operands)),
    attributes=operands if kind == 'constant' else attributes,
    is_root=bool(match[1]),
    number=int(operands) if kind == 'parameter' else -1,
  )


def _end(text):
  """The index after the parenthesis that closes the first one."""
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == '(') - (letter == ')')
    if not depth:
      return i + 1
  return len(text)


def _arrays(shape):
  """The arrays of a shape. Values without bytes, like tokens, are left out."""
  found = []
  for dtype, dims, layout in ARRAY.findall(shape):
    bits = re.search(r'\d+', dtype)  # of f32, bf16, s4, f8e4m3fn, ...
    if bits or dtype == 'pred':
      itemsize = int(bits[0]) / 8 if bits else 1
      sizes = [int(n) for n in dims.split(',') if n]
      size, stored = (
        itemsize * math.prod(x) for x in (sizes, _tiled(sizes, layout))
      )
      in_hbm = 'S(' not in layout
      found.append(
        Array(
          dtype=dtype,
          sizes=tuple(sizes),
          bytes=size,
          stored=stored,
          in_hbm=in_hbm,
        )
      )
  return tuple(found)


def _tiled(sizes, layout):
  """The sizes of an array in memory. Its layout {3,1,2:T(8,128)(2,1)S(1)} has the
  axes from the last in memory on, and the tile of the last of them in reverse;
  the second tile divides the first."""
  sizes, tile = list(sizes), re.search(r':T\(([\d,]+)\)', layout)
  axes = re.match(r'\{([\d,]+)', layout)
  if not tile or not axes:
    return sizes
  tile_sizes = reversed([int(n) for n in tile[1].split(',')])
  for axis, size in zip(map(int, axes[1].split(',')), tile_sizes):
    sizes[axis] = math.ceil(sizes[axis] / size) * size
  return sizes


def trip_count(module: Module, loop: Op) -> int | None:
  """How often a while loop runs: the constant that its condition compares a
  counter with. None if it depends on data."""
  condition = module.computations[loop.called('condition')[0]]
  root = condition.root
  sides = [condition.by_name[name] for name in root.operands]
  if root.kind == 'fusion':
    outer, inner = sides, module.fused(root)
    root, sides = inner.root, []
    for name in root.operands:
      op = inner.by_name[name]
      sides.append(outer[op.number] if op.kind == 'parameter' else op)
  bounds = [op.attributes for op in sides if op.kind == 'constant']
  is_known = root.kind == 'compare' and len(bounds) == 1
  return int(bounds[0]) if is_known else None
