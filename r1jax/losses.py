"""The GRPO family, its advantages, token weights and KL, SFT and reward models:
arrays in, (scalar, metrics) out.

Every loss is a sum of weight * term without a denominator, so the losses of
micro-batches and devices sum to that of the batch. Metrics are sums of weight *
x together with 'weight', the sum of the weights; the host divides.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Metrics = dict[str, Array]
# The value to maximise [B, L], and per-token arrays whose means are metrics.
Surrogate = tuple[Array, Metrics]
# (logp_BL, old_BL, adv_BL, weight_BL, options) -> Surrogate, or its value.
Objective = Callable[..., Surrogate | Array]
# (logp_BL, old_BL, ref_BL) -> kl_BL; all are 0 where a token has no weight.
KlEstimator = Callable[[Array, Array, Array], Array]

LOSS_AGGS = 'seq_mean_token_mean', 'token_mean', 'seq_mean_token_sum_norm'

# Ratios are exponentials of log ratios clamped to +-MAX_LOG_RATIO.
MAX_LOG_RATIO = 20.0
# Rewards of a group that differ by less, relative to max(1, max |r|), are
# equal: sums and scores in float32 differ by rounding.
EQUAL_REWARDS = 1e-5


@jax.jit
def equal_rewards(reward_PG: ArrayLike, keep_PG: ArrayLike) -> Array:
  """Whether the kept rewards of a group are equal up to rounding: bool [P].
  max r - min r <= EQUAL_REWARDS * max(1, max |r|)."""
  reward_PG, keep_PG = jnp.asarray(reward_PG), jnp.asarray(keep_PG) > 0
  max_P = jnp.where(keep_PG, reward_PG, -jnp.inf).max(axis=1)
  min_P = jnp.where(keep_PG, reward_PG, jnp.inf).min(axis=1)
  size_P = jnp.where(keep_PG, jnp.abs(reward_PG), 0).max(axis=1)
  # In this form a group without kept rewards, whose max is -inf, is equal.
  return max_P <= min_P + EQUAL_REWARDS * jnp.maximum(size_P, 1)


def group_advantages(reward_PG: Array, keep_PG: Array, std: str) -> Array:
  """(r - mean r) / std r within each group (DeepSeekMath 4.1.2); no division
  with std 'none' (Dr. GRPO, V3.2).

  Rows dropped by keep_PG have advantage 0 and are not in the statistics. A
  group of equal_rewards has advantage exactly 0. float32; the rewards are
  centred on the first kept one, so that a large common part costs no digits.
  """
  reward_PG = jnp.where(keep_PG > 0, reward_PG, 0)
  equal_P1 = equal_rewards(reward_PG, keep_PG)[:, None]
  first_P1 = jnp.argmax(keep_PG > 0, axis=1)[:, None]
  origin_P1 = jnp.take_along_axis(reward_PG, first_P1, axis=1)
  keep_PG = keep_PG.astype(jnp.float32)
  count_P1 = jnp.maximum(keep_PG.sum(axis=1, keepdims=True), 1)
  centred_PG = (reward_PG - origin_P1) * keep_PG
  mean_P1 = centred_PG.sum(axis=1, keepdims=True) / count_P1
  centred_PG = jnp.where(equal_P1, 0, (centred_PG - mean_P1) * keep_PG)
  if std == 'none':
    return centred_PG
  if std == 'sample':
    count_P1 = jnp.maximum(count_P1 - 1, 1)
  else:
    assert std == 'population', std
  # Relative to the largest, so that no square overflows.
  size_P1 = jnp.abs(centred_PG).max(axis=1, keepdims=True)
  relative_PG = centred_PG / jnp.where(equal_P1, 1, size_P1)
  variance_P1 = (relative_PG**2).sum(axis=1, keepdims=True) / count_P1
  return relative_PG / jnp.where(equal_P1, 1, jnp.sqrt(variance_P1))


def token_weights(mask_BL: Array, loss_agg: str, length: int = 0) -> Array:
  """One weight a token from the mask of the whole batch, all hosts' rows.

  'seq_mean_token_mean': mean over rows of the mean over their tokens,
  1 / (N |o_i|) (DeepSeekMath eq. 3). 'token_mean': mean over tokens,
  1 / sum |o_i| (DAPO). 'seq_mean_token_sum_norm': 1 / (N length) (Dr. GRPO).
  N counts the rows with any token, so rows with an all-zero mask are not in
  the denominator either.
  """
  mask_BL = mask_BL.astype(jnp.float32)
  tokens_B1 = mask_BL.sum(axis=1, keepdims=True)
  rows = jnp.maximum((tokens_B1 > 0).sum(), 1)
  if loss_agg == 'seq_mean_token_mean':
    return mask_BL / jnp.maximum(tokens_B1, 1) / rows
  if loss_agg == 'token_mean':
    return mask_BL / jnp.maximum(tokens_B1.sum(), 1)
  assert loss_agg == 'seq_mean_token_sum_norm', loss_agg
  return mask_BL / (rows * length)


def truncated_importance_weights(
  old_BL: Array, sampler_BL: Array, cap: float
) -> Array:
  """min(pi_old / pi_sampler, cap), without gradient: a factor on the advantages
  where the trainer's and the sampler's log-probabilities differ (TIS)."""
  return jax.lax.stop_gradient(jnp.minimum(_exp(old_BL - sampler_BL), cap))


def k3(logp_BL: Array, old_BL: Array, ref_BL: Array) -> Array:
  """pi_ref/pi - log(pi_ref/pi) - 1 (R1 eq. 2; Schulman's k3).

  On samples of the policy its gradient is that of the forward KL(ref || pi).
  Where log(pi_ref/pi) > MAX_LOG_RATIO the value is that at MAX_LOG_RATIO, and
  the gradient is 0.
  """
  return _k3_of_log_ratio(ref_BL - logp_BL)


def k3_unbiased(logp_BL: Array, old_BL: Array, ref_BL: Array) -> Array:
  """pi/pi_old * k3 (V3.2), with the gradient pi/pi_old * log(pi/pi_ref).

  The ratio corrects each token's own distribution, not that of the tokens
  before it: given a prefix that pi_old sampled, value and gradient are unbiased
  for KL(pi || ref) of the next token. Within a rollout of several updates, the
  prefixes remain those of pi_old.
  """
  fixed_BL = jax.lax.stop_gradient(logp_BL)
  ratio_BL = _exp(fixed_BL - old_BL)
  slope_BL = ratio_BL * (fixed_BL - ref_BL)
  # The written gradient: that of the value would be the difference of two
  # exponentials, which are clamped separately.
  value_BL = ratio_BL * k3(fixed_BL, old_BL, ref_BL)
  return value_BL + slope_BL * (logp_BL - fixed_BL)


def k3_sequence(logp_BL: Array, old_BL: Array, ref_BL: Array) -> Array:
  """k3 of whole outputs, pi_ref(o)/pi(o) - log(pi_ref(o)/pi(o)) - 1, the same
  number for each token (R1 eq. 1 and 2, with the objective 'sequence' and
  loss_agg 'seq_mean_token_mean'). Long outputs reach MAX_LOG_RATIO soon."""
  log_B1 = jnp.sum(ref_BL - logp_BL, axis=1, keepdims=True)
  return jnp.broadcast_to(_k3_of_log_ratio(log_B1), logp_BL.shape)


KL_ESTIMATORS: dict[str, KlEstimator] = dict(
  k3=k3, k3_unbiased=k3_unbiased, k3_sequence=k3_sequence
)


def grpo(
  logp_BL: Array,
  old_BL: Array,
  adv_BL: Array,
  weight_BL: Array,
  clip_low: float,
  clip_high: float,
) -> Surrogate:
  """min(r A, clip(r, 1 - low, 1 + high) A) with r = pi / pi_old of each token
  (DeepSeekMath eq. 3; DAPO and Dr. GRPO by weights, clips and advantages)."""
  return _clip(_exp(logp_BL - old_BL), adv_BL, clip_low, clip_high)


def sequence(
  logp_BL: Array,
  old_BL: Array,
  adv_BL: Array,
  weight_BL: Array,
  clip_low: float,
  clip_high: float,
) -> Surrogate:
  """The surrogate of grpo with r = pi / pi_old of a whole output (R1 eq. 1)."""
  sampled_BL = weight_BL > 0
  log_B1 = jnp.sum((logp_BL - old_BL) * sampled_BL, axis=1, keepdims=True)
  ratio_BL = jnp.broadcast_to(_exp(log_B1), logp_BL.shape)
  return _clip(ratio_BL, adv_BL, clip_low, clip_high)


def gspo(
  logp_BL: Array,
  old_BL: Array,
  adv_BL: Array,
  weight_BL: Array,
  clip_low: float,
  clip_high: float,
) -> Surrogate:
  """The surrogate of grpo with s = exp(mean over tokens of log r) of each row,
  in the token form sg[s] pi / sg[pi] (GSPO eq. 5 and 14)."""
  sum_B1 = jnp.sum(weight_BL * (logp_BL - old_BL), axis=1, keepdims=True)
  total_B1 = jnp.sum(weight_BL, axis=1, keepdims=True)
  mean_B1 = sum_B1 / jnp.where(total_B1 > 0, total_B1, 1)
  s_B1 = jax.lax.stop_gradient(_exp(mean_B1))
  ratio_BL = s_B1 * jnp.exp(logp_BL - jax.lax.stop_gradient(logp_BL))
  return _clip(ratio_BL, adv_BL, clip_low, clip_high)


def cispo(
  logp_BL: Array,
  old_BL: Array,
  adv_BL: Array,
  weight_BL: Array,
  clip_low: float,
  clip_high: float,
) -> Surrogate:
  """sg[clip(r, 1 - low, 1 + high)] A log pi (MiniMax-M1 eq. 4): clipping
  does not stop the gradient of any token."""
  ratio_BL = jax.lax.stop_gradient(_exp(logp_BL - old_BL))
  bounded_BL = jnp.clip(ratio_BL, 1 - clip_low, 1 + clip_high)
  clipped_BL = bounded_BL != ratio_BL
  return bounded_BL * adv_BL * logp_BL, dict(clip_fraction=clipped_BL)


OBJECTIVES: dict[str, Objective] = dict(
  grpo=grpo, sequence=sequence, gspo=gspo, cispo=cispo
)


def split_surrogate(returned: Any) -> tuple[Any, Metrics]:
  """(surrogate, metrics) of what an objective returned, {} if it has none."""
  if isinstance(returned, tuple) and len(returned) == 2:
    surrogate, metrics = returned
    if isinstance(metrics, dict):
      return surrogate, metrics
  return returned, {}


def policy_loss(
  objective: Objective,
  logp_BL: Array,
  old_BL: Array,
  ref_BL: Array,
  adv_BL: Array,
  weight_BL: Array,
  entropy_BL: Array | float = 0.0,
  *,
  kl_coef: float,
  kl_estimator: KlEstimator,
  entropy_bonus: float = 0.0,
) -> tuple[Array, Metrics]:
  """-sum w (surrogate - kl_coef KL + entropy_bonus H), and the sums of metrics.

  H is the entropy of the distribution that each token was sampled from. The
  objective's options are bound (functools.partial).
  """
  surrogate_BL, metrics = split_surrogate(
    objective(logp_BL, old_BL, adv_BL, weight_BL)
  )
  sampled_BL = weight_BL > 0
  kl_BL = kl_estimator(
    jnp.where(sampled_BL, logp_BL, 0),
    jnp.where(sampled_BL, old_BL, 0),
    jnp.where(sampled_BL, ref_BL, 0),
  )
  objective_BL = surrogate_BL - kl_coef * kl_BL
  if entropy_bonus:
    objective_BL += entropy_bonus * entropy_BL
  loss = -jnp.sum(weight_BL * objective_BL)
  sums = {name: jnp.sum(weight_BL * x_BL) for name, x_BL in metrics.items()}
  return loss, sums | dict(
    loss=loss,
    kl=jnp.sum(weight_BL * kl_BL),
    old_logp_difference=jnp.sum(weight_BL * jnp.abs(logp_BL - old_BL)),
    weight=jnp.sum(weight_BL),
  )


def sft_loss(logp_BL: Array, weight_BL: Array) -> tuple[Array, Metrics]:
  """-sum w log pi: the cross entropy of the weighted tokens."""
  loss = -jnp.sum(weight_BL * logp_BL)
  return loss, dict(loss=loss, weight=jnp.sum(weight_BL))


def preference_loss(
  chosen_B: Array, rejected_B: Array, weight_B: Array
) -> tuple[Array, Metrics]:
  """-sum w log sigmoid(s(chosen) - s(rejected)) (Bradley-Terry)."""
  return _binary_loss(chosen_B - rejected_B, weight_B)


def pointwise_loss(
  score_B: Array, label_B: Array, weight_B: Array
) -> tuple[Array, Metrics]:
  """-sum w log p(label), p(1) = sigmoid(score): binary cross entropy."""
  return _binary_loss(jnp.where(label_B > 0, score_B, -score_B), weight_B)


def _binary_loss(logit_B, weight_B):
  """-sum w log sigmoid(logit), with the sums of metrics."""
  loss = -jnp.sum(weight_B * jax.nn.log_sigmoid(logit_B))
  accuracy = jnp.sum(weight_B * (logit_B > 0))
  return loss, dict(loss=loss, accuracy=accuracy, weight=jnp.sum(weight_B))


@jax.custom_jvp
def _exp(log_ratio):
  """exp of the clamped log ratio, which is also its derivative everywhere: an
  extreme ratio keeps the sign of its gradient, and a bounded size."""
  return jnp.exp(jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))


@_exp.defjvp
def _exp_jvp(primals, tangents):
  ratio = _exp(*primals)
  return ratio, ratio * tangents[0]


def _k3_of_log_ratio(log_ratio):
  """exp(d) - d - 1, constant above MAX_LOG_RATIO."""
  log_ratio = jnp.minimum(log_ratio, MAX_LOG_RATIO)
  return jnp.exp(log_ratio) - log_ratio - 1


def _clip(ratio_BL, adv_BL, clip_low, clip_high):
  """min(r A, clip(r) A), with the tokens where clipping stops the gradient."""
  clipped_BL = jnp.clip(ratio_BL, 1 - clip_low, 1 + clip_high) * adv_BL
  unclipped_BL = ratio_BL * adv_BL
  active_BL = clipped_BL < unclipped_BL
  surrogate_BL = jnp.minimum(unclipped_BL, clipped_BL)
  return surrogate_BL, dict(clip_fraction=active_BL)
