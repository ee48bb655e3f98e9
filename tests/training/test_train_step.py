"""The optimiser step: its schedule, clipping, skipped updates and buffers."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from r1jax import config as configs
from r1jax import errors
from r1jax.distributed import device_placement
from r1jax.models import token_logprobs, transformer
from r1jax.models.families import llama
from r1jax.training import gradients, optimizer, train_step

OPTIM = optimizer.OptimConfig(lr=0.1, clip_norm=1e9)


def loss_fn(params, batch):
  """Linear regression, summed."""
  error_B = batch['x'] @ params['w'] + params['b'] - batch['y']
  loss = jnp.sum(error_B**2)
  return loss, dict(loss=loss, weight=jnp.float32(error_B.size))


def params():
  return dict(w=jnp.array([1.0, -2.0, 0.5]), b=jnp.array([0.25]))


def batch(rows=4):
  random = np.random.default_rng(0)
  x = random.standard_normal((rows, 3), np.float32)
  return dict(x=x, y=random.standard_normal(rows, np.float32))


def make_step(loss_fn, tx):
  """A compiled (state, batch) -> (state, sums) on one device."""

  @jax.jit
  def step(state, batch):
    grads, sums = gradients.gradient(loss_fn, state.params, batch)
    return train_step.apply_gradient(tx, state, grads, sums)

  return step


def make_apply(tx):
  """A compiled (state, grads) -> (state, sums)."""

  @jax.jit
  def apply(state, grads):
    return train_step.apply_gradient(tx, state, grads, dict(loss=jnp.ones(())))

  return apply


def assert_equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def nan_loss(params, batch):
  loss, sums = loss_fn(params, batch)
  return loss, sums | dict(loss=loss + jnp.nan * batch['y'].sum())


def infinite_gradient(params, batch):
  loss, sums = loss_fn(params, batch)
  return loss + jnp.sqrt(jnp.sum(params['b'] - params['b'])), sums


@pytest.mark.parametrize('broken', [nan_loss, infinite_gradient])
def test_a_step_that_is_not_finite_changes_nothing_and_counts(broken):
  tx = optimizer.optimizer(OPTIM, 10)
  good, bad = make_step(loss_fn, tx), make_step(broken, tx)
  state, _ = good(train_step.init_state(params(), tx), batch())
  before = jax.tree.map(np.array, (state.params, state.opt_state))
  for count in (1, 2):
    state, sums = bad(state, batch())
    same = without_schedule(state.opt_state), without_schedule(before[1])
    assert_equal((state.params, same[0]), (before[0], same[1]))
    assert state.skipped == sums['skipped'] == count
    assert state.step == 1 + count
  state, sums = good(state, batch())
  assert state.skipped == sums['skipped'] == 0
  assert not np.array_equal(state.params['w'], before[0]['w'])
  assert optax.tree_utils.tree_get(state.opt_state, 'mu')['w'].any()


def test_one_infinite_element_is_enough():
  tx = optimizer.optimizer(dataclasses.replace(OPTIM, clip_norm=1.0), 10)
  state = train_step.init_state(params(), tx)
  grads = dict(w=jnp.array([1.0, jnp.inf, 0.0]), b=jnp.zeros(1))
  new, _ = make_apply(tx)(state, grads)
  assert_equal(new.params, state.params)
  assert_equal(*map(without_schedule, (new.opt_state, state.opt_state)))
  assert new.skipped == 1


def without_schedule(opt_state):
  """The optimiser's state without the counts of its schedules."""

  def is_schedule(node):
    return isinstance(node, optax.ScaleByScheduleState)

  nodes = jax.tree.leaves(opt_state, is_leaf=is_schedule)
  return [node for node in nodes if not is_schedule(node)]


def root_without_eps(gradients, moment, params=None):
  """RMSProp with eps = 0: a zero gradient gives 0 / 0."""
  moment = jax.tree.map(lambda g, m: 0.9 * m + 0.1 * g**2, gradients, moment)
  return jax.tree.map(lambda g, m: g / m**0.5, gradients, moment), moment


