"""The GRPO family, its advantages, weights and KL, SFT and reward models:
arrays in, (scalar, metrics) out.

Every loss is a sum of weight * term with no denominator inside, so parts of a
batch add up to the whole however it is cut. Metrics are sums of weight * x
beside 'weight', the sum of the weights; the host divides.
"""

import jax
import jax.numpy as jnp

LARGEST = 20.0  # of |log ratio|, so that exp stays finite


def group_advantages(reward_PG, keep_PG, scale):
  """(r - mean r) / scale within each group (DeepSeekMath 4.1.2).

  Rows that keep_PG drops have advantage 0 and no part in the statistics. A
  group whose kept rewards are all equal has advantage exactly 0; scale is
  'std' (of the population), 'sample_std', or 'none' (Dr. GRPO, V3.2).
  """
  keep_PG = keep_PG.astype(jnp.float32)
  count_P1 = jnp.maximum(keep_PG.sum(axis=1, keepdims=True), 1)
  mean_P1 = (reward_PG * keep_PG).sum(axis=1, keepdims=True) / count_P1
  centred_PG = (reward_PG - mean_P1) * keep_PG
  square_P1 = (centred_PG**2).sum(axis=1, keepdims=True)
  freedom_P1 = dict(
    std=count_P1, sample_std=jnp.maximum(count_P1 - 1, 1), none=square_P1
  )[scale]
  deviation_P1 = jnp.sqrt(square_P1 / jnp.where(freedom_P1 > 0, freedom_P1, 1))
  # Rounding leaves a tiny deviation where all rewards are equal: ask the
  # rewards themselves.
  most_P1 = jnp.where(keep_PG > 0, reward_PG, -jnp.inf).max(1, keepdims=True)
  least_P1 = jnp.where(keep_PG > 0, reward_PG, jnp.inf).min(1, keepdims=True)
  alive_P1 = most_P1 > least_P1
  return jnp.where(alive_P1, centred_PG, 0) / jnp.where(
    alive_P1, deviation_P1, 1
  )


def token_weights(mask_BL, kind, length=None):
  """One weight per token from the mask of the whole batch, all hosts' rows.

  'response': mean over rows of the mean over their tokens, 1 / (N |o_i|)
  (DeepSeekMath eq. 3); 'token': mean over tokens, 1 / sum |o_i| (DAPO);
  'constant': 1 / (N length) (Dr. GRPO). N counts the rows with any token, so
  rows filtered to an all-zero mask leave the denominator too.
  """
  mask_BL = mask_BL.astype(jnp.float32)
  tokens_B1 = mask_BL.sum(axis=1, keepdims=True)
  rows = jnp.maximum((tokens_B1 > 0).sum(), 1)
  if kind == 'response':
    return mask_BL / jnp.maximum(tokens_B1, 1) / rows
  if kind == 'token':
    return mask_BL / jnp.maximum(tokens_B1.sum(), 1)
  assert kind == 'constant', kind
  return mask_BL / (rows * length)


def importance(old_BL, sampler_BL, cap):
  """min(pi_old / pi_sampler, cap): truncated importance weights, a factor on
  the advantages where trainer and sampler disagree."""
  return jax.lax.stop_gradient(jnp.minimum(_exp(old_BL - sampler_BL), cap))


def _exp(log_ratio):
  return jnp.exp(jnp.clip(log_ratio, -LARGEST, LARGEST))


def kl_paper(logp_BL, old_BL, ref_BL):
  """k3 = pi_ref/pi - log(pi_ref/pi) - 1 (R1 eq. 2). On samples of the policy
  its gradient is that of the forward KL(ref || policy)."""
  return _exp(ref_BL - logp_BL) - (ref_BL - logp_BL) - 1


def kl_reverse(logp_BL, old_BL, ref_BL):
  """pi/pi_old * k3 (V3.2): value and gradient of KL(policy || ref), unbiased
  on samples of pi_old too."""
  return _exp(logp_BL - old_BL) * kl_paper(logp_BL, old_BL, ref_BL)


KL = dict(paper=kl_paper, reverse=kl_reverse)


def _clipped(ratio_BL, adv_BL, clip_low, clip_high):
  """min(r A, clip(r) A) and where the clip holds the gradient back."""
  bound_BL = jnp.clip(ratio_BL, 1 - clip_low, 1 + clip_high) * adv_BL
  free_BL = ratio_BL * adv_BL
  return jnp.minimum(free_BL, bound_BL), bound_BL < free_BL


