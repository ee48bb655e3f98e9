"""The settings of rotary embedding in config.json. transformers 4 writes
rope_theta and rope_scaling; from version 5 on both are in rope_parameters, in
some models once for each type of layer."""

import dataclasses
from collections.abc import Callable
from typing import Any

from r1jax import errors
from r1jax.models import hf_config, rope
from r1jax.models.hf_config import HfConfig
from r1jax.models.rope import Rope, Scaling

# Keys that scale nothing.
KEYS = {
  'rope_theta',
  'rope_type',
  'type',
  'partial_rotary_factor',
  'original_max_position_embeddings',
}


@dataclasses.dataclass(frozen=True)
class _Table:
  """The rope settings of a config.json."""

  values: dict[str, Any]
  source: object
  max_len: int  # max_position_embeddings
  original_len: int  # original_max_position_embeddings, by default max_len

  def number(self, key: str, default: Any = None, kind: type = float) -> Any:
    return hf_config.number(self.values, self.source, key, default, kind)

  def optional(self, key: str) -> float | None:
    return self.number(key) if self.values.get(key) else None

  def numbers(self, key: str) -> tuple[float, ...]:
    """A list with a number above 0 for each pair of channels."""
    values = self.values.get(key)
    if not isinstance(values, list) or not values:
      hf_config.refuse(self.values, self.source, key, 'which must be a list')
    table = {f'{key}[{i}]': value for i, value in enumerate(values)}
    return tuple(
      hf_config.number(table, self.source, name, kind=float) for name in table
    )


def read(
  hf: HfConfig,
  channels: int,
  layer_type: str = hf_config.FULL,
  theta: float = 10000.0,
) -> Rope:
  """The Rope of the layers of a type, which are all layers where the settings
  are not nested by type. `channels` are those of a head, and `theta` is the
  default. Raises UserError."""
  max_len = hf.number('max_position_embeddings', 2048)
  table = _Table(_values(hf, layer_type), hf.source, max_len, max_len)
  # Phi-3 has it outside of the rope settings.
  length = table.number('original_max_position_embeddings', max_len, int)
  length = hf.number('original_max_position_embeddings', length)
  table = dataclasses.replace(table, original_len=length)
  partial = hf.number('partial_rotary_factor', 1.0, float)
  setting = Rope(
    theta=table.number('rope_theta', hf.number('rope_theta', theta, float)),
    scaling=_scaling(table),
    partial=table.number('partial_rotary_factor', partial),
  )
  _check_channels(hf, setting, channels)
  return setting


def read_local(hf: HfConfig, channels: int, theta_key: str) -> Rope:
  """The Rope of the layers with a window, in models where only the others are
  scaled: transformers 4 writes its theta as `theta_key`. Raises UserError."""
  table = hf.values.get('rope_parameters') or {}
  if isinstance(table, dict) and hf_config.SLIDING in table:
    setting = read(hf, channels, hf_config.SLIDING)
    if setting.scaling is None:
      return setting
    hf.refuse(
      'rope_parameters', f'but r1jax does not scale {hf_config.SLIDING}'
    )
  return Rope(hf.number(theta_key, 10000.0, float))


def _check_channels(hf, setting, channels):
  rotated = rope.rotated(setting.partial, channels)
  if rotated % 2 or not 0 < rotated <= channels:
    raise errors.UserError(
      f'{hf.source}: partial_rotary_factor {setting.partial} of {channels} '
      f'channels are {rotated}, but rotary embedding needs an even number, from '
      f'2 to {channels}'
    )
  if isinstance(setting.scaling, rope.LongRopeScaling):
    for key in 'short_factor', 'long_factor':
      count = len(dataclasses.asdict(setting.scaling)[key])
      if count != rotated // 2:
        raise errors.UserError(
          f'{hf.source}: the rope settings have {count} numbers in {key}, but '
          f'a head has {rotated // 2} pairs of rotated channels'
        )


def written(setting: Rope | None) -> dict[str, Any]:
  """The keys of config.json, readable by all versions of transformers."""
  assert setting is not None
  keys: dict[str, Any] = dict(rope_theta=setting.theta, rope_scaling=None)
  if setting.partial != 1:
    keys['partial_rotary_factor'] = setting.partial
  scaling = setting.scaling
  if scaling is None:
    return keys
  table = dict(rope_type=scaling.kind, **dataclasses.asdict(scaling))
  table.pop('max_position_embeddings', None)
  if isinstance(scaling, rope.LongRopeScaling):
    length = scaling.original_max_position_embeddings
    keys['original_max_position_embeddings'] = length
    for key in 'short_factor', 'long_factor':
      table[key] = list(table[key])
  if isinstance(scaling, rope.YarnScaling):
    if scaling.truncate:
      del table['truncate']  # the default, which older versions do not know
    if scaling.attn_factor is not None:
      table['attention_factor'] = scaling.attention
  table = {key: value for key, value in table.items() if value is not None}
  return keys | dict(rope_scaling=table)


