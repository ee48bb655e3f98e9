"""The verifier of records that carry a scorer of their own: the task of
reasoning-gym that made them, or a function of the user's.

A record's `scorer` is 'gym:NAME?key=value', or FILE.py:NAME or
package.module:NAME of a function (record, answer) -> number from 0 to 1, or
None for an answer that is not judged. Both run in worker processes.
"""

import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from r1jax import errors, user_code
from r1jax.data import gold_answers, gym_tasks
from r1jax.rewards import format, guarded_eval, verdict
from r1jax.rewards.verdict import Record, Records, Texts, Verdict, VerifyConfig

FORM = '(record, answer) -> number from 0 to 1'
WORKER = 'r1jax.rewards.scorer:score_in_worker'
LOAD = 'r1jax.rewards.scorer:load'
TRIED = 8  # records of each scorer whose answers TRIALS are scored at the start
TRIALS = '?', 'qzx'
NOT_FINITE = {
  word + unit for word in ('nan', 'inf', 'infinity') for unit in ('', 'i', 'j')
}


def extract(text: str) -> str | None:
  r"""What a scorer gets: the content of the last <answer> tags, or else of the
  \boxed{} in what follows the thinking, stripped. A single box in the tags is
  opened. None without either, with different boxes outside the tags, or if
  nothing is left.
  """
  text, is_tagged = format.answer_part(text)
  boxes = set(gold_answers.find_boxes(text))
  if len(boxes) == 1:
    return boxes.pop() or None
  return text.strip() or None if is_tagged else None


def check_code(records: Records) -> None:
  """Raises UserError if a scorer of the records cannot be loaded or called. To
  be used once, at the start: it imports changed files anew."""
  first: dict[str, Record] = {}
  for record in records:
    if isinstance(record.get('scorer'), str):
      first.setdefault(record['scorer'], record)
  user_code.refresh([name for name in first if user_code.is_name(name)])
  for name, record in first.items():
    where = f'the scorer of record {record["id"]}'
    with errors.explained(f'{where} is {name}', ImportError):
      load(name, where)


def check(record: Record) -> None:
  """Raises UserError if the record's scorer is no name, or if its entry cannot
  be read."""
  name = record['scorer']
  if not isinstance(name, str):
    raise errors.UserError(
      f'the scorer of record {record["id"]} is {user_code.describe(name)}: '
      'name it as FILE.py:NAME or package.module:NAME'
    )
  if name.startswith(gym_tasks.PREFIX):
    gym_tasks.entry_of(record)


def load(name: str, where: str = 'the scorer of a record') -> Any:
  """The function of a name, or the dataset of a task. Raises UserError."""
  if name.startswith(gym_tasks.PREFIX):
    return gym_tasks.scorer_dataset(name)
  if name.startswith(user_code.PYTHON):
    raise errors.UserError(
      f'{where} was given in Python, and worker processes cannot import it: '
      'put it into a file, and name it FILE.py:NAME'
    )
  module = name.rpartition(':')[0].partition('.')[0]
  # No scorer is there, but functions that run whatever a data file holds.
  if module in sys.stdlib_module_names and not name.startswith(f'{module}.py:'):
    raise errors.UserError(
      f'{where} is {name!r}, which is part of Python: name a scorer of your '
      'own, FILE.py:NAME'
    )
  function = user_code.load(name, where)
  user_code.check_call(function, name, where, FORM)
  return function


def score_in_worker(
  name: str, source: dict[str, str], record: Record, answer: str
) -> list:
  """[the scorer's number or None, a reason, '' or the text of a UserError,
  whether trouble that may be temporary is why there is no number]."""
  if name.startswith(gym_tasks.PREFIX):
    return [*_gym_score(name, record, answer), '', False]
  try:
    function = load(name)
    if user_code.digests([name]) != source:
      raise errors.UserError(
        f'the code of {name} has changed since the run began: the run ends; '
        'the same command continues it, with the new code by --accept-code'
      )
    number = _user_score(name, function, record, answer)
  except errors.UserError as error:
    if cause := errors.temporary_cause(error):
      return [None, f'{type(cause).__name__}: {cause}', '', True]
    return [None, '', str(error), False]
  return [number, f'{user_code.short_name(name)} gives {number}', '', False]


