r"""The test cases of the math verifier.

Conventions: the final answer comes after the thinking, within the last <answer>
if there are tags; several boxes must be equal. A missing unit is accepted, a
wrong one is not; an unknown word is text. If the gold is a number in final
form, an expression that is left to be carried out is not equal; such cases are
"unevaluated" and equal if verify.final_form is false. 0.3333 is not 1/3, but a
gold with three or more decimals may be a rounded number, and an answer that
rounds to it is equal. 50% equals 50% and 0.5; a missing sign is accepted above
1. `x =` before a value may be missing on one side. Named values are compared by
name, and in written order with values that have none. Tuples are ordered, sets
are not; the brackets of intervals matter. Equations are equal up to swapped
sides and a factor, x > 3 equals (3, \infty).

cases.jsonl is a second table with the same conventions. Its author had not seen
the verifier's code. The first measurement on it had 1 false accept of 883 and
19 false rejects of 632; later, its unevaluated answers were set apart.
"""

import json
import pathlib
from typing import NamedTuple


class Case(NamedTuple):
  """A response, and whether its answer equals the gold."""

  kind: str
  response: str
  gold: str
  is_equal: bool
  is_unevaluated: bool = False  # equal in value, but not in final form


# kind: [(gold, equal answers, unequal answers)]
BOXED = {
  'integers': [
    (
      '42',
      ['42', '42.', ' 42 ', '+42', '42.0', r'\text{42}', '٤٢', '042'],
      ['-42', '43', '4 2', '420', '24', '4.2'],
    ),
    (
      '1234567',
      [
        '1,234,567',
        r'1{,}234{,}567',
        r'1\,234\,567',
        '1 234 567',
        r'1,\!234,\!567',
        '1\u202f234\u202f567',
      ],
      ['1,234,56', '123,4567', '12,34,567', '1.234.567'],
    ),
    ('-7', ['-7', '−7', '- 7', r'-\,7', r'{-7}'], ['7', '--7', '-7.1', '(7-)']),
    (
      '1000',
      ['1000', '1,000', '10^3', '1e3', r'10^{3}', r'1\times10^3'],
      ['1.000', '100', '10^4', '1000000'],
    ),
  ],
  'decimals': [
    (
      '0.5',
      ['.5', '0.50', '1/2', r'\frac12', '5e-1', '0.500'],
      ['0.05', '0,5 or 1', '5', '-0.5', '0.51'],
    ),
    (
      '1/3',
      [r'\frac{1}{3}', r'\frac13', '2/6', r'\dfrac{1}{3}', '1 / 3'],
      ['0.3333', '0.33333333333333', '0.3', '3', '1/4'],
    ),
    (
      '3.333',
      ['3.333', '10/3', r'\frac{10}{3}', '3.3333'],
      ['3.33', '3.334', '3.3', '3'],
    ),
    (
      '2.718',
      ['2.718', '2.71828', '2.7182'],
      ['2.72', '2.7', '2.719', '2.7186'],
    ),
    (
      '0.125',
      ['1/8', '.125', r'\frac{1}{8}', '0.1250'],
      ['0.13', '0.12', '0.1', '1/9'],
    ),
  ],
  'fractions': [
    (
      '7/2',
      [r'\frac72', '3.5', r'3\frac{1}{2}', '3 1/2', r'\tfrac{7}{2}', '14/4'],
      ['2/7', '31/2', '3 1/3', '-7/2', r'3\cdot\frac12'],
    ),
    (
      r'-\frac{3}{4}',
      ['-3/4', '-0.75', r'\frac{-3}{4}', r'\frac{3}{-4}', '−3/4'],
      ['3/4', '-4/3', '-0.7', r'\frac{-3}{-4}'],
    ),
    (
      r'\frac{22}{7}',
      ['22/7', r'3\frac17', r'\frac{44}{14}'],
      [r'\pi', '3.14', '3.142857', '7/22'],
    ),
    (
      r'\frac{a}{b}',
      ['a/b', r'\dfrac{a}{b}', r'\frac ab', r'a\cdot b^{-1}'],
      ['b/a', 'a-b', 'ab', r'\frac{a}{2b}'],
    ),
  ],
  'repeating decimals': [
    (
      r'0.\overline{3}',
      [r'\frac13', '1/3', '0.333...', '0.(3)', r'0.3\overline{3}'],
      ['0.3', '0.333', '0.33', r'0.\overline{33}4'],
    ),
    (
      r'\frac{1}{7}',
      [r'0.\overline{142857}', '0.(142857)'],
      ['0.142857', '0.14', r'0.\overline{14}'],
    ),
    (
      r'1.2\overline{34}',
      [r'\frac{1222}{990}', r'\frac{611}{495}'],
      ['1.234', r'1.\overline{234}'],
    ),
  ],
  'percentages': [
    (
      '50\\%',
      ['50%', '50', '0.5', r'\frac12', r'50\text{ percent}', '50.0%'],
      ['0.5%', '5%', '0.05', '500%'],
    ),
    (
      '12.5\\%',
      ['12.5%', '12.5', '0.125', '1/8'],
      ['1.25', '125%', '12%', '0.0125'],
    ),
    (
      '0.5\\%',
      ['0.5%', '0.005', r'\frac{1}{200}'],
      ['0.5', '5%', '50', '0.05'],
    ),
  ],
  'money and units': [
    (
      '18',
      ['$18', r'\$18', '18 dollars', '$18.00', '18 USD', r'18\text{ dollars}'],
      ['$1.8', '18 - 1', '$180', '18.5'],
    ),
    (
      r'5\text{ cm}',
      ['5 cm', '5', '5cm', '5.0 cm', r'5\,\mathrm{cm}', '5 centimeters'],
      ['5 m', '5 mm', '5 kg', '50 cm', r'5\text{ cm}^2'],
    ),
    (
      r'12\text{ square feet}',
      ['12', '12 square feet'],
      ['12 feet', '144', '12 m'],
    ),
    (
      r'60^\circ',
      ['60', r'60^{\circ}', '60 degrees', '60°'],
      ['60 m', '6', r'\pi'],
    ),
    (
      r'3\text{ hours}',
      ['3 hours', '3', '3 h', '3 hrs'],
      ['3 minutes', '180', '3.5 h'],
    ),
  ],
  'powers and scientific notation': [
    (
      '3.2e5',
      ['320000', r'3.2\times10^5', '3.2*10^5', r'3.2 \cdot 10^{5}', '320,000'],
      ['3.2e4', '3.25', '32000', r'3.2\times10^{-5}'],
    ),
    (
      '2^{10}',
      ['1024', '2^10', r'4^5', r'2^{5}\cdot 2^5'],
      ['2048', '10^2', '20', '2^{11}'],
    ),
    (
      '10^{-3}',
      ['0.001', '1/1000', '1e-3'],
      ['1000', '0.01', '-1000', '10^{3}'],
    ),
    (
      r'6.02\times10^{23}',
      ['6.02e23', r'602\times10^{21}'],
      ['6.02e22', '6.02'],
    ),
  ],
  'radicals': [
    (
      r'\sqrt{12}',
      [
        r'2\sqrt{3}',
        r'2\sqrt3',
        '2√3',
        r'\sqrt{4\cdot3}',
        '12^{1/2}',
        r'\frac{6}{\sqrt3}',
      ],
      ['3.46', r'\sqrt{13}', r'3\sqrt2', r'-2\sqrt3', '12', r'4\sqrt3'],
    ),
    (
      r'\frac{\sqrt{2}}{2}',
      [
        r'\frac{1}{\sqrt{2}}',
        r'\sqrt{\frac12}',
        r'\sqrt2/2',
        r'2^{-1/2}',
        r'\sqrt{0.5}',
      ],
      ['0.707', r'\sqrt2', r'\frac{2}{\sqrt2}', r'-\frac{\sqrt2}{2}'],
    ),
    (
      r'\sqrt[3]{54}',
      [r'3\sqrt[3]{2}', r'54^{1/3}'],
      [r'\sqrt{54}', r'2\sqrt[3]{3}', '3.78'],
    ),
    (
      r'1+\sqrt{5}',
      [r'\sqrt5+1', r'\sqrt{5}+1', r'\sqrt{6+2\sqrt5}'],
      [r'1-\sqrt5', r'\sqrt6', '3.236', r'2+\sqrt5'],
    ),
    (
      '3',
      ['3.0', r'\frac{3}{1}+0=3'],
      [r'\sqrt3', r'\pm3', r'-\sqrt9'],
    ),
  ],
  'trigonometry and logarithms': [
    (
      r'\frac{1}{2}',
      [r'\sin 30^\circ=\frac12', r'\cos\frac{\pi}{3}=0.5'],
      [r'\sin 30', r'\cos 30^\circ', r'\sin\frac{\pi}{3}'],
    ),
    (
      r'\frac{\pi}{4}',
      [r'\arctan 1', r'\tan^{-1}(1)', r'\pi/4', r'0.25\pi'],
      ['45', '0.785', r'\frac{\pi}{3}', r'4\pi'],
    ),
    (
      r'\ln 8',
      [r'3\ln 2', r'\ln2+\ln4', r'\log_e 8', r'\ln(8)'],
      ['2.079', r'\ln 6', r'\log_2 8', r'(\ln2)^2'],
    ),
    (
      '3',
      [r'\log_2 8=3', r'\log_{10}1000=3'],
      [r'\log_3 8', r'\log_8 2'],
    ),
    (
      r'\sin 2x',
      [r'2\sin x\cos x', r'\sin(2x)'],
      [r'2\sin x', r'\sin x^2', r'\cos2x'],
    ),
    (
      r'\sin^2 x',
      [r'1-\cos^2 x', r'(\sin x)^2', r'\sin x\sin x'],
      [r'\sin x^2', r'2\sin x', r'1-\cos x'],
    ),
    (
      r'\tan x',
      [r'\frac{\sin x}{\cos x}'],
      [r'\cot x', r'\frac{\cos x}{\sin x}'],
    ),
  ],
  'complex numbers': [
    (
      '3+4i',
      ['4i+3', '3 + 4i', '3+i4', r'3+4\mathrm{i}', '(3+4i)'],
      ['3-4i', '4+3i', '7', '5', '3+4'],
    ),
    ('-1', ['i^2=-1', r'e^{i\pi}=-1'], ['i', '-i', 'i^4']),
    ('i', [r'\sqrt{-1}', r'\frac{-1}{i}', 'i^5'], ['-i', '1', 'i^3']),
  ],
  'expressions': [
    (
      'x^2-1',
      ['(x-1)(x+1)', '(x+1)(x-1)', '-1+x^2', 'x^2 - 1', r'x\cdot x-1'],
      ['x^2+1', '(x-1)^2', '2x-1', 'y^2-1', 'x^{2-1}'],
    ),
    (
      '2x+3',
      ['3+2x', r'2\cdot x+3', '2(x+1)+1', '2x + 3'],
      ['2(x+3)', '3x+2', '2x-3', '2x', '23x'],
    ),
    (
      '(x+1)^3',
      ['x^3+3x^2+3x+1', '(1+x)^3', '(x+1)(x+1)^2'],
      ['x^3+1', '3(x+1)', '(x+1)^2', 'x^3+3x+1'],
    ),
    (
      r'\frac{x+1}{x-1}',
      ['(x+1)/(x-1)', r'\frac{1+x}{x-1}', r'\frac{-x-1}{1-x}'],
      [r'\frac{x-1}{x+1}', 'x+1/x-1', '-1'],
    ),
    (
      r'\frac{n(n+1)}{2}',
      [r'\frac{n^2+n}{2}', r'\frac12n(n+1)', 'n(n+1)/2'],
      [r'\frac{n(n-1)}{2}', 'n(n+1)', r'\frac{n^2+1}{2}'],
    ),
    (
      '6a^2b',
      ['6a^2b', '6ba^2', r'6 a^2 \cdot b', r'3a\cdot 2ab'],
      ['6ab^2', '6a^2', '(6ab)^2', '6a^{2b}'],
    ),
    ('e^x', [r'\exp(x)', 'e^{x}', r'e^{2x}/e^x'], ['x^e', 'ex', 'e^{-x}']),
    ('|x|', [r'\sqrt{x^2}', r'\left|x\right|', '|-x|'], ['x', '-x', 'x^2']),
  ],
  'equations': [
    ('x=3', ['3', 'x = 3', '3 = x', 'x=6/2=3'], ['x=-3', 'y=3', 'x>3', '2x=3']),
    (
      'y=2x+1',
      ['y = 2x + 1', 'y-2x=1', '2x-y+1=0', 'y=1+2x', '2y=4x+2', '2x+1=y'],
      ['y=2x-1', 'x=2y+1', 'y=x+1', '2x+y+1=0', 'y>2x+1'],
    ),
    (
      'x^2+y^2=25',
      ['y^2+x^2=25', '25=x^2+y^2', 'x^2+y^2-25=0', '2x^2+2y^2=50'],
      ['x^2+y^2=5', 'x^2-y^2=25', '(x+y)^2=25', 'x+y=5'],
    ),
    ('5', ['x=5', 'n = 5', 'f(2)=5'], ['x=6', 'x=5y', '5=6']),
  ],
  'inequalities': [
    (
      'x>3',
      ['3<x', 'x > 3', r'(3,\infty)', '2x>6', 'x-3>0', r'x \gt 3'],
      [r'x\ge3', 'x<3', r'[3,\infty)', '3', 'y>3', 'x>-3', '-x>3'],
    ),
    (
      r'2\le x<5',
      ['[2,5)', r'5>x\ge2', r'2\leq x<5'],
      ['(2,5)', '[2,5]', r'2<x\le5', '2', '(2,5]'],
    ),
    (
      r'x\le-1',
      [r'(-\infty,-1]', r'-1\ge x', r'x\leqslant-1'],
      ['x<-1', r'x\ge-1', r'(-\infty,1]'],
    ),
  ],
  'intervals': [
    (
      '(1,2]',
      [r'\left(1,2\right]', '(1, 2]', r'(1,\frac42]', '1<x\\le2'],
      ['(1,2)', '[1,2]', '[1,2)', '(2,1]', '(1,3]'],
    ),
    (
      r'(-\infty,0)\cup(1,\infty)',
      [r'(1,\infty)\cup(-\infty,0)', r'(-\infty, 0) \cup (1, +\infty)'],
      [r'(-\infty,0]\cup(1,\infty)', r'(-\infty,1)', r'(-\infty,0)', r'(0,1)'],
    ),
    (
      r'[0,\sqrt2]',
      [r'[0,2^{1/2}]', r'[0,\frac{2}{\sqrt2}]'],
      [r'[0,1.414]', r'(0,\sqrt2)', r'[0,2]'],
    ),
  ],
  'sets': [
    (
      r'\{1,2,3\}',
      ['3,2,1', r'\{3, 1, 2\}', '1, 2, 3', '1, 2 and 3'],
      ['1,2', r'\{1,2,3,4\}', '1,2,4', '123'],
    ),
    (
      r'\pm2',
      ['2,-2', r'\{-2,2\}', '-2 and 2', r'x=\pm2'],
      ['2', '-2', r'\pm3', '2,2', '4'],
    ),
    (
      r'1\pm\sqrt{3}',
      [r'1+\sqrt3,1-\sqrt3', r'\{1-\sqrt3,1+\sqrt3\}'],
      [r'1+\sqrt3', r'\pm\sqrt3', r'1\pm\sqrt2', r'-1\pm\sqrt3'],
    ),
    (
      r'\frac12,3',
      [r'3,\frac{1}{2}', '0.5, 3', r'x=\frac12\text{ or }x=3'],
      ['3', r'\frac12', r'\frac13,2', r'(\frac12)(3)'],
    ),
    (r'\emptyset', [r'\emptyset'], ['0', r'\{0\}', '1']),
  ],
  'tuples': [
    (
      '(1,2)',
      ['(1, 2)', r'\left(1,2\right)', r'(1,\,2)', '(1.0,2)'],
      ['(2,1)', '12', '(1,2,3)', '(1,-2)', '{2,1}'],
    ),
    (
      r'(3,\frac{\pi}{2})',
      [r'\left(3,\frac{\pi}{2}\right)', r'(3,\pi/2)', r'(3,0.5\pi)'],
      ['(3,1.57)', r'(\frac{\pi}{2},3)', r'(3,\pi)', '(3,90)'],
    ),
    (
      '(-1,0,5)',
      ['( -1, 0, 5 )', '(−1,0,5)'],
      ['(1,0,5)', '(-1,5,0)', '(-1,0)'],
    ),
  ],
  'matrices': [
    (
      r'\begin{pmatrix}1&2\\3&4\end{pmatrix}',
      [
        r'\begin{bmatrix}1&2\\3&4\end{bmatrix}',
        r'\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}',
        '[[1,2],[3,4]]',
      ],
      [
        r'\begin{pmatrix}1&3\\2&4\end{pmatrix}',
        r'\begin{pmatrix}1&2\\3&5\end{pmatrix}',
        r'\begin{pmatrix}1&2&3&4\end{pmatrix}',
        '(1,2,3,4)',
        '-2',
      ],
    ),
    (
      r'\begin{pmatrix}1\\-2\end{pmatrix}',
      [
        r'\begin{bmatrix}1\\-2\end{bmatrix}',
        r'\begin{pmatrix} 1 \\ -2 \end{pmatrix}',
      ],
      [
        r'\begin{pmatrix}-2\\1\end{pmatrix}',
        r'\begin{pmatrix}1\\2\end{pmatrix}',
        '-2',
      ],
    ),
  ],
  'bases': [
    (
      '101_2',
      ['101_{2}', r'101_2', '101_{ 2}'],
      ['100_2', '101_3', '5_2', '110_2'],
    ),
    ('2A_{16}', ['2A_{16}', r'2\text{A}_{16}'], ['2B_{16}', '2A_{15}']),
  ],
  'multiple choice': [
    (
      'B',
      ['B', '(B)', r'\text{B}', 'B.', r'\textbf{(B)}', r'\mathrm{B}'],
      ['A', 'AB', '(C)', 'b^2', 'not B'],
    ),
    ('(D)', ['D', r'(\text{D})', '(D)'], ['(C)', 'A', 'DD']),
  ],
  'text': [
    (
      'Tuesday',
      ['tuesday', r'\text{Tuesday}', 'Tuesday.', ' Tuesday'],
      ['Thursday', 'Tue', 'Tuesdays and Mondays', '2'],
    ),
    ('yes', ['Yes', r'\text{yes}', 'YES'], ['no', 'y', 'yes and no']),
    (r'\text{even}', ['even', 'Even'], ['odd', 'neven', 'even or odd']),
  ],
  'Chinese': [
    (
      '12',
      [
        '12',
        '１２',
        '12个',
        '12元',
        r'\text{12}',
        '１２．０',
        '12 个',
        '答案是12',
      ],
      ['21', '13个', '１３', '-12', '十三'],
    ),
    (
      '3.5',
      ['3.5', '３．５', '7/2', '3.5米', '3.5 小时'],
      ['35', '3.6米', '5.3'],
    ),
    (
      r'5\text{厘米}',
      ['5厘米', '5', '5 cm', r'5\text{厘米}'],
      ['5米', '6厘米', '5 m'],
    ),
    ('50%', ['50％', '５０％'], ['5％', '0.5％']),
  ],
  'ornaments': [
    (
      '7',
      [
        r'\boxed{7}',
        '$7$',
        r'\(7\)',
        r'\[7\]',
        '**7**',
        r'\displaystyle 7',
        '{7}',
        r'\,7\,',
        r'\left(7\right)',
        '7~',
      ],
      [r'\boxed{8}', '$8$', r'7\prime', '7+'],
    ),
    (
      r'\dfrac{3}{5}',
      [
        r'\frac{3}{5}',
        r'\tfrac35',
        '3/5',
        r'\left(\frac{3}{5}\right)',
        '$\\frac35$',
        '0.6',
        '⅗',
        '3⁄5',
      ],
      [r'\frac{5}{3}', '35', r'\frac{3}{55}', '0.65'],
    ),
    ('x^2', ['x²', 'x^{2}', r'x^{\,2}', '{x}^2'], ['x2', 'x_2', '2x', 'x³']),
    (
      r'2\pi',
      ['2π', r'2\cdot\pi', r'\pi\cdot2', r'2\,\pi'],
      ['6.28', 'π2+1', r'\pi^2'],
    ),
  ],
}

