"""What a rollout samples and when that changes: the position in the stream of
prompts, the response length and the reference. Sampler and update are fakes
that record their calls."""

import collections
import dataclasses
import json
import math
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest
import toy

from r1jax import errors, files
from r1jax.data import record_files
from r1jax.distributed import device_placement, hosts, watchdog
from r1jax.rewards import outage, verdict
from r1jax.rewards.pending import Scorer
from r1jax.rl import (
  advantages,
  curriculum,
  log,
  rl_run,
  rollouts,
  saved_rollout,
  saving,
)
from r1jax.rl.rl_run import Position, RlState
from r1jax.sampling import decode, generate
from r1jax.stages import rl
from r1jax.training import checkpoint, metrics, progress, train_step


class FakeSampler:
  """In each group the first text is 'first', the others 'other'."""

  prompt_width = 2

  def __init__(self):
    self.keys, self.numbers, self.prompts, self.lengths = [], [], [], []
    self.sizes = []  # of each call: (prompts, num_prompts)

  def sample(
    self,
    params,
    records,
    prompt_numbers,
    key,
    group_size,
    temperature=None,
    max_new_tokens=0,
    num_prompts=0,
  ):
    self.sizes.append((len(records), num_prompts))
    self.keys.append(tuple(jax.random.key_data(key).tolist()))
    self.numbers += prompt_numbers.tolist()
    self.prompts += [record['id'] for record in records]
    self.lengths.append(max_new_tokens)
    rows, L = len(records) * group_size, max_new_tokens + 2
    column_L = np.arange(L)
    mask_BL = np.tile((column_L >= 2) & (column_L < 5), (rows, 1))
    shape = mask_BL.shape
    return generate.Samples(
      records=[x for x in records for _ in range(group_size)],
      texts=['other' if n % group_size else 'first' for n in range(rows)],
      rows=decode.SampledRows(
        tokens_BL=np.ones(shape, np.int32),
        pos_BL=np.where(column_L < 5, column_L, -1) * np.ones(shape, np.int32),
        logp_BL=-1.0 * mask_BL,
        mask_BL=mask_BL,
        finished_B=np.ones(rows, bool),
        steps=np.array([3]),
        live=np.array([9]),
      ),
    )


class FakeVerifiers:
  def pop_failure_counts(self):
    return {}


class Fakes:
  """A run without a model: an update adds one to its only parameter.

  A group is alive, that is, has different rewards, as `alive` says of its id.
  """

  def __init__(self, monkeypatch, tmp_path, alive, *changes):
    self.learnt, self.events = [], []
    config = toy.built('rl', 'init=none', 'eval.every=0', *changes)
    self.sampler = FakeSampler()

    def accuracy(records, texts):
      self.events.append('rewards')
      pairs = zip(records, texts)
      return np.float32([t == 'first' and alive(r['id']) for r, t in pairs])

    def logprobs(params, rows):
      self.events.append('log-probabilities')
      return np.full(rows['tokens_BL'].shape, params['w'], 'f')

    monkeypatch.setattr(train_step, 'update', self.update)
    placement = device_placement.placement(config.parallel, jax.devices()[:1])
    records = [dict(id=n, prompt=str(n)) for n in range(13)]
    prompts = curriculum.prompts(config.curriculum, records, {})
    self.run = rl_run.Run(
      config=config,
      placement=placement,
      sampling=rl_run.Sampling(
        config=config,
        placement=placement,
        prompts=prompts,
        first_prompts=prompts,
        held_out_records=[],
        cfg=types.SimpleNamespace(attention='einsum'),
        tokenizer=None,
        sampler=self.sampler,
        scorer=None,
        verifiers=FakeVerifiers(),
        policy_logprobs=logprobs,
        ref_logprobs=logprobs,
        teacher_params=None,
        executor=ThreadPoolExecutor(2),
      ),
      updates=None,
      checkpoints=None,
      writer=metrics.Writer(tmp_path),
      progress=progress.Progress(config.steps),
    )
    self.score_with(accuracy)
    ref = {'w': np.zeros(())} if config.grpo.kl_coef else None
    params = {'w': np.zeros(())}
    self.state = RlState(train_step.TrainState(params, (), 0, 0), ref)
    self.updates = []

  def score_with(self, accuracy):
    """Makes `accuracy` the only reward."""
    scorer = Scorer(
      weights=dict(accuracy=1.0),
      by_domain={},
      rules=dict(accuracy=accuracy),
      models={},
    )
    sampling = dataclasses.replace(self.run.sampling, scorer=scorer)
    self.run = dataclasses.replace(self.run, sampling=sampling)

  def update(self, placement, compiled, state, micro_batches):
    self.learnt.append(sum(len(x['tokens_BL']) for x in micro_batches))
    self.updates.append((float(state.params['w']), micro_batches))
    names = ('kl', 'clip_fraction', 'entropy', 'sampling_logp_difference')
    names += ('old_logp_difference', 'loss', 'grad_norm')
    sums = dict.fromkeys(names, np.float32(0)) | dict(weight=1.0, skipped=0)
    return state.replace(params={'w': state.params['w'] + 1}), sums

  def steps(self, count):
    """(state, position) after each of `count` steps."""
    state, position = self.state, Position()
    rollout, seen = None, []
    for _ in range(count):
      if self.run.config.grpo.max_staleness:
        state, position, rollout = rl.late_step(
          self.run, state, position, rollout
        )
      else:
        state, position = rl.step(self.run, state, position)
      seen.append((state, position))
    return seen


