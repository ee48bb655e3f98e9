"""The settings of rotary embedding in config.json. transformers 4 writes
rope_theta and rope_scaling; from version 5 on both are in rope_parameters."""

import dataclasses
from typing import Any

from r1jax import errors
from r1jax.models import hf_config
from r1jax.models.hf_config import HfConfig
from r1jax.models.rope import Llama3Scaling, Rope

# Keys that scale nothing.
KEYS = {
  'rope_theta',
  'rope_type',
  'type',
  'partial_rotary_factor',
  'original_max_position_embeddings',
}


def read(hf: HfConfig) -> Rope:
  """The Rope of all layers. Raises UserError."""
  source = hf.source
  theta = hf.number('rope_theta', 10000.0, float)
  table = _table(hf)

  def number(key, default=None, kind=int):
    return hf_config.number(table, source, key, default, kind)

  theta = number('rope_theta', theta, float)
  hf.check(partial_rotary_factor=1.0)
  if number('partial_rotary_factor', 1.0, float) != 1:
    raise errors.UserError(f'{source}: partial rotary embedding is unsupported')
  kind = table.get('rope_type', table.get('type', 'default'))
  if kind in ('default', None):
    extra = sorted(key for key in table if table[key] not in (None, 1.0))
    extra = [key for key in extra if key not in KEYS]
    if extra:
      raise errors.UserError(
        f'{source}: the rope settings have {extra[0]} {table[extra[0]]!r}, but '
        'no rope type that uses it: name its rope_type'
      )
    return Rope(theta)
  if kind != 'llama3':
    why = f'the rope type is {kind!r}; only default and llama3 are supported'
    raise errors.UserError(f'{source}: {why}')
  names = 'factor', 'low_freq_factor', 'high_freq_factor'
  factors = {name: number(name, kind=float) for name in names}
  length = number('original_max_position_embeddings')
  scaling = Llama3Scaling(**factors, original_max_position_embeddings=length)
  return Rope(theta, scaling)


def written(rope: Rope | None) -> dict[str, Any]:
  """The keys of config.json, readable by all versions of transformers."""
  assert rope is not None
  scaling = None
  if rope.scaling:
    scaling = dict(rope_type='llama3', **dataclasses.asdict(rope.scaling))
  return dict(rope_theta=rope.theta, rope_scaling=scaling)


def _table(hf):
  """The settings of rotary embedding, {} if there are none. Where they are
  nested by the type of layer, those of full attention."""
  source, merged = hf.source, {}
  for key in 'rope_scaling', 'rope_parameters':
    table = hf.values.get(key) or {}
    if not isinstance(table, dict):
      raise errors.UserError(f'{source}: the rope settings {key} are {table!r}')
    nested = [name for name in table if isinstance(table[name], dict)]
    if nested:
      table = table.get('full_attention')
    if not isinstance(table, dict):
      raise errors.UserError(
        f'{source}: {key} has settings of {", ".join(nested)}, but r1jax needs '
        'those of full_attention'
      )
    for name, value in table.items():
      if merged.setdefault(name, value) != value:
        raise errors.UserError(
          f'{source}: rope_scaling has {name} {merged[name]!r}, but '
          f'rope_parameters has {value!r}: leave one of them out'
        )
  return merged
