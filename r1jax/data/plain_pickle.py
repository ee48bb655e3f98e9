"""Reads pickles of plain data without running what they contain."""

import pickletools

# Opcodes that push a value which pickletools has decoded.
VALUES = frozenset(
  'INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT UNICODE '
  'SHORT_BINUNICODE BINUNICODE BINUNICODE8'.split()
)
CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
EMPTY = {'EMPTY_LIST': list, 'EMPTY_DICT': dict, 'EMPTY_TUPLE': tuple}
TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
STORES = 'MEMOIZE', 'PUT', 'BINPUT', 'LONG_BINPUT'
LOADS = 'GET', 'BINGET', 'LONG_BINGET'
IGNORED = 'PROTO', 'FRAME'
MARK = object()
MAX_OPCODES = 1_000_000


def loads(data: bytes) -> object:
  """The text, number, list, tuple or dict that a pickle holds.

  Raises ValueError for a pickle of anything else: nothing is imported or
  called. The work is linear in the size, as no container is used twice.
  """
  stack: list = []
  memo: dict[int, object] = {}
  try:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
      if count > MAX_OPCODES:
        raise ValueError(f'a pickle of more than {MAX_OPCODES} parts')
      if opcode.name == 'STOP':
        (value,) = stack
        if value is not MARK:
          return value
        break
      _step(opcode.name, argument, stack, memo)
  except (IndexError, KeyError, TypeError, UnicodeError) as error:
    raise ValueError(f'a malformed pickle ({type(error).__name__})') from None
  raise ValueError('a pickle without an end')


def _step(name, argument, stack, memo):
  """Executes one opcode."""
  if name in IGNORED:
    return
  if name in VALUES:
    stack.append(argument)
  elif name in CONSTANTS:
    stack.append(CONSTANTS[name])
  elif name in EMPTY:
    stack.append(EMPTY[name]())
  elif name == 'MARK':
    stack.append(MARK)
  elif name in STORES:
    memo[len(memo) if argument is None else argument] = stack[-1]
  elif name in LOADS:
    if isinstance(memo[argument], (list, dict, tuple)):
      raise ValueError('a pickle that uses a container twice')
    stack.append(memo[argument])
  elif name in TUPLES:
    items = stack[-TUPLES[name] :]
    del stack[-TUPLES[name] :]
    stack.append(tuple(items))
  elif name in ('TUPLE', 'LIST', 'DICT'):
    items = _above_mark(stack)
    if name == 'DICT':
      stack.append(_pairs(items))
    else:
      stack.append(tuple(items) if name == 'TUPLE' else items)
  elif name in ('APPEND', 'APPENDS'):
    items = _above_mark(stack) if name == 'APPENDS' else [stack.pop()]
    _of_type(stack[-1], list).extend(items)
  elif name in ('SETITEM', 'SETITEMS'):
    items = _above_mark(stack) if name == 'SETITEMS' else stack[-2:]
    if name == 'SETITEM':
      del stack[-2:]
    _of_type(stack[-1], dict).update(_pairs(items))
  else:
    raise ValueError(f'a pickle of more than plain data ({name})')


def _above_mark(stack):
  """Removes the last mark, and returns what was above it."""
  items = []
  while (item := stack.pop()) is not MARK:
    items.append(item)
  return items[::-1]


def _pairs(items):
  return dict(zip(items[::2], items[1::2], strict=True))


def _of_type(value, kind):
  if type(value) is not kind:
    raise TypeError
  return value
