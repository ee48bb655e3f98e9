"""The device programs of a server: requests enter and leave the decode slots
while the others go on. The number of slots and the length of the cache are
fixed, so that few programs are compiled."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from r1jax.models import lm_head, transformer
from r1jax.models.transformer import ModelConfig
from r1jax.sampling import decode_step, refill, token_sampling
from r1jax.sampling.decode_state import Array, SampleConfig, Slots

MAX_TOP = 20  # log-probabilities of other tokens, for each token
# jax 0.10 cannot donate to an output with the layout constraint that this ends
# with; in a function of its own the constraint is inside.
copy_prompts = jax.jit(refill.copy_prompts, static_argnames='cfg')


class Options(struct.PyTreeNode):
  """How the tokens of each slot are chosen."""

  temperature_B: Array
  top_p_B: Array
  top_k_B: Array
  wants_top_B: Array  # whether the most probable tokens are asked for


class SlotState(struct.PyTreeNode):
  cache: transformer.Cache
  slots: Slots
  options: Options


class NewRow(struct.PyTreeNode):
  """A request that enters a slot. Host arrays: a row of ids that is padded on
  the right, and scalars."""

  tokens_T: Array
  length: Array
  slot: Array
  max_tokens: Array
  # The key is that of sample `member` of prompt `number`, see decode.sample.
  seed: Array
  number: Array
  member: Array
  temperature: Array
  top_p: Array
  top_k: Array
  wants_top: Array


class TopTokens(NamedTuple):
  """The most probable tokens at a place, MAX_TOP or the whole vocabulary."""

  ids: Array
  logps: Array


class SegmentTokens(NamedTuple):
  """The tokens of a segment, [steps, slots] each."""

  ids: Array
  logps: Array
  is_live: Array  # whether the token belongs to the request
  top: TopTokens  # zeros in steps in which no slot asks for them


@functools.partial(jax.jit, static_argnames=('cfg', 'slots', 'max_len'))
def empty(cfg: ModelConfig, slots: int, max_len: int) -> SlotState:
  """The state without requests."""
  zero_B = jnp.zeros(slots, jnp.int32)
  return SlotState(
    cache=transformer.init_cache(cfg, slots, max_len),
    slots=Slots(
      sample_B=zero_B,
      live_B=zero_B > 0,
      token_B=zero_B,
      pos_B=zero_B,
      end_B=zero_B,
      recent_BT=jnp.full((slots, 1), -1, jnp.int32),
      ended_B=zero_B > 0,
      key_B=jnp.broadcast_to(jax.random.key(0), slots),
      draft_BD=None,
    ),
    options=Options(
      temperature_B=jnp.ones(slots),
      top_p_B=jnp.ones(slots),
      top_k_B=zero_B,
      wants_top_B=zero_B > 0,
    ),
  )


@functools.partial(jax.jit, static_argnames='cfg', donate_argnames='state')
def admit(
  params: dict, cfg: ModelConfig, state: SlotState, new: NewRow
) -> SlotState:
  """Prefills the prompt of a request into its slot. params and cfg are those of
  transformer.for_decoding."""
  column_1T = jnp.arange(len(new.tokens_T))[None]
  pos_1T = jnp.where(column_1T < new.length, column_1T, -1)
  out = transformer.forward(params, cfg, new.tokens_T[None], pos_1T)
  zero_B = jnp.zeros_like(state.slots.pos_B)
  take_B = jnp.arange(len(zero_B)) == new.slot
  key = jax.random.fold_in(jax.random.key(new.seed), new.number)
  slots = state.slots.replace(
    live_B=take_B,
    token_B=zero_B + new.tokens_T[new.length - 1],
    pos_B=zero_B + new.length - 1,
    end_B=zero_B + new.length + new.max_tokens,
    recent_BT=jnp.full_like(state.slots.recent_BT, -1),
    ended_B=zero_B > 0,
    key_B=jnp.broadcast_to(jax.random.fold_in(key, new.member), zero_B.shape),
  )
  old = state.options
  return SlotState(
    cache=copy_prompts(cfg, out.cache, zero_B, take_B, state.cache),
    slots=decode_step.select(take_B, slots, state.slots),
    options=Options(
      temperature_B=jnp.where(take_B, new.temperature, old.temperature_B),
      top_p_B=jnp.where(take_B, new.top_p, old.top_p_B),
      top_k_B=jnp.where(take_B, new.top_k, old.top_k_B),
      wants_top_B=jnp.where(take_B, new.wants_top, old.wants_top_B),
    ),
  )


@functools.partial(
  jax.jit, static_argnames=('cfg', 'config', 'steps'), donate_argnames='state'
)
def advance(
  params: dict,
  cfg: ModelConfig,
  config: SampleConfig,
  steps: int,
  state: SlotState,
  keep_B: Array,
) -> tuple[SlotState, SegmentTokens]:
  """`steps` steps of all slots. Requests that are not in keep_B leave first. Of
  the config only the end tokens count."""
  options = state.options

  def step(carry, _):
    cache, slots = carry
    out, logits_BV = decode_step.next_logits(params, cfg, cache, slots)
    live_B = slots.live_B
    token_B, logp_B = token_sampling.sample_token_by_row(
      logits_BV,
      decode_step.fold_in(slots.key_B, slots.pos_B + 1),
      options.temperature_B,
      options.top_p_B,
      options.top_k_B,
    )
    top = _top_if_asked(options, live_B, logits_BV)
    slots = decode_step.append(config, slots, token_B, live_B)
    return (out.cache, slots), SegmentTokens(token_B, logp_B, live_B, top)

  slots = state.slots.replace(live_B=state.slots.live_B & keep_B)
  carry, tokens = jax.lax.scan(step, (state.cache, slots), length=steps)
  cache, slots = carry
  return state.replace(cache=cache, slots=slots), tokens


@functools.partial(jax.jit, static_argnames='cfg')
def score(
  params: dict, cfg: ModelConfig, tokens_T: Array, length: Array
) -> tuple[Array, TopTokens]:
  """(log-probabilities of the tokens of a prompt given those before, the most
  probable tokens in their places), at temperature 1. Those of the first have no
  meaning."""
  T = len(tokens_T)
  column_1T = jnp.arange(T)[None]
  pos_1T = jnp.where(column_1T < length, column_1T, -1)
  out = transformer.forward(params, cfg, tokens_T[None], pos_1T)
  chunk = min(T, cfg.head_chunk)
  pad = ((0, -T % chunk),)
  hidden = jnp.pad(out.hidden_BTD[0], (*pad, (0, 0)))
  next_T = jnp.pad(jnp.roll(tokens_T, -1), pad)

  def of_chunk(hidden_and_next):
    hidden_TD, next_T = hidden_and_next
    logits_TV = transformer.unembed(params, cfg, hidden_TD[None])[0]
    logp_T = token_sampling.logp(logits_TV, next_T, 1.0)
    return logp_T, _top(logits_TV)

  parts = hidden.reshape(-1, chunk, cfg.width), next_T.reshape(-1, chunk)
  results = jax.lax.map(of_chunk, parts)

  def of_tokens(array):
    rows = array.reshape(-1, *array.shape[2:])[:T]
    return jnp.roll(rows, 1, axis=0)

  return jax.tree.map(of_tokens, results)


def _top_if_asked(options, live_B, logits_BV):
  """The most probable tokens if a request asks for them, else zeros."""
  scores_BV = token_sampling.scores_by_row(logits_BV, options.temperature_B)
  like = jax.eval_shape(_top, scores_BV)

  def zeros(scores_BV):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)

  return jax.lax.cond(
    jnp.any(options.wants_top_B & live_B), _top, zeros, scores_BV
  )


def _top(scores_BV):
  count = min(MAX_TOP, scores_BV.shape[-1])
  score_BK, id_BK = jax.lax.top_k(scores_BV, count)
  lse_B1 = jax.nn.logsumexp(scores_BV, axis=-1, keepdims=True)
  # Ids that pad the vocabulary have no probability.
  is_real_BK = score_BK > lm_head.MASKED_LOGIT / 2
  logp_BK = jnp.where(is_real_BK, score_BK - lse_B1, -jnp.inf)
  return TopTokens(ids=id_BK, logps=logp_BK)
