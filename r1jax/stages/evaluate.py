"""Evaluation by the paper's protocol: pass@1 over k samples of each problem,
pass@k and majority votes with intervals, beside the paper's figures (R1, D.1).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import re
import time
import zlib

import jax
import numpy as np

from r1jax import (
  config as configs,
)
from r1jax import (
  errors,
  files,
  generate,
  hosts,
  metrics,
  parallel,
  policy,
  rating,
  rewards,
  sample,
  scores,
  spmd,
  tables,
  tasks,
  verifiers,
)  # fmt: skip
from r1jax.config import option
from r1jax.rewards import language, math_answer

SHOWN = 3  # responses a set on the page


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('', "a model's directory, GGUF file or hub name")
  data: dict[str, str] = option(
    {}, 'sets by name: records from a path, toy:… or gym:…'
  )
  limit: int = option(0, 'problems of each set, by hash; 0: all', least=0)
  samples: int = option(
    16, 'samples a problem (R1: 64 AIME and GPQA, 16 MATH-500)', least=1
  )
  pass_k: tuple[int, ...] = option((), 'k of pass@k, besides pass@1')
  cons: int = option(0, 'samples of a majority vote; 0: all', least=0)
  format: str = option('format', 'whose form is kept: format or think_format')
  questions: int = option(64, 'problems a chunk, what a kill loses', least=1)
  # Not 0: a toy: or gym: problem must be another than a run has learnt from.
  seed: int = option(1000, 'of samples, and of toy: and gym: problems', least=0)
  against: str = option('', 'an evaluation of the same problems to subtract')
  beside: list[str] = option([], 'evaluations to put into the same table')
  codeforces: str = option('', 'verdicts by problem, to be rated')
  prompt: generate.PromptConfig = generate.PromptConfig()
  sample: sample.SampleConfig = sample.SampleConfig(
    max_new=32768, temperature=0.6, top_p=0.95
  )
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  parallel: parallel.ParallelConfig = parallel.ParallelConfig()


def run(config, workdir):
  """Leaves results.json, results.md and results.html in workdir, and every
  sample in workdir/chunks."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  check(c)
  sets = {name: problems(c, source) for name, source in c.data.items()}
  others = scores.compare(c.beside)
  theirs = scores.means(c.against, sets) if c.against else {}
  verdicts = rating.read(c.codeforces) if c.codeforces else None
  records = [record for many in sets.values() for _, record in many]
  with verifiers.opened(c.verify, records) as judges:
    draw = sampler(c, records, judges) if sets else None
    tier = judges.tier and judges.tier.name
    hosts.agree(workdir, config=c, records=records, sandbox=tier)
    hosts.once(lambda: configs.claim(workdir, Config, config))
    if hosts.once((workdir / 'results.json').exists):
      print(f'{workdir} is finished: the table is {workdir / "results.md"}')
      return

    sample_all(c, sets, draw, workdir)
  hosts.once(lambda: write(c, sets, others, theirs, verdicts, workdir))


def write(c, sets, others, theirs, verdicts, workdir):
  """The tables of what is in workdir/chunks; results.json is last, the sign of
  the end."""
  lines = {name: scores.read_lines(workdir, name) for name in sets}
  found = dict(
    model=c.init,
    protocol=dict(
      temperature=c.sample.temperature, top_p=c.sample.top_p,
      max_new=c.sample.max_new, template=c.prompt.template, seed=c.seed,
    ),
    sets={
      name: scores.score(lines[name], c.samples, c.pass_k, c.cons or c.samples)
      for name in sets
    },
    paired={
      name: scores.subtract(lines[name], mean_N, c.against)
      for name, mean_N in theirs.items()
    },
    codeforces=scores.rate(*verdicts) if verdicts else {},
  )  # fmt: skip
  rows = [(workdir.resolve().name, found), *others]
  shown = [x for name in sets for x in responses(name, lines[name])]
  table = tables.markdown(rows)
  files.write_text(workdir / 'results.md', table)
  page = tables.page('Evaluation', rows, shown)
  files.write_text(workdir / 'results.html', page)
  text = json.dumps(found, indent=2) + '\n'
  files.write_text(workdir / 'results.json', text)
  print(table, end='', flush=True)


def check(c):
  """Refuses what cannot work, with a sentence."""
  if not (c.data or c.beside or c.codeforces):
    raise errors.UserError(
      'there is nothing to evaluate: set config.data.NAME to records, or '
      'config.codeforces or config.beside'
    )
  for name in c.data:
    if not re.fullmatch(r'\w[\w -]*', name):
      raise errors.UserError(
        f'the set {name!r} of config.data becomes part of file names: use '
        "letters, digits, spaces, '-' and '_'"
      )
  for key, k in [('cons', c.cons or 1), *(('pass_k', k) for k in c.pass_k)]:
    if not 1 <= k <= c.samples:
      raise errors.UserError(
        f'config.{key} asks for {k} samples of a problem: it can be 1 to '
        f'config.samples, which is {c.samples}'
      )
  if not c.sample.temperature and c.samples > 1:
    raise errors.UserError(
      'at config.sample.temperature=0 all samples of a problem are the same: '
      'set config.samples=1'
    )
  if not 0 < c.sample.top_p <= 1:
    raise errors.UserError('config.sample.top_p must be above 0 and at most 1')
  if not all(c.prompt.stop + c.sample.stops):
    raise errors.UserError(
      'config.prompt.stop or config.sample.stops has an empty entry, which '
      'would end every response at once: leave it out'
    )
  if c.against and not c.data:
    raise errors.UserError(
      'config.against subtracts an evaluation from this one: set config.data'
    )


