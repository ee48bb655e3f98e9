"""What precedes the first step of the decode loop: prompts are prefilled, and all
slots are free."""

import jax.numpy as jnp

from r1jax.models import transformer
from r1jax.sampling import decode_state, draft, page_table
from r1jax.sampling.decode_state import (
  Array,
  DecodeState,
  Prefilled,
  Prompts,
  SampleConfig,
  Slots,
)


def start(
  params: dict,
  cfg: transformer.ModelConfig,
  prompts: Prompts,
  key: Array,
  group_size: int,
  config: SampleConfig,
) -> tuple[Prefilled, DecodeState]:
  """(the prompts' caches, the state before the first step).

  Each prompt is prefilled once. A sample begins with a copy of its prompt's
  keys and values; its first step feeds the last prompt token. A token's cache
  column is its position, so slots need no clearing: entries of an earlier
  sample are at later positions than the query and are masked. params and cfg
  are those of transformer.for_decoding.
  """
  column_1L = jnp.arange(prompts.tokens_PL.shape[1])[None]
  pos_PL = jnp.where(column_1L < prompts.length_P[:, None], column_1L, -1)
  out = transformer.forward(params, cfg, prompts.tokens_PL, pos_PL)
  prefilled = Prefilled(cache=out.cache, draft_PD=None)
  if config.draft:
    prefilled = draft.prefill(params, cfg, prompts, pos_PL, out)
  if config.cache_tokens:
    cache = page_table.whole_pages(prefilled.cache, config.page_tokens)
    prefilled = prefilled.replace(cache=cache)
  state = _first_state(cfg, prompts, key, group_size, config)
  if out.routing is not None:
    state = state.replace(
      routing=_first_routing(cfg, out.routing, group_size, config)
    )
  return prefilled, state


def cache_sizes(
  prompts: int, prompt_width: int, group_size: int, config: SampleConfig
) -> tuple[int, int]:
  """The numbers of decode slots and of columns of the cache of a device."""
  slots = min(config.decode_slots, prompts * group_size)
  return slots, prompt_width + config.max_new_tokens


def _first_state(cfg, prompts, key, group_size, config):
  """The state before the first refill: all slots are free."""
  P, prompt_width = prompts.tokens_PL.shape
  N = P * group_size
  B, L = cache_sizes(P, prompt_width, group_size, config)
  longest_stop = max([1] + [len(ids) for ids in config.stop_token_sequences])
  rows, columns, table_BN, restarted = B, L, None, None
  if config.cache_tokens:
    # A page more than samples have, see page_table.py.
    rows, columns = config.pages + 1, config.page_tokens
    row_pages = config.pages_of(L)
    # No row is longer than the pool, see page_table.check.
    row_pages = min(row_pages, config.pages)
    table_BN = page_table.empty(B, config.pages, row_pages)
    restarted = jnp.int32(0)
  cache, draft_BD = transformer.init_cache(cfg, rows, columns), None
  if config.draft:
    cache = cache, transformer.init_mtp_cache(cfg, rows, columns)
    draft_BD = jnp.zeros((B, cfg.width), cfg.dtype)
  zero, zero_B = jnp.int32(0), jnp.zeros(B, jnp.int32)
  slots = Slots(
    sample_B=zero_B + N,
    live_B=zero_B > 0,
    token_B=zero_B,
    pos_B=zero_B,
    end_B=zero_B,
    recent_BT=jnp.full((B, longest_stop), -1, jnp.int32),
    ended_B=zero_B > 0,
    key_B=jnp.broadcast_to(key, B),
    draft_BD=draft_BD,
  )
  tokens_PL = jnp.pad(prompts.tokens_PL, ((0, 0), (0, config.max_new_tokens)))
  return DecodeState(
    cache=cache,
    slots=slots,
    table_BN=table_BN,
    waiting_N=jnp.ones(N, bool),
    tokens_NL=jnp.repeat(tokens_PL, group_size, axis=0),
    logp_NL=jnp.zeros((N, L)),
    mask_NL=jnp.zeros((N, L), bool),
    finished_N=jnp.zeros(N, bool),
    steps=zero,
    live=zero,
    restarted=restarted,
    routing=None,
  )


def _first_routing(cfg, routing, group_size, config):
  """The routing of the samples' prompts. The experts of other columns are 0, 1,
  ...: those of a token must differ."""
  routing = jnp.moveaxis(routing, 0, 2)
  routing = routing.astype(decode_state.routing_dtype(cfg))
  P, _, N, E = routing.shape
  filling = jnp.arange(E, dtype=routing.dtype)[None, None, None]
  shape = P, config.max_new_tokens, N, E
  routing = jnp.concatenate([routing, jnp.broadcast_to(filling, shape)], axis=1)
  return jnp.repeat(routing, group_size, axis=0)
