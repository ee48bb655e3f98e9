"""The text of a response while its tokens arrive."""

import itertools

import numpy as np
import pytest
import toy_sampling

from r1jax.serving.text_stream import MAX_WINDOW, TextStream

TOKENIZER = toy_sampling.TOKENIZER


def pieces(ids, stop=()):
  """(what push() returns for each id, what finish() returns)."""
  stream = TextStream(TOKENIZER, stop)
  return [stream.push(i) for i in ids], stream.finish()


def joined(ids, stop=()):
  pushed, last = pieces(ids, stop)
  return ''.join(pushed) + last


class BytePieces:
  """A decoder that gives a replacement character for each byte of an incomplete
  character, as those of byte fallback do, and drops a leading space."""

  def decode(self, ids):
    text, data = '', bytes(ids)
    while data:
      for length in range(1, 5):
        try:
          text += data[:length].decode()
        except UnicodeDecodeError:
          continue
        data = data[length:]
        break
      else:
        text, data = text + '\ufffd', data[1:]
    return text.removeprefix(' ')


def test_a_character_appears_with_its_last_byte():
  pushed, last = pieces('aé€😀'.encode())
  assert pushed == ['a', '', 'é', '', '', '€', '', '', '', '😀']
  assert last == ''


@pytest.mark.parametrize('tokenizer', [TOKENIZER, BytePieces()])
def test_the_parts_are_the_text_of_all_tokens(tokenizer):
  random = np.random.default_rng(0)
  valid = ' 1é ₂😀ab</think> ' * 20
  for data in [valid.encode(), bytes(random.integers(0, 256, 300))]:
    assert len(data) > 2 * MAX_WINDOW
    stream = TextStream(tokenizer)
    text = ''.join(map(stream.push, data)) + stream.finish()
    assert text == tokenizer.decode(data)


def test_an_incomplete_character_at_the_end_is_not_lost():
  assert joined('a€'.encode()[:-1]) == 'a\ufffd'


@pytest.mark.parametrize('stop', ['</answer>', 'b', '€c', 'bb€'])
def test_text_ends_before_a_stop_string(stop):
  text = 'abb€cd</answer> and more'
  assert joined(text.encode(), (stop,)) == text[: text.index(stop)]


def test_the_first_of_several_stop_strings_counts():
  assert joined(b'one two three', ('three', 'two')) == 'one '
  assert joined(b'one two three', ('four',)) == 'one two three'


def test_what_may_begin_a_stop_string_is_held_back():
  pushed, last = pieces(b'a--b--', ('---',))
  assert pushed == ['a', '', '', '--b', '', ''] and last == '--'


def test_a_stop_string_ends_the_stream():
  stream = TextStream(TOKENIZER, ('ab',))
  parts = [stream.push(i) for i in b'xabab']
  assert parts == ['x', '', '', '', ''] and stream.stopped
  assert stream.finish() == ''


def test_stop_strings_that_overlap_themselves_are_found():
  for length in range(2, 7):
    for text in map(''.join, itertools.product('ab', repeat=length)):
      expected = text.partition('aab')[0]
      assert joined(text.encode(), ('aab',)) == expected