FIVE = r'\boxed{5}'
# (description, response, gold, whether the response is correct)
RESPONSES = [
  ('one box', f'<think>2+3</think><answer>{FIVE}</answer>', '5', True),
  ('one box without tags', f'So the sum is {FIVE}.', '5', True),
  ('box after thinking', f'<think>hm</think> The answer is {FIVE}.', '5', True),
  ('equal boxes', f'<answer>{FIVE} that is {FIVE}</answer>', '5', True),
  ('equal boxes, other words', rf'{FIVE}, or \boxed{{5.0}}', '5', True),
  ('different boxes', rf'<answer>{FIVE} or \boxed{{6}}</answer>', '5', False),
  ('different boxes, right last', rf'\boxed{{6}}, no: {FIVE}', '5', False),
  ('ten boxes', ''.join(rf'\boxed{{{n}}}' for n in range(10)), '5', False),
  (
    'box inside the thinking',
    f'<think>{FIVE}</think> I do not know',
    '5',
    False,
  ),
  ('box inside open thinking', f'<think>so {FIVE}', '5', False),
  (
    'another after the thinking',
    rf'<think>{FIVE}</think>\boxed{{6}}',
    '5',
    False,
  ),
  ('wrong in the thinking', rf'<think>\boxed{{6}}</think>{FIVE}', '5', True),
  ('thinking twice', f'<think>a</think>{FIVE}<think>b</think>', '5', False),
  ('answer tags, bare value', '<think>x</think><answer>5</answer>', '5', True),
  ('answer tags, money', '<think>x</think><answer>$5</answer>', '5', True),
  (
    'answer tags, prose',
    '<answer>I think that it is 5 in all</answer>',
    '5',
    False,
  ),
  ('answer tags, two values', '<answer>5 or 6</answer>', '5', False),
  ('empty answer', '<think>5</think><answer></answer>', '5', False),
  ('unclosed answer', f'<think>x</think><answer>{FIVE}', '5', False),
  (
    'two answers, last wrong',
    f'<answer>{FIVE}</answer><answer>6</answer>',
    '5',
    False,
  ),
  ('box before the answer', f'{FIVE} <answer>6</answer>', '5', False),
  ('prose alone', 'The answer is 5.', '5', False),
  ('nothing', '', '5', False),
  ('empty box', r'\boxed{}', '5', False),
  ('empty box, then a full one', rf'\boxed{{}} {FIVE}', '5', False),
  ('unbalanced box', r'\boxed{5', '5', False),
  ('box of a box', r'\boxed{\boxed{5}}', '5', True),
  ('fbox', r'\fbox{5}', '5', True),
  ('a set in a box', r'\boxed{\{1,2\}}', r'\{2,1\}', True),
  ('a fraction in a box', r'\boxed{\frac{10}{4}}', '2.5', True),
  ('box with a space', r'\boxed {5}', '5', True),
  ('box of prose', r'\boxed{\text{five apples}}', '5', True),
  ('escaped braces', r'\boxed{5\}', '5', False),
  ('the gold in other words', 'gold answer: 5 5 5', '5', False),
]

