"""The decode loop: samples responses with log-probabilities, with continuous
batching.

The loop decodes a fixed number of slots. Each slot is a row of the model's
batch and of its cache; when a sample ends, its slot goes to the next waiting
sample (refill.py). With config.cache_tokens the rows of the cache are in pages
(page_table.py). Shapes: B decode slots, N = P * G samples, T tokens of a
segment, L columns of a whole row and of the cache.
"""

import functools

import jax
import jax.numpy as jnp

from r1jax.data import batching
from r1jax.models import paging, transformer
from r1jax.sampling import decode_start, decode_step, draft, refill
from r1jax.sampling.decode_state import (
  Array,
  DecodeState,
  Prefilled,
  Prompts,
  SampleConfig,
  SampledRows,
)

SEGMENTS = 8  # after which `sample` chooses a window again
# A cache is small if it has less than this share of the numbers of the weights.
# A step that reads all of it takes 3 % longer at most than one with windows.
SMALL_CACHE = 1 / 64
# Of config.kv_windows=0: the max. number of windows, and the columns by which
# two differ at least. Rows of fewer columns end before a second program pays.
MAX_WINDOWS, MIN_WINDOW = 4, 48


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
  params, cfg = transformer.for_decoding(params, cfg, config.draft)
  prefilled, state = decode_start.start(
    params, cfg, prompts, key, group_size, config
  )
  P, prompt_width = prompts.tokens_PL.shape
  slots, columns = decode_start.cache_sizes(P, prompt_width, group_size, config)
  sizes = windows(cfg, config, slots, columns)

  def advance_in(window):
    def advance_state(state):
      args = params, cfg, prompts, prefilled, key, state, SEGMENTS
      return advance(*args, group_size, config, window)

    return advance_state

  def advance_in_smallest(carry):
    state, (_, _, columns) = carry
    index = jnp.searchsorted(jnp.array(sizes[:-1]), columns)
    return jax.lax.switch(index, [advance_in(x) for x in sizes], state)

  needed = refill.next_columns(prompts, group_size, config, state)
  carry = state, jnp.stack([jnp.int32(0), jnp.int32(1), needed])
  state, _ = jax.lax.while_loop(
    lambda carry: carry[1][1] > 0, advance_in_smallest, carry
  )
  return sampled_rows(prompts, state, group_size)


def advance(
  params: dict,
  cfg: transformer.ModelConfig,
  prompts: Prompts,
  prefilled: Prefilled,
  key: Array,
  state: DecodeState,
  segments: Array | int,
  group_size: int,
  config: SampleConfig,
  window: int,
) -> tuple[DecodeState, Array]:
  """Runs up to `segments` segments of config.refill_interval tokens: the state,
  and [segments that were run, whether samples are unfinished, columns of the
  cache that the next segment needs] as integers.

  The segments read and write only the first `window` columns of the cache. The
  loop also ends when a row needs more.
  """
  cache, max_columns = state.cache, state.tokens_NL.shape[1]

  def next_columns(state):
    return refill.next_columns(prompts, group_size, config, state)

  def refill_and_decode(carry):
    count, state = carry
    state = refill.refill(
      cfg, prompts, prefilled, key, group_size, config, state
    )
    return count + 1, _decode_segment(params, cfg, config, window, state)

  def goes_on(carry):
    count, state = carry
    goes_on = _is_unfinished(state) & (count < segments)
    if window < max_columns:
      goes_on &= next_columns(state) <= window
    return goes_on

  part = cache if config.cache_tokens else _first_columns(cache, window)
  count, state = jax.lax.while_loop(
    goes_on, refill_and_decode, (jnp.int32(0), state.replace(cache=part))
  )
  state = state.replace(cache=_with_first_columns(cache, state.cache))
  is_unfinished = _is_unfinished(state).astype(jnp.int32)
  return state, jnp.stack([count, is_unfinished, next_columns(state)])


def _first_columns(cache, window):
  if window == jax.tree.leaves(cache)[0].shape[-2]:
    return cache
  return jax.tree.map(lambda a: a[..., :window, :], cache)


def _with_first_columns(cache, part):
  """The cache with `part` as its first columns."""
  if jax.tree.leaves(cache)[0].shape == jax.tree.leaves(part)[0].shape:
    return part
  update = jax.lax.dynamic_update_slice
  return jax.tree.map(lambda a, b: update(a, b, (0,) * a.ndim), cache, part)


def windows(
  cfg: transformer.ModelConfig, config: SampleConfig, slots: int, columns: int
) -> tuple[int, ...]:
  """The windows of the cache that are worth a program, in ascending order. The
  last has all columns."""
  sizes = cfg.layer_sizes
  weights = sizes.weights + cfg.vocab_size * cfg.width / cfg.layers
  is_small = slots * columns * sizes.cache < SMALL_CACHE * weights
  # A kernel that reads only what rows hold needs no windows.
  if cfg.reads_filled_cache or is_small:
    return (columns,)
  most = min(MAX_WINDOWS, max(1, columns // MIN_WINDOW))
  return tuple(batching.lengths(columns, config.kv_windows or most))


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
    # Of a sample that has started again there may be later columns.
    logp_BL=jnp.where(state.mask_NL, state.logp_NL, 0),
    mask_BL=state.mask_NL,
    finished_B=state.finished_N,
    steps=state.steps,
    live=state.live,
    restarted=state.restarted,
    routing=state.routing,
  )


def _is_unfinished(state):
  return jnp.any(state.slots.live_B) | jnp.any(state.waiting_N)


def _decode_segment(params, cfg, config, window, state):
  """The steps for config.refill_interval tokens of all slots, whose tokens are
  written to their samples. With pages, those of the first `window` columns of
  the slots are read; without, the cache has only these columns."""
  cache, slots, N = state.cache, state.slots, len(state.finished_N)
  if config.cache_tokens:
    table_BN = state.table_BN[:, : config.pages_of(window)]
    cache = paging.with_table(cache, table_BN)
  sample_B = slots.sample_B
  cache, slots, tokens = _scan_steps(params, cfg, config, cache, slots)
  if config.cache_tokens:
    cache = paging.pool(cache)
  live, column = tokens.live_BT, tokens.pos_BT  # [steps, B, T]
  # Writes to row N are dropped.
  row = jnp.where(live, sample_B[None, :, None], N)

  def write(samples_NL, new):
    return samples_NL.at[row, column].set(new, mode='drop')

  def write_routing(samples, new):
    # A step computes the token before the one that it samples.
    return samples.at[row, column - 1].set(new, mode='drop')

  return state.replace(
    cache=cache,
    slots=slots,
    tokens_NL=write(state.tokens_NL, tokens.token_BT),
    logp_NL=write(state.logp_NL, tokens.logp_BT),
    mask_NL=write(state.mask_NL, live),
    finished_N=state.finished_N.at[sample_B].set(slots.ended_B, mode='drop'),
    steps=state.steps + jnp.sum(jnp.any(live[..., 0], axis=1)),
    live=state.live + jnp.sum(live[..., 0]),
    routing=jax.tree.map(write_routing, state.routing, tokens.routing),
  )


def _scan_steps(params, cfg, config, cache, slots):
  step = draft.step if config.draft else decode_step.step

  def scan_step(cache_and_slots, _):
    cache, slots, tokens = step(params, cfg, config, *cache_and_slots)
    return (cache, slots), tokens

  (cache, slots), tokens = jax.lax.scan(
    scan_step, (cache, slots), length=refill.segment_steps(config)
  )
  return cache, slots, tokens
