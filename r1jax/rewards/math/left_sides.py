r"""Says what stands before the sign of `name = value`.

A name names one quantity and does not change the value: x, f(2), AB,
\angle ABC, P(X>2), \gcd(12,18), \int ..., \frac{dy}{dx}, \sin A, words. An
expression in two or more unknowns, m+n, is the quantity that was asked for if
the gold is a bare value, and one side of an equation otherwise. In one unknown,
or in x and y with coefficients, it is an equation, 2x = 10 or 2x + y = 6, and
its value is not the other side.
"""

import re

MAX_LEFT = 200  # characters
NAME, EXPRESSION, EQUATION = 'name', 'expression', 'equation'

GREEK = '|'.join(
  """alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota
  kappa lambda mu nu xi rho sigma tau upsilon phi varphi chi psi omega Gamma Delta
  Theta Lambda Xi Sigma Phi Psi Omega ell""".split()
)
LETTER = rf'(?:[a-zA-Z]|\\(?:{GREEK})(?![a-zA-Z]))'
SUBSCRIPT = r"(?:'|_\w|_\{[^{}]*\}|_\\[a-zA-Z]+)"
VARIABLE = re.compile(
  rf'{LETTER} ?{SUBSCRIPT}*|\([a-zA-Z](?: ?, ?[a-zA-Z])+\)', re.ASCII
)
ORNAMENTS = re.compile(
  r'\\(?:overline|overrightarrow|overleftarrow|vec|widehat|widetilde|hat|bar|'
  r'tilde|overset|angle|measuredangle|sphericalangle|triangle|arc|square|'
  r'wideparen|overarc|parallelogram|odot|lVert|rVert)(?![a-zA-Z])|'
  r'(?<![a-zA-Z])m(?= ?\\angle)|[|{}\[\] ]|\\\|'
)
MARK = re.compile(
  r'\\(?:vec|hat|bar|overline|overrightarrow|widehat|tilde|angle)'
)
RATIO = re.compile(r'[a-zA-Z]{1,2}(?: ?: ?[a-zA-Z]{1,2})+')
POINTS = re.compile(r"(?:[A-Z](?:'|_\d|_[a-z])*){1,8}")
WORDS = re.compile(r"[a-zA-Z][a-zA-Z ,.'()-]*[a-zA-Z.)]")
PROSE = re.compile(r'(?<![a-zA-Z\\])[a-zA-Z]{4,}')
NEGATIONS = re.compile(
  r"(?i)\b(?:not|no|never|isn|isn't|wrong|false|incorrect|or|than|least|most|"
  r'less|more|approximately|about|between|over|under|perhaps|maybe)\b'
)
HEAD = re.compile(
  rf'(?:{LETTER}|\\?[a-zA-Z]{{2,12}}|\\mathbb\{{?[A-Z]\}}?) ?'
  rf'(?:{SUBSCRIPT}|\^\{{?(?:-1|\(\w+\)|\w)\}}?)* ?(?=[(\[])'
)
HEAD_NAMES = set(
  """gcd lcm max min det deg dim rank Pr Var Cov E P N lim sup inf ord arg Arg
  Re Im tr mod area Area vol Vol mathbb cov var prob Prob proj card
  hcf""".split()
)
OPERATOR = re.compile(
  r'\\(?:int|iint|iiint|oint|sum|prod|lim|limsup|liminf|gcd|det|max|min|'
  r'sup|inf|deg|dim|ker|arg|Pr|hom|nabla|Re|Im|bigcup|bigcap)(?![a-zA-Z])|'
  r'(?:gcd|lcm|lim|det|max|min|Pr|LCM|GCD|HCF)(?![a-zA-Z])'
)
DERIVATIVE = re.compile(
  r'\\frac ?\{ ?(?:d|\\partial)[^{}]*\} ?\{ ?(?:d|\\partial)'
)
FUNCTION = r'(?:sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|sinh|cosh|tanh)'
OF_ANGLE = re.compile(
  rf'\\?{FUNCTION}(?:\^\{{?[2-9]\}}?)? ?(?:\(?[^()=+*/^\d]{{1,30}}\)?|'
  rf'\([^()=*/^\d]{{1,30}}\)|\(?\d? ?(?:[A-Z]|\\(?:{GREEK})) ?\)?|'
  rf'\(?\\frac\{{(?:[A-Z]|\\(?:{GREEK}))\}}\{{\d\}}\)?)'
)
# The modulus of a number or the norm of a vector; |x| = 5 is to be solved.
MODULUS = re.compile(
  r'\| ?(?:[zwabuv]|z_\d|\\vec\{?[a-z]\}?) ?\||\\\|.{1,30}\\\|'
)
COEFFICIENT = re.compile(r'(?<![\^_\d])(?<![\^_]\{)\d')
COMMAND = re.compile(r'\\([a-zA-Z]+)')
UNKNOWN = re.compile(rf'(?:{LETTER})(?:{SUBSCRIPT})*')
RELATION = re.compile(r'[<>]|\\(?:le|ge|ne|approx|in)(?![a-zA-Z])')
APPLICATION = re.compile(r'(?<![a-zA-Z\\])[fghFGHP] ?\(')
CONSTANTS = {'e', 'i'}
NOT_UNKNOWN = re.compile(
  rf'(?!{LETTER})\\[a-zA-Z]+|(?<![a-zA-Z\\])(?:{FUNCTION}|ln|log|exp|sqrt|pi|deg)'
  r'(?![a-zA-Z])'
)


