"""What a rollout draws and when it changes: the cursor, the length and the
reference, with a decode loop and an update that only count."""

import dataclasses

import jax
import numpy as np
import toy

from r1jax import files
from r1jax.data import record_files
from r1jax.distributed import device_placement
from r1jax.rl import grpo, setup
from r1jax.sampling import decode, generate
from r1jax.stages import rl
from r1jax.training import metrics, train_step


class Drawing:
  """In place of the decode loop: groups are alive as `alive` says of their
  prompts; what is asked for is noted."""

  def __init__(self, alive):
    self.alive, self.keys = alive, []
    self.numbers, self.prompts, self.lengths = [], [], []

  def __call__(
    self, params, records, numbers, key, group, heat, max_new_tokens
  ):
    self.keys.append(tuple(jax.random.key_data(key).tolist()))
    self.numbers += numbers.tolist()
    self.prompts += [record['id'] for record in records]
    self.lengths.append(max_new_tokens)
    rows, L = len(records) * group, max_new_tokens + 2
    column_L = np.arange(L)
    mask_BL = np.tile((column_L >= 2) & (column_L < 5), (rows, 1))
    shape = mask_BL.shape
    reward_N = np.array(
      [n == 0 and self.alive(x['id']) for x in records for n in range(group)]
    ).astype('f')
    out = decode.SampledRows(
      tokens_BL=np.ones(shape, np.int32),
      pos_BL=np.where(column_L < 5, column_L, -1) * np.ones(shape, np.int32),
      logp_BL=-1.0 * mask_BL,
      mask_BL=mask_BL,
      finished_B=np.ones(rows, bool),
      steps=np.array([3]),
      live=np.array([9]),
    )
    return generate.Samples(
      [x for x in records for _ in range(group)],
      ['!'] * rows,
      out,
      generate.known(reward_N, dict(accuracy=reward_N)),
    )


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

  def score(params, rows):
    return np.full(rows['tokens_BL'].shape, params['w'], 'f')

  records = [dict(id=n, prompt=str(n)) for n in range(13)]
  place = device_placement.placement(c.parallel, jax.devices()[:1])
  r = setup.Run(
    c,
    place,
    place,
    records,
    [],
    [],
    None,
    None,
    Drawing(alive),
    score,
    score,
    None,
    None,
    writer=metrics.Writer(tmp_path),
    step=step,
  )
  state = dict(train=train_step.TrainState({'w': np.zeros(())}, (), 0, 0))
  if c.grpo.kl_coef:
    state['ref'] = {'w': np.zeros(())}
  return r, state, dict(step=0, cursor=0, ref_step=0), learnt


def rollouts(r, state, facts, count):
  pending = None
  for _ in range(count):
    state, facts, pending = rl.one_rollout(r, state, facts, pending)
    yield state, facts


def test_dynamic_sampling_replaces_dead_groups_and_the_cursor_counts_the_drawn(
  tmp_path,
):
  r, state, facts, learnt = loop(
    tmp_path,
    lambda n: n % 3 == 0,
    'grpo.dynamic_sampling_rounds=4',
    'micro_batch_size=4',
  )
  cursors = [x['cursor'] for _, x in rollouts(r, state, facts, 6)]
  asked = r.generator.numbers
  assert asked == list(range(cursors[-1]))
  assert all(4 < b - a <= 16 for a, b in zip([0, *cursors], cursors))
  order = record_files.prompt_indices(r.c.seed, 0, cursors[-1], 13)
  assert r.generator.prompts == order.tolist()
  for start in range(0, cursors[-1] - 13, 13):
    assert len(set(r.generator.prompts[start : start + 13])) == 13
  assert learnt == [16] * 6  # however many were drawn
  lines = files.read_jsonl(tmp_path / 'metrics.jsonl')
  for line, start, end in zip(lines, [0, *cursors], cursors):
    alive = sum(n % 3 == 0 for n in order[start:end])
    assert line['dead_groups'] == max(0, 4 - alive) / 4


def test_without_dynamic_sampling_dead_groups_stay(tmp_path):
  r, state, facts, _ = loop(tmp_path, lambda n: False)
  ((_, facts),) = rollouts(r, state, facts, 1)
  assert facts['cursor'] == 4 == len(r.generator.prompts)
  (line,) = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert line['dead_groups'] == 1


def test_dynamic_sampling_looks_at_the_raw_rewards(tmp_path):
  """The soft length penalty makes no group alive, and kills none."""
  r, state, facts, _ = loop(
    tmp_path,
    lambda n: True,
    'grpo.dynamic_sampling_rounds=4',
    'grpo.overlong_buffer=9',
  )
  samples, cursor = setup.draw(r, None, facts)
  assert cursor == 4
  shaped_N, _ = grpo.shape_rewards(r.c.grpo, samples, 10)
  assert (shaped_N < samples.reward_N).all()
  r = dataclasses.replace(r, generator=Drawing(lambda n: False))
  assert setup.draw(r, None, facts)[1] == 16


