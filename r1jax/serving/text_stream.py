"""The text of a response while its tokens arrive: without halves of characters,
and up to the first stop string."""

from collections.abc import Sequence

from r1jax.data.tokenizer_protocol import Tokenizer

REPLACEMENT = '\N{REPLACEMENT CHARACTER}'
# Bytes of a character that may still be completed. A decoder gives a
# replacement character for all of them, or for each.
MAX_PENDING = 3
# A text is decoded from the last tokens alone: between MIN_WINDOW and MAX_WINDOW
# of them.
MIN_WINDOW, MAX_WINDOW = 16, 48


class TextStream:
  """Decodes the tokens of one response. The texts that push() and finish()
  return, joined, are the text of all tokens, or what precedes the first stop
  string in it."""

  def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
    self._tokenizer, self._stop = tokenizer, tuple(stop)
    self._window: list[int] = []  # the last tokens
    self._decoded = 0  # characters of the window's text that are in _held
    self._held = ''  # text that may begin a stop string
    self.stopped = False

  def push(self, token: int) -> str:
    """More text, after one more token."""
    if self.stopped:
      return ''
    self._window.append(token)
    text = self._tokenizer.decode(self._window)
    complete = text.rstrip(REPLACEMENT)
    end = max(len(complete), len(text) - MAX_PENDING, self._decoded)
    self._held += text[self._decoded : end]
    self._decoded = end
    if len(self._window) >= MAX_WINDOW and end == len(text):
      self._window = self._window[-MIN_WINDOW:]
      self._decoded = len(self._tokenizer.decode(self._window))
    return self._release()

  def finish(self) -> str:
    """The rest of the text, after the last token."""
    if self.stopped:
      return ''
    self._held += self._tokenizer.decode(self._window)[self._decoded :]
    self._window, self._decoded = [], 0
    text = self._release()
    if self.stopped:
      return text
    text, self._held = text + self._held, ''
    return text

  def _release(self):
    """The part of the held text that cannot belong to a stop string."""
    starts = [self._held.find(stop) for stop in self._stop]
    found = [start for start in starts if start >= 0]
    if found:
      text, self._held, self.stopped = self._held[: min(found)], '', True
      return text
    keep = max([0] + [overlap(self._held, stop) for stop in self._stop])
    end = len(self._held) - keep
    text, self._held = self._held[:end], self._held[end:]
    return text


def overlap(text, stop):
  """The length of the longest end of the text with which `stop` begins."""
  for length in range(min(len(text), len(stop) - 1), 0, -1):
    if text.endswith(stop[:length]):
      return length
  return 0
