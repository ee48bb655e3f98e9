"""Texts of a model on a terminal: thinking in grey, nothing that controls the
terminal."""

import os
from typing import TextIO

from r1jax import errors
from r1jax.serving.text_stream import overlap

OPEN, CLOSE = '<think>', '</think>'
GREY, PLAIN = '\x1b[90m', '\x1b[0m'


def has_colours(file: TextIO) -> bool:
  """Whether colours are shown: on a terminal, unless NO_COLOR is set."""
  return (
    file.isatty()
    and not os.environ.get('NO_COLOR')
    and os.environ.get('TERM') != 'dumb'
  )


def grey(text: str, colours: bool) -> str:
  return f'{GREY}{text}{PLAIN}' if colours else text


def printable(text: str) -> str:
  """errors.printable that leaves line ends and tabs."""
  parts = text.split('\t')
  return '\t'.join(errors.printable(part, lines=True) for part in parts)


class ThinkingPainter:
  """Paints the parts of a text from <think> to </think> grey while it
  arrives."""

  def __init__(self, colours: bool) -> None:
    self._colours, self._is_thinking, self._held = colours, False, ''

  def paint(self, text: str) -> str:
    """What to print of more text: without the beginning of a tag at its end."""
    self._held += text
    painted, tag = '', self._tag()
    while tag in self._held:
      before, _, self._held = self._held.partition(tag)
      if self._is_thinking:
        painted += self._part(before + tag)
        self._is_thinking = False
      else:
        painted += self._part(before)
        self._is_thinking = True
        painted += self._part(tag)
      tag = self._tag()
    end = len(self._held) - overlap(self._held, tag)
    text, self._held = self._held[:end], self._held[end:]
    return painted + self._part(text)

  def finish(self) -> str:
    """What is left at the end of the text."""
    text, self._held = self._held, ''
    return self._part(text)

  def _tag(self):
    return CLOSE if self._is_thinking else OPEN

  def _part(self, text):
    text = printable(text)
    return grey(text, self._colours) if text and self._is_thinking else text
