"""From sampled rows and their rewards to the batches and the loss of an update
(DeepSeekMath 4.1; R1, section 2.1)."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from r1jax import losses
from r1jax.distributed import programs
from r1jax.distributed.device_placement import Placement
from r1jax.models import moe, sequence_packing, token_logprobs, transformer
from r1jax.rl import algorithm, grpo_config
from r1jax.rl.grpo_config import GrpoConfig
from r1jax.sampling.decode import SampledRows
from r1jax.training import train_step
from r1jax.training.train_step import LossFn

# Per-token arrays [B, L], 'routing' [B, L, N, E], in micro-batches of packed rows
# a Packing, or 'source_PT' and 'place_BL' of data/sequences.Layout.
Batch = dict[str, Any]
FLIPS = 'router/flips'  # the metric of moe.flips


def make_loss(
  config: GrpoConfig,
  cfg: transformer.ModelConfig,
  temperature: float,
) -> LossFn:
  """The pure (params, batch) -> (loss, sums) of the configured objective."""
  objective_fn = grpo_config.objective(config)
  kl_estimator = algorithm.kl_estimator(config.kl_estimator)

  def loss_fn(params, batch):
    weight_BL, adv_BL = batch['weight_BL'], batch['adv_BL']
    pos_BL, given = batch['pos_BL'], _routing(cfg, batch)
    replayed = given if grpo_config.replays_routing(config, cfg) else None
    out = _token_logprobs(params, cfg, batch, temperature, replayed)
    logp_BL = out.logp_BL
    fixed_BL = jax.lax.stop_gradient(logp_BL)
    old_BL = fixed_BL if grpo_config.is_on_policy(config) else batch['old_BL']
    ref_BL = batch['ref_BL'] if config.kl_coef else old_BL
    if config.tis_cap:
      adv_BL *= losses.truncated_importance_weights(
        old_BL, batch['sampler_BL'], config.tis_cap
      )
    loss, sums = losses.policy_loss(
      objective_fn,
      logp_BL,
      old_BL,
      ref_BL,
      adv_BL,
      weight_BL,
      out.entropy_BL,
      kl_coef=config.kl_coef,
      kl_estimator=kl_estimator,
      entropy_bonus=config.entropy_bonus,
    )
    difference_BL = weight_BL * abs(fixed_BL - batch['sampler_BL'])
    sums |= dict(
      entropy=(weight_BL * out.entropy_BL).sum(),
      sampling_logp_difference=difference_BL.sum(),
    )
    if out.routing is not None:
      flips_BL = weight_BL * moe.flips(out.routing, given, pos_BL)
      sums |= {FLIPS: flips_BL.sum()} | moe.load_sums(cfg, out.routing, pos_BL)
    if config.mtp_coef:
      mtp_loss = _mtp_loss(cfg, params, out.hidden_BLD, batch)
      loss += config.mtp_coef * mtp_loss
      sums |= dict(mtp_loss=mtp_loss)
    return loss, sums

  return loss_fn


def _token_logprobs(params, cfg, batch, temperature, routing):
  """The TokenLogprobs of a micro-batch. Those of prompts are 0 in packed ones."""
  arrays = batch['tokens_BL'], batch['pos_BL']
  if 'source_PT' in batch:
    arrays = *arrays, batch['source_PT'], batch['place_BL']
    logprobs = token_logprobs.sequence_logprobs
  elif 'packing' in batch:
    arrays = batch['packing'], *arrays, batch['prompt_BL']
    logprobs = token_logprobs.packed_logprobs
  else:
    logprobs = token_logprobs.logprobs_and_routing
  return logprobs(params, cfg, *arrays, temperature, routing)


def _mtp_loss(cfg, params, hidden_BLD, batch):
  """The cross entropy of the module of multi-token prediction on the sampled
  tokens. It trains the module alone: the policy has the gradient of the
  objective."""
  fixed = jax.lax.stop_gradient(params) | dict(mtp=params['mtp'])
  hidden_BLD = jax.lax.stop_gradient(hidden_BLD)
  arrays = batch['tokens_BL'], batch['pos_BL']
  if 'source_PT' not in batch:
    logp_BL = token_logprobs.mtp_logprobs(fixed, cfg, hidden_BLD, *arrays)
  else:
    arrays = sequence_packing.pack_sequences(*arrays, batch['source_PT'])
    cfg = dataclasses.replace(cfg, sequence_packing=True)
    logp_PT = token_logprobs.mtp_logprobs(fixed, cfg, hidden_BLD, *arrays)
    logp_BL = sequence_packing.unpack(logp_PT, batch['place_BL'])
  return losses.sft_loss(logp_BL, batch['weight_BL'])[0]


def _routing(cfg, batch):
  """The sampler's choice of experts as transformer.forward takes it."""
  if not cfg.num_experts:
    return None
  return jnp.moveaxis(batch['routing'], 2, 0)