class ScorerVerifier(verdict.Verifier):
  """Calls the scorers of records in worker processes. The value of a verdict is
  the scorer's number; only 1 is right."""

  check, extract = staticmethod(check), staticmethod(extract)

  def __init__(self, config: VerifyConfig, records: Records) -> None:
    self.pool = verdict.open_pool(config, config.seconds)

  def prepare(self, records: Records) -> None:
    """Calls each scorer with answers that are none, as a model may give. Raises
    UserError if one of the user's fails; names those that accept them."""
    tried: dict[str, list[Record]] = {}
    for record in records:
      tried.setdefault(record['scorer'], []).append(record)
    for name, own in tried.items():
      for answer in TRIALS:
        found = self._results(name, own[:TRIED], [answer] * len(own[:TRIED]))
        accepted = [x['id'] for x, y in zip(own, found) if y.value == 1]
        if accepted:
          print(
            f'warning: the scorer {name} gives 1 to the answer {answer!r} to '
            f'record {errors.printable(accepted[0])}: rewards of such records '
            'may mean nothing',
            flush=True,
          )

  @staticmethod
  def handles(record: Record) -> bool:
    """Whether the record names a scorer."""
    return 'scorer' in record

  def judge(self, records: Records, answers: Texts) -> list[Verdict]:
    """The scorers' numbers as verdicts. Raises UserError if a scorer of the
    user's fails."""
    index_of: dict[str, list[int]] = {}
    for n, record in enumerate(records):
      index_of.setdefault(record['scorer'], []).append(n)
    verdicts: dict[int, Verdict] = {}
    # Several scorers at a time, since each may have a few answers only.
    with ThreadPoolExecutor(max(1, min(len(index_of), self.pool.count))) as run:
      futures = {}
      for name, index in index_of.items():
        rows = [records[n] for n in index], [answers[n] for n in index]
        futures[name] = run.submit(self._results, name, *rows)
      for name, index in index_of.items():
        verdicts |= zip(index, futures[name].result())
    return [verdicts[n] for n in range(len(records))]

  def _results(self, name, records, answers):
    """The verdicts on answers to records of one scorer. Raises UserError."""
    is_own = not name.startswith(gym_tasks.PREFIX)
    source = user_code.digests([name]) if is_own else {}
    jobs = [[name, source, dict(x), y] for x, y in zip(records, answers)]
    verdicts = []
    # Imports do not count as time of the first answer.
    for result in self.pool.map(WORKER, jobs, (LOAD, name)):
      if result.failure:
        verdicts.append(_failed(name, result))
        continue
      number, reason, problem, is_outage = result.value
      if problem:
        raise errors.UserError(problem)
      if is_outage:
        reason = f'the scorer {name} failed: {reason}'
        verdicts.append(Verdict(math.nan, 'infra', reason))
      else:
        verdicts.append(_verdict(number, reason))
    return verdicts


def _failed(name, result):
  """The verdict on an answer whose scorer failed. A scorer of the user's that
  ends its process or fills its memory has not judged the answer. The time limit
  gives 0, and so does any limit of a task's scorer, which is known to work: an
  answer must not avoid a 0 by exhausting its verifier."""
  is_own = not name.startswith(gym_tasks.PREFIX)
  if is_own and result.failure in ('crashed', 'memory'):
    why = dict(
      crashed='it ended its worker process',
      memory='it ran out of memory (config.verify.memory)',
    )
    reason = f'the scorer {name} failed: {why[result.failure]}'
    return Verdict(math.nan, 'unjudged', reason)
  return verdict.of_result(result)


def _verdict(number, reason):
  if number is None:
    return Verdict(math.nan, 'unjudged', f'the scorer does not judge: {reason}')
  kind = {0.0: 'unequal', 1.0: 'equal'}.get(number, 'partial')
  return Verdict(number, kind, reason)


def _gym_score(name, record, answer):
  """(number, reason) of the task's own scorer."""
  task, entry = gym_tasks.scorer_dataset(name), gym_tasks.entry_of(record)
  short = name.removeprefix(gym_tasks.PREFIX).partition('?')[0]
  if _is_not_finite(answer) and not _is_not_finite(str(entry['answer'])):
    # Scorers that measure a distance may give 1, since NaN compares as false.
    return 0.0, f'{verdict.quote(answer)} is no finite number'
  try:
    with guarded_eval.guarded(str(entry['answer'])):
      number = float(task.score_answer(answer, entry))
  except MemoryError:
    raise
  except Exception as error:
    # Some scorers raise an exception for an answer that they cannot read.
    problem = f'{type(error).__name__}: {str(error)[:80]}'
    return 0.0, f'{short} cannot read {verdict.quote(answer)} ({problem})'
  if not 0 <= number <= 1:
    return None, f'{short} gives {number}, which is not from 0 to 1'
  return number, f'{short} gives {number:g} for {verdict.quote(answer)}'


def _is_not_finite(answer):
  """Whether the words of an answer are those of NaN and infinity."""
  words = set(re.findall('[a-z]+', answer.lower()))
  return bool(words & NOT_FINITE) and words <= NOT_FINITE | {'e', 'i', 'j'}


def _user_score(name, function, record, answer):
  """The number of the user's scorer, or None. Raises UserError."""
  shown = verdict.quote(answer)
  where = f'the scorer {name} on record {record["id"]!r} and the answer {shown}'
  try:
    value = function(dict(record), answer)
  except MemoryError:
    raise
  except (Exception, SystemExit) as error:
    raise user_code.failure(f'{where} failed', error) from error
  try:
    is_text = isinstance(value, str | bytes)
    number = math.nan if is_text or value is None else float(value)
  except (TypeError, ValueError):
    number = math.nan
  if value is not None and not 0 <= number <= 1:
    raise errors.UserError(
      f'{where} returned {user_code.describe(value)}; expected a number from 0 '
      'to 1, or None for an answer that is not judged'
    )
  return None if value is None else number
