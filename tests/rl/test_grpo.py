"""From a rollout to its updates: whole groups, the weights of a mini-batch, and
the same numbers however the batch is split."""

import dataclasses
import os

import jax
import numpy as np
import optax
import pytest
import toy
import toy_model

from r1jax import errors, losses, user_code
from r1jax.data import batching
from r1jax.distributed import device_placement
from r1jax.models.families import llama
from r1jax.rewards.pending import Rewards
from r1jax.rl import advantages, grpo, grpo_config, rollouts
from r1jax.sampling import decode, generate
from r1jax.training import train_step

C = grpo_config.GrpoConfig(prompts_per_step=4, group_size=3, kl_coef=0.0)
LENGTH = np.array([3, 7, 5, 1, 6, 4, 7, 2, 2, 5, 7, 3])  # sampled tokens
WIDTH = 10  # of the prompts, of which each has its own length, and the samples
MAX_NEW = 7
CFG = llama.Config(
  vocab_size=28,
  width=16,
  layers=1,
  heads=6,
  kv_heads=2,
  head_dim=4,
  ffn=20,
  head_chunk=4,
)
PARAMS = toy_model.random_params(CFG, 0.3)
TEMPERATURE = 0.8


def change(**changes):
  return dataclasses.replace(C, **changes)


def rollout(length_B=LENGTH):
  """Sampled rows as the decode loop returns them."""
  random, column_L = np.random.default_rng(0), np.arange(WIDTH)
  prompt_B1 = 1 + np.arange(len(length_B))[:, None] // C.group_size % 3
  all_B1 = prompt_B1 + length_B[:, None]
  mask_BL = (column_L >= prompt_B1) & (column_L < all_B1)
  shape = mask_BL.shape
  return decode.SampledRows(
    tokens_BL=random.integers(0, CFG.vocab_size, shape) * (column_L < all_B1),
    pos_BL=np.where(column_L < all_B1, column_L, -1),
    logp_BL=np.where(mask_BL, -3 + random.standard_normal(shape), 0).astype(
      'f'
    ),
    mask_BL=mask_BL,
    finished_B=length_B < MAX_NEW,
    steps=np.array([20]),
    live=np.array([length_B.sum()]),
  )


REWARD = np.array([0, 1, 1, 0.2, 0.2, 0.2, 1.2, 0, 1, 0, 0, 1], np.float32)
ALL = np.ones(len(REWARD), bool)


