"""What the samples of an evaluation say, and what earlier evaluations said."""

import dataclasses
import json
import math
import pathlib

import numpy as np

from r1jax import errors, files
from r1jax.evaluation import rating, statistics
from r1jax.rewards.math import grading

RESULTS = 'model', 'protocol', 'sets', 'paired', 'codeforces'


def read_lines(workdir, name):
  """The samples of a set in workdir/chunks, those of a problem side by side."""
  paths = pathlib.Path(workdir, 'chunks').glob(f'{name}-?????.jsonl')
  return [line for path in sorted(paths) for line in files.read_jsonl(path)]


def score(lines, samples, pass_k, cons_k):
  """The scores of a set, with their 95 % intervals."""
  rows_NK = [lines[n : n + samples] for n in range(0, len(lines), samples)]
  correct_NK = accuracy(lines, samples)
  gold_N = [row_K[0]['answer'] for row_K in rows_NK]
  if None in gold_N:  # Programs are not voted on.
    cons_NG, cons_k = correct_NK, 1
  else:
    cons_NG = statistics.cons_of_groups(
      [[x['extracted'] for x in row_K] for row_K in rows_NK],
      gold_N,
      grading.equal,
      cons_k,
    )

  def mean(key):
    return float(np.mean([line[key] for line in lines]))

  return dict(
    problems=len(rows_NK),
    samples=samples,
    pass1=statistics.pass_at_1(correct_NK),
    interval=statistics.interval(correct_NK),
    pass_k={str(k): statistics.pass_at_k(correct_NK, k) for k in pass_k},
    cons_k=cons_k,
    cons=statistics.pass_at_1(cons_NG),
    cons_interval=statistics.interval(cons_NG),
    truncated=1 - mean('finished'),
    format=mean('format'),
    language=mean('language'),
    length=mean('length'),
  )


def accuracy(lines, samples):
  """Whether each sample is right, [N, K]."""
  return np.array([line['accuracy'] for line in lines]).reshape(-1, samples)


def subtract(lines, theirs_N, against):
  """pass@1 here minus there, problem by problem."""
  ours_N = accuracy(lines, len(lines) // len(theirs_N)).mean(axis=1)
  difference, *interval = statistics.paired_difference(ours_N, theirs_N, seed=0)
  return dict(
    against=pathlib.Path(against).resolve().name,
    difference=difference,
    interval=interval,
    p=statistics.paired_p_value(ours_N, theirs_N, seed=0),
  )


def means(folder, sets):
  """{set: pass@1 of each problem} of a finished evaluation of the same sets,
  {name: [(number, record)]}."""
  read(folder)
  found = {}
  for name, numbered in sets.items():
    right = {}
    for line in read_lines(folder, name):
      right.setdefault(_identity(line), []).append(line['accuracy'])
    ours = [_identity(record) for _, record in numbered]
    if differ := set(ours) ^ right.keys():
      raise errors.UserError(
        f'config.baseline: {folder} has other problems in the set {name!r} than '
        f'this evaluation, {min(differ)[0]} for one ({len(differ)} in all): '
        'give both the same data, limit and seed'
      )
    found[name] = np.array([np.mean(right[key]) for key in ours])
  return found


def compare(folders):
  """[(label, results)] of finished evaluations, named by their directory, or
  by its whole path where two bear the same name."""
  names = [pathlib.Path(folder).resolve().name for folder in folders]
  labels = [
    name if names.count(name) == 1 else str(folder)
    for name, folder in zip(names, folders)
  ]
  return [(label, read(folder)) for label, folder in zip(labels, folders)]


def read(folder):
  """The results that a finished evaluation has written."""
  path = pathlib.Path(folder) / 'results.json'
  if not path.is_file():
    raise errors.UserError(
      f'{folder} holds no finished evaluation, for it has no {path.name}: name '
      'the work directory of an evaluate that has ended'
    )
  try:
    found = json.loads(path.read_text())
    return {key: found[key] for key in RESULTS}
  except (ValueError, KeyError, TypeError) as error:
    raise errors.UserError(
      f'{path} is not what evaluate writes: {error!r}'
    ) from error


def rate(contest_N, difficulty_N, solved_NK):
  """The Codeforces rating of verdicts; what has no bound is null."""
  fitted = rating.fit(difficulty_N, solved_NK)
  numbers = dataclasses.asdict(fitted)
  for side in ('low', 'high'):
    numbers[side] = None if math.isinf(numbers[side]) else numbers[side]
  return numbers | dict(
    words=rating.words(fitted),
    contests=len(set(contest_N)),
    problems=len(solved_NK),
    attempts=len(solved_NK[0]),
  )


def _identity(record):
  return record['id'], record['prompt'], record['answer']
