import contextlib
import time

import pytest

from r1jax import errors
from r1jax.rewards import verdict
from r1jax.rewards.math import grading

# (content of the box, gold) with equal values.
SAME = [
  # integers
  ('42', '42'),
  ('025', '25'),
  ('-7', '−7'),
  ('+3', '3'),
  ('-0', '0'),
  ('5.', '5'),
  ('5.0', '5'),
  ('1,234,567', '1234567'),
  (r'1{,}234', '1234'),
  (r'10\,000', '10000'),
  (r'10,\!080', '10080'),
  (r'11,\! 111,\! 100', '11111100'),
  ('12\u2009345', '12345'),
  ('12\u202f345', '12345'),
  ('٤٢', '42'),
  ('４２', '42'),
  ('–5', '-5'),
  ('**17**', '17'),
  ('$17$', '17'),
  (r'\(17\)', '17'),
  (r'{17}', '17'),
  ('(17)', '17'),
  (r'\boxed{17}', '17'),
  # fractions and decimals
  (r'\frac{1}{2}', '1/2'),
  (r'\dfrac{2}{4}', '0.5'),
  (r'\tfrac12', '½'),
  (r'\frac 34', '.75'),
  (r'\frac9{19}', '9/19'),
  (r'-\frac{3}{8}', r'\frac{-3}{8}'),
  ('-3/8', '-0.375'),
  ('3½', '7/2'),
  ('3 1/2', '3.5'),
  (r'1\frac{4}{5}', '1.8'),
  (r'137 \frac{1}{2}', '137.5'),
  (r'-2\frac{1}{4}', '-2.25'),
  ('1e3', '1000'),
  (r'6.72 \times 10^{-5}', '.0000672'),
  ('1.5 × 10⁶', '1500000'),
  ('10^{6}', '1,000,000'),
  # percentages
  ('50%', '50%'),
  (r'50\%', '0.5'),
  (r'50\%', '50'),
  ('50', '50%'),
  ('0.5', '50%'),
  ('12.5 percent', '12.5'),
  ('100%', '1'),
  # rounded golds
  ('3.33333', '3.33333'),
  ('10/3', '3.33333'),
  ('3.3333333', '3.33333'),
  ('0.6667', '0.667'),
  # money, degrees, units
  ('$18.90', r'\$18.90'),
  (r'\$32,348', '32348'),
  ('$5', '5'),
  ('-$5', '-5'),
  ('18 dollars', '$18'),
  ('€20', '20'),
  (r'90^\circ', '90'),
  ('90°', r'90^\circ'),
  ('90 degrees', r'90^{\circ}'),
  (r'\frac{270}7\text{ degrees}', '270/7'),
  (r'5.4 \text{ cents}', '5.4'),
  (r'864 \mbox{ inches}^2', '864'),
  (r'15\text{ cm}^2', '15 cm^2'),
  ('15', r'15\mbox{ cm}^2'),
  ('5 centimeters', '5 cm'),
  ('60 km/h', '60'),
  ('12 apples', '12'),
  ('2 m', '2m'),
  ('5 miles per hour', '5 mph'),
  ('5 square units', '5 cm^2'),
  ('9.8 meters per second squared', '9.8 m/s^2'),
  # names
  ('x=5', '5'),
  ('5', 'x=5'),
  (r'x \in [-2,7]', '[-2, 7]'),
  ('y=2x + 3', 'y = 2x+3'),
  ('f(x) = x^2', 'x^2'),
  # tuples, sets, intervals, matrices
  ('(1, 2)', r'\left( 1, 2 \right)'),
  (r'(3, \pi/2)', r'\left(3, \frac{\pi}{2}\right)'),
  (r'\left(\frac{1}{2}, -13\right)', '(0.5,-13)'),
  ('2,1', '1, 2'),
  (r'\{1,2\}', '2,1'),
  (r'3 \text{ and } 5', '5,3'),
  ('3, 5, and 7', '7,5,3'),
  ('x=3 or x=-3', r'\pm 3'),
  (r'1+\sqrt{19},1-\sqrt{19}', r'1 \pm \sqrt{19}'),
  (r'\{-2, 1-\sqrt5, 1+\sqrt5\}', r'\{1\pm\sqrt{5},-2\}'),
  ('(3,4]', r'\left(3,4\right]'),
  (r'(-\infty, 0]', '(−∞,0]'),
  (r'(3,\infty) \cup (-\infty,2)', r'(-\infty, 2) \cup (3, \infty)'),
  (
    r'\begin{bmatrix} -\frac13 \\ 2/3 \end{bmatrix}',
    r'\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}',
  ),
  (r'\begin{pmatrix} 1 \\ 2 \end{pmatrix}', '(1,2)'),
  ('x=1, y=2', '(1,2)'),
  ('y=2, x=1', '(x,y)=(1,2)'),
  ('y=2, x=1', 'x=1, y=2'),
  ('m=3, b=2', '(3,2)'),
  (r'\approx 42', '42'),
  ('~42', '42'),  # a space in LaTeX
  ('1 234', '1234'),
  # text
  (r'\text{Evelyn}', 'evelyn'),
  ('Yes', 'yes'),
  ('No.', 'no'),
  ('(B)', 'B'),
  ('B)', 'B'),
  ('B) 4', r'\textbf{(B)}'),
  ('Option B: 4', 'B'),
  ('B', r'\text{(B)}'),
  (r'\mathrm{east}', r'\text{east}'),
  (r'2\sqrt3', r'2 \sqrt{3}'),
  ('2*sqrt(3)', r'2\sqrt{3}'),
  ('√13', r'\sqrt{13}'),
  ('12π', r'12\pi'),
  (r'12\cdot\pi', r'12\pi'),
  ('x²+1', 'x^{2} + 1'),
  (r'\dfrac{\sqrt{3}}{3}', r'\frac{\sqrt{3}}{3}'),
  (r'4210_{5}', '4210_5'),
  ('6-5i', '6 - 5i'),
]

