"""Symbolic comparison of answers: equal pairs, unequal pairs, hostile text."""

import time

import pytest
import sympy

from r1jax.rewards.math import bounded_arithmetic, grading, parser, symbolic
from r1jax.sandbox import workers


def equal(answer, gold):
  """The verdict of the math verifier: exact rules first."""
  is_equal = grading.exact(answer, gold, final_form=False)
  return symbolic.equal(answer, gold)[0] if is_equal is None else is_equal


@pytest.mark.parametrize(
  'answer, gold',
  [
    (r'2\sqrt{3}', r'\sqrt{12}'),
    (r'\frac{1}{\sqrt{2}}', r'\frac{\sqrt2}{2}'),
    (r'\sqrt[3]{27}', '3'),
    ('2^{1/2}', r'\sqrt2'),
    ('2√3', r'\sqrt{12}'),
    (r'0.\overline{3}', r'\frac13'),
    ('0.333...', '1/3'),
    ('0.(3)', '1/3'),
    (r'1.2\overline{34}', r'\frac{1222}{990}'),
    ('x^2-1', '(x+1)(x-1)'),
    ('(x+1)^2', 'x^2+2x+1'),
    ('2x+3', '3+2x'),
    (r'\frac{x^2-1}{x-1}', 'x+1'),
    ('x^{-1}', '1/x'),
    ('a_1+a_2', 'a_2+a_1'),
    (r'\frac{-b+\sqrt{b^2-4ac}}{2a}', r'\frac{\sqrt{b^2-4ac}-b}{2a}'),
    (r'\sin 30^\circ', '1/2'),
    (r'\sin^2 x+\cos^2 x', '1'),
    (r'\sin 2x', r'2\sin x\cos x'),
    (r'\tan^{-1}(1)', r'\pi/4'),
    (r'\log_2 8', '3'),
    (r'\log 100', r'2\ln 10'),
    (r'\ln e^2', '2'),
    (r'e^{i\pi}', '-1'),
    ('3+4i', '4i+3'),
    ('|-3|', '3'),
    (r'\binom52', '10'),
    ('5!', r'\frac{240}{2}+0'),
    (r'50\%', r'\frac{\sqrt1}{2}'),
    ('x>3', r'(3,\infty)'),
    ('3<x', 'x>3'),
    (r'2\le x<5', '[2,5)'),
    ('2x>6', 'x>3'),
    ('5>x>2', '2<x<5'),
    (r'(-\infty,2]', r'x\leq2'),
    ('y=2x+1', '2x-y+1=0'),
    ('2y=4x+2', 'y=2x+1'),
    ('2x+1=y', 'y=2x+1'),
    ('f(x)=x^2-1', '(x-1)(x+1)'),
    (r'x=2\sqrt3', r'\sqrt{12}'),
    (r'\{1, \sqrt{4}\}', r'\{2,1\}'),
    (r'\{1,\sqrt4,2\}', r'\{1,2\}'),
    (r'\pm\sqrt8', r'2\sqrt2,-2\sqrt2'),
    (r'(1,\sqrt{4})', '(1,2)'),
    (r'5\sqrt{2}\text{ cm}', r'\sqrt{50}'),
    (
      r'\begin{pmatrix}1&\sqrt4\\3&4\end{pmatrix}',
      r'\begin{pmatrix}1&2\\3&4\end{pmatrix}',
    ),
    (r'[[1,\sqrt4],[3,4]]', r'\begin{pmatrix}1&2\\3&4\end{pmatrix}'),
    (r'(-\infty,2)\cup(\sqrt9,\infty)', r'(3,\infty)\cup(-\infty,2)'),
    # roots, powers, mixed numbers
    (r'1\frac23\pi', r'\frac{5\pi}3'),
    ('2^10', r'2^{9}\cdot2'),
    ('2**3', '2^3+0'),
    (r'\sqrt[3]{-8}', '-2'),
    ('∛27', '3'),
    (r'\sqrt x\sqrt y', r'\sqrt{xy}'),
    (r'\sqrt{3+2\sqrt2}', r'1+\sqrt2'),
    (r'2\cdot2^n', '2^{n+1}'),
    ('2^{2023}', r'2\cdot2^{2022}'),
    ('x^{2024}+1', '1+x^{2024}'),
    (r'(\frac56)^{10}', r'\frac{5^{10}}{6^{10}}'),
    (r'x\sqrt x', r'x^{\frac32}'),
    # decimals
    (r'0.\dot3', '1/3'),
    (r'0.\dot14285\dot7', '1/7'),
    ('0.1666...', r'\frac16'),
    ('0.142857142857...', '1/7'),
    ('1.5(3)', r'\frac{23}{15}'),
    # functions
    (r'\log100', '2'),
    (r'\log2', r'\ln2'),
    (r'\frac{\log3}{\log2}', r'\log_23'),
    (r'\ln x+\ln y', r'\ln(xy)'),
    (r'\cosh x', r'\frac{e^x+e^{-x}}2'),
    (r'\sin18^\circ', r'\frac{\sqrt5-1}4'),
    ('n!', 'n(n-1)!'),
    ('5!!', '15'),
    (r'\dbinom{10}3', r'{10\choose7}'),
    (r'\binom n2', r'\frac{n(n-1)}2'),
    (r'\lvert x\rvert', '|-x|'),
    (r'\lfloor2.5\rfloor', r'\lceil1.5\rceil'),
    (r'\cos\frac{2\pi}7+\cos\frac{4\pi}7+\cos\frac{6\pi}7', '-0.5'),
    # chains of equalities
    ('2+3=5', '5'),
    ('x=2+3=5', '5'),
    ('A=lw=20', '20'),
    ('3=x', '3'),
    (r'\sqrt2\approx1.414', r'\sqrt2'),
    ("f'(x)=2x", '2x+0'),
    # sets, intervals, unions
    (r'\frac{3\pm\sqrt5}2', r'\frac{3-\sqrt5}2,\frac{3+\sqrt5}2'),
    (r'\mathbb{R}', r'(-\infty,\infty)'),
    (r'\emptyset', r'\{\}'),
    ('x<1 or x>2', r'(-\infty,1)\cup(2,\infty)'),
    (r'\{x\mid x>2\}', r'(2,\infty)'),
    (r'x\ne2', r'(-\infty,2)\cup(2,\infty)'),
    ('x=1,y=2', '(1,2)'),
    (r'\sqrt2x=2', r'x=\sqrt2'),
    (r'(\text{red},1+1)', r'(\text{red},2)'),
    (
      r'\left[\begin{array}{cc}1&\sqrt4\end{array}\right]',
      r'\begin{pmatrix}1&2\end{pmatrix}',
    ),
    (r'\frac12\begin{pmatrix}2\\4\end{pmatrix}', '(1,2)'),
    (r'\langle1,2\rangle', '(1,2)'),
    # units, choices, Chinese
    (r'\frac{100}3\%', r'\frac13'),
    (r'5\sqrt4\%', r'10\%'),
    (r'5\sqrt4\%', '10'),
    (r'2\pi r(r+h)', r'2\pi r^2+2\pi rh'),
    ('3 xy', '3xy+0'),
    ('5 meters per second', '5 m/s'),
    ('5 sq cm', '5 cm^2'),
    ('x cm', 'x'),
    ('B)', 'B'),
    (r'\textbf{(B) }4', 'B'),
    ('option B', '(B)'),
    ('选B', 'B'),
    ('答案：12。', '12'),
    ('2或3', r'\{3,2\}'),
    ('x＝１/2', '0.5'),
    ('5平方米', '5 m^2'),
    (r'\text{The answer is }\frac12', '0.5'),
    ('θ+α', r'\alpha+\theta'),
  ],
)
def test_pairs_are_equal_in_both_orders(answer, gold):
  assert equal(answer, gold)
  assert equal(gold, answer)


