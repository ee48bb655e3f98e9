"""Every objective against numbers worked out by hand, and the identities that
tie them to each other and to the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import losses

NAMES = list(losses.OBJECTIVES)
KINDS = ['response', 'token', 'constant']
LN2 = np.log(2)
FIXED = dict(clip_low=0.2, clip_high=0.28, beta=0.0, kl='paper')

# Ratios pi/pi_old are 2, 1, 1/2 and 1, 2; the last token is not the policy's.
MASK = np.array([[1, 1, 1], [1, 1, 0]], bool)
LOGP = np.log(np.array([[0.5, 0.4, 0.2], [0.3, 0.6, 0.9]], np.float32))
OLD = np.log(np.array([[0.25, 0.4, 0.4], [0.3, 0.3, 0.3]], np.float32))
REF = LOGP + np.array([[LN2, 0, 0], [0, -LN2, 7]], np.float32)
ADV = np.array([[1, 1, 1], [-2, -2, -2]], np.float32)


def run(name, logp=LOGP, old=OLD, ref=REF, adv=ADV, weight=None, **changes):
  if weight is None:
    weight = losses.token_weights(MASK, 'response')
  return losses.OBJECTIVES[name](logp, old, ref, adv, weight, **FIXED | changes)


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
def test_the_objective_is_the_number_worked_out_by_hand(name):
  loss, sums = run(name)
  np.testing.assert_allclose(loss, BY_HAND[name], rtol=1e-5)
  np.testing.assert_allclose(sums['loss'], loss)
  np.testing.assert_allclose(sums['weight'], 1, rtol=1e-6)
  moved = 2 * LN2 / 6 + LN2 / 4
  np.testing.assert_allclose(sums['delta_old'], moved, rtol=1e-5)
  held = dict(grpo=1 / 6, sequence=0, gspo=0, cispo=1 / 6 + 1 / 6 + 1 / 4)
  np.testing.assert_allclose(sums['clip'], held[name], rtol=1e-5)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('kl', ['paper', 'reverse'])
def test_the_kl_is_the_number_worked_out_by_hand(name, kl):
  # k3 of pi_ref/pi = 2 and 1/2, where pi/pi_old is 2: reverse doubles both.
  by_hand = (1 - LN2) / 6 + (LN2 - 1 / 2) / 4
  by_hand *= 2 if kl == 'reverse' else 1
  loss, sums = run(name, kl=kl, beta=0.3)
  np.testing.assert_allclose(sums['kl'], by_hand, rtol=1e-5)
  np.testing.assert_allclose(loss, BY_HAND[name] + 0.3 * by_hand, rtol=1e-5)


def test_sft_is_the_weighted_cross_entropy():
  loss, sums = losses.sft_loss(LOGP, losses.token_weights(MASK, 'token'))
  by_hand = -np.log(0.5 * 0.4 * 0.2 * 0.3 * 0.6) / 5
  np.testing.assert_allclose(loss, by_hand, rtol=1e-5)
  np.testing.assert_allclose([sums['loss'], sums['weight']], [by_hand, 1])


def test_token_weights_are_the_three_means():
  mask = np.vstack([MASK, [[False] * 3]])
  by_hand = dict(
    response=[[1 / 6] * 3, [1 / 4] * 2 + [0], [0] * 3],
    token=[[1 / 5] * 3, [1 / 5] * 2 + [0], [0] * 3],
    constant=[[1 / 8] * 3, [1 / 8] * 2 + [0], [0] * 3],
  )
  for kind, want in by_hand.items():
    weight = losses.token_weights(mask, kind, 4)
    np.testing.assert_allclose(weight, want, rtol=1e-6)
    nothing = losses.token_weights(np.zeros((2, 3), bool), kind, 4)
    assert not nothing.any()


# The gradient where the ratio is 1 (SPEC 11), per token.


@pytest.mark.parametrize('kind', KINDS)
def test_on_policy_all_token_objectives_have_one_gradient(kind):
  weight = losses.token_weights(MASK, kind, 4)
  for name in ('grpo', 'gspo', 'cispo'):
    grad = gradient(name, LOGP, LOGP, weight=weight)
    np.testing.assert_allclose(grad, -ADV * weight, rtol=1e-5)


def test_on_policy_grpo_and_gspo_are_the_mean_over_responses():
  tokens_B1 = MASK.sum(axis=1, keepdims=True)
  for name in ('grpo', 'gspo'):
    grad = gradient(name, LOGP, LOGP)
    np.testing.assert_allclose(grad, -ADV * MASK / (2 * tokens_B1), rtol=1e-5)


def test_on_policy_dapo_and_cispo_are_the_mean_over_tokens():
  weight = losses.token_weights(MASK, 'token')
  for name in ('grpo', 'cispo'):
    grad = gradient(name, LOGP, LOGP, weight=weight)
    np.testing.assert_allclose(grad, -ADV * MASK / 5, rtol=1e-5)


def test_on_policy_the_sequence_ratio_does_not_divide_by_length():
  grad = gradient('sequence', LOGP, LOGP)
  np.testing.assert_allclose(grad, -ADV * MASK / 2, rtol=1e-5)


@pytest.mark.parametrize('name', NAMES)
def test_tokens_of_others_pass_no_gradient(name):
  grad = gradient(name, LOGP, kl='reverse', beta=0.3)
  assert not grad[~MASK].any()
  changed = LOGP - np.where(MASK, 0, 3)
  np.testing.assert_allclose(
    gradient(name, changed, kl='reverse', beta=0.3), grad
  )


# With one token a row the three ratios are one and the same.
CLIPS = [
  (1, 1.3, (0.2, 0.28), 'held'),
  (1, 1.27, (0.2, 0.28), 'free'),
  (1, 0.5, (0.2, 0.28), 'free'),
  (-1, 0.79, (0.2, 0.28), 'held'),
  (-1, 0.81, (0.2, 0.28), 'free'),
  (-1, 2.0, (0.2, 0.28), 'free'),
  (1, 10.9, (10, 10), 'free'),
  (1, 11.1, (10, 10), 'held'),
  (1, 1e-6, (10, 10), 'free'),
  (-1, 1e-6, (10, 10), 'free'),
  (-1, 1e6, (10, 10), 'free'),
]


@pytest.mark.parametrize('adv, ratio, clip, state', CLIPS)
@pytest.mark.parametrize('name', ['grpo', 'sequence', 'gspo'])
def test_the_clip_holds_only_what_would_move_further_away(
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
    clip_low=clip[0],
    clip_high=clip[1],
  )
  grad = gradient(name, logp, **changes)[0, 0]
  want = 0 if state == 'held' else -adv[0, 0] * ratio
  np.testing.assert_allclose(grad, want, rtol=1e-4)
  assert run(name, logp, **changes)[1]['clip'] == (state == 'held')


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
    clip_low=clip[0],
    clip_high=clip[1],
  )
  size = np.clip(ratio, 1 - clip[0], 1 + clip[1])
  np.testing.assert_allclose(grad, [[-adv * size]], rtol=1e-4)


@pytest.mark.parametrize('name', NAMES)
def test_hopeless_ratios_leave_loss_and_gradient_finite(name):
  logp = np.array([[-1e4, 0, -50], [0, -1e4, 0]], np.float32)
  old, ref = logp[:, ::-1], logp[::-1]
  for kl in losses.KL:
    loss, _ = run(name, logp, old, ref, kl=kl, beta=0.001)
    grad = gradient(name, logp, old, ref, kl=kl, beta=0.001)
    assert np.isfinite(loss) and np.isfinite(grad).all()


# Five tokens, one drawn: weighting the rows by their probability under the
# policy that draws makes a sum over rows the expectation.


def expected_kl_gradient(name, kl, logits, old, ref):
  def loss(logits):
    logp_BL = jax.nn.log_softmax(logits)[:, None]
    old_BL, ref_BL = jnp.log(old)[:, None], jnp.log(ref)[:, None]
    return losses.OBJECTIVES[name](
      logp_BL,
      old_BL,
      ref_BL,
      jnp.zeros((5, 1)),
      old[:, None],
      **FIXED | dict(beta=1.0, kl=kl),
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
def test_reverse_is_the_gradient_of_kl_from_policy_to_reference(name, old):
  old = jax.nn.softmax(LOGITS) if old == 'policy' else OTHER
  got = expected_kl_gradient(name, 'reverse', LOGITS, old, REFERENCE)
  want = exact_kl_gradient('policy to reference', LOGITS, REFERENCE)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_paper_is_on_policy_the_gradient_of_kl_from_reference_to_policy(name):
  old = jax.nn.softmax(LOGITS)
  got = expected_kl_gradient(name, 'paper', LOGITS, old, REFERENCE)
  want = exact_kl_gradient('reference to policy', LOGITS, REFERENCE)
  np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
  other = exact_kl_gradient('policy to reference', LOGITS, REFERENCE)
  assert np.abs(want - other).max() > 0.05


# Groups.


def advantages(rewards, scale='std', keep=None):
  reward_PG = jnp.array(rewards, jnp.float32)
  keep_PG = jnp.ones_like(reward_PG) if keep is None else jnp.array(keep)
  return np.asarray(losses.group_advantages(reward_PG, keep_PG, scale))


@pytest.mark.parametrize('scale', ['std', 'sample_std', 'none'])
def test_equal_rewards_have_advantage_exactly_zero(scale):
  noisy = [[0.7] * 7, [0.1] * 7, [1 / 3] * 7]
  assert not advantages(noisy, scale).any()
  assert not advantages([[0.7]], scale).any()
  ragged = advantages([[0.7, 0.7, 9.0, 0.7]], scale, [[1, 1, 0, 1]])
  assert not ragged.any()
  assert not advantages([[1, 2, 3]], scale, [[0, 1, 0]]).any()
  assert not advantages([[1, 2, 3]], scale, [[0, 0, 0]]).any()


@pytest.mark.parametrize('right', [1, 4, 7])
def test_the_population_deviation_gives_the_sizes_of_the_paper(right):
  adv = advantages([[1] * right + [0] * (8 - right)])[0]
  by_hand = {1: (2.646, -0.378), 4: (1, -1), 7: (0.378, -2.646)}[right]
  np.testing.assert_allclose(adv[[0, -1]], by_hand, atol=5e-4)


def test_the_other_scales_are_those_of_their_names():
  rewards = [[1, 0, 0, 0, 2]]
  centred = np.array(rewards) - 0.6
  np.testing.assert_allclose(advantages(rewards, 'none'), centred, rtol=1e-6)
  for scale, ddof in dict(std=0, sample_std=1).items():
    want = centred / np.std(rewards, ddof=ddof)
    np.testing.assert_allclose(advantages(rewards, scale), want, rtol=1e-6)


def test_groups_do_not_see_each_other():
  both = advantages([[1, 0, 2], [5, 5, 8]])
  np.testing.assert_array_equal(both[:1], advantages([[1, 0, 2]]))
  np.testing.assert_array_equal(both[1:], advantages([[5, 5, 8]]))


@pytest.mark.parametrize('scale', ['std', 'sample_std', 'none'])
def test_dropped_rows_leave_the_statistics(scale):
  got = advantages([[1, 100, 0, 2]], scale, [[1, 0, 1, 1]])[0]
  np.testing.assert_allclose(got[[0, 2, 3]], advantages([[1, 0, 2]], scale)[0])
  assert got[1] == 0


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('name', NAMES)
def test_an_overlong_row_is_as_if_it_had_not_been_drawn(name, kind):
  def total(kept):
    adv_PG = losses.group_advantages(
      jnp.array([[1.0, 0.0, 2.0]])[:, kept],
      np.array([[1, 0, 1]])[:, kept],
      'std',
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
      losses.token_weights(mask, kind, 4),
      beta=0.3,
    )

  whole, without = total([0, 1, 2]), total([0, 2])
  for x, y in zip(jax.tree.leaves(whole), jax.tree.leaves(without)):
    np.testing.assert_allclose(x, y, rtol=1e-6)


@pytest.mark.parametrize('name', NAMES)
def test_rows_of_no_advantage_are_still_held_to_the_reference(name):
  grad = gradient(name, LOGP, adv=np.zeros((2, 3)), beta=0.3)
  assert (np.abs(grad) > 1e-3).sum() == 2
  assert run(name, adv=np.zeros((2, 3)))[1]['weight'] == pytest.approx(1)


def test_importance_is_the_ratio_up_to_the_cap():
  sampler = jnp.log(jnp.array([[0.5, 0.25, 0.1, 0.3]]))
  old = jnp.log(jnp.array([[0.25, 0.25, 0.3, 0.9]]))
  got = losses.importance(old, sampler, 2.5)
  np.testing.assert_allclose(got, [[0.5, 1, 2.5, 2.5]], rtol=1e-6)


WEIGHT = jnp.array([0.5, 0.25, 0.25, 0.0])


def test_bradley_terry_is_the_number_worked_out_by_hand():
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


def test_preference_knows_no_zero_of_scores():
  chosen, rejected = jnp.array([[0.3, -2, 5, 1], [1, 1, 4, 0]])
  here = losses.preference_loss(chosen, rejected, WEIGHT)[0]
  there = losses.preference_loss(chosen + 3, rejected + 3, WEIGHT)[0]
  np.testing.assert_allclose(here, there, rtol=1e-5)


def test_pointwise_is_the_cross_entropy_worked_out_by_hand():
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


def test_sure_and_wrong_scores_have_finite_losses_and_gradients():
  far, one = jnp.array([1e4]), jnp.ones(1)
  zero = jnp.zeros(1)
  for fn in (
    lambda x: losses.preference_loss(-x, x, one)[0],
    lambda x: losses.pointwise_loss(x, zero, one)[0],
  ):
    value, slope = jax.value_and_grad(fn)(far)
    assert np.isfinite(value) and value >= 1e4 and 1 <= slope[0] <= 2
