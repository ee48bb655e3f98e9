"""Measures of a finished run of the miniature, problem by problem."""

import dataclasses
import functools
import pathlib

import numpy as np

from experiments.mini_r1 import make_data
from r1jax import files
from r1jax.data import record_files
from r1jax.data.record_files import Record
from r1jax.evaluation import scores, statistics
from r1jax.rewards import format, language

SAMPLES = 16  # of each held-out prompt, in every evaluation
GENERAL = dict(helpful='general-helpful', harmless='general-harmless')
UNBOUNDED = 'length', 'helpful'  # The other measures are shares, 0 to 1.


@dataclasses.dataclass(frozen=True)
class Run:
  """The work directory of experiments/r1.sh. Models are named as in it."""

  folder: pathlib.Path

  @functools.cached_property
  def problems(self) -> dict[str, Record]:
    """The held-out problems by id."""
    records = record_files.read(self.folder / 'data/held_out.jsonl')
    return {record['id']: record for record in records}

  @functools.cached_property
  def general(self) -> list[Record]:
    """The held-out general prompts."""
    return record_files.read(self.folder / 'data/held_out_general.jsonl')

  def lines(self, model: str, folder: str = 'eval') -> list[dict]:
    """The samples of the held-out problems, those of a problem adjacent."""
    return scores.read_lines(self.folder / folder / model, 'held')

  def general_responses(self, model: str) -> list[tuple[Record, str]]:
    """(record, response) for each sample of the general prompts."""
    responses = []
    paths = (self.folder / 'general' / model / 'chunks').glob('*.jsonl')
    for path in sorted(paths):
      for line in files.read_jsonl(path):
        responses.append((self.general[line['number']], line['response']))
    return responses

  def metrics(self, name: str) -> list[dict]:
    return files.read_jsonl(self.folder / name / 'metrics.jsonl')

  def means(self, measure: str, model: str, folder: str = 'eval') -> np.ndarray:
    """The mean of a measure over the samples of each held-out problem, [P]."""
    lines = self.lines(model, folder)
    if measure == 'majority':
      return majority(lines)
    value_N = [
      measure_sample(measure, self.problems[line['id']], line) for line in lines
    ]
    return np.reshape(value_N, (-1, SAMPLES)).mean(axis=1)

  def general_means(self, measure: str, model: str) -> np.ndarray:
    """The mean of 'helpful' or 'harmless' over the samples of each held-out
    prompt of its domain, [P]."""
    value_N = []
    for record, text in self.general_responses(model):
      if record['domain'] != GENERAL[measure]:
        continue
      if measure == 'helpful':
        value_N.append(make_data.helpfulness(record, text))
      else:
        value_N.append(float(make_data.is_harmless(record, text)))
    return np.reshape(value_N, (-1, SAMPLES)).mean(axis=1)


def mean_interval(measure: str, value_P: np.ndarray) -> statistics.Interval:
  """The interval of the mean of a measure over prompts."""
  if measure in UNBOUNDED:
    return statistics.bootstrap_mean(value_P)
  return statistics.mean_interval(value_P)


def difference_interval(
  measure: str, a_P: np.ndarray, b_P: np.ndarray
) -> statistics.Interval:
  """The interval of the mean of a - b over the same prompts."""
  if measure in UNBOUNDED:
    return statistics.bootstrap_mean(a_P - b_P)
  return statistics.mean_interval(a_P - b_P, -1.0, 1.0)


def measure_sample(measure: str, record: Record, line: dict) -> float:
  """A measure of one sample: accuracy, language, length, readable or mixed."""
  if measure == 'readable':
    return is_readable(record, line['response'])
  if measure == 'mixed':
    return is_mixed(line['response'])
  return line[measure]


def majority(lines: list[dict]) -> np.ndarray:
  """Whether the majority of each problem's samples is correct, [P]."""
  rows = [lines[n : n + SAMPLES] for n in range(0, len(lines), SAMPLES)]
  correct_P1 = statistics.cons_at_k(
    [[line['vote'] for line in row] for row in rows],
    [[line['accuracy'] for line in row] for row in rows],
    SAMPLES,
  )
  return correct_P1[:, 0]


def is_readable(record: Record, text: str) -> bool:
  """Whether the thinking is in the prompt's language alone, the answer is a
  sentence of that language, and the format is correct."""
  expected = record['language']
  answer = text.partition('<answer>')[2].removesuffix('</answer>')
  sentences = {make_data.solution(str(n), expected) for n in range(10)}
  return (
    bool(format.format_reward([record], [text])[0])
    and language.share(language.thinking(text), expected) == 1
    and answer in sentences
  )


def is_mixed(text: str) -> bool:
  """Whether the thinking has words of both languages."""
  words = language.count(language.thinking(text))
  return words['en'] > 0 and words['zh'] > 0
