"""A key is read, typed and compared under one dotted name, or refused."""

import ast
import dataclasses
import importlib.util
import json
import pathlib
import pkgutil
from typing import Literal

import pytest

import r1jax
from r1jax import config, errors


@dataclasses.dataclass(frozen=True)
class Rope:
  factor: float
  base: int = 10_000


@dataclasses.dataclass(frozen=True)
class Grpo:
  group_size: int = config.option(16, 'samples a prompt')
  clip: tuple[float, float] = config.option((0.2, 0.28), 'lower, upper')
  kl: Literal['reverse', 'paper'] = config.option('reverse', 'its gradient')


@dataclasses.dataclass(frozen=True)
class Config:
  init: str | None = config.option(None, 'where the weights come from')
  name: str = config.option('zero', 'of the run')
  steps: int = config.option(100, 'updates')
  rate: float = config.option(1e-6, 'learning rate')
  filtered: bool = config.option(False, 'truncated rows leave the loss')
  grpo: Grpo = config.option(Grpo(group_size=8), 'the objective')
  rope: Rope | None = config.option(None, 'rope scaling')
  windows: tuple[int, ...] = config.option((), 'of the decode loop')
  stops: list[str] = config.option(['</answer>'], 'ends of a sample')
  rewards: dict[str, float] = config.option({'format': 1.0}, 'weights')


@dataclasses.dataclass(frozen=True)
class Needy:
  rope: Rope


def raises(*words):
  """Expects a UserError whose one sentence has all the words."""
  pattern = ''.join(f'(?=.*{word})' for word in words)
  return pytest.raises(errors.UserError, match=f'(?s)^{pattern}[^\n]*$')


def test_defaults_build_to_the_default_dataclass():
  assert config.build(Config, config.defaults(Config)) == Config()
  assert config.defaults(Config).grpo.group_size == 8


def test_defaults_of_two_configs_are_apart():
  one, two = config.defaults(Config), config.defaults(Config)
  one.rewards.format = 3.0
  assert two.rewards.format == 1.0 and Config().rewards == {'format': 1.0}


def test_only_free_dicts_take_new_keys():
  settings = config.defaults(Config)
  settings.rewards.language = 0.5
  with pytest.raises(AttributeError, match='Did you mean "group_size"'):
    settings.grpo.gruop_size = 4
  built = config.build(Config, settings)
  assert built.rewards == {'format': 1.0, 'language': 0.5}


def test_integers_serve_as_floats_but_not_as_bools():
  settings = config.defaults(Config).unlock()
  settings.rate = 1
  assert type(config.build(Config, settings).rate) is float
  plain = settings.to_dict()
  plain['filtered'] = 1
  with raises('config.filtered must be bool', '1'):
    config.build(Config, plain)
  plain['filtered'], plain['steps'] = False, True
  with raises('config.steps must be int'):
    config.build(Config, plain)


@pytest.mark.parametrize(
  'key, value, words',
  [
    ('stepz', 3, ['unknown key config.stepz', 'did you mean config.steps?']),
    ('group_size', 3, ['config.group_size', 'config.grpo.group_size?']),
    ('steps', 'ten', ['config.steps must be int', "'ten'"]),
    ('steps', None, ['config.steps is not set']),
    ('windows', (1, 'x'), [r'config.windows\[1\] must be int']),
    ('windows', 3, ['config.windows must be', 'tuple', '3']),
    ('stops', [1], [r'config.stops\[0\] must be str']),
    ('rope', {'factr': 8.0}, ['config.rope.factr']),
    ('rope', {'base': 3}, ['config.rope.factor is missing']),
    ('rewards', {'format': 'much'}, ['config.rewards.format must be float']),
    ('grpo', 7, ['config.grpo must be Grpo', '7']),
  ],
)
def test_a_wrong_key_is_named_in_full(key, value, words):
  plain = config.defaults(Config).to_dict()
  plain[key] = value
  with raises(*words):
    config.build(Config, plain)


