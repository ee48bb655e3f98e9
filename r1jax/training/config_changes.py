"""The config in force in a run: that of a command, with the values of --change
and those of earlier changes, compared with config.json.

An option (config.option) is free, fixed, or neither. A command may set free
keys to other values; --change can set all that are not fixed.
"""

import dataclasses
import shlex
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from r1jax import config as configs
from r1jax import errors, user_code


@dataclasses.dataclass(frozen=True)
class Change:
  """What a command changes in the run that it continues, apart from free keys.
  The keys of `values` are dotted, with or without 'config.'."""

  values: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  accept_code: bool = False  # continues with user code that has changed
  accept_inputs: bool = False  # and with files and records that have changed


NO_CHANGE = Change()


class Changed(NamedTuple):
  """A key whose value is not that of config.json. Values as in JSON."""

  key: str  # dotted
  old: Any
  new: Any
  is_free: bool = False  # possible without --change, and made without it
  fixed: str = ''  # why the key cannot change


def recorded_config(cls: type, tree: Mapping) -> Any:
  """The cls of `config` in config.json, with the defaults of newer keys. Raises
  UserError for unknown keys."""
  return configs.build(cls, _with_defaults(cls(), tree))


def missing_keys(cls: type, tree: Mapping) -> list[str]:
  """The dotted keys of cls that `config` in config.json lacks, since an earlier
  version of r1jax has written it."""
  keys = []
  for key, _, _ in configs.named_options(cls()):
    section: Any = tree
    for part in key.split('.'):
      is_there = isinstance(section, Mapping) and part in section
      section = section[part] if is_there else None
    if not is_there:
      keys.append(key)
  return keys


def in_force(
  settings: ConfigDict,
  recorded: Any,
  earlier: Iterable[Mapping],
  values: Mapping[str, Any],
  defaults_kept: Mapping[str, Any] = {},
) -> Any:
  """The settings as the class of `recorded`, with `values` by dotted key.
  `earlier` are the changes in config.json: a key that the settings have as it
  was before its first --change keeps its recorded value, which is printed. So
  does a key that is newer than the run, if the settings have its value in
  `defaults_kept` (see keep_defaults)."""
  cls, kept = type(recorded), {}
  before: dict[str, Any] = {}
  for entry in earlier:
    if not entry.get('is_free'):
      before.setdefault(entry['key'], entry['old'])
  recorded_values, given = _values(recorded), configs.build(cls, settings)
  for change in changes(recorded, given):
    for value_before in (before, defaults_kept):
      key = change.key
      if key in value_before and change.new == value_before[key]:
        kept[key] = recorded_values[key]
  settings = configs.with_values(configs.settings(given), kept)
  config = configs.build(cls, configs.with_values(settings, values))
  new_values = _values(config)
  for key, value in kept.items():
    if new_values[key] == value:
      why = 'as an earlier --change set it'
      if key not in before:
        why = 'the default, since the run is older than this key'
      print(f'config.{key} is {value!r}, {why}')
  return config


def keep_defaults(
  recorded: Any, settings: ConfigDict, new_keys: Iterable[str]
) -> dict[str, Any]:
  """{key: value in the settings} of the keys that are newer than a run, for
  which the settings have another value than the default with which the run
  began. Prints the new keys."""
  defaults, kept = _values(recorded), {}
  texts = [f'{key}={defaults[key]!r}' for key in new_keys]
  if texts:
    print(f'keys that are newer than this run: {", ".join(texts)}')
  given = configs.build(type(recorded), settings)
  for change in changes(recorded, given):
    if change.key in new_keys and not change.is_free:
      kept[change.key] = change.new
  return kept


def changes(
  recorded: Any, config: Any, asked_keys: Collection[str] = ()
) -> list[Changed]:
  """The keys with different values in two instances of a stage's config.
  `asked_keys` are those of --change."""
  old, found = _values(recorded), []
  for key, value, metadata in configs.named_options(config):
    pair = plain(old[key]), plain(value)
    if pair[0] != pair[1]:
      is_asked = any(_covers(asked, key) for asked in asked_keys)
      is_free = metadata.get('is_free', False) and not is_asked
      found.append(Changed(key, *pair, is_free, metadata.get('fixed', '')))
  return found


def refusal(
  changes: Iterable[Changed], asked_keys: Collection[str], fixed: str = ''
) -> str:
  """Why changes cannot be made, and what to do; '' if all can be made: if each
  is free, or is not fixed and among the asked_keys of --change. `fixed` says
  why no key of a stage can change."""
  lines, hints = [], []
  for change in changes:
    reason = change.fixed or fixed
    if change.is_free or (_is_asked(change, asked_keys) and not reason):
      continue
    line = f'{change.key}: {change.old!r} -> {change.new!r}'
    if reason:
      line += f' (it cannot change: {reason})'
    else:
      assignment = shlex.quote(f'{change.key}={change.new}')
      hints.append(f'--change {assignment}')
    lines.append(line)
  if not lines:
    return ''
  ways = 'use another --workdir or set these keys back'
  if len(hints) == len(lines):
    ways += f'; to change from the newest checkpoint on: {" ".join(hints)}'
  return f'{"; ".join(lines)}; {ways}'


def plain(value: Any) -> Any:
  """A value as in config.json: lists for tuples, names without digests."""
  if isinstance(value, str):
    return user_code.without_digest(value)
  if isinstance(value, dict):
    return {plain(key): plain(item) for key, item in value.items()}
  if isinstance(value, tuple | list):
    return [plain(item) for item in value]
  return value


def _values(options):
  return {key: value for key, value, _ in configs.named_options(options)}


def _with_defaults(options, tree):
  if not isinstance(tree, Mapping):
    raise errors.UserError(f'it has {tree!r} in place of keys')
  completed = dict(tree)
  for field in dataclasses.fields(options):
    value = getattr(options, field.name)
    if dataclasses.is_dataclass(value):
      completed[field.name] = _with_defaults(value, tree.get(field.name, {}))
    else:
      completed.setdefault(field.name, value)
  return completed


def _is_asked(change, asked_keys):
  """Whether --change sets a key, or every entry that differs in its dict."""
  keys = [change.key]
  if isinstance(change.old, dict) and isinstance(change.new, dict):
    entries = configs.changes(change.old, change.new)
    keys = [f'{change.key}.{entry}' for entry in entries]
  for key in keys:
    if not any(f'{key}.'.startswith(f'{asked}.') for asked in asked_keys):
      return False
  return True


def _covers(asked_key, key):
  """Whether an asked key is a key, or a part of the dict that it holds."""
  return f'{asked_key}.'.startswith(f'{key}.')