@pytest.fixture
def fakes(monkeypatch, tmp_path):
  made = []

  def make(alive, *changes):
    made.append(Fakes(monkeypatch, tmp_path, alive, *changes))
    return made[-1]

  yield make
  for one in made:
    one.run.sampling.executor.shutdown()


def always(name):
  return True


def never(name):
  return False


def every_third(name):
  return name % 3 == 0


def test_dynamic_sampling_replaces_dead_groups_and_the_position_counts_all(
  fakes, tmp_path
):
  fake = fakes(
    every_third, 'grpo.dynamic_sampling_rounds=4', 'micro_batch_size=4'
  )
  ends = [position.next_prompt for _, position in fake.steps(6)]
  assert fake.sampler.numbers == list(range(ends[-1]))
  assert all(4 < b - a <= 16 for a, b in zip([0, *ends], ends))
  order = record_files.prompt_indices(fake.run.config.seed, 0, ends[-1], 13)
  assert fake.sampler.prompts == order.tolist()
  for start in range(0, ends[-1] - 13, 13):
    assert len(set(fake.sampler.prompts[start : start + 13])) == 13
  assert fake.learnt == [16] * 6  # however many were sampled
  lines = files.read_jsonl(tmp_path / 'metrics.jsonl')
  for line, start, end in zip(lines, [0, *ends], ends):
    alive = sum(map(every_third, order[start:end]))
    assert line['dead_groups'] == max(0, 4 - alive) / 4


def solves_some(name):
  return int(name) % 3 == 0


@pytest.mark.parametrize('staleness', [0, 1])
@pytest.mark.parametrize('rounds', [0, 2])
def test_a_run_by_its_success_resumes_with_the_same_prompts(
  fakes, tmp_path, staleness, rounds
):
  changes = [f'grpo.max_staleness={staleness}', 'steps=6']
  changes += [f'grpo.dynamic_sampling_rounds={rounds}', 'micro_batch_size=4']
  changes += ['curriculum.by_success=True']
  whole, first, again = (fakes(solves_some, *changes) for _ in range(3))
  checkpoints = types.SimpleNamespace(
    directory=tmp_path / 'checkpoints', all_steps=lambda: []
  )
  for fake in (whole, first, again):
    records = [dict(id=str(n), prompt=str(n)) for n in range(29)]
    order = fake.run.config.curriculum
    prompts = curriculum.prompts(order, records, {})
    sampling = dataclasses.replace(fake.run.sampling, prompts=prompts)
    fake.run = dataclasses.replace(
      fake.run, sampling=sampling, checkpoints=checkpoints
    )
  ends = [position for _, position in whole.steps(6)]
  assert len(ends[-1].success) > 8
  for name, rate in ends[-1].success.items():
    assert rate == solves_some(name) / 4
  rollout, (*_, (state, position)) = None, first.steps(3)
  if staleness:  # Up to the rollout that the next step learns from.
    state, position, rollout = first.state, Position(), None
    for _ in range(3):
      state, position, rollout = rl.late_step(
        first.run, state, position, rollout
      )
    saved_rollout.write(first.run, position.step, rollout)
    rollout = saved_rollout.read(again.run, position.step)
  facts = json.loads(json.dumps(dataclasses.asdict(position)))
  state, position = again.state, Position(**facts)
  for _ in range(3):
    if staleness:
      state, position, rollout = rl.late_step(
        again.run, state, position, rollout
      )
    else:
      state, position = rl.step(again.run, state, position)
  assert position == ends[-1]
  count = len(again.sampler.prompts)
  assert again.sampler.prompts == whole.sampler.prompts[-count:]