# (content of the box, gold) with different values, or with no value.
DIFFERENT = [
  ('', '0'),
  (' ', '0'),
  ('?', '0'),
  ('43', '42'),
  ('-42', '42'),
  ('4 2', '42'),
  ('42 43', '42'),
  ('42, 43', '42'),
  ('42 or 43', '42'),
  ('42!', '42'),
  (r'\le 42', '42'),
  ('≥42', '42'),
  ('m=2, b=3', '(3,2)'),
  ('y=2, x=1', '(1,2)'),
  ('140/2', '70'),
  ('3.5/0.5', '7'),
  ('about 42', '42'),
  ('not 42', '42'),
  (r'\pm 42', '42'),
  ('42 or more', '42'),
  ('42 times', '42'),
  ('42 squared', '42'),
  ('42 million', '42'),
  ('42 thirds', '42'),
  ('42x', '42'),
  ('42i', '42'),
  ('42_8', '42'),
  ('0x2a', '42'),
  ('41+1', '43'),
  ('[42]', '42'),
  (r'\{42\}', '42'),
  ('(42', '42'),
  ('1,23', '123'),
  ('12,34', '1234'),
  ('1 23', '123'),
  ('0.3333', '1/3'),
  ('0.3333333333', '1/3'),
  ('0.33', '0.3333'),
  ('1/3', '0.33'),
  ('3.333', '3.33333'),
  ('3.3334', '3.33333'),
  ('3.14', r'\pi'),
  ('1.26', '1.25'),
  ('1.249999', '1.25'),
  ('1/0', '0'),
  ('0/0', '1'),
  (r'\frac{1}{0}', '1'),
  ('--5', '5'),
  ('3-1/2', '3.5'),
  ('3+1/2', '3 3/4'),
  (r'2\cdot\frac12', '2.5'),
  ('2*3', '23'),
  ('5*-3', '5-3'),
  (r'p - *q', 'p-q'),
  (r'7\pi\%', r'7\pi'),
  ('11/2', '1 1/2'),
  ('0.5', '50'),
  ('0.5%', '0.5'),
  ('1%', '1'),
  ('50%', '5'),
  ('50%', '$50'),
  ('5 m', '5 cm'),
  (r'5\text{ m}', r'5\text{ cm}'),
  ('5 cents', '$5'),
  ('5 m squared', '5 m'),
  ('y=5', 'x=5'),
  ('(2,1)', '(1,2)'),
  ('1,2', '(1,2)'),
  ('[1,2]', '(1,2)'),
  ('(1,2]', '[1,2]'),
  ('{1,2}', '(1,2)'),
  ('(1,2,3)', '(1,2)'),
  ('1', '1,2'),
  ('1,1', '1'),
  ('1,2,2', '1,2'),
  ('(1,234)', '1234'),
  (r'(2,\infty)', r'[2,\infty)'),
  (r'(-\infty,2) \cup (3,4)', r'(-\infty,2) \cup (3,\infty)'),
  (
    r'\begin{pmatrix} 1 & 2 \end{pmatrix}',
    r'\begin{pmatrix} 1 \\ 2 \end{pmatrix}',
  ),
  (
    r'\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix}',
    r'\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}',
  ),
  ('yes or no', 'yes'),
  ('yes and no', 'yes'),
  ('not even', 'even'),
  ('A, B', 'B'),
  ('ABCD', 'B'),
  ('B) or C', 'B'),
  ('(A) 4', 'B'),
  ('b', 'B'),
  ('r^2', 'R^2'),
  ('x^12', 'x^{1}2'),
  (r'\frac{x}{2}y', r'\frac{x}{2y}'),
  (r'x/2y', r'\frac{x}{2y}'),
  (r'x^\frac12', 'x^1/2'),
  (r'\sqrt{13}', r'\sqrt{1}3'),
  ('9**9**9', '9'),
  ('__import__("os").abort()', '0'),
  ('1_000', '1000'),
  ('nan', '0'),
  ('inf', r'\infty'),
  ('1e999999', '10'),
  ('1e-999999', '0'),
  ('①②', '12'),
]

