"""AdamW with a schedule and clipping by the global norm."""

import dataclasses
from typing import Literal

import optax

from r1jax import errors
from r1jax.config import option


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  lr: float = option(3e-6, 'peak learning rate (R1: 3e-6)', least=0)
  warmup: int = option(0, 'steps of linear warm-up', least=0)
  schedule: Literal['constant', 'cosine'] = option('constant', 'after warm-up')
  final: float = option(0.1, 'last learning rate of the cosine over the peak')
  b1: float = option(0.9, 'AdamW: decay of the first moment')
  b2: float = option(0.95, 'AdamW: decay of the second moment')
  eps: float = option(1e-8, 'AdamW: added to the root of the second moment')
  weight_decay: float = option(0.0, 'AdamW: decoupled weight decay')
  clip_norm: float = option(1.0, 'largest global norm of the gradient', least=0)
  patience: int = option(10, 'skipped steps in a row that end the run', least=1)


def learning_rate(c, steps):
  """The rate at each optimiser step, of `steps` in all."""
  if c.schedule == 'cosine':
    body = optax.cosine_decay_schedule(
      c.lr, max(steps - c.warmup, 1), alpha=c.final
    )
  else:
    assert c.schedule == 'constant', c.schedule
    body = optax.constant_schedule(c.lr)
  ramp = optax.linear_schedule(0.0, c.lr, max(c.warmup, 1))
  return optax.join_schedules([ramp, body], [c.warmup]) if c.warmup else body


def optimizer(c, steps):
  """Clipping by global norm, then AdamW, in float32."""
  return optax.chain(
    optax.clip_by_global_norm(c.clip_norm),
    optax.adamw(
      learning_rate(c, steps),
      b1=c.b1,
      b2=c.b2,
      eps=c.eps,
      weight_decay=c.weight_decay,
    ),
  )


def stop_if_stuck(c, skipped, step, steps):
  """Ends a run whose last updates, or all of its `steps`, were skipped."""
  if skipped >= min(c.patience, steps):
    raise errors.UserError(
      f'the last {skipped} updates up to step {step} had a loss or gradient '
      'that is not finite and were skipped; look at samples.jsonl and '
      'metrics.jsonl for what went wrong, lower config.optim.lr, and start '
      'again in another --workdir'
    )
