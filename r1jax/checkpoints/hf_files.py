"""Files of a Hugging Face directory: JSON, safetensors, the hub's download."""

import json
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import huggingface_hub
import ml_dtypes  # noqa: F401 (registers bfloat16 with numpy)
import numpy as np
import safetensors

from r1jax import errors, files

DTYPES = ('F32', 'F16', 'BF16')
DTYPE_NAMES = dict(float32='F32', float16='F16', bfloat16='BF16')
Shapes = Mapping[str, tuple[int, ...]]  # by a tensor's name
PICKLES = '.bin', '.pt', '.pth', '.ckpt'
CONVERT = (
  'can run code when they are read: convert the model to safetensors, by '
  'from_pretrained and save_pretrained of transformers'
)
DOWNLOADED = ['*.safetensors', '*.json', '*.model', '*.jinja']


class SafetensorsReader:
  """Reads the tensors of a directory: model.safetensors, or the files that
  model.safetensors.index.json names."""

  def __init__(self, directory: pathlib.Path):
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._files: dict[str, safetensors.safe_open] = {}
    for path in _tensor_files(directory):
      files.check_is_no_pointer(path)
      with errors.explained(f'{path} is not a complete safetensors file'):
        file = safetensors.safe_open(path, 'numpy')
      for name in file.keys():
        tensor = file.get_slice(name)
        dtype = tensor.get_dtype()
        if dtype not in DTYPES:
          raise errors.UserError(
            f'{path}: {name} has dtype {dtype}; r1jax reads {", ".join(DTYPES)}'
          )
        self.shapes[name] = tuple(tensor.get_shape())
        self._files[name] = file

  def read(self, name: str) -> np.ndarray:
    """The array of a tensor, in the dtype of the file."""
    return self._files[name].get_tensor(name)


def read_config(directory: pathlib.Path) -> dict[str, Any]:
  """config.json of a model's directory. Raises UserError, which says what the
  directory is instead."""
  adapter = directory / 'adapter_config.json'
  if adapter.exists() and not _has_weights(directory):
    base = read_json(adapter).get('base_model_name_or_path')
    raise errors.UserError(
      f'{directory} is an adapter (LoRA) of {base}, not a model: merge it into '
      'that model, for example by merge_and_unload of peft, and name the merged '
      "model's directory"
    )
  path = directory / 'config.json'
  model = directory / 'model'
  if path.exists():
    config = read_json(path)
    if 'architectures' not in config and 'records' in config:
      raise errors.UserError(
        f'{directory} is the work directory of a run, not a model: name {model}'
      )
    _check_quantization(directory, config)
    return config
  ggufs = sorted(x.name for x in directory.glob('*.gguf'))
  if ggufs:
    raise errors.UserError(
      f'{directory} has no config.json, but GGUF files: name one of them, '
      f'{directory / ggufs[0]}'
    )
  if (model / 'config.json').exists():
    raise errors.UserError(
      f'{directory} has no config.json, but {model} has: name that'
    )
  return read_json(path)


def check_is_gguf(path: pathlib.Path) -> None:
  """Raises UserError if a file is not a GGUF file, which says what it is."""
  files.check_is_no_pointer(path)
  with path.open('rb') as file:
    is_gguf = file.read(4) == b'GGUF'
  suffix = path.suffix.lower()
  if is_gguf or suffix not in ('.safetensors', *PICKLES, '.json', '.model'):
    return
  if suffix in PICKLES:
    raise errors.UserError(f'{path} is a file of PyTorch, which {CONVERT}')
  raise errors.UserError(
    f'{path} is one file of a model: name its directory, which has config.json, '
    'the weights (*.safetensors) and the tokenizer'
  )


def _check_quantization(directory, config):
  """Raises UserError if the weights are quantized."""
  table = config.get('quantization_config')
  is_gptq = (directory / 'quantize_config.json').exists()
  if table is None and not is_gptq:
    return
  method = table.get('quant_method') if isinstance(table, dict) else None
  method = method or ('gptq' if is_gptq else 'an unknown method')
  raise errors.UserError(
    f'{directory}: its weights are quantized by {method} (quantization_config); '
    'r1jax reads float32, float16 and bfloat16 there: name the model that was '
    'quantized, or a GGUF file of it'
  )


def _has_weights(directory):
  names = 'model.safetensors', 'model.safetensors.index.json'
  return any((directory / name).exists() for name in names)


