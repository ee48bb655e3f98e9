"""Does a response say the same over and over?"""

import numpy as np

WINDOW = 40  # characters of the pieces that may not come again and again


def repetition_penalty(records, texts):
  """1 less the share of pieces of WINDOW characters that stood before."""
  return np.array([1 - repeated(text, WINDOW) for text in texts], np.float32)


def repeated(text, window):
  """The share of all pieces of `window` characters that stood before.

  Every run of so many characters is a piece, whitespace being one space: a
  rule for all scripts, and no word is too long for it.
  """
  text = ' '.join(text.split())
  pieces = len(text) - window + 1
  if pieces < 1:
    return 0.0
  different = {text[i : i + window] for i in range(pieces)}
  return (pieces - len(different)) / pieces
