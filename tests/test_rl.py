"""GRPO from rollout to update: what is drawn, when it is learnt from, and that
devices do not change it."""

import dataclasses
import json
import types

import jax
import numpy as np
import pytest
import toy

from r1jax import convert, data, errors, generate, grpo, metrics, parallel
from r1jax import sample, train  # fmt: skip
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
    base, workdir, 'steps=12', 'grpo.minibatches=2', 'grpo.epochs=2',
    'micro=4', 'buckets=2', 'grpo.old=trainer', 'grpo.beta=0.1',
    'grpo.ref_every=6', 'eval.every=6', 'longer=((5,16),)',
    'optim.schedule=cosine', 'optim.warmup=3', 'optim.final=0.0',
  )  # fmt: skip
  return types.SimpleNamespace(workdir=workdir, lines=lines)


def test_a_run_leaves_a_model_and_the_same_command_again_changes_nothing(
  base, long, capsys
):
  settings = json.loads((long.workdir / 'config.json').read_text())
  assert settings['changed']['config.steps'] == [100, 12]
  params, cfg, words = convert.load(long.workdir / 'model')
  begun, its, _ = convert.load(base / 'model')
  assert cfg == its and words.decode([65]) == 'A'
  changes = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, begun)
  assert all(0 < change < 0.05 for change in jax.tree.leaves(changes))
  before = toy.files(long.workdir)
  rl.run(settings['config'], long.workdir)
  assert 'is finished: the model is in' in capsys.readouterr().out
  assert toy.files(long.workdir) == before


def test_the_first_line_is_the_base_and_then_there_is_one_an_update(long):
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
    first = line['step'] % 4 == 1
    assert (line['delta_old'] == 0) == first
    if first:
      assert line['clip'] == 0 and 0 < line['delta_logp'] < 1e-6
  assert 0 < max(line['clip'] for line in long.lines[1:]) < 0.5


def test_a_refreshed_reference_is_the_policy_itself(long):
  """At the first rollout at or after step 6, which begins after step 8."""
  kl = [line['kl'] for line in long.lines[1:]]
  assert kl[0] == 0 == kl[8]
  assert all(x > 1e-6 for n, x in enumerate(kl) if n not in (0, 1, 8))


def test_every_sample_is_written_down_with_its_rewards(long):
  rows = metrics.read(long.workdir / 'samples.jsonl')
  assert [row['step'] for row in rows] == [4] * 16 + [8] * 16 + [12] * 16
  for row in rows:
    parts = row['rewards']
    total = parts['accuracy'] + 0.2 * parts['format']
    assert row['reward'] == pytest.approx(total)
    assert row['finished'] or row['length'] == (16 if row['step'] > 8 else 10)
  for line, rolled in zip((1, 5, 9), np.split(np.array(rows), 3)):
    line = long.lines[line]
    mean = lambda name: np.mean([row[name] for row in rolled])
    assert line['reward'] == pytest.approx(mean('reward'))
    assert line['length'] == pytest.approx(mean('length'))
    assert line['truncated'] == pytest.approx(1 - mean('finished'))


def test_the_length_grows_with_the_first_rollout_after_its_step(long):
  rows = metrics.read(long.workdir / 'samples.jsonl')
  most = lambda step: max(x['length'] for x in rows if x['step'] == step)
  assert most(4) <= 10 and most(8) <= 10 < most(12)


SHORT = 'steps=3', 'eval.every=3', 'micro=8'
PLACES = dict(pmap_1=('pmap', 1), mesh_4=('mesh', 4), mesh_1=('mesh', 1))


@pytest.fixture(scope='module')
def four(base, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('four')
  lines = run(base, workdir, *SHORT)
  return lines, metrics.read(workdir / 'samples.jsonl')


def test_the_samplers_old_log_probabilities_are_the_trainers(four):
  lines, _ = four
  assert all(0 < line['delta_logp'] <= 1e-5 for line in lines[1:])
  assert all(line['delta_old'] <= 1e-5 for line in lines[1:])


@pytest.mark.parametrize('place', ['pmap_1', 'mesh_4'])
def test_one_device_is_four_and_pmap_is_the_mesh(
  place, base, four, tmp_path, monkeypatch
):
  kind, devices = PLACES[place]
  few = jax.devices()[:devices]
  monkeypatch.setattr(jax, 'devices', lambda: few)
  lines = run(base, tmp_path, *SHORT, f'parallel.kind={kind}')
  rows = metrics.read(tmp_path / 'samples.jsonl')
  want, all_rows = four
  assert rows[:16] == all_rows[:16]  # token for token
  same = {'reward', 'length', 'truncated', 'dead_groups', 'eval/pass1', 'lr'}
  for ours, theirs in zip(lines[:2], want[:2]):
    assert ours.keys() == theirs.keys()
    for name in same & ours.keys():
      assert ours[name] == theirs[name], name
    for name in ('loss', 'grad_norm', 'entropy'):
      if name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], 1e-4, 1e-6)
  assert len(lines) == len(want) == 4


