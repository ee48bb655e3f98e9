"""Leaves of params that are still in the files of a checkpoint. Devices read
their shards of them, see device_placement.put_state."""

import collections
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from r1jax import errors
from r1jax.checkpoints import user_family
from r1jax.distributed import watchdog
from r1jax.models.hf_tensor import HfTensor

ALIGNMENT = 64  # bytes; then XLA's CPU devices use an array without a copy


class _Overlap(NamedTuple):
  """What a tensor and a shard of its leaf have in common: tensor[part], where
  the tensor has this shape, belongs into `out`, a view of the shard."""

  shape: tuple[int, ...]
  part: tuple[slice, ...]
  out: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class UnreadLeaf:
  """A leaf of params that is read, slice by slice, as `dtype`."""

  source: object  # the checkpoint's path, for errors
  reader: user_family.Reader
  tensors: tuple[HfTensor, ...]
  shape: tuple[int, ...]
  dtype: np.dtype

  @property
  def ndim(self) -> int:
    return len(self.shape)

  @property
  def size(self) -> int:
    return math.prod(self.shape)

  def astype(self, dtype: Any) -> 'UnreadLeaf':
    """The leaf as another dtype, still unread."""
    return dataclasses.replace(self, dtype=np.dtype(dtype))

  def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
    """The whole leaf."""
    array = self.read((slice(None),) * self.ndim)
    return array if dtype is None else array.astype(dtype)

  def read(self, index: Sequence[slice]) -> np.ndarray:
    """leaf[index], from those parts of the files that it needs. Raises
    UserError if weights are not finite."""
    bounds = [part.indices(size)[:2] for part, size in zip(index, self.shape)]
    out = _aligned([end - start for start, end in bounds], self.dtype)
    for tensor in self.tensors:
      overlap = _overlap(tensor, self.shape, bounds, out)
      if overlap:
        watchdog.heartbeat()
        overlap.out[...] = _part(self.reader, tensor, overlap)
        check_finite(overlap.out, self.source, tensor.name)
    return out


def leaves(
  source: object,
  reader: user_family.Reader,
  tensors: Iterable[HfTensor],
  shapes: dict,
) -> dict:
  """Unread float32 params, of which `shapes` has the shapes."""
  by_leaf = collections.defaultdict(list)
  for tensor in tensors:
    by_leaf[tensor.stack, tensor.leaf].append(tensor)

  def make(path, shape):
    names = [''] * (2 - len(path)) + [part.key for part in path]
    stack, leaf = names
    return UnreadLeaf(
      source=source,
      reader=reader,
      tensors=tuple(by_leaf[stack, leaf]),
      shape=shape.shape,
      dtype=np.dtype(np.float32),
    )

  return jax.tree_util.tree_map_with_path(make, shapes)


def check_finite(array: np.ndarray, where: object, name: str) -> None:
  """Raises UserError if a weight is NaN or infinite."""
  bad = array.size - np.count_nonzero(np.isfinite(array))
  if bad:
    raise errors.UserError(
      f'{where}: {bad} of {array.size} numbers of {name} are not finite (NaN or '
      'infinite). If the model was downloaded, download it again, from its '
      'publisher; if it comes from a run, train again from an older checkpoint '
      'with a lower learning rate'
    )


def _overlap(tensor, leaf_shape, bounds, out):
  """The _Overlap of a tensor with the shard `out` of its leaf, which has
  leaf[start:end] along each axis for the (start, end) of `bounds`. None if they
  have nothing in common."""
  index = [] if tensor.layer is None else [tensor.layer]
  index += full_index(tensor.index, len(leaf_shape) - len(index))
  shape, part, in_shard = [], [], []
  for size, place, (start, end) in zip(leaf_shape, index, bounds):
    is_number = isinstance(place, int)
    if is_number:  # It may be counted from the end.
      first = place % size
      last = first + 1
    else:
      first, last, step = place.indices(size)
      assert step == 1
    low, high = max(first, start), min(last, end)
    if low >= high:
      return None
    if is_number:  # The tensor has no such axis.
      in_shard.append(low - start)
    else:
      in_shard.append(slice(low - start, high - start))
      shape.append(last - first)
      part.append(slice(low - first, high - first))
  order = _moved(len(shape), *tensor.axes)
  return _Overlap(
    shape=tuple(shape[axis] for axis in order),
    part=tuple(part[axis] for axis in order),
    out=np.moveaxis(out[tuple(in_shard)], *tensor.axes),
  )


def full_index(index, ndim):
  """An index of an array, with an int or a slice for each of its axes."""
  parts = list(index) if isinstance(index, tuple) else [index]
  if ... not in parts:
    parts.append(...)
  place = parts.index(...)
  missing = [slice(None)] * (ndim - len(parts) + 1)
  return parts[:place] + missing + parts[place + 1 :]


def _moved(ndim, source, destination):
  """The axes of an array in their order after np.moveaxis."""
  order, last = list(range(ndim)), destination % ndim
  axis = order.pop(source)
  order.insert(last, axis)
  return order


def _part(reader, tensor, overlap):
  """The part of a tensor that a shard has, in any dtype."""
  if tensor.rows is not None:
    array = tensor.read(reader.read(tensor.name))
    return array.reshape(overlap.shape)[overlap.part]
  return reader.read_part(tensor.name, overlap.shape, overlap.part)


def _aligned(shape, dtype):
  """An array that is not initialized, at an address that XLA's CPU devices need
  to use it without a copy."""
  size = math.prod(shape) * dtype.itemsize
  buffer = np.empty(size + ALIGNMENT, np.uint8)
  start = -buffer.ctypes.data % ALIGNMENT
  return buffer[start : start + size].view(dtype).reshape(shape)