def test_the_reference_is_refreshed_by_the_first_rollout_at_or_after_its_step(
  tmp_path,
):
  """Rollouts begin after 0, 4, 8, ... updates; the reference is due after 6,
  12, ..."""
  r, state, facts, learnt = loop(
    tmp_path,
    lambda n: True,
    'grpo.kl_coef=0.1',
    'grpo.ref_every=6',
    'grpo.minibatches=2',
    'grpo.epochs=2',
    'micro_batch_size=8',
  )
  seen = [
    (float(state['ref']['w']), facts['ref_step'], facts['step'])
    for state, facts in rollouts(r, state, facts, 6)
  ]
  assert seen == [
    (0, 0, 4),
    (0, 0, 8),
    (8, 8, 12),
    (12, 12, 16),
    (12, 12, 20),
    (20, 20, 24),
  ]
  assert learnt == [8] * 24
  lines = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == list(range(1, 25))


def test_without_a_kl_there_is_no_reference(tmp_path):
  r, state, facts, _ = loop(tmp_path, lambda n: True, 'grpo.ref_every=1')
  for now, _ in rollouts(r, state, facts, 3):
    assert now.keys() == {'train'}


def test_lengths_follow_their_steps(tmp_path):
  r, state, facts, _ = loop(
    tmp_path,
    lambda n: True,
    'max_new_tokens_schedule=((3,20),(8,40))',
    'grpo.minibatches=2',
    'micro_batch_size=8',
  )
  assert len(list(rollouts(r, state, facts, 6))) == 6
  assert r.generator.lengths == [10, 10, 20, 20, 40, 40]
  assert len(set(r.generator.keys)) == 6  # each step draws anew
  assert [r.max_new_tokens(step) for step in (0, 2, 3, 7, 8)] == [
    10,
    10,
    20,
    20,
    40,
  ]


def test_a_multiple_is_crossed_once():
  steps = [0, 3, 6, 9, 12]
  crossed = [rl.crossed(5, a, b) for a, b in zip(steps, steps[1:])]
  assert crossed == [False, True, False, True]
  assert rl.crossed(3, 0, 3) and not rl.crossed(3, 3, 5)
  assert not rl.crossed(0, 0, 10)


def test_a_late_rollout_is_learnt_from_with_the_policy_that_drew_it(tmp_path):
  """Each of four steps learns from the rollout before; none is drawn in vain,
  and old log-probabilities are those of the drawing policy."""
  seen = []
  r, state, facts, learnt = loop(
    tmp_path,
    lambda n: True,
    'grpo.max_staleness=1',
    'grpo.old_logprobs=trainer',
    'steps=4',
  )
  step = r.step

  def watched(state, micro):
    seen.append((float(state.params['w']), {float(micro[0]['old_BL'].max())}))
    return step(state, micro)

  r = dataclasses.replace(r, step=watched)
  ends = [facts['step'] for _, facts in rollouts(r, state, facts, 4)]
  assert ends == [1, 2, 3, 4]
  # The update of step n finds parameters n, and rows of parameters n - 1.
  assert seen == [(0, {0.0}), (1, {0.0}), (2, {1.0}), (3, {2.0})]
  assert r.generator.numbers == list(range(16))
  assert learnt == [16] * 4


def test_rewards_are_computed_while_the_log_probabilities_are(tmp_path):
  """The reference's log-probabilities are asked for before the rewards."""
  r, state, facts, _ = loop(tmp_path, lambda n: True, 'grpo.kl_coef=0.1')
  order, generator = [], r.generator

  def slowly(*args):
    samples = generator(*args)

    def judged():
      order.append('rewards')
      return samples.judged()

    return dataclasses.replace(samples, judged=judged)

  def score(params, rows):
    order.append('reference')
    return r.score_ref(params, rows)

  # A dynamic rollout must know at once which groups are alive.
  drawn = dataclasses.replace(r, generator=slowly, score_ref=score)
  list(rollouts(drawn, state, facts, 1))
  assert order[0] == 'reference' and 'rewards' in order


def test_what_could_not_be_judged_leaves_the_update_and_is_counted(tmp_path):
  r, state, facts, _ = loop(tmp_path, lambda n: True)
  generator, weights = r.generator, []

  def losing(*args):
    samples = generator(*args)
    reward_N = samples.reward_N.copy()
    reward_N[1] = np.nan  # the first group's second sample
    return dataclasses.replace(
      samples, judged=generate.known(reward_N, dict(accuracy=reward_N))
    )

  def step(state, micro):
    weights.extend(part['weight_BL'].sum(axis=1) for part in micro)
    assert all(np.isfinite(x).all() for part in micro for x in part.values())
    return r.step(state, micro)

  list(
    rollouts(
      dataclasses.replace(r, generator=losing, step=step), state, facts, 1
    )
  )
  weight_N = np.concatenate(weights)
  assert (weight_N == 0).sum() == 1
  (line,) = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert line['unjudged'] == 1 / 16
  assert line['reward'] == np.float32(4 / 15)
  assert line['dead_groups'] == 0