def shards(shapes: Shapes, itemsize: int, limit: int) -> dict[str, Shapes]:
  """The tensors of each file, in their order, by the file's name. A file has
  at most `limit` bytes, or one tensor."""
  groups: list[dict[str, tuple[int, ...]]] = [{}]
  used = 0
  for name, shape in shapes.items():
    size = math.prod(shape) * itemsize
    if groups[-1] and used + size > limit:
      groups.append({})
      used = 0
    groups[-1][name] = shape
    used += size
  if len(groups) == 1:
    return {'model.safetensors': groups[0]}
  return {
    f'model-{n:05}-of-{len(groups):05}.safetensors': group
    for n, group in enumerate(groups, 1)
  }


def write_index(
  directory: pathlib.Path, parts: Mapping[str, Shapes], itemsize: int
) -> None:
  """Writes model.safetensors.index.json, which names the file of each tensor,
  if there are several files."""
  if len(parts) == 1:
    return
  weight_map = {tensor: name for name in parts for tensor in parts[name]}
  shapes = [shape for part in parts.values() for shape in part.values()]
  size = sum(math.prod(shape) for shape in shapes) * itemsize
  index = dict(metadata=dict(total_size=size), weight_map=weight_map)
  write_json(directory / 'model.safetensors.index.json', index)


def write_tensors(
  path: pathlib.Path, shapes: Shapes, dtype: np.dtype, arrays: Iterator
) -> None:
  """Writes a safetensors file from the next arrays of an iterator, one after
  another: no other one is in memory. (safetensors' save_file needs all arrays
  of a file at once, and copies them.)"""
  header: dict[str, Any] = dict(__metadata__=dict(format='pt'))
  end = 0
  for name, shape in shapes.items():
    start, end = end, end + math.prod(shape) * dtype.itemsize
    header[name] = dict(
      dtype=DTYPE_NAMES[dtype.name], shape=shape, data_offsets=(start, end)
    )
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)  # The data must be aligned.
  with open(path, 'wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for shape in shapes.values():
      array = next(arrays)
      assert (array.shape, array.dtype) == (shape, dtype)
      file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _tensor_files(directory):
  single = directory / 'model.safetensors'
  index = directory / 'model.safetensors.index.json'
  if single.exists():
    return [single]
  if not index.exists():
    pickles = [x for x in directory.iterdir() if x.suffix.lower() in PICKLES]
    if pickles:
      raise errors.UserError(
        f'{directory} has no model.safetensors, but files of PyTorch such as '
        f'{min(pickles).name}, which {CONVERT}'
      )
    others = sorted(x.name for x in directory.glob('*.safetensors'))
    there = f' (it has {", ".join(others[:3])})' if others else ''
    raise errors.UserError(
      f'{directory} has no model.safetensors, and no model.safetensors.index.'
      f'json that names its parts{there}; r1jax reads no other format there'
    )
  file_of = read_json(index).get('weight_map')
  if not isinstance(file_of, dict):
    raise errors.UserError(f'{index} has no weight_map')
  names = sorted({str(name) for name in file_of.values()})
  for name in names:
    if name != pathlib.Path(name).name:
      raise errors.UserError(f'{index} names {name}, not a file of its folder')
  missing = [name for name in names if not (directory / name).exists()]
  if missing:
    raise errors.UserError(
      f'{directory} lacks {", ".join(missing)}, of the {len(names)} files that '
      f'{index.name} names: the download or copy is not complete'
    )
  return [directory / name for name in names]


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file."""
  if path.exists():
    files.check_is_no_pointer(path)
  with errors.explained(f'{path} is not readable JSON'):
    value = json.loads(path.read_text(encoding='utf-8'))
  if not isinstance(value, dict):
    raise errors.UserError(f'{path} must hold a JSON object')
  return value


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
  """Writes an object as indented JSON."""
  text = json.dumps(value, indent=2, ensure_ascii=False)
  path.write_text(text + '\n', encoding='utf-8')


def download(name: str) -> pathlib.Path:
  """The local directory of the hub's model ORG/NAME: weights and tokenizer."""
  if not re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', name):
    raise errors.UserError(
      f'{name} does not exist: give a directory, a GGUF file, or ORG/NAME'
    )
  with errors.explained(f'{name} is no local path, and its download failed'):
    directory = huggingface_hub.snapshot_download(
      name, allow_patterns=DOWNLOADED, ignore_patterns=['*/*']
    )
  return pathlib.Path(directory)
