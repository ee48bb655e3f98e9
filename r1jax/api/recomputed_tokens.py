"""tokens.jsonl of a run: groups of recomputed rollouts, token by token."""

from pathlib import Path
from typing import Any

import numpy as np

from r1jax import files
from r1jax.api import replay, work_directory
from r1jax.api.run_samples import RunSamples, Sample
from r1jax.distributed import programs
from r1jax.reports import groups

FILE = 'tokens.jsonl'


def add(workdir: Path, step: int) -> None:
  """Recomputes the rollout that an update learned from, and writes groups of it
  in place of those that the file has of this step."""
  directory = work_directory.read(workdir)
  programs.compilation_cache()
  samples = replay.samples_of(directory, step)
  config = work_directory.config_at(directory, step - 1)
  path = workdir / FILE
  lines = files.read_jsonl(path) if path.exists() else []
  lines = [line for line in lines if line['step'] != step]
  lines += group_lines(samples, config.grpo.group_size)
  lines.sort(key=_step)
  files.write_jsonl(path, lines)


def group_lines(samples: RunSamples, group_size: int) -> list[dict[str, Any]]:
  """Groups of a rollout, evenly spaced, as lines of the file."""
  lines = []
  starts = range(0, len(samples), group_size)
  for start in groups.spread(starts, groups.GROUPS):
    members = samples.samples[start : start + group_size]
    record = members[0].record
    lines.append(
      dict(
        step=samples.step,
        id=record['id'],
        prompt=record['prompt'],
        answer=groups.plain_answer(record.get('answer')),
        samples=[_sample(one) for one in members],
      )
    )
  return lines


def _sample(sample: Sample) -> dict[str, Any]:
  """A response with its numbers; None for tokens that were not sampled."""
  return dict(
    response=sample.text,
    reward=sample.reward,
    rewards=sample.rewards,
    advantage=float(sample.advantages[sample.mask][0]),
    finished=sample.finished,
    length=int(sample.mask.sum()),
    tokens=sample.tokens,
    ratio=_numbers(sample, sample.ratios),
    entropy=_numbers(sample, sample.entropies),
    logprob=_numbers(sample, sample.logprobs),
  )


def _numbers(sample, values):
  return [
    float(x) if is_sampled else None
    for x, is_sampled in zip(np.asarray(values), sample.mask)
  ]


def _step(line):
  return line['step']
