"""The config of an evaluation, and the files that it reads."""

import dataclasses
import hashlib
import re
from typing import NamedTuple

import numpy as np

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.config import MAX_SEED, option
from r1jax.data import tasks, templates
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record
from r1jax.distributed import device_placement
from r1jax.evaluation import rating, scores
from r1jax.rewards import language, registry, verifiers
from r1jax.sampling import decode, generate


@dataclasses.dataclass(frozen=True)
class Config:
  """The config of the evaluate stage."""

  init: str = option(
    '', "a model's directory, GGUF file or hub name", reads='model'
  )
  data: dict[str, str] = option(
    {},
    'problems by set: a path, hf://…, toy:… or gym:…',
    is_code=True,
    reads='records',
  )
  data_map: dict[str, str] = option(
    {}, "columns of all sets, e.g. {'prompt': 'question'}"
  )
  skip_bad_records: bool = option(
    False, 'leave out, and count, records that cannot be used'
  )
  drop_too_long: bool = option(
    False, 'leave out, and count, records that are too long'
  )
  limit: int = option(0, 'problems of a set, by a hash; 0: all', minimum=0)
  samples: int = option(16, 'a problem (R1: 64 AIME, 16 MATH-500)', minimum=1)
  pass_k: tuple[int, ...] = option((), 'k of pass@k, besides pass@1')
  majority_k: int = option(0, 'samples of a majority vote; 0: all', minimum=0)
  format: str = option(
    'format', 'the format to check: format or think_format', is_code=True
  )
  prompts_per_chunk: int = option(64, 'problems sampled at a time', minimum=1)
  # Not 0, so that toy: and gym: problems differ from those of training.
  seed: int = option(
    1000, 'of samples and of toy: and gym: data', minimum=0, maximum=MAX_SEED
  )
  baseline: str = option(
    '', 'work directory of an evaluation to subtract', reads='results'
  )
  compare_with: list[str] = option(
    [], 'work directories to show beside this', reads='results'
  )
  codeforces: str = option(
    '', 'jsonl file of verdicts to compute a rating of', reads='results'
  )
  prompt: templates.PromptConfig = templates.PromptConfig()
  sample: decode.SampleConfig = decode.SampleConfig(
    max_new_tokens=32768, temperature=0.6, top_p=0.95
  )
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


class Inputs(NamedTuple):
  """All that an evaluation reads, apart from the model."""

  sets: dict[str, dict[int, Record]]  # problems by their number in the source
  records: list[Record]  # the problems of all sets
  weights: dict[str, float]  # of the rewards; their weighted sum is not used
  compared: list[tuple[str, dict]]  # (label, results) of config.compare_with
  codeforces: dict  # the rating; empty without config.codeforces
  baseline: dict[str, np.ndarray]  # see with_baseline


def check(config: Config) -> None:
  """Raises UserError for a config that cannot work."""
  if not (config.data or config.compare_with or config.codeforces):
    raise errors.UserError(
      'nothing to evaluate: set config.data, config.codeforces or compare_with'
    )
  for name in config.data:
    if not re.fullmatch(r'\w[\w -]*', name):
      raise errors.UserError(
        f"config.data: name the set {name!r} by letters, digits, ' ', '-', '_'"
      )
  limited = [('pass_k', k) for k in config.pass_k]
  for key, k in [*limited, ('majority_k', config.majority_k or 1)]:
    if not 1 <= k <= config.samples:
      raise errors.UserError(
        f'config.{key} is {k}: it must be 1 to config.samples={config.samples}'
      )
  if not config.sample.temperature and config.samples > 1:
    raise errors.UserError(
      'config.sample.temperature=0 makes samples equal: set config.samples=1'
    )
  generate.check(config.prompt, config.sample)
  if config.baseline and not config.data:
    raise errors.UserError(
      'config.baseline is subtracted from results of config.data: set that too'
    )


def read_inputs(config: Config) -> Inputs:
  """Reads all files, and chooses config.limit problems of a set by hash."""
  weights = {'accuracy': 1.0, config.format: 0.0, 'language': 0.0}
  sets, codeforces, all_records = {}, {}, []
  for name, source in config.data.items():
    bad = BadRecords(config.skip_bad_records)
    records = tasks.load_records(source, config.seed, bad, config.data_map)
    digests = [hashlib.blake2b(x['prompt'].encode()).digest() for x in records]
    by_digest = sorted(range(len(records)), key=digests.__getitem__)
    numbers = sorted(by_digest[: config.limit or None])
    number_of = {records[n]['id']: n for n in numbers}
    good = []
    for record in [records[n] for n in numbers]:
      with bad.noted(record['id']):
        language.target(record)  # Raises UserError for an unknown language.
        good.append(record)
    good = registry.check_rewards(weights, good, bad=bad, verify=config.verify)
    bad.finish(len(good), source)
    sets[name] = {number_of[record['id']]: record for record in good}
    all_records += good
  if config.codeforces:
    codeforces = rating.summary(*rating.read(config.codeforces))
  compared = scores.read_all(config.compare_with)
  return Inputs(sets, all_records, weights, compared, codeforces, {})


def with_records(
  config: Config, inputs: Inputs, records: list[Record]
) -> Inputs:
  """The inputs with those problems that are among the records."""
  numbers, sets = set(map(id, records)), {}
  for name, problems in inputs.sets.items():
    sets[name] = {n: x for n, x in problems.items() if id(x) in numbers}
    if not sets[name]:
      raise errors.UserError(f'no record of {config.data[name]} can be used')
  return inputs._replace(sets=sets, records=records)


def with_baseline(config: Config, inputs: Inputs) -> Inputs:
  """The inputs with pass@1 of each problem, by set, in config.baseline, if it
  is set. Raises UserError if that has other problems."""
  if not config.baseline:
    return inputs
  baseline = {}
  for name, problems in inputs.sets.items():
    own = list(problems.values())
    baseline[name] = scores.pass1_by_problem(config.baseline, name, own)
  return inputs._replace(baseline=baseline)