def test_in_bfloat16_the_trainers_first_ratio_is_one_and_the_gap_is_logged(
  base, tmp_path
):
  lines = run(
    base, tmp_path, 'steps=2', 'eval.every=0', 'compute.dtype=bfloat16',
    'grpo.old=trainer', 'grpo.importance_cap=2.0', 'micro=8', 'buckets=3',
  )  # fmt: skip
  assert [line['step'] for line in lines] == [1, 2]  # nothing was evaluated
  for line in lines:
    assert line['delta_old'] == 0 == line['clip']
    assert 1e-5 < line['delta_logp'] < 0.05
    assert 'kl' not in line


def test_every_program_is_compiled_in_the_first_rollout(
  base, tmp_path, monkeypatch
):
  seen, counts = [], []

  def listen(event, seconds, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      seen.append(seconds)

  def counted(*args):
    out = one_rollout(*args)
    counts.append(len(seen))
    seen.clear()
    return out

  one_rollout = rl.one_rollout
  monkeypatch.setattr(rl, 'one_rollout', counted)
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    run(base, tmp_path, *SHORT, 'grpo.beta=0.1', 'grpo.ref_every=2',
        'save_every=100')  # fmt: skip
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert counts[0] > 0 == counts[1]
  assert counts[2] <= 1  # the copy for the new reference


def test_a_learning_rate_that_explodes_ends_the_run(base, tmp_path):
  with pytest.raises(errors.UserError, match='the last 2 updates up to step 3'):
    toy.run('rl', tmp_path, f'init={base}/model', *SHORT, 'steps=9',
            'optim.lr=1e999', 'optim.patience=2')  # fmt: skip
  assert not (tmp_path / 'model').exists()


class Drawing:
  """In place of the decode loop: groups are alive as `alive` says of their
  prompts; what is asked for is noted."""

  def __init__(self, alive):
    self.alive, self.numbers, self.prompts, self.lengths = alive, [], [], []

  def __call__(self, params, records, numbers, key, group, heat, max_new):
    self.numbers += numbers.tolist()
    self.prompts += [record['id'] for record in records]
    self.lengths.append(max_new)
    rows, L = len(records) * group, max_new + 2
    column_L = np.arange(L)
    mask_BL = np.tile((column_L >= 2) & (column_L < 5), (rows, 1))
    shape = mask_BL.shape
    reward_N = np.array(
      [n == 0 and self.alive(x['id']) for x in records for n in range(group)]
    ).astype('f')
    out = sample.Rollout(
      tokens_BL=np.ones(shape, np.int32),
      pos_BL=np.where(column_L < 5, column_L, -1) * np.ones(shape, np.int32),
      logp_BL=-1.0 * mask_BL, mask_BL=mask_BL,
      finished_B=np.ones(rows, bool), steps=np.array([3]), live=np.array([9]),
    )  # fmt: skip
    return generate.Samples(
      [x for x in records for _ in range(group)], ['!'] * rows, out, reward_N,
      dict(accuracy=reward_N),
    )  # fmt: skip


def loop(tmp_path, alive, *changes):
  """A run without a model: an update adds one to its only parameter."""
  c = toy.built('rl', 'init=none', 'eval.every=0', *changes)
  learnt = []

  def step(state, micro):
    learnt.append(sum(len(part['tokens_BL']) for part in micro))
    sums = dict.fromkeys(
      ['kl', 'clip', 'entropy', 'delta_logp', 'delta_old', 'loss', 'grad_norm'],
      np.float32(0),
    )
    params = {'w': state.params['w'] + 1}
    return state.replace(params=params), sums | dict(weight=1.0, skipped=0)

  r = rl.Run(
    c, parallel.placement(c.parallel, jax.devices()[:1]),
    [dict(id=n, prompt=str(n)) for n in range(13)], [], Drawing(alive),
    lambda params, rows: np.full(rows['tokens_BL'].shape, params['w'], 'f'),
    step, metrics.Writer(tmp_path), jax.random.key(0), 0, 0.0,
  )  # fmt: skip
  state = dict(train=train.TrainState({'w': np.zeros(())}, (), 0, 0))
  if c.grpo.beta:
    state['ref'] = {'w': np.zeros(())}
  return r, state, dict(step=0, cursor=0, ref_step=0), learnt


def rollouts(r, state, facts, count):
  for _ in range(count):
    state, facts = rl.one_rollout(r, state, facts)
    yield state, facts


def test_dynamic_sampling_replaces_dead_groups_and_the_cursor_counts_the_drawn(
  tmp_path,
):
  r, state, facts, learnt = loop(
    tmp_path, lambda n: n % 3 == 0, 'grpo.dynamic_tries=4', 'micro=4'
  )
  cursors = [x['cursor'] for _, x in rollouts(r, state, facts, 6)]
  asked = r.generator.numbers
  assert asked == list(range(cursors[-1]))
  assert all(4 < b - a <= 16 for a, b in zip([0, *cursors], cursors))
  order = data.prompt_indices(r.c.seed, 0, cursors[-1], 13)
  assert r.generator.prompts == order.tolist()
  for start in range(0, cursors[-1] - 13, 13):
    assert len(set(r.generator.prompts[start : start + 13])) == 13
  assert learnt == [16] * 6  # however many were drawn
  lines = metrics.read(tmp_path / 'metrics.jsonl')
  for line, start, end in zip(lines, [0, *cursors], cursors):
    alive = sum(n % 3 == 0 for n in order[start:end])
    assert line['dead_groups'] == max(0, 4 - alive) / 4


def test_without_dynamic_sampling_dead_groups_stay(tmp_path):
  r, state, facts, _ = loop(tmp_path, lambda n: False)
  ((_, facts),) = rollouts(r, state, facts, 1)
  assert facts['cursor'] == 4 == len(r.generator.prompts)
  (line,) = metrics.read(tmp_path / 'metrics.jsonl')
  assert line['dead_groups'] == 1


def test_dynamic_sampling_looks_at_the_raw_rewards(tmp_path):
  """The soft length penalty makes no group alive, and kills none."""
  r, state, facts, _ = loop(
    tmp_path, lambda n: True, 'grpo.dynamic_tries=4', 'grpo.overlong_cache=9'
  )
  samples, cursor = rl.draw(r, None, facts)
  assert cursor == 4
  shaped_N, _ = grpo.shape_rewards(r.c.grpo, samples, 10)
  assert (shaped_N < samples.reward_N).all()
  r = dataclasses.replace(r, generator=Drawing(lambda n: False))
  assert rl.draw(r, None, facts)[1] == 16


def test_the_reference_is_refreshed_by_the_first_rollout_at_or_after_its_step(
  tmp_path,
):
  """Rollouts begin after 0, 4, 8, ... updates; the reference is due after 6,
  12, ..."""
  r, state, facts, learnt = loop(
    tmp_path, lambda n: True, 'grpo.beta=0.1', 'grpo.ref_every=6',
    'grpo.minibatches=2', 'grpo.epochs=2', 'micro=8',
  )  # fmt: skip
  seen = [
    (float(state['ref']['w']), facts['ref_step'], facts['step'])
    for state, facts in rollouts(r, state, facts, 6)
  ]
  assert seen == [
    (0, 0, 4), (0, 0, 8), (8, 8, 12), (12, 12, 16), (12, 12, 20), (20, 20, 24),
  ]  # fmt: skip
  assert learnt == [8] * 24
  lines = metrics.read(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == list(range(1, 25))


def test_without_a_kl_there_is_no_reference(tmp_path):
  r, state, facts, _ = loop(tmp_path, lambda n: True, 'grpo.ref_every=1')
  for state, _ in rollouts(r, state, facts, 3):
    assert state.keys() == {'train'}


def test_lengths_follow_their_steps(tmp_path):
  r, state, facts, _ = loop(
    tmp_path, lambda n: True, 'longer=((3,20),(8,40))', 'grpo.minibatches=2',
    'micro=8',
  )  # fmt: skip
  assert len(list(rollouts(r, state, facts, 6))) == 6
  assert r.generator.lengths == [10, 10, 20, 20, 40, 40]
  assert [r.max_new(step) for step in (0, 2, 3, 7, 8)] == [10, 10, 20, 20, 40]


def test_a_multiple_is_crossed_once():
  steps = [0, 3, 6, 9, 12]
  crossed = [rl.crossed(5, a, b) for a, b in zip(steps, steps[1:])]
  assert crossed == [False, True, False, True]
  assert rl.crossed(3, 0, 3) and not rl.crossed(3, 3, 5)
  assert not rl.crossed(0, 0, 10)