# (response, gold, whether the response is correct).
T = '<think>2+3=5</think>'
WHOLE = [
  (T + '<answer>5</answer>', '5', True),
  (T + r'<answer>So it is $\boxed{5}$.</answer>', '5', True),
  (T + r'The sum is \boxed{5}.', '5', True),
  (T + r'The sum is \fbox{5}.', '5', True),
  (r'\boxed{5}', '5', True),
  (T + r'\boxed{5} so \boxed{5.0}', '5', True),
  (T + r'\boxed{x=\boxed{5}}', '5', True),
  (T + r'\boxed{\frac{1}{2}} and { }', '0.5', True),
  (T + r'a stray } then \boxed{5}', '5', True),
  (T + r'a stray { then \boxed{5}', '5', True),
  (T + '<answer>\n5\n</answer>\n', '5', True),
  (T + '<answer>$5</answer>', '5', True),
  (T + '<answer>50%</answer>', '50', True),
  (T + '<answer>18 dollars.</answer>', '18', True),
  (T + r'<answer>\frac{3}{4}</answer>', '0.75', True),
  (T + r'<answer>2\sqrt{3}</answer>', r'2\sqrt{3}', True),
  (T + '<answer>2 pi</answer>', r'2\pi', True),
  (T + '<answer>The answer is 5</answer>', '5', True),
  (T + r'<answer>So the final answer is $\frac12$.</answer>', '0.5', True),
  (T + r'\boxed{70} and \boxed{\frac{140}{2}}', '70', False),
  (T + r'\boxed{\frac{140}{2}} = \boxed{70}', '70', True),
  (T + '<answer>Yes</answer>', 'yes', True),
  (T + '<answer>(B)</answer>', 'B', True),
  (T + '<answer>4</answer> no: <answer>5</answer>', '5', True),
  ('<think>a</think><think>b</think><answer>5</answer>', '5', True),
  # boxes inside the thinking, or truncated before the answer
  (r'<think>\boxed{5}', '5', False),
  (r'<think>\boxed{5}</think>', '5', False),
  (r'<think>\boxed{5}</think>So we are done.', '5', False),
  ('<think><answer>5</answer></think>', '5', False),
  ('<think>a</think><think>\\boxed{5}', '5', False),
  (r'<think>\boxed{5}</think><answer>6</answer>', '5', False),
  (r'</think>\boxed{5}<think>', '5', False),
  ('<answer>5</answer></think>', '5', False),
  (T + '<answer>5', '5', False),
  (T + '<answer>5</answer><answer>', '5', False),
  (T + '5</answer>', '5', False),
  (T + r'\boxed{5', '5', False),
  (T + r'<answer>\boxed{5</answer>', '5', False),
  # several answers
  (T + r'\boxed{4} or \boxed{5}', '5', False),
  (T + r'\boxed{5} or \boxed{4}', '5', False),
  (T + r'\boxed{4 or 5}', '5', False),
  (T + ''.join(rf'\boxed{{{n}}}' for n in range(20)), '19', False),
  (T + r'\boxed{5} \boxed{}', '5', False),
  (T + '<answer>5</answer> no: <answer>4</answer>', '5', False),
  (T + r'\boxed{5} <answer>4</answer>', '5', False),
  (T + r'<answer>as above</answer> \boxed{5}', '5', False),
  # not a single value
  ('5', '5', False),
  (T + '5', '5', False),
  (T + 'The answer is 5.', '5', False),
  (T + '<answer>2+3=5</answer>', '5', False),
  (T + '<answer>4\n5</answer>', '5', False),
  (T + '<answer>5 apples and 3 pears</answer>', '5', False),
  (T + '<answer></answer>', '5', False),
  (T + '<answer>\u200b</answer>', '5', False),
  (T + f'<answer>5{" " * 200}apples</answer>', '5', False),
  ('', '5', False),
]