def update_programs(
  config: GrpoConfig,
  placement: Placement,
  cfg: transformer.ModelConfig,
  temperature: float,
  tx: optax.GradientTransformation,
  router_bias_rate: float,
) -> train_step.UpdatePrograms:
  """The compiled update of the configured loss by the optimiser tx."""
  cfg = programs.shard_config(placement, cfg)
  loss_fn = make_loss(config, cfg, temperature)
  return train_step.update_programs(placement, loss_fn, tx, router_bias_rate)


def columns(rows: SampledRows) -> Batch:
  """The arrays of a batch that do not depend on rewards. Old and reference
  log-probabilities are the sampler's unless they are recomputed."""
  logp_BL, mask_BL = rows.logp_BL, rows.mask_BL
  is_before_BL = ~np.logical_or.accumulate(mask_BL, axis=1)
  batch = dict(
    tokens_BL=rows.tokens_BL,
    pos_BL=rows.pos_BL,
    mask_BL=mask_BL,
    prompt_BL=is_before_BL & (rows.pos_BL >= 0),
    sampler_BL=logp_BL,
    old_BL=logp_BL,
    ref_BL=logp_BL,
  )
  if rows.routing is not None:
    batch['routing'] = rows.routing
  return batch


def mini_batches(
  config: GrpoConfig,
  batch: Batch,
  seed: Sequence[int],
  max_new_tokens: int,
) -> Iterator[Batch]:
  """Yields a batch for each optimiser step: whole groups in an order given by
  the seed, with token weights computed from the batch's own mask."""
  prompts = len(batch['tokens_BL']) // config.group_size
  for epoch in range(config.epochs):
    order_P = np.random.default_rng([*seed, epoch]).permutation(prompts)
    for group_P in np.split(order_P, config.minibatches):
      row_B = rows_of_groups(config, group_P)
      mini_batch = {name: a[row_B] for name, a in batch.items()}
      mini_batch['weight_BL'] = algorithm.token_weights(
        config.loss_agg, mini_batch.pop('mask_BL'), max_new_tokens
      )
      yield mini_batch


def rows_of_groups(config: GrpoConfig, prompt_P: np.ndarray) -> np.ndarray:
  """The numbers of the rows of some prompts, group by group."""
  member_G = np.arange(config.group_size)
  return (prompt_P[:, None] * config.group_size + member_G).ravel()


def logprobs_program(
  placement: Placement,
  cfg: transformer.ModelConfig,
  temperature: float,
  replay: bool = False,
) -> Callable:
  """The compiled (params, rows) -> logp_BL of the given tokens."""
  cfg = programs.shard_config(placement, cfg)
  fn = make_logprobs(cfg, temperature, replay)
  return programs.rows_program(placement, fn)


def make_logprobs(
  cfg: transformer.ModelConfig, temperature: float, replay: bool = False
) -> Callable:
  """The pure (params, rows) -> logp_BL of the given tokens; with `replay` by the
  experts of rows['routing']."""

  def logprobs(params, rows):
    routing = _routing(cfg, rows) if replay else None
    return _token_logprobs(params, cfg, rows, temperature, routing).logp_BL

  return logprobs


def compute_logprobs(
  placement: Placement,
  program: Callable,
  params: dict,
  micro_batches: Sequence[tuple[np.ndarray, Batch]],
  shape: tuple[int, int],
) -> np.ndarray:
  """logp_BL of this shape: that of every row under params, micro-batch by
  micro-batch, each with the numbers of its rows."""
  logp_BL = np.zeros(shape, np.float32)
  names = (
    *('tokens_BL', 'pos_BL', 'routing', 'prompt_BL', 'packing'),
    *('source_PT', 'place_BL'),
  )
  for row_B, micro_batch in micro_batches:
    part = {name: micro_batch[name] for name in names if name in micro_batch}
    real_B = row_B >= 0
    part_BL = programs.run_rows(placement, program, params, part)[real_B]
    width = min(part_BL.shape[1], logp_BL.shape[1])
    logp_BL[row_B[real_B], :width] = part_BL[:, :width]
  return logp_BL


def update_metrics(config: GrpoConfig, sums: Batch) -> dict[str, Any]:
  """The means of an update, from its sums of weight * x."""
  weight = max(sums['weight'], 1e-9)
  metrics = {name: sums[name] for name in ('loss', 'grad_norm', 'skipped')}
  for name, total in sums.items():
    has_meaning = config.kl_coef or name != 'kl'
    if name not in (*metrics, 'weight', moe.LOAD) and has_meaning:
      metrics[name] = total / weight
  return {**metrics, **moe.load_metrics(sums)}
