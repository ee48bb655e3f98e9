"""The files of a Hugging Face directory: JSON, safetensors in one piece or
several, and the download of a directory from the hub."""

import functools
import json
import pathlib
import re

import huggingface_hub
import ml_dtypes  # noqa: F401 (teaches numpy the name bfloat16)
import safetensors

from r1jax import errors

DTYPES = ('F32', 'F16', 'BF16')
DOWNLOADED = ['*.safetensors', '*.json', '*.model', '*.jinja']


def read_json(path):
  """The object that a JSON file holds."""
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError, RecursionError) as error:
    raise errors.UserError(f'{path} is not readable JSON: {error}') from error
  if not isinstance(value, dict):
    raise errors.UserError(f'{path} must hold a JSON object')
  return value


def tensors(directory):
  """name -> (shape, function to read) of a directory's safetensors."""
  single = directory / 'model.safetensors'
  index = directory / 'model.safetensors.index.json'
  if single.exists():
    return _open(single)
  if not index.exists():
    raise errors.UserError(
      f'{directory} has no model.safetensors (no other format is read there)'
    )
  files = read_json(index).get('weight_map')
  if not isinstance(files, dict):
    raise errors.UserError(f'{index} has no weight_map')
  found = {}
  for file in sorted(set(map(str, files.values()))):
    found |= _open(_inside(directory, file))
  return found


def _inside(directory, file):
  """The path of a file that an index names, if it stays in the directory."""
  home = directory.resolve()
  if home.parent.name == 'snapshots':
    # The hub's cache: a snapshot's links lead to blobs/ beside snapshots/.
    home = home.parent.parent
  path = directory / file
  leaves = pathlib.Path(file).is_absolute() or '..' in pathlib.Path(file).parts
  if leaves or not path.resolve().is_relative_to(home):
    raise errors.UserError(
      f'{directory}: its index names {file}, which lies outside of it'
    )
  return path


def _open(path):
  try:
    handle = safetensors.safe_open(path, 'numpy')
  except (OSError, safetensors.SafetensorError) as error:
    raise errors.UserError(
      f'{path} is not a whole safetensors file: {error}'
    ) from error
  found = {}
  for name in handle.keys():
    part = handle.get_slice(name)
    if part.get_dtype() not in DTYPES:
      raise errors.UserError(
        f'{path}: {name} is of type {part.get_dtype()}; read are only '
        f'{", ".join(DTYPES)}'
      )
    read = functools.partial(handle.get_tensor, name)
    found[name] = tuple(part.get_shape()), read
  return found


def download(name):
  """The local directory of the hub's model ORG/NAME: weights and tokenizer."""
  if not re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', name):
    raise errors.UserError(
      f'{name} does not exist: give a directory, a GGUF file, or ORG/NAME'
    )
  try:
    return pathlib.Path(
      huggingface_hub.snapshot_download(
        name, allow_patterns=DOWNLOADED, ignore_patterns=['*/*']
      )
    )
  except Exception as error:  # network, name, permission, disk: all end here
    raise errors.UserError(
      f'{name} does not exist here, and its download from the hub failed '
      f'({type(error).__name__}: {error})'
    ) from error
