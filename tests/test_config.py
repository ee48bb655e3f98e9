"""Configs are built, overridden, loaded and compared, or refused by key."""

import ast
import dataclasses
import importlib
import pathlib
import sys
from typing import Literal

import pytest

import r1jax
from r1jax import cli, config, errors
from r1jax.config import hints


@dataclasses.dataclass(frozen=True)
class Rope:
  factor: float = 8.0
  base: int = 10_000


@dataclasses.dataclass(frozen=True)
class Grpo:
  group_size: int = config.option(16, 'samples a prompt', minimum=1)
  clip: tuple[float, float] = config.option((0.2, 0.28), 'lower, upper')
  schedule: Literal['constant', 'cosine'] = config.option('cosine', 'of lr')


@dataclasses.dataclass(frozen=True)
class Config:
  name: str = config.option('zero', 'of the run')
  steps: int = config.option(100, 'updates')
  rate: float = config.option(1e-6, 'learning rate')
  filtered: bool = config.option(False, 'truncated rows leave the loss')
  grpo: Grpo = config.option(Grpo(group_size=8), 'the objective')
  rope: Rope = Rope()
  kv_windows: tuple[int, ...] = config.option((), 'of the decode loop')
  stops: list[str] = config.option(['</answer>'], 'ends of a sample')
  rewards: dict[str, float] = config.option({'format': 1.0}, 'weights')


def raises(*patterns):
  """Expects a UserError of one line that matches all the patterns."""
  pattern = ''.join(f'(?=.*{x})' for x in patterns)
  return pytest.raises(errors.UserError, match=f'(?s)^{pattern}[^\n]*$')


def test_defaults_build_to_the_default_dataclass():
  assert config.build(Config, config.defaults(Config)) == Config()
  assert config.defaults(Config).grpo.group_size == 8


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(steps=2**31), 'config.steps is 2147483648; it must be at most 21474'),
    (dict(steps=-(2**70)), 'config.steps is -.*; it must be at least -2147483'),
    (
      dict(kv_windows=(1, 2**63)),
      r'config.kv_windows\[1\] is 9223372036854775',
    ),
    (dict(rate=10**400), 'config.rate is too large'),
    ({'grpo.group_size': -(2**63)}, 'group_size is -.*; it must be at least 1'),
  ],
)
def test_integers_that_do_not_fit_into_arrays_are_refused(change, message):
  with raises(message):
    settings = config.with_values(config.defaults(Config), change)
    config.build(Config, settings)


@pytest.mark.parametrize(
  'change',
  [
    dict(name='gs://bucket/model'),
    dict(name='S3://bucket/model'),
    dict(name='hf://org/model'),
    dict(stops=['a', 's3:/bucket/x']),
  ],
)
def test_urls_of_stores_are_refused_with_the_key(change):
  settings = config.with_values(config.defaults(Config), change)
  (name,) = change
  with raises(f'config.{name}', 'folders of this machine only: copy'):
    config.build(Config, settings)
  with raises('--config is gs://b/x.py'):
    config.load_file('gs://b/x.py')


def test_other_texts_with_a_colon_are_no_urls_of_stores():
  for text in 'http://service:8000', 'toy:running_sum?count=3', 'a.py:f', 'gs':
    config.build(
      Config, config.with_values(config.defaults(Config), dict(name=text))
    )


@pytest.mark.parametrize('stage', ['sft', 'rl', 'reject', 'evaluate', 'verify'])
@pytest.mark.parametrize('seed', [-1, 2**32, 2**63])
def test_a_seed_is_one_that_jax_takes_as_it_is(stage, seed):
  cls = cli.load_stage(stage).Config
  settings = config.with_values(config.defaults(cls), dict(seed=seed))
  with raises('config.seed is', 'it must be at'):
    config.build(cls, settings)
  settings.seed = 2**32 - 1
  assert config.build(cls, settings).seed == 2**32 - 1


def test_two_default_configs_share_no_dict():
  one, two = config.defaults(Config), config.defaults(Config)
  one.rewards.format = 3.0
  assert two.rewards.format == 1.0 and Config().rewards == {'format': 1.0}


def test_only_options_that_are_dicts_take_new_keys():
  settings = config.defaults(Config)
  settings.rewards.language = 0.5
  with pytest.raises(AttributeError, match='Did you mean "group_size"'):
    settings.grpo.gruop_size = 4
  built = config.build(Config, settings)
  assert built.rewards == {'format': 1.0, 'language': 0.5}


