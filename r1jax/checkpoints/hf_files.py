"""Files of a Hugging Face directory: JSON, safetensors, the hub's download."""

import json
import pathlib
import re
from typing import Any

import huggingface_hub
import ml_dtypes  # noqa: F401 (registers bfloat16 with numpy)
import numpy as np
import safetensors

from r1jax import errors

DTYPES = ('F32', 'F16', 'BF16')
DOWNLOADED = ['*.safetensors', '*.json', '*.model', '*.jinja']


class SafetensorsReader:
  """Reads the tensors of a directory: model.safetensors, or the files that
  model.safetensors.index.json names."""

  def __init__(self, directory: pathlib.Path):
    self.shapes: dict[str, tuple[int, ...]] = {}
    self._files: dict[str, safetensors.safe_open] = {}
    for path in _tensor_files(directory):
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


def _tensor_files(directory):
  single = directory / 'model.safetensors'
  index = directory / 'model.safetensors.index.json'
  if single.exists():
    return [single]
  if not index.exists():
    raise errors.UserError(
      f'{directory} has no model.safetensors; r1jax reads no other format there'
    )
  files = read_json(index).get('weight_map')
  if not isinstance(files, dict):
    raise errors.UserError(f'{index} has no weight_map')
  names = sorted({str(name) for name in files.values()})
  for name in names:
    if name != pathlib.Path(name).name:
      raise errors.UserError(f'{index} names {name}, not a file of its folder')
  return [directory / name for name in names]


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file."""
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
