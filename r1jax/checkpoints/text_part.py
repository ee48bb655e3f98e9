"""The text model in a checkpoint of a model for images and text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from r1jax.checkpoints.user_family import Reader

# The architectures of such checkpoints, and those of their text models.
ARCHITECTURES = dict(Gemma3ForConditionalGeneration='Gemma3ForCausalLM')
# The prefixes of the text model's tensors, in the order in which they are tried,
# and what they are in a checkpoint of it alone.
PREFIXES = {
  'language_model.': '',
  'model.language_model.': 'model.',
  'lm_head.': 'lm_head.',
}


class _Renamed:
  """A Reader of the text model's tensors."""

  def __init__(self, reader: Reader):
    self.reader, self.names = reader, {}
    for name in reader.shapes:
      for prefix, new in PREFIXES.items():
        if name.startswith(prefix):
          self.names[new + name.removeprefix(prefix)] = name
    self.shapes = {name: reader.shapes[x] for name, x in self.names.items()}

  def dtype(self, name: str) -> str:
    return self.reader.dtype(self.names[name])

  def read(self, name: str) -> np.ndarray:
    return self.reader.read(self.names[name])

  def read_part(
    self, name: str, shape: tuple[int, ...], index: tuple[slice, ...]
  ) -> np.ndarray:
    return self.reader.read_part(self.names[name], shape, index)


def config_of(config: Mapping[str, Any]) -> dict[str, Any]:
  """The config.json of the text model; of other checkpoints their own."""
  named, text = config.get('architectures'), config.get('text_config')
  name = named[0] if isinstance(named, list) and named else ''
  if name not in ARCHITECTURES or not isinstance(text, dict):
    return dict(config)
  return text | dict(architectures=[ARCHITECTURES[name]])


def translate(
  source: Path, config: dict[str, Any], reader: Reader
) -> tuple[dict[str, Any], Reader]:
  """(config, reader) of the text model; other checkpoints are returned as they
  are."""
  text = config_of(config)
  if text == config:
    return config, reader
  renamed = _Renamed(reader)
  others = len(reader.shapes) - len(renamed.shapes)
  print(
    f'{source}: only its text model is used, and exported; {others} tensors of '
    'the model of images are left out',
    flush=True,
  )
  return text, renamed