def test_ints_are_accepted_as_floats_but_not_as_bools():
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
  'key, value, patterns',
  [
    ('stepz', 3, ['unknown key config.stepz', 'did you mean config.steps?']),
    ('group_size', 3, ['config.group_size', 'config.grpo.group_size?']),
    ('steps', 'ten', ['config.steps must be int', "'ten'"]),
    ('steps', None, ['config.steps must be int, not None']),
    ('kv_windows', (1, 'x'), [r'config.kv_windows\[1\] must be int']),
    ('kv_windows', 3, ['config.kv_windows must be', 'tuple', '3']),
    ('stops', [1], [r'config.stops\[0\] must be str']),
    ('rope', {'factr': 8.0}, ['config.rope.factr']),
    ('rope', {'base': 3}, ['the key config.rope.factor is missing']),
    ('grpo', {'group_size': 0}, ['config.grpo.group_size is 0', 'at least 1']),
    ('rewards', {'format': 'much'}, ['config.rewards.format must be float']),
    ('grpo', 7, ['config.grpo must be Grpo', '7']),
  ],
)
def test_a_wrong_key_is_named_in_full(key, value, patterns):
  plain = config.defaults(Config).to_dict()
  plain[key] = value
  with raises(*patterns):
    config.build(Config, plain)


def test_an_error_about_a_literal_lists_its_choices():
  plain = config.defaults(Config).to_dict()
  plain['grpo']['schedule'] = 'linear'
  with raises('config.grpo.schedule', "one of 'constant', 'cosine'", 'linear'):
    config.build(Config, plain)


def test_a_tuple_option_has_the_annotated_length():
  plain = config.defaults(Config).to_dict()
  plain['grpo']['clip'] = [0, 1]
  assert config.build(Config, plain).grpo.clip == (0.0, 1.0)
  plain['grpo']['clip'] = [0, 1, 2]
  with raises('config.grpo.clip'):
    config.build(Config, plain)


def test_overrides_are_converted_to_the_type_of_the_default():
  arguments = """--config.grpo.group_size=4 --config.rate=3 --config.name=7
    --config.kv_windows=[1,2] --config.filtered=True --config.rope.base=50
    --config.grpo.clip=0.1,0.3 --config.rewards.language=1""".split()
  settings = config.override(config.defaults(Config), arguments)
  assert config.build(Config, settings) == Config(
    name='7',
    rate=3.0,
    filtered=True,
    grpo=Grpo(group_size=4, clip=(0.1, 0.3)),
    rope=Rope(8.0, 50),
    kv_windows=(1, 2),
    rewards={'format': 1.0, 'language': 1.0},
  )


def test_override_does_not_change_its_argument():
  settings = config.defaults(Config)
  config.override(settings, ['--config.steps=1', '--config.rewards.format=0'])
  assert config.build(Config, settings) == Config()


@pytest.mark.parametrize(
  'argument, patterns',
  [
    ('--config.stepz=3', ['config.stepz', 'did you mean config.steps?']),
    ('--config.grpo.gruop_size=3', ['config.grpo.group_size?']),
    ('--config.gpro.group_size=3', ['config.grpo.group_size?']),
    ('--config.steps.more=3', ['unknown key config.steps.more']),
    ('--config.steps=many', ['config.steps must be like 100', "'many'"]),
    ('--config.steps=1.5', ['config.steps', '1.5']),
    ('--config.filtered=1', ['config.filtered must be like False']),
    ('--config.grpo=3', ['config.grpo holds keys']),
    ('--config.steps', ['--config.steps has no value', '.steps=VALUE']),
    ('--steps=3', ['--steps=3', 'write --config.key=value']),
  ],
)
def test_wrong_overrides_are_refused(argument, patterns):
  with raises(*patterns):
    config.override(config.defaults(Config), [argument])


def write(path, body):
  path.write_text(
    'import ml_collections\n\ndef get_config():\n'
    "  config = ml_collections.ConfigDict({'grpo': {'group_size': 16}})\n"
    f'  config.lock()\n  {body}\n  return config\n'
  )
  return path


def test_a_file_changes_the_defaults(tmp_path):
  path = write(tmp_path / 'short.py', 'config.grpo.group_size = 4')
  assert config.load_file(path).grpo.group_size == 4


def test_a_file_imports_from_the_folder_above_its_own(tmp_path):
  folder = tmp_path / 'configs_of_this_test'
  folder.mkdir()
  write(folder / 'start.py', 'config.grpo.group_size = 4')
  path = folder / 'longer.py'
  path.write_text('from configs_of_this_test.start import get_config\n')
  assert config.load_file(path).grpo.group_size == 4