def test_without_dynamic_sampling_dead_groups_stay(fakes, tmp_path):
  fake = fakes(never)
  ((_, position),) = fake.steps(1)
  assert position.next_prompt == 4 == len(fake.sampler.prompts)
  (line,) = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert line['dead_groups'] == 1


@pytest.mark.parametrize('alive, prompts', [(always, 4), (never, 16)])
def test_dynamic_sampling_compares_rewards_without_the_length_penalty(
  fakes, alive, prompts
):
  fake = fakes(
    alive, 'grpo.dynamic_sampling_rounds=4', 'grpo.overlong_buffer=9'
  )
  rollout = rollouts.sample_rollout(fake.run.sampling, None, None, Position())
  assert rollout.next_prompt == prompts
  reward_N = rollouts.rewards_of(rollout).reward_N
  shaped_N = advantages.shape_rewards(
    fake.run.config.grpo, rollout.samples.rows, reward_N, 10
  )
  assert (shaped_N < reward_N).all()


def test_the_reference_is_refreshed_by_the_first_rollout_at_or_after_its_step(
  fakes, tmp_path
):
  """Rollouts begin after 0, 4, 8, ... updates; the reference is due after 6,
  12, ..."""
  fake = fakes(
    always,
    'grpo.kl_coef=0.1',
    'grpo.ref_every=6',
    'grpo.minibatches=2',
    'grpo.epochs=2',
    'micro_batch_size=8',
    'steps=24',
  )
  seen = [
    (float(state.ref['w']), position.ref_step, position.step)
    for state, position in fake.steps(6)
  ]
  want = [(0, 0, 4), (0, 0, 8), (8, 8, 12)]
  want += [(12, 12, 16), (12, 12, 20), (20, 20, 24)]
  assert seen == want
  assert fake.learnt == [8] * 24
  lines = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == list(range(1, 25))


def test_without_a_kl_there_is_no_reference(fakes):
  for state, _ in fakes(always, 'grpo.ref_every=1').steps(3):
    assert state.ref is None


def test_response_lengths_follow_their_schedule(fakes):
  fake = fakes(
    always,
    'max_new_tokens_schedule=((3,20),(8,40))',
    'grpo.minibatches=2',
    'micro_batch_size=8',
  )
  fake.steps(6)
  assert fake.sampler.lengths == [10, 10, 20, 20, 40, 40]
  assert len(set(fake.sampler.keys)) == 6  # each step has a key of its own
  lengths = [fake.run.config.max_new_tokens_at(n) for n in (0, 2, 3, 7, 8)]
  assert lengths == [10, 10, 20, 20, 40]


def test_a_multiple_is_crossed_once():
  steps = [0, 3, 6, 9, 12]
  crossed = [log.crossed(5, a, b) for a, b in zip(steps, steps[1:])]
  assert crossed == [False, True, False, True]
  assert log.crossed(3, 0, 3) and not log.crossed(3, 3, 5)
  assert not log.crossed(0, 0, 10)


def test_a_late_rollout_has_the_logprobs_of_the_policy_that_sampled_it(fakes):
  """Each step learns from the rollout before; all rollouts are used."""
  fake = fakes(
    always, 'grpo.max_staleness=1', 'grpo.old_logprobs=trainer', 'steps=4'
  )
  assert [position.step for _, position in fake.steps(4)] == [1, 2, 3, 4]
  seen = [(w, float(x[0]['old_BL'].max())) for w, x in fake.updates]
  # The update of step n has parameters n, and rows of parameters n - 1.
  assert seen == [(0, 0), (1, 0), (2, 1), (3, 2)]
  assert fake.sampler.numbers == list(range(16))
  assert fake.learnt == [16] * 4


def test_the_position_of_a_late_run_is_that_of_the_rollout_not_learnt_from(
  fakes,
):
  fake = fakes(
    always, 'grpo.max_staleness=1', 'grpo.old_logprobs=trainer', 'steps=4'
  )
  positions = [position.next_prompt for _, position in fake.steps(4)]
  assert positions == [4, 8, 12, 16]


