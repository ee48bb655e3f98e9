"""Names of user code: what they find, how they change, and what is said of
names that lead nowhere."""

import functools
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from r1jax import errors, user_code


def write(folder, name, text):
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text)
  return path


@pytest.fixture
def here(tmp_path, monkeypatch):
  """A new folder as the current one, from which modules can be imported."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
  return tmp_path


@pytest.mark.parametrize(
  'text, is_name',
  [
    ('my_rewards.py:short', True),
    ('./a b/my-rewards.py:Class.method', True),
    ('package.module:function', True),
    ('python:f@0123', True),
    ('my_rewards.py', False),
    ('my_rewards.py:', False),
    ('my_rewards.py:1', False),
    ('accuracy', False),
    ('User: {question}', False),
    ('ORG/NAME', False),
    ('data/train.jsonl', False),
    ('', False),
  ],
)
def test_a_name_is_a_place_a_colon_and_an_identifier(text, is_name):
  assert user_code.is_name(text) == is_name


def test_code_of_the_experiments_of_r1jax_is_found_in_every_folder(here):
  name = 'experiments/your_own/rewards.py:mentions_gold'
  first = user_code.load(name, 'config.k')
  assert callable(first)
  write(here, 'experiments/your_own/rewards.py', 'mentions_gold = 3\n')
  assert user_code.load(name, 'config.k') == 3


def test_a_file_is_imported_once_and_again_when_it_has_changed(here):
  write(here, 'mine.py', 'import lib\nx = [lib.y]\n')
  write(here, 'lib.py', 'y = 1\n')
  first = user_code.load('mine.py:x', 'config.k')
  assert user_code.load('mine.py:x', 'config.k') is first == [1]
  digest = user_code.digests(['mine.py:x'])
  write(here, 'lib.py', 'y = 22\n')
  assert user_code.load('mine.py:x', 'config.k') is first
  assert user_code.digests(['mine.py:x']) == digest
  user_code.refresh(['mine.py:x'])
  assert user_code.load('mine.py:x', 'config.k') == [22]
  assert user_code.digests(['mine.py:x']).keys() == digest.keys() == {'mine.py'}
  assert user_code.digests(['mine.py:x']) != digest
  write(here, 'lib.py', 'y = 1\n')
  user_code.refresh(['mine.py:x'])
  assert user_code.digests(['mine.py:x']) == digest


def test_files_of_the_same_name_are_different_modules(here):
  write(here, 'a/mine.py', 'x = "a"\n')
  write(here, 'b/mine.py', 'x = "b"\n')
  names = 'a/mine.py:x', 'b/mine.py:x'
  assert [user_code.load(name, 'config.k') for name in names] == ['a', 'b']


def digest_of(name):
  user_code.refresh([name])
  return user_code.digests([name])


def test_the_digest_of_a_module_is_that_of_its_package(here):
  write(here, 'package/__init__.py', '')
  write(here, 'package/one.py', 'from . import two\nfrom .sub.three import z\n')
  write(here, 'package/two.py', 'y = 1\n')
  write(here, 'package/sub/__init__.py', '')
  write(here, 'package/sub/three.py', 'z = 1\n')
  write(here, 'package/other.py', 'w = 1\n')
  name = 'package.one:z'
  assert user_code.load(name, 'config.k') == 1
  digest = digest_of(name)
  write(here, 'package/other.py', 'w = 2\n')
  assert digest_of(name) == digest
  seen = [digest]
  for path, text in (
    ('package/sub/three.py', 'z = 23\n'),
    ('package/two.py', 'y = 23\n'),
    ('package/sub/__init__.py', 'v = 23\n'),
    ('package/__init__.py', 'v = 23\n'),
  ):
    write(here, path, text)
    assert digest_of(name) not in seen
    seen.append(digest_of(name))
  assert user_code.load(name, 'config.k') == 23


def test_the_digest_of_a_file_does_not_depend_on_where_it_is(here):
  for folder in ('a', 'b'):
    write(here, f'{folder}/mine.py', 'import lib\nx = 1\n')
    write(here, f'{folder}/lib.py', 'y = 1\n')
  one, other = (
    user_code.digests([f'{folder}/mine.py:x']) for folder in ('a', 'b')
  )
  assert list(one.values()) == list(other.values())


@pytest.mark.parametrize(
  'name, message',
  [
    ('mine.py', r"is 'mine.py': .* write FILE.py:NAME .* e.g. mine.py:short"),
    ('mine.py:shrot', "mine.py has no 'shrot'; did you mean short"),
    ('mine.py:zzzz', "mine.py has no 'zzzz'; it has short, count"),
    ('mini.py:short', 'there is no file mini.py .*: did you mean mine.py'),
    ('nowhere.at.all:f', 'there is no module nowhere.at.all'),
    ('bad.py:f', '(?s)bad.py cannot be run.*line 2.*ZeroDivisionError'),
    ('syntax.py:f', '(?s)syntax.py cannot be run.*SyntaxError'),
    ('leaves.py:f', '(?s)leaves.py cannot be run.*SystemExit'),
    ('needs.py:f', "(?s)needs.py cannot be run.*No module named 'not_there'"),
    ('python:f@0123456789ab', 'given in Python: give it again'),
  ],
)
def test_a_name_that_leads_nowhere_is_refused(here, name, message):
  write(here, 'mine.py', 'def short():\n  pass\ncount = 3\n')
  write(here, 'bad.py', 'x = 1\n1 / 0\n')
  write(here, 'syntax.py', 'def f(:\n')
  write(here, 'leaves.py', 'import sys\nsys.exit(3)\n')
  write(here, 'needs.py', 'import not_there\n')
  with pytest.raises(errors.UserError, match=message) as error:
    user_code.load(name, 'config.key')
  assert 'config.key' in str(error.value)


def double(x):
  return 2 * x


def test_an_importable_object_is_named_by_its_module():
  assert user_code.name_of(optax.adamw) == 'optax._src.alias:adamw'
  name = user_code.name_of(pathlib.Path.exists)
  assert user_code.load(name, 'config.k') is pathlib.Path.exists


@pytest.mark.parametrize(
  'given',
  [
    lambda: 1,
    functools.partial(double, 3),
    [dict(prompt='a')],
    optax.sgd(0.1),
    type('Tool', (), dict(__call__=lambda self: 1))(),
  ],
)
def test_any_other_object_is_found_by_this_process(given):
  assert user_code.needs_name(given)
  name = user_code.name_of(given)
  assert user_code.is_name(name) and name.startswith('python:')
  assert user_code.load(name, 'config.k') is given
  assert user_code.name_of(given) == name


def test_data_is_held_by_a_config_key_itself():
  for value in (1, 'a', None, (), (1, 2), [1, 2], ['a'], [], {'a': 1}):
    assert not user_code.needs_name(value)


def make(scale):
  offset = 1

  def f(x):
    return helper(x, offset) * scale

  def helper(x, y):
    return x + y

  return f


def test_the_digest_of_a_function_has_the_values_that_it_uses():
  assert user_code.name_of(make(2)) == user_code.name_of(make(2))
  assert user_code.name_of(make(2)) != user_code.name_of(make(3))
  one = functools.partial(double, 3)
  assert user_code.name_of(one) == user_code.name_of(
    functools.partial(double, 3)
  )
  assert user_code.name_of(one) != user_code.name_of(
    functools.partial(double, 4)
  )


class Length:
  def __init__(self, size):
    self.size = size

  def __call__(self, records, texts):
    return [self.size] * len(texts)

  def method(self, records, texts):
    return [self.size] * len(texts)


def over(array):
  def closure(records, texts):
    return array

  return closure


@pytest.mark.parametrize(
  'one, other',
  [
    ([dict(prompt='a')], [dict(prompt='b')]),
    (optax.sgd(0.1), optax.sgd(0.2)),
    (optax.sgd(0.1), optax.adam(0.1)),
    (Length(1), Length(2)),
    (Length(1).method, Length(2).method),
    (over(np.zeros(3)), over(np.ones(3))),
    (over({'b', 'a'}), over({'c', 'a'})),
    (jax.jit(make(2)), jax.jit(make(3))),
    (lambda x: x + 1, lambda x: x + 2),
  ],
)
def test_objects_that_differ_have_different_names(one, other):
  assert user_code.name_of(one) != user_code.name_of(other)
  assert user_code.name_of(one) == user_code.name_of(one)
  assert user_code.load(user_code.name_of(one), 'config.k') is one


def test_a_digest_is_the_same_in_another_process(tmp_path):
  script = tmp_path / 'script.py'
  script.write_text(
    'from r1jax import user_code\n'
    'LIMIT = 3\n'
    'def f(records, texts):\n'
    '  return [min(len(x), LIMIT) for x in texts]\n'
    'print(user_code.name_of(f))\n'
  )
  environment = os.environ | dict(PYTHONPATH=os.getcwd())
  names = {
    subprocess.check_output([sys.executable, script], env=environment)
    for _ in range(2)
  }
  assert len(names) == 1 and names.pop().startswith(b'python:f@')


def test_a_failure_shows_the_users_frames_below_the_sentence():
  try:
    user_code.load('json:loads', 'config.k')('{')
  except ValueError as error:
    text = str(user_code.failure('it failed', error))
  first, second, *_ = text.splitlines()
  assert first == 'it failed' and second.startswith('Traceback')
  assert 'JSONDecodeError' in text.splitlines()[-1]


def test_a_signature_is_compared_with_the_form():
  check = functools.partial(
    user_code.check_call, name='m:f', key='config.k', form='(a, b) -> c'
  )
  check(lambda x, y: 0)
  check(lambda *rest: 0)
  check(lambda x, y, z=1: 0)
  check(lambda x, y, z: 0, options=dict(z=1), options_key='config.o')
  for bad in (lambda x: 0, lambda x, y, z: 0, 3):
    with pytest.raises(errors.UserError, match=r'config.k: .*\(a, b\) -> c'):
      check(bad)
  with pytest.raises(errors.UserError, match=r'options of config.o \(w\)'):
    check(lambda x, y, z: 0, options=dict(w=1), options_key='config.o')


def test_siblings_of_one_name_belong_to_the_files_of_their_folders(here):
  for folder, number in (('one', 1), ('two', 2)):
    write(here, f'{folder}/mine.py', 'from sib_helper import K\nx = [K]\n')
    write(here, f'{folder}/sib_helper.py', f'K = {number}\n')
  names = 'one/mine.py:x', 'two/mine.py:x'
  assert [user_code.load(name, 'config.k') for name in names] == [[1], [2]]
  write(here, 'two/sib_helper.py', 'K = 22\n')
  user_code.refresh(names)
  assert [user_code.load(name, 'config.k') for name in names] == [[1], [22]]


def test_a_tool_object_is_given_by_name():
  class Add:
    name, description = 'add', ''

    def call(self, arguments, record):
      return '3'

  assert user_code.needs_name(Add())
