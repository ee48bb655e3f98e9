"""From the rewards of a rollout to its advantages, and the groups that have
none (DeepSeekMath 4.1.2; DAPO)."""

import numpy as np

from r1jax import losses
from r1jax.rewards import penalties
from r1jax.rl import algorithm, grpo, grpo_config
from r1jax.sampling.decode import SampledRows


def shape_rewards(
  config: grpo_config.GrpoConfig,
  rows: SampledRows,
  reward_N: np.ndarray,
  max_new_tokens: int,
) -> np.ndarray:
  """The rewards with the soft length penalty (DAPO). NaN stays NaN."""
  if not config.overlong_buffer:
    return reward_N
  return reward_N + penalties.soft_overlong(
    rows.mask_BL.sum(axis=1), max_new_tokens, config.overlong_buffer
  )


def rows_to_learn(
  config: grpo_config.GrpoConfig, rows: SampledRows, reward_N: np.ndarray
) -> np.ndarray:
  """Which rows are in the loss: those with a reward and, with overlong_filter,
  not truncated (DAPO). bool [N]."""
  learn_N = ~np.isnan(reward_N)
  if config.overlong_filter:
    learn_N &= rows.finished_B
  return learn_N


def of_rollout(
  config: grpo_config.GrpoConfig,
  rows: SampledRows,
  reward_N: np.ndarray,
  max_new_tokens: int,
) -> tuple[np.ndarray, np.ndarray]:
  """(adv_N, learn_N) of a rollout: its advantages, and which rows are in the
  loss."""
  learn_N = rows_to_learn(config, rows, reward_N)
  shaped_N = shape_rewards(config, rows, reward_N, max_new_tokens)
  return of_rewards(config, shaped_N, learn_N), learn_N


def of_rewards(
  config: grpo_config.GrpoConfig, reward_N: np.ndarray, learn_N: np.ndarray
) -> np.ndarray:
  """adv_N, 0 for rows that are not in the loss. The mean and the standard
  deviation of a group are those of all its rows that have a reward: DAPO masks
  the loss of truncated rows only."""
  adv_PG = algorithm.advantages(
    config.advantage,
    np.nan_to_num(reward_N).reshape(-1, config.group_size),
    ~np.isnan(reward_N).reshape(-1, config.group_size),
    config.advantage_std,
  )
  return np.where(learn_N, adv_PG.ravel(), 0).astype(np.float32)


def add(
  batch: grpo.Batch, adv_N: np.ndarray, learn_N: np.ndarray
) -> grpo.Batch:
  """The batch with adv_BL. The mask of rows not to learn is set to False."""
  mask_BL = batch['mask_BL'] & learn_N[:, None]
  return dict(batch, mask_BL=mask_BL, adv_BL=adv_N[:, None] * mask_BL)


def dead_groups(
  config: grpo_config.GrpoConfig,
  rows: SampledRows,
  reward_N: np.ndarray,
  max_new_tokens: int,
) -> np.ndarray:
  """Which groups have no advantage, up to rounding, in any row of the loss:
  bool [P]. Asked of the rewards with and without the soft length penalty: a
  group that is all right or all wrong is dead whatever the lengths (DAPO)."""
  learn_N = rows_to_learn(config, rows, reward_N)
  shaped_N = shape_rewards(config, rows, reward_N, max_new_tokens)
  dead_P = _without_advantage(config, reward_N, learn_N)
  if config.overlong_buffer:
    dead_P |= _without_advantage(config, shaped_N, learn_N)
  return dead_P


def _without_advantage(config, reward_N, learn_N):
  """Which groups have advantages of the size of rounding only: those of equal
  rewards below EQUAL_REWARDS, those of rows on the mean of the others."""
  adv_N = of_rewards(config, reward_N, np.ones_like(learn_N))
  size_PG = abs(adv_N).reshape(-1, config.group_size)
  learnt_PG = np.where(learn_N.reshape(size_PG.shape), size_PG, 0)
  reward_PG = np.nan_to_num(reward_N).reshape(size_PG.shape)
  judged_PG = ~np.isnan(reward_N).reshape(size_PG.shape)
  equal_P = np.asarray(losses.equal_rewards(reward_PG, judged_PG))
  reward_size_P = abs(reward_PG).max(axis=1)
  rounding_P = losses.EQUAL_REWARDS * np.where(
    equal_P, np.maximum(reward_size_P, 1), size_PG.max(axis=1)
  )
  return learnt_PG.max(axis=1) <= rounding_P
