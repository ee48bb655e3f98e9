"""The pages of the decode slots: which samples have pages, which pages these
are, and the prompts in them.

A slot has pages for its tokens and those of the next segment. If the pool has
too few for all, the youngest samples give theirs back and wait: a sample is a
function of its key and prompt, so it has the same tokens when it starts again.
The pool has pages for a whole row, so the oldest sample always goes on.

N of table_BN are the pages of a whole row. The last page of the pool is none of
any sample: entries of the table without a page are its number, and what slots
without a sample write goes there.
"""

import jax
import jax.numpy as jnp
from jax import Array

from r1jax import errors
from r1jax.models import attention, kernels, transformer
from r1jax.sampling.decode_state import SampleConfig

# The share of the pages that is left when a sample starts, into which the others
# grow. With 0 samples start again 30 times as often (lengths of a geometric
# distribution, pages for 90 rows).
RESERVE = 1 / 16


def check_kernel(cfg: transformer.ModelConfig, config: SampleConfig) -> None:
  """Refuses pages that the decode kernel of the model cannot read."""
  tile = kernels.page_columns(cfg)
  if config.cache_tokens and config.page_tokens % tile:
    raise errors.UserError(
      f'config.sample.page_tokens is {config.page_tokens}: on this device it '
      f'must be a multiple of {tile}'
    )


def check(config: SampleConfig, row_tokens: int) -> None:
  """Refuses a pool that cannot hold a row of row_tokens."""
  needed = config.pages_of(row_tokens)
  if config.cache_tokens and config.pages < needed:
    raise errors.UserError(
      f'config.sample.cache_tokens is {config.cache_tokens}, but a prompt and '
      f'its response may have {row_tokens} tokens: set it to '
      f'{needed * config.page_tokens} at least, or to 0'
    )


def empty(slots: int, pages: int, row_pages: int) -> Array:
  """table_BN of slots without pages."""
  return jnp.full((slots, row_pages), pages, jnp.int32)


def kept(
  need_B: Array, live_B: Array, age_B: Array, sample_B: Array, pages: int
) -> Array:
  """Which of the live slots keep their pages, if slot b needs need_B[b]: those
  with the most tokens, age_B, as many as there are pages for."""
  order_B = jnp.lexsort((sample_B, -age_B, ~live_B))
  total_B = jnp.cumsum(jnp.where(live_B, need_B, 0)[order_B])
  return live_B & jnp.zeros_like(live_B).at[order_B].set(total_B <= pages)


def admitted(
  need_B: Array, take_B: Array, kept_B: Array, used: Array, pages: int
) -> Array:
  """Which of the slots take_B get their samples, beside kept_B, which use `used`
  pages. If there are no others, the first gets its sample whatever it needs."""
  total_B = used + jnp.cumsum(jnp.where(take_B, need_B, 0))
  fits_B = total_B <= pages - int(RESERVE * pages)
  is_first_B = jnp.cumsum(take_B) == 1
  return take_B & (fits_B | (is_first_B & ~jnp.any(kept_B)))


def assign(
  table_BN: Array, kept_B: Array, has_sample_B: Array, need_B: Array, pages: int
) -> Array:
  """The table in which the slots with samples have need_B pages. Those of kept_B
  keep the ones that they have; all others are free."""
  table_BN = jnp.where(kept_B[:, None], table_BN, pages)
  is_free = jnp.ones(pages + 1, bool).at[table_BN].set(False)[:pages]
  number_1N = jnp.arange(table_BN.shape[1])[None]
  needs_BN = has_sample_B[:, None] & (number_1N < need_B[:, None])
  needs_BN &= table_BN == pages
  free = jnp.nonzero(is_free, size=pages, fill_value=pages)[0]
  rank_BN = jnp.cumsum(needs_BN).reshape(needs_BN.shape) - 1
  return jnp.where(needs_BN, free[rank_BN], table_BN)


def copy_prompts(
  cfg: transformer.ModelConfig,
  prompt_kv: transformer.Cache,
  prompt_B: Array,
  length_B: Array,
  take_B: Array,
  table_BN: Array,
  pool: transformer.Cache,
) -> transformer.Cache:
  """The pool with the prompts in the pages of the slots take_B. The columns of
  prompt_kv are whole pages."""
  page, width = (jax.tree.leaves(a)[0].shape[-2] for a in (pool, prompt_kv))
  first_1N = jnp.arange(0, width, page)[None]
  copied_BN = take_B[:, None] & (first_1N < length_B[:, None])
  slots, numbers = jnp.nonzero(copied_BN, size=copied_BN.size, fill_value=0)

  def copy_page(n, pool):
    slot, number = slots[n], numbers[n]

    def copy(prompt, array):
      front = (0,) * (array.ndim - 4)
      start = *front, prompt_B[slot], 0, number * page, 0
      sizes = *array.shape[:-4], 1, *array.shape[-3:]
      new = jax.lax.dynamic_slice(prompt, start, sizes)
      array = attention.in_cache_layout(cfg.tpu_layout, array)
      start = *front, table_BN[slot, number], 0, 0, 0
      array = jax.lax.dynamic_update_slice(array, new, start)
      return attention.in_cache_layout(cfg.tpu_layout, array)

    return jax.tree.map(copy, prompt_kv, pool)

  return jax.lax.fori_loop(0, jnp.sum(copied_BN), copy_page, pool)


def whole_pages(prompt_kv: transformer.Cache, page: int) -> transformer.Cache:
  """A cache whose columns are padded to whole pages."""

  def pad(array):
    fill = (0, -array.shape[-2] % page)
    return jnp.pad(array, [*[(0, 0)] * (array.ndim - 2), fill, (0, 0)])

  return jax.tree.map(pad, prompt_kv)
