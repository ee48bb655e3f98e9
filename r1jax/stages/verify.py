"""Scores responses from a file by rule rewards, with the reason of every
verdict, in order to debug a reward. `verify --records FILE --responses FILE`
needs no config and writes the verdicts beside the responses."""

import argparse
import collections
import dataclasses
from pathlib import Path
from typing import NamedTuple

import ml_collections
import numpy as np

from r1jax import config as configs
from r1jax import errors, files
from r1jax.config import MAX_SEED, option
from r1jax.data import record_forms, tasks, templates
from r1jax.data.bad_records import BadRecords
from r1jax.data.sources import source_rows
from r1jax.distributed import hosts, watchdog
from r1jax.rewards import registry, verifiers
from r1jax.training import run_directory
from r1jax.training.config_changes import NO_CHANGE, Change

SHOWN = 20  # verdicts on the terminal


@dataclasses.dataclass(frozen=True)
class Config:
  """The config of the verify stage."""

  data: str = option(
    '', 'records: a path, hf://…, toy:… or gym:…', is_code=True, reads='records'
  )
  data_map: dict[str, str] = option(
    {}, "columns of data, e.g. {'prompt': 'question'}"
  )
  responses: str = option(
    '', "jsonl of id and response; '': of the records", reads='records'
  )
  rewards: list[str] = option(
    ['accuracy', 'format'], 'rewards to compute', is_code=True
  )
  opening: str = option(
    '', 'start of every response that is in its prompt, e.g. <think>'
  )
  skip_bad_records: bool = option(
    False, 'leave out, and count, records and responses that cannot be used'
  )
  seed: int = option(0, 'of toy: and gym: records', minimum=0, maximum=MAX_SEED)
  chunk: int = option(
    256, 'responses between two lines of progress', minimum=1, is_free=True
  )
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()


class Inputs(NamedTuple):
  """The responses, each with its record."""

  records: list[dict]
  texts: list[str]


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds verify's arguments beside the config."""
  add = parser.add_argument
  add('--records', metavar='SOURCE', help='sets config.data')
  add('--responses', metavar='FILE', help='sets config.responses')
  add(
    '--workdir',
    metavar='DIR',
    help='folder of the run; without it the verdicts are written beside the '
    'responses, as NAME.verdicts.jsonl',
  )


def apply_options(
  settings: ml_collections.ConfigDict, options: argparse.Namespace
) -> None:
  """Sets the keys that --records and --responses replace."""
  if options.records:
    settings.data = options.records
  if options.responses:
    settings.responses = options.responses
  if not settings.data:
    raise errors.UserError(
      'verify needs records: --records FILE, and --responses FILE unless the '
      'records hold their responses'
    )


def output_path(settings: ml_collections.ConfigDict) -> Path:
  """Where the verdicts are written without a work directory."""
  what = 'responses' if settings.responses else 'records'
  name = settings.responses or settings.data
  files.check_local(name, f'the file of {what}', may_be_hub=True)
  source = Path(source_rows.parse(name).place)
  if not source.is_file():
    raise errors.UserError(
      f'there is no file {source} of {what}, beside which the verdicts could '
      'be written: name one, or give --workdir DIR'
    )
  name = source_rows.name_of(str(source))
  return source.with_name(f'{name}.verdicts.jsonl')


def run_beside(settings: ml_collections.ConfigDict) -> None:
  """Writes the verdicts beside the responses, one line a response."""
  path, config = output_path(settings), configs.build(Config, settings)
  hosts.run_once(lambda: files.check_writable(path))
  inputs = load(config)
  with open_verifiers(config, inputs.records) as verifier:
    write(config, verifier, inputs, path)


def run(
  settings: ml_collections.ConfigDict,
  workdir: str | Path,
  change: Change = NO_CHANGE,
) -> None:
  """Writes workdir/verdicts.jsonl, one line a response."""
  workdir = Path(workdir)
  directory = run_directory.open_directory(
    workdir, Config, settings, change, run_directory.ONE_CONFIG
  )
  config = directory.config
  inputs = load(config)
  path = workdir / 'verdicts.jsonl'
  with open_verifiers(config, inputs.records) as verifier:
    read = [*inputs.records, dict(responses=inputs.texts)]
    claimed = run_directory.claim(
      directory,
      path.name,
      read,
      scored=registry.verified_records(weights_of(config), inputs.records),
      sandbox=verifier.tier_name,
    )
    if claimed is None:
      return
    run_directory.record_changes(claimed, claimed.progress)
    write(config, verifier, inputs, path)


def weights_of(config: Config) -> dict[str, float]:
  """config.rewards as weights; their sum is not used."""
  return dict.fromkeys(config.rewards, 1.0)


def open_verifiers(config: Config, records: list[dict]) -> verifiers.Verifiers:
  """The verifiers of the rewards in config.rewards, to be closed."""
  weights = weights_of(config)
  return verifiers.Verifiers(
    config.verify,
    registry.verified_records(weights, records),
    registry.user_names(weights),
  )