def test_a_late_run_resumes_with_the_rollout_beside_the_checkpoint(
  fakes, tmp_path
):
  """Its log-probabilities are those of the policy that sampled it."""
  changes = 'grpo.max_staleness=1', 'grpo.old_logprobs=trainer', 'steps=4'
  whole, first, again = (fakes(always, *changes) for _ in range(3))
  whole.steps(4)
  checkpoints = types.SimpleNamespace(
    directory=tmp_path / 'checkpoints', all_steps=lambda: []
  )
  for fake in (first, again):
    fake.run = dataclasses.replace(fake.run, checkpoints=checkpoints)
  state, position, rollout = first.state, Position(), None
  for _ in range(2):
    state, position, rollout = rl.late_step(first.run, state, position, rollout)
    saved_rollout.write(first.run, position.step, rollout)
  assert [x.name for x in (tmp_path / 'rollouts').iterdir()] == ['2.npz']
  rollout = saved_rollout.read(again.run, 2)
  for _ in range(2):
    state, position, rollout = rl.late_step(again.run, state, position, rollout)
  for (w, batches), (want_w, want) in zip(again.updates, whole.updates[2:]):
    assert w == want_w
    jax.tree.map(np.testing.assert_array_equal, batches, want)


def test_a_rollout_that_is_missing_damaged_or_of_another_size_is_not_used(
  fakes, tmp_path, capsys
):
  checkpoints = types.SimpleNamespace(
    directory=tmp_path / 'checkpoints', all_steps=lambda: []
  )
  fake = fakes(always, 'grpo.max_staleness=1', 'steps=4')
  fake.run = dataclasses.replace(fake.run, checkpoints=checkpoints)
  assert saved_rollout.read(fake.run, 1) is None
  *_, rollout = rl.late_step(fake.run, fake.state, Position(), None)
  saved_rollout.write(fake.run, 1, rollout)
  path = tmp_path / 'rollouts' / '1.npz'
  whole = bytearray(path.read_bytes())
  whole[len(whole) // 2] ^= 1
  path.write_bytes(whole)
  assert saved_rollout.read(fake.run, 1) is None
  saved_rollout.write(fake.run, 1, rollout)
  other = fakes(
    always, 'grpo.max_staleness=1', 'grpo.group_size=2', 'micro_batch_size=8'
  )
  other.run = dataclasses.replace(other.run, checkpoints=checkpoints)
  assert saved_rollout.read(other.run, 1) is None
  assert capsys.readouterr().err.count('sampled again') == 3


def test_rewards_are_computed_while_the_log_probabilities_are(fakes):
  """The log-probabilities are computed before any wait for the rewards."""
  fake = fakes(always, 'grpo.kl_coef=0.1')
  rule = fake.run.sampling.scorer.rules['accuracy']

  def after_log_probabilities(records, texts):
    while 'log-probabilities' not in fake.events:
      pass
    return rule(records, texts)

  fake.score_with(after_log_probabilities)
  fake.steps(1)
  assert fake.events == ['log-probabilities', 'rewards']


def test_an_unscored_sample_is_not_in_the_update_and_is_counted(
  fakes, tmp_path
):
  fake = fakes(always)

  def accuracy(records, texts):
    reward_N = np.float32([text == 'first' for text in texts])
    lost_N = np.arange(len(texts)) == 1  # the first group's second sample
    return np.ma.masked_array(reward_N, lost_N)

  fake.score_with(accuracy)
  fake.steps(1)
  ((_, micro_batches),) = fake.updates
  for batch in micro_batches:
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(batch))
  weight_B = np.concatenate(
    [batch['weight_BL'].sum(axis=1) for batch in micro_batches]
  )
  assert (weight_B == 0).sum() == 1
  (line,) = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert line['unscored'] == 1 / 16
  assert line['reward'] == np.float32(4 / 15)
  assert line['dead_groups'] == 0


def hold_out(fake, count):
  """Gives the run `count` held-out records, of which two thirds are solved."""
  records = [dict(id=n, prompt=str(n)) for n in range(count)]
  sampling = dataclasses.replace(fake.run.sampling, held_out_records=records)
  fake.run = dataclasses.replace(fake.run, sampling=sampling)
  fake.score_with(
    lambda records, texts: np.float32([x['id'] % 3 > 0 for x in records])
  )