# (content of <answer>, gold, whether it is correct)
ANSWERS = [
  ('x = 5', '5', True),
  ('\\(5\\)', '5', True),
  ('5.', '5', True),
  ('The final answer is \\(5\\).', '5', True),
  ('**Answer:** 5', '5', True),
  ('**5**', '5', True),
  ('Final Answer: 5', '5', True),
  ('Answer: $5$', '5', True),
  ('The answer is: 5', '5', True),
  ('Therefore, the answer is 5.', '5', True),
  ('So the answer is $x=5$.', '5', True),
  ('5 dollars', '5', True),
  ('The answer is 5 or 6', '5', False),
  ('The answer is not 5', '5', False),
  ('The answer is probably 5', '5', False),
  ('My answer is 5', '5', True),
  ('The correct answer is \\frac{1}{2}', '0.5', True),
  ('The answer is 2\\sqrt{3}', '\\sqrt{12}', True),
  ('The answer is (1,2)', '(1,2)', True),
  ('No solution', '\\emptyset', True),
  ('The limit does not exist', 'DNE', True),
  ('The answer is no solution', '\\emptyset', True),
  ('The answer is Yes', 'yes', True),
  ('The answer is B', 'B', True),
  ('**The answer is 5**', '5', True),
  ('The answer is 5 apples.', '5', True),
  ('Result: 5', '5', True),
  ('5\n', '5', True),
  ('\n\n$$5$$\n', '5', True),
  ('答案：5', '5', True),
  ('所以答案是5。', '5', True),
  ('The answer is 5, because 2+3=5', '5', False),
  ('5 is the answer', '5', False),
  ('I think 5', '5', False),
  ('4 5', '45', False),
  ('The answer is 35+35', '70', False),
  ('The answer is 70 = 35+35', '70', False),
  ('35+35=70', '70', True),
  ('The answer is $5$ dollars', '5', True),
  ('$\\boxed{5}$ dollars', '5', True),
  ('The answer is 5%', '5\\%', True),
  ('The answer is x=1 or x=2', '1,2', True),
  ('The answer is x=1,y=2', '(1,2)', True),
  ('the answer is ab', 'AB', False),
  ('The value is 5', '5', True),
  ('The solution is x=5', '5', True),
  ('Answer 5', '5', True),
  ('\\boxed{5}\\boxed{6}', '5', False),
  ('\\boxed{\\frac{10}{2}}', '5', False),
  ('$\\boxed{0.5}$, that is $\\boxed{\\frac{1}{2}}$', '1/2', True),
  ('\\boxed{\\sqrt{12}} or \\boxed{2\\sqrt3}', '2\\sqrt3', True),
  ('\\boxed{\\sqrt{12}} or \\boxed{3\\sqrt2}', '2\\sqrt3', False),
  ('\\boxed{2\\sqrt3}\\approx\\boxed{3.46}', '2\\sqrt3', False),
  ('\\boxed{50\\%}=\\boxed{0.5}', '0.5', True),
  ('\\boxed{x=5} so \\boxed{5}', '5', True),
  ('\\boxed{2+3} = \\boxed{5}', '5', True),
  ('\\boxed{5} = \\boxed{2+3}', '5', False),
  ('\\boxed{5\\text{ cm}} = \\boxed{5}', '5 cm', True),
  ('\\boxed{5\\text{ cm}} = \\boxed{5\\text{ m}}', '5 cm', False),
  ('\\boxed{(x+1)^2}=\\boxed{x^2+2x+1}', 'x^2+2x+1', True),
]

