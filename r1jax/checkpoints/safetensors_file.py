"""Reads and writes the tensors of a Hugging Face directory: safetensors files,
with float8 weights dequantized block by block."""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
import safetensors

from r1jax import errors, files
from r1jax.checkpoints import hf_files

DTYPES = dict(
  F32=np.float32,
  F16=np.float16,
  BF16=ml_dtypes.bfloat16,
  F8_E4M3=ml_dtypes.float8_e4m3fn,
  F8_E8M0=ml_dtypes.float8_e8m0fnu,  # of scales that are powers of two
)
READ = 'F32', 'F16', 'BF16'
DTYPE_NAMES = dict(float32='F32', float16='F16', bfloat16='BF16')
FLOAT8 = 'F8_E4M3'
SCALE = '_scale_inv'  # ends the name of the scales of a float8 tensor
Entries = Mapping[str, jax.ShapeDtypeStruct]  # by a tensor's name
Index = tuple[slice, ...]
Blocks = tuple[int, int]  # rows and columns of a float8 tensor with one scale


class _Place(NamedTuple):
  """Where a tensor is in a file."""

  path: pathlib.Path
  dtype: str  # a key of DTYPES
  shape: tuple[int, ...]
  start: int  # the byte at which it begins


class SafetensorsReader:
  """Reads the tensors of a directory: model.safetensors, or the files that
  model.safetensors.index.json names. Float8 tensors are dequantized with one
  scale for each of `blocks`. `shapes` does not have the scales."""

  def __init__(self, directory: pathlib.Path, blocks: Blocks | None = None):
    self._blocks = blocks
    self._places: dict[str, _Place] = {}
    self._files: dict[pathlib.Path, Any] = {}
    file_of = _weight_map(directory)
    for path in _tensor_files(directory, file_of):
      for name, place in _places(path).items():
        if name in self._places:
          raise errors.UserError(
            f'{directory}: the tensor {name} is in two files, '
            f'{self._places[name].path.name} and {path.name}: delete the one '
            'that is not of this model'
          )
        self._places[name] = place
    for name, file in file_of.items():
      if name not in self._places or self._places[name].path.name != file:
        raise errors.UserError(
          f'{directory}: {hf_files.INDEX} says that {file} has the tensor '
          f'{name}, but it has not: the download or copy is not complete, or '
          'one of both is of another model'
        )
    scales = self._checked_scales(directory)
    self.shapes: dict[str, tuple[int, ...]] = {
      name: place.shape
      for name, place in self._places.items()
      if name not in scales
    }

  def dtype(self, name: str) -> str:
    """The dtype of a tensor, bfloat16 if it is float8."""
    dtype = self._places[name].dtype
    return 'bfloat16' if dtype == FLOAT8 else np.dtype(DTYPES[dtype]).name

  def read(self, name: str) -> np.ndarray:
    """The array of a tensor, in the dtype of the file, or float32."""
    shape = self.shapes[name]
    return self.read_part(name, shape, (slice(None),) * len(shape))

  def read_part(
    self, name: str, shape: tuple[int, ...], index: Index
  ) -> np.ndarray:
    """A tensor with this shape, of which it has the rows or columns as several
    axes, at this index. Nothing else is read, nor copied unless it is float8:
    the array is a view of the file."""
    view = self._view(name).reshape(shape)[index]
    if self._places[name].dtype != FLOAT8:
      return view
    scales = _float32(self._view(name + SCALE))
    assert self._blocks
    parts = []
    for size, block in zip(self.shapes[name], self._blocks):
      count = _leading_axes(shape, size)
      blocks = (np.arange(size) // block).reshape(shape[:count])
      parts.append(blocks[index[:count]])
      shape, index = shape[count:], index[count:]
    rows, columns = parts
    scale = scales[np.ix_(rows.ravel(), columns.ravel())]
    return view.astype(np.float32) * scale.reshape(rows.shape + columns.shape)

  def _view(self, name):
    """The tensor in the file, which the system reads where it is used."""
    path, dtype, shape, start = self._places[name]
    if path not in self._files:
      self._files[path] = open(path, 'rb')
    if not math.prod(shape):
      return np.zeros(shape, DTYPES[dtype])
    # Mapped anew for each use: what was read before leaves this process.
    return np.memmap(self._files[path], DTYPES[dtype], 'r', start, shape)

  def _checked_scales(self, directory):
    """The names of the scales. Raises UserError unless all tensors can be
    read."""
    scales, blocks = set(), self._blocks
    for name, place in self._places.items():
      where = f'{place.path}: {name}'
      if place.dtype == FLOAT8:
        _check_float8(where, place, self._places.get(name + SCALE), blocks)
        scales.add(name + SCALE)
    for name, place in self._places.items():
      if name not in scales and place.dtype not in (*READ, FLOAT8):
        raise errors.UserError(
          f'{place.path}: {name} has dtype {place.dtype}; r1jax reads '
          f'{", ".join(READ)}, and {FLOAT8} with scales of blocks'
        )
    return scales


def _check_float8(where, place, scale, blocks):
  """Raises UserError unless a float8 tensor has the scales of its blocks."""
  if blocks is None:
    raise errors.UserError(
      f'{where} has dtype {FLOAT8}, but config.json has no quantization_config '
      'with quant_method fp8 and weight_block_size, so that its scale is not '
      'known: take config.json from where the weights are from'
    )
  if scale is None:
    raise errors.UserError(
      f'{where} has dtype {FLOAT8}, but its scales {SCALE} are in none of the '
      'files: the download or copy is not complete'
    )
  if len(place.shape) != 2 or scale.dtype not in (*READ, 'F8_E8M0'):
    raise errors.UserError(
      f'{where} has dtype {FLOAT8}, shape {list(place.shape)} and scales of '
      f'{scale.dtype}; r1jax reads matrices with scales of F32 or F8_E8M0'
    )
  want = tuple(-(-size // block) for size, block in zip(place.shape, blocks))
  if scale.shape != want:
    raise errors.UserError(
      f'{where}{SCALE} has the shape {list(scale.shape)}, but {list(want)} are '
      f'the blocks of {list(blocks)} in its {list(place.shape)}: correct '
      'weight_block_size in config.json, or take the scales of these weights'
    )


def _leading_axes(shape, size):
  """The number of leading axes that have `size` elements together."""
  count, product = 0, 1
  while product < size or count == 0:
    product *= shape[count]
    count += 1
  assert product == size, (shape, size)
  return count


def _float32(array):
  return array.astype(np.float32)


def _places(path):
  """The place of each tensor of a file, of any dtype."""
  files.check_is_no_pointer(path)
  with errors.explained(f'{path} is not a complete safetensors file'):
    safetensors.safe_open(path, 'numpy')  # Checks all sizes.
    with open(path, 'rb') as file:
      length = int.from_bytes(file.read(8), 'little')
      header = json.loads(file.read(length))
  header.pop('__metadata__', None)
  return {
    name: _Place(
      path=path,
      dtype=entry['dtype'],
      shape=tuple(entry['shape']),
      start=8 + length + entry['data_offsets'][0],
    )
    for name, entry in header.items()
  }


def _weight_map(directory):
  """{tensor: name of its file} of the index, if the directory has one."""
  index = directory / hf_files.INDEX
  if (directory / hf_files.SINGLE).exists() or not index.exists():
    return {}
  file_of = hf_files.read_json(index).get('weight_map')
  if not isinstance(file_of, dict) or not file_of:
    raise errors.UserError(f'{index} has no weight_map')
  for name in sorted({str(name) for name in file_of.values()}):
    if name != pathlib.Path(name).name:
      raise errors.UserError(f'{index} names {name}, not a file of its folder')
  return {tensor: str(name) for tensor, name in file_of.items()}


def _tensor_files(directory, file_of):
  single = directory / hf_files.SINGLE
  if single.exists():
    return [single]
  if not file_of:
    hf_files.refuse_without_weights(directory)
  names = sorted(set(file_of.values()))
  missing = [name for name in names if not (directory / name).exists()]
  if missing:
    raise errors.UserError(
      f'{directory} lacks {", ".join(missing)}, of the {len(names)} files that '
      f'{hf_files.INDEX} names: the download or copy is not complete'
    )
  return [directory / name for name in names]


def shards(entries: Entries, limit: int) -> dict[str, Entries]:
  """The tensors of each file, in their order, by the file's name. A file has
  at most `limit` bytes, or one tensor."""
  groups: list[dict[str, jax.ShapeDtypeStruct]] = [{}]
  used = 0
  for name, entry in entries.items():
    size = _num_bytes(entry)
    if groups[-1] and used + size > limit:
      groups.append({})
      used = 0
    groups[-1][name] = entry
    used += size
  if len(groups) == 1:
    return {hf_files.SINGLE: groups[0]}
  return {
    f'model-{n:05}-of-{len(groups):05}.safetensors': group
    for n, group in enumerate(groups, 1)
  }


def _num_bytes(entry):
  return entry.size * entry.dtype.itemsize


def write_index(directory: pathlib.Path, parts: Mapping[str, Entries]) -> None:
  """Writes model.safetensors.index.json, which names the file of each tensor,
  if there are several files."""
  if len(parts) == 1:
    return
  weight_map = {tensor: name for name in parts for tensor in parts[name]}
  entries = [entry for part in parts.values() for entry in part.values()]
  size = sum(map(_num_bytes, entries))
  index = dict(metadata=dict(total_size=size), weight_map=weight_map)
  hf_files.write_json(directory / hf_files.INDEX, index)


class Writer:
  """Writes a safetensors file, one array after another, so that no other one is
  in memory. (safetensors' save_file needs all arrays of a file at once, and
  copies them.)"""

  def __init__(self, path: pathlib.Path, entries: Entries):
    header: dict[str, Any] = dict(__metadata__=dict(format='pt'))
    end = 0
    for name, entry in entries.items():
      start, end = end, end + _num_bytes(entry)
      header[name] = dict(
        dtype=DTYPE_NAMES[entry.dtype.name],
        shape=entry.shape,
        data_offsets=(start, end),
      )
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)  # The data must be aligned.
    self._entries = iter(entries.values())
    self._file = open(path, 'wb')
    self._file.write(len(text).to_bytes(8, 'little') + text)

  def write(self, array: np.ndarray) -> None:
    """Writes the next array in the order of the entries."""
    entry = next(self._entries)
    assert (array.shape, array.dtype) == (entry.shape, entry.dtype)
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    self._file.write(data)

  def close(self) -> None:
    self._file.close()
