"""Records from a source: a file, a toy task, a task of reasoning-gym, or the
user's own function."""

import inspect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from r1jax import errors, user_code
from r1jax.data import gym_tasks, record_files
from r1jax.data import settings as source_settings
from r1jax.data.bad_records import BadRecords
from r1jax.data.record_files import Record
from r1jax.data.sources import columns

NO_THINKING = 0.2  # share of running sums that are answered without thinking
CALLS = 0.2  # share of products that call the calculator
MAX_YIELDED = 1_000_000  # records of an iterator that is given no count
MAX_COUNT = 100_000_000  # records of a task
MAX_DIGITS = dict(running_sum=10_000, product=18, function=18)  # int64
CORRECT = 0.3  # share of functions whose program is not changed at random


def load_records(
  source: str,
  seed: int,
  bad: BadRecords | None = None,
  config_columns: Mapping[str, str] = {},
) -> list[Record]:
  """The records of a source: `PATH` or `hf://NAME` (see sources/source_rows.py),
  `toy:NAME?count=N&key=value`, `gym:NAME?...`, or a name of user code,
  `my_data.py:problems?...`. Values are JSON (`max_digits=1`,
  `operators=["+"]`), or else strings. `config_columns` are columns by the keys
  of records. Records that cannot be read are noted in `bad`, or else raise
  UserError.
  """
  if not source:
    raise errors.UserError(
      'no records are given: set config.prompts (rl) or config.data to a path, '
      'hf://…, toy:…, gym:… or FILE.py:NAME, or in Python to a list of dicts'
    )
  maker, colon, rest = source.partition(':')
  name, _, query = source.partition('?')
  is_own = user_code.is_name(name) and maker not in ('toy', 'gym')
  if is_own and not Path(source).is_file():
    is_module = not name.startswith(user_code.PYTHON) and maker[-3:] != '.py'
    if is_module and not find_spec(maker.partition('.')[0]):
      raise errors.UserError(
        f'there is no data file {source}, and no module {maker}: records come '
        'from PATH, hf://NAME, toy:NAME?count=N, gym:NAME?count=N, FILE.py:NAME or '
        'package.module:NAME'
      )
    settings = source_settings.parse(query, source)
    return user_records(name, seed, settings, bad, config_columns)
  if source.endswith('.py'):
    user_code.load(source, 'the source of records')  # raises: no name
  if not colon or maker not in ('toy', 'gym'):
    return record_files.read(source, bad, config_columns)
  name, _, query = rest.partition('?')
  settings = source_settings.parse(query, source)
  count = settings.pop('count', None)
  if type(count) is not int or not 1 <= count <= MAX_COUNT:
    raise errors.UserError(
      f'{source!r} must say how many records: {maker}:{name}?count=1000, at '
      f'most {MAX_COUNT:,}'
    )
  if maker == 'gym':
    rows = gym_tasks.rows(source, count, seed)
  elif name not in TOYS or settings.keys() - {'digits'}:
    raise errors.UserError(
      f'{source!r}: the toy tasks are toy:running_sum?count=1000&digits=8, '
      'toy:product?count=1000&digits=2 and toy:function?count=1000&digits=1'
    )
  else:
    digits = settings.get('digits', 1)
    if type(digits) is not int or not 1 <= digits <= MAX_DIGITS[name]:
      raise errors.UserError(
        f'{source!r}: digits must be an integer from 1 to {MAX_DIGITS[name]:,}, '
        f'not {digits!r}'
      )
    rows = TOYS[name](count, seed, **settings)
  numbered = ((n, f'record {n}', dict(row)) for n, row in enumerate(rows))
  return [
    dict(id=f'{name}/{seed}/{n}') | row
    for n, _, row in columns.mapped(numbered, config_columns, source)
  ]


def user_records(
  name: str,
  seed: int,
  settings: dict,
  bad: BadRecords | None = None,
  config_columns: Mapping[str, str] = {},
) -> list[Record]:
  """The records of the user's function (seed, **settings) -> records, or of a
  list. With the setting `count`, which need not be one of its parameters, the
  first records. An id that a record lacks is NAME/seed/number."""
  source = user_code.load(name, 'the source of records')
  count, rows = None, source
  if not isinstance(source, list | tuple):
    key, form = 'the source of records', '(seed) -> records'
    if callable(source) and 'count' not in inspect.signature(source).parameters:
      count = settings.pop('count', None)
    if count is not None and (type(count) is not int or count < 1):
      raise errors.UserError(f'{name}: count must be 1 or more, not {count!r}')
    user_code.check_call(source, name, key, form, settings, 'its source')
    rows = _call(user_code.shown_name(name), source, seed, settings)
  short, name = user_code.short_name(name), user_code.shown_name(name)
  records: dict[str, Record] = {}
  noted = bad or BadRecords(key='')
  numbered = _numbered(name, _rows(name, rows, count), noted)
  for n, where, row in columns.mapped(numbered, config_columns, name):
    with noted.noted(f'record {n}'):
      record = record_files.own_record(row, where, f'{short}/{seed}/{n}')
      if record['id'] in records:
        raise errors.UserError(
          f'two records of {name} have the id {record["id"]!r}: ids must differ'
        )
      records[record['id']] = record
  if not bad:
    noted.finish(len(records), name)
  if not records and not noted.found:
    raise errors.UserError(f'{name} has no records: it is empty')
  return list(records.values())