# [(gold, answers of its value that are not in final form)]
UNEVALUATED = [
  ('10^{-3}', [r'\frac{1}{10^3}']),
  ('3', [r'\sqrt9', r'\sqrt[3]{27}', r'\sqrt{81}/3', r'\log_2 8', r'\ln e^3']),
  (r'\frac{1}{2}', [r'\sin 30^\circ', r'\cos\frac{\pi}{3}', r'\sin(\pi/6)']),
  ('-1', ['i^2', r'e^{i\pi}', 'i^{6}']),
  ('x=3', ['x=6/2']),
  (r'\pm2', [r'\pm\sqrt4']),
  ('(1,2)', [r'(1,\sqrt4)']),
  ('5', [r'\frac{10}{2}', '2+3', r'\frac{5}{1}']),
]

# Unequal answers that must be rejected quickly; the gold is \sqrt2.
HOSTILE = {
  'power tower': '9^{9^{9^{9^9}}}',
  'power tower, plain': '9^9^9^9^9^9^9',
  'huge exponent': 'x^{10^9}',
  'huge expansion': '(x+1)^{100000}',
  'nested factorials': '((((9!)!)!)!)!',
  'huge binomial': r'\binom{10^9}{10^8}',
  'hundred thousand digits': '7' * 100_000,
  'hundred thousand brackets': '(' * 50_000 + '1' + ')' * 50_000,
  'unclosed braces': '{' * 900,
  'nested fractions': r'\frac{1}{' * 60 + '2' + '}' * 60,
  'nested roots': r'\sqrt{' * 60 + '2' + '}' * 60,
  'many factors': ''.join(f'(x+{n})' for n in range(120)),
  'many terms': '+'.join(f'x^{n}' for n in range(150)),
  'many signs': '-' * 900 + '1',
  'many bars': '|' * 301 + 'x' + '|' * 301,
  'unicode digits': '٩' * 900,
  'combining marks': 'x' + '\u0301' * 900,
  'right to left': '\u202e' + '2√',
  'zero width': '\u200b'.join('1' * 400),
  'nested functions': r'\sin' * 200 + 'x',
  'matrix of powers': r'\begin{pmatrix}9^{9^9}&9^{9^9}\\1&1\end{pmatrix}',
  'set of hundred': ','.join(rf'\sqrt{{{n}}}' for n in range(100)),
  'python': '__import__("os").system("true")',
  'huge decimal': '1e1000000000',
  'repeating zeros': '0.' + '0' * 900 + '1',
}


