"""A run of GRPO from its base to its model: what it writes, and that the number
of devices does not change it."""

import json
import types

import jax
import numpy as np
import pytest
import toy

from r1jax import errors, files
from r1jax.checkpoints import pretrained
from r1jax.reports import metric_texts
from r1jax.stages import rl


def run(base, workdir, *changes):
  lines = toy.run('rl', workdir, f'init={base}/model', *changes)
  assert (workdir / 'model').exists()
  return lines


@pytest.fixture(scope='module')
def long(base, tmp_path_factory):
  """Three rollouts of two epochs of two mini-batches, the trainer's old
  log-probabilities and a reference that is refreshed from step 6 on."""
  workdir = tmp_path_factory.mktemp('long')
  lines = run(
    base,
    workdir,
    'steps=12',
    'grpo.minibatches=2',
    'grpo.epochs=2',
    'micro_batch_size=4',
    'grpo.old_logprobs=trainer',
    'grpo.kl_coef=0.1',
    'grpo.ref_every=6',
    'eval.every=6',
    'max_new_tokens_schedule=((5,16),)',
    'optim.schedule=cosine',
    'optim.warmup=3',
    'optim.final=0.0',
    'grpo.clip_low=0.02',
    'grpo.clip_high=0.02',
  )
  return types.SimpleNamespace(workdir=workdir, lines=lines)


def test_a_run_leaves_a_model_and_the_same_command_again_changes_nothing(
  base, long, capsys
):
  settings = json.loads((long.workdir / 'config.json').read_text())
  assert settings['changed']['steps'] == [100, 12]
  params, cfg, tokenizer = pretrained.load(long.workdir / 'model')
  base_params, base_cfg, _ = pretrained.load(base / 'model')
  assert cfg == base_cfg and tokenizer.decode([65]) == 'A'
  changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, base_params)
  assert all(0 < change < 0.05 for change in jax.tree.leaves(changes))
  before = toy.files(long.workdir)
  rl.run(settings['config'], long.workdir)
  assert 'is finished: the result is' in capsys.readouterr().out
  assert toy.files(long.workdir) == before


def test_the_metrics_have_the_base_and_then_one_line_an_update(long):
  assert [line['step'] for line in long.lines] == list(range(13))
  base, *updates = long.lines
  assert 0 <= base['eval/low'] <= base['eval/pass1'] <= base['eval/high'] <= 1
  assert 'loss' not in base
  assert all(abs(x['loss']) < 1 and x['skipped'] == 0 for x in updates)
  assert [x['step'] for x in updates if 'reward' in x] == [1, 5, 9]
  assert [x['step'] for x in long.lines if 'eval/pass1' in x] == [0, 8, 12]
  assert [x['step'] for x in updates if 'tokens_per_s' in x] == [1, 5, 9]


def test_the_schedule_advances_once_an_update(long):
  lr = [line['lr'] for line in long.lines[1:]]
  np.testing.assert_allclose(lr[:4], [0, 1e-3 / 3, 2e-3 / 3, 1e-3], rtol=1e-6)
  assert lr[3:] == sorted(lr[3:], reverse=True) and 0 < lr[-1] < 1e-4


def test_the_ratio_is_exactly_one_until_the_first_update_of_a_rollout(long):
  for line in long.lines[1:]:
    # The first learning rate of the warm-up is 0, so update 2 changes nothing.
    first = line['step'] in (1, 2, 5, 9)
    assert (line['old_logp_difference'] == 0) == first
    assert not first or line['clip_fraction'] == 0
    assert (0 < line['sampling_logp_difference'] < 1e-6) == first
  assert 0 < max(line['clip_fraction'] for line in long.lines[1:]) < 0.5


def test_a_refreshed_reference_is_the_policy_itself(long):
  """At the first rollout at or after step 6, which begins after step 8."""
  kl = [line['kl'] for line in long.lines[1:]]
  assert kl[0] == kl[1] == kl[8] == 0
  assert all(x > 1e-6 for n, x in enumerate(kl) if n not in (0, 1, 8))


def test_every_sample_is_logged_with_its_rewards(long):
  rows = files.read_jsonl(long.workdir / 'samples.jsonl')
  assert [row['step'] for row in rows] == [4] * 16 + [8] * 16 + [12] * 16
  for row in rows:
    parts = row['rewards']
    total = parts['accuracy'] + 0.2 * parts['format']
    assert row['reward'] == pytest.approx(total)
    assert row['finished'] or row['length'] == (16 if row['step'] > 8 else 10)
  for line, rollout in zip((1, 5, 9), np.split(np.array(rows), 3)):
    line = long.lines[line]

    def mean(name):
      return np.mean([row[name] for row in rollout])

    assert line['reward'] == pytest.approx(mean('reward'))
    assert line['length'] == pytest.approx(mean('length'))
    assert line['truncated'] == pytest.approx(1 - mean('finished'))


