"""The config of an evaluation, and the files that it reads."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import numpy as np

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.config import option
from r1jax.data import tasks, templates
from r1jax.distributed import device_placement
from r1jax.evaluation import rating, scores
from r1jax.rewards import language, registry, verifiers
from r1jax.sampling import decode, generate


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('', "a model's directory, GGUF file or hub name")
  data: dict[str, str] = option({}, 'problems by set: a path, toy:… or gym:…')
  limit: int = option(0, 'problems of a set, by a hash; 0: all', minimum=0)
  samples: int = option(16, 'a problem (R1: 64 AIME, 16 MATH-500)', minimum=1)
  pass_k: tuple[int, ...] = option((), 'k of pass@k, besides pass@1')
  majority_k: int = option(0, 'samples of a majority vote; 0: all', minimum=0)
  format: str = option('format', 'the format to check: format or think_format')
  prompts_per_chunk: int = option(64, 'problems sampled at a time', minimum=1)
  # Not 0, so that toy: and gym: problems differ from those of training.
  seed: int = option(1000, 'of samples and of toy: and gym: data', minimum=0)
  baseline: str = option('', 'work directory of an evaluation to subtract')
  compare_with: list[str] = option([], 'work directories to show beside this')
  codeforces: str = option('', 'jsonl file of verdicts to compute a rating of')
  prompt: templates.PromptConfig = templates.PromptConfig()
  sample: decode.SampleConfig = decode.SampleConfig(
    max_new_tokens=32768, temperature=0.6, top_p=0.95
  )
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


@dataclasses.dataclass(frozen=True)
class Inputs:
  """All that an evaluation reads, apart from the model."""

  sets: dict[str, dict[int, dict]]  # problems by their number in the source
  records: list[dict]  # the problems of all sets
  compared: list[tuple[str, dict]]  # (label, results) of config.compare_with
  baseline: dict[str, np.ndarray]  # pass@1 of each problem by set
  codeforces: dict  # the rating; empty without config.codeforces


def check(config: Config) -> None:
  """Raises UserError for a config that cannot work."""
  if not (config.data or config.compare_with or config.codeforces):
    raise errors.UserError(
      'there is nothing to evaluate: set config.data.NAME to records, or '
      'config.codeforces or config.compare_with'
    )
  for name in config.data:
    if not re.fullmatch(r'\w[\w -]*', name):
      raise errors.UserError(
        f'the set {name!r} of config.data becomes part of file names: use '
        "letters, digits, spaces, '-' and '_'"
      )
  limited = [('majority_k', config.majority_k or 1)]
  limited += [('pass_k', k) for k in config.pass_k]
  for key, k in limited:
    if not 1 <= k <= config.samples:
      raise errors.UserError(
        f'config.{key} is {k}: it must be from 1 to config.samples, which is '
        f'{config.samples}'
      )
  if not config.sample.temperature and config.samples > 1:
    raise errors.UserError(
      'at config.sample.temperature=0 all samples of a problem are the same: '
      'set config.samples=1'
    )
  generate.check(config.prompt, config.sample)
  if config.baseline and not config.data:
    raise errors.UserError(
      'config.baseline is subtracted from the evaluation of config.data, which '
      'is empty: set it'
    )


def read_inputs(config: Config) -> Inputs:
  """Reads the problems, config.limit of each set chosen by a hash of their
  prompts, and the other files. Raises UserError if one is invalid."""
  sets, baseline, all_records = {}, {}, []
  for name, source in config.data.items():
    records = tasks.load_records(source, config.seed)
    digests = [hashlib.blake2b(x['prompt'].encode()).digest() for x in records]
    by_digest = sorted(range(len(records)), key=digests.__getitem__)
    numbers = sorted(by_digest[: config.limit or None])
    records = [records[n] for n in numbers]
    registry.check_rewards(reward_weights(config), records)
    for record in records:
      language.target(record)  # Raises UserError for an unknown language.
    sets[name] = dict(zip(numbers, records))
    all_records += records
    if config.baseline:
      found = scores.pass1_by_problem(config.baseline, name, records)
      baseline[name] = found
  codeforces = {}
  if config.codeforces:
    codeforces = rating.summary(*rating.read(config.codeforces))
  return Inputs(
    sets=sets,
    records=all_records,
    compared=scores.read_all(config.compare_with),
    baseline=baseline,
    codeforces=codeforces,
  )


def reward_weights(config: Config) -> dict[str, float]:
  """The rewards to measure. Their weighted sum is not used."""
  return {'accuracy': 1.0, config.format: 0.0, 'language': 0.0}
