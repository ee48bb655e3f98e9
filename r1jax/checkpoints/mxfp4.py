"""Weights in MXFP4 (OCP microscaling formats), as gpt-oss has its experts: 4-bit
floats, each block of 32 with a scale of a power of two.

A tensor NAME [E, D, R] is in the files as NAME_blocks [E, R, D / 32, 16], two
numbers a byte, and NAME_scales [E, R, D / 32].
"""

import ml_dtypes
import numpy as np

from r1jax import errors

BLOCKS, SCALES = '_blocks', '_scales'  # end the names of both tensors
BLOCK = 32
BYTES = BLOCK // 2  # of a block
DTYPE = 'U8'  # of both, in the files
POSITIVE = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
VALUES = np.array(POSITIVE + [-x for x in POSITIVE], np.float32)


def shape(
  where: str, blocks: tuple[int, ...], scales: tuple[int, ...]
) -> tuple[int, ...]:
  """[E, D, R] from the shapes of both tensors. Raises UserError."""
  if len(blocks) != 4 or blocks[3] != BYTES or scales != blocks[:3]:
    raise errors.UserError(
      f'{where} has the shape {list(blocks)}, and its scales {list(scales)}: '
      f'weights in MXFP4 are [experts, rows, blocks, {BYTES}] with scales of '
      '[experts, rows, blocks], so the files are damaged or of another format'
    )
  experts, rows, count, _ = blocks
  return experts, count * BLOCK, rows


def read_part(
  blocks: np.ndarray,
  scales: np.ndarray,
  shape: tuple[int, ...],
  index: tuple[slice, ...],
) -> np.ndarray:
  """The tensor [E, D, R], with this shape, of which it has R as several axes, at
  this index. bfloat16 holds all numbers exactly."""
  experts, columns, *rows = index
  start, end, _ = columns.indices(shape[1])
  first, last = start // BLOCK, -(-end // BLOCK)
  part = experts, *rows, slice(first, last)
  front = shape[0], *shape[2:], shape[1] // BLOCK
  blocks = blocks.reshape(*front, BYTES)[part]
  scales = scales.reshape(front)[part].view(ml_dtypes.float8_e8m0fnu)
  size = *blocks.shape[:-2], (last - first) * BLOCK
  out = np.empty(size, ml_dtypes.bfloat16)
  for e in range(len(blocks)):  # In turn, for little memory.
    pair = np.stack([blocks[e] & 15, blocks[e] >> 4], axis=-1)
    values = VALUES[pair.reshape(*pair.shape[:-2], BLOCK)]
    values *= scales[e].astype(np.float32)[..., None]
    out[e] = values.reshape(out.shape[1:])
  out = out[..., start - first * BLOCK : end - first * BLOCK]
  return np.moveaxis(out, -1, 1)
