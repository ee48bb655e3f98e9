"""The functions of an update that config.grpo names: objective, KL estimator,
advantages and token weights. Each is the package's or the user's own."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from r1jax import errors, losses, user_code
from r1jax.losses import KlEstimator, Objective
from r1jax.user_code import shown_name

OBJECTIVE = '(logp_BL, old_BL, adv_BL, weight_BL) -> surrogate_BL'
KL_ESTIMATOR = '(logp_BL, old_BL, ref_BL) -> kl_BL'
ADVANTAGE = '(reward_PG, keep_PG) -> adv_PG'
TOKEN_WEIGHTS = '(mask_BL) -> weight_BL'
TRIAL = jax.ShapeDtypeStruct((5, 7), jnp.float32)  # [B, L] of a first call


def objective(
  name: str, clips: Mapping[str, float], options: Mapping[str, Any]
) -> Objective:
  """The objective of this name, with the options bound; the clip bounds are
  bound if it has such parameters. Raises UserError unless it maps arrays [B, L]
  to a surrogate [B, L], or to (surrogate, {metric: array [B, L]}). The metrics
  of the user's are called objective/NAME, except clip_fraction."""
  key = 'config.grpo.objective'
  function = user_code.lookup(losses.OBJECTIVES, name, key)
  parameters = _parameters(function)
  bound = {x: clips[x] for x in clips if x in parameters} | dict(options)
  options_key = 'config.grpo.objective_options'
  user_code.check_call(function, name, key, OBJECTIVE, bound, options_key)
  is_own = name not in losses.OBJECTIVES
  function, name = functools.partial(function, **bound), shown_name(name)
  out = _trial(function, name, key, [TRIAL] * 4)
  surrogate, metrics = losses.split_surrogate(out)
  _check_shape(f'{key}: the surrogate of {name}', surrogate)
  for metric, value in metrics.items():
    dtypes = jnp.float32, jnp.int32, jnp.bool_
    _check_shape(f'{key}: {metric} of {name}', value, dtypes)
  if not is_own:
    return function

  def with_prefixed_metrics(logp_BL, old_BL, adv_BL, weight_BL):
    returned = function(logp_BL, old_BL, adv_BL, weight_BL)
    surrogate_BL, metrics = losses.split_surrogate(returned)
    return surrogate_BL, {_metric_name(x): metrics[x] for x in metrics}

  return with_prefixed_metrics


def kl_estimator(name: str) -> KlEstimator:
  """The KL estimator of this name. Raises UserError unless it maps arrays
  [B, L] to an array [B, L]."""
  key = 'config.grpo.kl_estimator'
  function = user_code.lookup(losses.KL_ESTIMATORS, name, key)
  user_code.check_call(function, name, key, KL_ESTIMATOR)
  name = shown_name(name)
  out = _trial(function, name, key, [TRIAL] * 3)
  _check_shape(f'{key}: the result of {name}', out)
  return function


def advantages(
  name: str, reward_PG: np.ndarray, keep_PG: np.ndarray, std: str
) -> np.ndarray:
  """adv_PG: losses.group_advantages if the name is 'group', else the user's
  function of (reward_PG, keep_PG), where rewards that are equal up to rounding
  are made equal. Dropped rows have advantage 0."""
  if name == 'group':
    return np.asarray(_group_advantages(reward_PG, keep_PG, std=std))
  key = 'config.grpo.advantage'
  function = user_code.lookup({'group': None}, name, key)
  user_code.check_call(function, name, key, ADVANTAGE)
  name = shown_name(name)
  equal_P1 = np.asarray(losses.equal_rewards(reward_PG, keep_PG))[:, None]
  max_P1 = np.where(keep_PG, reward_PG, -np.inf).max(axis=1, keepdims=True)
  reward_PG = np.where(equal_P1 & keep_PG, max_P1, reward_PG)
  return _host_array(function, name, key, (reward_PG, keep_PG), keep_PG)


def token_weights(
  name: str, mask_BL: np.ndarray, max_new_tokens: int
) -> np.ndarray:
  """weight_BL: losses.token_weights, or the user's function of mask_BL. Tokens
  that the policy did not sample have weight 0."""
  if name in losses.LOSS_AGGS:
    return np.asarray(
      _token_weights(mask_BL, loss_agg=name, length=max_new_tokens)
    )
  key = 'config.grpo.loss_agg'
  table = dict.fromkeys(losses.LOSS_AGGS)
  function = user_code.lookup(table, name, key)
  user_code.check_call(function, name, key, TOKEN_WEIGHTS)
  name = shown_name(name)
  return _host_array(function, name, key, (mask_BL,), mask_BL)


def check(advantage: str, loss_agg: str, std: str) -> None:
  """Tries the user's advantages and token weights on small arrays: raises
  UserError if they fail or return other shapes."""
  if advantage != 'group':
    reward_PG = np.array([[0, 1, 0.5], [1, 1, 1]], np.float32)
    keep_PG = np.array([[True, True, False], [True, True, True]])
    advantages(advantage, reward_PG, keep_PG, std)
  if loss_agg not in losses.LOSS_AGGS:
    mask_BL = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool)
    token_weights(loss_agg, mask_BL, 4)


def _metric_name(name):
  return name if name == 'clip_fraction' else f'objective/{name}'


def _parameters(function):
  """The names of a function's parameters; none of what is no function."""
  return inspect.signature(function).parameters if callable(function) else ()


def _trial(function, name, key, shapes):
  """The shapes that the function returns."""
  try:
    return jax.eval_shape(function, *shapes)
  except Exception as error:
    sentence = f'{key}: {name} failed on arrays [B, L] of float32'
    raise user_code.failure(sentence, error) from error


def _check_shape(what, value, dtypes=(jnp.float32,)):
  """Raises UserError unless the value is an array [B, L] of these dtypes."""
  if isinstance(value, jax.ShapeDtypeStruct):
    if value.shape == TRIAL.shape and value.dtype in dtypes:
      return
    names = {TRIAL.shape[0]: 'B', TRIAL.shape[1]: 'L'}
    sizes = [names.get(size, str(size)) for size in value.shape]
    found = f'{value.dtype}[{", ".join(sizes)}]'
  else:
    found = user_code.describe(value)
  raise errors.UserError(
    f'{what} is {found}; expected float32[B, L], a number for each token '
    '(an objective may also return that and {metric: array [B, L]})'
  )


def _host_array(function, name, key, arguments, mask):
  """The float32 array of the user's function, of the shape of the mask; 0 where
  the mask is False."""
  try:
    with np.errstate(invalid='ignore', divide='ignore'):
      array = np.asarray(function(*arguments), np.float32)
  except Exception as error:
    raise user_code.failure(f'{key}: {name} failed', error) from error
  if array.shape != mask.shape:
    raise errors.UserError(
      f'{key}: {name} returned an array {list(array.shape)}; expected the '
      f'shape of its argument, {list(mask.shape)}'
    )
  array = np.where(mask, array, 0)
  if not np.isfinite(array).all():
    raise errors.UserError(
      f'{key}: {name} returned numbers that are not finite'
    )
  return array


_group_advantages = jax.jit(losses.group_advantages, static_argnames='std')
_token_weights = jax.jit(
  losses.token_weights, static_argnames=('loss_agg', 'length')
)
