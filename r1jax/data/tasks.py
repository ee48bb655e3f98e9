"""Tasks that make their own records: toys, and reasoning-gym's.

A source of records is a path, or a maker with its settings:
`toy:running_sum?count=4096`, `gym:chain_sum?count=1000&num_terms=2`.
"""

import difflib
import json

import numpy as np

from r1jax import errors
from r1jax.data import record_files

NO_THINKING = 0.2  # share of the toy corpus that answers at once
ASKS = 0.2  # share of the product corpus that asks the calculator
RIGHT = 0.3  # share of the function corpus whose program is surely right


def load_records(source, seed):
  """The records of a source: `PATH`, `toy:NAME?count=N&key=value` or `gym:…`.

  Values are JSON (`max_digits=1`, `operators=["+"]`) or else a plain word.
  """
  maker, colon, rest = source.partition(':')
  if not colon or maker not in ('toy', 'gym'):
    return record_files.read(source)
  name, _, query = rest.partition('?')
  settings = _settings(query, source)
  count = settings.pop('count', None)
  if type(count) is not int or count < 1:
    raise errors.UserError(
      f'{source!r} must say how many records: {maker}:{name}?count=1000'
    )
  if maker == 'gym':
    return gym(name, count, seed, **settings)
  if name not in TOYS or settings.keys() - {'digits'}:
    raise errors.UserError(
      f'{source!r}: the toy tasks are toy:running_sum?count=1000&digits=8, '
      'toy:product?count=1000&digits=2 and toy:function?count=1000&digits=1'
    )
  return TOYS[name](count, seed, **settings)


def toy_records(count, seed, digits=8):
  """Prompts of digits; the answer is their sum modulo 10.

  Each response thinks the first k running sums, k = 0 with probability 0.2
  and 1 to `digits` alike; its answer is right whatever k, so a model learns
  the form from it, but the sum only where it has thought far enough.
  """
  if type(digits) is not int or digits < 1:
    raise errors.UserError(f'digits must be a positive integer, not {digits!r}')
  rng = np.random.default_rng(seed)
  digits_ND = rng.integers(10, size=(count, digits))
  thinks_N = rng.random(count) >= NO_THINKING
  steps_N = thinks_N * rng.integers(1, digits, size=count, endpoint=True)
  records = []
  for n, (row, steps) in enumerate(zip(digits_ND, steps_N)):
    prompt = ''.join(map(str, row))
    records.append(
      dict(
        id=f'running_sum/{seed}/{n}',
        prompt=prompt,
        answer=str(row.sum() % 10),
        response=toy_response(prompt, steps),
      )
    )
  return records


def toy_response(prompt, steps):
  """<think> the first running sums modulo 10 </think><answer> the last."""
  sums = np.cumsum([int(digit) for digit in prompt]) % 10
  thought = ''.join(map(str, sums[:steps]))
  return f'<think>{thought}</think><answer>{sums[-1]}</answer>'


def product_records(count, seed, digits=2):
  """Prompts a*b; a response asks the calculator with probability 0.2 and else
  answers at once, which no small model can do."""
  if type(digits) is not int or digits < 1:
    raise errors.UserError(f'digits must be a positive integer, not {digits!r}')
  rng = np.random.default_rng(seed)
  pairs_N2 = rng.integers(10 ** (digits - 1), 10**digits, size=(count, 2))
  asks_N = rng.random(count) < ASKS
  records = []
  for n, ((a, b), asks) in enumerate(zip(pairs_N2.tolist(), asks_N)):
    call = f'<calc>{a}*{b}</calc><result>{a * b}</result>' if asks else ''
    records.append(
      dict(
        id=f'product/{seed}/{n}',
        prompt=f'{a}*{b}',
        answer=str(a * b),
        response=f'<think>{call}</think><answer>{a * b}</answer>',
      )
    )
  return records


def function_records(count, seed, digits=1):
  """Prompts like "times 3 plus 4", to be written as a function f that passes
  tests; the program of a response is right with probability 0.3, else one of
  its two numbers is drawn again."""
  if type(digits) is not int or digits < 1:
    raise errors.UserError(f'digits must be a positive integer, not {digits!r}')
  rng = np.random.default_rng(seed)
  pairs_N2 = rng.integers(10**digits, size=(count, 2))
  said_N2 = pairs_N2.copy()
  wrong_N = rng.random(count) >= RIGHT
  which_N = rng.integers(2, size=count)
  said_N2[wrong_N, which_N[wrong_N]] = rng.integers(
    10**digits, size=wrong_N.sum()
  )
  records = []
  for n, ((a, b), (c, d)) in enumerate(
    zip(pairs_N2.tolist(), said_N2.tolist())
  ):
    program = f'```python\ndef f(x):\n  return x*{c}+{d}\n```'
    records.append(
      dict(
        id=f'function/{seed}/{n}',
        prompt=f'times {a} plus {b}',
        entry_point='f',
        tests=[{'assert': f'f({x}) == {a * x + b}'} for x in (0, 1, 7)],
        response=f'<think></think><answer>{program}</answer>',
      )
    )
  return records


TOYS = dict(
  running_sum=toy_records, product=product_records, function=function_records
)


def gym(name, count, seed, **settings):
  """Records of a reasoning-gym task, its settings passed on by name."""
  try:
    import reasoning_gym
    from reasoning_gym import factory
  except ImportError as error:
    raise errors.UserError(
      f'gym:{name} needs another package: pip install reasoning-gym'
    ) from error
  if name not in factory.DATASETS:
    near = difflib.get_close_matches(name, factory.DATASETS, n=3, cutoff=0)
    raise errors.UserError(
      f'reasoning-gym has no task {name!r}; near it are {", ".join(near)}'
    )
  # Its configs check themselves: TypeError for a key, AssertionError for a
  # value that they do not take.
  try:
    tasks = reasoning_gym.create_dataset(
      name, size=count, seed=seed, **settings
    )
  except (TypeError, AssertionError, ValueError) as error:
    raise errors.UserError(
      f'reasoning-gym refuses {settings} for {name}: {error}'
    ) from error
  return [_gym_record(name, seed, n, task) for n, task in enumerate(tasks)]


def _gym_record(name, seed, n, task):
  if not isinstance(task['answer'], str):
    raise errors.UserError(
      f'gym:{name} has no single gold answer: choose another task'
    )
  return dict(
    id=f'{name}/{seed}/{n}', prompt=task['question'], answer=task['answer']
  )


def _settings(query, source):
  settings = {}
  for pair in query.split('&') if query else []:
    key, equals, value = pair.partition('=')
    if not (key and equals) or key in settings:
      raise errors.UserError(f'{source!r}: {pair!r} is not one key=value')
    try:
      settings[key] = json.loads(value)
    except json.JSONDecodeError:
      settings[key] = value
  return settings
