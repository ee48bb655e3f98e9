"""Every objective against numbers computed by hand, and the identities between
the objectives of the papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import losses

NAMES = list(losses.OBJECTIVES)
LOSS_AGGS = ['seq_mean_token_mean', 'token_mean', 'seq_mean_token_sum_norm']
LN2 = np.log(2)
CLIPS = dict(clip_low=0.2, clip_high=0.28)

# Ratios pi/pi_old are 2, 1, 1/2 and 1, 2; the last token is not the policy's.
MASK = np.array([[1, 1, 1], [1, 1, 0]], bool)
LOGP = np.log(np.array([[0.5, 0.4, 0.2], [0.3, 0.6, 0.9]], np.float32))
OLD = np.log(np.array([[0.25, 0.4, 0.4], [0.3, 0.3, 0.3]], np.float32))
REF = LOGP + np.array([[LN2, 0, 0], [0, -LN2, 7]], np.float32)
ADV = np.array([[1, 1, 1], [-2, -2, -2]], np.float32)


def run(
  name,
  logp=LOGP,
  old=OLD,
  ref=REF,
  adv=ADV,
  weight=None,
  kl_coef=0.0,
  kl_estimator='k3',
  clips=CLIPS,
  **entropy,
):
  if weight is None:
    weight = losses.token_weights(MASK, 'seq_mean_token_mean')
  return losses.policy_loss(
    functools.partial(losses.OBJECTIVES[name], **clips),
    logp,
    old,
    ref,
    adv,
    weight,
    kl_coef=kl_coef,
    kl_estimator=losses.KL_ESTIMATORS[kl_estimator],
    **entropy,
  )


def gradient(name, logp, *args, **changes):
  return jax.grad(lambda x: run(name, x, *args, **changes)[0])(jnp.array(logp))


# GRPO clips 2 to 1.28 where A > 0, and neither 1/2 there nor 2 where A < 0.
# The sequence ratios are 1 and 2; GSPO's are their roots, 1 and sqrt(2).
BY_HAND = dict(
  grpo=-(1.28 + 1 + 0.5) / 6 + (2 + 4) / 4,
  sequence=-3 / 6 + (4 + 4) / 4,
  gspo=-3 / 6 + 2 * np.sqrt(8) / 4,
  cispo=-np.log(0.5**1.28 * 0.4 * 0.2**0.8) / 6
  + 2 * np.log(0.3 * 0.6**1.28) / 4,
)


@pytest.mark.parametrize('name', NAMES)
def test_the_objective_is_the_number_computed_by_hand(name):
  loss, sums = run(name)
  np.testing.assert_allclose(loss, BY_HAND[name], rtol=1e-5)
  np.testing.assert_allclose(sums['loss'], loss)
  np.testing.assert_allclose(sums['weight'], 1, rtol=1e-6)
  moved = 2 * LN2 / 6 + LN2 / 4
  np.testing.assert_allclose(sums['old_logp_difference'], moved, rtol=1e-5)
  clipped = dict(grpo=1 / 6, sequence=0, gspo=0, cispo=1 / 6 + 1 / 6 + 1 / 4)
  np.testing.assert_allclose(sums['clip_fraction'], clipped[name], rtol=1e-5)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('kl_estimator', ['k3', 'k3_unbiased'])
def test_the_kl_is_the_number_computed_by_hand(name, kl_estimator):
  # k3 of pi_ref/pi = 2 and 1/2, where pi/pi_old is 2: k3_unbiased doubles both.
  by_hand = (1 - LN2) / 6 + (LN2 - 1 / 2) / 4
  by_hand *= 2 if kl_estimator == 'k3_unbiased' else 1
  loss, sums = run(name, kl_estimator=kl_estimator, kl_coef=0.3)
  np.testing.assert_allclose(sums['kl'], by_hand, rtol=1e-5)
  np.testing.assert_allclose(loss, BY_HAND[name] + 0.3 * by_hand, rtol=1e-5)


def test_sft_is_the_weighted_cross_entropy():
  loss, sums = losses.sft_loss(LOGP, losses.token_weights(MASK, 'token_mean'))
  by_hand = -np.log(0.5 * 0.4 * 0.2 * 0.3 * 0.6) / 5
  np.testing.assert_allclose(loss, by_hand, rtol=1e-5)
  np.testing.assert_allclose([sums['loss'], sums['weight']], [by_hand, 1])


def test_token_weights_are_the_three_averages():
  mask = np.vstack([MASK, [[False] * 3]])
  by_hand = dict(
    seq_mean_token_mean=[[1 / 6] * 3, [1 / 4] * 2 + [0], [0] * 3],
    token_mean=[[1 / 5] * 3, [1 / 5] * 2 + [0], [0] * 3],
    seq_mean_token_sum_norm=[[1 / 8] * 3, [1 / 8] * 2 + [0], [0] * 3],
  )
  for loss_agg, want in by_hand.items():
    weight = losses.token_weights(mask, loss_agg, 4)
    np.testing.assert_allclose(weight, want, rtol=1e-6)
    nothing = losses.token_weights(np.zeros((2, 3), bool), loss_agg, 4)
    assert not nothing.any()


# The gradient where the ratio is 1, per token.


@pytest.mark.parametrize('loss_agg', LOSS_AGGS)
def test_on_policy_all_token_objectives_have_one_gradient(loss_agg):
  weight = losses.token_weights(MASK, loss_agg, 4)
  for name in ('grpo', 'gspo', 'cispo'):
    grad = gradient(name, LOGP, LOGP, weight=weight)
    np.testing.assert_allclose(grad, -ADV * weight, rtol=1e-5)


def test_on_policy_grpo_and_gspo_are_the_mean_over_responses():
  tokens_B1 = MASK.sum(axis=1, keepdims=True)
  for name in ('grpo', 'gspo'):
    grad = gradient(name, LOGP, LOGP)
    np.testing.assert_allclose(grad, -ADV * MASK / (2 * tokens_B1), rtol=1e-5)


def test_on_policy_dapo_and_cispo_are_the_mean_over_tokens():
  weight = losses.token_weights(MASK, 'token_mean')
  for name in ('grpo', 'cispo'):
    grad = gradient(name, LOGP, LOGP, weight=weight)
    np.testing.assert_allclose(grad, -ADV * MASK / 5, rtol=1e-5)


def test_on_policy_the_sequence_ratio_does_not_divide_by_length():
  grad = gradient('sequence', LOGP, LOGP)
  np.testing.assert_allclose(grad, -ADV * MASK / 2, rtol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_unweighted_tokens_get_no_gradient(name):
  grad = gradient(name, LOGP, kl_estimator='k3_unbiased', kl_coef=0.3)
  assert not grad[~MASK].any()
  changed = LOGP - np.where(MASK, 0, 3)
  np.testing.assert_allclose(
    gradient(name, changed, kl_estimator='k3_unbiased', kl_coef=0.3), grad
  )


# With one token a row the three ratios are one and the same.
CLIPS = [
  (1, 1.3, (0.2, 0.28), 'clipped'),
  (1, 1.27, (0.2, 0.28), 'unclipped'),
  (1, 0.5, (0.2, 0.28), 'unclipped'),
  (-1, 0.79, (0.2, 0.28), 'clipped'),
  (-1, 0.81, (0.2, 0.28), 'unclipped'),
  (-1, 2.0, (0.2, 0.28), 'unclipped'),
  (1, 10.9, (10, 10), 'unclipped'),
  (1, 11.1, (10, 10), 'clipped'),
  (1, 1e-6, (10, 10), 'unclipped'),
  (-1, 1e-6, (10, 10), 'unclipped'),
  (-1, 1e6, (10, 10), 'unclipped'),
]


@pytest.mark.parametrize('adv, ratio, clip, state', CLIPS)
@pytest.mark.parametrize('name', ['grpo', 'sequence', 'gspo'])
def test_the_clip_stops_only_the_gradient_away_from_the_old_policy(
  name, adv, ratio, clip, state
):
  logp, adv, weight = (
    np.full((1, 1), -20.0),
    np.full((1, 1), adv),
    np.ones((1, 1)),
  )
  old = logp - np.log(ratio)
  changes = dict(
    old=old,
    ref=logp,
    adv=adv,
    weight=weight,
    clips=dict(clip_low=clip[0], clip_high=clip[1]),
  )
  grad = gradient(name, logp, **changes)[0, 0]
  want = 0 if state == 'clipped' else -adv[0, 0] * ratio
  np.testing.assert_allclose(grad, want, rtol=1e-4)
  assert run(name, logp, **changes)[1]['clip_fraction'] == (state == 'clipped')


@pytest.mark.parametrize('adv, ratio, clip, state', CLIPS)
def test_cispo_keeps_every_gradient_and_clips_its_size(adv, ratio, clip, state):
  logp = np.full((1, 1), -20.0)
  grad = gradient(
    'cispo',
    logp,
    logp - np.log(ratio),
    logp,
    np.full((1, 1), adv),
    np.ones((1, 1)),
    clips=dict(clip_low=clip[0], clip_high=clip[1]),
  )
  size = np.clip(ratio, 1 - clip[0], 1 + clip[1])
  np.testing.assert_allclose(grad, [[-adv * size]], rtol=1e-4)


@pytest.mark.parametrize('name', NAMES)
def test_extreme_ratios_leave_loss_and_gradient_finite(name):
  logp = np.array([[-1e4, 0, -50], [0, -1e4, 0]], np.float32)
  old, ref = logp[:, ::-1], logp[::-1]
  for kl_estimator in losses.KL_ESTIMATORS:
    loss, _ = run(
      name, logp, old, ref, kl_estimator=kl_estimator, kl_coef=0.001
    )
    grad = gradient(
      name, logp, old, ref, kl_estimator=kl_estimator, kl_coef=0.001
    )
    assert np.isfinite(loss) and np.isfinite(grad).all()


FAR = [
  # log pi, log pi_old, log pi_ref, and the gradient of k3_unbiased in log pi
  (-21.1, -21.1, -1.0, -20.1),
  (-1.0, -1.0, -31.0, 30.0),
  (-40.0, -40.0, -1.0, -39.0),
  (-2.0, -3.0, -28.0, 26 * np.e),
  (-1.0, -30.0, -2.0, 1 * np.exp(losses.MAX_LOG_RATIO)),
  (-30.0, -1.0, -2.0, -28 * np.exp(-losses.MAX_LOG_RATIO)),
]


@pytest.mark.parametrize('logp, old, ref, want', FAR)
def test_the_gradient_of_k3_unbiased_is_the_ratio_times_the_log_ratio(
  logp, old, ref, want
):
  def value(logp):
    return losses.k3_unbiased(
      logp, jnp.full((1, 1), old), jnp.full((1, 1), ref)
    )

  got = jax.grad(lambda x: value(x)[0, 0])(jnp.full((1, 1), logp))
  np.testing.assert_allclose(got[0, 0], want, rtol=1e-5)
  assert np.isfinite(value(jnp.full((1, 1), logp)))


@pytest.mark.parametrize('name', ['k3', 'k3_sequence'])
@pytest.mark.parametrize('distance', [-1e4, -30, -3, 0, 3, 19, 21, 30, 1e4])
def test_k3_never_pushes_away_from_the_reference(name, distance):
  """The slope 1 - exp(d) of the estimator, 0 where d > MAX_LOG_RATIO."""
  logp_BL, ref_BL = jnp.zeros((1, 1)), jnp.full((1, 1), float(distance))

  def value(logp_BL):
    return losses.KL_ESTIMATORS[name](logp_BL, logp_BL, ref_BL)[0, 0]

  got = float(jax.grad(value)(logp_BL)[0, 0])
  want = 0 if distance > losses.MAX_LOG_RATIO else 1 - np.exp(distance)
  assert got == pytest.approx(want, rel=1e-4)
  assert 0 <= value(logp_BL) < 1e9


@pytest.mark.parametrize('name', ['grpo', 'sequence', 'gspo'])
@pytest.mark.parametrize('log_ratio', [19.0, 21.0, 300.0])
def test_an_extreme_ratio_keeps_the_gradient_of_a_negative_advantage(
  name, log_ratio
):
  one = np.ones((1, 1), np.float32)
  logp = np.full((1, 1), -1.0, np.float32)
  grad = gradient(name, logp, logp - log_ratio, logp, adv=-one, weight=one)
  want = np.exp(min(log_ratio, losses.MAX_LOG_RATIO))
  np.testing.assert_allclose(grad[0, 0], want, rtol=1e-4)
  grad = gradient(name, logp, logp - log_ratio, logp, adv=one, weight=one)
  assert grad[0, 0] == 0


def test_k3_sequence_is_the_formula_of_r1_over_whole_outputs():
  """mean over outputs of exp(d) - d - 1, d the sum over the sampled tokens."""
  weight = losses.token_weights(MASK, 'seq_mean_token_mean')
  arguments = dict(kl_estimator='k3_sequence', kl_coef=0.3)
  loss, sums = run('sequence', weight=weight, **arguments)
  d_B = np.sum((REF - LOGP) * MASK, axis=1)
  kl = np.mean(np.exp(d_B) - d_B - 1)
  np.testing.assert_allclose(sums['kl'], kl, rtol=1e-5)
  np.testing.assert_allclose(loss, run('sequence')[0] + 0.3 * kl, rtol=1e-5)
  zero = np.zeros_like(ADV)
  grad = gradient('sequence', LOGP, adv=zero, weight=weight, **arguments)
  want = 0.3 / 2 * (1 - np.exp(d_B))[:, None] * MASK
  np.testing.assert_allclose(grad, want, rtol=1e-4)


# Five tokens, one sampled: rows weighted by their probability under the policy
# that samples, so a sum over rows is the expectation.


def expected_kl_gradient(name, kl_estimator, logits, old, ref):
  def loss(logits):
    logp_BL = jax.nn.log_softmax(logits)[:, None]
    old_BL, ref_BL = jnp.log(old)[:, None], jnp.log(ref)[:, None]
    return run(
      name,
      logp_BL,
      old_BL,
      ref_BL,
      jnp.zeros((5, 1)),
      old[:, None],
      kl_coef=1.0,
      kl_estimator=kl_estimator,
    )[0]

  return jax.grad(loss)(logits)


def exact_kl_gradient(of, logits, ref):
  def kl(logits):
    logp = jax.nn.log_softmax(logits)
    if of == 'policy to reference':
      return jnp.sum(jnp.exp(logp) * (logp - jnp.log(ref)))
    return jnp.sum(ref * (jnp.log(ref) - logp))

  return jax.grad(kl)(logits)


LOGITS = jnp.array([0.3, -1.0, 1.2, 0.0, -0.4])
REFERENCE = jnp.array([0.1, 0.3, 0.15, 0.25, 0.2])
OTHER = jnp.array([0.25, 0.05, 0.3, 0.3, 0.1])


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('old', ['policy', 'other'])
def test_k3_unbiased_is_the_gradient_of_kl_from_policy_to_reference(name, old):
  old = jax.nn.softmax(LOGITS) if old == 'policy' else OTHER
  got = expected_kl_gradient(name, 'k3_unbiased', LOGITS, old, REFERENCE)
  want = exact_kl_gradient('policy to reference', LOGITS, REFERENCE)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_k3_is_on_policy_the_gradient_of_kl_from_reference_to_policy(name):
  old = jax.nn.softmax(LOGITS)
  got = expected_kl_gradient(name, 'k3', LOGITS, old, REFERENCE)
  want = exact_kl_gradient('reference to policy', LOGITS, REFERENCE)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
  other = exact_kl_gradient('policy to reference', LOGITS, REFERENCE)
  assert np.abs(want - other).max() > 0.05


# Groups.


def advantages(rewards, advantage_std='population', keep=None):
  reward_PG = jnp.array(rewards, jnp.float32)
  keep_PG = jnp.ones_like(reward_PG) if keep is None else jnp.array(keep)
  return np.asarray(losses.group_advantages(reward_PG, keep_PG, advantage_std))


@pytest.mark.parametrize('advantage_std', ['population', 'sample', 'none'])
def test_equal_rewards_have_advantage_exactly_zero(advantage_std):
  noisy = [[0.7] * 7, [0.1] * 7, [1 / 3] * 7]
  assert not advantages(noisy, advantage_std).any()
  assert not advantages([[0.7]], advantage_std).any()
  ragged = advantages([[0.7, 0.7, 9.0, 0.7]], advantage_std, [[1, 1, 0, 1]])
  assert not ragged.any()
  assert not advantages([[1, 2, 3]], advantage_std, [[0, 1, 0]]).any()
  assert not advantages([[1, 2, 3]], advantage_std, [[0, 0, 0]]).any()


# Rewards of one value that sums and padded widths round differently.
NOISE = [
  [1.3, 1.3000001, 1.3000001, 1.3],  # 1 + .3 and 1 + .1 + .2
  [0.6123453, 0.6123456, 0.6123453, 0.6123456],  # two widths of one text
  [1e4, 1e4 + 0.05, 1e4, 1e4 - 0.04],
  [-3e5, -3e5 + 2.5, -3e5, -3e5],
  [0, 1e-6, -8e-6, 0],
]


@pytest.mark.parametrize('advantage_std', ['population', 'sample', 'none'])
@pytest.mark.parametrize('rewards', NOISE)
def test_rewards_that_differ_by_rounding_are_equal(rewards, advantage_std):
  assert not advantages([rewards], advantage_std).any()
  assert losses.equal_rewards(np.float32([rewards]), np.ones((1, 4))).all()
  masked = [[*rewards, 77.0]], advantage_std, [[1, 1, 1, 1, 0]]
  assert not advantages(*masked).any()


@pytest.mark.parametrize(
  'rewards', [[0, 2e-5], [1, 1.00003], [1e4, 1e4 + 0.2], [-5.0001, -5]]
)
def test_small_differences_that_are_not_rounding_make_advantages(rewards):
  np.testing.assert_allclose(advantages([rewards]), [[-1, 1]], rtol=1e-3)


def test_a_large_common_part_of_the_rewards_costs_no_digits():
  small = np.float32([[0, 1, 1, 0, 2.5]])
  got = advantages(4096 + small, 'none')
  np.testing.assert_allclose(got, small - 0.9, atol=1e-6)


def test_large_rewards_and_dropped_infinities_leave_advantages_finite():
  got = advantages([[1e30, -1e30, 0, 0]])
  np.testing.assert_allclose(got, [[2**0.5, -(2**0.5), 0, 0]], rtol=1e-6)
  for bad in (np.nan, np.inf, -np.inf):
    got = advantages([[bad, 1, 0, 1]], keep=[[0, 1, 1, 1]])
    np.testing.assert_allclose(got, [[0, 0.7071, -1.4142, 0.7071]], atol=1e-4)


@pytest.mark.parametrize('right', [1, 4, 7])
def test_the_population_deviation_gives_the_advantages_of_the_paper(right):
  adv = advantages([[1] * right + [0] * (8 - right)])[0]
  by_hand = {1: (2.646, -0.378), 4: (1, -1), 7: (0.378, -2.646)}[right]
  np.testing.assert_allclose(adv[[0, -1]], by_hand, atol=5e-4)


def test_advantages_are_divided_by_the_named_standard_deviation():
  rewards = [[1, 0, 0, 0, 2]]
  centred = np.array(rewards) - 0.6
  np.testing.assert_allclose(advantages(rewards, 'none'), centred, rtol=1e-6)
  for advantage_std, ddof in dict(population=0, sample=1).items():
    want = centred / np.std(rewards, ddof=ddof)
    np.testing.assert_allclose(
      advantages(rewards, advantage_std), want, rtol=1e-6
    )


def test_groups_are_independent():
  both = advantages([[1, 0, 2], [5, 5, 8]])
  np.testing.assert_array_equal(both[:1], advantages([[1, 0, 2]]))
  np.testing.assert_array_equal(both[1:], advantages([[5, 5, 8]]))


@pytest.mark.parametrize('advantage_std', ['population', 'sample', 'none'])
def test_dropped_rows_are_not_in_the_statistics(advantage_std):
  got = advantages([[1, 100, 0, 2]], advantage_std, [[1, 0, 1, 1]])[0]
  np.testing.assert_allclose(
    got[[0, 2, 3]], advantages([[1, 0, 2]], advantage_std)[0]
  )
  assert got[1] == 0


@pytest.mark.parametrize('loss_agg', LOSS_AGGS)
@pytest.mark.parametrize('name', NAMES)
def test_a_masked_row_is_as_if_it_had_not_been_sampled(name, loss_agg):
  def total(kept):
    adv_PG = losses.group_advantages(
      jnp.array([[1.0, 0.0, 2.0]])[:, kept],
      np.array([[1, 0, 1]])[:, kept],
      'population',
    )

    def pick(a, last):
      return np.vstack([a[:1], last, a[1:]])[kept]

    mask = pick(MASK, np.zeros((1, 3), bool))
    return run(
      name,
      pick(LOGP, LOGP[:1] - 1),
      pick(OLD, LOGP[:1]),
      pick(REF, LOGP[:1] + 2),
      adv_PG.reshape(-1, 1) * np.ones((1, 3)),
      losses.token_weights(mask, loss_agg, 4),
      kl_coef=0.3,
    )

  whole, without = total([0, 1, 2]), total([0, 2])
  for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(without)):
    np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_rows_without_advantage_still_get_the_kl_gradient(name):
  grad = gradient(name, LOGP, adv=np.zeros((2, 3)), kl_coef=0.3)
  assert (np.abs(grad) > 1e-3).sum() == 2
  assert run(name, adv=np.zeros((2, 3)))[1]['weight'] == pytest.approx(1)


def test_importance_weights_are_the_ratio_up_to_the_cap():
  sampler = jnp.log(jnp.array([[0.5, 0.25, 0.1, 0.3]]))
  old = jnp.log(jnp.array([[0.25, 0.25, 0.3, 0.9]]))
  got = losses.truncated_importance_weights(old, sampler, 2.5)
  np.testing.assert_allclose(got, [[0.5, 1, 2.5, 2.5]], rtol=1e-6)


WEIGHT = jnp.array([0.5, 0.25, 0.25, 0.0])


def test_bradley_terry_is_the_number_computed_by_hand():
  """Odds of 3 to 1, of 1 to 1 and of 1 to 3, and a row without weight."""
  chosen = jnp.array([5 + np.log(3), 2.0, -1.0, 9.0])
  rejected = jnp.array([5.0, 2.0, -1 + np.log(3), -9.0])
  loss, sums = losses.preference_loss(chosen, rejected, WEIGHT)
  want = -0.5 * np.log(3 / 4) - 0.25 * np.log(1 / 2) - 0.25 * np.log(1 / 4)
  np.testing.assert_allclose(loss, want, rtol=1e-6)
  assert sums == dict(loss=loss, accuracy=0.5, weight=1)
  slope = jax.grad(lambda x: losses.preference_loss(x, rejected, WEIGHT)[0])
  np.testing.assert_allclose(
    slope(chosen), [-0.5 / 4, -0.25 / 2, -0.25 * 3 / 4, 0], atol=1e-7
  )


def test_preference_loss_ignores_a_shift_of_all_scores():
  chosen, rejected = jnp.array([[0.3, -2, 5, 1], [1, 1, 4, 0]])
  here = losses.preference_loss(chosen, rejected, WEIGHT)[0]
  there = losses.preference_loss(chosen + 3, rejected + 3, WEIGHT)[0]
  np.testing.assert_allclose(here, there, rtol=1e-5)


def test_pointwise_is_the_cross_entropy_computed_by_hand():
  score = jnp.log(jnp.array([3.0, 3.0, 1.0, 7.0]))
  label = jnp.array([1.0, 0.0, 0.0, 0.0])
  loss, sums = losses.pointwise_loss(score, label, WEIGHT)
  want = -0.5 * np.log(3 / 4) - 0.25 * np.log(1 / 4) - 0.25 * np.log(1 / 2)
  np.testing.assert_allclose(loss, want, rtol=1e-6)
  assert sums == dict(loss=loss, accuracy=0.5, weight=1)
  slope = jax.grad(lambda x: losses.pointwise_loss(x, label, WEIGHT)[0])
  np.testing.assert_allclose(
    slope(score), [-0.5 / 4, 0.25 * 3 / 4, 0.25 / 2, 0], atol=1e-7
  )


def test_confident_wrong_scores_have_finite_losses_and_gradients():
  far, one = jnp.array([1e4]), jnp.ones(1)
  zero = jnp.zeros(1)
  for fn in (
    lambda x: losses.preference_loss(-x, x, one)[0],
    lambda x: losses.pointwise_loss(x, zero, one)[0],
  ):
    value, slope = jax.value_and_grad(fn)(far)
    assert np.isfinite(value) and value >= 1e4 and 1 <= slope[0] <= 2


def test_the_entropy_bonus_is_subtracted_with_the_weights_of_the_loss():
  entropy = np.array([[0.5, 1.0, 2.0], [0.25, 1.5, 9.0]], np.float32)
  weight = losses.token_weights(MASK, 'seq_mean_token_mean')
  loss, _ = run('grpo', entropy_BL=entropy, entropy_bonus=0.1)
  by_hand = BY_HAND['grpo'] - 0.1 * (3.5 / 6 + 1.75 / 4)
  np.testing.assert_allclose(loss, by_hand, rtol=1e-5)

  def loss_of(entropy_BL):
    return run('grpo', entropy_BL=entropy_BL, entropy_bonus=0.1)[0]

  grad = jax.grad(loss_of)(jnp.array(entropy))
  np.testing.assert_allclose(grad, -0.1 * weight, rtol=1e-6)


def test_an_objective_is_a_function_that_may_have_metrics():
  """REINFORCE, whose only option is a scale of the surrogate."""

  def reinforce(logp_BL, old_BL, adv_BL, weight_BL, size):
    return size * adv_BL * logp_BL

  def with_metric(logp_BL, old_BL, adv_BL, weight_BL):
    return 3.0 * adv_BL * logp_BL, dict(surprise=-logp_BL)

  weight = losses.token_weights(MASK, 'token_mean')

  def loss_of(objective, logp_BL):
    return losses.policy_loss(
      objective,
      logp_BL,
      OLD,
      REF,
      ADV,
      weight,
      kl_coef=0.0,
      kl_estimator=losses.k3,
    )

  for objective in (functools.partial(reinforce, size=3.0), with_metric):
    of_objective = functools.partial(loss_of, objective)
    grad, sums = jax.grad(of_objective, has_aux=True)(jnp.array(LOGP))
    np.testing.assert_allclose(grad, -3 * ADV * weight, rtol=1e-6)
  surprise = -np.sum(weight * LOGP)
  np.testing.assert_allclose(sums['surprise'], surprise, rtol=1e-6)
