"""The tensors of grouped-query attention in Hugging Face's checkpoints."""

from collections.abc import Iterator

import numpy as np

from r1jax.models.gqa import GqaConfig
from r1jax.models.hf_tensor import HfTensor


def tensors(cfg: GqaConfig) -> Iterator[HfTensor]:
  """The tensors of a layer's attention. Those of one leaf are adjacent, so that
  an export gathers it once."""
  D, C = cfg.width, cfg.head_dim
  # Each key head of qkv has its query heads first, then the key and the value.
  q_rows, kv_rows = cfg.heads * C, cfg.kv_heads * C
  parts = np.s_[:, :, :-2], np.s_[:, :, -2], np.s_[:, :, -1]
  yield HfTensor('self_attn.o_proj.weight', (D, q_rows), 'out', axes=(-1, 0))
  biases = []
  for x, rows, index in zip('qkv', (q_rows, kv_rows, kv_rows), parts):
    name = f'self_attn.{x}_proj'
    yield HfTensor(f'{name}.weight', (rows, D), 'qkv', index, (0, -1))
    biases.append(HfTensor(f'{name}.bias', (rows,), 'qkv_bias', index[1:]))
  if cfg.qkv_bias:
    yield from biases
  if cfg.out_bias:
    yield HfTensor('self_attn.o_proj.bias', (D,), 'out_bias')
  if cfg.sinks:
    yield HfTensor('self_attn.sinks', (cfg.heads,), 'sinks')
  if cfg.qk_norm:
    yield HfTensor('self_attn.q_norm.weight', (C,), 'q_norm')
    yield HfTensor('self_attn.k_norm.weight', (C,), 'k_norm')
  if cfg.qk_norm_heads:
    yield HfTensor('self_attn.q_norm.weight', (q_rows,), 'q_norm_heads')
    yield HfTensor('self_attn.k_norm.weight', (kv_rows,), 'k_norm_heads')


def fused_tensors(cfg: GqaConfig) -> Iterator[HfTensor]:
  """The tensors of a layer's attention where one has the rows of all queries,
  then of all keys and of all values."""
  D, K, C = cfg.width, cfg.kv_heads, cfg.head_dim
  q_rows, kv_rows = cfg.heads * C, K * C
  yield HfTensor('self_attn.o_proj.weight', (D, q_rows), 'out', axes=(-1, 0))
  sizes = q_rows, kv_rows, kv_rows
  parts = np.split(np.arange(sum(sizes)), np.cumsum(sizes[:-1]))
  rows = np.concatenate([x.reshape(K, -1, C) for x in parts], axis=1)
  yield HfTensor(
    'self_attn.qkv_proj.weight',
    (sum(sizes), D),
    'qkv',
    axes=(0, -1),
    rows=rows.reshape(-1),
  )
