r"""Language consistency: the share of target-language words in the thinking.

R1, eq. 7: Num(words of the target language) / Num(words). The paper states
neither the segmentation nor the target; the rules that one might argue with:
- English is told by its letters: unaccented German passes for it, `café` is
  foreign. A single letter is a variable and no word, `I` and `a` too.
- Chinese is told by its characters and cut by rjieba; without that package two
  characters are a word, so that shares differ a little from one to the other.
  Scripts without spaces (kana, Thai) count two characters a word, all other
  letters a run a word, Greek from four letters on.
- Formulas, commands, function names, digits, and letters that touch a digit
  (`3x`, `5cm`) count for nothing, nor does code. A formula with prose in it, or
  with letters that mathematics has not, counts: no language hides there.
- A thinking without a word has share 0: with 1, thinking nothing would pay.
"""

import re

import numpy as np

from r1jax import errors
from r1jax.data import templates
from r1jax.rewards.math import value_forms

try:
  import rjieba
except ImportError:  # Characters are counted instead: see above.
  rjieba = None

LANGUAGES = 'en', 'zh'
FUNCTIONS = value_forms.FUNCTIONS.union(
  'lg max min mod gcd lcm lim sup inf det dim arg sinh cosh tanh arcsin arccos '
  'arctan'.split()
)

LATIN = r'A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff'
HAN = r'々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff'
KANA = r'\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f'
UNSPACED = KANA + r'\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff'  # Thai to Khmer
GREEK = r'\u00b5\u0370-\u03ff\u1f00-\u1fff'
SYMBOLS = r'ªº\u2100-\u214f\U0001d400-\U0001d7ff'  # letters like ℝ and 𝑥

# No piece can contain the start of another one of its kind, so that text which
# is never closed is scanned once. A fence that is never closed ends the text.
CODE = r'```(?:(?!```).)*(?:```|\Z)|`[^`\n]+`'
FORMULA = (
  r'\$\$[^$]+\$\$',
  r'\$(?=\S)[^$]+(?<=\S)\$(?!\d)',  # but not from one price to the next
  r'\\\((?:(?!\\[()]).)*\\\)',
  r'\\\[(?:(?!\\[\[\]]).)*\\\]',
  r'\\boxed\s*\{(?:[^{}]|\{[^{}]*\})*\}',
  r'\\begin\{[^{}]*\}(?:(?!\\(?:begin|end)\{).)*\\end\{[^{}]*\}',
)
NAMED = r'\\(?:begin|end|operatorname|math[a-z]+)\*?\{[^{}]*\}'
PIECE = re.compile(
  f'(?P<code>{CODE})|(?P<formula>{"|".join(FORMULA)})', re.DOTALL
)
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


def language(records, texts):
  """The share of each record's language in the thinking, float32."""
  return np.array(
    [
      share(thinking(text), target(record))
      for record, text in zip(records, texts, strict=True)
    ],
    np.float32,
  )


def thinking(text):
  """What stands in the think tags; all that follows one never closed."""
  if '</think>' in text:
    return templates.think_split(text)[0]
  return text.partition('<think>')[2]


def target(record):
  """The record's `language`, else that of most words of its prompt; 'en' where
  neither tells."""
  named = record.get('language')
  if named is None:
    words = count(record['prompt'])
    return 'zh' if words['zh'] > words['en'] else 'en'
  if named not in LANGUAGES:
    raise errors.UserError(
      f'record {record["id"]} has the language {named!r}: make it '
      f'{" or ".join(LANGUAGES)}, or leave the key out'
    )
  return named


def share(text, language):
  """Words of the language by all words, 0 where there are none."""
  words = count(text)
  total = sum(words.values())
  return words[language] / total if total else 0.0


def mixed(text, language, limit):
  """Whether it has words, and less than `limit` of them are the language's."""
  words = count(text)
  return words[language] < limit * sum(words.values())


def count(text):
  """{'en', 'zh', 'other'}: how many words of each the text has."""
  words, han = dict(en=0, zh=0, other=0), []
  for match in WORD.finditer(PIECE.sub(_formula, text)):
    run, kind = match[0], match.lastgroup
    if kind == 'han':
      han.append(run)
    elif kind == 'latin' and run.replace('’', '').isascii():
      words['en'] += len(run) > 1 and run.lower() not in FUNCTIONS
    elif kind == 'unspaced':
      words['other'] += len(run) / 2
    elif kind == 'latin' or kind == 'greek' and len(run) > 3:
      words['other'] += 1
    elif kind == 'other':
      words['other'] += any(map(str.isalpha, run))  # not ½ or ²
  words['zh'] = _chinese(han)
  return words


def _formula(match):
  piece = match['formula']
  return piece.strip('$') if piece and PROSE.search(piece) else ' '


def _chinese(runs):
  if rjieba is None:
    return sum(map(len, runs)) / 2
  return sum(not word.isspace() for word in rjieba.cut(' '.join(runs)))