N = 100_000
SLOW = {
  'open brackets': r'\boxed{' + '(' * N,
  'open boxes': r'\boxed{' * (N // 7),
  'nested boxes': r'\boxed{' * (N // 9) + '5' + '}' * (N // 9),
  'box and spaces': r'\boxed' + ' ' * N,
  'many answers': '<answer>' * (N // 8),
  'many thoughts': '</think>' * (N // 8) + r'\boxed{9**9**9}',
  'many digits': r'\boxed{' + '9' * N + '}',
  'digits under the cap': r'\boxed{' + '9' * 990 + '}',
  'backslashes': '\\' * N,
  'huge exponent': r'\boxed{1e9999}',
  'fractions': r'\boxed{' + '1/' * 490 + '1}',
  'nested fractions': r'\boxed{' + r'\frac{' * 90 + '1' + '}{2}' * 90 + '}',
  'brackets at the limit': r'\boxed{' + '(' * 20 + '1,' * 450 + ')' * 20 + '}',
  'lists': r'\boxed{' + '1,' * 490 + '}',
  'signs': r'\boxed{' + r'\pm,' * 240 + '}',
  'units': r'\boxed{5' + ' aa' * 320 + '!}',
  'names': r'\boxed{' + 'x=' * 490 + '}',
}


def cases():
  def boxed(answer):
    return rf'{T}The answer is \boxed{{{answer}}}.'

  yield from ((boxed(answer), gold, True) for answer, gold in SAME)
  yield from ((boxed(answer), gold, False) for answer, gold in DIFFERENT)
  yield from WHOLE


def test_accuracy_is_1_for_correct_responses_only():
  for response, gold, is_correct in cases():
    (score,) = grading.accuracy([dict(answer=gold)], [response])
    assert score == is_correct, (response, gold)


@pytest.mark.parametrize('name', SLOW)
def test_long_responses_do_not_take_quadratic_time(name):
  began = time.process_time()
  (score,) = grading.accuracy([dict(answer='5')], [SLOW[name]])
  # All take less than 0.05 s; quadratic work would take minutes.
  assert time.process_time() - began < 20
  assert score == 0


def test_every_gold_can_be_read_and_equals_itself():
  for gold in {gold for _, gold in SAME + DIFFERENT}:
    grading.check_gold(dict(id='a/1', answer=gold))
    assert grading.equal(gold, gold), gold


@pytest.mark.parametrize('gold', ['', ' ', '(1,2', '5}', '1' * 1001, '\u200b'])
def test_an_unreadable_gold_is_an_error_that_names_the_record(gold):
  with pytest.raises(errors.UserError, match='record aime/7'):
    grading.check_gold(dict(id='aime/7', answer=gold))


def test_a_gold_that_is_not_a_string_is_an_error():
  with pytest.raises(errors.UserError, match='record a/1'):
    grading.check_gold(dict(id='a/1', answer=5))


def test_boxes_that_may_be_equal_are_one_answer_and_each_is_compared():
  answer = grading.extract(T + r'\boxed{\sqrt{12}} = \boxed{2\sqrt3}')
  assert grading.forms(answer) == [r'\sqrt{12}', r'2\sqrt3']
  records = [dict(id='1', answer=r'2\sqrt3'), dict(id='2', answer=r'\sqrt{12}')]
  wrong = grading.extract(T + r'\boxed{\sqrt{13}} = \boxed{2\sqrt3}')
  verifier = grading.MathVerifier(verdict.VerifyConfig(workers=1), records)
  with verifier.pool:
    values = verifier.judge(records + records[:1], [answer, answer, wrong])
  assert [x.value for x in values] == [1, 1, 0]


def test_a_record_may_ask_for_algebra_instead_of_final_form():
  records = [dict(id='1', answer='70'), dict(id='2', answer='70')]
  records[1]['final_form'] = False
  verifier = grading.MathVerifier(verdict.VerifyConfig(workers=1), records)
  with verifier.pool:
    values = verifier.judge(records, ['37+45-12', '37+45-12'])
  assert [x.value for x in values] == [0, 1]
  with pytest.raises(errors.UserError, match='final_form of record a/1'):
    grading.check_gold(dict(id='a/1', answer='5', final_form='no'))


def test_exact_is_none_where_unequal_texts_may_be_equal():
  assert grading.exact('6/4', '3/2') is True
  assert grading.exact('3', '2') is False
  assert grading.exact('(1,2)', '(1,3)') is False
  assert grading.exact('1+1', '2') is False
  assert grading.exact('1+1', '2', final_form=False) is None
  assert grading.exact(r'\sqrt{12}', r'2\sqrt{3}') is None
  assert grading.exact('(1', '2') is False


def test_a_verdict_says_that_a_number_is_not_in_final_form():
  records = [dict(id='r', prompt='?', answer='4')]
  verifier = grading.MathVerifier(verdict.VerifyConfig(workers=1), records)
  with contextlib.closing(verifier.pool):
    found = verifier.judge(records * 3, ['2+2', '5', '4'])
  assert [x.value for x in found] == [0, 0, 1]
  assert 'not a number in final form' in found[0].reason
  assert "'5' is not '4', by exact rules" == found[1].reason
