"""Multiple choice, and the rewards for length and repetition."""

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