def weights(c):
  """The rewards that are measured; nothing learns from their sum."""
  return {'accuracy': 1.0, c.format: 0.0, 'language': 0.0}


def problems(c, source):
  """[(number in the source, record)], `limit` of them chosen by their text."""
  records = tasks.load(source, c.seed)
  digest = lambda n: hashlib.blake2b(records[n]['prompt'].encode()).digest()
  numbers = sorted(range(len(records)), key=digest)[: c.limit or None]
  rewards.check(weights(c), [records[n] for n in numbers])
  for n in numbers:
    language.target(records[n])  # Refuses one that is not known.
  return [(n, records[n]) for n in sorted(numbers)]


def sampler(c, records, judges):
  """draw(numbers, records, key) -> Samples of the model, on the devices."""
  place = parallel.placement(c.parallel)
  params, cfg, words = policy.load(c.init, c.compute, None, c.seed)
  width = max(map(len, generate.encode(words, records, c.prompt)))
  policy.check_length(cfg, width + c.sample.max_new + c.prompt.results_len)
  params = parallel.put_state(place, params)
  generator = generate.Generator(
    functools.partial(spmd.map_rows, place), place.rows,
    dataclasses.replace(cfg, scan_layers=c.compute.scan_decode, remat='none'),
    words, c.prompt, c.sample,
    generate.at_once(
      functools.partial(rewards.total, weights(c), more=judges.rules)
    ),
    width,
  )  # fmt: skip
  return lambda numbers, records, key: generator(
    params, records, numbers, key, c.samples, c.sample.temperature,
    c.sample.max_new,
  )  # fmt: skip


def sample_all(c, sets, draw, workdir):
  """Writes workdir/chunks/NAME-00000.jsonl and so on, those that are missing.

  A problem's samples are a function of the seed, the set's name and its number
  in the source: neither chunks nor limit change them.
  """
  chunks = [
    (name, n, numbered[n * c.questions : (n + 1) * c.questions])
    for name, numbered in sets.items()
    for n in range(math.ceil(len(numbered) / c.questions))
  ]
  path = lambda name, n: workdir / 'chunks' / f'{name}-{n:05}.jsonl'
  missing = hosts.once(
    lambda: [i for i, x in enumerate(chunks) if not path(*x[:2]).exists()]
  )
  first, started = len(chunks) - len(missing), time.time()
  for done, i in enumerate(missing, first + 1):
    name, n, numbered = chunks[i]
    numbers, records = zip(*numbered)
    key = jax.random.key(c.seed)
    key = jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
    samples = draw(np.array(numbers), list(records), key)
    lost = np.isnan(samples.parts['accuracy']).sum()
    if lost:
      raise errors.UserError(
        f'{lost} samples of the set {name} could not be judged: python -m r1jax '
        'verify says why; the same command goes on after the chunks that are '
        f'in {workdir / "chunks"}'
      )
    lines = sample_lines(c, samples)
    hosts.once(lambda: files.write_jsonl(path(name, n), lines))
    shown = generate.summary(samples)
    del shown['reward']  # It is the accuracy.
    line = metrics.progress(done, len(chunks), shown, started, first)
    print(f'{name}  {line}', flush=True)
    hosts.boundary()


def sample_lines(c, samples):
  """A dict a sample: what was asked, what came, what it is worth."""
  for n, (record, text) in enumerate(zip(samples.records, samples.texts)):
    parts = {name: float(x[n]) for name, x in samples.parts.items()}
    yield dict(
      id=record['id'],
      prompt=record['prompt'],
      answer=record.get('answer'),
      response=text,
      extracted=math_answer.extract(text),
      accuracy=parts['accuracy'],
      format=parts[c.format],
      language=parts['language'],
      finished=bool(samples.rollout.finished_B[n]),
      length=int(samples.length_N[n]),
    )


def responses(name, lines):
  """(heading, prompt, response) of a few samples from all over a set."""
  for line in lines[:: max(1, len(lines) // SHOWN)][:SHOWN]:
    heading = (
      f'{name}, {line["id"]}: {"right" if line["accuracy"] else "wrong"}, '
      f'answer {line["extracted"]}, gold {line["answer"]}, {line["length"]} '
      f'tokens{"" if line["finished"] else ", truncated"}'
    )
    yield heading, line['prompt'], line['response']
