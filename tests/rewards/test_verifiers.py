"""Verdicts of a stage: extracted, judged in processes, remembered."""

import threading

import numpy as np
import pytest

from r1jax.rewards import verifiers
from r1jax.rewards.math import grading
from r1jax.sandbox import workers

C = verifiers.VerifyConfig(workers=2, seconds=2.0)
CHOICES = dict(answer='B', choices=['one', 'two'])


def record(n, **keys):
  return dict(id=f'q{n}', prompt='?', answer='4') | keys


def boxed(x):
  return f'<think>\\boxed{{7}}</think><answer>\\boxed{{{x}}}</answer>'


@pytest.fixture(scope='module')
def judges():
  with verifiers.open_verifiers(C) as opened:
    yield opened


class Watched(workers.Pool):
  """A pool that notes what it is asked."""

  def __init__(self, *args, answer=None):
    super().__init__(*args)
    self.jobs, self.answer = [], answer

  def map(self, function, jobs):
    self.jobs += jobs
    if self.answer:
      return [self.answer for _ in jobs]
    return super().map(function, jobs)


@pytest.fixture
def watched():
  """Verifiers whose mathematics is watched, and may be told what to say."""
  with verifiers.open_verifiers(C) as opened:
    opened.mathematics.close()
    opened.mathematics = Watched(2, 2.0, 1 << 30)
    yield opened


@pytest.mark.parametrize(
  'answer, gold, value, kind',
  [
    ('4', '4', 1, 'equal'),
    ('5', '4', 0, 'unequal'),
    (r'2\sqrt{3}', r'\sqrt{12}', 1, 'equal'),
    (r'2\sqrt{3}', r'\sqrt{13}', 0, 'unequal'),
    ('x^2-1', '(x+1)(x-1)', 1, 'equal'),
  ],
)
def test_mathematics_stands_behind_the_exact_rules(
  judges, answer, gold, value, kind
):
  (verdict,) = judges.verdicts([record(0, answer=gold)], [boxed(answer)])
  assert (verdict.value, verdict.kind) == (value, kind)
  assert verdict.reason


def test_each_record_is_judged_by_its_own_kind(judges):
  records = [record(0), record(1, **CHOICES), record(2, **CHOICES)]
  values = judges.accuracy(records, [boxed('4'), boxed('(B)'), boxed('A')])
  np.testing.assert_array_equal(values, [1, 1, 0])


def test_no_final_answer_is_no_credit(judges):
  (verdict,) = judges.verdicts([record(0)], [r'<think>\boxed{4}</think>'])
  assert (verdict.value, verdict.kind) == (0, 'no answer')


def test_equal_answers_are_judged_once_and_alike(watched):
  records = [record(0, answer=r'\sqrt{12}')] * 3
  first = watched.verdicts(records, [boxed(r'2\sqrt{3}')] * 3)
  second = watched.verdicts(records[:1], ['So ' + boxed(r'2\sqrt{3}')])
  assert len(watched.mathematics.jobs) == 1
  assert {*first, *second} == {first[0]}
  other = record(0, answer=r'\sqrt{13}')  # the same id, another gold
  assert watched.verdicts([other], [boxed(r'2\sqrt{3}')])[0].value == 0
  assert len(watched.mathematics.jobs) == 2


def test_the_memory_of_verdicts_is_bounded():
  with verifiers.open_verifiers(
    verifiers.VerifyConfig(workers=1, cache=3)
  ) as opened:
    for n in range(9):
      opened.verdicts([record(n)], [boxed('4')])
    assert list(opened.known) == [
      verifiers.key_of(record(n), boxed('4')) for n in (6, 7, 8)
    ]


@pytest.mark.parametrize('failure', ['timeout', 'memory'])
def test_what_is_not_decided_within_its_limits_is_not_equal(watched, failure):
  watched.mathematics.answer = workers.Answer(None, failure)
  hard = record(0, answer='x')
  (verdict,) = watched.verdicts([hard], [boxed('y+z')])
  assert (verdict.value, verdict.kind) == (0, failure)
  assert watched.taken()[failure] == 1
  assert watched.taken()[failure] == 0


@pytest.mark.parametrize('failure', ['died', 'error: KeyError'])
def test_a_lost_worker_costs_its_own_sample_and_is_counted_and_said(
  watched, failure, capsys
):
  watched.mathematics.answer = workers.Answer(None, failure)
  records = [record(0, answer='x'), record(1)]
  value_N = watched.accuracy(records, [boxed('y+z'), boxed('4')])
  assert value_N.mask.tolist() == [True, False] and value_N[1] == 1
  assert watched.taken()['infra'] == 1
  assert f'record q0 was not judged: the verifier failed: {failure}' in (
    capsys.readouterr().err
  )
  watched.mathematics.answer = workers.Answer([True, 'yes'], '')
  again_N = watched.accuracy(records, [boxed('y+z'), boxed('4')])
  assert again_N.tolist() == [1, 1]  # A loss is not remembered.


def test_verdicts_come_from_any_thread(judges):
  found = {}

  def ask(n):
    gold = f'\\sqrt{{{4 * n}}}'
    found[n] = judges.accuracy(
      [record(n, answer=gold)] * 2,
      [boxed(f'2\\sqrt{{{n}}}'), boxed(f'3\\sqrt{{{n}}}')],
    ).tolist()

  threads = [threading.Thread(target=ask, args=(n,)) for n in (2, 3, 5, 6, 7)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == {n: [1, 0] for n in (2, 3, 5, 6, 7)}


def test_the_exact_rules_alone_need_no_process(judges):
  assert grading.accuracy([record(0)], [boxed('4')]).tolist() == [1]
