"""The config of sampling and the arrays of the decode loop."""

import dataclasses
from typing import Any

import numpy as np
from flax import struct

from r1jax.config import option
from r1jax.models import transformer

Array = Any  # jax.Array in a program, np.ndarray on the host
Ids = tuple[int, ...]


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
    0,
    'cache lengths to choose from; 0: up to 4, fewer for short rows',
    minimum=0,
    is_free=True,
  )
  cache_tokens: int = option(
    0,
    'tokens of the cache of a shard, in pages that decode slots share; 0: each '
    'slot has a whole row',
    minimum=0,
    is_free=True,
  )
  page_tokens: int = option(
    128, 'tokens of a page, with cache_tokens', minimum=1, is_free=True
  )
  draft: bool = option(
    False,
    'each step also verifies a token that the module of compute.keep_mtp '
    'predicts',
  )
  eos_ids: Ids = option((), "end tokens; (): the tokenizer's")
  stop_token_sequences: tuple[Ids, ...] = option((), 'ids that end a row')

  @property
  def pages(self) -> int:
    """The pages of a shard's cache; 0: its rows are whole."""
    return self.cache_tokens // self.page_tokens

  def pages_of(self, tokens: int) -> int:
    """The pages of a row of so many tokens."""
    return -(-tokens // self.page_tokens)


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
  # With pages, the number of tokens of samples that were started again.
  restarted: Array | None = None


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
  draft_BD: Array  # see draft.step; None without drafts


class Prefilled(struct.PyTreeNode):
  """What samples copy of their prompts."""

  cache: transformer.Cache
  draft_PD: Array  # Slots.draft_BD of a new sample


class DecodeState(struct.PyTreeNode):
  """The carry of the loop: slots, and the samples so far."""

  # Of the slots, or a pool of pages; with drafts a pair, see draft.py.
  cache: transformer.Cache
  slots: Slots
  table_BN: Array | None  # the pages of the slots, see page_table.py
  waiting_N: Array  # the samples that no slot has, and that have no tokens
  tokens_NL: Array
  logp_NL: Array
  mask_NL: Array
  finished_N: Array
  steps: Array
  live: Array
  restarted: Array | None  # see SampledRows
  routing: Array | None  # [N, L, ...], see SampledRows


class StepTokens(struct.PyTreeNode):
  """The tokens of a decode step, T a slot: 1, or 2 with a draft."""

  token_BT: Array
  logp_BT: Array
  pos_BT: Array  # the positions of the tokens
  live_BT: Array  # whether the token is one of a sample
  routing: Array | None  # of the tokens before these, [B, T, layers, experts]


def routing_dtype(cfg: transformer.ModelConfig) -> np.dtype:
  """The smallest unsigned dtype for the ids of experts."""
  return np.min_scalar_type(cfg.num_experts - 1)
