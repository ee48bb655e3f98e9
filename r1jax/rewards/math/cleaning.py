r"""One spelling of what a model wrote for an answer: digits, signs, spaces and
ornaments of LaTeX, without the words that announce it."""

import re
import unicodedata

MAX_CHOICE = 200  # characters of an answer that names a choice
GREEK = dict(
  zip(
    'αβγδεζηθικλμνξρστυφχψωΓΔΘΛΞΣΦΨΩ',
    'alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho '
    'sigma tau upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi '
    'Omega'.split(),
    strict=True,
  )
)
SPELLINGS = {
  **dict.fromkeys('−–‐‑﹣', '-'),
  **dict.fromkeys('\u2009\u202f\u00a0', r'\,'),  # thin and no-break spaces
  **dict.fromkeys('⁄∕', '/'),
  **dict.fromkeys('·⋅', r'\cdot '),
  **dict.fromkeys('’′', "'"),
  **dict.fromkeys('≤⩽', r'\le '),
  **dict.fromkeys('≥⩾', r'\ge '),
  **{'×': r'\times ', '÷': r'\div ', 'π': r'\pi ', '∞': r'\infty '},
  **{'∪': r'\cup ', '∈': r'\in ', '±': r'\pm ', '∓': r'\mp ', '°': r'^\circ '},
  **{'≠': r'\ne ', '≈': r'\approx ', '∅': r'\emptyset ', 'ℝ': r'\mathbb{R}'},
  **{'⌊': r'\lfloor ', '⌋': r'\rfloor ', '⌈': r'\lceil ', '⌉': r'\rceil '},
  **{'⟨': r'\langle ', '⟩': r'\rangle '},
  **{'。': '.', '、': ',', '或': ' or ', '和': ' and '},
  **{c: rf'\{name} ' for c, name in GREEK.items()},
}
SMALL = '⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ', '₀₁₂₃₄₅₆₇₈₉'

# One spelling of LaTeX, applied in this order.
REWRITES = [
  (re.compile(pattern), new)
  for pattern, new in (
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
  )
]
SPOKEN = re.compile(
  r'(?:(?:so|thus|hence|therefore),? )?(?:(?:the|our|final|correct) )*'
  r'(?:answer|result)(?:: ?| is:? | = ?| )|'
  r'(?:所以|因此|故)?,?(?:最终|正确|最后)?的?答案(?:应?(?:是|为))?:? ?',
  re.IGNORECASE,
)
CHOICE = re.compile(
  r'(?:(?:option|choice) |故?选(?:项|择)?:? ?)?'
  r'(?:\(([A-J])\)(?= |[.:]|$)|([A-J])(?=[).:]|$))[).:]* ?(.*)',
  re.DOTALL | re.IGNORECASE,
)
OTHER_CHOICE = re.compile(r'(?<![a-zA-Z\\])[A-J](?![a-zA-Z])')


def clean(text):
  """The one spelling."""
  if not text.isascii():
    for mark, small in zip('^_', SMALL):
      big = str.maketrans(small, '0123456789-n'[: len(small)])
      text = re.sub(
        f'[{small}]+', lambda m: f'{mark}{{{m[0].translate(big)}}}', text
      )
    text = ''.join(map(_spelling, text))
  text = text.strip()
  if text.startswith('**') and text.endswith('**'):
    text = text[2:-2]
  if len(re.findall(r'(?<!\\)\$', text)) % 2 == 0:
    text = re.sub(r'(?<!\\)\$', '', text)
  for pattern, new in REWRITES:
    text = pattern.sub(new, text)
  text = text.strip()
  if match := SPOKEN.match(text):
    text = text[match.end() :]
  return text.strip().removesuffix('.').strip()


def choice(text):
  """The capital letter that a text names as one of several choices, as in B,
  (B), 'B) 4' or 'option B', or None."""
  if len(text) > MAX_CHOICE:
    return None
  match = CHOICE.fullmatch(clean(text))
  letter = match and (match[1] or match[2])
  if not match or not letter.isupper() or OTHER_CHOICE.search(match[3]):
    return None
  return letter


def tight(text):
  """Without spaces, save those between two digits: "3 4" is not 34."""
  return re.sub(r'(?<!\d) +| +(?!\d)', '', text)


def _spelling(c):
  if c.isascii() or c in SPELLINGS:
    return SPELLINGS.get(c, c)
  if c.isdecimal():
    return str(unicodedata.decimal(c))
  form = unicodedata.normalize('NFKC', c)
  if '⁄' in form:  # ½ and its like, perhaps after a whole number
    return f' {form} '.replace('⁄', '/')
  if unicodedata.category(c) == 'Cf':
    return ''
  return form if form.isascii() and not c.isnumeric() else c