def _total(gain_BL, held_BL, logp_BL, old_BL, ref_BL, weight_BL, beta, kl):
  """-sum w (gain - beta KL), with the sums of the metrics."""
  kl_BL = KL[kl](logp_BL, old_BL, ref_BL)
  total = lambda x_BL: jnp.sum(weight_BL * x_BL)
  loss = -total(gain_BL - beta * kl_BL)
  return loss, dict(
    loss=loss,
    kl=total(kl_BL),
    clip=total(held_BL),
    delta_old=total(jnp.abs(logp_BL - old_BL)),
    weight=jnp.sum(weight_BL),
  )


def grpo_loss(
  logp_BL, old_BL, ref_BL, adv_BL, weight_BL, *, clip_low, clip_high, beta, kl
):
  """-sum w (min(r A, clip(r, 1 - low, 1 + high) A) - beta KL), r per token
  (DeepSeekMath eq. 3; DAPO and Dr. GRPO by weights, clips and advantages)."""
  gain_BL, held_BL = _clipped(
    _exp(logp_BL - old_BL), adv_BL, clip_low, clip_high
  )
  return _total(gain_BL, held_BL, logp_BL, old_BL, ref_BL, weight_BL, beta, kl)


def sequence_loss(
  logp_BL, old_BL, ref_BL, adv_BL, weight_BL, *, clip_low, clip_high, beta, kl
):
  """The same with r = pi(o) / pi_old(o) of the whole output, as R1's eq. 1 is
  written."""
  drawn_BL = weight_BL > 0
  log_B1 = jnp.sum((logp_BL - old_BL) * drawn_BL, axis=1, keepdims=True)
  ratio_BL = jnp.broadcast_to(_exp(log_B1), logp_BL.shape)
  gain_BL, held_BL = _clipped(ratio_BL, adv_BL, clip_low, clip_high)
  return _total(gain_BL, held_BL, logp_BL, old_BL, ref_BL, weight_BL, beta, kl)


def gspo_loss(
  logp_BL, old_BL, ref_BL, adv_BL, weight_BL, *, clip_low, clip_high, beta, kl
):
  """The same with s = exp(mean over tokens of log r) per row, in the token
  form sg[s] pi / sg[pi] (GSPO eq. 5 and 14)."""
  sum_B1 = jnp.sum(weight_BL * (logp_BL - old_BL), axis=1, keepdims=True)
  all_B1 = jnp.sum(weight_BL, axis=1, keepdims=True)
  s_B1 = jax.lax.stop_gradient(_exp(sum_B1 / jnp.where(all_B1 > 0, all_B1, 1)))
  ratio_BL = s_B1 * jnp.exp(logp_BL - jax.lax.stop_gradient(logp_BL))
  gain_BL, held_BL = _clipped(ratio_BL, adv_BL, clip_low, clip_high)
  return _total(gain_BL, held_BL, logp_BL, old_BL, ref_BL, weight_BL, beta, kl)


def cispo_loss(
  logp_BL, old_BL, ref_BL, adv_BL, weight_BL, *, clip_low, clip_high, beta, kl
):
  """-sum w (sg[clip(r, 1 - low, 1 + high)] A log pi - beta KL) (MiniMax-M1
  eq. 4): no token loses its gradient to the clip."""
  ratio_BL = jax.lax.stop_gradient(_exp(logp_BL - old_BL))
  clipped_BL = jnp.clip(ratio_BL, 1 - clip_low, 1 + clip_high)
  gain_BL, held_BL = clipped_BL * adv_BL * logp_BL, clipped_BL != ratio_BL
  return _total(gain_BL, held_BL, logp_BL, old_BL, ref_BL, weight_BL, beta, kl)


OBJECTIVES = dict(
  grpo=grpo_loss, sequence=sequence_loss, gspo=gspo_loss, cispo=cispo_loss
)


def sft_loss(logp_BL, weight_BL):
  """-sum w log pi: the cross entropy of the weighted tokens."""
  loss = -jnp.sum(weight_BL * logp_BL)
  return loss, dict(loss=loss, weight=jnp.sum(weight_BL))


def preference_loss(chosen_B, rejected_B, weight_B):
  """-sum w log sigmoid(s(chosen) - s(rejected)) (Bradley-Terry)."""
  return _binary(chosen_B - rejected_B, weight_B)


def pointwise_loss(score_B, label_B, weight_B):
  """-sum w log p(label), p(1) = sigmoid(score): binary cross entropy."""
  return _binary(jnp.where(label_B > 0, score_B, -score_B), weight_B)


def _binary(logit_B, weight_B):
  """-sum w log sigmoid(logit), with the sums of the metrics."""
  loss = -jnp.sum(weight_B * jax.nn.log_sigmoid(logit_B))
  right = jnp.sum(weight_B * (logit_B > 0))
  return loss, dict(loss=loss, accuracy=right, weight=jnp.sum(weight_B))
