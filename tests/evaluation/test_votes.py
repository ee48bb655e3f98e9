"""Votes are counted by the verdicts that accuracy uses."""

import dataclasses

import pytest

from r1jax.evaluation import statistics, votes
from r1jax.rewards import verdict, verifiers

# CPU seconds that no machine reaches, and few worker processes.
CONFIG = verdict.VerifyConfig(workers=2, seconds=100.0)
CITY = dict(id='c', prompt='?', answer='B', choices=['Rome', 'Oslo', 'Bern'])


@pytest.fixture(scope='module')
def opened():
  with verifiers.Verifiers(CONFIG) as x:
    yield x


def problem(gold, **more):
  return dict(id='p', prompt='?', answer=gold, **more)


def vote(opened, record, answers):
  """(votes, accuracy) of boxed answers; None is a response without one."""
  texts = ['no box' if a is None else rf'\boxed{{{a}}}' for a in answers]
  records = [record] * len(texts)
  accuracy = [x.value for x in opened.verdicts(records, texts)]
  found = votes.groups(opened, records, texts, accuracy, len(texts))
  return found, accuracy


def cons(opened, record, answers):
  found, accuracy = vote(opened, record, answers)
  return statistics.cons_at_k([found], [accuracy], len(answers))[0, 0]


RIGHT = {
  r'2\sqrt3': [r'\sqrt{12}', r'2\sqrt{3}', r'\sqrt3 \cdot 2', r'\sqrt{12}'],
  'x+1': ['1+x', 'x + 1', r'\frac{x^2-1}{x-1}', '1 + x'],
  '0.5': [r'\frac12', '1/2', '0.5', r'\frac{1}{2}'],
}


@pytest.mark.parametrize('gold', RIGHT)
def test_the_majority_is_right_where_every_sample_is(gold, opened):
  found, accuracy = vote(opened, problem(gold), RIGHT[gold])
  assert (found, accuracy) == ([0] * 4, [1] * 4)
  assert cons(opened, problem(gold), RIGHT[gold]) == 1


def test_right_votes_in_several_spellings_add_up(opened):
  answers = ['7', '7', r'\sqrt{12}', r'2\sqrt3', r'\sqrt3 \cdot 2']
  assert cons(opened, problem(r'2\sqrt{3}'), answers) == 1


def test_wrong_votes_in_several_spellings_add_up(opened):
  answers = ['5', '5', r'\sqrt{12}', r'2\sqrt3', r'\sqrt3 \cdot 2']
  found, _ = vote(opened, problem('5'), answers)
  assert found == [0, 0, 2, 2, 2]
  assert cons(opened, problem('5'), answers) == 0
  assert vote(opened, problem('9'), ['0.5', '1/2', '3', r'\frac12']) == (
    [0, 0, 2, 0],
    [0] * 4,
  )


def test_an_answer_in_two_boxes_votes_by_the_last(opened):
  texts = [r'\boxed{\frac{x^2-1}{x-1}} = \boxed{x+1}', r'\boxed{1 + x}']
  for gold, accuracy in (('x', [0.0, 0.0]), ('x+1', [1.0, 1.0])):
    records = [problem(gold)] * 2
    assert [x.value for x in opened.verdicts(records, texts)] == accuracy
    assert votes.groups(opened, records, texts, accuracy, 2) == [0, 0]


def test_mathematics_by_math_verify_has_votes_by_math_verify():
  pytest.importorskip('math_verify')
  config = dataclasses.replace(CONFIG, math_verifier='math_verify')
  answers = ['5', '5', r'\sqrt{12}', r'2\sqrt3', r'\sqrt3 \cdot 2']
  with verifiers.Verifiers(config, [problem('5')]) as x:
    assert vote(x, problem('5'), answers)[0] == [0, 0, 2, 2, 2]
    assert cons(x, problem(r'2\sqrt3'), answers) == 1


def test_equality_that_is_not_transitive_goes_by_the_most_frequent(opened):
  # Units are compared if both sides have them: 4 equals 4 cm and 4 m.
  cm, m = r'4\text{ cm}', r'4\text{ m}'
  found, _ = vote(opened, problem('9'), [m, cm, '4', cm])
  assert found == [0, 1, 1, 1]
  found, _ = vote(opened, problem('9'), [m, cm, '4', '4'])
  assert found == [0, 0, 0, 0]


def test_a_right_and_a_wrong_answer_are_never_one_vote(opened):
  # 4 earns the reward, 4 m does not, though it equals 4.
  found, accuracy = vote(
    opened, problem(r'4\text{ cm}'), ['4', r'4\text{ m}', r'4\text{ cm}']
  )
  assert (found, accuracy) == ([0, 1, 0], [1, 0, 1])


def test_a_rounded_number_is_not_a_vote_for_its_fraction(opened):
  """A gold 0.333 accepts 1/3; a gold 1/3 does not accept 0.333."""
  assert vote(opened, problem('9'), ['0.333', '1/3'])[0] == [0, 1]
  assert vote(opened, problem('9'), ['1/3', '0.333'])[0] == [0, 1]


def test_an_options_words_are_a_vote_for_its_letter(opened):
  assert cons(opened, CITY, ['Oslo', 'B', '(B)', 'B. Oslo']) == 1
  found, _ = vote(opened, CITY, ['A', 'A', 'Oslo', 'B', 'Rome', None, 'Paris'])
  assert found == [0, 0, 2, 2, 0, None, 6]


def test_samples_without_an_answer_have_no_vote(opened):
  assert vote(opened, problem('5'), [None, '5', None])[0] == [None, 1, None]
  assert cons(opened, problem('5'), [None, None]) == 0


def test_answers_to_a_scorer_vote_by_their_text(tmp_path):
  path = tmp_path / 'even.py'
  path.write_text(
    'def even(record, answer):\n  return answer.strip() in set("2468")\n'
  )
  record = dict(id='e', prompt='An even number?', scorer=f'{path}:even')
  with verifiers.Verifiers(CONFIG, [record]) as x:
    # Three even numbers are not three votes for one answer.
    answers = ['4', '7', '2', '7', '6', ' 7 ']
    found, accuracy = vote(x, record, answers)
    assert found == [0, 1, 2, 1, 4, 1] and accuracy == [1, 0, 1, 0, 1, 0]
    assert cons(x, record, answers) == 0
    assert cons(x, record, ['7', '4', '4']) == 1


def test_programs_have_no_vote(opened):
  record = dict(id='f', prompt='?', tests=[dict(input='1', output='1')])
  program = '```python\nprint(1)\n```'
  assert not votes.can_vote(opened, record)
  assert votes.groups(opened, [record] * 2, [program] * 2, [1, 1], 2) == [
    None,
    None,
  ]


def test_the_number_of_comparisons_is_bounded(opened, monkeypatch):
  judged, verdicts = [], verifiers.Verifiers.verdicts

  def counted(self, records, texts):
    judged.extend(texts)
    return verdicts(self, records, texts)

  texts = [rf'\boxed{{{n}}}' for n in range(100)] * 2
  monkeypatch.setattr(verifiers.Verifiers, 'verdicts', counted)
  record = problem('x')
  found = votes.groups(opened, [record] * 200, texts, [0.0] * 200, 200)
  assert found == [*range(100)] * 2
  assert len(judged) <= votes.MAX_COMPARED * 100
