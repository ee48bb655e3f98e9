r"""Normalises the text of an answer: digits, signs, spaces and LaTeX markup.
Sentences that end with the answer are cut to it."""

import re
import unicodedata
from collections.abc import Callable

from r1jax.rewards.math import (
  approximations,
  combinatorics,
  dress,
  sentences,
  undress,
)

MAX_CHOICE = 200  # characters of an answer that names a choice
GREEK = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu
xi rho sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi
Psi Omega""".split()
SIGNS = """cdot cdot times div le le ge ge ne approx pm mp pi infty cup in cap
lfloor rfloor lceil rceil langle rangle angle triangle setminus land lor int sum
partial""".split()
CHARACTERS = 'αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΣΦΨΩ·⋅×÷≤⩽≥⩾≠≈±∓π∞∪∈∩⌊⌋⌈⌉⟨⟩∠△∖∧∨∫∑∂'
REPLACEMENTS = {c: rf'\{name} ' for c, name in zip(CHARACTERS, GREEK + SIGNS)}
REPLACEMENTS |= {'°': r'^\circ ', '℃': r'^\circ C', '℉': r'^\circ F'}
REPLACEMENTS |= {'∅': r'\emptyset', 'ℝ': r'\mathbb{R}'}
REPLACEMENTS |= {'或': ' or ', '和': ' and ', '且': ' and '}
REPLACEMENTS |= {'µ': r'\mu ', '\u2126': r'\Omega '}
REPLACEMENTS |= {'；': ';', '∶': ':', '≡': r'\equiv ', '￠': '¢', '￡': '£'}
REPLACEMENTS |= dict.fromkeys('−–‐‑﹣', '-') | dict(zip('⁄∕’′。、', "//''.,"))
REPLACEMENTS |= dict.fromkeys('\u2009\u202f\u00a0', r'\,')  # narrow, no-break
SMALL_DIGITS = str.maketrans('⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ₀₁₂₃₄₅₆₇₈₉', '0123456789-n0123456789')

BASES = dict(two=2, three=3, four=4, five=5, six=6, seven=7, eight=8, nine=9)
BASES |= dict(ten=10, twelve=12, sixteen=16)

# (pattern, replacement), applied in this order.
REWRITES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
  (r'\s+', ' '),
  (r'\\\\(?:\[[\d.]+[a-z]+\])?|\\newline(?![a-zA-Z])', '\n'),  # the next row
  (r'\\+$', ''),
  (r'\\! ?', ''),
  (
    r'(?<![\d.])\d{1,3}(?:(?:\\,|\{,\})\d{3})+(?!\d)',
    lambda match: re.sub(r'\D', '', match[0]),
  ),
  (
    r'\\begin\{(array|tabular)\} ?(?:\[[tcb]\])? ?'
    r'\{(?:[lcr| ]|@ ?\{[^{}]*\})*\}',
    r'\\begin{\1}',
  ),
  (r'(\\begin\{align(?:ed)?at\*?\}) ?\{\d\}', r'\1'),
  (r'\\[,;:> ]|\\(?:q?quad|enspace|thinspace|space)(?![a-zA-Z])|~', ' '),
  (r'\\[()\[\]]', ''),
  (r'\\(?:SI|qty) ?\{([^{}]*)\} ?\{([^{}]*)\}', r'\1 \2'),
  (r'\\(?:lbrace|lbrack)(?![a-zA-Z]) ?', r'\\{'),
  (r'\\rbrace(?![a-zA-Z])', r'\\}'),
  (
    r'(?s)\\\{ ?\\begin\{(array|matrix|aligned|align\*?|gathered|split|alignedat)'
    r'\}(.*)'
    r'\\end\{\1\} ?$',
    r'\\begin{cases}\2\\end{cases}',
  ),
  (r'\\(?:[dtcsx]|nice|flat)frac(?![a-zA-Z])', r'\\frac'),
  (
    r'(\\(?:frac|sqrt|binom|overline)) (?=[{\[])|(?<=\})(?<!\\\}) (?=\{)',
    r'\1',
  ),
  (r'(?<=\d\.) (?=\\overline)', ''),
  (r'\\[dt]binom', r'\\binom'),
  (r'\\[lr]?vert(?![a-zA-Z])|\\mid(?![a-zA-Z])', '|'),
  (r'\\colon(?![a-zA-Z])|\{ ?: ?\}', ':'),
  (r'\\[lr]Vert(?![a-zA-Z])', r'\\|'),
  (r'\\langle(?![a-zA-Z])', '('),
  (r'\\rangle(?![a-zA-Z])', ')'),
  (r'\\varnothing|\\\{ ?\\\}|\\empty(?![a-zA-Z])', r'\\emptyset'),
  (r'\\neq(?![a-zA-Z])|\\not ?=| != ', r'\\ne '),
  (r'\\(?:land|wedge)(?![a-zA-Z])', ' and '),
  (r'\\(?:lor|vee)(?![a-zA-Z])', ' or '),
  (r'\\smallsetminus(?![a-zA-Z])|\\backslash(?![a-zA-Z])', r'\\setminus'),
  (r'(?<![a-zA-Z])[Ii]nfinity(?![a-zA-Z])', r'\\infty'),
  (r'\\(?:thickapprox|simeq|approxeq|doteq)(?![a-zA-Z])', r'\\approx'),
  (
    r'(?<=\d)(\.\d*)\\dot ?\{?(\d)\}?(\d*)\\dot ?\{?(\d)\}?',
    r'\1\\overline{\2\3\4}',
  ),
  (r'(?<=\d)(\.\d*)\\(?:dot|bar) ?\{?(\d+)\}?', r'\1\\overline{\2}'),
  (r' ?\^ ?(?:\{ ?\\circ ?\}|\\circ(?![a-z]))|\\degree(?![a-z])', ' deg '),
  (r'\\(?:textohm|ohm)(?![a-z])|(?<=\d) ?\\Omega(?![a-z])', ' Ω '),
  (r'(?<=\d) ?(k|M|m)(?: ?\\Omega(?![a-z]))', r' \1Ω '),
  (r'\\(?:textmu|upmu) ?', 'μ'),
  (r'(?<=[\d ])\\mu ?(?=[mgsAFCVHL](?![a-zA-Z]))', 'μ'),
  (r'\\(?:euro|texteuro)(?![a-z])', '€'),
  (r'\\(?:pounds|textsterling)(?![a-z])', '£'),
  (r'(?<=\d) ?\^ ?\{?o\}?(?![a-z])', ' deg '),
  (r'^ ?\]([^\[\]()]*,[^\[\]()]*)\[ ?$', r'(\1)'),  # ]1,2[
  (r'^ ?\]([^\[\]()]*,[^\[\]()]*)\] ?$', r'(\1]'),
  (r'^ ?\[([^\[\]()]*,[^\[\]()]*)\[ ?$', r'[\1)'),
  (r'(?<![\^_}\]a-zA-Z])\{ ?\}|(?<=[\d)])\{ ?\}', ''),
  (r'\*\*', '^'),
  (r' ?(?:\*|\\(?:cdot|times)(?![a-zA-Z])) ?', '*'),
  (
    rf'_ ?\{{? ?({"|".join(BASES)}) ?\}}?',
    lambda match: f'_{{{BASES[match[1]]}}}',
  ),
  (r'\((\d\w*)\) ?_', r'\1_'),
  (r'√ ?(\d+|[a-zA-Z])', r'\\sqrt{\1}'),
  (r'∛ ?(\d+|[a-zA-Z])', r'\\sqrt[3]{\1}'),
  (r'√', r'\\sqrt'),
  (r'(\\frac|\\sqrt) ?(\d|(?<= )[a-zA-Z])', r'\1{\2}'),
  (r'(\\frac) ?(\{[^{}]*\}) ?([\da-zA-Z])', r'\1\2{\3}'),
  (r'\\([$%#&])', r'\1'),
  (r' +', ' '),
  (r'(?<=\d) (?=[\u4e00-\u9fff])', ''),
  (r' (?=[\^_,;)\]}])|(?<=[(\[{]) ', ''),
  (
    r'(?<![\^_}\]a-zA-Z])\{(\d+\.?\d*|[a-zA-Z]|'
    r'\\(?:frac|binom)\{[^{}]*\}\{[^{}]*\}|\\sqrt\{[^{}]*\})\}',
    r'\1',
  ),
]
COMPILED_REWRITES = [(re.compile(pattern), new) for pattern, new in REWRITES]
CHOICE = re.compile(
  r'(?is)(?:(?:option|choice) |故?选(?:项|择)?:? ?)?'
  r'(?:\(([A-J])\)(?= |[.:]|$)|([A-J])(?=[).:]|$))[).:]* ?(.*)'
)
OTHER_CHOICE = re.compile(r'(?<![a-zA-Z\\])[A-J](?![a-zA-Z])')
# x=1 且 x=2, which no x is; the sign is not read.
CONTRADICTION = re.compile(r'([a-zA-Z]) ?=[^=且]*且(?= ?\1 ?=)')
BOLD = re.compile(r'(?<![^ ])\*\*(?! )([^*]+)\*\*(?=[ .,:]|$)')
EMPHASIS = re.compile(r'(\*{1,3}|_{1,2}|`+)([^*_`].*)\1', re.DOTALL)


def clean(text: str) -> str:
  """The text in normal form, as the readers of answers expect it."""
  if not text.isascii():
    text = CONTRADICTION.sub(r'\g<0>&', text)
    text = re.sub('[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+', r'^{\g<0>}', text)
    text = re.sub('[₀-₉]+', r'_{\g<0>}', text).translate(SMALL_DIGITS)
    text = ''.join(map(_normal_character, text))
  text = text.strip()
  if match := EMPHASIS.fullmatch(text):
    text = match[2]
  text = BOLD.sub(r'\1', text)
  is_even = len(re.findall(r'(?<!\\)\$', text)) % 2 == 0
  if is_even and not sentences.has_money(text):
    text = re.sub(r'(?<!\\)\$', '', text)
  text = re.sub(r'\\mathbf ?\{R\}', r'\\mathbb{R}', text)
  text = dress.remove(undress.remove(text))
  for pattern, replacement in COMPILED_REWRITES:
    text = pattern.sub(replacement, text)
  text = sentences.value(text.strip()).strip()
  text = text.rstrip(',;').removesuffix('.').strip()
  return combinatorics.expand(approximations.normal(text)).strip()


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
