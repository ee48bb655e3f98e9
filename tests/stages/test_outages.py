"""An outage of verifiers in evaluate and reject: a chunk is judged again, or the
stage ends without it and can be tried again."""

import itertools
import time

import numpy as np
import pytest
import toy

from r1jax import errors
from r1jax.rewards import outage, verifiers
from r1jax.rewards.verdict import OUTAGE
from r1jax.stages import reject


@pytest.fixture
def slept(monkeypatch):
  seconds = []
  monkeypatch.setattr(time, 'sleep', seconds.append)
  return seconds


def out(count, rows):
  """What a reward of `rows` texts returns if the first `count` have an outage."""
  is_out = np.arange(rows) < count
  return np.ma.masked_array(np.where(is_out, OUTAGE, 1.0), is_out)


def test_evaluate_ends_without_a_chunk_that_an_outage_has_spoilt(
  base, tmp_path, monkeypatch, slept
):
  changes = f'init={base}/model', 'data.GSM8K=toy:running_sum?count=2&digits=3'
  lost = itertools.repeat(8)

  def accuracy(self, records, texts):
    return out(next(lost), len(texts))

  monkeypatch.setattr(verifiers.Verifiers, 'accuracy', accuracy)
  stage, settings = toy.stage('evaluate'), toy.settings('evaluate', *changes)
  with pytest.raises(errors.Outage, match='8 of 8 responses'):
    stage.run(settings, tmp_path)
  assert slept.count(1) == sum(outage.PAUSES)
  assert not (tmp_path / 'chunks').exists()
  lost = itertools.repeat(1)
  with pytest.raises(
    errors.Outage, match='1 samples of the set GSM8K'
  ) as found:
    stage.run(settings, tmp_path)
  assert errors.exit_status(found.value)[0] == 75
  lost = iter([8, 5, 1, 0])
  stage.run(settings, tmp_path)
  assert (tmp_path / 'results.json').exists()


def test_reject_judges_a_chunk_again_after_an_outage(slept):
  config, calls = toy.built('reject', 'min_rewards={"accuracy": 1}'), []
  lost = iter([12, 7, 6])

  def accuracy(records, texts):
    calls.append(len(texts))
    return out(next(lost), len(texts))

  rules = dict(accuracy=accuracy)
  run = reject.Run(config, [], rules, None, None)
  rows = [dict(id=str(n), prompt='1', domain='math') for n in range(12)]
  samples = Samples(rows)
  reasons = reject.rule_reasons(run, samples)
  assert reasons.count('verifier failed') == 6
  assert calls == [12] * 3 and slept == [1] * sum(outage.PAUSES[:2])


class Samples:
  """Finished responses, one to each record."""

  def __init__(self, records):
    self.records, self.texts = records, ['<answer>1</answer>'] * len(records)
    self.rows = self
    self.finished_B = np.ones(len(records), bool)