def samples(texts='abcdefghijkl', rows=None):
  return generate.Samples(
    records=[dict(id=str(n // C.group_size)) for n in range(len(texts))],
    texts=list(texts),
    rows=rows or rollout(),
  )


def rewards(reward_N=REWARD):
  return Rewards(reward_N, dict(accuracy=np.round(reward_N)))


def batch_of(config, rows, reward_N=REWARD, keep_N=ALL):
  adv_N = advantages.of_rewards(config, reward_N, keep_N)
  return advantages.add(grpo.columns(rows), adv_N, keep_N)


def numbered():
  """A batch whose tokens are the numbers of their rows."""
  batch = batch_of(C, rollout())
  return batch | dict(tokens_BL=np.arange(12)[:, None] + np.zeros((12, WIDTH)))


def order(c, seed):
  """The rows of each mini-batch, in order."""
  minis = grpo.mini_batches(c, numbered(), seed, MAX_NEW)
  return [mini['tokens_BL'][:, 0].astype(int).tolist() for mini in minis]


def test_mini_batches_hold_whole_groups_and_every_row_once_an_epoch():
  parts = order(change(minibatches=2, epochs=3), (0, 5))
  assert [len(rows) for rows in parts] == [6] * 6
  for rows in parts:
    for first in rows[:: C.group_size]:
      where = rows.index(first)
      assert first % C.group_size == 0
      assert rows[where : where + 3] == [first, first + 1, first + 2]
  for epoch in range(3):
    assert sorted(sum(parts[2 * epoch : 2 * epoch + 2], [])) == list(range(12))


def test_the_order_is_a_function_of_seed_step_and_epoch():
  c = change(minibatches=4, epochs=4)
  first = order(c, (0, 5))
  assert first == order(c, (0, 5))
  assert first != order(c, (0, 9)) and first != order(c, (1, 5))
  assert len({str(first[4 * epoch : 4 * epoch + 4]) for epoch in range(4)}) > 1


@pytest.mark.parametrize('loss_agg', losses.LOSS_AGGS)
def test_weights_are_made_from_the_whole_mini_batch(loss_agg):
  """The mask of the rollout or of a micro-batch would give other weights."""
  c = change(minibatches=2, loss_agg=loss_agg)
  for mini in grpo.mini_batches(c, numbered(), (0, 0), MAX_NEW):
    rows = mini['tokens_BL'][:, 0].astype(int)
    mask_BL = rollout().mask_BL[rows]
    np.testing.assert_allclose(
      mini['weight_BL'], losses.token_weights(mask_BL, loss_agg, MAX_NEW)
    )
    total = (
      mask_BL.sum() / (6 * MAX_NEW)
      if loss_agg == 'seq_mean_token_sum_norm'
      else 1
    )
    np.testing.assert_allclose(mini['weight_BL'].sum(), total, rtol=1e-6)
    parts = [part for _, part in batching.cut(mini, 2, [WIDTH])]
    summed = sum(part['weight_BL'].sum() for part in parts)
    np.testing.assert_allclose(summed, total, rtol=1e-6)


def test_the_overlong_filter_removes_rows_from_the_loss():
  c = change(overlong_filter=True)
  learn_N = advantages.rows_to_learn(c, rollout(), REWARD)
  np.testing.assert_array_equal(learn_N, LENGTH < MAX_NEW)
  batch = batch_of(c, rollout(), REWARD, learn_N)
  assert not batch['adv_BL'][~learn_N].any()
  (mini,) = grpo.mini_batches(c, batch, (0, 0), MAX_NEW)
  weight_B = mini['weight_BL'].sum(axis=1)
  assert (weight_B > 0).sum() == learn_N.sum() == 9
  np.testing.assert_allclose(weight_B[weight_B > 0], 1 / 9, rtol=1e-6)


def test_the_overlong_filter_leaves_the_baseline_as_it_is():
  """[1, 1, 0, 0], the last two truncated: (1 - 0.5) / 0.577 for the first."""
  c = change(group_size=4, overlong_filter=True, advantage_std='sample')
  rows, reward_N = (
    rollout(np.array([3, 2, MAX_NEW, MAX_NEW])),
    np.float32([1, 1, 0, 0]),
  )
  learn_N = advantages.rows_to_learn(c, rows, reward_N)
  assert learn_N.tolist() == [True, True, False, False]
  adv_N = advantages.of_rewards(c, reward_N, np.ones(4, bool))
  np.testing.assert_allclose(adv_N, [0.866, 0.866, -0.866, -0.866], atol=1e-3)
  made = rollouts.Rollout(
    samples=samples('abcd', rows),
    rewards=rewards(reward_N),
    batch=grpo.columns(rows),
    max_new_tokens=MAX_NEW,
    next_prompt=1,
    seconds={},
  )
  batch = rollouts.make_batch(c, made, made.rewards)
  np.testing.assert_allclose(
    batch['adv_BL'].sum(axis=1)[:2], [2.598, 1.732], atol=1e-3
  )
  assert not batch['mask_BL'][2:].any() and not batch['adv_BL'][2:].any()
  assert not advantages.dead_groups(c, rows, reward_N, MAX_NEW).any()


@pytest.mark.parametrize(
  'reward, truncated, dead',
  [
    ([1, 1, 0, 0], [2, 3], False),
    ([1, 1, 0, 0], [0, 1, 2, 3], True),
    ([1, 1, 1, 1], [3], True),
    ([0.3, 0, 0.6, 0.3], [1, 2], True),  # the learned rows lie on the mean
    ([np.nan, np.nan, 1, 0], [2, 3], True),
    ([np.nan, 1, 0, 0], [3], False),
  ],
)
def test_a_group_is_dead_if_no_row_of_the_loss_has_an_advantage(
  reward, truncated, dead
):
  c = change(group_size=4, overlong_filter=True)
  rows = rollout(np.where(np.isin(np.arange(4), truncated), MAX_NEW, 2))
  assert advantages.dead_groups(
    c, rows, np.float32(reward), MAX_NEW
  ).tolist() == [dead]


def small_advantages(reward_PG, keep_PG):
  return 1e-7 * (reward_PG - reward_PG.mean(axis=1, keepdims=True))


def test_whether_a_group_is_dead_does_not_depend_on_the_scale_of_advantages():
  c = change(advantage=user_code.name_of(small_advantages))
  dead_P = advantages.dead_groups(c, rollout(), REWARD, MAX_NEW)
  assert dead_P.tolist() == [False, True, False, False]


def leave_one_out(reward_PG, keep_PG):
  others_PG = reward_PG.sum(axis=1, keepdims=True) - reward_PG
  return reward_PG - others_PG / (reward_PG.shape[1] - 1)


@pytest.mark.parametrize('reward', [0.7, 0.1, 1 / 3, 1.2])
def test_rounding_of_an_own_advantage_does_not_make_a_group_alive(reward):
  c = change(advantage=user_code.name_of(leave_one_out), group_size=7)
  rows, reward_N = rollout(LENGTH[:7]), np.full(7, reward, np.float32)
  assert advantages.dead_groups(c, rows, reward_N, MAX_NEW).all()
  reward_N[2] += 0.1
  assert not advantages.dead_groups(c, rows, reward_N, MAX_NEW).any()


def test_a_group_that_the_soft_penalty_makes_equal_is_dead():
  c = change(overlong_buffer=4)
  rows = rollout(np.array([MAX_NEW, 2, 2]))
  reward_N = np.float32([1, 0, 0])
  assert advantages.dead_groups(c, rows, reward_N, MAX_NEW).tolist() == [True]


def test_dead_groups_are_those_of_the_rewards_before_the_soft_penalty():
  c = change(overlong_buffer=4)
  reward_N = REWARD.copy()
  shaped_N = advantages.shape_rewards(c, rollout(), reward_N, MAX_NEW)
  np.testing.assert_allclose(
    shaped_N - REWARD, -np.clip((LENGTH - 3) / 4, 0, 1), atol=1e-6
  )
  dead_P = advantages.dead_groups(c, rollout(), reward_N, MAX_NEW)
  assert dead_P.tolist() == [False, True, False, False]
  assert not advantages.dead_groups(c, rollout(), shaped_N, MAX_NEW).any()
  np.testing.assert_array_equal(reward_N, REWARD)


@pytest.mark.parametrize(
  'rewards', [[0.7] * 7, [1.3, 1.3000001, 1.3, 1.3, 1.3, 1.3, 1.2999998]]
)
def test_a_group_is_dead_when_its_rewards_are_equal_whatever_their_mean(
  rewards,
):
  c = change(group_size=7)
  reward_N = np.float32(rewards)
  assert advantages.dead_groups(c, rollout(LENGTH[:7]), reward_N, MAX_NEW).all()
  batch = batch_of(c, rollout(LENGTH[:7]), reward_N, ALL[:7])
  np.testing.assert_array_equal(batch['adv_BL'], 0)


def test_live_groups_are_chosen_in_order_and_filled_up_with_dead_ones():
  dead, live = np.float32([0.5] * 3), np.float32([0, 1, 0])
  reward_N = [np.concatenate([dead, live, dead, live])]
  reward_N += [np.concatenate([live, dead, dead, dead])]
  chosen, chosen_rewards = rollouts.choose_groups(
    C,
    [samples(), samples('mnopqrstuvwx', rollout(LENGTH[::-1]))],
    list(map(rewards, reward_N)),
    np.array([True, False, True, False, False, True, True, True]),
  )
  # The groups 1, 3 and 4 are alive; 0 is the first dead one.
  want_N = np.concatenate([dead, live, live, live])
  np.testing.assert_array_equal(chosen_rewards.reward_N, want_N)
  np.testing.assert_array_equal(
    chosen_rewards.parts['accuracy'], np.round(want_N)
  )
  np.testing.assert_array_equal(
    chosen.length_N,
    np.concatenate([LENGTH[[0, 1, 2, 3, 4, 5, 9, 10, 11]], LENGTH[::-1][:3]]),
  )
  assert [record['id'] for record in chosen.records[::3]] == list('0130')
  assert ''.join(chosen.texts) == 'abcdefjklmno'
  assert chosen.rows.steps.sum() == 40  # discarded samples took time too
  assert chosen.rows.live.sum() == 2 * LENGTH.sum()


def test_a_single_rollout_is_taken_as_it_is():
  chosen, _ = rollouts.choose_groups(
    C, [samples()], [rewards()], np.zeros(4, bool)
  )
  assert ''.join(chosen.texts) == 'abcdefghijkl'
  np.testing.assert_array_equal(chosen.rows.tokens_BL, rollout().tokens_BL)


def placement():
  return device_placement.placement(
    device_placement.ParallelConfig(), jax.devices()[:1]
  )


def batch(c, old=0.0):
  """A rollout's batch whose old log-probabilities lie around the policy's."""
  made = batch_of(c, rollout())
  noise_BL = np.random.default_rng(2).standard_normal((12, WIDTH))
  whole = logprobs(made, 12, [WIDTH])
  return made | dict(
    old_BL=(whole + old * noise_BL).astype('f'), ref_BL=whole - np.float32(0.2)
  )


def logprobs(made, rows, length_buckets):
  """The log-probabilities of a batch, `rows` rows at a time."""
  program = grpo.logprobs_program(placement(), CFG, TEMPERATURE)
  parts = batching.cut(made, rows, length_buckets)
  return grpo.compute_logprobs(
    placement(), program, PARAMS, parts, made['tokens_BL'].shape
  )


@pytest.mark.parametrize('rows, buckets', [(4, 1), (4, 3), (6, 3)])
def test_logprobs_do_not_depend_on_how_rows_are_split(rows, buckets):
  made = batch_of(C, rollout())
  logp_BL, _ = toy_model.logprobs(
    PARAMS, CFG, made['tokens_BL'], made['pos_BL'], TEMPERATURE
  )
  found_BL = logprobs(made, rows, batching.lengths(WIDTH, buckets))
  np.testing.assert_allclose(found_BL, logp_BL, atol=1e-5)
  assert np.abs(found_BL).max(axis=1).all()


def updates(c, made, micro, buckets, optimizer=optax.sgd(0.3)):  # noqa: B008
  """(parameters, sums of each update) after the mini-batches of a rollout."""
  loss = grpo.make_loss(c, CFG, TEMPERATURE)
  compiled = train_step.update_programs(placement(), loss, optimizer)
  state = train_step.init_state(jax.tree.map(np.array, PARAMS), optimizer)
  state, seen = device_placement.put_state(placement(), state), []
  for mini in grpo.mini_batches(c, made, (0, 0), MAX_NEW):
    cuts = batching.cut(mini, micro, batching.lengths(WIDTH, buckets))
    state, sums = train_step.update(
      placement(), compiled, state, [part for _, part in cuts]
    )
    seen.append(jax.device_get(sums))
  return jax.device_get(state.params), seen


def test_the_update_does_not_depend_on_micro_batches_and_length_buckets():
  c = change(kl_coef=0.1, loss_agg='token_mean', clip_low=0.1)
  made = batch(c, old=0.2)
  want, (sums,) = updates(c, made, 12, 1)
  assert 0.1 < sums['clip_fraction'] < 0.9 and sums['kl'] > 0.01
  for micro, buckets in ((6, 1), (4, 3)):
    found, (parts,) = updates(c, made, micro, buckets)
    for a, b, start in zip(*map(jax.tree.leaves, (found, want, PARAMS))):
      assert np.abs(b - start).max() > 1e-4
      np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())
    assert parts.keys() == sums.keys()
    for name, x in sums.items():
      np.testing.assert_allclose(parts[name], x, rtol=1e-5, err_msg=name)


def test_the_ratio_of_an_on_policy_update_is_exactly_one():
  """The trainer's old log-probabilities are those of the update itself."""
  c = change(old_logprobs='trainer')
  assert grpo_config.is_on_policy(c)
  _, (sums,) = updates(c, batch_of(c, rollout()), 4, 3)
  assert sums['old_logp_difference'] == 0 == sums['clip_fraction']
  assert sums['sampling_logp_difference'] > 0.1  # the sampler was another model
  assert sums['grad_norm'] > 0.1


def test_the_ratio_to_recomputed_log_probabilities_is_one_until_an_update():
  c = change(old_logprobs='trainer', minibatches=2, epochs=2)
  assert not grpo_config.is_on_policy(c)
  made = batch_of(c, rollout())
  made['old_BL'] = logprobs(made, 6, [WIDTH])
  _, (first, *others) = updates(c, made, 6, 1)
  # Without XLA's optimisation the two programs are not rounded alike.
  is_optimised = 'optimization_level=0' not in os.environ['XLA_FLAGS']
  assert first['old_logp_difference'] <= (0 if is_optimised else 1e-6)
  assert first['clip_fraction'] == 0
  assert all(sums['old_logp_difference'] > 1e-3 for sums in others)


def test_importance_weights_are_trainer_over_sampler_up_to_the_cap():
  """A sampler that overstates each token by log 2 halves the gradient; one that
  understates it by log 4 is followed up to the cap."""
  norm = {}
  for shift, cap in ((0.0, 2.0), (np.log(2), 2.0), (-np.log(4), 2.0)):
    c = change(old_logprobs='trainer', tis_cap=cap)
    made = batch(C)
    made['sampler_BL'] = made['old_BL'] + np.float32(shift)
    _, (sums,) = updates(c, made, 12, 1)
    norm[round(float(shift), 2)] = sums['grad_norm']
  np.testing.assert_allclose(norm[0.69], norm[0.0] / 2, rtol=1e-4)
  np.testing.assert_allclose(norm[-1.39], norm[0.0] * 2, rtol=1e-4)


@pytest.mark.parametrize(
  'changes, dtype, message',
  [
    (dict(group_size=1), 'float32', 'group of one.*group_size higher'),
    (dict(minibatches=3), 'float32', 'divide the 4 prompts.*never split'),
    (dict(tis_cap=2.0), 'float32', 'set config.grpo.old_logprobs=trainer'),
    (dict(), 'bfloat16', 'bfloat16.*set config.grpo.old_logprobs=trainer'),
  ],
  ids=str,
)
def test_an_invalid_config_is_refused_with_the_key_to_change(
  changes, dtype, message
):
  with pytest.raises(errors.UserError, match=message):
    grpo_config.check(change(**changes), dtype)


def test_an_unknown_objective_is_refused_with_those_that_exist():
  message = "objective is 'ppo'; it can be grpo, sequence, gspo, cispo"
  with pytest.raises(errors.UserError, match=message):
    grpo_config.check(change(objective='ppo'), 'float32')
  for key, value, known in (
    ('kl_estimator', 'k1', 'k3, k3_unbiased'),
    ('loss_agg', 'tokens', 'seq_mean_token_mean, token_mean'),
    ('advantage', 'mad', 'group'),
  ):
    message = f'{key} is {value!r}; it can be {known}'
    with pytest.raises(errors.UserError, match=message):
      grpo_config.check(change(**{key: value}), 'float32')


def test_a_new_objective_needs_one_function_and_one_line(monkeypatch):
  """REINFORCE, whose on-policy gradient is that of GRPO."""

  def reinforce(logp_BL, old_BL, adv_BL, weight_BL):
    return adv_BL * logp_BL

  monkeypatch.setitem(losses.OBJECTIVES, 'reinforce', reinforce)
  config = change(objective='reinforce', old_logprobs='trainer')
  grpo_config.check(config, 'float32')
  made = batch(C)
  _, (sums,) = updates(config, made, 12, 1)
  _, (want,) = updates(change(old_logprobs='trainer'), made, 12, 1)
  np.testing.assert_allclose(sums['grad_norm'], want['grad_norm'], rtol=1e-5)


@pytest.mark.parametrize(
  'change, message',
  [
    ('advantage_std=mad', "one of 'population', 'sample', 'none', not 'mad'"),
    ('old_logprobs=rollout', "one of 'sampler', 'trainer', not 'rollout'"),
    ('max_staleness=2', 'one of 0, 1, not 2'),
  ],
)
def test_an_unknown_value_is_refused_with_the_known_ones(change, message):
  with pytest.raises(errors.UserError, match=message):
    toy.built('rl', f'grpo.{change}')


def test_a_group_of_one_is_allowed_without_division_by_the_deviation():
  grpo_config.check(change(group_size=1, advantage_std='none'), 'float32')
  grpo_config.check(change(old_logprobs='trainer', tis_cap=2.0), 'bfloat16')


@pytest.mark.parametrize(
  'counts, message',
  [
    ((8, 8, 4), 'divide the 6 rows of a mini-batch'),
    ((8, 6, 4), '4 devices.*must be multiples'),
    ((8, 3, 8), '8 devices.*must be multiples'),
    ((7, 6, 2), 'config.steps is 7: it must be a multiple of the 4 updates'),
  ],
)
def test_rows_that_do_not_fill_micro_batches_or_rollouts_are_refused(
  counts, message
):
  c = change(minibatches=2, epochs=2)
  grpo_config.check_counts(c, 8, 6, 2)
  grpo_config.check_counts(c, 8, 4, 2, tokens_per_micro_batch=99)
  with pytest.raises(errors.UserError, match=message):
    grpo_config.check_counts(c, *counts)


@pytest.mark.parametrize('rows', [12, 4])
def test_the_entropy_bonus_changes_the_gradient_by_that_of_the_entropy(rows):
  """The gradient of the loss is linear in the bonus: -bonus * sum w dH."""
  made = batch(C)
  sgd = optax.sgd(1.0)
  trained = {}
  for bonus in (0.0, 0.5):
    config = change(entropy_bonus=bonus, kl_coef=0.0)
    trained[bonus], _ = updates(config, made, rows, 1, sgd)
  (mini,) = grpo.mini_batches(C, made, (0, 0), MAX_NEW)

  def weighted_entropy(params):
    logits = toy_model.logits(params, CFG, mini['tokens_BL'], mini['pos_BL'])
    logits = logits[:, :-1] / TEMPERATURE
    logp = jax.nn.log_softmax(logits)
    entropy = -(jax.numpy.exp(logp) * logp).sum(axis=-1)
    return (mini['weight_BL'][:, 1:] * entropy).sum()

  want = jax.jit(jax.grad(weighted_entropy))(PARAMS)
  for name in ('embed', 'norm'):
    difference = trained[0.5][name] - trained[0.0][name]
    np.testing.assert_allclose(difference, 0.5 * want[name], atol=2e-6)
    assert np.abs(difference).max() > 1e-4
