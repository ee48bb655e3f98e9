r"""Removes the LaTeX commands that change how an answer looks and not what it
is: fonts, sizes, colours, boxes, spaces. {a \over b} becomes \frac{a}{b}."""

import re

# The command and the braces of its argument are removed.
KEEPS_ARGUMENT = set(
  """text textbf textit textrm textsf texttt textsc textsl textup textmd
  textnormal textsuperscript emph mbox hbox mathrm mathbf mathit mathsf mathtt
  mathnormal mathcal mathscr mathfrak boldsymbol bm pmb operatorname mathop
  mathord mathbin mathrel mathpunct mathinner underline uline ensuremath boxed
  fbox framebox makebox raisebox colorbox textcolor fcolorbox smash
  mathclose mathopen""".split()
)
DROPPED = {name: 0 for name in KEEPS_ARGUMENT}  # arguments before the kept one
DROPPED |= dict(textcolor=1, colorbox=1, fcolorbox=2, raisebox=1)
# The command and its argument are removed.
DROPS_ARGUMENT = set(
  """hspace vspace phantom hphantom vphantom label tag color hskip kern mspace
  definecolor""".split()
)
DECLARATIONS = set(
  """bf rm it sf tt sl sc em bfseries itshape slshape scshape upshape mdseries
  rmfamily sffamily ttfamily normalfont boldmath unboldmath tiny scriptsize
  footnotesize small normalsize large Large LARGE huge Huge displaystyle
  textstyle scriptstyle scriptscriptstyle limits nolimits left right middle big
  Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bigm Bigm noindent
  centering hfill hline allowbreak nobreak protect relax strut mathstrut null
  displaylimits upright""".split()
)
INFIX = {'over': 'frac', 'choose': 'binom'}
COMMAND = re.compile(r'\\([a-zA-Z]+)\*?')
NULL_DELIMITER = re.compile(r'\\(?:left|right) ?\.(?!\d)')
OPTION = re.compile(r' ?\[[^\[\]]*\]')


def remove(text: str) -> str:
  """The text without such commands. It must not be long."""
  if '\\' not in text:
    return text
  text = NULL_DELIMITER.sub(' ', text)
  closing, opening = _pairs(text)
  chars = list(text)
  for match in COMMAND.finditer(text):
    start, end, name = match.start(), match.end(), match[1]
    if start and text[start - 1] == '\\' and text[: start + 1].endswith(r'\\'):
      continue  # a line break before a word
    if name in INFIX:
      _make_prefix(chars, match, opening, closing)
    elif name in DROPS_ARGUMENT:
      argument = _skip_option(text, end, name == 'color')
      if argument in closing:
        chars[argument : closing[argument] + 1] = [''] * (
          closing[argument] + 1 - argument
        )
      chars[start:argument] = [' '] + [''] * (argument - start - 1)
    elif name in KEEPS_ARGUMENT or name in DECLARATIONS:
      _keep_argument(chars, text, match, closing)
  return ''.join(chars)


def _keep_argument(chars, text, match, closing):
  start, position, name = match.start(), match.end(), match[1]
  is_declaration = name in DECLARATIONS
  if not is_declaration:
    for _ in range(DROPPED[name]):
      position = closing.get(_skip_option(text, position), position - 1) + 1
    argument = _skip_option(text, position, name in ('textcolor', 'makebox'))
    if argument in closing:
      position = argument + 1
      chars[closing[argument]] = ' '
  chars[start:position] = [' '] + [''] * (position - start - 1)


def _make_prefix(chars, match, opening, closing):
  r"""{a \over b} as {\frac{a}{b}}, in place; also for a text without braces."""
  start, end = match.start(), match.end()
  chars[start:end] = ['}{'] + [''] * (end - start - 1)
  command = f'\\{INFIX[match[1]]}{{'
  group = opening.get(start)
  if group is None:
    chars[0] = command + chars[0]
    chars[-1] += '}'
  else:
    chars[group] += command
    chars[closing[group]] = '}' + chars[closing[group]]


def _skip_option(text, position, has_option=True):
  """The position of the argument after spaces and an option in brackets."""
  if has_option and (match := OPTION.match(text, position)):
    position = match.end()
  return position + (text[position : position + 1] == ' ')


def _pairs(text):
  r"""({opening brace: its closing brace}, {position of an \over or \choose: the
  brace that encloses it})."""
  closing, stack, opening, position = {}, [], {}, 0
  while position < len(text):
    char = text[position]
    if char == '\\':
      match = COMMAND.match(text, position)
      if match and match[1] in INFIX:
        opening[position] = stack[-1] if stack else None
      position += 2
      continue
    if char == '{':
      stack.append(position)
    elif char == '}' and stack:
      closing[stack.pop()] = position
    position += 1
  found = {x: y for x, y in opening.items() if y is None or y in closing}
  return closing, found
