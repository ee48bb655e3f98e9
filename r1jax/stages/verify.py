"""Judges responses from a file by the rewards of a run, with the reason of every
verdict: where a reward is debugged."""

from __future__ import annotations

import collections
import dataclasses
import pathlib

import ml_collections
import numpy as np

from r1jax import config as configs
from r1jax import errors, files
from r1jax.config import option
from r1jax.data import tasks
from r1jax.distributed import hosts
from r1jax.rewards import registry, verifiers
from r1jax.training import run_directory

SHOWN = 20  # verdicts on the terminal


@dataclasses.dataclass(frozen=True)
class Config:
  data: str = option('', 'records: a path, toy:… or gym:…')
  responses: str = option(
    '', "jsonl of id and response, as runs write; '': the records' own"
  )
  rewards: list[str] = option(['accuracy', 'format'], 'which to compute')
  seed: int = option(0, 'of toy: and gym: records', least=0)
  chunk: int = option(256, 'responses between two lines of progress', least=1)
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()


def run(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> None:
  """Leaves verdicts.jsonl in workdir, a line a response."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  records, texts = load(c)
  registry.check_rewards(dict.fromkeys(c.rewards, 1.0), records)
  with verifiers.open_verifiers(c.verify, records) as judges:
    path = workdir / 'verdicts.jsonl'
    if run_directory.claim(
      workdir,
      Config,
      config,
      path.name,
      records=records,
      responses=texts,
      sandbox=judges.tier_name,
    ):
      return
    lines = []
    for start in range(0, len(records), c.chunk):
      part = records[start : start + c.chunk], texts[start : start + c.chunk]
      own = hosts.own_rows(len(part[0]))
      found = judged(c, judges, *(column[own] for column in part))
      lines += [line for many in hosts.gather(list(found)) for line in many]
      print(f'{len(lines)}/{len(records)} judged', flush=True)
      hosts.raise_if_terminating()
  hosts.run_once(lambda: files.write_jsonl(path, lines))
  for line in lines[:SHOWN]:
    print(shown(line))
  print(table(c, lines), path, sep='\n')


def load(c):
  """(records, texts), one of each for every response."""
  records = tasks.load_records(c.data, c.seed)
  if not c.responses:
    for record in records:
      if not isinstance(record.get('response'), str):
        raise errors.UserError(
          f'record {record["id"]} of {c.data} has no response to judge: give it '
          'one, or set config.responses to a file of them'
        )
    return records, [record['response'] for record in records]
  if not pathlib.Path(c.responses).is_file():
    raise errors.UserError(f'there is no file {c.responses} of responses')
  known = {record['id']: record for record in records}
  found, texts = [], []
  for n, line in enumerate(files.read_jsonl(c.responses), 1):
    name, text = line.get('id'), line.get('response')
    if not isinstance(text, str) or name not in known:
      raise errors.UserError(
        f'{c.responses} line {n} must hold a response and the id of a record of '
        f'{c.data}; its id is {name!r}'
      )
    found.append(known[name])
    texts.append(text)
  return found, texts


def judged(c, judges, records, texts):
  """A line for each text: its rewards, and why the accuracy is what it is."""
  weights = dict.fromkeys(c.rewards, 1.0)
  verdicts, more = [None] * len(texts), {}
  if 'accuracy' in c.rewards:
    verdicts = judges.verdicts(records, texts)
    more['accuracy'] = lambda *_: verifiers.values(verdicts)
  _, parts = registry.weighted_rewards(weights, records, texts, more=more)
  for n, (record, verdict) in enumerate(zip(records, verdicts)):
    numbers = {name: x[n] for name, x in parts.items()}
    line = dict(
      id=record['id'],
      response=texts[n],
      rewards={
        k: None if np.isnan(x) else float(x) for k, x in numbers.items()
      },
    )
    if verdict:
      line |= dict(kind=verdict.kind, reason=verdict.reason)
    yield line


def shown(line):
  """One verdict for the terminal."""
  numbers = ' '.join(f'{name} {x}' for name, x in line['rewards'].items())
  return f'{line["id"]}: {numbers}  {line.get("reason", "")}'.rstrip()


def table(c, lines):
  """The mean of each reward, and how often each kind of verdict was given."""
  means = []
  for name in c.rewards:
    known = [x['rewards'][name] for x in lines]
    known = [x for x in known if x is not None]
    mean = f'{np.mean(known):.4f}' if known else 'unknown'
    means.append(f'{name} {mean} ({len(known)} of {len(lines)})')
  kinds = collections.Counter(x['kind'] for x in lines if 'kind' in x)
  counted = ', '.join(f'{n} {kind}' for kind, n in kinds.most_common())
  return '\n'.join([*means, counted] if counted else means)
