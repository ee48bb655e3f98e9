r"""Language consistency: the share of target-language words in the thinking.

R1, eq. 7: Num(words of the target language) / Num(words). Definitions of ours:
- A word of Latin letters is English if all of them are ASCII: unaccented German
  is, `café` is not. A single letter is a variable, not a word, also `I`, `a`.
- Chinese is segmented by rjieba. Without that package two characters count as a
  word, as in Kana, Thai and other scripts without spaces. In other scripts a
  run of letters is a word; in Greek, only a run of four or more.
- Formulas, commands, function names, digits, letters next to a digit (`3x`,
  `5cm`) and code are not counted. A formula is counted if it contains prose or
  letters that are not mathematical, so that text cannot be hidden in it.
"""

import importlib.util
import re

import numpy as np

from r1jax import errors
from r1jax.data import templates
from r1jax.rewards.math import units
from r1jax.rewards.verdict import Record, Records, Texts

rjieba = None  # optional, for Chinese
if importlib.util.find_spec('rjieba'):
  rjieba = importlib.import_module('rjieba')

FUNCTIONS = units.FUNCTIONS | set(
  """lg max min mod gcd lcm lim sup inf det dim
arg sinh cosh tanh arcsin arccos arctan""".split()
)

LATIN = r'A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff'
HAN = r'々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff'
KANA = r'\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f'
UNSPACED = KANA + r'\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff'  # Thai to Khmer
GREEK = r'\u00b5\u0370-\u03ff\u1f00-\u1fff'
SYMBOLS = r'ªº\u2100-\u214f\U0001d400-\U0001d7ff'  # such as ℝ and 𝑥

# No pattern matches across the start of another piece of its kind, so a text
# with unclosed delimiters is scanned in linear time. An unclosed code fence
# extends to the end of the text.
CODE = r'```(?:(?!```).)*(?:```|\Z)|`[^`\n]+`'
FORMULA = (
  r'\$\$[^$]+\$\$',
  r'\$(?=\S)[^$]+(?<=\S)\$(?!\d)',  # not between two prices
  r'\\\((?:(?!\\[()]).)*\\\)',
  r'\\\[(?:(?!\\[\[\]]).)*\\\]',
  r'\\boxed\s*\{(?:[^{}]|\{[^{}]*\})*\}',
  r'\\begin\{[^{}]*\}(?:(?!\\(?:begin|end)\{).)*\\end\{[^{}]*\}',
)
NAMED = r'\\(?:begin|end|operatorname|math[a-z]+)\*?\{[^{}]*\}'
PIECE = re.compile(f'(?s)(?P<code>{CODE})|(?P<formula>{"|".join(FORMULA)})')
PROSE = re.compile(
  r'(?<![^\W\d_])[^\W\d_]{3,}+\s++[^\W\d_]{3}'
  rf'|[^\W\d_A-Za-z{GREEK}{SYMBOLS}]'
)
WORD = re.compile(
  rf'(?P<symbol>{NAMED}|\\[A-Za-z]+|[{SYMBOLS}]+'
  rf'|(?<=\d)[A-Za-z]{{1,2}}(?![{LATIN}])|(?<![{LATIN}])[A-Za-z]{{1,2}}(?=\d))'
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


def target(record: Record) -> str:
  """The record's `language`, or the one with more words in its prompt."""
  language = record.get('language')
  if language is None:
    words = count(record['prompt'])
    return 'zh' if words['zh'] > words['en'] else 'en'
  if language not in ('en', 'zh'):
    raise errors.UserError(
      f'record {record["id"]} has the language {language!r}: make it en or zh'
    )
  return language


def share(text: str, language: str) -> float:
  """Words of the language / all words; 0 for a text without words."""
  words = count(text)
  total = sum(words.values())
  return words[language] / total if total else 0.0


def count(text: str) -> dict[str, float]:
  """The number of words of a text: {'en': …, 'zh': …, 'other': …}."""
  words: dict[str, float] = dict(en=0, zh=0, other=0)
  han = []
  for match in WORD.finditer(PIECE.sub(_formula, text)):
    run, kind = match[0], match.lastgroup
    if kind == 'han':
      han.append(run)
    elif kind == 'latin' and run.replace('’', '').isascii():
      words['en'] += len(run) > 1 and run.lower() not in FUNCTIONS
    elif kind == 'unspaced':
      words['other'] += len(run) / 2
    elif kind == 'latin' or (kind == 'greek' and len(run) > 3):
      words['other'] += 1
    elif kind == 'other':
      words['other'] += any(map(str.isalpha, run))  # not ½ or ²
  if rjieba:
    words['zh'] = sum(not word.isspace() for word in rjieba.cut(' '.join(han)))
  else:
    words['zh'] = sum(map(len, han)) / 2
  return words


def _formula(match):
  """The text of a formula that contains prose, a space for other pieces."""
  formula = match['formula'] or ''
  return formula.strip('$') if PROSE.search(formula) else ' '