def write(
  config: Config, verifier: verifiers.Verifiers, inputs: Inputs, path: Path
) -> None:
  """Verifies all responses and writes the lines; prints the first and a
  summary."""
  records, texts, lines = inputs.records, inputs.texts, list[dict]()
  for start in range(0, len(records), config.chunk):
    part = slice(start, start + config.chunk)
    own = hosts.own_rows(len(records[part]))
    # Nothing is saved before the end, so SIGTERM need not wait.
    with watchdog.exit_early_if(lambda: True):
      own_lines = verify(
        config.rewards, verifier, records[part][own], texts[part][own]
      )
    for host_lines in hosts.gather(own_lines):
      lines += host_lines
    print(f'{len(lines)}/{len(records)} verified', flush=True)
    hosts.raise_if_terminating()
  hosts.run_once(lambda: files.write_jsonl(path, lines))
  for line in lines[:SHOWN]:
    rewards = ' '.join(f'{name} {x}' for name, x in line['rewards'].items())
    text = f'{line["id"]}: {rewards}  {line.get("reason", "")}'.rstrip()
    print(errors.printable(text))
  print(summary(config.rewards, lines), path, sep='\n')


def load(config: Config) -> Inputs:
  """The responses with their records. Raises UserError for those that cannot be
  used, or leaves them out."""
  bad = BadRecords(config.skip_bad_records)
  records = tasks.load_records(config.data, config.seed, bad, config.data_map)
  if not config.responses:
    records = _with_response(config, records, bad)
  records = registry.check_rewards(
    weights_of(config), records, bad=bad, verify=config.verify
  )
  bad.finish(len(records), config.data)
  if config.responses:
    answered = _answered(config, records)
  else:
    answered = [(record, record['response']) for record in records]
  return Inputs(
    records=[record for record, _ in answered],
    texts=[templates.with_opening(x, config.opening) for _, x in answered],
  )


def _with_response(config, records, bad):
  """The records that hold their response."""
  kept = []
  for record in records:
    with bad.noted(record['id']):
      if not isinstance(record.get('response'), str):
        raise errors.UserError(
          f'record {record["id"]} of {config.data} has no response to verify: '
          'add it, or set config.responses to a file of responses'
        )
      kept.append(record)
  return kept


def _answered(config, records):
  """[(record, response)] of the lines of config.responses."""
  path, answered = config.responses, []
  bad = BadRecords(config.skip_bad_records)
  if not Path(source_rows.parse(path).place).is_file():
    raise errors.UserError(f'there is no file {path} of responses')
  record_of = {record['id']: record for record in records}
  for _, where, row in source_rows.read(path, bad):
    record_id = row.get('id')
    if record_id is None:
      record_id = row.get('task_id')
    if type(record_id) is int:  # ids of records are texts
      record_id = str(record_id)
    with bad.noted(where.removeprefix(f'{path} ')):
      text = record_forms.response_of(row, where)
      if not isinstance(text, str):
        raise errors.UserError(
          f"{where} has no text 'response' or 'completion'; it has the keys "
          f'{", ".join(row)}'
        )
      if not isinstance(record_id, str) or record_id not in record_of:
        raise errors.UserError(
          f"{where} must have the 'id' of a record of {config.data}; its id is "
          f'{record_id!r}'
        )
      answered.append((record_of[record_id], text))
  if not answered and not bad.found:
    raise errors.UserError(f'{path} has no responses: it is empty')
  bad.finish(len(answered), path)
  return answered


def verify(
  names: list[str], verifier: verifiers.Verifiers, records: list, texts: list
) -> list[dict]:
  """A line for each response: rewards, and the verdict's kind and reason."""
  verdicts, computed = [], {}
  if 'accuracy' in names:
    verdicts = verifier.verdicts(records, texts)
    values = [verdict.value for verdict in verdicts]
    computed['accuracy'] = np.array(values, np.float32)
  _, parts = registry.weighted_rewards(
    dict.fromkeys(names, 1.0),
    records,
    texts,
    rules=verifier.rules,
    computed=computed,
  )
  lines = []
  for n, (record, text) in enumerate(zip(records, texts)):
    rewards = {}
    for name, part_N in parts.items():
      rewards[name] = None if np.isnan(part_N[n]) else float(part_N[n])
    line = dict(id=record['id'], response=text, rewards=rewards)
    if verdicts:
      line |= dict(kind=verdicts[n].kind, reason=verdicts[n].reason)
    lines.append(line)
  return lines


def summary(names: list[str], lines: list[dict]) -> str:
  """The mean of each reward, and the number of verdicts of each kind."""
  rows = []
  for name in registry.labels(names).values():
    values = [line['rewards'][name] for line in lines]
    values = [x for x in values if x is not None]
    mean = f'{np.mean(values):.4f}' if values else 'unknown'
    rows.append(f'{name} {mean} ({len(values)} of {len(lines)})')
  kinds = collections.Counter(line['kind'] for line in lines if 'kind' in line)
  if kinds:
    rows.append(', '.join(f'{n} {kind}' for kind, n in kinds.most_common()))
  return '\n'.join(rows)
