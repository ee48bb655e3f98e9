"""Weights in float8 with one float scale for each block of rows and columns, as
DeepSeek-V3 has them."""

import numpy as np

from r1jax import errors

DTYPE = 'F8_E4M3'  # in the files
SCALE = '_scale_inv'  # ends the name of the scales of a tensor
SCALE_DTYPES = 'F32', 'F16', 'BF16', 'F8_E8M0'
Blocks = tuple[int, int]  # rows and columns with one scale
Shape = tuple[int, ...]


def check(
  where: str,
  shape: Shape,
  scale: tuple[str, Shape] | None,
  blocks: Blocks | None,
) -> None:
  """Raises UserError unless a tensor has the scales of its blocks. `scale` is
  their dtype and shape, None if they are in none of the files."""
  if blocks is None:
    raise errors.UserError(
      f'{where} has dtype {DTYPE}, but config.json has no quantization_config '
      'with quant_method fp8 and weight_block_size, so that its scale is not '
      'known: take config.json from where the weights are from'
    )
  if scale is None:
    raise errors.UserError(
      f'{where} has dtype {DTYPE}, but its scales {SCALE} are in none of the '
      'files: the download or copy is not complete'
    )
  dtype, scale_shape = scale
  if len(shape) != 2 or dtype not in SCALE_DTYPES:
    raise errors.UserError(
      f'{where} has dtype {DTYPE}, shape {list(shape)} and scales of '
      f'{dtype}; r1jax reads matrices with scales of F32 or F8_E8M0'
    )
  want = tuple(-(-size // block) for size, block in zip(shape, blocks))
  if scale_shape != want:
    raise errors.UserError(
      f'{where}{SCALE} has the shape {list(scale_shape)}, but {list(want)} are '
      f'the blocks of {list(blocks)} in its {list(shape)}: correct '
      'weight_block_size in config.json, or take the scales of these weights'
    )


def read_part(
  weights: np.ndarray,
  scales: np.ndarray,
  blocks: Blocks,
  shape: Shape,
  index: tuple[slice, ...],
) -> np.ndarray:
  """A matrix with this shape, of which it has the rows or columns as several
  axes, at this index, float32."""
  part, scales = weights.reshape(shape)[index], scales.astype(np.float32)
  parts = []
  for size, block in zip(weights.shape, blocks):
    count = _leading_axes(shape, size)
    numbers = (np.arange(size) // block).reshape(shape[:count])
    parts.append(numbers[index[:count]])
    shape, index = shape[count:], index[count:]
  rows, columns = parts
  scale = scales[np.ix_(rows.ravel(), columns.ravel())]
  return part.astype(np.float32) * scale.reshape(rows.shape + columns.shape)


def _leading_axes(shape, size):
  """The number of leading axes that have `size` elements together."""
  count, product = 0, 1
  while product < size or count == 0:
    product *= shape[count]
    count += 1
  assert product == size, (shape, size)
  return count
