"""Rollouts on devices of their own, while the others learn."""

import jax
import pytest
import toy

from r1jax import errors, files
from r1jax.distributed import device_placement
from r1jax.training import metrics

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
  """(lines of the run in which all devices do both, of the one that splits
  them), on the same models, prompts and keys."""
  folder = tmp_path_factory.mktemp('overlap')
  changes = (f'init={base}/model', *CHANGES)
  for name, more in (
    ('shared', ()),
    ('split', ('parallel.rollout_devices=2',)),
  ):
    toy.run('rl', folder / name, *changes, *more)
  return [
    [files.read_jsonl(folder / name / x) for x in metrics.FILES]
    for name in ('shared', 'split')
  ]


def test_it_learns_from_the_same_samples(runs):
  """One step late in both; only the order of sums differs."""
  (_, shared), (_, split) = runs
  assert [x['response'] for x in split] == [x['response'] for x in shared]


def test_it_learns_the_same(runs):
  (shared, _), (split, _) = runs
  for ours, theirs in zip(split, shared, strict=True):
    for name in ('loss', 'reward', 'grad_norm', 'kl', 'eval/pass1'):
      if name in theirs:
        assert ours[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5)


def test_the_idle_share_of_both_groups_is_written_down(runs):
  (shared, _), (split, _) = runs
  assert not any('time/idle_draw' in line for line in shared)
  lines = [line for line in split if 'time/idle_draw' in line]
  assert len(lines) == 4  # the last step draws nothing
  for line in lines:
    assert 0 <= line['time/idle_train'] < 1 and 0 <= line['time/idle_draw'] < 1


def test_the_two_groups_share_no_device():
  c = toy.built('rl', 'parallel.rollout_devices=1').parallel
  learning, drawing = device_placement.placements(c)
  assert len(learning.devices) == len(jax.devices()) - 1
  assert not set(learning.devices) & set(drawing.devices)


@pytest.mark.parametrize(
  'changes, sentence',
  [
    (
      ('parallel.rollout_devices=2',),
      'would stand idle without config.grpo.max_staleness=1',
    ),
    (('parallel.rollout_devices=4', *CHANGES), 'less than the 4 devices'),
  ],
)
def test_what_cannot_overlap_is_refused(base, tmp_path, changes, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    toy.run('rl', tmp_path, f'init={base}/model', *changes)
