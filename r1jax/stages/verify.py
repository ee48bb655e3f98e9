"""Scores responses from a file by rule rewards, with the reason of every
verdict, in order to debug a reward."""

import collections
import dataclasses
from pathlib import Path

import ml_collections
import numpy as np

from r1jax import errors, files
from r1jax.config import option
from r1jax.data import tasks, templates
from r1jax.distributed import hosts
from r1jax.rewards import registry, verifiers
from r1jax.training import run_directory
from r1jax.training.config_changes import NO_CHANGE, Change

SHOWN = 20  # verdicts on the terminal


@dataclasses.dataclass(frozen=True)
class Config:
  data: str = option('', 'records: a path, toy:… or gym:…', is_code=True)
  responses: str = option('', "jsonl of id and response; '': of the records")
  rewards: list[str] = option(
    ['accuracy', 'format'], 'rewards to compute', is_code=True
  )
  opening: str = option(
    '', 'start of every response that is in its prompt, e.g. <think>'
  )
  seed: int = option(0, 'of toy: and gym: records', minimum=0)
  chunk: int = option(
    256, 'responses between two lines of progress', minimum=1, is_free=True
  )
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()


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
  records, texts = load(config)
  texts = [templates.with_opening(text, config.opening) for text in texts]
  weights = dict.fromkeys(config.rewards, 1.0)
  registry.check_rewards(weights, records)
  names = registry.user_names(weights)
  path, lines = workdir / 'verdicts.jsonl', []
  with verifiers.Verifiers(config.verify, records, names) as verifier:
    read = [*records, dict(responses=texts)]
    claimed = run_directory.claim(
      directory, path.name, read, sandbox=verifier.tier_name
    )
    if claimed is None:
      return
    run_directory.record_changes(claimed, claimed.progress)
    for start in range(0, len(records), config.chunk):
      part = slice(start, start + config.chunk)
      own = hosts.own_rows(len(records[part]))
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
    print(f'{line["id"]}: {rewards}  {line.get("reason", "")}'.rstrip())
  print(summary(config.rewards, lines), path, sep='\n')


def load(config: Config) -> tuple[list[dict], list[str]]:
  """(records, responses), one pair for each response."""
  records = tasks.load_records(config.data, config.seed)
  if not config.responses:
    for record in records:
      if not isinstance(record.get('response'), str):
        raise errors.UserError(
          f'record {record["id"]} of {config.data} has no response to verify: '
          'add it, or set config.responses to a file of responses'
        )
    return records, [record['response'] for record in records]
  if not Path(config.responses).is_file():
    raise errors.UserError(f'there is no file {config.responses} of responses')
  record_of = {record['id']: record for record in records}
  found, texts = [], []
  for n, line in enumerate(files.read_jsonl(config.responses), 1):
    record_id, text = line.get('id'), line.get('response')
    if not isinstance(text, str) or record_id not in record_of:
      raise errors.UserError(
        f'{config.responses} line {n} must have a response and the id of a '
        f'record of {config.data}; its id is {record_id!r}'
      )
    found.append(record_of[record_id])
    texts.append(text)
  return found, texts


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