@pytest.mark.parametrize('size, calls', [(1, 11), (4, 3), (11, 1), (64, 1)])
def test_an_evaluation_is_sampled_in_chunks_of_one_size(fakes, size, calls):
  """Memory does not grow with the held-out records, and one program is enough;
  the metrics and the numbers from which keys derive are the same."""
  fake = fakes(always, f'eval.prompts_per_chunk={size}', 'eval.samples=2')
  hold_out(fake, 11)
  line = log.evaluate(fake.run, fake.state, 5)
  assert line['eval/problems'] == 11
  assert line['eval/pass1'] == pytest.approx(7 / 11)
  assert line['eval/length'] == 3 and line['eval/truncated'] == 0
  sizes = fake.sampler.sizes
  assert len(sizes) == calls and {n for _, n in sizes} == {min(size, 11)}
  assert sum(rows for rows, _ in sizes) == 11
  assert fake.sampler.numbers == list(range(11))
  assert len(set(fake.sampler.keys)) == 1


def test_a_run_without_golds_keeps_the_best_checkpoint_by_its_own_reward(
  fakes, monkeypatch
):
  fake = fakes(always, 'rewards={"format":1.0}', 'eval.every=1')
  hold_out(fake, 11)
  scorer = dataclasses.replace(
    fake.run.sampling.scorer,
    weights=dict(brief=2.0),
    rules=dict(brief=lambda records, texts: np.float32([0.25] * len(texts))),
  )
  sampling = dataclasses.replace(fake.run.sampling, scorer=scorer)
  fake.run = dataclasses.replace(fake.run, sampling=sampling)
  assert log.evaluate(fake.run, fake.state, 0)['eval/reward'] == 0.5
  state, position = rl.step(fake.run, fake.state, Position())
  assert position.score == 0.5
  saved = []
  monkeypatch.setattr(checkpoint, 'save', lambda *args: saved.append(args))
  checkpoints = types.SimpleNamespace(latest_step=lambda: None)
  fake.run = dataclasses.replace(fake.run, checkpoints=checkpoints)
  for score in (0.5, math.nan):
    saving.save(fake.run, state, dataclasses.replace(position, score=score))
  assert [score for *_, score in saved] == [0.5, None]


def test_a_long_evaluation_shows_how_far_it_is(fakes, capsys, monkeypatch):
  fake = fakes(always, 'eval.prompts_per_chunk=4')
  hold_out(fake, 11)
  log.evaluate(fake.run, fake.state, 0)
  assert capsys.readouterr().out == ''  # It took no time.
  monkeypatch.setattr(progress, 'PART_SECONDS', 0.0)
  log.evaluate(fake.run, fake.state, 0)
  lines = capsys.readouterr().out.splitlines()
  assert [line.split('  ')[-1] for line in lines] == [
    'held-out problem 4/11',
    'held-out problem 8/11',
  ]


def test_sigterm_in_an_evaluation_saves_the_step_and_a_resume_evaluates_it(
  fakes, tmp_path, monkeypatch
):
  fake = fakes(always, 'eval.prompts_per_chunk=4')
  hold_out(fake, 11)
  monkeypatch.setattr(log, 'crossed', lambda *_: True)
  checkpoints = types.SimpleNamespace(latest_step=lambda: None)
  fake.run = dataclasses.replace(fake.run, checkpoints=checkpoints)
  saved = []
  monkeypatch.setattr(checkpoint, 'save', lambda *args: saved.append(args))
  # The signal arrives after the rollout.
  monkeypatch.setattr(
    hosts, 'terminate_requested', lambda: len(fake.sampler.sizes) > 1
  )
  with pytest.raises(errors.Terminated):
    fake.steps(1)
  assert fake.sampler.sizes == [(4, 0), (4, 4)]  # a rollout, one chunk
  ((_, step, state, facts, score),) = saved
  assert (step, float(state.train.params['w']), score) == (1, 1, None)
  (line,) = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert line['step'] == 1 and 'eval/pass1' not in line
  monkeypatch.setattr(hosts, 'terminate_requested', lambda: False)
  position = rl.with_evaluation(fake.run, state, Position(**facts))
  assert position.score == pytest.approx(7 / 11)
  assert len(fake.sampler.sizes) == 5


def test_a_run_ends_after_three_rollouts_without_any_reward(fakes, capsys):
  fake, unjudged = fakes(always), iter([1, 1, 0, 1, 1, 1])

  def accuracy(records, texts):
    mask_N = np.full(len(texts), bool(next(unjudged)))
    return np.ma.masked_array(np.arange(len(texts), dtype=np.float32), mask_N)

  fake.score_with(accuracy)
  fake.run = dataclasses.replace(
    fake.run, checkpoints=types.SimpleNamespace(latest_step=lambda: 99)
  )
  with pytest.raises(errors.UserError, match='by the reward accuracy, nor of'):
    fake.steps(9)
  assert len(fake.updates) == 5
  shown = capsys.readouterr().err
  assert shown.count('no sample of this rollout was judged by the reward') == 4


