"""Rewards that the user wrote: their two forms, and what is checked of them.

A reward is a function (records, texts) -> one number for each text. None or NaN
means that the text is not judged. `per_sample` makes one of (record, text) ->
number. If a network or a service fails within a reward, its texts are not judged
either, but as an outage (see outage.py).
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from r1jax import errors, user_code
from r1jax.distributed import watchdog
from r1jax.rewards import verdict
from r1jax.rewards.verdict import (
  OUTAGE,
  OUTAGES,
  Record,
  Records,
  Texts,
  VerifyConfig,
  print_unjudged,
)

FORM = '(records, texts) -> one number for each text'
SAMPLE_FORM = '(record, text) -> number'
MAX_TEXT = 2000  # characters of a response in an error
WORKER = 'r1jax.rewards.user_rewards:call_in_worker'
LOAD = 'r1jax.rewards.user_rewards:load'


class PerSample:
  """A reward that calls a function (record, text) -> number for each text, in a
  worker process if worker_seconds is not 0."""

  def __init__(self, function: Callable, worker_seconds: float) -> None:
    self.function, self.worker_seconds = function, worker_seconds
    functools.update_wrapper(self, function)

  def __call__(self, records: Records, texts: Texts) -> list:
    pairs = zip(records, texts, strict=True)
    return [self.function(record, text) for record, text in pairs]


def per_sample(
  function: Callable | None = None, *, worker_seconds: float = 0.0
) -> Any:
  """Decorator that makes a reward of a function (record, text) -> number.

  With worker_seconds the function runs in worker processes, several at a time.
  A call that takes more CPU seconds, or more than 4 times as many seconds + 1 on
  the clock, is ended, and its text is not judged.
  """
  is_number = type(worker_seconds) in (int, float)
  if not is_number or not 0 <= worker_seconds < np.inf:
    raise errors.UserError(
      f'worker_seconds is {worker_seconds!r}; expected CPU seconds, or 0 for a '
      'function that runs in the process of the run'
    )
  if function is None:
    return functools.partial(per_sample, worker_seconds=worker_seconds)
  return PerSample(function, worker_seconds)


class UserReward:
  """A reward of the user's. Raises UserError, with the record's id and the text
  if one text is the cause, if it fails or does not return numbers."""

  def __init__(self, name: str, config: VerifyConfig) -> None:
    self.name, self.function = name, load(name)
    self.shown = user_code.shown_name(name)
    self.pool = None
    if isinstance(self.function, PerSample) and self.function.worker_seconds:
      self.pool = verdict.open_pool(config, self.function.worker_seconds)

  def __call__(self, records: Records, texts: Texts) -> np.ndarray:
    try:
      if self.pool:
        values = self._values_of_workers(records, texts)
      else:
        values = call(self.shown, self.function, records, texts)
    except (errors.UserError, *OUTAGES) as error:
      cause = errors.temporary_cause(error)
      if isinstance(error, errors.UserError) and not cause:
        raise
      print_unjudged([_failed_by(self.shown, cause or error)] * len(texts))
      values = [OUTAGE] * len(texts)
    return np.ma.masked_invalid(np.array(values, np.float32))

  def _values_of_workers(self, records, texts):
    pairs = zip(records, texts, strict=True)
    source = user_code.digests([self.name])
    jobs = [[self.name, source, dict(record), text] for record, text in pairs]
    values, unjudged = [], []
    # The imports of the user's file do not count as time of the first text.
    results = self.pool.map(WORKER, jobs, (LOAD, self.name))
    for result, record, text in zip(results, records, texts):
      value, problem, is_outage = result.value or (None, '', False)
      if is_outage:
        unjudged.append(f'record {record["id"]}: {problem}')
        value = OUTAGE
      elif problem:
        raise errors.UserError(problem)
      if result.failure == 'timeout':
        why = f'the reward {self.shown} took too long, its text is not judged'
        unjudged.append(f'record {record["id"]}: {why}')
      elif result.failure == 'died':
        why = f'the worker of the reward {self.shown} was killed'
        unjudged.append(f'record {record["id"]}: {why}')
        value = OUTAGE
      elif result.failure:
        raise errors.UserError(
          f'{_failed_on(self.shown, record, text)}: its worker process failed '
          f'({result.failure})'
        )
      values.append(np.nan if value is None else value)
    print_unjudged(unjudged)
    return values


def call_in_worker(
  name: str, source: dict[str, str], record: Record, text: str
) -> list:
  """Calls a per-sample reward in a worker process. Returns [number or None, a
  problem or '', whether that may be temporary]."""
  try:
    function = load(name)
    if user_code.digests([name]) != source:
      raise errors.UserError(
        f'the code of {name} has changed since the run began: the run ends; '
        'the same command continues it, with the new code by --accept-code'
      )
    (number,) = call(name, function, [record], [text])
  except errors.UserError as error:
    if cause := errors.temporary_cause(error):
      return [None, _failed_by(user_code.shown_name(name), cause), True]
    return [None, str(error), False]
  return [None if np.isnan(number) else number, '', False]


def load(name: str) -> Any:
  """The user's reward of this name. Raises UserError if it cannot be called as
  a reward, or if worker processes could not import it."""
  function = user_code.load(name, 'config.rewards')
  if not isinstance(function, PerSample):
    user_code.check_call(function, name, 'config.rewards', FORM)
    return function
  user_code.check_call(function.function, name, 'config.rewards', SAMPLE_FORM)
  if function.worker_seconds and name.startswith(user_code.PYTHON):
    raise errors.UserError(
      f'the reward {user_code.short_name(name)} asks for worker processes, '
      'which cannot import it from a notebook or a function: put it into a '
      'file, and name it FILE.py:NAME'
    )
  return function


def check(name: str, records: Records) -> None:
  """Raises UserError if the reward cannot be loaded, or fails on empty
  responses to two of the records: a model may give such responses."""
  texts = [''] * len(records[:2])
  with watchdog.exit_early_if(lambda: True):  # There is nothing to save yet.
    call(user_code.shown_name(name), load(name), records[:2], texts)


def call(
  name: str, function: Callable, records: Records, texts: Texts
) -> list[float]:
  """The numbers that a reward returns, NaN for None. Raises UserError."""
  try:
    # Copies, since the records are also those of other rewards and later steps.
    with watchdog.calling_user_code():
      returned = function([dict(x) for x in records], list(texts))
  except (Exception, SystemExit) as error:
    raise _failure(name, function, records, texts, error) from error
  try:
    values = list(returned)
  except TypeError:
    values = None
  if values is None or isinstance(returned, str | bytes | dict | set):
    raise errors.UserError(
      f'the reward {name} returned {user_code.describe(returned)}; expected a '
      f'sequence of {len(texts)} numbers, one for each text'
      + (' (see r1jax.per_sample)' if values is None else '')
    )
  if len(values) != len(texts):
    raise errors.UserError(
      f'the reward {name} returned {len(values)} values for {len(texts)} '
      'texts; expected one number for each text'
    )
  rows = zip(values, records, texts)
  return [_number(name, value, record, text) for value, record, text in rows]


def _number(name: str, value: Any, record: Record, text: str) -> float:
  """The value as a finite number, or NaN for None and NaN."""
  if value is None:
    return np.nan
  try:
    number = np.nan if isinstance(value, str | bytes) else float(value)
    is_number = not isinstance(value, str | bytes) and not np.isinf(number)
  except (TypeError, ValueError):
    is_number = False
  if not is_number:
    raise errors.UserError(
      f'the reward {name} returned {user_code.describe(value)} for record '
      f'{record["id"]!r}; expected a finite number, or None if the text is not '
      f'judged. The text is {_shortened(text)}'
    )
  return number


def _failure(name, function, records, texts, error):
  """The UserError about an exception: with the first sample that raises one, if
  any does alone. A network that fails is not tried again for each sample."""
  pairs = [] if errors.temporary_cause(error) else zip(records, texts)
  for record, text in pairs:
    try:
      with watchdog.calling_user_code():
        function([record], [text])
    except (Exception, SystemExit) as alone:
      return user_code.failure(_failed_on(name, record, text), alone)
  ids = ', '.join(repr(record['id']) for record in records[:8])
  sentence = f'the reward {name} failed on {len(texts)} texts together'
  return user_code.failure(f'{sentence}, of the records {ids}', error)


def _failed_by(name, cause):
  """A line about trouble that may be temporary."""
  problem = f'{type(cause).__name__}: {cause}'
  return f'the reward {name} failed, its text is not judged ({problem})'


def _failed_on(name, record, text):
  return (
    f'the reward {name} failed on record {record["id"]!r} with the text '
    f'{_shortened(text)}'
  )


def _shortened(text):
  return repr(text if len(text) <= MAX_TEXT else f'{text[:MAX_TEXT]}…')
