"""The scores of sampled answers, and the files of finished evaluations."""

import json
import pathlib

import numpy as np

from r1jax import errors, files
from r1jax.evaluation import statistics
from r1jax.rewards.math import grading

RESULTS = 'model', 'protocol', 'sets', 'paired', 'codeforces'
Path = str | pathlib.Path
Lines = list[dict]  # samples, those of a problem adjacent


def read_lines(workdir: Path, name: str) -> Lines:
  """The samples of a set in workdir/chunks."""
  lines = []
  for path in sorted(
    pathlib.Path(workdir, 'chunks').glob(f'{name}-?????.jsonl')
  ):
    lines += files.read_jsonl(path)
  return lines


def score(
  lines: Lines, samples: int, pass_k: tuple[int, ...], majority_k: int
) -> dict:
  """The scores of a set with their intervals, from `samples` lines a problem.
  Programs have no majority vote: their majority_k is 1."""
  correct_PG = majority = accuracy(lines, samples)
  gold_P = [line['answer'] for line in lines[::samples]]
  if None in gold_P:
    majority_k = 1
  else:
    answers = np.array([line['extracted'] for line in lines], object)
    answers_PG = answers.reshape(-1, samples).tolist()
    majority = statistics.cons_at_k(
      answers_PG, gold_P, grading.equal, majority_k
    )
  mean = {}
  for key in ('finished', 'format', 'language', 'length'):
    mean[key] = float(np.mean([line[key] for line in lines]))
  return dict(
    problems=len(gold_P),
    samples=samples,
    pass1=float(correct_PG.mean()),
    interval=statistics.interval(correct_PG),
    pass_k={str(k): statistics.pass_at_k(correct_PG, k) for k in pass_k},
    majority_k=majority_k,
    majority=float(majority.mean()),
    majority_interval=statistics.interval(majority),
    truncated=1 - mean.pop('finished'),
    **mean,
  )


def accuracy(lines: Lines, samples: int) -> np.ndarray:
  """The accuracy of every sample, [P, G] with G = samples."""
  return np.array([line['accuracy'] for line in lines]).reshape(-1, samples)


def paired(lines: Lines, baseline_P: np.ndarray, baseline: str) -> dict:
  """pass@1 minus that of the baseline, problem by problem."""
  pass1_P = accuracy(lines, len(lines) // len(baseline_P)).mean(axis=1)
  difference, interval = statistics.paired_difference(pass1_P, baseline_P)
  return dict(
    baseline=pathlib.Path(baseline).resolve().name,
    difference=difference,
    interval=interval,
    p=statistics.paired_p_value(pass1_P, baseline_P),
  )


def pass1_by_problem(workdir: Path, name: str, records: Lines) -> np.ndarray:
  """pass@1 of each record, [P], in a finished evaluation of the set `name`.
  Raises UserError unless it has evaluated the same records."""
  read(workdir)
  correct: dict[tuple, list[float]] = {}
  for line in read_lines(workdir, name):
    correct.setdefault(_identity(line), []).append(line['accuracy'])
  keys = [_identity(record) for record in records]
  if different := set(keys) ^ correct.keys():
    raise errors.UserError(
      f'config.baseline: {workdir} has other problems in the set {name!r}, such '
      f'as {min(different)[0]} ({len(different)} in all): evaluate both with the '
      'same config.data, config.limit and config.seed'
    )
  return np.array([np.mean(correct[key]) for key in keys])


def read_all(workdirs: list[str]) -> list[tuple[str, dict]]:
  """[(label, results)] of finished evaluations: the label is the directory's
  name, or its whole path where several have the same name."""
  names = [pathlib.Path(workdir).resolve().name for workdir in workdirs]
  found = []
  for name, workdir in zip(names, workdirs):
    label = name if names.count(name) == 1 else str(workdir)
    found.append((label, read(workdir)))
  return found


def read(workdir: Path) -> dict:
  """The results.json of a finished evaluation."""
  path = pathlib.Path(workdir, 'results.json')
  if not path.is_file():
    raise errors.UserError(
      f'{workdir} has no {path.name}: give the work directory of a finished '
      'evaluate stage'
    )
  with errors.explained(f'{path} was not written by the evaluate stage'):
    found = json.loads(path.read_text())
    return {key: found[key] for key in RESULTS}


def _identity(record):
  """What two evaluations of one problem have in common."""
  return record['id'], record['prompt'], record.get('answer')
