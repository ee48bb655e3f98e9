"""Plain values as JSON text, the only thing that crosses between the process
that ran a model's code and ours.

None, booleans and texts are themselves; every other value is a list that
begins with its tag. Integers and floats are in hex, so that none is too long
or rounded. What is read is made of exact builtins, whatever was written; an
object that has no such form arrives as an Unsupported, which equals nothing.
"""

# `json` itself would double the time in which a sandboxed program starts.
import _json

MAX_DEPTH = 64
TAGS = {list: 'l', tuple: 't', set: 's', frozenset: 'z'}
MANY, ALIKE = 1000, 100  # from so many keys on, so many may have one hash
MAKERS = {tag: kind for kind, tag in TAGS.items()}
KINDS = {*TAGS, dict, str, bool, int, float, complex, bytes, type(None)}


class TooBig(Exception):
  """A value whose text would be longer than what is allowed."""


class Malformed(Exception):
  """A text that no `encode` wrote."""


class Unsupported:
  """What stands for an object that cannot cross; it equals nothing."""

  __slots__ = ('kind',)
  __hash__ = object.__hash__

  def __init__(self, kind):
    self.kind = kind

  def __eq__(self, other):
    return False

  def __repr__(self):
    return f'<an object of the type {self.kind}>'


def encode(value, limit):
  """One line of JSON of at most `limit` characters, else TooBig.

  A subclass of a builtin is written as that builtin.
  """
  left = limit

  def put(text):
    nonlocal left
    left -= len(text)
    if left < 0:
      raise TooBig
    parts.append(text)

  parts = []
  _write(value, put, MAX_DEPTH)
  return ''.join(parts)


def decode(text):
  """The value that `encode` wrote, else Malformed."""
  try:
    tree, end = SCAN(text, 0)
    if end == len(text):
      return _read(tree, MAX_DEPTH)
  except (
    StopIteration,
    ValueError,
    TypeError,
    RecursionError,
    OverflowError,
    LookupError,
    MemoryError,
  ) as error:
    raise Malformed(type(error).__name__) from None
  raise Malformed('more than one value')


def _write(value, put, depth):
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
  elif value is None or kind is bool:
    put({None: 'null', True: 'true', False: 'false'}[value])
  elif kind is str:
    _write_text(value, put)
  elif kind is int:
    put(f'["i","{value:x}"]')
  elif kind is float:
    put(f'["f","{value.hex()}"]')
  elif kind is complex:
    put(f'["c","{value.real.hex()}","{value.imag.hex()}"]')
  elif kind is bytes:
    put(f'["b","{value.hex()}"]')
  elif kind is dict:
    put('["d"')
    for pair in value.items():
      for x in pair:
        put(',')
        _write(x, put, depth - 1)
    put(']')
  else:
    put(f'["{TAGS[kind]}"')
    for x in value:
      put(',')
      _write(x, put, depth - 1)
    put(']')


def _write_text(value, put):
  try:
    value.encode()
  except UnicodeEncodeError:  # a pair of lone surrogates would become one
    put(f'["u","{value.encode("utf-8", "surrogatepass").hex()}"]')
  else:
    put(_json.encode_basestring_ascii(value))


def _read(tree, depth):
  if tree is None or type(tree) in (bool, str):
    return tree
  if type(tree) is not list or depth < 0:
    raise TypeError
  tag, *rest = tree
  if tag in MAKERS:
    values = [_read(x, depth - 1) for x in rest]
    if MAKERS[tag] in (set, frozenset):
      _refuse_collisions(values)
    return MAKERS[tag](values)
  if tag == 'd':
    values = [_read(x, depth - 1) for x in rest]
    _refuse_collisions(values[::2])
    return dict(zip(values[::2], values[1::2], strict=True))
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
  if tag == 'b':
    return bytes.fromhex(x)
  if tag == 'u':
    return bytes.fromhex(x).decode('utf-8', 'surrogatepass')
  if tag == '?':
    return Unsupported(x)
  raise LookupError


def _refuse_collisions(keys):
  """Keys of one hash cost quadratic time: a flood of them is no answer."""
  count = {}
  for key in map(hash, keys if len(keys) > MANY else ()):
    count[key] = count.get(key, 0) + 1
  if max(count.values(), default=0) > ALIKE:
    raise ValueError


def _refuse(text):
  raise ValueError


class Strict:
  """What the scanner of the standard library is told: no numbers."""

  strict = True
  object_hook = object_pairs_hook = None
  parse_float = parse_int = parse_constant = _refuse
  memo = {}


SCAN = _json.make_scanner(Strict)