def nested(full: Rope, local: Rope) -> dict[str, Any]:
  """rope_parameters of transformers 5, by the type of layer."""
  tables = {}
  for name, setting in {hf_config.FULL: full, hf_config.SLIDING: local}.items():
    keys = written(setting)
    scaling = keys['rope_scaling'] or dict(rope_type='default')
    tables[name] = scaling | dict(rope_theta=setting.theta)
  return tables


def _values(hf, layer_type):
  """The settings of rotary embedding, {} if there are none. Where they are
  nested by the type of layer, those of `layer_type`."""
  source, merged = hf.source, {}
  keys = ['rope_parameters']
  if layer_type == hf_config.FULL:
    keys.append('rope_scaling')  # which is never about other layers
  for key in keys:
    table = hf.values.get(key) or {}
    if not isinstance(table, dict):
      raise errors.UserError(f'{source}: the rope settings {key} are {table!r}')
    nested = [name for name in table if isinstance(table[name], dict)]
    if nested:
      table = table.get(layer_type)
    if not isinstance(table, dict):
      raise errors.UserError(
        f'{source}: {key} has settings of {", ".join(nested)}, but r1jax needs '
        f'those of {layer_type}'
      )
    for name, value in table.items():
      if merged.setdefault(name, value) != value:
        raise errors.UserError(
          f'{source}: rope_parameters has {name} {merged[name]!r}, but '
          f'rope_scaling has {value!r}: leave one of them out'
        )
  return merged


def _scaling(table: _Table) -> Scaling | None:
  kind = table.values.get('rope_type') or table.values.get('type') or 'default'
  if kind == 'default':
    _check_keys(table, KEYS, 'no rope type that uses it: name its rope_type')
    return None
  kind = 'longrope' if kind == 'su' else kind  # an old name of Phi-3
  if kind not in READERS:
    raise errors.UserError(
      f'{table.source}: the rope type is {kind!r}; supported are default, '
      f'{", ".join(READERS)}'
    )
  scaling = READERS[kind](table)
  used = KEYS | {field.name for field in dataclasses.fields(scaling)}
  _check_keys(table, used, f'the rope type {kind}, which does not use it')
  return scaling


def _check_keys(table, used, why):
  for key, value in table.values.items():
    if key not in used and value not in (None, 1.0):
      raise errors.UserError(
        f'{table.source}: the rope settings have {key} {value!r}, but {why}'
      )


def _linear(table):
  return rope.LinearScaling(table.number('factor'))


def _dynamic(table):
  return rope.DynamicScaling(table.number('factor'))


def _llama3(table):
  return rope.Llama3Scaling(
    factor=table.number('factor'),
    low_freq_factor=table.number('low_freq_factor'),
    high_freq_factor=table.number('high_freq_factor'),
    original_max_position_embeddings=table.original_len,
  )


def _yarn(table):
  truncate = table.values.get('truncate')
  return rope.YarnScaling(
    factor=table.number('factor', table.max_len / table.original_len),
    original_max_position_embeddings=table.original_len,
    beta_fast=table.number('beta_fast', 32.0),
    beta_slow=table.number('beta_slow', 1.0),
    mscale=table.optional('mscale'),
    mscale_all_dim=table.optional('mscale_all_dim'),
    attention_factor=table.optional('attention_factor'),
    attn_factor=table.optional('attn_factor'),
    truncate=True if truncate is None else bool(truncate),
  )


def _longrope(table):
  return rope.LongRopeScaling(
    short_factor=table.numbers('short_factor'),
    long_factor=table.numbers('long_factor'),
    original_max_position_embeddings=table.original_len,
    max_position_embeddings=table.max_len,
    factor=table.optional('factor'),
    attention_factor=table.optional('attention_factor'),
  )


READERS: dict[str, Callable[[_Table], Scaling]] = dict(
  linear=_linear,
  dynamic=_dynamic,
  llama3=_llama3,
  yarn=_yarn,
  longrope=_longrope,
)
