"""Multiple choice, and the rewards for length and repetition."""

import time

import numpy as np
import pytest

from r1jax import errors
from r1jax.rewards import choice, penalties

RECORD = dict(
  id='q1', prompt='?', answer='C', choices=['red', 'Green', '$4$', 'none']
)


@pytest.mark.parametrize(
  'answer, letter',
  [
    ('C', 'C'),
    ('c', 'C'),
    ('(C)', 'C'),
    ('[b]', 'B'),
    ('C.', 'C'),
    (r'\text{C}', 'C'),
    (r'\mathrm{(D)}', 'D'),
    ('option B', 'B'),
    ('The answer is D', 'D'),
    ('B) green', 'B'),
    ('C: 4', 'C'),
    ('Green', 'B'),
    ('green.', 'B'),
    ('4', 'C'),
    ('B) red', None),
    ('E', None),
    ('A or B', None),
    ('AB', None),
    ('yellow', None),
    ('\u212a', None),  # the Kelvin sign, not a K
    ('', None),
    (None, None),
  ],
)
def test_an_answer_names_one_choice_or_none(answer, letter):
  assert choice.letter_of(RECORD, answer) == letter


NUMBERS = dict(RECORD, answer='B', choices=['10', '12', '2/3', 'none of these'])
# How the choice B, 12, is written.
NAMES_B = r"""B
b
B.
(B)
[B]
Ｂ
（Ｂ）
B．
Ｂ：12
𝐁
Ⓑ
(B) 12
(B). 12
(B): 12
B) 12
B: 12
B. 12
B、12
(B.)
B (12)
12 (B)
12, option B
#### B
∴ B
\therefore B
B \checkmark
B ✓
B - 12
B — 12
B 12
12
$12$
12.0
\frac{24}{2}
"B"
`B`
"B. 12"
**B**
***B***
*B*
__B__
**(B) 12**
**B**: 12
**B.** 12
**Answer:** B
**Answer: B**
<b>B</b>
\boxed{B}
\boxed{\text{B}}
\fbox{B.}
\text{B}.
\mathbf{B}
\textbf{(B)}\ 12
\text{(B)}~12
\textbf{(B) } 12
\textbf{B. }12
\mathrm{(B)}\ 12
\text{\textbf{B}}
\text{Option B}
\text{The answer is B}
\textcolor{red}{B}
\textbf{{(B)}}
\textnormal{B}
\color{red}B
\Large B
{\bf B}
{B}
\(B\)
Option B
option (B)
Choice B
option B: 12
Answer: B
Final Answer: B
The answer is **B**.
The answer is 12.
The correct answer is (B) 12
The correct answer to this question is option (B).
So the answer is B.
Thus, (B)
I choose B
Select (B)
It is B
Correct: B
B is correct
B is the answer
(B) is the correct answer
选B
我选B
选择B
应选 (B)
故选：B
故选B。
答案是B
答案：Ｂ。
答案为选项B
答案是（Ｂ）12
答案是12
最终答案：B
正确答案是选项B。
本题答案选B
因此，答案选B
【答案】B
我的答案是B
正确的是B
选项B
B项
B选项符合题意
B选项正确
B 是正确选项
答案是 $\boxed{B}$"""
# What names no choice, or another one.
NAMES_OTHER = r"""A
C
E
10
13
24
12\%
-12
AB
BB
A B
A, B
A or B
B or
B or C
B and C
Both A and B
B/C
B|C
B+C
A&B
(B)(C)
B→C
B (or C)
"B" or "C"
\boxed{B} or \boxed{C}
either B
maybe B
neither
not B
not (B)
\text{not }B
not\ B
\neg B
\not B
¬B
~B
~~B~~
!B
-B
\overline{B}
\cancel{B}
B is incorrect
B is not correct
B is false
B because 12
B?
B'
B^c
B_1
B12
12B
В
Β
β
A: B
B: A
B) 10
B: 10
B 13
B, 13
B (10)
13 (B)
10 (B)
12 (A)
12 (not B)
not 12 (B)
12 (B or C)
A => B
the wrong answer is B
The incorrect option is B
The second best answer is B
B: 12 or 13
A: 12
A. 12
(A) 12
A 12
A - 12
A = 12
12 or 13
12, 13
12 is wrong
~~12~~
12?
\cancel{12}
11+1
|12|
not 12
all but B
except B
The answer is not B
The answer is B or C
The answer is A and B
I choose not B
不选B
不是B
非B
除了B
B以外
B错误
B不正确
B是错误的
选A或B
答案不是B
答案不选B
C\phantom{B}
\phantom{B}
\boxed{}"""


