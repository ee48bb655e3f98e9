"""The format rewards need a thinking, and an answer that can be seen."""

import pytest

from r1jax.rewards import format

INVISIBLE = [
  '',
  ' \n\t',
  '\u00a0\u3000\u2003',  # spaces
  '\u200b\u200c\u200d\u2060\ufeff',  # zero-width
  '\u200e\u200f\u202a\u202e\u2066\u2069\u061c',  # bidirectional marks
  '\u00ad\u034f\u180e\ufe0f\ufe00',
  '\u0301\u0308',  # combining marks alone
  '\u115f\u1160\u3164\uffa0\u2800',  # letters and symbols without ink
  '\U000e0041\U000e0042\U000e0100',  # tags and variation selectors
  '\x00\x07\x1b\x7f',
  '\ue000',  # private use
  '\ud800',
  '&nbsp;&#8203;&zwnj;',
  '<!-- 5 -->',
  '<!--\n5\n--> \n',
  '<br/><p></p>',
  '$$ $',
  r'\ \,\;\quad~',
  r'\boxed{}',
  r'\boxed{\text{ }}',
  r'\[ \boxed{\ } \]',
  r'\phantom{5}',
]
VISIBLE = [
  '5',
  '-',
  '?',
  '…',
  '∅',
  r'\{\}',
  '{}',
  '<5',
  '<x, y>',
  'x < y and y > z',
  'é',
  'e\u0301',
  '\u200b5\u200b',
  '答',
  'ا\u200f',
  '👍',
  '<!-- no --> 5',
  r'\boxed{5}',
  r'\emptyset',
  '&amp;',
  'a' * 20_000,
]
INVISIBLE += [
  '\\boxed{\u200b}',
  '\\boxed{\\text{\u2060}}',
  r'\displaystyle',
  r'\begin{aligned}\end{aligned}',
  r'\color{red}',
  '****',
  '```\n```',
]


@pytest.mark.parametrize('answer', INVISIBLE)
def test_an_invisible_answer_has_no_format(answer):
  tagged = f'<think>So.</think><answer>{answer}</answer>'
  assert format.format_reward([{}], [tagged]) == 0
  assert format.think_format_reward([{}], [tagged]) == 0
  plain = f'<think>So.</think>{answer}'
  assert format.think_format_reward([{}], [plain]) == 0


@pytest.mark.parametrize('answer', VISIBLE)
def test_a_visible_answer_has_the_format(answer):
  tagged = f'<think>So.</think>\n<answer>{answer}</answer>'
  assert format.format_reward([{}], [tagged]) == 1
  plain = f'<think>So.</think>\n{answer}'
  assert format.think_format_reward([{}], [plain]) == 1


@pytest.mark.parametrize(
  'text, reward',
  [
    ('<think>\n\n</think>\n\n<answer>5</answer>', 1),  # empty thinking
    ('<answer>5</answer>', 0),
    ('So.</think><answer>5</answer>', 0),  # see templates.with_opening
    ('<think><think>So.</think><answer>5</answer>', 0),
    ('<think>So.</think><answer>5</answer><answer>5</answer>', 0),
    ('\ufeff<think>So.</think><answer>5</answer>', 0),
    ('<think>So.</think>\u200b<answer>5</answer>', 0),
    ('<think>So.</think><answer>5</answer> 5', 0),
  ],
)
def test_the_format_is_thinking_and_answer_once(text, reward):
  assert format.format_reward([{}], [text]) == reward
