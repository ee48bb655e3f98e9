"""Caches in pages. Rows share a pool of pages and have as many as they need, so
a device decodes more rows than it could hold at their full length."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from r1jax.models import attention
from r1jax.models.model_config import ModelConfig


class Pages(NamedTuple):
  """A cache [B, K, S, C]: column s of row b is column s % page of the page
  table_BN[b, s // page] of the pool.

  The arrays of scanned layers have a leading axis of layers.
  """

  pool: Array  # [pages, K, page, C]
  table_BN: Array

  @property
  def page(self) -> int:
    """The columns of a page."""
    return self.pool.shape[-2]


def with_table(pool: Any, table_BN: Array) -> Any:
  """A pool as a cache of rows: transformer.init_cache of pages in the place of
  rows, with arrays of Pages as leaves."""

  def pages(array):
    table = jnp.broadcast_to(table_BN, (*array.shape[:-4], *table_BN.shape))
    return Pages(array, table)

  return jax.tree.map(pages, pool)


def pool(cache: Any) -> Any:
  """The pool of a cache of with_table."""
  return jax.tree.map(
    lambda pages: pages.pool, cache, is_leaf=lambda x: isinstance(x, Pages)
  )


def columns(cache: Array | Pages) -> int:
  """The columns S of a row."""
  if isinstance(cache, Pages):
    return cache.table_BN.shape[-1] * cache.page
  return cache.shape[-2]


def rows(cache: Array | Pages) -> Array:
  """The cache as an array [B, K, S, C]; a copy if it is in pages."""
  if not isinstance(cache, Pages):
    return cache
  pages_BNKSC = cache.pool[cache.table_BN]
  B, N, K, page, C = pages_BNKSC.shape
  return pages_BNKSC.swapaxes(1, 2).reshape(B, K, N * page, C)


def write(
  cfg: ModelConfig,
  cache: Array | Pages,
  new_BKTC: Array,
  column_B: Array,
) -> Any:
  """attention.write of either form of a cache."""
  if not isinstance(cache, Pages):
    return attention.write(cfg, cache, new_BKTC, column_B)
  pool, new = cache.pool[None], new_BKTC[None]
  pool = _write(cfg.tpu_layout, pool, new, cache.table_BN, column_B)
  return cache._replace(pool=pool[0])


def write_layers(
  tpu_layout: bool,
  cache: Array | Pages,
  new_NBKTC: Array,
  column_B: Array,
) -> Any:
  """attention.write_layers of either form of a cache."""
  if not isinstance(cache, Pages):
    return attention.write_layers(tpu_layout, cache, new_NBKTC, column_B)
  table_BN = cache.table_BN[0]  # that of all layers
  pool = _write(tpu_layout, cache.pool, new_NBKTC, table_BN, column_B)
  return cache._replace(pool=pool)


def _write(tpu_layout, pool, new_NBKTC, table_BN, column_B):
  """Loops over tokens, as attention.write_layers over rows."""
  B, T, page = len(table_BN), new_NBKTC.shape[3], pool.shape[-2]

  def write_token(n, pool):
    row, t = n // T, n % T
    column = column_B[row] + t
    new = jax.lax.dynamic_slice_in_dim(new_NBKTC, row, 1, axis=1)
    new = jax.lax.dynamic_slice_in_dim(new, t, 1, axis=3)
    start = 0, table_BN[row, column // page], 0, column % page, 0
    pool = attention.in_cache_layout(tpu_layout, pool)
    pool = jax.lax.dynamic_update_slice(pool, new, start)
    return attention.in_cache_layout(tpu_layout, pool)

  return jax.lax.fori_loop(0, B * T, write_token, pool)
