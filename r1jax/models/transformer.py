"""A decoder-only Transformer of any family: the functions that the package calls.

One forward function serves training, prefill and decoding.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import layer, lm_head, registry, stack
from r1jax.models.model_config import ModelConfig
from r1jax.models.stack import Cache, Output

# 'embed' [V, D], 'norm' [D], 'head' [V, D] unless the embeddings are tied,
# 'score' [D] in reward models, and the stacks of the family, e.g. 'layers', with
# leaves stacked over N.
Params = dict[str, Any]


@functools.partial(jax.jit, static_argnames='cfg')
def init(key: Array, cfg: ModelConfig) -> Params:
  """Random float32 parameters of the whole model."""
  cfg = dataclasses.replace(cfg, attention='einsum')  # for every dtype
  return registry.family_of(cfg).init(key, cfg)


def init_cache(cfg: ModelConfig, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as forward takes and returns it."""
  return registry.family_of(cfg).init_cache(cfg, rows, length)


def forward(
  params: Params,
  cfg: ModelConfig,
  tokens_BT: Array,
  pos_BT: Array,
  past: Cache = None,
  routing: Array | None = None,
) -> Output:
  """(hidden_BTD after the last norm, cache, chosen experts).

  A key is visible iff 0 <= pos_key <= pos_query, and is within the window of a
  layer that has one; padding has position -1. In packed rows, which cfg.packing
  describes, it is also of the prompt or of the same response; for those of
  cfg.sequence_packing see sequence_packing.py. Without `past` the cache has what
  the layers remember of the call's tokens, with S = T. With `past`, a cache in
  which the column of a token is its position, the positions of a row must be
  consecutive; the result is the cache with these tokens. `routing` are the experts to use instead of the router's choice,
  as Output has them. In any case Output has the choice.
  """
  family = registry.family_of(cfg)
  return family.forward(params, cfg, tokens_BT, pos_BT, past, routing)


def init_mtp_cache(cfg: ModelConfig, rows: int, length: int) -> Cache:
  """An empty cache of `length` columns, as mtp_forward takes and returns it."""
  return registry.mtp_family_of(cfg).init_mtp_cache(cfg, rows, length)


def mtp_forward(
  params: Params,
  cfg: ModelConfig,
  next_BT: Array,
  pos_BT: Array,
  hidden_BTD: Array,
  past: Cache = None,
) -> Output:
  """forward of the first module of multi-token prediction.

  Column t takes forward's hidden state of token t and the id of token t + 1,
  and gives a hidden state for the prediction of token t + 2. Positions are
  those of forward; `past` is as in forward, but a cache of the module.
  """
  args = params, cfg, next_BT, pos_BT, hidden_BTD, past
  return registry.mtp_family_of(cfg).mtp_forward(*args)


def next_tokens(tokens_BT: Array) -> Array:
  """next_BT of mtp_forward for whole rows, 0 in the last column."""
  return jnp.pad(tokens_BT[:, 1:], ((0, 0), (0, 1)))


def with_score(params: Params, cfg: ModelConfig) -> tuple[Params, ModelConfig]:
  """The reward model that starts from a policy, and its config: it has a score
  head of zeros instead of a head for tokens."""
  params = {name: leaf for name, leaf in params.items() if name != 'head'}
  params['score'] = jnp.zeros(cfg.width)
  return params, dataclasses.replace(cfg, tie_embeddings=True, score=True)


def is_cast(name: str) -> bool:
  """Whether a leaf of this name is cast to cfg.dtype wherever it is used, as
  matrices and embeddings are. Norms, biases, routers and score heads are used
  in float32."""
  return 'data' in registry.PARTITION.get(name, ())


def frozen(params: Params, cfg: ModelConfig) -> Params:
  """The parameters of a model that is not trained: in cfg.dtype where they are
  cast to it anyway, so that the model computes the same numbers."""

  def cast(path, leaf):
    return leaf.astype(cfg.dtype) if is_cast(path[-1].key) else leaf

  return jax.tree_util.tree_map_with_path(cast, params)


def positions(mask_BL: Array) -> Array:
  """0, 1, 2, ... on the real tokens of each row, -1 elsewhere."""
  mask = mask_BL.astype(jnp.int32)
  return jnp.where(mask > 0, jnp.cumsum(mask, axis=1) - 1, -1)


def for_decoding(
  params: Params, cfg: ModelConfig, draft: bool = False
) -> tuple[Params, ModelConfig]:
  """(params, cfg) for a decode loop: matrices are gathered over 'data' and cast
  to cfg.dtype once; layers that are not scanned are unstacked. The module of
  multi-token prediction is left out, unless it drafts tokens."""

  def gather(path, leaf):
    name = path[-1].key
    if not is_cast(name):
      return leaf
    w = cfg.sharding.gather_weight(name, leaf, cfg.dtype)
    return layer.gate_up_first(name, w) if cfg.tpu_layout else w

  if not draft:
    params = {name: leaf for name, leaf in params.items() if name != 'mtp'}

  def gather_all(tree):
    return jax.tree_util.tree_map_with_path(gather, tree)

  stacks = registry.family_of(cfg).STACKS
  gathered: Params = {}
  loop_cfg = decoding_config(cfg)
  for name, part in params.items():
    if name not in stacks:
      gathered |= gather_all({name: part})
    elif cfg.sharding.fsdp_axes:
      # One layer after another: each is in memory twice for a moment.
      part = jax.lax.map(gather_all, part)
      gathered[name] = part if cfg.scan_layers else stack.unstack(part)
    elif cfg.scan_layers:
      gathered[name] = gather_all(part)
    else:
      # Casts of single layers, which XLA fuses with what follows.
      unstack = stack.unstack_alike if cfg.cpu_layout else stack.unstack
      gathered[name] = tuple(map(gather_all, unstack(part)))
    if name in stacks and loop_cfg.outputs_first:
      gathered[name] = tuple(
        {leaf: layer.outputs_first(leaf, w) for leaf, w in one.items()}
        for one in gathered[name]
      )
  return gathered, loop_cfg


def decoding_config(cfg: ModelConfig) -> ModelConfig:
  """The config of the parameters that for_decoding returns."""
  sharding = dataclasses.replace(cfg.sharding, fsdp_axes=())
  return dataclasses.replace(
    cfg,
    sharding=sharding,
    gate_up_first=cfg.tpu_layout,
    outputs_first=cfg.cpu_layout and not cfg.scan_layers,
  )


def unembed(params: Params, cfg: ModelConfig, hidden_BTD: Array) -> Array:
  """float32 logits_BTV over the whole vocabulary; ids from cfg.real_vocab on
  get lm_head.MASKED_LOGIT."""
  name = cfg.table_name
  table_VD = cfg.sharding.gather_weight(name, params[name], cfg.dtype)
  logits = lm_head.logits(cfg, hidden_BTD, table_VD)
  return cfg.sharding.all_gather_vocab(logits)


def scores(
  params: Params, cfg: ModelConfig, tokens_BL: Array, pos_BL: Array
) -> Array:
  """float32 score_B: the hidden state of each row's last token times
  params['score']; 0 for a row without tokens."""
  hidden_BLD = forward(params, cfg, tokens_BL, pos_BL).hidden_BTD
  last_B11 = jnp.argmax(pos_BL, axis=1)[:, None, None]
  hidden_BD = jnp.take_along_axis(hidden_BLD, last_B11, axis=1)[:, 0]
  score_B = jnp.sum(hidden_BD * params['score'][None], axis=1)
  return jnp.where(pos_BL.max(axis=1) >= 0, score_B, 0)
