"""Refills of the decode loop: which samples enter the free slots, and with pages
also which leave theirs."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import attention, transformer
from r1jax.sampling import decode_step, page_table
from r1jax.sampling.decode_state import (
  DecodeState,
  Prefilled,
  Prompts,
  SampleConfig,
  Slots,
)


class Plan(NamedTuple):
  """What the next refill does."""

  waiting_N: Array  # the samples that wait before slots are filled
  keep_B: Array  # whether a slot keeps its sample
  take_B: Array  # whether it gets another
  sample_B: Array  # the number of the sample that it gets
  prompt_B: Array  # and that of its prompt
  pages_B: Array  # that a slot with a sample needs, if there are pages

  @property
  def has_sample_B(self) -> Array:
    return self.keep_B | self.take_B


def segment_tokens(config: SampleConfig) -> int:
  """The max. tokens of a slot in a segment."""
  return segment_steps(config) * (2 if config.draft else 1)


def segment_steps(config: SampleConfig) -> int:
  """The decode steps of a segment."""
  return -(-config.refill_interval // (2 if config.draft else 1))


def plan(
  prompts: Prompts, group_size: int, config: SampleConfig, state: DecodeState
) -> Plan:
  """The Plan of the next refill: free slots get the waiting samples in the order
  of their numbers. With pages see page_table.py."""
  slots, N = state.slots, len(state.waiting_N)
  keep_B, waiting_N = slots.live_B, state.waiting_N
  pages_B = jnp.zeros_like(slots.pos_B)
  if config.cache_tokens:
    pages_B = _pages(config, slots.pos_B + 1, slots.end_B)
    age_B = slots.pos_B + 1 - prompts.length_P[_prompt(slots, group_size)]
    keep_B = page_table.kept(
      pages_B, keep_B, age_B, slots.sample_B, config.pages
    )
    leaving_B = slots.live_B & ~keep_B
    waiting_N = waiting_N.at[_row(slots, leaving_B, N)].set(True, mode='drop')
  free_B = ~keep_B
  first_B = jnp.nonzero(waiting_N, size=len(free_B), fill_value=N)[0]
  sample_B = first_B[jnp.cumsum(free_B) - 1]
  take_B = free_B & (sample_B < N)
  prompt_B = jnp.where(take_B, sample_B, 0) // group_size
  if config.cache_tokens:
    length_B = prompts.length_P[prompt_B]
    end_B = length_B + _max_new_tokens(prompts, config, prompt_B)
    used = jnp.sum(jnp.where(keep_B, pages_B, 0))
    pages_B = jnp.where(keep_B, pages_B, _pages(config, length_B, end_B))
    take_B = page_table.admitted(pages_B, take_B, keep_B, used, config.pages)
  return Plan(waiting_N, keep_B, take_B, sample_B, prompt_B, pages_B)


def next_columns(
  prompts: Prompts, group_size: int, config: SampleConfig, state: DecodeState
) -> Array:
  """The columns of the cache that the next segment needs, after a refill."""
  slots, next_plan = state.slots, plan(prompts, group_size, config, state)
  prompt_B = next_plan.prompt_B
  length_B = jnp.where(next_plan.take_B, prompts.length_P[prompt_B], 0)
  length_B = jnp.where(next_plan.keep_B, slots.pos_B + 1, length_B)
  return jnp.max(length_B) + segment_tokens(config)


def refill(
  cfg: transformer.ModelConfig,
  prompts: Prompts,
  prefilled: Prefilled,
  key: Array,
  group_size: int,
  config: SampleConfig,
  state: DecodeState,
) -> DecodeState:
  """The state in which slots have the samples of `plan`."""
  slots, N, fold_in = state.slots, len(state.waiting_N), jax.random.fold_in
  new = plan(prompts, group_size, config, state)
  take_B, sample_B, prompt_B = new.take_B, new.sample_B, new.prompt_B
  if config.cache_tokens:
    state = _move_pages(cfg, prompts, prefilled, group_size, config, state, new)
  else:
    copy = functools.partial(
      copy_prompts, cfg, prefilled.cache, prompt_B, take_B
    )
    cache = jax.lax.cond(
      jnp.any(take_B), copy, lambda cache: cache, state.cache
    )
    state = state.replace(cache=cache)
  length_B = prompts.length_P[prompt_B]
  filled = Slots(
    sample_B=jnp.where(take_B, sample_B, N),
    live_B=take_B,
    token_B=prompts.tokens_PL[prompt_B, length_B - 1],
    pos_B=length_B - 1,
    end_B=length_B + _max_new_tokens(prompts, config, prompt_B),
    recent_BT=jnp.full_like(slots.recent_BT, -1),
    ended_B=jnp.zeros_like(take_B),
    key_B=jax.vmap(lambda n, m: fold_in(fold_in(key, n), m))(
      prompts.number_P[prompt_B],
      prompts.first_member_P[prompt_B] + sample_B % group_size,
    ),
    draft_BD=prefilled.draft_PD[prompt_B] if config.draft else None,
  )
  taken_B = jnp.where(take_B, sample_B, N)
  return state.replace(
    slots=decode_step.select(~new.keep_B, filled, slots),
    waiting_N=new.waiting_N.at[taken_B].set(False, mode='drop'),
  )


def _move_pages(cfg, prompts, prefilled, group_size, config, state, new):
  """The state in which the slots of a Plan have their pages, with the prompts of
  new samples in them. Samples that leave have no tokens."""
  slots, N = state.slots, len(state.waiting_N)
  table_BN = page_table.assign(
    state.table_BN, new.keep_B, new.has_sample_B, new.pages_B, config.pages
  )
  cache = page_table.copy_prompts(
    cfg,
    prefilled.cache,
    new.prompt_B,
    prompts.length_P[new.prompt_B],
    new.take_B,
    table_BN,
    state.cache,
  )
  row_B = _row(slots, slots.live_B & ~new.keep_B, N)
  length_B = prompts.length_P[_prompt(slots, group_size)]
  count_B = jnp.where(row_B < N, slots.pos_B + 1 - length_B, 0)
  return state.replace(
    cache=cache,
    table_BN=table_BN,
    mask_NL=state.mask_NL.at[row_B].set(False, mode='drop'),
    restarted=state.restarted + jnp.sum(count_B),
  )


def _pages(config, length_B, end_B):
  """The pages of samples that have length_B columns before a segment and end_B
  at most."""
  columns_B = jnp.minimum(length_B + segment_tokens(config), end_B)
  return -(-columns_B // config.page_tokens)


def _row(slots, is_chosen_B, N):
  """The numbers of the samples in the chosen slots, N for others."""
  return jnp.where(is_chosen_B, slots.sample_B, N)


def _prompt(slots, group_size):
  return jnp.where(slots.live_B, slots.sample_B, 0) // group_size


def _max_new_tokens(prompts, config, prompt_B):
  return jnp.minimum(prompts.max_new_tokens_P[prompt_B], config.max_new_tokens)


def copy_prompts(
  cfg: transformer.ModelConfig,
  prompt_kv: transformer.Cache,
  prompt_B: Array,
  take_B: Array,
  cache: transformer.Cache,
) -> transformer.Cache:
  """The cache with the prompts in the first columns of the slots take_B, which
  need no more columns than it has."""

  def copy(prompt, cache):
    prompt = prompt[..., : cache.shape[-2], :]
    prompt = jnp.take(prompt, prompt_B, axis=-4)
    cache = attention.in_cache_layout(cfg.tpu_layout, cache)
    take, width = take_B[:, None, None, None], prompt.shape[-2]
    prompt = jnp.where(take, prompt, cache[..., :width, :])
    cache = cache.at[..., :width, :].set(prompt)
    return attention.in_cache_layout(cfg.tpu_layout, cache)

  return jax.tree.map(copy, prompt_kv, cache)
