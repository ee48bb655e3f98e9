"""The decode loop: prompts in, sampled rows with their log-probabilities out,
in one jitted program that gives the slots of finished rows to waiting samples.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import struct

from r1jax.config import option
from r1jax.models import attention, transformer
from r1jax.sampling import token_sampling


@dataclasses.dataclass(frozen=True)
class SampleConfig:
  max_new_tokens: int = option(512, 'most tokens drawn for one sample', least=1)
  temperature: float = option(
    1.0, 'of the softmax; 0 takes the likeliest', least=0
  )
  top_p: float = option(1.0, 'smallest set of tokens of this mass; 1: all')
  top_k: int = option(0, 'that many likeliest tokens; 0: all', least=0)
  decode_slots: int = option(
    64, 'rows decoded at one time on a device', least=1
  )
  refill_interval: int = option(
    16, 'tokens between two refills of free slots', least=1
  )
  kv_windows: int = option(
    4, 'cache lengths to choose from as rows grow', least=1
  )
  eos_ids: tuple[int, ...] = option(
    (), 'ids that end a row; (): the tokenizer says'
  )
  stop_token_sequences: tuple[tuple[int, ...], ...] = option(
    (), 'sequences of ids that end a row'
  )


@struct.dataclass
class Prompts:
  """Rows of prompt ids, right-padded.

  The key of a sample comes from index, its prompt's number in the run, and from
  its number in the group, of which member is the first. room is how many tokens
  a sample may draw, at most SampleConfig.max_new_tokens.
  """

  tokens_PL: jax.Array
  length_P: jax.Array
  index_P: jax.Array
  member_P: jax.Array
  room_P: jax.Array


@struct.dataclass
class SampledRows:
  """Samples, G in a row for each prompt: [P * G, prompt columns + max_new_tokens].

  Column t of logp_BL is log p(token t) under softmax(logits / temperature),
  untruncated. mask_BL marks tokens that the policy drew, pos_BL is -1 on
  padding. finished_B: the row ended by an end token or a stop sequence.
  steps and live count decode steps, and slots in use summed over them.
  """

  tokens_BL: jax.Array
  pos_BL: jax.Array
  logp_BL: jax.Array
  mask_BL: jax.Array
  finished_B: jax.Array
  steps: jax.Array
  live: jax.Array


@struct.dataclass
class _Slots:
  """What each of the S slots is doing."""

  sample_S: jax.Array  # the sample in the slot; B: none
  live_S: jax.Array
  token_S: jax.Array  # the last token, not yet in the cache
  pos_S: jax.Array  # its position
  end_S: jax.Array  # the position after the last that may be drawn
  recent_SM: jax.Array  # the last drawn ids, -1 where fewer were drawn
  ended_S: jax.Array  # by an end token or a stop sequence
  key_S: jax.Array


def _step(params, cfg, sc, cache, slots):
  """One token for every slot; returns the cache, the slots, and what was
  drawn: (token_S, logp_S, live_S before the step)."""
  live_S = slots.live_S
  hidden, cache = transformer.forward(
    params, cfg, slots.token_S[:, None], slots.pos_S[:, None], cache
  )
  key_S = jax.vmap(jax.random.fold_in)(slots.key_S, slots.pos_S + 1)
  token_S, logp_S = token_sampling.sample_token(
    transformer.unembed(params, cfg, hidden)[:, 0], key_S, sc
  )
  recent_SM = jnp.concatenate(
    [slots.recent_SM[:, 1:], token_S[:, None]], axis=1
  )
  ended_S = jnp.isin(token_S, jnp.array(sc.eos_ids, jnp.int32))
  for stop in sc.stop_token_sequences:
    tail = recent_SM[:, -len(stop) :]
    ended_S |= jnp.all(tail == jnp.array(stop)[None], axis=1)
  pos_S = slots.pos_S + live_S
  slots = slots.replace(
    live_S=live_S & ~ended_S & (pos_S + 1 < slots.end_S),
    token_S=jnp.where(live_S, token_S, slots.token_S),
    pos_S=pos_S,
    recent_SM=recent_SM,
    ended_S=jnp.where(live_S, ended_S, slots.ended_S),
  )
  return cache, slots, (token_S, logp_S, live_S)


def _refill(
  prompts, group, key, max_new_tokens, prompt_kv, cache, slots, waiting
):
  """Give the free slots to the samples from number `waiting` on."""
  B = prompts.length_P.shape[0] * group
  free_S = ~slots.live_S
  sample_S = waiting + jnp.cumsum(free_S) - 1
  take_S = free_S & (sample_S < B)
  prompt_S = jnp.where(take_S, sample_S, 0) // group
  length_S = prompts.length_P[prompt_S]

  def copy(cache):
    def one(new, old):
      new = jnp.take(new, prompt_S, axis=-4)
      width = new.shape[-2]
      old = attention.as_read(old)
      new = jnp.where(take_S[:, None, None, None], new, old[..., :width, :])
      return attention.as_read(old.at[..., :width, :].set(new))

    return jax.tree.map(one, prompt_kv, cache)

  cache = jax.lax.cond(jnp.any(take_S), copy, lambda cache: cache, cache)
  fold = jax.vmap(
    lambda i, g: jax.random.fold_in(jax.random.fold_in(key, i), g)
  )
  new = _Slots(
    sample_S=jnp.where(take_S, sample_S, B),
    live_S=take_S,
    token_S=prompts.tokens_PL[prompt_S, length_S - 1],
    pos_S=length_S - 1,
    end_S=length_S + jnp.minimum(prompts.room_P[prompt_S], max_new_tokens),
    recent_SM=jnp.full_like(slots.recent_SM, -1),
    ended_S=jnp.zeros_like(take_S),
    key_S=fold(
      prompts.index_P[prompt_S], prompts.member_P[prompt_S] + sample_S % group
    ),
  )

  def pick(n, o):
    return jnp.where(jnp.expand_dims(free_S, tuple(range(1, o.ndim))), n, o)

  slots = jax.tree.map(pick, new, slots)
  return cache, slots, waiting + jnp.sum(take_S)


@functools.partial(jax.jit, static_argnames=('cfg', 'group', 'sc'))
def sample(params, cfg, prompts, key, group, sc):
  """Draw `group` samples for each prompt.

  A sample is a function of (key, its prompt's index, its number in the group)
  and the parameters: slots, neighbours and order do not enter. Prompts are
  prefilled once; a slot is filled by copying its prompt's keys and feeding the
  last prompt token. A key's column in the cache is its position, so nothing is
  ever cleared: stale columns lie above the query and are invisible.
  """
  params, cfg = transformer.for_decoding(params, cfg)
  P, width = prompts.tokens_PL.shape
  B, L, K = P * group, width + sc.max_new_tokens, sc.refill_interval
  S = min(sc.decode_slots, B)
  column_L = jnp.arange(L)[None]
  pos_PL = jnp.where(
    column_L[:, :width] < prompts.length_P[:, None], column_L[:, :width], -1
  )
  _, prompt_kv = transformer.forward(params, cfg, prompts.tokens_PL, pos_PL)
  cache = jax.tree.map(
    lambda a: jnp.zeros(
      a.shape[:-4] + (S, a.shape[-3], L, a.shape[-1]), a.dtype
    ),
    prompt_kv,
  )
  memory = max([1] + [len(s) for s in sc.stop_token_sequences])
  none_S = jnp.zeros(S, jnp.int32)
  slots = _Slots(
    sample_S=none_S + B,
    live_S=none_S > 0,
    token_S=none_S,
    pos_S=none_S,
    end_S=none_S,
    recent_SM=jnp.full((S, memory), -1),
    ended_S=none_S > 0,
    key_S=jax.vmap(lambda i: jax.random.fold_in(key, i))(none_S),
  )
  windows = [-(-L * (i + 1) // sc.kv_windows) for i in range(sc.kv_windows)]

  def segment(window, cache, slots):
    """K steps over the first `window` columns of the cache."""
    part = cache
    if window < L:  # The whole cache is not copied out and in.
      part = jax.tree.map(lambda a: a[..., :window, :], cache)

    def body(carry, _):
      *carry, drawn = _step(params, cfg, sc, *carry)
      return tuple(carry), drawn

    (part, slots), drawn = jax.lax.scan(body, (part, slots), length=K)

    def put(a, p):
      return jax.lax.dynamic_update_slice(a, p, (0,) * a.ndim)

    if window < L:
      part = jax.tree.map(put, cache, part)
    return part, slots, drawn

  def turn(carry):
    cache, slots, waiting, out, finished_B, steps, live = carry
    cache, slots, waiting = _refill(
      prompts, group, key, sc.max_new_tokens, prompt_kv, cache, slots, waiting
    )
    start_S, sample_S = slots.pos_S + 1, slots.sample_S
    need = jnp.max(jnp.where(slots.live_S, start_S, 0)) + K
    which = jnp.sum(need > jnp.array(windows[:-1], jnp.int32))
    cache, slots, (token_KS, logp_KS, live_KS) = jax.lax.switch(
      which, [functools.partial(segment, w) for w in windows], cache, slots
    )
    row_KS = jnp.where(live_KS, sample_S[None], B)  # row B is dropped
    column_KS = start_S[None] + jnp.arange(K)[:, None]

    def put(a, x):
      return a.at[row_KS, column_KS].set(x, mode='drop')

    out = jax.tree.map(put, out, (token_KS, logp_KS, live_KS))
    finished_B = finished_B.at[sample_S].set(slots.ended_S, mode='drop')
    return (
      cache,
      slots,
      waiting,
      out,
      finished_B,
      steps + jnp.sum(jnp.any(live_KS, axis=1)),
      live + jnp.sum(live_KS),
    )

  def rows(a):
    return jnp.repeat(a, group, axis=0)

  tokens_BL = rows(jnp.pad(prompts.tokens_PL, ((0, 0), (0, sc.max_new_tokens))))
  out = (tokens_BL, jnp.zeros((B, L)), jnp.zeros((B, L), bool))
  carry = (cache, slots, 0, out, jnp.zeros(B, bool), 0, 0)
  *_, out, finished_B, steps, live = jax.lax.while_loop(
    lambda c: jnp.any(c[1].live_S) | (c[2] < B), turn, carry
  )
  tokens_BL, logp_BL, mask_BL = out
  real_BL = mask_BL | (column_L < rows(prompts.length_P)[:, None])
  tokens_BL = jnp.where(real_BL, tokens_BL, 0)
  pos_BL = transformer.positions(real_BL)
  return SampledRows(
    tokens_BL, pos_BL, logp_BL, mask_BL, finished_B, steps, live
  )
