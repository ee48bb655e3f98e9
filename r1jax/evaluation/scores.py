"""The scores of sampled answers, and the files of finished evaluations."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from r1jax import errors, files
from r1jax.data.formats import Record
from r1jax.evaluation import statistics

RESULTS = 'model', 'protocol', 'sets', 'paired', 'codeforces'
Lines = list[dict]  # samples, those of a problem adjacent


def read_lines(workdir: str | Path, name: str) -> Lines:
  """The samples of a set in workdir/chunks."""
  lines, folder = [], Path(workdir, 'chunks')
  for path in sorted(folder.glob(f'{name}-?????.jsonl')):
    lines += files.read_jsonl(path)
  return lines


def score(
  lines: Lines, samples: int, pass_k: tuple[int, ...], majority_k: int
) -> dict:
  """The scores of a set with their intervals, from `samples` lines a problem.
  The majority is over the problems that have votes. Programs have none: the
  majority_k of a set of programs is 1."""
  if 'can_vote' not in lines[0]:
    raise errors.UserError(
      'the chunks in the work directory are those of an earlier version, '
      'without votes: evaluate in a new one'
    )
  accuracy = [line['accuracy'] for line in lines]
  correct_PG = np.reshape(accuracy, (-1, samples))
  voting = [p for p in range(len(correct_PG)) if lines[p * samples]['can_vote']]
  majority_PG = correct_PG
  if voting:
    vote_PG = []
    for p in voting:
      own = lines[p * samples : (p + 1) * samples]
      vote_PG.append([line['vote'] for line in own])
    majority_PG = statistics.cons_at_k(vote_PG, correct_PG[voting], majority_k)
  mean = {}
  for key in ('finished', 'format', 'language', 'length'):
    mean[key] = float(np.mean([line[key] for line in lines]))
  pass_at, pass_interval = {}, {}
  for k in pass_k:
    pass_P = statistics.pass_at_k_of_problems(correct_PG, k)
    pass_at[str(k)] = float(pass_P.mean())
    pass_interval[str(k)] = statistics.mean_interval(pass_P)
  return dict(
    problems=len(correct_PG),
    samples=samples,
    pass1=float(correct_PG.mean()),
    interval=statistics.interval(correct_PG),
    pass_k=pass_at,
    pass_k_interval=pass_interval,
    majority_k=majority_k if voting else 1,
    majority_problems=len(voting),
    majority=float(majority_PG.mean()),
    majority_interval=statistics.interval(majority_PG),
    truncated=1 - mean.pop('finished'),
    **mean,
  )


def paired(lines: Lines, baseline_P: np.ndarray, baseline: str) -> dict:
  """pass@1 minus that of the baseline, problem by problem."""
  accuracy = [line['accuracy'] for line in lines]
  pass1_P = np.reshape(accuracy, (len(baseline_P), -1)).mean(axis=1)
  difference, interval = statistics.paired_difference(pass1_P, baseline_P)
  return dict(
    baseline=Path(baseline).resolve().name,
    difference=difference,
    interval=interval,
    p=statistics.paired_p_value(pass1_P, baseline_P),
  )


def pass1_by_problem(
  workdir: str, name: str, records: Sequence[Record]
) -> np.ndarray:
  """pass@1 [P] of the records, which must be all of a set, in another run."""
  read(workdir)
  correct: dict[tuple, list[float]] = {}
  for line in read_lines(workdir, name):
    correct.setdefault(_identity(line), []).append(line['accuracy'])
  keys = [_identity(record) for record in records]
  if different := set(keys) ^ correct.keys():
    first = min(name for name, *_ in different)
    raise errors.UserError(
      f'config.baseline: {workdir} has other problems in the set {name!r}, such'
      f' as {first} ({len(different)} in all): evaluate both with '
      'the same config.data, config.limit and config.seed'
    )
  return np.array([np.mean(correct[key]) for key in keys])


def read_all(workdirs: list[str]) -> list[tuple[str, dict]]:
  """[(label, results)] of directories, by name, or by path if not unique."""
  names = [Path(workdir).resolve().name for workdir in workdirs]
  pairs = zip(names, workdirs)
  labels = [a if names.count(a) == 1 else str(path) for a, path in pairs]
  return list(zip(labels, map(read, workdirs)))


def read(workdir: str) -> dict:
  """The results.json of a finished evaluation."""
  path = Path(workdir, 'results.json')
  if not path.is_file():
    raise errors.UserError(
      f'{workdir} has no {path.name}: give that of a finished evaluate stage'
    )
  with errors.explained(f'{path} was not written by the evaluate stage'):
    found = json.loads(path.read_text())
    for x in found['sets'].values():  # Earlier versions have neither.
      x.setdefault('pass_k_interval', {})
      x.setdefault('majority_problems', x['problems'])
    return {key: found[key] for key in RESULTS}


def _identity(record):
  """What two evaluations of one problem have in common: (id, JSON), since an
  answer to a scorer may be a list."""
  return record['id'], json.dumps([record['prompt'], record.get('answer')])
