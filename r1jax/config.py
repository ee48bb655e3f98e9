"""Configs as data: a ConfigDict to change, frozen dataclasses to read. A stage
declares its keys as nested dataclasses whose fields are `option`s."""

import ast
import copy
import dataclasses
import difflib
import itertools
import json
import operator
import re
import runpy
import sys
import textwrap
import traceback
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ml_collections import ConfigDict

from r1jax import errors, files

T = TypeVar('T')

# Old key and new key, for the error about an unknown key. An entry also matches
# within a longer key: prompt.stop covers judge.prompt.stop.
RENAMED = dict(
  pair.split(':')
  for pair in """
  micro:micro_batch_size buckets:length_buckets longer:max_new_tokens_schedule
  batch:batch_size against:baseline beside:compare_with cons:majority_k
  k:samples need:min_rewards questions:prompts_per_chunk
  grpo.questions:grpo.prompts_per_step grpo.group:grpo.group_size
  grpo.weights:grpo.loss_agg grpo.scale:grpo.advantage_std
  grpo.beta:grpo.kl_coef grpo.kl:grpo.kl_estimator grpo.old:grpo.old_logprobs
  grpo.importance_cap:grpo.tis_cap grpo.overlong_cache:grpo.overlong_buffer
  grpo.late:grpo.max_staleness grpo.dynamic_tries:grpo.dynamic_sampling_rounds
  sample.max_new:sample.max_new_tokens sample.slots:sample.decode_slots
  sample.refill_every:sample.refill_interval sample.windows:sample.kv_windows
  sample.ends:sample.eos_ids sample.stops:sample.stop_token_sequences
  prompt.stop:prompt.stop_strings judge.ask:judge.question_template
  judge.tries:judge.max_attempts scratch.words:scratch.extra_tokens
  parallel.kind:parallel.strategy parallel.model:parallel.tensor_parallel
  parallel.rollout:parallel.rollout_devices
  """.split()
)


def option(default: Any, help: str, minimum: float | None = None) -> Any:
  """A dataclass field: its default, its text in --help, its minimum."""
  metadata = dict(help=help, minimum=minimum)
  if isinstance(default, (dict, list)):
    return dataclasses.field(default_factory=default.copy, metadata=metadata)
  return dataclasses.field(default=default, metadata=metadata)


def defaults(cls: type) -> ConfigDict:
  """The locked ConfigDict of cls; only options that are dicts take new keys."""
  options = cls()
  config = ConfigDict(dataclasses.asdict(options)).lock()
  for name, value, _ in _options(options):
    if isinstance(value, dict):
      operator.attrgetter(name.removeprefix('config.'))(config).unlock()
  return config


def build(cls: type[T], config: Mapping | ConfigDict) -> T:
  """The frozen cls with the values of config. Raises UserError, which names the
  full key, for an unknown, missing or ill-typed one."""
  return _build(cls, config, 'config', [name for name, _, _ in _options(cls())])


def load_file(path: str | Path) -> ConfigDict:
  """The result of get_config() in a Python file. The parent of its folder is on
  sys.path during the call: experiments/x.py can import experiments.base."""
  path = Path(path)
  if not path.is_file():
    stems = [other.stem for other in path.parent.glob('*.py')]
    near = difflib.get_close_matches(path.stem, stems, 1)
    hint = f': did you mean {near[0]}?' if near else ''
    raise errors.UserError(f'there is no config file {path}{hint}')
  root = str(path.resolve().parent.parent)
  sys.path.append(root)
  try:
    names = runpy.run_path(str(path))
    if 'get_config' not in names:
      raise NameError('the file defines no get_config()')
    config = names['get_config']()
  except Exception as error:
    raise errors.UserError(_file_error(path, error)) from error
  finally:
    sys.path.remove(root)
  if not isinstance(config, ConfigDict):
    raise errors.UserError(f'{path}: get_config() must return a ConfigDict')
  return config