def test_a_literal_offers_its_choices():
  plain = config.defaults(Config).to_dict()
  plain['grpo']['kl'] = 'forward'
  with raises('config.grpo.kl_estimator', 'reverse', 'paper', 'forward'):
    config.build(Config, plain)


def test_a_pair_has_two_members():
  plain = config.defaults(Config).to_dict()
  plain['grpo']['clip'] = [0, 1]
  assert config.build(Config, plain).grpo.clip == (0.0, 1.0)
  plain['grpo']['clip'] = [0, 1, 2]
  with raises('config.grpo.clip'):
    config.build(Config, plain)


def test_a_missing_key_is_named_in_full():
  plain = config.defaults(Config).to_dict()
  del plain['grpo']['clip']
  with raises('config.grpo.clip is missing'):
    config.build(Config, plain)


def test_a_key_without_default_must_be_set():
  settings = config.defaults(Needy)
  with raises('config.rope.factor is not set'):
    config.build(Needy, settings)
  settings.rope.factor = 8.0
  assert config.build(Needy, settings) == Needy(Rope(8.0))


def test_optional_sections_are_built():
  settings = config.defaults(Config)
  settings.rope = dict(factor=8, base=500)
  assert config.build(Config, settings).rope == Rope(8.0, 500)


def test_overrides_take_the_type_of_the_default():
  arguments = """--config.grpo.group_size=4 --config.rate=3 --config.name=7
    --config.windows=[1,2] --config.init=Qwen/Qwen3-0.6B --config.filtered=True
    --config.grpo.clip=0.1,0.3 --config.rewards.language=1
    --config.rope={'factor':8,'base':50}""".split()
  settings = config.override(config.defaults(Config), arguments)
  assert config.build(Config, settings) == Config(
    init='Qwen/Qwen3-0.6B',
    name='7',
    rate=3.0,
    filtered=True,
    grpo=Grpo(group_size=4, clip=(0.1, 0.3)),
    rope=Rope(8.0, 50),
    windows=(1, 2),
    rewards={'format': 1.0, 'language': 1.0},
  )


def test_overrides_leave_their_argument_alone():
  settings = config.defaults(Config)
  config.override(settings, ['--config.steps=1', '--config.rewards.format=0'])
  assert config.build(Config, settings) == Config()


@pytest.mark.parametrize(
  'argument, words',
  [
    ('--config.stepz=3', ['config.stepz', 'did you mean config.steps?']),
    ('--config.grpo.gruop_size=3', ['config.grpo.group_size?']),
    ('--config.gpro.group_size=3', ['config.grpo.group_size?']),
    ('--config.steps.more=3', ['unknown key config.steps.more']),
    ('--config.steps=many', ['config.steps must be like 100', "'many'"]),
    ('--config.steps=1.5', ['config.steps', '1.5']),
    ('--config.filtered=1', ['config.filtered must be like False']),
    ('--config.grpo=3', ['config.grpo holds keys']),
    ('--config.steps', ['--config.steps', 'write --config.key=value']),
    ('--steps=3', ['--steps=3', 'write --config.key=value']),
  ],
)
def test_wrong_overrides_are_refused(argument, words):
  with raises(*words):
    config.override(config.defaults(Config), [argument])


def write(path, body):
  path.write_text(
    'import ml_collections\n\ndef get_config():\n'
    "  config = ml_collections.ConfigDict({'grpo': {'group_size': 16}})\n"
    f'  config.lock()\n  {body}\n  return config\n'
  )
  return path


def test_files_change_what_differs(tmp_path):
  path = write(tmp_path / 'short.py', 'config.grpo.group_size = 4')
  assert config.load_file(path).grpo.group_size == 4


def test_files_import_from_the_folder_above_theirs(tmp_path):
  folder = tmp_path / 'trials_of_this_test'
  folder.mkdir()
  write(folder / 'start.py', 'config.grpo.group_size = 4')
  path = folder / 'max_new_tokens_schedule.py'
  path.write_text('from trials_of_this_test.start import get_config\n')
  assert config.load_file(path).grpo.group_size == 4