def response(answer: str) -> str:
  """A response with the answer in a box."""
  return f'<think>Let me see.</think>\n<answer>\\boxed{{{answer}}}</answer>'


def cases() -> list[Case]:
  """The cases of this file and of more.jsonl. Some of them were used to improve
  the verifier."""
  found = []
  for kind, groups in BOXED.items():
    for gold, equal, unequal in groups:
      found += [Case(kind, response(x), gold, True) for x in equal]
      found += [Case(kind, response(x), gold, False) for x in unequal]
  for _, text, gold, is_correct in RESPONSES:
    found.append(Case('responses', text, gold, is_correct))
  for content, gold, is_correct in ANSWERS:
    text = f'<think>Let me see.</think><answer>{content}</answer>'
    found.append(Case('responses', text, gold, is_correct))
  for gold, answers in UNEVALUATED:
    for answer in answers:
      found.append(Case('final form', response(answer), gold, False, True))
  for row in _read('more.jsonl'):
    text = response(row['answer'])
    if 'tagged' in row:  # without a box
      text = f'<think>Let me see.</think><answer>{row["answer"]}</answer>'
    case = Case(row['kind'], text, row['gold'], row['equal'])
    found.append(case._replace(is_unevaluated='unevaluated' in row))
  for text in HOSTILE.values():
    found.append(Case('hostile', response(text), r'\sqrt2', False))
  return found


def blind() -> list[Case]:
  """The cases of cases.jsonl."""
  found = []
  for row in _read('cases.jsonl'):
    for key in 'equal', 'unequal', 'unevaluated':
      for answer in row.get(key, []):
        text = _expand(answer)
        text = text if 'whole' in row else response(text)
        case = Case(row['kind'], text, row['gold'], key == 'equal')
        found.append(case._replace(is_unevaluated=key == 'unevaluated'))
  return found


def _read(name):
  path = pathlib.Path(__file__).with_name(name)
  lines = path.read_text(encoding='utf-8').splitlines()
  return [json.loads(line) for line in lines]


def _expand(answer):
  """Long answers are lists [piece, count, piece, count, ...]."""
  if isinstance(answer, str):
    return answer
  return ''.join(map(lambda piece, n: piece * n, answer[::2], answer[1::2]))
