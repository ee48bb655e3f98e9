"""The text of a program compiled for a TPU, as lists of operations."""

import dataclasses
import functools
import math
import re

WIDTH = {
  'pred': 1,
  's8': 1,
  'u8': 1,
  's4': 0.5,
  'u4': 0.5,
  'f8e4m3fn': 1,
  'f8e5m2': 1,
  'bf16': 2,
  'f16': 2,
  's16': 2,
  'u16': 2,
  's32': 4,
  'u32': 4,
  'f32': 4,
  's64': 8,
  'u64': 8,
  'f64': 8,
}
ARRAY = re.compile(r'(\w+)\[([\d,]*)\](\{[^{}]*\})?')
HEAD = re.compile(r'(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$')
LINE = re.compile(r'\s+(ROOT )?%?([\w.\-]+) = (.*)')
KIND = re.compile(r'\s*([\w\-]+)\(')


@dataclasses.dataclass(frozen=True)
class Array:
  dtype: str
  bytes: float
  hbm: bool  # not in one of the memories on the chip, S(1), S(2), …


@dataclasses.dataclass(frozen=True)
class Op:
  name: str
  kind: str
  arrays: tuple[Array, ...]  # of its result, tuples flattened
  operands: tuple[str, ...]
  rest: str  # attributes behind the operands
  root: bool
  number: int = -1  # of a parameter

  @property
  def bytes(self):
    return sum(a.bytes for a in self.arrays)

  @property
  def hbm(self):
    """Bytes of the result that lie in HBM."""
    return sum(a.bytes for a in self.arrays if a.hbm)

  def named(self, attribute):
    """The computations that an attribute names."""
    found = re.search(rf'\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)', self.rest)
    return re.findall(r'[\w.\-]+', found[1]) if found else []

  @property
  def branches(self):
    return self.named('branch_computations') or (
      self.named('true_computation') + self.named('false_computation')
    )


@dataclasses.dataclass(frozen=True)
class Body:
  """A computation: its operations in order."""

  name: str
  ops: tuple[Op, ...]

  @functools.cached_property
  def by_name(self):
    return {op.name: op for op in self.ops}

  @functools.cached_property
  def users(self):
    """{name: [(operation, which operand it is)]}."""
    users = {}
    for op in self.ops:
      for i, name in enumerate(op.operands):
        users.setdefault(name, []).append((op, i))
    return users

  @functools.cached_property
  def parameters(self):
    """By their number."""
    return {op.number: op for op in self.ops if op.kind == 'parameter'}

  @property
  def root(self):
    return next(op for op in self.ops if op.root)


@dataclasses.dataclass(frozen=True)
class Module:
  bodies: dict[str, Body]
  entry: str


def parse(text):
  """The Module of compiled.as_text()."""
  bodies, name, entry, ops = {}, None, None, []
  for line in text.splitlines():
    head = HEAD.match(line)
    if head:
      name, ops = head[2], []
      entry = name if head[1] else entry
    elif line.rstrip() == '}':  # '}},' alone ends the metadata of a kernel.
      if name:
        bodies[name] = Body(name, tuple(ops))
      name = None
    elif name:
      found = LINE.match(line)
      if found:
        ops.append(_op(found))
  assert entry, 'no ENTRY: not the text of a compiled program'
  return Module(bodies, entry)


def _op(found):
  text = re.sub(r'/\*.*?\*/', '', found[3])
  end = _end(text) if text.startswith('(') else text.index(' ')
  shape, text = text[:end], text[end:]
  kind = KIND.match(text)
  assert kind, f'cannot read {found[0][:120]!r}'
  start = kind.end() - 1
  close = start + _end(text[start:])
  inside = text[start + 1 : close - 1]
  number = int(inside) if kind[1] == 'parameter' else -1
  return Op(
    found[2],
    kind[1],
    arrays(shape),
    tuple(re.findall(r'%([\w.\-]+)', inside)),
    inside if kind[1] == 'constant' else text[close:],
    bool(found[1]),
    number,
  )


def _end(text):
  """Where the parenthesis that text begins with has closed."""
  depth = 0
  for i, letter in enumerate(text):
    depth += (letter == '(') - (letter == ')')
    if not depth:
      return i + 1
  return len(text)


def arrays(shape):
  """The arrays of a shape; what has no bytes, tokens say, is left out."""
  return tuple(
    Array(
      dtype,
      WIDTH[dtype] * math.prod(int(n) for n in dims.split(',') if n),
      'S(' not in layout,
    )
    for dtype, dims, layout in ARRAY.findall(shape)
    if dtype in WIDTH
  )


def trips(module, loop):
  """How often a while runs: the constant that its condition compares a counter
  with; None where it depends on data."""
  body = module.bodies[loop.named('condition')[0]]
  root, sides = body.root, None
  if root.kind == 'fusion':
    inner = module.bodies[root.named('calls')[0]]
    outer = {i: body.by_name[name] for i, name in enumerate(root.operands)}
    root, body = inner.root, inner
    sides = [body.by_name[name] for name in root.operands]
    sides = [outer[x.number] if x.kind == 'parameter' else x for x in sides]
  if root.kind != 'compare':
    return None
  sides = sides or [body.by_name[name] for name in root.operands]
  bounds = [int(x.rest) for x in sides if x.kind == 'constant']
  return bounds[0] if len(bounds) == 1 else None
