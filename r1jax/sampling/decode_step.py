"""A step of the decode loop, which samples a token in every slot."""

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import transformer
from r1jax.sampling import decode_state, token_sampling
from r1jax.sampling.decode_state import SampleConfig, Slots, StepTokens


def step(
  params: dict,
  cfg: transformer.ModelConfig,
  config: SampleConfig,
  cache: transformer.Cache,
  slots: Slots,
) -> tuple[transformer.Cache, Slots, StepTokens]:
  """(cache, slots, tokens) after a step. Tokens of slots that are not live are
  ignored."""
  live_B = slots.live_B
  out, logits_BV = next_logits(params, cfg, cache, slots)
  pos_B = slots.pos_B + 1
  token_B, logp_B = token_sampling.sample_token(
    logits_BV,
    fold_in(slots.key_B, pos_B),
    config.temperature,
    config.top_p,
    config.top_k,
  )
  tokens = StepTokens(
    token_BT=token_B[:, None],
    logp_BT=logp_B[:, None],
    pos_BT=pos_B[:, None],
    live_BT=live_B[:, None],
    routing=routing_of(cfg, out),
  )
  return out.cache, append(config, slots, token_B, live_B), tokens


def next_logits(
  params: dict,
  cfg: transformer.ModelConfig,
  cache: transformer.Cache,
  slots: Slots,
) -> tuple[transformer.Output, Array]:
  """(what forward returns for the slots' last tokens, the logits of the tokens
  after them)."""
  out = transformer.forward(
    params, cfg, slots.token_B[:, None], slots.pos_B[:, None], cache
  )
  return out, transformer.unembed(params, cfg, out.hidden_BTD)[:, 0]


def append(
  config: SampleConfig, slots: Slots, token_B: Array, has_token_B: Array
) -> Slots:
  """The slots after one more token, where has_token_B."""
  recent = slots.recent_BT[:, 1:], token_B[:, None]
  recent_BT = jnp.concatenate(recent, axis=1)
  ended_B = jnp.isin(token_B, jnp.array(config.eos_ids, jnp.int32))
  for stop in config.stop_token_sequences:
    tail = recent_BT[:, -len(stop) :]
    ended_B |= jnp.all(tail == jnp.array(stop)[None], axis=1)
  pos_B = slots.pos_B + 1
  new = slots.replace(
    live_B=~ended_B & (pos_B + 1 < slots.end_B),
    token_B=token_B,
    pos_B=pos_B,
    recent_BT=recent_BT,
    ended_B=ended_B,
  )
  return select(has_token_B, new, slots)


def select(is_new_B: Array, new: Slots, old: Slots) -> Slots:
  """`new` in the slots is_new_B, `old` in the others."""

  def where(new, old):
    axes = tuple(range(1, old.ndim))
    return jnp.where(jnp.expand_dims(is_new_B, axes), new, old)

  return jax.tree.map(where, new, old)


def fold_in(key_B: Array, number_B: Array) -> Array:
  """jax.random.fold_in of each row."""
  return jax.vmap(jax.random.fold_in)(key_B, number_B)


def routing_of(
  cfg: transformer.ModelConfig, out: transformer.Output
) -> Array | None:
  """StepTokens.routing of a forward call."""
  if out.routing is None:
    return None
  routing = jnp.moveaxis(out.routing, 0, 2)
  return routing.astype(decode_state.routing_dtype(cfg))
