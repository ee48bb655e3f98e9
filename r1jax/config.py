"""Experiments as data: a ConfigDict to change, frozen dataclasses to read.

Each stage declares its keys as nested dataclasses of options; what is
misspelt, missing, ill-typed or another run's is a sentence, never a surprise.
"""

import ast
import copy
import dataclasses
import difflib
import json
import os
import pathlib
import re
import runpy
import sys
import textwrap
import traceback
import types
import typing
import uuid

import ml_collections

from r1jax import errors


def option(default, help, least=None):
  """A dataclass field: default, words for --help, least number allowed."""
  metadata = dict(help=help, least=least)
  if isinstance(default, (dict, list)):

    def copied():
      return copy.copy(default)

    return dataclasses.field(default_factory=copied, metadata=metadata)
  return dataclasses.field(default=default, metadata=metadata)


def defaults(cls):
  """The locked ConfigDict of cls; free dicts in it stay open to new keys.

  A key without a default holds None until an experiment sets it.
  """
  free = []
  config = _section(cls, free).lock()
  for entries in free:
    entries.unlock()
  return config


def build(cls, config):
  """The frozen cls that config describes; UserError names the wrong key."""
  return _build(cls, config, 'config', [name for name, _, _ in _options(cls)])


def load_file(path):
  """What get_config() of a Python file returns; the folder above the file's
  is importable meanwhile, so that experiments/x.py can import its base."""
  path = pathlib.Path(path)
  if not path.is_file():
    near = _nearest(path.stem, [x.stem for x in path.parent.glob('*.py')])
    raise errors.UserError(f'there is no config file {path}{near}')
  root = str(path.resolve().parent.parent)
  sys.path.append(root)
  try:
    names = runpy.run_path(str(path))
    if 'get_config' not in names:
      raise NameError('the file defines no get_config()')
    config = names['get_config']()
  except Exception as error:
    raise errors.UserError(_blame(path, error)) from error
  finally:
    sys.path.remove(root)
  if not isinstance(config, ml_collections.ConfigDict):
    raise errors.UserError(f'{path}: get_config() must return a ConfigDict')
  return config


def override(config, arguments):
  """A copy of config changed by arguments like --config.grpo.clip_low=0.1."""
  config = copy.deepcopy(config)
  names = ['config.' + key for key in _flat(config.to_dict())]
  for argument in arguments:
    name, equals, text = argument.removeprefix('--').partition('=')
    if not argument.startswith('--config.') or not equals:
      raise errors.UserError(
        f'cannot read the argument {argument}: write --config.key=value'
      )
    *path, key = name.split('.')[1:]
    section = config
    for part in path:
      section = section.get(part) if _is_section(section) else None
    if not _is_section(section) or section.is_locked and key not in section:
      raise errors.UserError(f'unknown key {name}{_nearest(name, names)}')
    section[key] = _parse(text, section.get(key), name)
  return config


def describe(cls):
  """A table of every key of cls with its default and its help."""
  rows = [
    (f'--{name}', textwrap.shorten(default, 28, placeholder=' …'), help)
    for name, default, help in _options(cls)
  ]
  wide = max((len(name) for name, _, _ in rows), default=0)
  narrow = max((len(default) for _, default, _ in rows), default=0)
  return '\n'.join(
    f'  {name:{wide}}  {default:{narrow}}  {help}'.rstrip()
    for name, default, help in rows
  )


def changes(a, b):
  """[(dotted key, value in a, value in b)] where two nested dicts differ."""
  a, b = _flat(a), _flat(b)
  pairs = {key: (a.get(key, 'absent'), b.get(key, 'absent')) for key in a | b}
  return [(key, old, new) for key, (old, new) in pairs.items() if old != new]


def difference(a, b):
  """Lines 'key: old -> new' where two nested dicts differ."""
  return [f'{key}: {old!r} -> {new!r}' for key, old, new in changes(a, b)]


def claim_workdir(workdir, cls, config):
  """Makes workdir this config's: config.json is written, or must agree.

  The file holds `config`, every key, and `changed`, {key: [default, value]}.
  """
  path = pathlib.Path(workdir) / 'config.json'
  new = dataclasses.asdict(build(cls, config))
  if path.exists():
    lines = difference(_read(path), new)
    if lines:
      raise errors.UserError(
        f'the work directory {workdir} belongs to another config: '
        f'{"; ".join(lines)}; use another --workdir or set these keys back'
      )
    return
  changed = {key: pair for key, *pair in changes(defaults(cls).to_dict(), new)}
  text = json.dumps(dict(changed=changed, config=new), indent=2)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Many hosts of one run may write the same words to one disk at one time.
    draft = path.with_suffix(f'.{uuid.uuid4().hex}')
    draft.write_text(text + '\n')
    os.replace(draft, path)
  except OSError as error:
    raise errors.UserError(
      f'cannot write to the work directory {workdir}: {error.strerror}'
    ) from error