def with_outages(fake, is_out):
  """Makes the rewards of a run unknown where is_out(the ids) is true."""
  rule = fake.run.sampling.scorer.rules['accuracy']

  def accuracy(records, texts):
    reward_N = rule(records, texts)
    if is_out(tuple(record['id'] for record in records)):
      reward_N = np.ma.masked_array(np.full(len(texts), verdict.OUTAGE), True)
    return reward_N

  fake.score_with(accuracy)


OUT_CHANGES = [
  [],
  ['grpo.max_staleness=1'],
  ['grpo.dynamic_sampling_rounds=3'],
]


@pytest.mark.parametrize('changes', OUT_CHANGES, ids=str)
def test_after_an_outage_a_run_has_the_numbers_of_one_without(
  changes, fakes, monkeypatch, capsys
):
  slept = []
  monkeypatch.setattr(time, 'sleep', slept.append)
  plain = fakes(every_third, *changes)
  plain.steps(3)
  fake = fakes(every_third, *changes)
  tries = collections.Counter()

  def is_out(ids):  # three times for each batch of prompts
    tries[ids] += 1
    return tries[ids] <= 3

  with_outages(fake, is_out)
  fake.steps(3)
  assert sum(slept) >= 3 * sum(outage.PAUSES[:3])
  assert fake.sampler.numbers == plain.sampler.numbers
  assert fake.learnt == plain.learnt
  for (_, own), (_, others) in zip(fake.updates, plain.updates):
    for batch, other in zip(own, others):
      np.testing.assert_array_equal(batch['adv_BL'], other['adv_BL'])
  shown = capsys.readouterr().err
  assert 'an outage left 16 of 16 responses unjudged: tries again in 5' in shown


@pytest.mark.parametrize('changes', OUT_CHANGES, ids=str)
def test_an_outage_that_lasts_ends_a_run_before_the_step_to_be_tried_again(
  changes, fakes, monkeypatch
):
  monkeypatch.setattr(time, 'sleep', lambda seconds: None)
  saved, first, fake = [], [], fakes(always, *changes)
  monkeypatch.setattr(saving, 'save', lambda *args: saved.append(args))

  def is_out(ids):  # from the second batch of prompts on
    if not first:
      first.append(ids)
    return ids != first[0]

  with_outages(fake, is_out)
  with pytest.raises(errors.Outage) as found:
    fake.steps(2)
  code, sentence = errors.exit_status(found.value)
  assert code == 75 and 'the same command tries it again' in sentence
  (_, _, position, *rollout) = saved[0]
  assert len(saved) == len(fake.learnt) == position.step == 1
  if fake.run.config.grpo.max_staleness:
    assert rollout[0].next_prompt == 8  # It is saved beside the checkpoint.


def test_sigterm_ends_the_pauses_of_an_outage(fakes, monkeypatch):
  fake, slept = fakes(always), []
  monkeypatch.setattr(time, 'sleep', slept.append)
  monkeypatch.setattr(saving, 'save', lambda *args: None)
  monkeypatch.setattr(hosts, 'terminate_requested', lambda: len(slept) > 2)
  with_outages(fake, lambda ids: True)
  with pytest.raises(errors.Terminated):
    fake.steps(1)
  assert len(slept) == 3


@pytest.mark.parametrize('staleness', [0, 1])
def test_sigterm_ends_the_wait_for_rewards_and_saves(
  staleness, fakes, monkeypatch
):
  fake = fakes(always, f'grpo.max_staleness={staleness}')
  began, end = threading.Event(), threading.Event()
  saved = []

  def stuck(records, texts):
    began.set()
    end.wait()
    return np.zeros(len(texts), np.float32)

  fake.score_with(stuck)
  monkeypatch.setattr(saving, 'save', lambda *args: saved.append(args))
  monkeypatch.setattr(watchdog, 'terminate_requested', began.is_set)
  monkeypatch.setattr(hosts, 'terminate_requested', lambda: False)
  with pytest.raises(errors.Terminated):
    fake.steps(1)
  assert saved and not end.is_set()
  end.set()
