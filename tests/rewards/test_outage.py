"""What counts as an outage of a reward, and what is a decision of the user's."""

import numpy as np
import pytest

from r1jax import user_code
from r1jax.rewards import outage, registry, verifiers
from r1jax.rewards.verdict import VerifyConfig
from r1jax.sandbox import tiers, workers

CONFIG = VerifyConfig(workers=2)
RECORDS = [dict(id=str(n), prompt='?', answer=str(n)) for n in range(3)]
TEXTS = ['a', 'down', 'b']
SOURCE = """
import urllib.request
import r1jax

def batch(records, texts):
  if 'down' in texts:
    urllib.request.urlopen('http://127.0.0.1:9')  # where nobody listens
  return [None, 1.0, float('nan')]

@r1jax.per_sample
def single(record, text):
  return batch([record], [text])[0]

@r1jax.per_sample(worker_seconds=20)
def worker(record, text):
  return batch([record], [text])[0]

def scorer(record, answer):
  return batch([record], [answer])[0]
"""


@pytest.fixture
def names(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'remote.py').write_text(SOURCE)
  return [f'remote.py:{x}' for x in ('batch', 'single', 'worker')]


def scores(name, records, texts):
  with verifiers.Verifiers(
    CONFIG, records, registry.user_names({name: 1})
  ) as v:
    return registry.scores({name: 1.0}, records, texts, rules=v.rules)


@pytest.mark.parametrize(
  'n, out', [(0, [1, 1, 1]), (1, [1, 1, 1]), (2, [0, 1, 0])]
)
def test_a_reward_whose_network_fails_has_an_outage(names, n, out, capsys):
  found = scores(names[n], RECORDS, TEXTS)
  assert found.outage_N.tolist() == out
  assert np.isnan(found.reward_N).all()
  shown = capsys.readouterr().err
  assert 'Connection refused' in shown and 'its text is not judged' in shown


def test_a_reward_that_does_not_judge_has_no_outage(names):
  found = scores(names[0], RECORDS, ['a', 'b', 'c'])
  assert not found.outage_N.any()
  assert np.isnan(found.reward_N).tolist() == [True, False, True]


def test_a_scorer_whose_network_fails_has_an_outage(names):
  records = [x | dict(scorer='remote.py:scorer') for x in RECORDS]
  texts = [f'<answer>{x}</answer>' for x in TEXTS]
  found = scores('accuracy', records, texts)
  assert found.outage_N.tolist() == [False, True, False]
  assert np.isnan(found.reward_N).all()


def test_a_network_that_fails_is_not_asked_again_for_each_text(names):
  calls = []

  def reward(records, texts):
    calls.append(len(texts))
    raise TimeoutError

  name = user_code.name_of(reward)
  assert scores(name, RECORDS, TEXTS).outage_N.all() and calls == [3]


@pytest.mark.parametrize('failure, is_out', [('died', 1), ('timeout', 0)])
def test_a_reward_whose_worker_is_killed_has_an_outage(
  names, monkeypatch, failure, is_out
):
  """One that exceeds its time does not judge."""

  def results(self, function, jobs, prepare=()):
    return [workers.Result(None, failure)] * len(jobs)

  monkeypatch.setattr(workers.Pool, 'map', results)
  found = scores('remote.py:worker', RECORDS, TEXTS)
  assert found.outage_N.tolist() == [is_out] * 3
  assert np.isnan(found.reward_N).all()


def test_a_sandbox_service_that_is_gone_is_an_outage(monkeypatch):
  """A response without a program needs no service."""
  gone = tiers.Tier('service', 'http://127.0.0.1:9')
  monkeypatch.setattr(tiers, 'find', lambda url: gone)
  tests = [dict(input='1', output='1')]
  records = [dict(id=str(n), prompt='?', tests=tests) for n in range(2)]
  program = '<answer>```python\nprint(input())\n```</answer>'
  found = scores('accuracy', records, [program, 'none'])
  assert found.outage_N.tolist() == [True, False]
  assert np.isnan(found.reward_N[0]) and found.reward_N[1] == 0


def test_the_lines_of_an_outage_are_few(capsys):
  def reward(records, texts):
    raise TimeoutError('no answer')

  texts = ['x'] * 100
  scores(user_code.name_of(reward), [RECORDS[0]] * 100, texts)
  lines = capsys.readouterr().err.splitlines()
  assert len(lines) == 4 and lines[-1] == '… and 97 more were not judged'


@pytest.mark.parametrize('outages, spoilt', [(0, 0), (8, 0), (9, 1), (16, 1)])
def test_an_outage_spoils_what_it_leaves_mostly_unjudged(outages, spoilt):
  assert outage.spoils(outages, 16) == spoilt
