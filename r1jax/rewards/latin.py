"""Tells languages in Latin letters apart, by py3langid: a naive Bayes model of
byte n-grams, which is a file of the package. Nothing is random.

The pieces of a text (sentences, of at most MAX_WORDS words) get the sequence of
languages that maximises sum_i log p(piece i | language i) - SWITCH * (number of
changes of the language). Before the first piece the language is English. So
names, single words and short remarks keep the language of their context.
"""

import functools
from collections.abc import Sequence

import numpy as np
from py3langid import langid

# English is first: it is the language of words without any evidence.
LANGUAGES = tuple(
  'en de fr es it pt nl sv da no pl cs ro hu fi tr vi id'.split()
)
# Those that would else be taken for one of LANGUAGES: zxx is no language.
RIVALS = tuple(
  """af ca cy eo et eu ga gl ha hr ht ig is jv la lt lv mg mt qu sk sl so sq sw
tl xh yo zu zxx""".split()
)
KNOWN = LANGUAGES + RIVALS
MAX_WORDS = 8  # of a piece
SWITCH = 12.0  # nats

Sentences = Sequence[Sequence[str]]


def count(sentences: Sentences) -> dict[str, int]:
  """The number of words of each of LANGUAGES, and of all others."""
  pieces = cut(sentences)
  words = dict.fromkeys((*LANGUAGES, 'other'), 0)
  for piece, language in zip(pieces, judge(pieces)):
    words[language if language in LANGUAGES else 'other'] += len(piece)
  return words


def cut(sentences: Sentences) -> list[list[str]]:
  """Pieces of sentences, each with one word or more."""
  pieces = []
  for sentence in sentences:
    count = -(-len(sentence) // MAX_WORDS)
    size = -(-len(sentence) // max(1, count))
    for start in range(0, len(sentence), max(1, size)):
      pieces.append(list(sentence[start : start + size]))
  return pieces


def judge(pieces: Sentences) -> list[str]:
  """The most probable language of each piece (Viterbi)."""
  if not pieces:
    return []
  best_K = np.full(len(KNOWN), -SWITCH)
  best_K[0], previous_NK = 0, []
  for piece in pieces:
    switched = best_K.argmax()
    is_kept_K = best_K >= best_K[switched] - SWITCH
    previous_NK.append(np.where(is_kept_K, np.arange(len(best_K)), switched))
    best_K = np.maximum(best_K, best_K[switched] - SWITCH)
    best_K = best_K + _log_likelihoods(' '.join(piece))
  found = [int(best_K.argmax())]
  for previous_K in previous_NK[:0:-1]:
    found.append(int(previous_K[found[-1]]))
  return [KNOWN[n] for n in reversed(found)]


def _log_likelihoods(text):
  """log p(text | language), up to a constant; 0 for a text without features."""
  score_of = dict(_identifier().rank(text))
  score_K = np.array([score_of[x] for x in KNOWN], np.float64)
  score_K -= score_K.max()
  return score_K


@functools.cache
def _identifier():
  """py3langid's model; not its global one, which a user's reward may change."""
  identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE)
  identifier.set_languages(KNOWN)
  return identifier