@pytest.mark.parametrize(
  'answer, gold',
  [
    (r'\sqrt{13}', r'\sqrt{12}'),
    (r'\sqrt{x^2}', 'x'),
    ('0.3333', '1/3'),
    ('x^2', '-x^2'),
    (r'\ln x^2', r'2\ln x'),
    (r'\frac{\pi}{4}', '0.785399'),
    ('x+y', 'x+z'),
    ('2x+3y', '3x+2y'),
    ('x', 'X'),
    ('x^2', '2x'),
    (r'\sin x', 'x'),
    (r'\frac{22}{7}', r'\pi'),
    ('e^{x}', 'exp(y)'),
    (r'10^{-900}+\sqrt2', r'\sqrt2'),
    ('1.' + '3' * 400, r'\frac43+0'),
    ('x>1 and x<5', 'x>1 or x<5'),
    ('x=2 and y=3', 'x=2 or y=3'),
    ('A or B', 'A and B'),
    ('x<-2 and x>3', r'(-\infty,-2)\cup(3,\infty)'),
    ('x>3', r'x\ge3'),
    ('x<3', 'x>3'),
    (r'x\ge3', r'(3,\infty)'),
    ('y=2x+1', '2x-y-1=0'),
    ('x=3', 'x=4-2'),
    ('x=2', 'y=2'),
    ('-2x>6', 'x>3'),
    (r'(\sqrt4,1)', '(1,2)'),
    (r'(1,\sqrt4]', '(1,2)'),
    (r'1,\sqrt4,2', '1,2'),
    (r'\sqrt{50}\text{ cm}', r'5\sqrt2 m'),
    (r'-\infty', r'\infty'),
    ('AB', 'BA'),
    ('MATH', 'HTAM'),
    ('no', 'on'),
    ('red blue', 'blue red'),
    (r'101_2', '5'),
    (r'\frac00', '1'),
    (
      r'\begin{pmatrix}1&\sqrt4\end{pmatrix}',
      r'\begin{pmatrix}\sqrt4&1\end{pmatrix}',
    ),
    ('|x-5|', '5-x'),
    ('|x+100|', 'x+100'),
    (r'\sqrt{(x-9)^2}', '9-x'),
    ('0^0', '1'),
    ('4 2', '8'),
    ('--5', '5'),
    ('7^{2021}', '7^{2022}'),
    (r'2^{2024}-1', '2^{2024}'),
    (r'e^{\pi\sqrt{163}}', '262537412640768744'),
    ('1.5(3)', '4.5'),
    ('3.14159...', r'\pi'),
    (r'\log_32', r'\log_23'),
    (r'\log 2+\log 5', r'1+\ln 3'),
    ('(-1)^n', '(-1)^{n+1}'),
    ('n!', 'n'),
    ('x=2+3=6', '5'),
    ('4=5', '5'),
    ('x+1=5', '5'),
    (r'2\approx3', '2'),
    (r'x\approx1.414', r'\sqrt2'),
    ('1.414', r'\sqrt2'),
    (r'\sqrt2', '1.41'),
    ('x=1,y=2', '(2,1)'),
    ('x=2,y=1', 'x=1,y=2'),
    (r'\{(1,2),(3,4)\}', r'(1,2)\cup(3,4)'),
    ('x>1 or y>2', r'(1,\infty)\cup(2,\infty)'),
    (r'y\in(1,2)', '1<x<2'),
    (r'x\ne2', r'y\ne2'),
    (r'\{x|x>2\}', r'[2,\infty)'),
    (r'2\pm1', '3'),
    (r'\frac{\sqrt4}2\%', '0.5'),
    (r'\sqrt4\%', r'\sqrt[3]8\cdot0.1'),
    ('12是错的', '12'),
    ('不是12', '12'),
    ('12万', '12'),
    ('5平方米', '5 m'),
    ('(A) 4', 'B'),
    ('A or B', 'B'),
    ('B) or C', 'B'),
    ('BC', 'B'),
    ('b', 'B'),
    ('The answer is not 12', '12'),
    ('The answer is 12 or 13', '12'),
    ('3 xy', '3'),
    (r'2\pi h', r'2\pi'),
    ('2023-01-01', '2021'),
    ('5 meters per second', '5 m/s^2'),
    ('42 squared', '42'),
    ('5 m squared', '5 m'),
  ],
)
def test_pairs_are_unequal(answer, gold):
  assert not equal(answer, gold)


