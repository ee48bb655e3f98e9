r"""The prose of a text: its words without code and formulas.

In code, prose is what a compiler would not read or could not: comments, strings
of two words or more, lines of words without a sign of code, runs of four words,
and all letters that are neither Latin nor Greek. A fence that is not closed is
text. A formula is prose if it has two words in a row or such letters.
"""

import re

LATIN = r'A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af\u1e00-\u1eff'
GREEK = r'\u00b5\u0370-\u03ff\u1f00-\u1fff'
SYMBOLS = r'ªº\u2100-\u214f\U0001d400-\U0001d7ff'  # such as ℝ and 𝑥

FENCE = re.compile(r'\s*+(`{3,}+|~{3,}+)([^`]*)')
# Drawings in sets of problems.
ASY = re.compile(r'(?s)\[asy\]((?:(?!\[/?asy\]).)*)\[/asy\]')
SPAN = re.compile(r'(?<!`)(`++)([^`\n]+)\1(?!`)')
# Between two spans or two formulas, which are then one.
ADJACENT = re.compile(r'(?<=[^`$\s\\])(`++|\$)[ \t]++\1(?=[^`$\s])')

# No pattern matches across the start of another piece of its kind, so a text
# with unclosed delimiters is scanned in linear time.
FORMULA = re.compile(
  r'(?s)\$\$[^$]+\$\$'
  r'|\$(?=\S)[^$]+(?<=\S)\$(?!\d)'  # not between two prices
  r'|\\\((?:(?!\\[()]).)*\\\)'
  r'|\\\[(?:(?!\\[\[\]]).)*\\\]'
  r'|\\boxed\s*\{(?:[^{}]|\{[^{}]*\})*\}'
  r'|\\begin\{[^{}]*\}(?:(?!\\(?:begin|end)\{).)*\\end\{[^{}]*\}'
)
TEXT_COMMAND = re.compile(r'\\(?:text|math|operator)[a-z]*\*?\s?\{([^{}]*)\}')
ENVIRONMENT = re.compile(r'\\(?:begin|end)\*?\{[^{}]*\}')
IN_FORMULA = re.compile(
  r'(?<![^\W\d_])(?<!\\)[^\W\d_]{2,}+\s++[^\W\d_]{3}'
  r'|(?<![^\W\d_])(?<!\\)[^\W\d_]{3,}+\s++[^\W\d_]{2}'
  rf'|[^\W\d_A-Za-z{GREEK}{SYMBOLS}]'
)

FOREIGN = re.compile(rf'[^\W\d_{LATIN}{GREEK}{SYMBOLS}]+|[{GREEK}]{{4,}}')
STRING = re.compile(
  r'"([^"\n]*)"|(?<![^\W_])\'([^\'\n]*)\'(?![^\W_])|“([^“”\n]*)”'
)
COMMENT = re.compile(
  r'#(?!include|define)|(?<!:)//|/\*|\*/|--|<!--|\A\s*\*|"""|\'\'\''
)
NUMBERS = re.compile(r'(?<![\w.)\]])\d[\d\s+\-*/=.,%×÷^()]*')
CODE_SIGN = re.compile(r'\w[(\[]|\w\.\w|[{}\[\]_;=<>|&@$\\^~*/+"]')
COMMENT_SIGN = re.compile(r'\w[(\[]|\w\.\w|[{}\[\]_;\\]|==')
TOKEN = re.compile(rf"[{LATIN}]+(?:['’][{LATIN}]+)*")
RUN = re.compile(rf"(?<![{LATIN}'’])[{LATIN}'’]++(?:,? [{LATIN}'’]++){{3,}}+")
KEYWORDS = set(
  """and as asc assert async await begin bool break by case catch char class const
continue def default del desc do double elif else end enum except export false final
float fn for from func function global group if import in int interface is lambda let
long match new nil none nonlocal not null or order pass print private public raise
return select static string struct switch then throw true try type until var
void where while with yield""".split()
)
MIN_LINE, MIN_RUN = 2, 4  # words that are no keywords


def prose(text: str) -> str:
  """The text without code, formulas and LaTeX environments."""
  text = ASY.sub(lambda match: _code(match[1]), _without_blocks(text))
  text = ADJACENT.sub(' ', text)
  text = SPAN.sub(lambda match: _code_line(match[2]), text)
  return ENVIRONMENT.sub(' ', FORMULA.sub(_formula, text))


def _without_blocks(text):
  """The text with the prose of its closed fences in their place."""
  if '```' not in text and '~~~' not in text:
    return text
  lines = []
  mark = ''  # of the open fence
  begin = 0
  for line in text.split('\n'):
    match = FENCE.fullmatch(line)
    if not mark and match:
      mark, begin = match[1], len(lines)
      lines.append(match[2])
    elif mark and match and _closes(match, mark):
      lines[begin:] = [_code('\n'.join(lines[begin:]))]
      mark = ''
    else:
      lines.append(line)
  return '\n'.join(lines)


def _closes(match, mark):
  return match[1].startswith(mark) and not match[2].strip()


def _code(text):
  return '\n'.join(map(_code_line, text.split('\n')))


def _code_line(line):
  """The prose of a line of code."""
  kept, line = FOREIGN.findall(line), FOREIGN.sub(' ', line)
  if '"""' not in line and "'''" not in line:
    for match in STRING.finditer(line):
      string = ''.join(x or '' for x in match.groups())
      kept.append(string if len(TOKEN.findall(string)) >= MIN_LINE else '')
    line = STRING.sub(' "" ', line)
  code, comment = line, ''
  if match := COMMENT.search(line):
    code, comment = line[: match.start()], line[match.end() :]
  kept.append(_natural(code, CODE_SIGN, MIN_LINE))
  kept.append(_natural(comment, COMMENT_SIGN, 1))
  return f' {" ".join(kept)} '


def _natural(part, sign, minimum):
  """The words of a part of a line: all if it has no sign of code, else runs."""
  part = NUMBERS.sub(' ', part)
  if sign.search(part):
    runs = [run for run in RUN.findall(part) if _plain_words(run) >= MIN_RUN]
    return '\n'.join(runs)
  first = TOKEN.search(part)
  if first and first[0].lower() in KEYWORDS:
    minimum = max(minimum, MIN_RUN)
  return part if _plain_words(part) >= minimum else ''


def _plain_words(part):
  """The number of words that are no keywords."""
  words = TOKEN.findall(part)
  return sum(word.lower() not in KEYWORDS for word in words)


def _formula(match):
  """The words of a formula that contains prose, else a space."""
  formula = TEXT_COMMAND.sub(r' \1 ', match[0])
  return formula.strip('$') if IN_FORMULA.search(formula) else ' '