@pytest.mark.parametrize(
  'body, words',
  [
    ('config.grpo.gruop_size = 4', ['line 6', 'gruop_size', 'group_size?']),
    ('config.xyz = 4', ['line 6', 'xyz', 'does not exist']),
    ('config.grpo.group_size = "a"', ['line 6', 'TypeError', 'group_size']),
    ('1 / 0', ['line 6', 'ZeroDivisionError']),
    ('(', ['line', 'SyntaxError']),
    ('return 3', ['must return a ConfigDict']),
  ],
)
def test_files_that_fail_are_blamed_by_line(tmp_path, body, words):
  with raises('wrong.py', *words):
    config.load_file(write(tmp_path / 'wrong.py', body))


def test_absent_files_and_functions_are_named(tmp_path):
  path = write(tmp_path / 'zero_paper.py', 'pass')
  with raises('there is no config file', 'did you mean zero_paper?'):
    config.load_file(tmp_path / 'zero_papr.py')
  path.write_text('x = 3\n')
  with raises('zero_paper.py', r'defines no get_config\(\)'):
    config.load_file(path)


def test_help_has_every_key_default_and_sentence():
  lines = config.describe(Config).splitlines()
  assert [line.split() for line in lines if 'rate' in line] == [
    ['--config.rate', '1e-06', 'learning', 'rate']
  ]
  words = ['samples a prompt', 'learning rate', 'of the run']
  columns = {line.find(word) for line in lines for word in words}
  assert len(columns - {-1}) == 1


def test_difference_names_keys_and_both_values():
  old = dict(a=1, b=dict(c=(1, 2), d=2.0), gone=None)
  new = dict(a=1, b=dict(c=[1, 3], d=2), more='x')
  assert config.difference(old, new) == [
    'b.c: [1, 2] -> [1, 3]',
    "gone: None -> 'absent'",
    "more: 'absent' -> 'x'",
  ]


def test_a_work_directory_keeps_its_first_config(tmp_path):
  workdir = tmp_path / 'runs' / 'one'
  settings = config.override(config.defaults(Config), ['--config.steps=7'])
  config.claim_workdir(workdir, Config, settings)
  config.claim_workdir(workdir, Config, settings)
  written = json.loads((workdir / 'config.json').read_text())
  assert written['changed'] == {'steps': [100, 7]}
  assert written['config']['grpo']['clip'] == [0.2, 0.28]
  settings.grpo.group_size = 32
  with raises('another config', 'grpo.group_size: 8 -> 32;', '--workdir'):
    config.claim_workdir(workdir, Config, settings)
  assert [x.name for x in workdir.iterdir()] == ['config.json']


def test_broken_work_directories_are_refused(tmp_path):
  settings = config.defaults(Config)
  (tmp_path / 'config.json').write_text('{"config": ')
  with raises('config.json is not a config'):
    config.claim_workdir(tmp_path, Config, settings)
  (tmp_path / 'file').write_text('')
  with raises('cannot write to the work directory'):
    config.claim_workdir(tmp_path / 'file' / 'run', Config, settings)


def nested(cls):
  yield cls
  for field in dataclasses.fields(cls):
    value = field.default
    if dataclasses.is_dataclass(value):
      yield from nested(type(value))


def stages():
  """Names of the stage modules, found without importing them."""
  spec = importlib.util.find_spec('r1jax.stages')
  folders = spec.submodule_search_locations
  return [f'r1jax.stages.{x.name}' for x in pkgutil.iter_modules(folders)]


@pytest.mark.parametrize('name', stages())
def test_every_key_of_a_stage_is_read_somewhere(name):
  package = pathlib.Path(r1jax.__file__).parent
  read = {
    node.attr
    for path in package.rglob('*.py')
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
  }
  for cls in nested(importlib.import_module(name).Config):
    for field in dataclasses.fields(cls):
      assert field.name in read, f'nothing reads {name}: {field.name}'
