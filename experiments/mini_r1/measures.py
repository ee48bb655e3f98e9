"""What the files of a finished run say, problem by problem."""

import dataclasses
import functools
import pathlib

import numpy as np

from experiments.mini_r1 import world
from r1jax import files
from r1jax.data import record_files
from r1jax.evaluation import scores, statistics
from r1jax.rewards import format, language
from r1jax.rewards.math import grading

SAMPLES = 16  # of each held-out prompt, in every evaluation


@dataclasses.dataclass(frozen=True)
class Run:
  """A work directory; names are those of experiments/r1.sh."""

  folder: pathlib.Path

  @functools.cached_property
  def problems(self):
    return {
      x['id']: x for x in record_files.read(self.folder / 'data/held.jsonl')
    }

  @functools.cached_property
  def general(self):
    return record_files.read(self.folder / 'data/held_general.jsonl')

  def lines(self, model, folder='eval'):
    """The samples of the held-out problems, those of one side by side."""
    return scores.read_lines(self.folder / folder / model, 'held')

  def said(self, model):
    """[(record, text)] of the general prompts."""
    paths = sorted((self.folder / 'general' / model / 'chunks').glob('*.jsonl'))
    return [
      (self.general[x['number']], x['response'])
      for path in paths
      for x in files.read_jsonl(path)
    ]

  def metrics(self, name):
    return files.read_jsonl(self.folder / name / 'metrics.jsonl')

  def each(self, measure, model, folder='eval'):
    """A measure's mean over the samples of each held-out problem."""
    lines = self.lines(model, folder)
    if measure == 'cons':
      return majority(lines)
    value = MEASURES[measure]
    value_N = [value(self.problems[x['id']], x) for x in lines]
    return np.reshape(value_N, (-1, SAMPLES)).mean(axis=1)

  def each_general(self, measure, model):
    """The same for the general prompts that the measure is about."""
    domain, value = GENERAL[measure]
    value_N = [
      float(value(record, text))
      for record, text in self.said(model)
      if record['domain'] == domain
    ]
    return np.reshape(value_N, (-1, SAMPLES)).mean(axis=1)


def majority(lines):
  """Whether the majority of a problem's samples is right."""
  rows = [lines[n : n + SAMPLES] for n in range(0, len(lines), SAMPLES)]
  return statistics.cons_at_k(
    [[x['extracted'] for x in row] for row in rows],
    [row[0]['answer'] for row in rows],
    grading.equal,
  )


def readable(record, text):
  """The thinking wholly in the question's language, the answer a full sentence
  of that language, the form kept."""
  spoken = record['language']
  answer = text.partition('<answer>')[2].removesuffix('</answer>')
  sentences = {world.solution(str(n), spoken) for n in range(10)}
  return (
    bool(format.format_reward([record], [text])[0])
    and language.share(language.thinking(text), spoken) == 1
    and answer in sentences
  )


def mixed(text):
  """Whether the thinking has words of both languages."""
  words = language.count(language.thinking(text))
  return words['en'] > 0 and words['zh'] > 0


MEASURES = dict(
  accuracy=lambda record, line: line['accuracy'],
  language=lambda record, line: line['language'],
  length=lambda record, line: line['length'],
  readable=lambda record, line: readable(record, line['response']),
  mixed=lambda record, line: mixed(line['response']),
)
GENERAL = dict(
  helpful=('general-helpful', world.helpfulness),
  harmless=('general-harmless', world.harmless),
)
