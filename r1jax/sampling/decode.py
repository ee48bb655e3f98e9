"""The decode loop: samples responses with log-probabilities, with continuous
batching.

The loop decodes a fixed number of slots. Each slot is a row of the model's
batch and of its cache; when a sample ends, its slot goes to the next waiting
sample. Shapes: B decode slots, N = P * G samples, T tokens of a segment, L
columns of a whole row and of the cache.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from r1jax.config import option
from r1jax.data import batching
from r1jax.models import attention, transformer
from r1jax.sampling import token_sampling

Array = Any  # jax.Array in a program, np.ndarray on the host
Ids = tuple[int, ...]
MAX_SEGMENTS = 2**31 - 1  # of a call of `advance`


@dataclasses.dataclass(frozen=True)
class SampleConfig:
  """config.sample: how tokens are chosen, and the sizes of the decode loop."""

  max_new_tokens: int = option(512, 'max. tokens of a sample', minimum=1)
  temperature: float = option(1.0, 'of the softmax; 0: greedy', minimum=0)
  top_p: float = option(
    1.0,
    'probability mass of the nucleus; 1: all ids',
    minimum=1e-6,
    maximum=1,
  )
  top_k: int = option(0, 'number of most probable ids; 0: all', minimum=0)
  decode_slots: int = option(
    64, 'rows a device decodes at a time', minimum=1, is_free=True
  )
  refill_interval: int = option(
    16, 'tokens between slot refills', minimum=1, is_free=True
  )
  kv_windows: int = option(
    4, 'cache lengths to choose from', minimum=1, is_free=True
  )
  eos_ids: Ids = option((), "end tokens; (): the tokenizer's")
  stop_token_sequences: tuple[Ids, ...] = option((), 'ids that end a row')


class Prompts(struct.PyTreeNode):
  """Prompts as rows of ids, padded on the right."""

  tokens_PL: Array
  length_P: Array
  number_P: Array  # position in the run's stream of prompts
  first_member_P: Array  # number of the first sample within the group
  max_new_tokens_P: Array  # of each sample, up to SampleConfig.max_new_tokens


class SampledRows(struct.PyTreeNode):
  """Rows of prompt, response and padding; the samples of a prompt are adjacent.

  Column t of logp_BL is log p(token t | tokens before t) under
  softmax(logits / temperature), before top-k and top-p.
  """

  tokens_BL: Array
  pos_BL: Array  # counts a row's tokens from 0; -1 on padding
  logp_BL: Array
  mask_BL: Array  # the sampled tokens
  finished_B: Array  # whether an end token or a stop sequence ended the row
  steps: Array  # the number of decode steps
  live: Array  # the sum over steps of the slots in use
  # The experts that each token chose, [B, L, layers, experts of a token], in a
  # small unsigned dtype. Without meaning for the last token of a row, which is
  # not computed, and on padding. None for a model without experts.
  routing: Array | None = None


class Slots(struct.PyTreeNode):
  """The state of the B decode slots."""

  sample_B: Array  # the number of the sample in the slot; N: none
  live_B: Array  # whether the sample is unfinished
  token_B: Array  # its last token, which is not in the cache yet
  pos_B: Array  # the position of this token
  end_B: Array  # the position after the last that the sample may have
  recent_BT: Array  # its last sampled ids, -1 where there are fewer
  ended_B: Array  # whether an end token or a stop sequence ended it
  key_B: Array  # the key of the sample


class DecodeState(struct.PyTreeNode):
  """The carry of the loop: slots, and the samples so far."""

  cache: transformer.Cache  # of the slots
  slots: Slots
  next_sample: Array  # the number of the first waiting sample
  tokens_NL: Array
  logp_NL: Array
  mask_NL: Array
  finished_N: Array
  steps: Array
  live: Array
  routing: Array | None  # [N, L, ...], see SampledRows


@functools.partial(jax.jit, static_argnames=('cfg', 'group_size', 'config'))
def sample(
  params: dict,
  cfg: transformer.ModelConfig,
  prompts: Prompts,
  key: Array,
  group_size: int,
  config: SampleConfig,
) -> SampledRows:
  """Samples `group_size` responses to each prompt, in one program.

  A sample is a function of the parameters, the key, its prompt, the prompt's
  number and its own number in the group. The number of slots, the other samples
  and their order do not change it.
  """
  params, cfg = transformer.for_decoding(params, cfg)
  prompt_kv, state = start(params, cfg, prompts, key, group_size, config)
  state, _ = advance(
    params,
    cfg,
    prompts,
    prompt_kv,
    key,
    state,
    MAX_SEGMENTS,
    group_size,
    config,
  )
  return sampled_rows(prompts, state, group_size)


def start(
  params: dict,
  cfg: transformer.ModelConfig,
  prompts: Prompts,
  key: Array,
  group_size: int,
  config: SampleConfig,
) -> tuple[transformer.Cache, DecodeState]:
  """(keys and values of the prompts, the state before the first step).

  Each prompt is prefilled once. A sample begins with a copy of its prompt's
  keys and values; its first step feeds the last prompt token. A token's cache
  column is its position, so slots need no clearing: entries of an earlier
  sample are at later positions than the query and are masked. params and cfg
  are those of transformer.for_decoding.
  """
  column_1L = jnp.arange(prompts.tokens_PL.shape[1])[None]
  pos_PL = jnp.where(column_1L < prompts.length_P[:, None], column_1L, -1)
  prefilled = transformer.forward(params, cfg, prompts.tokens_PL, pos_PL)
  state = _first_state(cfg, prompts, key, group_size, config)
  if prefilled.routing is not None:
    state = state.replace(
      routing=_first_routing(cfg, prefilled.routing, group_size, config)
    )
  return prefilled.cache, state


def advance(
  params: dict,
  cfg: transformer.ModelConfig,
  prompts: Prompts,
  prompt_kv: transformer.Cache,
  key: Array,
  state: DecodeState,
  segments: Array | int,
  group_size: int,
  config: SampleConfig,
) -> tuple[DecodeState, Array]:
  """Runs up to `segments` segments of config.refill_interval steps: the state,
  and [segments that were run, whether samples are unfinished] as integers."""

  def refill_and_decode(carry):
    count, state = carry
    state = _refill(cfg, prompts, prompt_kv, key, group_size, config, state)
    return count + 1, _decode_segment(params, cfg, config, state)

  def goes_on(carry):
    count, state = carry
    return _is_unfinished(state) & (count < segments)

  count, state = jax.lax.while_loop(
    goes_on, refill_and_decode, (jnp.int32(0), state)
  )
  return state, jnp.stack([count, _is_unfinished(state).astype(jnp.int32)])


def sampled_rows(
  prompts: Prompts, state: DecodeState, group_size: int
) -> SampledRows:
  """The rows of a finished loop."""
  column_1L = jnp.arange(state.tokens_NL.shape[1])[None]
  length_N = jnp.repeat(prompts.length_P, group_size, axis=0)
  real_NL = state.mask_NL | (column_1L < length_N[:, None])
  return SampledRows(
    tokens_BL=jnp.where(real_NL, state.tokens_NL, 0),
    pos_BL=transformer.positions(real_NL),
    logp_BL=state.logp_NL,
    mask_BL=state.mask_NL,
    finished_B=state.finished_N,
    steps=state.steps,
    live=state.live,
    routing=state.routing,
  )


def _is_unfinished(state):
  any_live = jnp.any(state.slots.live_B)
  return any_live | (state.next_sample < len(state.finished_N))


def _first_state(cfg, prompts, key, group_size, config):
  """The state before the first refill: all slots are free."""
  P, prompt_width = prompts.tokens_PL.shape
  N, L = P * group_size, prompt_width + config.max_new_tokens
  B = min(config.decode_slots, N)
  longest_stop = max([1] + [len(ids) for ids in config.stop_token_sequences])
  cache, zero = transformer.init_cache(cfg, B, L), jnp.int32(0)
  zero_B = jnp.zeros(B, jnp.int32)
  slots = Slots(
    sample_B=zero_B + N,
    live_B=zero_B > 0,
    token_B=zero_B,
    pos_B=zero_B,
    end_B=zero_B,
    recent_BT=jnp.full((B, longest_stop), -1, jnp.int32),
    ended_B=zero_B > 0,
    key_B=jnp.broadcast_to(key, B),
  )
  tokens_PL = jnp.pad(prompts.tokens_PL, ((0, 0), (0, config.max_new_tokens)))
  return DecodeState(
    cache=cache,
    slots=slots,
    next_sample=zero,
    tokens_NL=jnp.repeat(tokens_PL, group_size, axis=0),
    logp_NL=jnp.zeros((N, L)),
    mask_NL=jnp.zeros((N, L), bool),
    finished_N=jnp.zeros(N, bool),
    steps=zero,
    live=zero,
    routing=None,
  )


def _first_routing(cfg, routing, group_size, config):
  """The routing of the samples' prompts. The experts of other columns are 0, 1,
  ...: those of a token must differ."""
  routing = jnp.moveaxis(routing, 0, 2).astype(routing_dtype(cfg))
  P, _, N, E = routing.shape
  filling = jnp.arange(E, dtype=routing.dtype)[None, None, None]
  shape = P, config.max_new_tokens, N, E
  routing = jnp.concatenate([routing, jnp.broadcast_to(filling, shape)], axis=1)
  return jnp.repeat(routing, group_size, axis=0)


def routing_dtype(cfg: transformer.ModelConfig) -> np.dtype:
  """The smallest unsigned dtype for the ids of experts."""
  return np.min_scalar_type(cfg.num_experts - 1)


def _refill(cfg, prompts, prompt_kv, key, group_size, config, state):
  """Assigns the next waiting samples to the free slots."""
  slots, N, fold_in = state.slots, len(state.finished_N), jax.random.fold_in
  free_B = ~slots.live_B
  sample_B = state.next_sample + jnp.cumsum(free_B) - 1
  take_B = free_B & (sample_B < N)
  prompt_B = jnp.where(take_B, sample_B, 0) // group_size
  length_B = prompts.length_P[prompt_B]
  copy = functools.partial(_copy_prompts, cfg, prompt_kv, prompt_B, take_B)
  cache = jax.lax.cond(jnp.any(take_B), copy, lambda cache: cache, state.cache)
  filled = Slots(
    sample_B=jnp.where(take_B, sample_B, N),
    live_B=take_B,
    token_B=prompts.tokens_PL[prompt_B, length_B - 1],
    pos_B=length_B - 1,
    end_B=length_B
    + jnp.minimum(prompts.max_new_tokens_P[prompt_B], config.max_new_tokens),
    recent_BT=jnp.full_like(slots.recent_BT, -1),
    ended_B=jnp.zeros_like(take_B),
    key_B=jax.vmap(lambda n, m: fold_in(fold_in(key, n), m))(
      prompts.number_P[prompt_B],
      prompts.first_member_P[prompt_B] + sample_B % group_size,
    ),
  )

  def where_free(new, old):
    free = jnp.expand_dims(free_B, tuple(range(1, old.ndim)))
    return jnp.where(free, new, old)

  return state.replace(
    cache=cache,
    slots=jax.tree.map(where_free, filled, slots),
    next_sample=state.next_sample + jnp.sum(take_B),
  )


def _copy_prompts(cfg, prompt_kv, prompt_B, take_B, cache):
  """The cache with the prompts in the first columns of the slots take_B."""

  def copy(prompt, cache):
    prompt = jnp.take(prompt, prompt_B, axis=-4)
    cache = attention.in_cache_layout(cfg.tpu_layout, cache)
    take, width = take_B[:, None, None, None], prompt.shape[-2]
    prompt = jnp.where(take, prompt, cache[..., :width, :])
    cache = cache.at[..., :width, :].set(prompt)
    return attention.in_cache_layout(cfg.tpu_layout, cache)

  return jax.tree.map(copy, prompt_kv, cache)


def _decode_segment(params, cfg, config, state):
  """config.refill_interval steps of all slots, written to their samples.

  They read and write only a window of the cache's first columns: the smallest
  window that the longest row fits into.
  """
  slots = state.slots
  N, L = state.tokens_NL.shape
  start_B, sample_B = slots.pos_B + 1, slots.sample_B
  # A kernel that reads only what rows hold needs no windows.
  count = 1 if cfg.reads_filled_cache else config.kv_windows
  windows = batching.lengths(L, count)[:-1]
  longest = jnp.max(jnp.where(slots.live_B, start_B, 0))
  longest += config.refill_interval
  index = jnp.sum(longest > jnp.array(windows, jnp.int32))
  branches = [
    functools.partial(_steps, params, cfg, config, window)
    for window in [*windows, None]
  ]
  cache, slots, sampled = jax.lax.switch(index, branches, state.cache, slots)
  token_TB, logp_TB, live_TB, routing = sampled
  row_TB = jnp.where(live_TB, sample_B[None], N)  # writes to row N are dropped
  column_TB = start_B[None] + jnp.arange(config.refill_interval)[:, None]

  def write(samples_NL, new_TB):
    return samples_NL.at[row_TB, column_TB].set(new_TB, mode='drop')

  def write_routing(samples, new):
    # A step computes the token before the one that it samples.
    return samples.at[row_TB, column_TB - 1].set(new, mode='drop')

  return state.replace(
    cache=cache,
    slots=slots,
    tokens_NL=write(state.tokens_NL, token_TB),
    logp_NL=write(state.logp_NL, logp_TB),
    mask_NL=write(state.mask_NL, live_TB),
    finished_N=state.finished_N.at[sample_B].set(slots.ended_B, mode='drop'),
    steps=state.steps + jnp.sum(jnp.any(live_TB, axis=1)),
    live=state.live + jnp.sum(live_TB),
    routing=jax.tree.map(write_routing, state.routing, routing),
  )


def _steps(params, cfg, config, window, cache, slots):
  """config.refill_interval steps over the first `window` columns of the cache;
  None: over all. Returns (cache, slots, the steps' results, stacked)."""
  part = cache
  if window is not None:
    part = jax.tree.map(lambda a: a[..., :window, :], cache)
  step = functools.partial(_step, params, cfg, config)
  (part, slots), sampled = jax.lax.scan(
    step, (part, slots), length=config.refill_interval
  )
  if window is None:
    return part, slots, sampled
  update = jax.lax.dynamic_update_slice
  cache = jax.tree.map(lambda a, b: update(a, b, (0,) * a.ndim), cache, part)
  return cache, slots, sampled


def _step(params, cfg, config, cache_and_slots, _):
  """Samples a token in every slot: ((cache, slots), (token_B, logp_B, live_B,
  the experts of the tokens before)).

  live_B is the value before the step; tokens of other slots are ignored.
  """
  cache, slots = cache_and_slots
  live_B = slots.live_B
  out = transformer.forward(
    params, cfg, slots.token_B[:, None], slots.pos_B[:, None], cache
  )
  key_B = jax.vmap(jax.random.fold_in)(slots.key_B, slots.pos_B + 1)
  logits_BV = transformer.unembed(params, cfg, out.hidden_BTD)[:, 0]
  token_B, logp_B = token_sampling.sample_token(
    logits_BV, key_B, config.temperature, config.top_p, config.top_k
  )
  recent = slots.recent_BT[:, 1:], token_B[:, None]
  recent_BT = jnp.concatenate(recent, axis=1)
  ended_B = jnp.isin(token_B, jnp.array(config.eos_ids, jnp.int32))
  for stop in config.stop_token_sequences:
    tail = recent_BT[:, -len(stop) :]
    ended_B |= jnp.all(tail == jnp.array(stop)[None], axis=1)
  pos_B = slots.pos_B + live_B
  slots = slots.replace(
    live_B=live_B & ~ended_B & (pos_B + 1 < slots.end_B),
    token_B=jnp.where(live_B, token_B, slots.token_B),
    pos_B=pos_B,
    recent_BT=recent_BT,
    ended_B=jnp.where(live_B, ended_B, slots.ended_B),
  )
  routing = out.routing
  if routing is not None:  # [N, B, 1, E]
    routing = routing[:, :, 0].swapaxes(0, 1).astype(routing_dtype(cfg))
  return (out.cache, slots), (token_B, logp_B, live_B, routing)
