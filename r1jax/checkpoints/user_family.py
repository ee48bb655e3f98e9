"""Checkpoints of architectures that r1jax does not read, translated by the
user's function to one that it reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from r1jax import errors, user_code
from r1jax.models import registry

FORM = '(config, tensors) -> (config, tensors)'


class Reader(Protocol):
  """The tensors of a checkpoint by name."""

  shapes: dict[str, tuple[int, ...]]

  def dtype(self, name: str) -> str:
    """The dtype in which a tensor is saved."""

  def read(self, name: str) -> np.ndarray:
    """The array of a tensor, which may be read-only."""

  def read_part(
    self, name: str, shape: tuple[int, ...], index: tuple[slice, ...]
  ) -> np.ndarray:
    """A tensor, reshaped, at an index."""


class WholeTensors:
  """A reader of float32 tensors, whose parts are read as parts of wholes."""

  def __init__(self, reader: Any):
    self.reader, self.shapes = reader, reader.shapes

  def dtype(self, name: str) -> str:
    return 'float32'

  def read(self, name: str) -> np.ndarray:
    return self.reader.read(name)

  def read_part(
    self, name: str, shape: tuple[int, ...], index: tuple[slice, ...]
  ) -> np.ndarray:
    return self.read(name).reshape(shape)[index]


class _Tensors:
  """Tensors in host memory as a Reader."""

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    self.arrays = arrays
    self.shapes = {name: np.shape(array) for name, array in arrays.items()}

  def dtype(self, name: str) -> str:
    return str(self.arrays[name].dtype)

  def read(self, name: str) -> np.ndarray:
    return self.arrays[name]

  def read_part(
    self, name: str, shape: tuple[int, ...], index: tuple[slice, ...]
  ) -> np.ndarray:
    return np.reshape(self.arrays[name], shape)[index]


def translate(
  families: Mapping[str, str], source: Path, config: dict, reader: Reader
) -> tuple[dict[str, Any], Reader]:
  """(config, reader) of a checkpoint, as one of registry.architectures().

  If its architecture is in `families`, the user's function turns the content of
  config.json and {name: array} into those of an architecture that r1jax reads,
  e.g. Llama; other checkpoints are returned as they are. Raises UserError.
  """
  named = config.get('architectures')
  architecture = named[0] if isinstance(named, list) and named else ''
  if architecture not in families:
    return config, reader
  name, key = families[architecture], f'config.compute.families.{architecture}'
  function = user_code.load(name, key)
  user_code.check_call(function, name, key, FORM)
  # Copies, which the function may change.
  tensors = {name: np.array(reader.read(name)) for name in reader.shapes}
  try:
    made: Any = function(dict(config), tensors)
  except (Exception, SystemExit) as error:
    sentence = f'{key}: {name} failed on {source}'
    raise user_code.failure(sentence, error) from error
  kinds = [type(part) for part in made] if isinstance(made, tuple) else []
  if kinds != [dict, dict]:
    raise errors.UserError(
      f'{key}: {name} returned {user_code.describe(made)}; expected '
      '(config, tensors): the dict of config.json and {name: array}'
    )
  if made[0].get('architectures', [None])[0] not in registry.architectures():
    raise errors.UserError(
      f'{key}: {name} returned the architectures '
      f'{made[0].get("architectures")!r}; expected one of '
      f'{", ".join(registry.architectures())}'
    )
  return made[0], _Tensors(made[1])
