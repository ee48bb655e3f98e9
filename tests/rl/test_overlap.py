"""Rollouts on devices of their own, while the other devices train."""

import jax
import pytest
import toy

from r1jax import errors, files
from r1jax.distributed import device_placement

FILES = 'metrics', 'samples'
CHANGES = (
  'micro_batch_size=8',
  'steps=5',
  'grpo.max_staleness=1',
  'grpo.old_logprobs=trainer',
  'grpo.tis_cap=2',
  'grpo.kl_coef=0.1',
  'grpo.ref_every=2',
)


@pytest.fixture(scope='module')
def runs(base, tmp_path_factory):
  """(lines of a run that shares all devices, lines of a run with rollout
  devices), on the same models, prompts and keys."""
  folder = tmp_path_factory.mktemp('overlap')
  changes = (f'init={base}/model', *CHANGES)
  for name, more in (
    ('shared', ()),
    ('split', ('parallel.rollout_devices=2',)),
  ):
    toy.run('rl', folder / name, *changes, *more)
  return [
    [files.read_jsonl(folder / name / f'{x}.jsonl') for x in FILES]
    for name in ('shared', 'split')
  ]


def test_rollout_devices_do_not_change_the_samples(runs):
  """Both runs learn one step late; only the order of sums differs."""
  (_, shared), (_, split) = runs
  assert [x['response'] for x in split] == [x['response'] for x in shared]


def test_rollout_devices_do_not_change_the_updates(runs):
  (shared, _), (split, _) = runs
  for ours, theirs in zip(split, shared, strict=True):
    for name in ('loss', 'reward', 'grad_norm', 'kl', 'eval/pass1'):
      if name in theirs:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5)


def test_the_idle_shares_of_both_groups_are_logged(runs):
  (shared, _), (split, _) = runs
  assert not any('time/idle_rollout' in line for line in shared)
  lines = [line for line in split if 'time/idle_rollout' in line]
  assert len(lines) == 4  # the last step samples nothing
  for line in lines:
    assert (
      0 <= line['time/idle_train'] < 1 and 0 <= line['time/idle_rollout'] < 1
    )


def test_the_two_groups_share_no_device():
  c = toy.built('rl', 'parallel.rollout_devices=1').parallel
  training, rollout = device_placement.placements(c)
  assert len(training.devices) == len(jax.devices()) - 1
  assert not set(training.devices) & set(rollout.devices)


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (
      ('parallel.rollout_devices=2',),
      'would be idle without config.grpo.max_staleness=1',
    ),
    (('parallel.rollout_devices=4', *CHANGES), 'less than the 4 devices'),
  ],
)
def test_a_config_that_cannot_overlap_is_refused(
  base, tmp_path, changes, sentence
):
  with pytest.raises(errors.UserError, match=sentence):
    toy.run('rl', tmp_path, f'init={base}/model', *changes)
