r"""Language consistency: the share of target-language words in the thinking.

R1, eq. 7: Num(words of the target language) / Num(words). Definitions of ours:
- The target is the record's `language`, else the main one of its prompt: zh, or
  one of latin.LANGUAGES (en, de, fr, es, …). All others are `other`.
- Latin words are told apart by sentence (`latin`), also from some languages that
  cannot be targets, as Latin or Swahili. Other languages are known by script:
  Russian is other, as is Bulgarian. Han is Chinese, and Japanese in a sentence
  with Kana.
- Chinese is segmented by rjieba. Without that package two characters count as a
  word, as in Kana, Thai and other scripts without spaces. In other scripts a
  run of letters is a word; in Greek, only a run of four or more.
- Not counted are numbers, formulas, commands, function names, letters next to a
  digit (`3x`, `5cm`), up to three letters next to `=` or `^` (`F = ma`), single
  letters and single names of two to four capitals (`I`, `a`, `AB`), and code.
  The prose in code or in a formula is counted, so that text cannot be hidden
  there (`prose`).
"""

import functools
import html
import importlib.util
import re
import unicodedata
from types import ModuleType

import numpy as np

from r1jax import errors
from r1jax.data import templates
from r1jax.rewards import latin, prose
from r1jax.rewards.prose import GREEK, LATIN, SYMBOLS
from r1jax.rewards.verdict import Record, Records, Texts

TARGETS = 'zh', *latin.LANGUAGES
MIN_KANA = 0.2  # of the Kana and Han of a Japanese sentence
FUNCTIONS = set(
  """pi sqrt frac sin cos tan cot sec csc log ln exp lg max min mod gcd lcm lim
sup inf det dim arg sinh cosh tanh arcsin arccos arctan""".split()
)

HAN = r'々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff'
KANA = r'\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f'
UNSPACED = KANA + r'\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff'  # Thai to Khmer
WIDE = {0xFF21 + n: 0x41 + n for n in range(26)}  # full-width Latin letters
WIDE |= {0xFF41 + n: 0x61 + n for n in range(26)}

# Soft hyphens, zero-width characters, marks of direction and variants.
INVISIBLE = re.compile(
  '[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f'
  '\ufe00-\ufe0f\ufeff]'
)
# Long runs of combining marks would take quadratic time to normalise.
MARKS = re.compile(r'([^\w\s!-~]{8})[^\w\s!-~]+')
END = re.compile(r'[。！？；\n]+|(?<![.!?;:])[.!?;:]++(?=\s|$)')
WORD = re.compile(
  rf'(?P<symbol>\\[A-Za-z]+|[{SYMBOLS}]+'
  rf'|(?<=\d)[A-Za-z]{{1,2}}(?![{LATIN}])|(?<![{LATIN}])[A-Za-z]{{1,2}}(?=\d)'
  rf'|(?<![{LATIN}])[A-Za-z]{{2,3}}(?=\s?[=^])'
  rf'|(?:(?<=[=^])|(?<=[=^]\s))[A-Za-z]{{2,3}}(?![{LATIN}])'
  rf'|(?<![{LATIN}])(?<![A-Z]\ )[A-Z]{{2,4}}(?![{LATIN}]|\ [A-Z]{{2}}))'
  rf"|(?P<latin>[{LATIN}]+(?:['’][{LATIN}]+)*)"
  rf'|(?P<han>[{HAN}]+)|(?P<unspaced>[{UNSPACED}]+)|(?P<greek>[{GREEK}]+)'
  rf'|(?P<other>[^\W\d_{LATIN}{HAN}{UNSPACED}{GREEK}{SYMBOLS}]+)'
)


def language(records: Records, texts: Texts) -> np.ndarray:
  """The share of each record's target language in the thinking, float32."""
  shares = map(share, map(thinking, texts), map(target, records))
  return np.array(list(shares), np.float32)


def thinking(text: str) -> str:
  """The text between the think tags, or after <think> if it is not closed."""
  if '</think>' in text:
    return templates.think_split(text)[0]
  return text.partition('<think>')[2]


def check(record: Record) -> None:
  """Raises UserError if the record's `language` is none of TARGETS."""
  language = record.get('language')
  if language is not None and language not in TARGETS:
    raise errors.UserError(
      f'record {record["id"]} has the language {language!r}: make it one of '
      f'{", ".join(TARGETS)}'
    )


def target(record: Record) -> str:
  """The record's `language`, or the one with most words in its prompt; English
  if there are none. Raises UserError as `check`."""
  check(record)
  if record.get('language') is not None:
    return record['language']
  words = count(record['prompt'])
  return max((*latin.LANGUAGES, 'zh'), key=words.__getitem__)


def share(text: str, language: str) -> float:
  """Words of the language / all words; 0 for a text without words."""
  words = count(text)
  total = sum(words.values())
  return words[language] / total if total else 0.0


def count(text: str) -> dict[str, float]:
  """The number of words of a text in each of TARGETS and in 'other'."""
  text = INVISIBLE.sub('', html.unescape(text))
  text = unicodedata.normalize('NFC', MARKS.sub(r'\1', text)).translate(WIDE)
  sentences, han, others = [], [], 0.0
  for sentence in END.split(prose.prose(text)):
    words: dict[str, list[str]] = dict(
      latin=[], han=[], unspaced=[], greek=[], other=[], symbol=[]
    )
    for match in WORD.finditer(sentence):
      words[match.lastgroup or 'symbol'].append(match[0])
    sentences.append([word for word in words['latin'] if _is_word(word)])
    if _is_japanese(words):
      words['unspaced'] += words.pop('han')
    han += words.get('han', [])
    others += sum(map(len, words['unspaced'])) / 2
    others += sum(len(word) > 3 for word in words['greek'])
    # Not ½ or ².
    others += sum(any(map(str.isalpha, word)) for word in words['other'])
  counts: dict[str, float] = dict(zh=_chinese(han), **latin.count(sentences))
  counts['other'] += others
  return counts


def _is_word(word):
  return len(word) > 1 and word.lower() not in FUNCTIONS


def _is_japanese(words):
  kana = sum(len(re.findall(f'[{KANA}]', run)) for run in words['unspaced'])
  return kana > MIN_KANA * (kana + sum(map(len, words['han'])))


def _chinese(han):
  """The number of words in runs of Han."""
  rjieba = chinese_segmenter()
  if rjieba:
    return sum(not word.isspace() for word in rjieba.cut(' '.join(han)))
  return sum(map(len, han)) / 2


@functools.cache
def chinese_segmenter() -> ModuleType | None:
  """The module rjieba, which is optional and takes time to import."""
  if importlib.util.find_spec('rjieba'):
    return importlib.import_module('rjieba')
  return None
