"""The tensors of attention in Hugging Face's checkpoints: of grouped-query
attention, and of latent attention."""

from collections.abc import Iterator

import numpy as np

from r1jax.models.gqa import GqaConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.mla import MlaConfig


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


def latent_tensors(cfg: MlaConfig) -> Iterator[HfTensor]:
  """The tensors of a layer's latent attention."""
  D, Q, R, H = cfg.width, cfg.q_lora_rank, cfg.kv_lora_rank, cfg.heads
  nope, rotary, C = cfg.qk_nope_head_dim, cfg.qk_rope_head_dim, cfg.v_head_dim

  def product(name, leaf, shape, rows=None):
    name = f'self_attn.{name}.weight'
    return HfTensor(name, shape, leaf, axes=(0, -1), rows=rows)

  def norm(name, leaf, channels):
    return HfTensor(f'self_attn.{name}.weight', (channels,), leaf)

  q_rows = _rotary_rows(cfg, H, nope)
  if Q:
    yield product('q_a_proj', 'q_a', (Q, D))
    yield norm('q_a_layernorm', 'q_a_norm', Q)
    yield product('q_b_proj', 'q_b', (H * (nope + rotary), Q), q_rows)
  else:
    yield product('q_proj', 'q', (H * (nope + rotary), D), q_rows)
  kv_rows = _rotary_rows(cfg, 1, R)
  yield product('kv_a_proj_with_mqa', 'kv_a', (R + rotary, D), kv_rows)
  yield norm('kv_a_layernorm', 'kv_a_norm', R)
  yield product('kv_b_proj', 'kv_b', (H * (nope + C), R))
  name = 'self_attn.o_proj.weight'
  yield HfTensor(name, (D, H * C), 'out', axes=(-1, 0))


def _rotary_rows(cfg, heads, plain):
  """HfTensor.rows of heads with `plain` rows and then the rotary ones, which
  the checkpoint has in pairs 0 and 1, 2 and 3, ..., and rope.rotate in halves
  0, 2, ... and 1, 3, ..."""
  if not cfg.rope_interleave:
    return None
  rotary = np.arange(cfg.qk_rope_head_dim).reshape(-1, 2).T.ravel()
  order = np.concatenate([np.arange(plain), plain + rotary])
  return (np.arange(heads)[:, None] * len(order) + order).ravel()