@pytest.mark.parametrize('answer', NAMES_B.split('\n'))
def test_a_choice_is_named_in_the_forms_of_mathematics(answer):
  assert choice.letter_of(NUMBERS, answer) == 'B'
  tagged = [f'<think></think><answer>{answer}</answer>']
  assert choice.choice([NUMBERS], tagged) == 1


@pytest.mark.parametrize('answer', NAMES_OTHER.split('\n'))
def test_an_answer_that_does_not_name_the_choice_has_no_reward(answer):
  assert choice.letter_of(NUMBERS, answer) != 'B'
  for text in (f'<answer>{answer}</answer>', rf'\boxed{{{answer}}}'):
    assert choice.choice([NUMBERS], [text]) == 0


@pytest.mark.parametrize(
  'text, reward',
  [
    (r'\boxed{\textbf{(B)}\ 12}', 1),
    (r'<think>\boxed{A}</think> So \boxed{\boxed{B}}.', 1),
    (r'\boxed{12} is \boxed{B}', 1),
    (r'\boxed{A}, no: \boxed{B}', 0),
    (r'\boxed{x} is \boxed{B}', 0),
    ('<answer>The answer is:\n\n(B)</answer>', 1),
    ('<answer>B\n12</answer>', 1),
    ('<answer>B\n10</answer>', 0),
    ('<answer>B\nnot B</answer>', 0),
    ('<answer>A\n12</answer>', 0),
    (r'<answer>It is 12, so \boxed{B}</answer>', 1),
    ('The answer is B', 0),  # neither a box nor tags, as in mathematics
    ('<think>\n<answer>B</answer>', 0),
  ],
)
def test_the_final_choice_of_a_response(text, reward):
  assert choice.choice([NUMBERS], [text]) == reward


HOSTILE = [
  '(',
  'B ',
  '*',
  '**a',
  '_a',
  '{',
  '\\text{',
  '\\bf',
  'B, ',
  '(B',
  '选',
]
HOSTILE += [
  'so ',
  'the answer is ',
  '"',
  '→ ',
  'A\n',
  '答案',
  '$',
  '<b>',
  '~',
  '%',
]


@pytest.mark.parametrize('piece', HOSTILE)
def test_hostile_answers_are_read_in_little_time(piece):
  answer = (piece * 2000)[:1900]
  for text in (answer, answer + 'B', 'B' + answer, f'(B) {answer} (B)'):
    began = time.process_time()
    choice.choice([NUMBERS], [rf'\boxed{{{text}}}'])
    choice.letter_of(NUMBERS, text)
    # All take less than 0.5 s.
    assert time.process_time() - began < 20


@pytest.mark.parametrize(
  'answer, letter',
  [
    ('A', 'A'),
    ('(A)', 'A'),
    ('选A', 'A'),
    (r'\text{A}', 'A'),
    ('B', 'B'),
    ('A: B', 'A'),
    ('A. A', None),
    ('O', 'C'),
    ('AB', 'D'),
  ],
)
def test_a_letter_is_read_before_the_words_of_a_choice(answer, letter):
  record = dict(RECORD, answer='A', choices=['B', 'A', 'O', 'AB'])
  assert choice.letter_of(record, answer) == letter