def _values(source):
  """(field, default) of a dataclass, or (field, value) of an instance."""
  cls = source if isinstance(source, type) else type(source)
  hints = typing.get_type_hints(cls)
  for field in dataclasses.fields(cls):
    value = field.default
    if source is not cls:
      value = getattr(source, field.name)
    elif field.default_factory is not dataclasses.MISSING:
      value = field.default_factory()
    elif value is dataclasses.MISSING:
      kind = hints[field.name]
      value = kind if dataclasses.is_dataclass(kind) else None
    yield field, value


def _section(source, free):
  section = ml_collections.ConfigDict()
  for field, value in _values(source):
    if dataclasses.is_dataclass(value):
      section[field.name] = _section(value, free)
    else:
      section[field.name] = value
      if isinstance(value, dict):
        free.append(section[field.name])
  return section


def _options(source, prefix='config'):
  """(dotted key, default, help); other rooms' dataclasses may lack help."""
  for field, value in _values(source):
    name = f'{prefix}.{field.name}'
    if dataclasses.is_dataclass(value):
      yield from _options(value, name)
    else:
      yield name, repr(value), field.metadata.get('help', '')


def _build(cls, config, prefix, names):
  hints = typing.get_type_hints(cls)
  for key in [*config, *hints]:
    if key not in hints:
      near = _nearest(f'{prefix}.{key}', names)
      raise errors.UserError(f'unknown key {prefix}.{key}{near}')
    if key not in config:
      raise errors.UserError(f'the key {prefix}.{key} is missing')

  def typed(key):
    return _typed(hints[key], config[key], f'{prefix}.{key}', names)

  built = cls(**{key: typed(key) for key in hints})
  for field, value in _values(built):
    least = field.metadata.get('least')
    if least is not None and value < least:
      name = f'{prefix}.{field.name}'
      raise errors.UserError(f'{name} is {value}; it must be at least {least}')
  return built


def _typed(kind, value, name, names):
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  if origin in (typing.Union, types.UnionType):
    rest = [arg for arg in args if arg is not types.NoneType]
    assert len(rest) == 1, f'{name}: only X | None, not {kind}'
    return None if value is None else _typed(rest[0], value, name, names)
  if value is None:
    raise errors.UserError(
      f'{name} is not set: set it in the config file or by --{name}=VALUE'
    )
  if dataclasses.is_dataclass(kind) and _is_section(value):
    return _build(kind, value, name, names)
  if origin is dict and _is_section(value):

    def each(key):
      return _typed(args[1], value[key], f'{name}.{key}', names)

    return {key: each(key) for key in value}
  if origin in (tuple, list) and isinstance(value, (tuple, list)):
    if origin is list or args[-1] is Ellipsis:
      args = args[:1] * len(value)
    if len(args) == len(value):
      slots = enumerate(zip(args, value))
      return origin(_typed(k, x, f'{name}[{i}]', names) for i, (k, x) in slots)
  if kind is float and type(value) is int:
    return float(value)
  if type(value) is kind or origin is typing.Literal and value in args:
    return value
  wanted = str(kind) if origin else kind.__name__
  if origin is typing.Literal:
    wanted = f'one of {", ".join(map(repr, args))}'
  raise errors.UserError(f'{name} must be {wanted}, not {value!r}')


def _parse(text, old, name):
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = text
  if _is_section(old):
    if old.is_locked or not isinstance(value, dict):
      raise errors.UserError(f'{name} holds keys: set one, --{name}.key=value')
    return value
  if old is None or value is None or type(value) is type(old):
    return value
  if isinstance(old, str):
    return text
  if isinstance(old, float) and type(value) is int:
    return float(value)
  if isinstance(old, (tuple, list)) and isinstance(value, (tuple, list)):
    return type(old)(value)
  raise errors.UserError(f'{name} must be like {old!r}, not {text!r}')


def _read(path):
  try:
    return json.loads(path.read_text())['config']
  except (ValueError, KeyError, TypeError) as error:
    raise errors.UserError(
      f'{path} is not a config that a stage has written: {error}'
    ) from error


def _blame(path, error):
  """One sentence: the file, its line, and what went wrong there."""
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == str(path)]
  if isinstance(error, SyntaxError):
    lines = [error.lineno]
  where = f'{path}, line {lines[-1]}' if lines else str(path)
  misspelt = re.search(r'Did you mean "(.+?)" instead of "(.+?)"', str(error))
  if misspelt:
    return f'{where}: unknown key {misspelt[2]}: did you mean {misspelt[1]}?'
  reason = ' '.join(str(error).split(' Other fields present')[0].split())
  return f'{where}: {type(error).__name__}: {reason}'


def _nearest(name, names):
  near = [key for key in names if key.split('.')[-1] == name.split('.')[-1]]
  near = near or difflib.get_close_matches(name, names, 1)
  return f': did you mean {near[0]}?' if near else ''


def _flat(tree, prefix=''):
  """{dotted key: value}, with tuples as lists, as JSON has them."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      flat.update(_flat(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = json.loads(json.dumps(value, default=repr))
  return flat


def _is_section(value):
  return isinstance(value, (ml_collections.ConfigDict, dict))
