"""Plain values as JSON text, the only form in which a sandboxed program and the
trusted process exchange data.

None, bool and str are written as they are, every other value as a list that
begins with its tag. int and float are hexadecimal, so that none is too long or
rounded; a list of nothing but one of them is packed in one text. Decoded values
consist of exact builtins; an object without such a form arrives as an
Unsupported.
"""

import _json  # `json` would double the time in which a sandboxed program starts
import itertools

MAX_DEPTH = 64
TAGS = {list: 'l', tuple: 't', set: 's', frozenset: 'z', dict: 'd'}
MAKERS = {tag: kind for kind, tag in TAGS.items()}
PACKED_ITEMS = 4096  # of a packed list that are written at a time
KINDS = {*TAGS, str, bool, int, float, complex, bytes, type(None)}
# A set or dict of more than MANY keys is refused if more than MAX_COLLISIONS
# of them have one hash.
MANY, MAX_COLLISIONS = 1000, 100


class TooBig(Exception):
  """The text of a value would exceed the limit."""


class Malformed(Exception):
  """A text that `encode` does not write."""


class Unsupported:
  """Stands for an object that cannot be encoded; equals nothing."""

  __slots__ = ('kind',)
  __hash__ = object.__hash__

  def __init__(self, kind: str) -> None:
    self.kind = kind

  def __eq__(self, other: object) -> bool:
    return False

  def __repr__(self) -> str:
    return f'<an object of the type {self.kind}>'


def encode(value: object, limit: int) -> str:
  """One line of JSON. Raises TooBig beyond `limit` characters.

  A subclass of a builtin, or a number of numpy, is written as that builtin.
  """

  def put(text):
    nonlocal limit
    limit -= len(text)
    if limit < 0:
      raise TooBig
    parts.append(text)

  parts: list[str] = []
  _write(value, put, MAX_DEPTH)
  return ''.join(parts)


def decode(text: str) -> object:
  """The value that was encoded. Raises Malformed for any other text."""
  try:
    tree, end = SCAN(text, 0)
    if end == len(text):
      return _read(tree, MAX_DEPTH)
  except Exception as error:
    raise Malformed(type(error).__name__) from None
  raise Malformed('more than one value')


def _write(value, put, depth):
  kind = type(value)
  if kind.__module__ == 'numpy' and getattr(value, 'shape', None) == ():
    value = value.item()
    kind = type(value)
  if kind not in KINDS:
    kind = next((x for x in kind.__mro__ if x in KINDS), None)
    try:
      if kind:
        value = str.__str__(value) if kind is str else kind(value)
    except Exception:
      kind = None
  if depth == 0 or kind is None:
    put('["?",' + _json.encode_basestring_ascii(type(value).__name__[:80]))
    put(']')
  elif value is None:
    put('null')
  elif kind is bool:
    put('true' if value else 'false')
  elif kind is str:
    try:
      value.encode()
      put(_json.encode_basestring_ascii(value))
    except UnicodeEncodeError:  # JSON would join a pair of lone surrogates
      put(f'["u","{value.encode("utf-8", "surrogatepass").hex()}"]')
  elif kind is int:
    put(f'["i","{value:x}"]')
  elif kind is float:
    put(f'["f","{value.hex()}"]')
  elif kind is complex:
    put(f'["c","{value.real.hex()}","{value.imag.hex()}"]')
  elif kind is bytes:
    put(f'["b","{value.hex()}"]')
  elif kind is list and set(map(type, value)) in ({int}, {float}):
    _write_packed(value, put)
  else:
    put(f'["{TAGS[kind]}"')
    if kind is dict:
      value = itertools.chain.from_iterable(value.items())
    for x in value:
      put(',')
      _write(x, put, depth - 1)
    put(']')


def _write_packed(numbers, put):
  """Writes a list of exact ints or floats."""
  is_int = type(numbers[0]) is int
  put('["I","' if is_int else '["F","')
  for start in range(0, len(numbers), PACKED_ITEMS):
    part = numbers[start : start + PACKED_ITEMS]
    if start:
      put(',')
    put(','.join(map('{:x}'.format if is_int else float.hex, part)))
  put('"]')


def _read(tree, depth):
  if tree is None or type(tree) in (bool, str):
    return tree
  if type(tree) is not list or depth < 0:
    raise TypeError
  tag, *rest = tree
  if tag in MAKERS:
    values = [_read(x, depth - 1) for x in rest]
    if tag in 'szd':
      _refuse_collisions(values[::2] if tag == 'd' else values)
    if tag == 'd':
      values = zip(values[::2], values[1::2], strict=True)
    return MAKERS[tag](values)
  if any(type(x) is not str for x in rest):
    raise TypeError
  if tag == 'c':
    real, imag = rest
    return complex(float.fromhex(real), float.fromhex(imag))
  (x,) = rest
  if tag == 'i':
    return int(x, 16)
  if tag == 'f':
    return float.fromhex(x)
  if tag == 'I':
    return list(map(int, x.split(','), itertools.repeat(16)))
  if tag == 'F':
    return list(map(float.fromhex, x.split(',')))
  if tag == 'b':
    return bytes.fromhex(x)
  if tag == 'u':
    return bytes.fromhex(x).decode('utf-8', 'surrogatepass')
  if tag == '?':
    return Unsupported(x)
  raise LookupError


def _refuse_collisions(keys):
  """Keys of equal hash take quadratic time in a set or dict."""
  if len(keys) <= MANY:
    return
  count = {}
  for key in map(hash, keys):
    count[key] = count.get(key, 0) + 1
  if max(count.values()) > MAX_COLLISIONS:
    raise ValueError


class Strict:
  """The scanner's options. All numbers become floats, which `_read` refuses."""

  strict = True
  object_hook = object_pairs_hook = None
  parse_float = parse_int = parse_constant = float


# The library's stub demands a scanner as the scanner's options.
SCAN = _json.make_scanner(Strict)  # type: ignore[arg-type]
