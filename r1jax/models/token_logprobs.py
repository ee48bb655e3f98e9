"""Log-probabilities that a model gives to the tokens of rows: of rows as they
are, of packed ones, and by the module of multi-token prediction."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import lm_head, packing, sequence_packing, transformer
from r1jax.models.model_config import ModelConfig
from r1jax.models.packing import Packing


def logprobs(
  params: transformer.Params,
  cfg: ModelConfig,
  tokens_BL: Array,
  pos_BL: Array,
  temperature: float = 1.0,
  routing: Array | None = None,
) -> tuple[Array, Array]:
  """(logp_BL, entropy_BL) under softmax(logits / temperature), float32.

  Column t is log p(token t | tokens before t), and the entropy of that
  distribution. Both are 0 in the first column of a row and on padding. The
  [B, L, V] logits exist for cfg.head_chunk columns at a time, in the backward
  pass too. Both results are differentiable. `routing` is as in
  transformer.forward.
  """
  out = logprobs_and_routing(
    params, cfg, tokens_BL, pos_BL, temperature, routing
  )
  return out.logp_BL, out.entropy_BL


class TokenLogprobs(NamedTuple):
  """The results of `logprobs`, and what Output has."""

  logp_BL: Array
  entropy_BL: Array
  routing: Array | None
  hidden_BLD: Array  # of packed rows, if these were computed


def logprobs_and_routing(
  params: transformer.Params,
  cfg: ModelConfig,
  tokens_BL: Array,
  pos_BL: Array,
  temperature: float = 1.0,
  routing: Array | None = None,
) -> TokenLogprobs:
  """`logprobs`, with its other results."""
  out = transformer.forward(params, cfg, tokens_BL, pos_BL, routing=routing)
  hidden = out.hidden_BTD
  table_VD, pad = params[cfg.table_name], ((0, 0), (1, 0))
  logp, entropy = lm_head.token_logprobs(
    cfg, temperature, hidden[:, :-1], table_VD, tokens_BL[:, 1:]
  )
  has_logp_BL = pos_BL > 0
  logp_BL = jnp.pad(logp, pad) * has_logp_BL
  entropy_BL = jnp.pad(entropy, pad) * has_logp_BL
  return TokenLogprobs(logp_BL, entropy_BL, out.routing, hidden)


def packed_logprobs(
  params: transformer.Params,
  cfg: ModelConfig,
  packed: Packing,
  tokens_BL: Array,
  pos_BL: Array,
  prompt_BL: Array,
  temperature: float = 1.0,
  routing: Array | None = None,
) -> TokenLogprobs:
  """`logprobs_and_routing`, computing the prompt that adjacent rows share once.
  prompt_BL has the tokens of the prompts, whose logp and entropy are 0. L is
  packed.width and the columns of the longest response."""
  length_P = prompt_BL[:: packed.responses].sum(axis=1, dtype=jnp.int32)
  tokens_PT = packing.pack(packed, tokens_BL, length_P)
  pos_PT = packing.pack_positions(packed, pos_BL, length_P)
  if routing is not None:
    pack_layers = jax.vmap(packing.pack, (None, 0, None))
    routing = pack_layers(packed, routing, length_P)
  packed_cfg = dataclasses.replace(cfg, packing=packed)
  out = transformer.forward(
    params, packed_cfg, tokens_PT, pos_PT, routing=routing
  )
  hidden_BTD = packing.before_responses(packed, out.hidden_BTD, length_P)
  target_BT = tokens_PT[:, packed.width :].reshape(len(tokens_BL), -1)
  table_VD = params[cfg.table_name]
  results = lm_head.token_logprobs(
    cfg, temperature, hidden_BTD, table_VD, target_BT
  )
  has_logp_BL = pos_BL > 0
  logp_BL, entropy_BL = (
    packing.responses_to_rows(packed, x_BT, length_P) * has_logp_BL
    for x_BT in results
  )
  chosen = out.routing
  if chosen is not None:
    unpack_layers = jax.vmap(packing.unpack, (None, 0, None))
    chosen = unpack_layers(packed, chosen, length_P)
  return TokenLogprobs(logp_BL, entropy_BL, chosen, out.hidden_BTD)


def sequence_logprobs(
  params: transformer.Params,
  cfg: ModelConfig,
  tokens_BL: Array,
  pos_BL: Array,
  source_PT: Array,
  place_BL: Array,
  temperature: float = 1.0,
  routing: Array | None = None,
) -> TokenLogprobs:
  """`logprobs_and_routing` of rows, computed one after another in packed rows,
  as a Layout of data/sequences.py says."""
  tokens_PT, pos_PT = sequence_packing.pack_sequences(
    tokens_BL, pos_BL, source_PT
  )
  if routing is not None:
    pack_layers = jax.vmap(sequence_packing.pack, (0, None))
    routing = pack_layers(routing, source_PT)
  packed_cfg = dataclasses.replace(cfg, sequence_packing=True)
  out = logprobs_and_routing(
    params, packed_cfg, tokens_PT, pos_PT, temperature, routing
  )
  chosen = out.routing
  if chosen is not None:
    unpack_layers = jax.vmap(sequence_packing.unpack, (0, None))
    chosen = unpack_layers(chosen, place_BL)
  return TokenLogprobs(
    logp_BL=sequence_packing.unpack(out.logp_BL, place_BL),
    entropy_BL=sequence_packing.unpack(out.entropy_BL, place_BL),
    routing=chosen,
    hidden_BLD=out.hidden_BLD,
  )


def mtp_logprobs(
  params: transformer.Params,
  cfg: ModelConfig,
  hidden_BLD: Array,
  tokens_BL: Array,
  pos_BL: Array,
) -> Array:
  """logp_BL of the module of multi-token prediction, from forward's hidden
  states: column t is log p(token t | tokens before t - 1, by forward's hidden
  state, and token t - 1). 0 in the first two columns of a row and on padding.
  """
  next_BL = transformer.next_tokens(tokens_BL)
  hidden = transformer.mtp_forward(
    params, cfg, next_BL, pos_BL, hidden_BLD
  ).hidden_BTD
  logp, _ = lm_head.token_logprobs(
    cfg, 1.0, hidden[:, :-2], params[cfg.table_name], tokens_BL[:, 2:]
  )
  return jnp.pad(logp, ((0, 0), (2, 0))) * (pos_BL > 1)