def overflowing_state(gradients, state, params=None):
  return jax.tree.map(jnp.zeros_like, gradients), state * 1e30


BROKEN = [
  optax.GradientTransformation(
    lambda params: jax.tree.map(jnp.zeros_like, params), root_without_eps
  ),
  optax.GradientTransformation(
    lambda params: jnp.float32(1e30), overflowing_state
  ),
]


@pytest.mark.parametrize('tx', BROKEN)
def test_a_finite_gradient_that_an_optimiser_turns_into_nan_is_skipped(tx):
  state = train_step.init_state(params(), tx)
  zero = jax.tree.map(jnp.zeros_like, state.params)
  new, sums = make_apply(tx)(state, zero)
  assert_equal((new.params, new.opt_state), (state.params, state.opt_state))
  assert new.skipped == sums['skipped'] == 1 and sums['grad_norm'] == 0


def test_an_optimiser_state_may_begin_with_an_infinity():
  def update(gradients, best, params=None):
    return gradients, best

  tx = optax.GradientTransformation(lambda params: jnp.float32('inf'), update)
  state = train_step.init_state(params(), tx)
  new, _ = make_apply(tx)(state, jax.tree.map(jnp.ones_like, state.params))
  assert new.skipped == 0 and new.opt_state == np.inf


@pytest.mark.parametrize('clip_norm, size', [(0.0, 5.0), (1.0, 1.0)])
def test_a_clip_norm_of_0_is_no_clipping(clip_norm, size):
  tx = optimizer.optimizer(dataclasses.replace(OPTIM, clip_norm=clip_norm), 10)
  state = train_step.init_state(params(), tx)
  grads = jax.tree.map(jnp.zeros_like, state.params)
  grads['w'] = grads['w'].at[0].set(5.0)
  new, _ = make_apply(tx)(state, grads)
  mu = optax.tree_utils.tree_get(new.opt_state, 'mu')['w'][0]
  np.testing.assert_allclose(mu, (1 - OPTIM.b1) * size, rtol=1e-6)
  new, _ = make_apply(tx)(new, jax.tree.map(jnp.zeros_like, grads))
  assert new.skipped == 0
  assert np.isfinite(new.params['w']).all()


@pytest.mark.parametrize(
  'make', [optax.sgd, optax.inject_hyperparams(optax.sgd)]
)
def test_after_a_skipped_update_the_rate_is_that_of_its_step(make):
  """Plain gradient descent, whose changes are the rate."""
  changes = dict(warmup=2, schedule='cosine', final=0.25)
  schedule = optimizer.learning_rate(dataclasses.replace(OPTIM, **changes), 6)
  tx = make(learning_rate=schedule)
  apply, state = make_apply(tx), train_step.init_state(params(), tx)
  ones = jax.tree.map(jnp.ones_like, state.params)
  bad = jax.tree.map(lambda x: x * jnp.nan, ones)
  for step in range(6):
    before = state.params['w'][0]
    state, _ = apply(state, bad if step in (1, 3) else ones)
    want = 0 if step in (1, 3) else schedule(step)
    got = before - state.params['w'][0]
    np.testing.assert_allclose(got, want, atol=1e-6)
  assert want < 0.4 * OPTIM.lr  # near the end of the cosine


def rates(steps, at, **changes):
  schedule = optimizer.learning_rate(
    dataclasses.replace(OPTIM, **changes), steps
  )
  return np.array([schedule(t) for t in at])