def test_whole_groups_are_logged_with_their_advantages(long):
  """Of the first rollout, and of the first after 10 steps."""
  lines = files.read_jsonl(long.workdir / 'groups.jsonl')
  assert [line['step'] for line in lines] == [4, 4, 12, 12]
  samples = files.read_jsonl(long.workdir / 'samples.jsonl')
  for line in lines:
    own = [
      x for x in samples if (x['step'], x['id']) == (line['step'], line['id'])
    ]
    assert own[0]['prompt'] == line['prompt'] and line['answer'] is not None
    for logged, sample in zip(line['samples'], own, strict=True):
      assert logged == {name: sample.get(name) for name in logged} | {
        'advantage': logged['advantage']
      }
    reward = np.array([x['reward'] for x in line['samples']])
    advantage = (reward - reward.mean()) / (reward.std() + 1e-4)
    found = [x['advantage'] for x in line['samples']]
    np.testing.assert_allclose(found, advantage, atol=1e-2)


def test_every_metric_of_a_run_has_a_sentence(long):
  names = {name for line in long.lines for name in line}
  assert [x for x in sorted(names) if not metric_texts.meaning(x)] == []


def test_the_schedule_of_lengths_applies_to_the_first_rollout_after_its_step(
  long,
):
  rows = files.read_jsonl(long.workdir / 'samples.jsonl')

  def longest(step):
    return max(x['length'] for x in rows if x['step'] == step)

  assert longest(4) <= 10 and longest(8) <= 10 < longest(12)


SHORT = 'steps=3', 'eval.every=3', 'micro_batch_size=8'


@pytest.fixture(scope='module')
def four(base, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('four')
  lines = run(base, workdir, *SHORT)
  return lines, files.read_jsonl(workdir / 'samples.jsonl')


def test_the_samplers_old_log_probabilities_are_the_trainers(four):
  lines, _ = four
  assert all(0 < line['sampling_logp_difference'] <= 1e-5 for line in lines[1:])
  assert all(line['old_logp_difference'] <= 1e-5 for line in lines[1:])


@pytest.mark.parametrize(
  'strategy, devices, share_prompts, tokens',
  [
    ('pmap', 1, 'off', 0),
    ('mesh', 4, 'auto', 0),
    pytest.param('pmap', 4, 'auto', 128, marks=pytest.mark.slow),
  ],
)
def test_one_device_equals_four_and_pmap_equals_the_mesh(
  strategy, devices, share_prompts, tokens, base, four, tmp_path, monkeypatch
):
  """With rows of a prompt each, with responses that share their prompt, and with
  rows one after another."""
  few = jax.devices()[:devices]
  monkeypatch.setattr(jax, 'devices', lambda: few)
  changes = (
    f'parallel.strategy={strategy}',
    f'grpo.share_prompts={share_prompts}',
    f'tokens_per_micro_batch={tokens}',
  )
  lines = run(base, tmp_path, *SHORT, *changes)
  rows = files.read_jsonl(tmp_path / 'samples.jsonl')
  want, all_rows = four
  assert rows[:16] == all_rows[:16]  # token for token
  same = {'reward', 'length', 'truncated', 'dead_groups', 'eval/pass1', 'lr'}
  for ours, theirs in zip(lines[:2], want[:2]):
    assert ours.keys() == theirs.keys()
    for name in same & ours.keys():
      assert ours[name] == theirs[name], name
    if 'padding' in ours:
      is_same = ours['padding'] == theirs['padding']
      assert is_same == (share_prompts == 'auto' and not tokens)
    for name in ('loss', 'grad_norm', 'entropy'):
      if name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], 1e-4, 1e-6)
  assert len(lines) == len(want) == 4


def test_in_bfloat16_the_trainers_first_ratio_is_one_and_the_gap_is_logged(
  base, tmp_path
):
  lines = run(
    base,
    tmp_path,
    'steps=2',
    'eval.every=0',
    'compute.dtype=bfloat16',
    'grpo.old_logprobs=trainer',
    'grpo.tis_cap=2.0',
    'micro_batch_size=8',
    'length_buckets=3',
  )
  assert [line['step'] for line in lines] == [1, 2]  # nothing was evaluated
  for line in lines:
    assert line['old_logp_difference'] == 0 == line['clip_fraction']
    assert 1e-5 < line['sampling_logp_difference'] < 0.05
    assert 'kl' not in line


def test_every_program_is_compiled_in_the_first_rollout(
  base, tmp_path, monkeypatch
):
  seen, counts = [], []

  def listen(event, seconds, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      seen.append(seconds)

  def counted(*args):
    out = step(*args)
    counts.append(len(seen))
    seen.clear()
    return out

  step = rl.step
  monkeypatch.setattr(rl, 'step', counted)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    run(
      base,
      tmp_path,
      *SHORT,
      'micro_batch_size=16',
      'grpo.kl_coef=0.1',
      'grpo.ref_every=2',
      'save_every=100',
    )
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert counts[0] > 0 == counts[1]
  assert counts[2] <= 1  # the copy for the new reference


def test_updates_that_stay_non_finite_end_the_run(base, tmp_path):
  with pytest.raises(errors.UserError, match='the last 2 updates up to step 3'):
    toy.run(
      'rl',
      tmp_path,
      f'init={base}/model',
      *SHORT,
      'steps=9',
      'optim.lr=3e38',
      'optim.patience=2',
    )
  assert not (tmp_path / 'model').exists()