def test_choices_may_have_their_own_labels():
  record = dict(RECORD, choices=['(A) 10', '(B) 12', '(C) 14', '(D) 16'])
  for answer in ('C', '(C) 14', '14', r'\textbf{(C)} 14'):
    assert choice.letter_of(record, answer) == 'C'
  for answer in ('(C) 12', '(B) 14', '(A) 10, (C) 14'):
    assert choice.letter_of(record, answer) is None


@pytest.mark.parametrize(
  'answer, letters',
  [
    ('AC', 'AC'),
    ('A, C', 'AC'),
    ('A C', 'AC'),
    ('C,A', 'AC'),
    ('(A), (C)', 'AC'),
    ('A and C', 'AC'),
    ('A和C', 'AC'),
    ('选AC', 'AC'),
    ('Ａ，Ｃ', 'AC'),
    (r'\text{A, C}', 'AC'),
    (r'\{A, C\}', 'AC'),
    ('The answers are A and C.', 'AC'),
    ('A) red, C) 4', 'AC'),
    ('red, 4', 'AC'),
    ('A\nC', 'AC'),
    ('AC\nA, C', 'AC'),
    ('Both A and C', 'AC'),
    ('A and C are correct', 'AC'),
    ('AC两项正确', 'AC'),
    ('A', 'A'),
    ('ABC', 'ABC'),
    ('AC\nA', None),
    ('AA', None),
    ('A or C', None),
    ('A and C are wrong', None),
    ('A, C, ...', None),
    ('A, C?', None),
    ('AC两项不正确', None),
    ('all but A, C', None),
    ('A, not C', None),
    ('not A, C', None),
    ('A) red, C) green', None),
    ('AE', None),
  ],
)
def test_an_answer_may_name_several_choices(answer, letters):
  for gold in ('AC', 'A, C', 'CA'):
    record = dict(RECORD, answer=gold)
    choice.check(record)
    assert choice.letter_of(record, answer) == letters
    text = f'<answer>{answer}</answer>'
    assert choice.choice([record], [text]) == (letters == 'AC')


def test_a_text_that_two_choices_share_names_none():
  record = dict(RECORD, choices=['same', 'Same', 'other'])
  assert choice.letter_of(record, 'same') is None
  assert choice.letter_of(record, 'B) same') == 'B'


def test_the_reward_reads_only_the_final_answer():
  right = r'<think>\boxed{A}</think><answer>\boxed{C}</answer>'
  wrong = r'<think>\boxed{C}</think><answer>\boxed{A}</answer>'
  reward_N = choice.choice([RECORD] * 3, [right, wrong, 'C'])
  np.testing.assert_array_equal(reward_N, [1, 0, 0])


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(choices='abc'), 'choices must be a list'),
    (dict(choices=['one']), 'choices must be a list'),
    (dict(answer='E'), "the answer 'E' must be a letter from A to D"),
    (dict(answer='c'), 'must be a letter'),
    (dict(answer='AA'), 'must be a letter'),
    (dict(answer='A or B'), 'must be a letter'),
    (dict(answer=['A']), 'must be a letter'),
    (dict(answer=''), 'must be a letter'),
  ],
)
def test_a_gold_that_names_no_choice_is_refused(change, message):
  with pytest.raises(errors.UserError, match=message):
    choice.check(RECORD | change)


def test_the_length_penalty_begins_at_the_records_max_chars():
  records = [dict(max_chars=10)] * 4 + [{}]
  texts = ['', 'x' * 10, 'x' * 15, 'x' * 99, 'x' * penalties.MAX_CHARS]
  np.testing.assert_array_equal(
    penalties.length_penalty(records, texts), [1, 1, 0.5, 0, 1]
  )


def test_repetitive_texts_lose_the_repetition_reward():
  loop, fresh = 'to be or not ' * 40, ''.join(map(str, range(200)))
  loop_1, fresh_1, short_1 = penalties.repetition_penalty(
    [{}] * 3, [loop, fresh, 'a']
  )
  assert loop_1 < 0.05 and fresh_1 > 0.9 and short_1 == 1