def test_only_a_gold_with_three_decimals_may_be_rounded():
  assert equal(r'\frac{\pi}{4}', '0.785398')
  assert equal(r'\frac{\sqrt4}3', '0.667')
  assert not equal('0.785398', r'\frac{\pi}{4}')
  assert not equal(r'\pi', '3.14')


HOSTILE = [
  '9^{9^{9^9}}',
  '9^9^9^9^9',
  '((((9!)!)!)!)!',
  '(x+1)^{10000}',
  'x^{10^6}',
  '1000!',
  r'\binom{10^9}{5}',
  '(' * 90 + 'x' + ')' * 90,
  '-' * 500 + 'x',
  '*'.join(f'(x+{n})' for n in range(140)),
  r'\sqrt{' * 30 + '2' + '}' * 30,
  '^'.join('x' * 99),
  '2^{2^{2^{2^{2^2}}}}',
  '10^{10^{10}}',
  r'\frac1{0}',
  r'\sin' * 90 + 'x',
  '٣' * 99 + '^٩^٩^٩',
  'x' * 999,
  '!' * 400,
  '{' * 9 + '}' * 9,
  '1/' * 300 + '3',
  '0.' + '3' * 900 + '...',
  '|' * 99 + 'x' + '|' * 99,
  'e^{' * 15 + 'x' + '}' * 15,
]


