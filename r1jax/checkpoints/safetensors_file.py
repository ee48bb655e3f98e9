"""Reads and writes the tensors of a Hugging Face directory: safetensors files,
with weights in float8 or MXFP4 dequantized block by block."""

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
from r1jax.checkpoints import float8, hf_files, mxfp4

DTYPES = dict(
  F32=np.float32,
  F16=np.float16,
  BF16=ml_dtypes.bfloat16,
  F8_E4M3=ml_dtypes.float8_e4m3fn,
  F8_E8M0=ml_dtypes.float8_e8m0fnu,  # of scales that are powers of two
  U8=np.uint8,
)
READ = 'F32', 'F16', 'BF16'
DTYPE_NAMES = dict(float32='F32', float16='F16', bfloat16='BF16')
Entries = Mapping[str, jax.ShapeDtypeStruct]  # by a tensor's name
Index = tuple[slice, ...]


class _Place(NamedTuple):
  """Where a tensor is in a file."""

  path: pathlib.Path
  dtype: str  # a key of DTYPES
  shape: tuple[int, ...]
  start: int  # the byte at which it begins


class SafetensorsReader:
  """Reads the tensors of a directory: model.safetensors, or the files that
  model.safetensors.index.json names. Float8 tensors are dequantized with one
  scale for each of `blocks`. `shapes` has quantized tensors as they are meant,
  and not their scales."""

  def __init__(
    self, directory: pathlib.Path, blocks: float8.Blocks | None = None
  ):
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
    self._mxfp4 = self._find_mxfp4()
    scales = self._checked_scales()
    self.shapes: dict[str, tuple[int, ...]] = dict(self._mxfp4)
    for name, place in self._places.items():
      if name not in scales:
        self.shapes[name] = place.shape

  def dtype(self, name: str) -> str:
    """The dtype of a tensor, bfloat16 if it is quantized."""
    if name in self._mxfp4 or self._places[name].dtype == float8.DTYPE:
      return 'bfloat16'
    return np.dtype(DTYPES[self._places[name].dtype]).name

  def read(self, name: str) -> np.ndarray:
    """The array of a tensor, in the dtype of the file, or float32."""
    shape = self.shapes[name]
    return self.read_part(name, shape, (slice(None),) * len(shape))

  def read_part(
    self, name: str, shape: tuple[int, ...], index: Index
  ) -> np.ndarray:
    """A tensor with this shape, of which it has the rows or columns as several
    axes, at this index. Nothing else is read, nor copied unless it is quantized:
    the array is a view of the file."""
    if name in self._mxfp4:
      blocks = self._view(name + mxfp4.BLOCKS)
      scales = self._view(name + mxfp4.SCALES)
      return mxfp4.read_part(blocks, scales, shape, index)
    if self._places[name].dtype == float8.DTYPE:
      weights, scales = self._view(name), self._view(name + float8.SCALE)
      assert self._blocks
      return float8.read_part(weights, scales, self._blocks, shape, index)
    return self._view(name).reshape(shape)[index]

  def _view(self, name):
    """The tensor in the file, which the system reads where it is used."""
    path, dtype, shape, start = self._places[name]
    if path not in self._files:
      self._files[path] = open(path, 'rb')
    if not math.prod(shape):
      return np.zeros(shape, DTYPES[dtype])
    # Mapped anew for each use: what was read before leaves this process.
    return np.memmap(self._files[path], DTYPES[dtype], 'r', start, shape)

  def _find_mxfp4(self):
    """The shape of each tensor in MXFP4. Raises UserError."""
    shapes = {}
    for name, place in self._places.items():
      if place.dtype != mxfp4.DTYPE or not name.endswith(mxfp4.BLOCKS):
        continue
      where, base = f'{place.path}: {name}', name.removesuffix(mxfp4.BLOCKS)
      if base in self._places:
        raise errors.UserError(
          f'{where} has weights in MXFP4, but there is a tensor {base} too: '
          'delete the files that are not of this model'
        )
      scale = self._places.get(base + mxfp4.SCALES)
      if scale is None or scale.dtype != mxfp4.DTYPE:
        raise errors.UserError(
          f'{where} has weights in MXFP4, but their scales '
          f'{base}{mxfp4.SCALES} are in none of the files: the download or copy '
          'is not complete'
        )
      shapes[base] = mxfp4.shape(where, place.shape, scale.shape)
    return shapes

  def _checked_scales(self):
    """The names of the tensors that are parts of quantized ones. Raises
    UserError unless all tensors can be read."""
    scales = set()
    for name in self._mxfp4:
      scales |= {name + mxfp4.BLOCKS, name + mxfp4.SCALES}
    for name, place in self._places.items():
      if place.dtype == float8.DTYPE:
        scale = self._places.get(name + float8.SCALE)
        sizes = None if scale is None else (scale.dtype, scale.shape)
        where = f'{place.path}: {name}'
        float8.check(where, place.shape, sizes, self._blocks)
        scales.add(name + float8.SCALE)
    for name, place in self._places.items():
      if name not in scales and place.dtype not in (*READ, float8.DTYPE):
        raise errors.UserError(
          f'{place.path}: {name} has dtype {place.dtype}'
          f'{hf_files.quantized_by(name)}; r1jax reads {", ".join(READ)}, '
          f'{float8.DTYPE} with scales of blocks, and MXFP4'
        )
    return scales


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
    self._path = path
    with files.named(path):
      self._file = open(path, 'wb')
      self._file.write(len(text).to_bytes(8, 'little') + text)

  def write(self, array: np.ndarray) -> None:
    """Writes the next array in the order of the entries."""
    entry = next(self._entries)
    assert (array.shape, array.dtype) == (entry.shape, entry.dtype)
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    with files.named(self._path):
      self._file.write(data)

  def close(self) -> None:
    with files.named(self._path):
      self._file.close()
