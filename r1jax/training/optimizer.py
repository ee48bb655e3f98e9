"""AdamW, or the user's optimiser, with a schedule and clipping by the global
norm."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from r1jax import errors, user_code
from r1jax.config import option
from r1jax.models import moe

FORM = '(learning_rate) -> transformation'
# In float32 the bias correction 1 - b^t of a decay nearer to 1 is 0, and the
# square root of a zero moment plus a smaller eps may be 0.
MAX_DECAY = 0.999999
MIN_EPS = 1e-30
# The least change of a bfloat16 number is 2^-8 of it. With a larger decay than
# this a moment would stay where it is, although the gradient is another: of
# 0.98 where their squares differ by less than 20 %.
MAX_BFLOAT16_DECAY = 0.98
# Arrays with two axes of at least this size are matrices, whose second moments
# may be factored; norms and biases of stacked layers are not.
MIN_FACTORED_SIZE = 128


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  lr: float = option(3e-6, 'peak learning rate (R1: 3e-6)', minimum=0)
  warmup: int = option(0, 'steps of linear warm-up', minimum=0)
  schedule: Literal['constant', 'cosine'] = option('constant', 'after warm-up')
  final: float = option(
    0.1,
    'learning rate at the end of the cosine over the peak',
    minimum=0,
    maximum=1,
  )
  b1: float = option(
    0.9, 'AdamW: decay of the first moment', minimum=0, maximum=MAX_DECAY
  )
  b2: float = option(
    0.95, 'AdamW: decay of the second moment', minimum=0, maximum=MAX_DECAY
  )
  eps: float = option(
    1e-8, 'AdamW: added to the root of the second moment', minimum=MIN_EPS
  )
  moments_dtype: Literal['float32', 'bfloat16'] = option(
    'float32', 'AdamW: of both moments in memory', fixed='optimizer'
  )
  second_moment: Literal['full', 'factored'] = option(
    'full',
    'AdamW: of each number of a matrix, or of its rows and columns as Adafactor',
    fixed='optimizer',
  )
  optimizer: str = option('adamw', 'adamw', is_code=True, fixed='optimizer')
  optimizer_options: dict[str, Any] = option({}, 'parameters of your optimizer')
  weight_decay: float = option(0.0, 'AdamW: decoupled weight decay', minimum=0)
  clip_norm: float = option(
    1.0, 'max. global norm of the gradient; 0: no clipping', minimum=0
  )
  router_bias_rate: float = option(
    0.0,
    "step of the experts' correction bias after an update, gamma; 0: frozen",
    minimum=0,
  )
  patience: int = option(10, 'skipped steps in a row that end a run', minimum=1)


def learning_rate(config: OptimConfig, steps: int) -> optax.Schedule:
  """The rate as a function of the update, 0 to steps - 1, of a run of `steps`
  updates. The first update after the warm-up has the peak rate. A cosine is
  lr * final at `steps`, just after the last update. Raises UserError if the
  warm-up does not end within the run."""
  if config.warmup >= steps:
    raise errors.UserError(
      f'config.optim.warmup is {config.warmup}, but the run has {steps} '
      f'updates, so that it would never reach config.optim.lr: set warmup to '
      f'{steps - 1} or less, or train longer'
    )
  schedule = optax.constant_schedule(config.lr)
  if config.schedule == 'cosine':
    decay_steps = steps - config.warmup
    schedule = optax.cosine_decay_schedule(config.lr, decay_steps, config.final)
  if not config.warmup:
    return schedule
  warmup = optax.linear_schedule(0.0, config.lr, config.warmup)
  return optax.join_schedules([warmup, schedule], [config.warmup])


def optimizer(config: OptimConfig, steps: int) -> optax.GradientTransformation:
  """Clipping by the global norm, then AdamW or the user's transformation. The
  arithmetic is float32."""
  if config.moments_dtype == 'bfloat16' and not can_be_bfloat16(config):
    raise errors.UserError(
      'config.optim.moments_dtype may be bfloat16 for adamw with b1 and b2 of at '
      f'most {MAX_BFLOAT16_DECAY}, since the rounding of bfloat16 is coarser than '
      'what changes a moment with a higher decay; they are '
      f'{config.optimizer}, {config.b1} and {config.b2}: set it to float32'
    )
  if config.second_moment == 'factored' and config.optimizer != 'adamw':
    raise errors.UserError(
      'config.optim.second_moment=factored is for adamw, and config.optim.'
      f'optimizer is {config.optimizer}: set second_moment to full'
    )
  rate, decay = learning_rate(config, steps), config.weight_decay
  if config.optimizer == 'adamw':
    if config.optimizer_options:
      raise errors.UserError(
        'config.optim.optimizer_options are those of your own optimizer; for '
        'adamw set config.optim.b1, b2, eps and weight_decay'
      )
    tx = optax.adamw(rate, config.b1, config.b2, config.eps, weight_decay=decay)
    if config.second_moment == 'factored':
      tx = factored_adamw(config, rate)
    if config.moments_dtype != 'float32':
      tx = stored_as(config.moments_dtype, tx)
  else:
    tx = _own_transformation(config, rate)
  clip = optax.identity()
  if config.clip_norm:
    clip = optax.clip_by_global_norm(config.clip_norm)
  return optax.chain(clip, tx)


def factored_adamw(
  config: OptimConfig, rate: optax.Schedule
) -> optax.GradientTransformation:
  """AdamW whose second moment of a matrix is the product of the means of its
  rows and its columns, V_ij = R_i C_j / mean(R) (Shazeer and Stern, 2018). The
  first moment is that of g / sqrt(V + eps^2). A matrix has the two largest axes
  of an array."""

  def decay_of(step, decay):
    # That of moments whose bias is corrected, b (1 - b^(t-1)) / (1 - b^t).
    return decay * (1 - decay**step) / (1 - decay ** (step + 1))

  return optax.chain(
    optax.scale_by_factored_rms(
      decay_rate=config.b2,
      decay_rate_fn=decay_of,
      min_dim_size_to_factor=MIN_FACTORED_SIZE,
      # The squares of zeros would have a root of 0.
      epsilon=max(config.eps**2, MIN_EPS),
    ),
    optax.ema(config.b1),
    optax.add_decayed_weights(config.weight_decay),
    optax.scale_by_learning_rate(rate),
  )


def stored_as(
  dtype: str, tx: optax.GradientTransformation
) -> optax.GradientTransformation:
  """tx whose state has its float32 arrays in `dtype` between the updates, which
  compute with float32."""

  def cast(state, dtype):
    def cast_array(x):
      is_array = x.ndim and jnp.issubdtype(x.dtype, jnp.floating)
      return x.astype(dtype) if is_array else x

    return jax.tree.map(cast_array, state)

  def init(params):
    return cast(tx.init(params), dtype)

  def update(grads, state, params=None):
    changes, state = tx.update(grads, cast(state, jnp.float32), params)
    return changes, cast(state, dtype)

  return optax.GradientTransformation(init, update)


def can_be_bfloat16(config: OptimConfig) -> bool:
  """Whether moments_dtype may be bfloat16."""
  decay = max(config.b1, config.b2)
  return config.optimizer == 'adamw' and decay <= MAX_BFLOAT16_DECAY


def _own_transformation(config, rate):
  """The optax transformation of config.optimizer: an object, or what a function
  of the learning rate's schedule and the options returns."""
  name, key = config.optimizer, 'config.optim.optimizer'
  made = user_code.lookup({'adamw': None}, name, key)
  if not isinstance(made, optax.GradientTransformation):
    options = config.optimizer_options
    user_code.check_call(made, name, key, FORM, options, f'{key}_options')
    name = user_code.shown_name(name)
    try:
      made = made(rate, **options)
    except Exception as error:
      sentence = f'{key}: {name} failed with the options {options}'
      raise user_code.failure(sentence, error) from error
  if not isinstance(made, optax.GradientTransformation):
    raise errors.UserError(
      f'{key}: {name} returned {user_code.describe(made)}; expected an optax '
      'transformation'
    )
  return made


def stop_if_stuck(
  config: OptimConfig, skipped: int, step: int, steps: int
) -> None:
  """Raises UserError if the last `patience` or all updates were skipped."""
  if skipped >= min(config.patience, steps):
    raise errors.UserError(
      f'the last {skipped} updates up to step {step} were skipped, since the '
      'loss, the gradient or the new parameters were not finite: see '
      'samples.jsonl and metrics.jsonl, and lower config.optim.lr from the '
      'newest checkpoint on (--change optim.lr=VALUE) or in another --workdir'
    )


def check_router_bias(config: OptimConfig, params: Any) -> None:
  """Raises UserError if a rate is set for a model without correction bias."""
  leaves = jax.tree_util.tree_leaves_with_path(params)
  names = {path[-1].key for path, _ in leaves}
  if config.router_bias_rate and moe.BIAS not in names:
    raise errors.UserError(
      f'config.optim.router_bias_rate is {config.router_bias_rate}, but the '
      'routers of the model have no correction bias, as those of DeepSeek-V3 '
      'have: set it to 0'
    )