def test_the_warm_up_is_linear_and_then_constant():
  got = rates(100, [0, 1, 2, 3, 4, 5, 99], warmup=4)
  np.testing.assert_allclose(
    got, [0, 0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rtol=1e-6
  )
  np.testing.assert_allclose(rates(100, [0, 99]), 0.1, rtol=1e-6)


def test_the_cosine_ends_at_a_fraction_of_the_peak():
  got = rates(20, [4, 12, 20, 25], warmup=4, schedule='cosine', final=0.2)
  np.testing.assert_allclose(got, [0.1, 0.06, 0.02, 0.02], rtol=1e-6)
  falling = rates(20, range(4, 21), warmup=4, schedule='cosine', final=0.2)
  assert (np.diff(falling) < 0).all()


def test_the_warm_up_ends_within_the_run():
  assert rates(5, [4], warmup=4)[0] == pytest.approx(OPTIM.lr)
  for warmup in (5, 6, 100):
    with pytest.raises(errors.UserError, match='set warmup to 4 or less'):
      rates(5, [0], warmup=warmup)


@pytest.mark.parametrize(
  'key, value',
  [
    ('eps', 0.0),
    ('eps', -1e-8),
    ('eps', 1e-46),
    ('b1', 1.0),
    ('b2', 1.0),
    ('b2', -0.1),
    ('final', 1.5),
    ('final', -0.1),
    ('weight_decay', -0.1),
    ('clip_norm', -1.0),
    ('lr', math.inf),
    ('lr', math.nan),
    ('clip_norm', math.inf),
  ],
)
def test_values_that_adamw_cannot_divide_by_are_refused(key, value):
  settings = configs.defaults(optimizer.OptimConfig)
  with settings.ignore_type():
    settings[key] = value
  with pytest.raises(errors.UserError, match=f'config.{key} is'):
    configs.build(optimizer.OptimConfig, settings)


@pytest.mark.parametrize('count', [1, 4])
def test_the_schedule_advances_once_a_step_however_many_micro_batches(count):
  config = dataclasses.replace(OPTIM, warmup=3)
  tx = optimizer.optimizer(config, 10)
  placement = device_placement.placement(
    device_placement.ParallelConfig(), jax.devices()[:1]
  )
  updates = train_step.update_programs(placement, loss_fn, tx)
  state = train_step.create_state(placement, params(), tx)
  whole = batch(8)
  micro_batches = [
    {name: x[i::count] for name, x in whole.items()} for i in range(count)
  ]

  gradient = jax.jit(jax.grad(lambda p: loss_fn(p, whole)[0]))
  by_hand = params()
  moments = optax.scale_by_adam(config.b1, config.b2, config.eps)
  opt = moments.init(by_hand)
  for rate in (0, 0.1 / 3, 0.2 / 3, 0.1, 0.1):
    state, _ = train_step.update(placement, updates, state, micro_batches)
    grads = gradient(by_hand)
    changes, opt = moments.update(grads, opt)
    by_hand = jax.tree.map(lambda p, u: p - rate * u, by_hand, changes)
    for a, b in zip(*map(jax.tree.leaves, (state.params, by_hand))):
      np.testing.assert_allclose(a, b, rtol=1e-5)
  assert state.step == 5
  counts = optax.tree_utils.tree_get_all_with_path(state.opt_state, 'count')
  assert counts and all(value == 5 for _, value in counts)


def test_gradients_are_clipped_as_one_vector_in_float32():
  """The first moment after a step is (1 - b1) times the clipped gradient."""
  tx = optimizer.optimizer(dataclasses.replace(OPTIM, clip_norm=0.5), 10)
  state = train_step.init_state(params(), tx)
  grads = dict(w=jnp.array([3.0, 0.0, -4.0]), b=jnp.array([12.0]))
  state, sums = make_apply(tx)(state, grads)
  assert sums['grad_norm'] == 13
  mu = optax.tree_utils.tree_get(state.opt_state, 'mu')
  for g, m in zip(*map(jax.tree.leaves, (grads, mu))):
    assert m.dtype == jnp.float32
    np.testing.assert_allclose(m, (1 - OPTIM.b1) * g * 0.5 / 13, rtol=1e-6)


def test_gradients_and_moments_of_a_bfloat16_model_are_float32():
  cfg = llama.Config(
    vocab_size=11,
    width=6,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=4,
    ffn=5,
    dtype='bfloat16',
  )

  def loss_fn(params, batch):
    loss = -token_logprobs.logprobs(params, cfg, *batch)[0].sum()
    return loss, dict(loss=loss)

  def run():
    params = transformer.init(jax.random.key(0), cfg)
    state = train_step.init_state(params, optimizer.optimizer(OPTIM, 10))
    batch = jnp.array([[3, 1, 4]]), jnp.arange(3)[None]
    return (
      gradients.gradient(loss_fn, params, batch),
      state.params,
      state.opt_state,
    )

  dtypes = {a.dtype for a in jax.tree.leaves(jax.eval_shape(run))}
  assert dtypes == {jnp.dtype('float32'), jnp.dtype('int32')}


def updates_of(**changes):
  """AdamW's changes of 500 parameters in 150 updates, whose gradients become
  ten times smaller."""
  config = dataclasses.replace(OPTIM, lr=1.0, **changes)
  tx = optimizer.optimizer(config, 150)
  noise = np.random.default_rng(0).standard_normal((150, 500), np.float32)
  grads = (noise + 0.1) * np.where(np.arange(150) < 50, 1.0, 0.1)[:, None]

  params = {'w': jnp.zeros(500)}

  def body(state, grad):
    changes, state = tx.update({'w': grad}, state, params)
    return state, changes['w']

  state, found = jax.lax.scan(body, tx.init(params), grads)
  return jax.tree.leaves(state), np.array(found)


@pytest.mark.parametrize('b2', [0.95, optimizer.MAX_BFLOAT16_DECAY])
def test_updates_with_bfloat16_moments_are_within_1_percent(b2):
  _, want = updates_of(b2=b2)
  state, found = updates_of(b2=b2, moments_dtype='bfloat16')
  assert [x.dtype for x in state if x.ndim] == [jnp.bfloat16] * 2
  error = np.sqrt(np.mean((found - want) ** 2) / np.mean(want**2))
  assert 0 < error < 0.01


@pytest.mark.parametrize(
  'changes', [dict(b2=0.999), dict(b1=0.99), dict(optimizer='optax:lion')]
)
def test_bfloat16_moments_are_refused_where_they_would_not_move(changes):
  config = dataclasses.replace(OPTIM, moments_dtype='bfloat16', **changes)
  with pytest.raises(
    errors.UserError, match='may be bfloat16 for adamw with b1'
  ):
    optimizer.optimizer(config, 10)


FACTORED = dataclasses.replace(OPTIM, second_moment='factored', eps=1e-3)


def matrix_and_vector(seed):
  noise = np.random.default_rng(seed).standard_normal
  return dict(
    down=jnp.float32(noise((2, 130, 128)) ** 3), norm=jnp.float32(noise((2, 3)))
  )


def test_updates_with_factored_moments_are_those_by_hand():
  config = dataclasses.replace(FACTORED, weight_decay=0.1)
  old = matrix_and_vector(0)
  state = train_step.init_state(old, optimizer.optimizer(config, 10))
  mean = dict(down=0.0, norm=0.0)
  rows, columns, norm = 0.0, 0.0, 0.0
  b1, b2 = config.b1, config.b2
  by_hand = jax.tree.map(np.float64, old)
  for t in (1, 2, 3):
    grads = matrix_and_vector(t)
    state, _ = make_apply(optimizer.optimizer(config, 10))(state, grads)
    down, squares = (np.float64(grads['down']), np.float64(grads['down']) ** 2)
    rows = b2 * rows + (1 - b2) * (squares + config.eps**2).mean(2)
    columns = b2 * columns + (1 - b2) * (squares + config.eps**2).mean(1)
    norm = b2 * norm + (1 - b2) * (np.float64(grads['norm']) ** 2)
    v = rows[:, :, None] * columns[:, None] / rows.mean(1)[:, None, None]
    scaled = dict(down=down / (v / (1 - b2**t)) ** 0.5)
    scaled['norm'] = grads['norm'] / (norm / (1 - b2**t) + config.eps**2) ** 0.5
    for name, x in scaled.items():
      mean[name] = b1 * mean[name] + (1 - b1) * x
      change = mean[name] / (1 - b1**t) + 0.1 * by_hand[name]
      by_hand[name] = by_hand[name] - config.lr * change
      np.testing.assert_allclose(
        state.params[name], by_hand[name], rtol=0, atol=3e-5
      )


def test_factored_moments_do_not_depend_on_the_devices():
  tx, found = optimizer.optimizer(FACTORED, 10), []
  for devices in (1, 2):
    parallel = device_placement.ParallelConfig(
      strategy='mesh', tensor_parallel=devices
    )
    placement = device_placement.placement(
      parallel, jax.devices()[: 2 * devices]
    )
    state = train_step.create_state(placement, matrix_and_vector(0), tx)
    sizes = {x.shape for x in jax.tree.leaves(state.opt_state)}
    assert sizes == {(), (1,), (2, 128), (2, 130), (2, 130, 128), (2, 3)}
    for seed in (1, 2):
      grads = device_placement.put_state(placement, matrix_and_vector(seed))
      state, _ = make_apply(tx)(state, grads)
    before = jax.tree.map(np.array, (state.params, state.opt_state))
    grads['norm'] *= jnp.nan
    state, sums = make_apply(tx)(state, grads)
    assert sums['skipped'] == 1
    assert_equal(before[0], state.params)
    assert_equal(*map(without_schedule, (before[1], state.opt_state)))
    found.append(before)
  for a, b in zip(*map(jax.tree.leaves, found)):
    np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


def test_factored_moments_are_for_adamw():
  config = dataclasses.replace(FACTORED, optimizer='optax:lion')
  with pytest.raises(errors.UserError, match='second_moment=factored is for'):
    optimizer.optimizer(config, 10)


def test_weight_decay_is_decoupled():
  tx = optimizer.optimizer(dataclasses.replace(OPTIM, weight_decay=0.1), 10)
  state = train_step.init_state(params(), tx)
  zero = jax.tree.map(jnp.zeros_like, state.params)
  new, _ = make_apply(tx)(state, zero)
  for a, b in zip(*map(jax.tree.leaves, (new.params, state.params))):
    np.testing.assert_allclose(a, b * (1 - 0.1 * 0.1), rtol=1e-6)


@pytest.fixture
def compilations():
  """A list with an entry for each program that is compiled or loaded."""
  seen = []

  def listen(event, seconds, **_):
    if event == '/jax/core/compile/backend_compile_duration':
      seen.append(seconds)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield seen
  jax.monitoring.unregister_event_duration_listener(listen)


def pointers(tree):
  return {
    shard.data.unsafe_buffer_pointer()
    for leaf in jax.tree.leaves(tree)
    for shard in leaf.addressable_shards
  }


@pytest.mark.parametrize('count', [1, 3])
@pytest.mark.parametrize(
  'strategy, devices', [('pmap', 1), ('pmap', 2), ('mesh', 2)]
)
def test_an_update_reuses_the_buffers_and_compiles_once(
  strategy, devices, count, compilations
):
  tx = optimizer.optimizer(OPTIM, 10)
  placement = device_placement.placement(
    device_placement.ParallelConfig(strategy=strategy), jax.devices()[:devices]
  )
  updates = train_step.update_programs(placement, loss_fn, tx)
  state = train_step.create_state(placement, params(), tx)
  batches = [batch(4)] * count
  state, _ = train_step.update(placement, updates, state, batches)
  assert compilations
  compilations.clear()
  for _ in range(2):
    old, buffers = state, pointers((state.params, state.opt_state))
    state, _ = train_step.update(placement, updates, old, batches)
    big = [x for x in jax.tree.leaves((old.params, old.opt_state)) if x.ndim]
    assert all(x.is_deleted() for x in big)
  assert pointers((state.params, state.opt_state)) == buffers
  assert not compilations


@pytest.mark.parametrize('steps', [5, 40])
def test_a_run_continues_below_its_patience(steps):
  optimizer.stop_if_stuck(OPTIM, 4, 4, steps)


def test_a_run_whose_updates_were_all_skipped_ends_below_its_patience():
  with pytest.raises(errors.UserError, match='the last 4 updates'):
    optimizer.stop_if_stuck(OPTIM, 4, 4, steps=4)