def override(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
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
      section = section.get(part) if isinstance(section, ConfigDict) else None
    is_section = isinstance(section, ConfigDict)
    if not is_section or (section.is_locked and key not in section):
      raise errors.UserError(f'unknown key {name}{_hint(name, names)}')
    section[key] = _parse(text, section.get(key), name)
  return config


def describe(cls: type) -> str:
  """A table of the keys of cls with their defaults and help texts."""
  rows = []
  for name, default, help in _options(cls()):
    short = textwrap.shorten(repr(default), 28, placeholder=' …')
    rows.append((f'--{name}', short, help))
  name_width = max((len(name) for name, _, _ in rows), default=0)
  default_width = max((len(default) for _, default, _ in rows), default=0)
  return '\n'.join(
    f'  {name:{name_width}}  {default:{default_width}}  {help}'.rstrip()
    for name, default, help in rows
  )


def changes(a: Mapping, b: Mapping) -> dict[str, tuple[Any, Any]]:
  """{dotted key: (value in a, value in b)} where two nested dicts differ."""
  old, new, found = _flat(a), _flat(b), {}
  for key in old | new:
    pair = old.get(key, 'absent'), new.get(key, 'absent')
    if pair[0] != pair[1]:
      found[key] = pair
  return found


def difference(a: Mapping, b: Mapping) -> list[str]:
  """Lines 'key: old -> new' where two nested dicts differ."""
  pairs = changes(a, b).items()
  return [f'{key}: {old!r} -> {new!r}' for key, (old, new) in pairs]


def claim_workdir(workdir: Path, cls: type, config: ConfigDict) -> None:
  """Writes workdir/config.json. Raises UserError if it holds another config.
  The file has `config`, all keys, and `changed`, {key: [default, value]}."""
  path, new = workdir / 'config.json', dataclasses.asdict(build(cls, config))
  if not path.exists():
    changed = changes(dataclasses.asdict(cls()), new)
    text = json.dumps(dict(changed=changed, config=new), indent=2)
    problem = f'cannot write to the work directory {workdir}'
    with errors.explained(problem, OSError):
      files.write_text(path, text + '\n')
    return
  with errors.explained(f'{path} is not a config that a stage has written'):
    old = json.loads(path.read_text())['config']
  lines = difference(old, new)
  if lines:
    raise errors.UserError(
      f'the work directory {workdir} belongs to another config: '
      f'{"; ".join(lines)}; use another --workdir or set these keys back'
    )


def _options(options, prefix='config'):
  """(dotted key, value, help) of every option of a dataclass instance. The
  dataclasses of other modules may have fields without a help text."""
  for field in dataclasses.fields(options):
    name, value = f'{prefix}.{field.name}', getattr(options, field.name)
    if dataclasses.is_dataclass(value):
      yield from _options(value, name)
    else:
      yield name, value, field.metadata.get('help', '')


def _build(cls, section, prefix, names):
  hints, values = typing.get_type_hints(cls), {}
  for key in section:
    if key not in hints:
      name = f'{prefix}.{key}'
      raise errors.UserError(f'unknown key {name}{_hint(name, names)}')
  for field in dataclasses.fields(cls):
    name = f'{prefix}.{field.name}'
    if field.name not in section:
      raise errors.UserError(f'the key {name} is missing')
    value = _typed(hints[field.name], section[field.name], name, names)
    low = field.metadata.get('minimum')
    if low is not None and value < low:
      raise errors.UserError(f'{name} is {value}; it must be at least {low}')
    values[field.name] = value
  return cls(**values)


def _typed(kind, value, name, names):
  """The value as an instance of the annotation `kind`."""
  origin, args = typing.get_origin(kind), typing.get_args(kind)
  is_section = isinstance(value, (ConfigDict, dict))
  if dataclasses.is_dataclass(kind) and is_section:
    return _build(kind, value, name, names)
  if origin is dict and is_section:
    return {
      key: _typed(args[1], value[key], f'{name}.{key}', names) for key in value
    }
  if origin in (tuple, list) and isinstance(value, (tuple, list)):
    if origin is list or args[-1] is Ellipsis:
      args = args[:1] * len(value)
    if len(args) == len(value):
      pairs = enumerate(zip(args, value))
      return origin(_typed(k, x, f'{name}[{i}]', names) for i, (k, x) in pairs)
  if kind is float and type(value) is int:
    return float(value)
  if type(value) is kind or (origin is typing.Literal and value in args):
    return value
  wanted = str(kind) if origin else kind.__name__
  if origin is typing.Literal:
    wanted = f'one of {", ".join(map(repr, args))}'
  raise errors.UserError(f'{name} must be {wanted}, not {value!r}')


def _parse(text, old, name):
  """The value that an override gives to a key whose value is `old`."""
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = text
  if isinstance(old, ConfigDict):
    if old.is_locked or not isinstance(value, dict):
      raise errors.UserError(f'{name} holds keys: set one, --{name}.key=value')
    return value
  if old is None or type(value) is type(old):
    return value
  if isinstance(old, str):
    return text
  if isinstance(old, float) and type(value) is int:
    return float(value)
  if isinstance(old, (tuple, list)) and isinstance(value, (tuple, list)):
    return type(old)(value)
  raise errors.UserError(f'{name} must be like {old!r}, not {text!r}')


def _hint(name, names):
  """The end of an error about an unknown key: the key that is likely meant."""
  new = _new_name(name)
  if any(f'{key}.'.startswith(f'{new}.') for key in names):
    return f': it is now {new}'
  last = name.split('.')[-1]
  near = [key for key in names if key.split('.')[-1] == last]
  near = near or difflib.get_close_matches(name, names, 1)
  return f': did you mean {near[0]}?' if near else ''


def _new_name(name):
  """The new name of an old dotted key or of the old section that holds it; ''
  for other keys."""
  parts = name.split('.')
  for start, end in itertools.combinations(range(len(parts) + 1), 2):
    old = '.'.join(parts[start:end])
    if old in RENAMED:
      return '.'.join([*parts[:start], RENAMED[old]])
  return ''


def _file_error(path, error):
  """One sentence with the file, the line and what failed there."""
  frames = traceback.extract_tb(error.__traceback__)
  frames = [frame for frame in frames if frame.filename == str(path)]
  where = f'{path}, line {frames[-1].lineno}' if frames else str(path)
  text = ' '.join(str(error).split())
  unknown = re.search(r'Key "(.+?)" does not exist', text)
  if not unknown:
    return f'{where}: {type(error).__name__}: {text}'
  line, key = frames[-1].line if frames else '', unknown[1]
  dotted = re.search(rf'[\w.]*\b{re.escape(key)}\b', line)
  name = dotted[0] if dotted else key
  near = re.search(r'Did you mean "(.+?)"', text)
  hint = f': did you mean {near[1]}?' if near else ''
  if _new_name(name):
    hint = f': it is now {_new_name(name)}'
  return f'{where}: unknown key {name}{hint}'


def _flat(tree, prefix=''):
  """{dotted key: value}, with lists for tuples, as in JSON."""
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      flat.update(_flat(value, f'{prefix}{key}.'))
    else:
      flat[prefix + key] = json.loads(json.dumps(value, default=repr))
  return flat