def test_the_experiments_of_r1jax_are_found_in_every_folder(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  before = sys.path.copy()
  demo = config.load_file('experiments/demo_zero.py')
  assert demo.init == 'runs/demo/base/model'
  path = tmp_path / 'mine/x.py'
  path.parent.mkdir()
  path.write_text('from experiments.demo_zero import get_config\n')
  assert config.load_file(path) == demo
  assert sys.path == before
  with raises(
    'no config file experiments/demo_zera', 'mean experiments/demo_zero.py'
  ):
    config.load_file('experiments/demo_zera.py')


def test_a_file_of_the_users_hides_an_experiment(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / 'experiments/demo_zero.py'
  path.parent.mkdir()
  write(path, 'config.grpo.group_size = 4')
  found = config.load_file('experiments/demo_zero.py')
  assert found.grpo.group_size == 4


@pytest.mark.parametrize(
  'body, patterns',
  [
    ('config.grpo.gruop_size = 4', ['line 6', 'gruop_size', 'group_size?']),
    ('config.xyz = 4', ['line 6', 'unknown key config.xyz']),
    ('config.grpo.beta = 4', ['line 6', 'beta: it is now config.grpo.kl_coef']),
    ('config.grpo.group_size = "a"', ['line 6', 'TypeError', 'group_size']),
    ('1 / 0', ['line 6', 'ZeroDivisionError']),
    ('(', ['line', 'SyntaxError']),
    ('return 3', ['must return a ConfigDict']),
  ],
)
def test_an_error_in_a_file_names_file_and_line(tmp_path, body, patterns):
  with raises('wrong.py', *patterns):
    config.load_file(write(tmp_path / 'wrong.py', body))


def test_a_missing_file_or_get_config_is_named(tmp_path):
  path = write(tmp_path / 'zero_paper.py', 'pass')
  with raises('there is no config file', 'did you mean .*/zero_paper.py?'):
    config.load_file(tmp_path / 'zero_papr.py')
  path.write_text('x = 3\n')
  with raises('zero_paper.py', r'defines no get_config\(\)'):
    config.load_file(path)


def test_describe_lists_keys_defaults_and_help_in_columns():
  lines = config.describe(Config).splitlines()
  assert [line.split() for line in lines if 'rate' in line] == [
    ['--config.rate', '1e-06', 'learning', 'rate']
  ]
  texts = ['samples a prompt', 'learning rate', 'of the run']
  columns = {line.find(text) for line in lines for text in texts}
  assert len(columns - {-1}) == 1


def test_difference_lists_keys_with_both_values():
  old = dict(a=1, b=dict(c=(1, 2), d=2.0), gone=None)
  new = dict(a=1, b=dict(c=[1, 3], d=2), more='x')
  assert config.difference(old, new) == [
    'b.c: [1, 2] -> [1, 3]',
    "gone: None -> 'absent'",
    "more: 'absent' -> 'x'",
  ]


STAGES = [name for name in cli.STAGES if name != 'preflight']


def stage_config(name):
  return importlib.import_module(cli.STAGES[name]).Config


def stage_keys(name):
  """The dotted keys of a stage, without 'config.'."""
  lines = config.describe(stage_config(name)).splitlines()
  return [line[2:].split()[0].removeprefix('--config.') for line in lines]


@pytest.mark.parametrize('old', hints.RENAMED)
def test_old_keys_are_refused_with_their_new_names(old):
  new = hints.RENAMED[old]
  (name, *_) = [name for name in STAGES if new in stage_keys(name)]
  cls = stage_config(name)
  assert old not in stage_keys(name)
  hint = f'config.{old}: it is now config.{new}$'
  with raises(hint):
    config.override(config.defaults(cls), [f'--config.{old}=1'])
  plain = config.defaults(cls).to_dict()
  *path, key = old.split('.')
  section = plain[path[0]] if path else plain
  section[key] = 1
  with raises(hint):
    config.build(cls, plain)


def test_old_keys_of_nested_sections_are_refused_with_their_new_names():
  arguments = [
    '--config.judge.sample.max_new=1',
    '--config.judge.prompt.stop=x',
  ]
  for argument, new in zip(arguments, ['max_new_tokens', 'stop_strings']):
    with raises(f'it is now config.judge.*{new}'):
      config.override(config.defaults(stage_config('reject')), [argument])


def nested(cls):
  yield cls
  for field in dataclasses.fields(cls):
    if dataclasses.is_dataclass(field.default):
      yield from nested(type(field.default))


@pytest.mark.parametrize('name', STAGES)
def test_every_key_of_a_stage_is_read_somewhere(name):
  package = pathlib.Path(r1jax.__file__).parent
  read = set()
  for path in package.rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        read.add(node.attr)
  for cls in nested(stage_config(name)):
    for field in dataclasses.fields(cls):
      assert field.name in read, f'nothing reads {name}: {field.name}'