def _numbered(name, rows, noted):
  """(number, place, row) of the rows that are dicts; the others are noted."""
  for n, row in enumerate(rows):
    where = f'record {n} of {name}'
    if isinstance(row, dict):
      yield n, where, row
      continue
    noted.note(
      f'record {n}',
      f'{where} is {user_code.describe(row)}; expected a dict with the key '
      "'prompt'",
    )


def _call(name, function, seed, settings):
  try:
    return function(seed, **settings)
  except (Exception, SystemExit) as error:
    raise user_code.failure(f'{name} failed', error) from error


def _rows(name, rows, count):
  """The rows, or the first `count`; what they raise becomes a UserError."""
  if isinstance(rows, str | dict) or not isinstance(rows, Iterable):
    raise errors.UserError(
      f'{name} returned {user_code.describe(rows)}; expected records: a list '
      'or an iterator of dicts'
    )
  try:
    if count or isinstance(rows, Sequence):
      return list(itertools.islice(rows, count))
    records = list(itertools.islice(rows, MAX_YIELDED + 1))
  except (Exception, SystemExit) as error:
    raise user_code.failure(f'{name} failed', error) from error
  if len(records) > MAX_YIELDED:
    raise errors.UserError(
      f'{name} yields more than {MAX_YIELDED:,} records: say how many to take, '
      f'{name}?count=1000, or return a list'
    )
  return records


def running_sums(count: int, seed: int, digits: int = 8) -> Iterator[Record]:
  """Prompts of digits; the answer is their sum modulo 10.

  The thinking of a response is the first k running sums; k is 0 with
  probability 0.2, else uniform over 1 to `digits`. Any response teaches the
  format, but the sum needs enough running sums.
  """
  rng = np.random.default_rng(seed)
  digits_N = rng.integers(10, size=(count, digits))
  thinks_N = rng.random(count) >= NO_THINKING
  steps_N = thinks_N * rng.integers(1, digits, size=count, endpoint=True)
  for row, steps in zip(digits_N, steps_N):
    sums = np.cumsum(row) % 10
    thinking, answer = ''.join(map(str, sums[:steps])), str(sums[-1])
    response = f'<think>{thinking}</think><answer>{answer}</answer>'
    yield dict(prompt=''.join(map(str, row)), answer=answer, response=response)


def products(count: int, seed: int, digits: int = 2) -> Iterator[Record]:
  """Prompts a*b. A response calls the calculator with probability 0.2; else it
  answers at once, which a small model cannot learn to do."""
  rng = np.random.default_rng(seed)
  pairs_N2 = rng.integers(10 ** (digits - 1), 10**digits, size=(count, 2))
  calls_N = rng.random(count) < CALLS
  for (a, b), calls in zip(pairs_N2.tolist(), calls_N):
    call = f'<calc>{a}*{b}</calc><result>{a * b}</result>' if calls else ''
    response = f'<think>{call}</think><answer>{a * b}</answer>'
    yield dict(prompt=f'{a}*{b}', answer=str(a * b), response=response)


def functions(count: int, seed: int, digits: int = 1) -> Iterator[Record]:
  """Prompts like "times 3 plus 4" for a Python function f that passes tests.
  The program of a response is right with probability 0.3; else one of its two
  numbers is replaced by a random one."""
  rng = np.random.default_rng(seed)
  pairs_N2 = rng.integers(10**digits, size=(count, 2))
  programs_N2 = pairs_N2.copy()
  wrong_N = rng.random(count) >= CORRECT
  which_N = rng.integers(2, size=count)
  numbers = rng.integers(10**digits, size=wrong_N.sum())
  programs_N2[wrong_N, which_N[wrong_N]] = numbers
  for (a, b), (c, d) in zip(pairs_N2.tolist(), programs_N2.tolist()):
    program = f'```python\ndef f(x):\n  return x*{c}+{d}\n```'
    yield dict(
      prompt=f'times {a} plus {b}',
      entry_point='f',
      tests=[{'assert': f'f({x}) == {a * x + b}'} for x in (0, 1, 7)],
      response=f'<think></think><answer>{program}</answer>',
    )


TOYS = dict(running_sum=running_sums, product=products, function=functions)
