"""What a step logs of its samples: means, and some samples themselves."""

import jax
import numpy as np
import pytest
import toy_sampling
from toy_sampling import Response

from r1jax.data import templates
from r1jax.evaluation import held_out
from r1jax.rewards.pending import Rewards
from r1jax.rl import log
from r1jax.sampling import decode

PROMPT = templates.PromptConfig(template='plain', prefill='<think>')
REWARDS = Rewards(
  reward_N=np.array([1, 0, np.nan, 0.5] + [0] * 6, np.float32),
  parts=dict(accuracy=np.array([1, 0, np.nan, 0] + [0] * 6, np.float32)),
)


@pytest.fixture
def samples(monkeypatch):
  """Two samples of each of five prompts; every third is truncated."""
  responses = [Response(str(n), finished=n % 3 > 0) for n in range(10)]
  toy_sampling.fake_decode(monkeypatch, responses)
  records = [dict(id=f'r/{n}', prompt=str(7 * n)) for n in range(5)]
  return toy_sampling.sampler(PROMPT, decode.SampleConfig()).sample(
    {}, records, np.arange(5), jax.random.key(0), 2
  )


def test_the_summary_has_the_means_over_scored_samples(samples):
  assert held_out.summary(samples, REWARDS) == {
    'reward': pytest.approx(1.5 / 9),
    'unscored': pytest.approx(0.1),
    'length': 2.0,
    'truncated': pytest.approx(0.4),
    'reward/accuracy': pytest.approx(1 / 9),
  }


@pytest.mark.parametrize(
  'count, rows',
  [(0, []), (1, [0]), (3, [0, 3, 6]), (10, [*range(10)]), (99, [*range(10)])],
)
def test_logged_samples_are_evenly_spaced(count, rows, samples):
  lines = log.sample_lines(samples, REWARDS, 20, count)
  assert [line['id'] for line in lines] == [f'r/{n // 2}' for n in rows]


def test_a_logged_sample_has_its_record_response_and_rewards(samples):
  line = log.sample_lines(samples, REWARDS, 20, 3)[1]
  assert line == dict(
    step=20,
    id='r/1',
    prompt='7',
    response='<think>3<|end|>',  # truncated: the id is no end of the row
    reward=0.5,
    rewards=dict(accuracy=0.0),
    finished=False,
    length=2,
  )
