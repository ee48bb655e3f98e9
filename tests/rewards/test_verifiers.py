"""Verdicts are computed in processes, cached and counted."""

import threading

import numpy as np
import pytest

from r1jax.rewards import verifiers
from r1jax.rewards.math import grading
from r1jax.sandbox import workers

CONFIG = verifiers.VerifyConfig(workers=2, seconds=60.0)
CHOICES = dict(answer='B', choices=['one', 'two'])


def record(n, **keys):
  return dict(id=f'q{n}', prompt='?', answer='4') | keys


def boxed(x):
  return f'<think>\\boxed{{7}}</think><answer>\\boxed{{{x}}}</answer>'


@pytest.fixture(scope='module')
def opened():
  with verifiers.Verifiers(CONFIG) as x:
    yield x


class RecordingPool(workers.Pool):
  """A pool that records its jobs, and may return a fixed result."""

  def __init__(self, *args, result=None):
    super().__init__(*args)
    self.jobs, self.result = [], result

  def map(self, function, jobs):
    self.jobs += jobs
    if self.result:
      return [self.result for _ in jobs]
    return super().map(function, jobs)


@pytest.fixture
def recorded(monkeypatch):
  """Verifiers with RecordingPools."""
  monkeypatch.setattr(workers, 'Pool', RecordingPool)
  with verifiers.Verifiers(CONFIG) as x:
    yield x


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
def test_answers_that_the_exact_rules_leave_open_are_compared_symbolically(
  opened, answer, gold, value, kind
):
  (verdict,) = opened.verdicts([record(0, answer=gold)], [boxed(answer)])
  assert (verdict.value, verdict.kind) == (value, kind)
  assert verdict.reason


def test_each_record_has_the_verifier_of_its_kind(opened):
  records = [record(0), record(1, **CHOICES), record(2, **CHOICES)]
  values = opened.accuracy(records, [boxed('4'), boxed('(B)'), boxed('A')])
  np.testing.assert_array_equal(values, [1, 1, 0])


def test_a_response_without_a_final_answer_earns_nothing(opened):
  (verdict,) = opened.verdicts([record(0)], [r'<think>\boxed{4}</think>'])
  assert (verdict.value, verdict.kind) == (0, 'no answer')


def test_equal_answers_are_judged_once(recorded):
  records = [record(0, answer=r'\sqrt{12}')] * 3
  first = recorded.verdicts(records, [boxed(r'2\sqrt{3}')] * 3)
  second = recorded.verdicts(records[:1], ['So ' + boxed(r'2\sqrt{3}')])
  assert len(recorded.verifiers[-1].pool.jobs) == 1
  assert {*first, *second} == {first[0]}
  other = record(0, answer=r'\sqrt{13}')  # the same id, another gold
  assert recorded.verdicts([other], [boxed(r'2\sqrt{3}')])[0].value == 0
  assert len(recorded.verifiers[-1].pool.jobs) == 2


def test_the_cache_is_bounded():
  with verifiers.Verifiers(
    verifiers.VerifyConfig(workers=1, cache=3)
  ) as opened:
    for n in range(9):
      opened.verdicts([record(n)], [boxed('4')])
    assert list(opened.cache) == [
      opened.key(record(n), boxed('4')) for n in (6, 7, 8)
    ]


@pytest.mark.parametrize('failure', ['timeout', 'memory'])
def test_an_answer_that_exceeds_a_limit_is_not_equal(recorded, failure):
  recorded.verifiers[-1].pool.result = workers.Result(None, failure)
  hard = record(0, answer='x')
  (verdict,) = recorded.verdicts([hard], [boxed('y+z')])
  assert (verdict.value, verdict.kind) == (0, failure)
  assert recorded.pop_failure_counts()[failure] == 1
  assert recorded.pop_failure_counts()[failure] == 0


@pytest.mark.parametrize('failure', ['died', 'error: KeyError'])
def test_a_failure_of_a_verifier_masks_its_sample_and_is_reported(
  recorded, failure, capsys
):
  recorded.verifiers[-1].pool.result = workers.Result(None, failure)
  records = [record(0, answer='x'), record(1)]
  value_N = recorded.accuracy(records, [boxed('y+z'), boxed('4')])
  assert value_N.mask.tolist() == [True, False] and value_N[1] == 1
  assert recorded.pop_failure_counts()['infra'] == 1
  assert f'record q0 was not verified: the verifier failed: {failure}' in (
    capsys.readouterr().err
  )
  recorded.verifiers[-1].pool.result = workers.Result([1.0, 'equal', 'yes'], '')
  again_N = recorded.accuracy(records, [boxed('y+z'), boxed('4')])
  assert again_N.tolist() == [1, 1]  # the failure was not cached


def test_verifiers_are_thread_safe(opened):
  found = {}

  def judge(n):
    gold = f'\\sqrt{{{4 * n}}}'
    found[n] = opened.accuracy(
      [record(n, answer=gold)] * 2,
      [boxed(f'2\\sqrt{{{n}}}'), boxed(f'3\\sqrt{{{n}}}')],
    ).tolist()

  threads = [threading.Thread(target=judge, args=(n,)) for n in (2, 3, 5, 6, 7)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert found == {n: [1, 0] for n in (2, 3, 5, 6, 7)}


def test_the_exact_rules_need_no_process():
  assert grading.accuracy([record(0)], [boxed('4')]).tolist() == [1]


@pytest.mark.parametrize(
  'error', [BlockingIOError(11, 'fork'), ConnectionRefusedError()], ids=repr
)
def test_an_outage_of_a_verifier_is_no_verdict(error, monkeypatch, capsys):
  """The others judge. The answers are verified again later."""
  with verifiers.Verifiers(CONFIG) as opened:
    verifier = opened.verifier_of(record(0))
    judge = verifier.judge

    def fails(records, answers):
      raise error

    monkeypatch.setattr(verifier, 'judge', fails)
    records = [record(0), record(1, **CHOICES)]
    values = opened.accuracy(records, [boxed('4'), boxed('(B)')])
    assert values.mask.tolist() == [True, False] and values[1] == 1
    assert opened.pop_failure_counts()['infra'] == 1
    assert 'q0 was not verified' in capsys.readouterr().err
    monkeypatch.setattr(verifier, 'judge', judge)
    assert opened.accuracy(records[:1], [boxed('4')]).tolist() == [1]
