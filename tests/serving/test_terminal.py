"""Texts of a model on a terminal."""

import io

import pytest

from r1jax.serving import terminal

GREY, PLAIN = terminal.GREY, terminal.PLAIN


def painted(text, size, colours=True):
  painter = terminal.ThinkingPainter(colours)
  parts = [text[n : n + size] for n in range(0, len(text), size)]
  return ''.join(map(painter.paint, parts)) + painter.finish()


def without_repeats(text):
  return text.replace(PLAIN + GREY, '')


@pytest.mark.parametrize('size', [1, 2, 3, 5, 100])
def test_thinking_is_grey_with_its_tags(size):
  text = 'a<think>b < c</think>d<thi'
  want = f'a{GREY}<think>b < c</think>{PLAIN}d<thi'
  assert without_repeats(painted(text, size)) == want
  assert painted(text, size, colours=False) == text


def test_thinking_that_does_not_end_is_grey():
  assert without_repeats(painted('<think>b</th', 3)) == (
    f'{GREY}<think>b</th{PLAIN}'
  )


def test_a_text_cannot_control_the_terminal():
  assert painted('a\x1b[2Jb\tc\nd\u202e', 2) == 'a\\x1b[2Jb\tc\nd\\u202e'


class Terminal(io.StringIO):
  def isatty(self):
    return True


def test_colours_are_for_terminals_that_have_them(monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.delenv('NO_COLOR', raising=False)
  assert terminal.has_colours(Terminal())
  assert not terminal.has_colours(io.StringIO())
  monkeypatch.setenv('TERM', 'dumb')
  assert not terminal.has_colours(Terminal())
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('NO_COLOR', '1')
  assert not terminal.has_colours(Terminal())
