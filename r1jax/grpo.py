"""From sampled rows and their rewards to the batches of an update."""

import dataclasses
import functools

import jax
import numpy as np

from r1jax import data, errors, estimates, generate, losses, model
from r1jax.config import option
from r1jax.rewards import length


@dataclasses.dataclass(frozen=True)
class GrpoConfig:
  questions: int = option(32, 'questions a rollout', least=1)
  group: int = option(16, 'samples a question, G', least=1)
  minibatches: int = option(1, 'optimiser steps a pass over a rollout', least=1)
  epochs: int = option(1, 'passes over a rollout, mu', least=1)
  objective: str = option('grpo', 'grpo, sequence, gspo or cispo')
  weights: str = option(
    'response', 'mean over: response (GRPO), token (DAPO), constant (Dr. GRPO)'
  )
  scale: str = option('std', 'of advantages: std, sample_std, none')
  clip_low: float = option(0.2, 'the ratio is clipped below 1 - this', least=0)
  clip_high: float = option(0.2, 'the ratio is clipped above 1 + this', least=0)
  beta: float = option(
    0.001, 'weight of the KL to the reference; 0: none', least=0
  )
  kl: str = option('paper', 'gradient of the KL: paper (k3) or reverse')
  ref_every: int = option(
    400, 'steps between refreshes of the reference; 0', least=0
  )
  old: str = option('sampler', 'old log-probabilities: sampler or trainer')
  importance_cap: float = option(
    0.0, 'cap of pi_trainer/pi_sampler; 0: off', least=0
  )
  overlong_filter: bool = option(False, 'truncated rows leave the loss (DAPO)')
  overlong_cache: int = option(
    0, 'tokens of the soft length penalty; 0: off', least=0
  )
  late: bool = option(
    False,
    'learn from a rollout one step after it was drawn, so that slow rewards '
    'have a whole step; not bit for bit the same after a resume',
  )
  dynamic_tries: int = option(
    0, 'rollouts drawn at most to replace dead groups (DAPO); 0: off', least=0
  )

  @property
  def updates(self):
    """Optimiser steps of a rollout."""
    return self.minibatches * self.epochs


def check(c, dtype):
  """Refuses what cannot work, with a sentence."""
  for name, known in (
    ('objective', losses.OBJECTIVES), ('kl', losses.KL),
    ('weights', ('response', 'token', 'constant')),
    ('scale', ('std', 'sample_std', 'none')), ('old', ('sampler', 'trainer')),
  ):  # fmt: skip
    if getattr(c, name) not in known:
      raise errors.UserError(
        f"config.grpo.{name} is '{getattr(c, name)}'; it can be "
        f'{", ".join(known)}'
      )
  if c.group < 2 and c.scale != 'none':
    raise errors.UserError(
      f'config.grpo.group is {c.group} and config.grpo.scale {c.scale}: a '
      'group of one has no deviation; use a larger group'
    )
  if c.questions % c.minibatches:
    raise errors.UserError(
      f'config.grpo.minibatches is {c.minibatches}, which must divide the '
      f'{c.questions} questions of a rollout: groups are never split'
    )
  if c.importance_cap and c.old == 'sampler':
    raise errors.UserError(
      'config.grpo.importance_cap corrects the sampler by the trainer: set '
      'config.grpo.old=trainer'
    )
  if dtype != 'float32' and c.old == 'sampler':
    raise errors.UserError(
      f'in {dtype} the sampler and the trainer round differently: set '
      'config.grpo.old=trainer (and importance_cap=2 to correct the sampler)'
    )


def check_counts(c, steps, micro, shards):
  """Refuses rows that do not fill micro-batches on every device, and updates
  that do not fill rollouts."""
  if c.questions % shards or micro % shards:
    raise errors.UserError(
      f'{shards} devices share the rows: config.grpo.questions '
      f'({c.questions}) and config.micro ({micro}) must be multiples'
    )
  rows = c.questions // c.minibatches * c.group
  if rows % micro:
    raise errors.UserError(
      f'config.micro is {micro}: it must divide the {rows} rows of a '
      'mini-batch (questions / minibatches * group)'
    )
  if steps % c.updates:
    raise errors.UserError(
      f'config.steps is {steps}: it must be a multiple of the {c.updates} '
      'updates of a rollout (minibatches * epochs)'
    )


def on_policy(c):
  """The parameters do not move between the rollout and its only update, so
  the trainer's old log-probabilities are those of the update itself."""
  return c.old == 'trainer' and c.updates == 1 and not c.late