def kind(text: str) -> str:
  """NAME, EXPRESSION or EQUATION for the left side of an equality."""
  text = text.strip()
  if len(text) > MAX_LEFT or not text:
    return EQUATION
  if VARIABLE.fullmatch(text) and text not in CONSTANTS:
    return NAME
  if (
    RATIO.fullmatch(text)
    or _is_points(text)
    or _is_words(text)
    or _is_application(text)
  ):
    return NAME
  if OPERATOR.match(text) or DERIVATIVE.match(text):
    return NAME
  if MODULUS.fullmatch(text) or text in (r'\sigma^2', r'\sigma^{2}'):
    return NAME
  if OF_ANGLE.fullmatch(text) and unknowns(text):
    return NAME
  if RELATION.search(text) or PROSE.search(text) or NEGATIONS.search(text):
    return EQUATION
  if len(APPLICATION.findall(text)) > 1:  # f(1) + f(2)
    return EXPRESSION
  found = unknowns(text)
  if found <= {'x', 'y', 'z'} and COEFFICIENT.search(text):
    return EQUATION  # of a line or a circle
  return EXPRESSION if len(found) > 1 else EQUATION


def normal(text: str) -> str:
  r"""A name in normal form: AB for \overline{AB}, ABC for \angle ABC."""
  text = text.strip()
  if _is_points(text):
    return ORNAMENTS.sub('', text)
  if _is_words(text):
    return ' '.join(text.casefold().removeprefix('the ').split())
  text = re.sub(r'_ ?\{(\w)\}', r'_\1', text)
  return text.replace(' ', '').replace('\\dfrac', '\\frac')


def _is_points(text):
  bare = ORNAMENTS.sub('', text)
  if MARK.search(text) and VARIABLE.fullmatch(bare):
    return True
  return POINTS.fullmatch(bare) is not None and (bare != text or len(bare) > 1)


def _is_words(text):
  if not WORDS.fullmatch(text) or NEGATIONS.search(text):
    return False
  return PROSE.search(text) is not None


def _is_application(text):
  """f(2), P(X > 2), E[X]: a name before brackets that end the text."""
  match = HEAD.match(text)
  if not match or text[-1] not in ')]':
    return False
  depth = 0
  for n, char in enumerate(text[match.end() :], match.end()):
    depth += (char in '([') - (char in ')]')
    if depth == 0 and n < len(text) - 1:
      return False
  head = re.sub(r'[^a-zA-Z]', '', match[0].split('^')[0].split('_')[0])
  if match[0].lstrip().startswith('\\'):
    head = COMMAND.match(match[0].lstrip())[1]
  if len(head) > 1 and head not in HEAD_NAMES and not _is_greek(text):
    return False
  if not text[match.end() + 1 : -1].strip():
    return False
  # x(x+1) is a product.
  return len(head) > 1 or head not in unknowns(text[match.end() :])


def _is_greek(text):
  return text[0] == '\\' and re.match(LETTER, text) is not None


def unknowns(text: str) -> set[str]:
  """The unknowns of an expression: letters, with their subscripts."""
  text = NOT_UNKNOWN.sub(' ', text)
  found = {match[0] for match in UNKNOWN.finditer(text)}
  return found - CONSTANTS
