"""Decoding returns the encoded value, in plain types."""

import collections
import enum
import math

import pytest

from r1jax.sandbox import wire

BIG = 1 << 20
PLAIN = (
  None,
  True,
  False,
  0,
  -1,
  10**5000,
  0.1,
  -0.0,
  math.inf,
  2**-1074,
  1.5 - 2j,
  '',
  'é\n"\\\0',
  '\ud800\udc00',
  b'',
  b'\x00\xff',
  [],
  (),
  set(),
  frozenset(),
  {},
  [1, 2, -(10**30)],
  [0.1, -math.inf],
  [True, 2],
  [1, 2.0],
  [1] * 10_000,
  [1, (2, {3}), {'a': [frozenset({4})], (5, 6): None}],
  {True: 1, 'b': b'c'},
)


class Colour(enum.IntEnum):
  RED = 3


class Text(str):
  def __eq__(self, other):
    return True

  def __str__(self):
    return 'other'

  __hash__ = str.__hash__


class Equal:
  def __eq__(self, other):
    return True


@pytest.mark.parametrize('value', PLAIN, ids=lambda x: type(x).__name__)
def test_decoding_inverts_encoding_of_plain_values(value):
  answer = wire.decode(wire.encode(value, BIG))
  assert answer == value and type(answer) is type(value)
  assert wire.encode(answer, BIG) == wire.encode(value, BIG)


def test_nan_is_encoded():
  assert math.isnan(wire.decode(wire.encode(math.nan, BIG)))


@pytest.mark.parametrize(
  'value, plain',
  [
    (collections.Counter('aab'), {'a': 2, 'b': 1}),
    (collections.namedtuple('P', 'x y')(1, 2), (1, 2)),
    (Colour.RED, 3),
    (Text('abc'), 'abc'),
  ],
)
def test_a_subclass_becomes_its_builtin(value, plain):
  answer = wire.decode(wire.encode(value, BIG))
  assert type(answer) is type(plain) and answer == plain


@pytest.mark.parametrize('value', [object(), Equal(), range(3), len, iter([])])
def test_an_unsupported_object_equals_nothing(value):
  answer = wire.decode(wire.encode([value], BIG))[0]
  assert type(answer) is wire.Unsupported
  assert not answer == value and not answer == answer and answer not in [1, 'a']


def test_a_value_beyond_the_limit_is_refused():
  assert wire.encode('a' * 98, 100)
  for value in (
    'a' * 99,
    [1] * 60,
    [0.5] * 20,
    10**200,
    {i: i for i in range(20)},
  ):
    with pytest.raises(wire.TooBig):
      wire.encode(value, 100)


def test_shared_references_that_grow_exponentially_are_refused():
  value = []
  for _ in range(wire.MAX_DEPTH - 1):
    value = [value, value]
  with pytest.raises(wire.TooBig):
    wire.encode(value, BIG)


def test_a_list_that_contains_itself_ends_at_the_maximum_depth():
  value = []
  value.append(value)
  answer = wire.decode(wire.encode(value, BIG))
  for _ in range(wire.MAX_DEPTH):
    (answer,) = answer
  assert type(answer) is wire.Unsupported


@pytest.mark.parametrize(
  'text',
  [
    '',
    ' ',
    'x',
    '1',
    '1.5',
    'NaN',
    '1e999999',
    '{}',
    '{"a": "b"}',
    '[',
    '[]',
    '["i"]',
    '["i", "2", "3"]',
    '["I", ""]',
    '["I", "1,,2"]',
    '["F", "x"]',
    '["I", "1", "2"]',
    '["i", ["i", "2"]]',
    '["i", "g"]',
    '["f", "nothing"]',
    '["b", "0"]',
    '["u", "ff"]',
    '["d", "a"]',
    '["d", ["l"], null]',
    '["s", ["l"]]',
    '["zz", "1"]',
    '[null]',
    '[["l"]]',
    'null null',
    '"a',
    '[' * 100_000,
    '["l",' * 100_000,
    '["l",' * 70 + '["l"]' + ']' * 70,
  ],
)
def test_text_that_encode_does_not_write_is_refused(text):
  with pytest.raises(wire.Malformed):
    wire.decode(text)
