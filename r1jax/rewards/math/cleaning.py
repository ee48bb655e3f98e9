r"""Normalises the text of an answer: digits, signs, spaces and LaTeX markup.
Phrases that introduce an answer ("The answer is") are removed."""

import re
import unicodedata
from collections.abc import Callable

MAX_CHOICE = 200  # characters of an answer that names a choice
GREEK = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu
xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi
Psi Omega""".split()
SIGNS = """cdot cdot times div le le ge ge ne approx pm mp pi infty cup in
lfloor rfloor lceil rceil langle rangle""".split()
CHARACTERS = 'αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΣΦΨΩ·⋅×÷≤⩽≥⩾≠≈±∓π∞∪∈⌊⌋⌈⌉⟨⟩'
REPLACEMENTS = {c: rf'\{name} ' for c, name in zip(CHARACTERS, GREEK + SIGNS)}
REPLACEMENTS |= {'°': r'^\circ ', '∅': r'\emptyset', 'ℝ': r'\mathbb{R}'}
REPLACEMENTS |= {'或': ' or ', '和': ' and '}
REPLACEMENTS |= dict.fromkeys('−–‐‑﹣', '-') | dict(zip('⁄∕’′。、', "//''.,"))
REPLACEMENTS |= dict.fromkeys('\u2009\u202f\u00a0', r'\,')  # narrow, no-break
SMALL_DIGITS = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ₀₁₂₃₄₅₆₇₈₉', '0123456789-n0123456789')

# (pattern, replacement), applied in this order.
REWRITES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
  (r'\s+', ' '),
  (r'\\\\', '\n'),  # the next row of a matrix
  (r'\\! ?', ''),
  (
    r'(?<![\d.])\d{1,3}(?:(?:\\,|\{,\})\d{3})+(?!\d)',
    lambda match: re.sub(r'\D', '', match[0]),
  ),
  (r'\\[,;: ]|\\q?quad(?![a-zA-Z])|(?<=\S)~', ' '),
  (r'\\[()\[\]]|\\[bB]igg?[lr]?(?![a-zA-Z])', ''),
  (r'\\(?:left|right|displaystyle|boxed|fbox)(?![a-zA-Z])', ''),
  (
    r'\\(?:text(?:bf|it|rm)?|mbox|math(?:rm|bf)|operatorname) ?\{([^{}]*)\}',
    r' \1 ',
  ),
  (r'\\[dtc]frac', r'\\frac'),
  (r'\\[dt]binom', r'\\binom'),
  (r'\{([^{}]*)\\choose([^{}]*)\}', r'\\binom{\1}{\2}'),
  (r'\\[lr]?vert(?![a-zA-Z])|\\mid(?![a-zA-Z])', '|'),
  (r'\\langle(?![a-zA-Z])', '('),
  (r'\\rangle(?![a-zA-Z])', ')'),
  (r'\\varnothing|\\\{ ?\\\}', r'\\emptyset'),
  (r'\\neq(?![a-zA-Z])| != ', r'\\ne '),
  (r'(?<![a-zA-Z])infinity(?![a-zA-Z])', r'\\infty'),
  (
    r'(?<=\d)(\.\d*)\\dot\{?(\d)\}?(\d*)\\dot\{?(\d)\}?',
    r'\1\\overline{\2\3\4}',
  ),
  (r'(?<=\d)(\.\d*)\\(?:dot|bar) ?\{?(\d+)\}?', r'\1\\overline{\2}'),
  (r' ?\^ ?(?:\{ ?\\circ ?\}|\\circ)|\\degree(?![a-z])', ' deg '),
  (r'\*\*', '^'),
  (r' ?(?:\*|\\(?:cdot|times)(?![a-zA-Z])) ?', '*'),
  (r'√ ?(\d+|[a-zA-Z])', r'\\sqrt{\1}'),
  (r'∛ ?(\d+|[a-zA-Z])', r'\\sqrt[3]{\1}'),
  (r'√', r'\\sqrt'),
  (r'(\\frac|\\sqrt) ?(\d|(?<= )[a-zA-Z])', r'\1{\2}'),
  (r'(\\frac) ?(\{[^{}]*\}) ?([\da-zA-Z])', r'\1\2{\3}'),
  (r'\\([$%])', r'\1'),
  (r' +', ' '),
  (r' (?=[\^_,)\]}])|(?<=[(\[{]) ', ''),
]
COMPILED_REWRITES = [(re.compile(pattern), new) for pattern, new in REWRITES]
INTRODUCTION = re.compile(
  r'(?i)(?:(?:so|thus|hence|therefore),? )?(?:(?:the|our|final|correct) )*'
  r'(?:answer|result)(?:: ?| is:? | = ?| )|'
  r'(?:所以|因此|故)?,?(?:最终|正确|最后)?的?答案(?:应?(?:是|为))?:? ?'
)
CHOICE = re.compile(
  r'(?is)(?:(?:option|choice) |故?选(?:项|择)?:? ?)?'
  r'(?:\(([A-J])\)(?= |[.:]|$)|([A-J])(?=[).:]|$))[).:]* ?(.*)'
)
OTHER_CHOICE = re.compile(r'(?<![a-zA-Z\\])[A-J](?![a-zA-Z])')


def clean(text: str) -> str:
  """The text in normal form, as the readers of answers expect it."""
  if not text.isascii():
    text = re.sub('[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+', r'^{\g<0>}', text)
    text = re.sub('[₀-₉]+', r'_{\g<0>}', text).translate(SMALL_DIGITS)
    text = ''.join(map(_normal_character, text))
  text = text.strip()
  if text.startswith('**') and text.endswith('**'):
    text = text[2:-2]
  if len(re.findall(r'(?<!\\)\$', text)) % 2 == 0:
    text = re.sub(r'(?<!\\)\$', '', text)
  for pattern, replacement in COMPILED_REWRITES:
    text = pattern.sub(replacement, text)
  text = text.strip()
  if match := INTRODUCTION.match(text):
    text = text[match.end() :]
  return text.strip().removesuffix('.').strip()


def choice(text: str) -> str | None:
  """The capital letter of a choice, as B, (B), 'B) 4', 'option B', or None."""
  if len(text) > MAX_CHOICE:
    return None
  match = CHOICE.fullmatch(clean(text))
  if not match or OTHER_CHOICE.search(match[3]):
    return None
  letter = match[1] or match[2]
  return letter if letter.isupper() else None


def tight(text: str) -> str:
  """The text without spaces, except between two digits: "3 4" is not 34."""
  return re.sub(r'(?<!\d) +| +(?!\d)', '', text)


def _normal_character(char):
  if char.isascii() or char in REPLACEMENTS:
    return REPLACEMENTS.get(char, char)
  if char.isdecimal():
    return str(unicodedata.decimal(char))
  form = unicodedata.normalize('NFKC', char)
  if '⁄' in form:  # a fraction such as ½, perhaps after a whole number
    return f' {form} '.replace('⁄', '/')
  if unicodedata.category(char) == 'Cf':
    return ''
  return form if form.isascii() and not char.isnumeric() else char
