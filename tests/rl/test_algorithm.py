"""The user's own objective, KL, advantages and token weights in an update, and
what is said of functions that cannot be them."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax import errors, losses, user_code
from r1jax.rl import algorithm, grpo, grpo_config

OWN = str(pathlib.Path(__file__).parents[1] / 'own_objective.py') + ':clipped'
C = grpo_config.GrpoConfig(prompts_per_step=4, group_size=3)


def checked(**changes):
  """The config with functions by their names, after its checks."""
  names = {}
  for key, value in changes.items():
    names[key] = user_code.name_of(value) if callable(value) else value
  config = dataclasses.replace(C, **names)
  grpo_config.check(config, 'float32')
  return config


def test_the_clip_bounds_are_given_to_an_objective_that_names_them():
  objective = grpo_config.objective(checked(objective=OWN, clip_low=0.1))
  two = jnp.full((2, 3), 2.0)
  surrogate, _ = objective(jnp.log(two), jnp.zeros((2, 3)), two, two)
  np.testing.assert_allclose(surrogate, 2 * 1.2, rtol=1e-6)
  plain = checked(objective=lambda logp, old, adv, weight: adv * logp)
  np.testing.assert_array_equal(
    grpo_config.objective(plain)(two, two, two, two)[0], 4
  )


def test_an_objective_gets_its_options():
  def scaled(logp_BL, old_BL, adv_BL, weight_BL, size, power=1):
    return size**power * adv_BL * logp_BL

  config = checked(objective=scaled, objective_options=dict(size=3, power=2))
  two = jnp.full((2, 3), 2.0)
  surrogate, metrics = grpo_config.objective(config)(two, two, two, two)
  np.testing.assert_array_equal(surrogate, np.full((2, 3), 36.0))
  assert metrics == {}
  for options, message in (
    ({}, "missing a required argument: 'size'"),
    (dict(size=1, sise=2), "unexpected keyword argument 'sise'"),
  ):
    with pytest.raises(errors.UserError, match=message):
      checked(objective=scaled, objective_options=options)
  with pytest.raises(errors.UserError, match='unexpected keyword .*tau'):
    checked(objective_options=dict(tau=1.0))


def objective(body):
  return lambda logp_BL, old_BL, adv_BL, weight_BL: body(logp_BL)


@pytest.mark.parametrize(
  'given, message',
  [
    (lambda logp_BL, old_BL: logp_BL, r'parameters \(logp_BL, old_BL\)'),
    (objective(jnp.sum), r'is float32\[\]; expected float32\[B, L\]'),
    (objective(lambda x: x.sum(1)), r'is float32\[B\]; expected'),
    (objective(lambda x: x[:, 1:]), r'is float32\[B, 6\]'),
    (objective(lambda x: None), 'is NoneType None'),
    (objective(lambda x: (x, x)), r'is tuple .* and \{metric: array'),
    (objective(lambda x: (x, dict(m=x[0]))), r': m of .* is float32\[L\]'),
    (objective(lambda x: x * 1j), r'is complex64\[B, L\]'),
    (objective(lambda x: x.astype(int)), r'is int32\[B, L\]; expected float'),
    (objective(np.asarray), '(?s)failed on arrays.*TracerArrayConversion'),
    (objective(lambda x: 1 / 0), '(?s)failed on arrays.*ZeroDivisionError'),
    (3, 'is int 3; expected a function'),
  ],
)
def test_what_is_no_objective_is_refused(given, message):
  name = given if isinstance(given, str) else user_code.name_of(given)
  with pytest.raises(errors.UserError, match=message):
    checked(objective=name)


def test_an_own_kl_is_that_of_its_function():
  def k2(logp_BL, old_BL, ref_BL):
    return (logp_BL - ref_BL) ** 2 / 2

  estimator = algorithm.kl_estimator(checked(kl_estimator=k2).kl_estimator)
  np.testing.assert_array_equal(estimator(3.0, 0.0, 1.0), 2.0)
  message = r'kl_estimator: .* \(logp_BL, old_BL, ref_BL\)'
  with pytest.raises(errors.UserError, match=message):
    checked(kl_estimator=lambda x: x)


REWARD_PG = np.array([[0, 1, 5], [2, 2, 1]], np.float32)
KEEP_PG = np.array([[True, True, False], [True, True, True]])


def test_own_advantages_see_the_rewards_and_the_rows_to_keep():
  def mean_of_kept(reward_PG, keep_PG):
    sums_P1 = (reward_PG * keep_PG).sum(1, keepdims=True)
    return reward_PG - sums_P1 / keep_PG.sum(1, keepdims=True)

  name = checked(advantage=mean_of_kept).advantage
  adv_PG = algorithm.advantages(name, REWARD_PG, KEEP_PG, 'population')
  third = np.float32(1 / 3)
  np.testing.assert_allclose(
    adv_PG, [[-0.5, 0.5, 0], [third, third, -2 * third]], rtol=1e-6
  )
  same = algorithm.advantages('group', REWARD_PG, KEEP_PG, 'none')
  np.testing.assert_allclose(adv_PG, same, atol=1e-6)


def test_own_token_weights_are_zero_off_the_mask():
  name = checked(loss_agg=lambda mask_BL: np.ones(mask_BL.shape)).loss_agg
  mask_BL = np.array([[1, 0, 1, 1], [0, 0, 1, 0]], bool)
  np.testing.assert_array_equal(
    algorithm.token_weights(name, mask_BL, 4), mask_BL
  )


@pytest.mark.parametrize(
  'key, given, message',
  [
    ('advantage', lambda r, k: r[0], r'an array \[3\]; expected .* \[2, 3\]'),
    ('advantage', lambda r, k: r / 0, 'not finite'),
    ('loss_agg', lambda m: 1 / (m.sum() - m.sum()) * m, 'not finite'),
    ('advantage', lambda r: r, r'\(reward_PG, keep_PG\) -> adv_PG'),
    ('advantage', lambda r, k: 'high', '(?s)failed.*could not convert'),
    ('loss_agg', lambda m: m.sum(), r'an array \[\]; expected .* \[3, 4\]'),
    ('loss_agg', lambda m: 1 / 0, '(?s)failed.*ZeroDivisionError'),
  ],
)
def test_other_results_are_refused_before_a_run(key, given, message):
  with np.errstate(all='ignore'):
    with pytest.raises(errors.UserError, match=message):
      checked(**{key: given})


def test_the_metrics_of_an_update_are_means_of_its_sums():
  sums = dict(loss=2.0, weight=4.0, grad_norm=1.0, skipped=0, kl=8.0, own=2.0)
  assert grpo.update_metrics(dataclasses.replace(C, kl_coef=0.0), sums) == {
    'loss': 2.0,
    'grad_norm': 1.0,
    'skipped': 0,
    'own': 0.5,
  }
  assert grpo.update_metrics(C, sums)['kl'] == 2.0


def test_the_names_of_the_packages_own_functions_are_complete():
  arrays = [jax.ShapeDtypeStruct((3, 5), jnp.float32)] * 4
  for name in losses.OBJECTIVES:
    out = jax.eval_shape(
      grpo_config.objective(checked(objective=name)), *arrays
    )
    surrogate, metrics = losses.split_surrogate(out)
    assert surrogate.shape == metrics['clip_fraction'].shape == (3, 5)


def test_metrics_of_an_own_objective_cannot_replace_those_of_the_run():
  def own(logp_BL, old_BL, adv_BL, weight_BL):
    return adv_BL, dict(step=old_BL, clip_fraction=logp_BL)

  own.__name__ = own.__qualname__ = 'grpo'  # as one of the package's
  two = jnp.full((2, 3), 2.0)
  _, metrics = grpo_config.objective(checked(objective=own))(two, two, two, two)
  assert metrics.keys() == {'objective/step', 'clip_fraction'}


def test_rows_without_a_token_may_have_any_weight():
  def per_row(mask_BL):
    return mask_BL / mask_BL.sum(axis=1, keepdims=True)

  name = checked(loss_agg=per_row).loss_agg
  mask_BL = np.array([[1, 1, 0], [0, 0, 0]], bool)
  np.testing.assert_array_equal(
    algorithm.token_weights(name, mask_BL, 4), [[0.5, 0.5, 0], [0, 0, 0]]
  )