@pytest.mark.parametrize('answer', HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_answers_are_unequal_in_bounded_time(answer):
  began = time.process_time()
  assert not equal(answer, r'\sqrt{3}+x')
  # All take less than 0.05 s; without bounds, minutes or for ever.
  assert time.process_time() - began < 20


def test_a_worker_handles_all_hostile_answers_in_a_gibibyte():
  with workers.Pool(1, 60.0, 1 << 30) as pool:
    jobs = [[answer, r'\sqrt{3}+x'] for answer in HOSTILE]
    answers = pool.map('r1jax.rewards.math.symbolic:equal', jobs)
    assert not [x for x in answers if x.failure or x.value[0]]
    (after,) = pool.map(
      'r1jax.rewards.math.symbolic:equal', [[r'\sqrt{12}', r'2\sqrt3']]
    )
    assert after.value[0]
    # ru_maxrss would include the process that started the worker.
    peak = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])'
    assert pool.map('builtins:eval', [[peak]])[0].value < 1 << 20  # KiB


@pytest.mark.parametrize(
  'text, value',
  [
    ('2*3+4', 10),
    ('2+3*4', 14),
    ('-2^2', -4),
    ('2^-1', sympy.Rational(1, 2)),
    ('x^23', sympy.Symbol('x') ** 23),
    (r'2\frac{1}{3}', sympy.Rational(7, 3)),
    ('1/2x', sympy.Symbol('x') / 2),
    (r'\frac12', sympy.Rational(1, 2)),
    ('3!', 6),
    ('sinx', sympy.sin('x')),
    (r'\sin 2x+1', sympy.sin(2 * sympy.Symbol('x')) + 1),
    ('.5', sympy.Rational(1, 2)),
    ('0.1', sympy.Rational(1, 10)),
    (r'2\pi', 2 * sympy.pi),
  ],
)
def test_an_expression_is_parsed_by_precedence(text, value):
  assert parser.parse(text) == ([value], [])


@pytest.mark.parametrize(
  'text',
  [
    '',
    '2+',
    '(2',
    '2)',
    'x==',
    r'\foo',
    '2 # 3',
    '__import__',
    'a.b',
    'word',
    '2**3',
    'lambda: 1',
    '[1,2]',
    'f("x")',
  ],
)
def test_other_text_is_unreadable(text):
  with pytest.raises(bounded_arithmetic.Unreadable):
    parser.parse(text)