def make_loss(c, cfg, temperature):
  """loss_fn(params, batch) -> (scalar, sums) of the configured objective."""
  objective = functools.partial(
    losses.OBJECTIVES[c.objective],
    clip_low=c.clip_low, clip_high=c.clip_high, beta=c.beta, kl=c.kl,
  )  # fmt: skip

  def loss_fn(params, batch):
    weight_BL, adv_BL = batch['weight_BL'], batch['adv_BL']
    logp_BL, entropy_BL = model.logprobs(
      params, cfg, batch['tokens_BL'], batch['pos_BL'], temperature
    )
    fixed_BL = jax.lax.stop_gradient(logp_BL)
    old_BL = fixed_BL if on_policy(c) else batch['old_BL']
    ref_BL = batch['ref_BL'] if c.beta else old_BL
    if c.importance_cap:
      cap = c.importance_cap
      adv_BL *= losses.importance(old_BL, batch['sampler_BL'], cap)
    loss, sums = objective(logp_BL, old_BL, ref_BL, adv_BL, weight_BL)
    apart_BL = weight_BL * abs(fixed_BL - batch['sampler_BL'])
    return loss, sums | dict(
      entropy=(weight_BL * entropy_BL).sum(), delta_logp=apart_BL.sum()
    )

  return loss_fn


def shape_rewards(c, samples, max_new):
  """(reward_N with the soft length penalty, keep_N): DAPO's two answers to
  rows that are too long; rows that could not be judged are left out."""
  keep_N = ~np.isnan(samples.reward_N)
  reward_N = np.nan_to_num(samples.reward_N)
  if c.overlong_cache:
    reward_N = reward_N + length.soft_overlong(
      samples.length_N, max_new, c.overlong_cache
    )
  if c.overlong_filter:
    keep_N &= samples.rollout.finished_B
  return reward_N, keep_N


def dead_groups(c, reward_N):
  """Which groups have equal raw rewards, and so no gradient: [P] bool."""
  return estimates.alike(reward_N.reshape(-1, c.group))


def choose(c, drawn):
  """The first `questions` live groups of several rollouts, made up with dead
  ones where too few are alive."""
  dead_P = np.concatenate([dead_groups(c, x.reward_N) for x in drawn])
  order_P = np.sort(np.argsort(dead_P, kind='stable')[: c.questions])
  rows_PG = order_P[:, None] * c.group + np.arange(c.group)
  return generate.join(drawn, rows_PG.ravel())


_advantages = jax.jit(losses.group_advantages, static_argnames='scale')
_weights = jax.jit(losses.token_weights, static_argnames=('kind', 'length'))


def rows(c, rollout, reward_N, keep_N):
  """The per-token arrays of a rollout, before old and reference are known."""
  return with_advantages(c, columns(rollout), reward_N, keep_N)


def columns(rollout):
  """The per-token arrays that need no reward."""
  return dict(
    tokens_BL=rollout.tokens_BL,
    pos_BL=rollout.pos_BL,
    mask_BL=rollout.mask_BL,
    sampler_BL=rollout.logp_BL,
    old_BL=rollout.logp_BL,
    ref_BL=rollout.logp_BL,
  )


def with_advantages(c, batch, reward_N, keep_N):
  """The rows with what their group makes of their rewards; of those that are
  not kept nothing counts."""
  adv_PG = _advantages(
    reward_N.reshape(-1, c.group), keep_N.reshape(-1, c.group), scale=c.scale
  )
  adv_B1 = np.asarray(adv_PG).reshape(-1, 1)
  mask_BL = batch['mask_BL'] & keep_N[:, None]
  adv_BL = (adv_B1 * mask_BL).astype(np.float32)
  return dict(batch, mask_BL=mask_BL, adv_BL=adv_BL)


def mini_batches(c, batch, seed, max_new):
  """The optimiser steps of a rollout: whole groups, in an order that is a
  function of the seed, each with weights of its own mask."""
  questions = len(batch['tokens_BL']) // c.group
  for epoch in range(c.epochs):
    order_P = np.random.default_rng([*seed, epoch]).permutation(questions)
    for part in np.split(order_P, c.minibatches):
      take = (part[:, None] * c.group + np.arange(c.group)).ravel()
      mini = {name: a[take] for name, a in batch.items()}
      mini['weight_BL'] = np.asarray(
        _weights(mini.pop('mask_BL'), kind=c.weights, length=max_new)
      )
      yield mini


def make_score(cfg, temperature):
  """The pure (params, rows) -> logp_BL of the given tokens."""

  def score_fn(params, rows):
    logp_BL, _ = model.logprobs(
      params, cfg, rows['tokens_BL'], rows['pos_BL'], temperature
    )
    return logp_BL

  return score_fn


def score(scorer, params, batch, rows_each, buckets):
  """logp_BL of every row under params, micro-batch by micro-batch."""
  logp_BL = np.zeros(batch['tokens_BL'].shape, np.float32)
  arrays = {name: batch[name] for name in ('tokens_BL', 'pos_BL')}
  for index, part in data.cut(arrays, rows_each, buckets):
    real = index >= 0
    part_BL = scorer(params, part)[real]
    width = min(part_BL.shape[1], logp_BL.shape[1])
    logp_BL[index[real], :width] = part_BL[:, :width]
  return logp_BL


def update_metrics(c, sums):
  """The means of an update, from its sums of weight * x."""
  whole = max(sums['weight'], 1e-9)
  names = ('clip', 'entropy', 'delta_logp', 'delta_old')
  names += ('kl',) if c.beta else ()
  same = {name: sums[name] for name in ('loss', 'grad_norm', 'skipped')}
  return same | {name: sums[name] / whole for name in names}
