"""Evaluation by the paper's protocol: pass@1 over k samples of each problem,
pass@k and majority votes with intervals, beside the paper's figures (R1, D.1).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import pathlib
import re
import time
import zlib

import jax
import ml_collections
import numpy as np

from r1jax import config as configs
from r1jax import errors, files
from r1jax.checkpoints import policy
from r1jax.config import option
from r1jax.data import tasks, templates
from r1jax.distributed import device_placement, hosts
from r1jax.evaluation import held_out, rating, scores, tables
from r1jax.rewards import language, pending, registry, verifiers
from r1jax.rewards.math import grading
from r1jax.rewards.pending import Scorer
from r1jax.sampling import decode
from r1jax.sampling.generate import Sampler
from r1jax.training import metrics, run_directory

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
  majority_k: int = option(0, 'samples of a majority vote; 0: all', least=0)
  format: str = option('format', 'whose form is kept: format or think_format')
  prompts_per_chunk: int = option(
    64, 'problems a chunk, what a kill loses', least=1
  )
  # Not 0: a toy: or gym: problem must be another than a run has learnt from.
  seed: int = option(1000, 'of samples, and of toy: and gym: problems', least=0)
  baseline: str = option('', 'an evaluation of the same problems to subtract')
  compare_with: list[str] = option([], 'evaluations to put into the same table')
  codeforces: str = option('', 'verdicts by problem, to be rated')
  prompt: templates.PromptConfig = templates.PromptConfig()
  sample: decode.SampleConfig = decode.SampleConfig(
    max_new_tokens=32768, temperature=0.6, top_p=0.95
  )
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


def run(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> None:
  """Leaves results.json, results.md and results.html in workdir, and every
  sample in workdir/chunks."""
  settings, config = config, configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  check(config)
  sets = {name: problems(config, path) for name, path in config.data.items()}
  others = scores.compare(config.compare_with)
  baseline = scores.means(config.baseline, sets) if config.baseline else {}
  verdicts = rating.read(config.codeforces) if config.codeforces else None
  records = [record for many in sets.values() for _, record in many]
  with verifiers.open_verifiers(config.verify, records) as verifier:
    model = load_model(config, records) if sets else None
    if run_directory.claim(
      workdir,
      Config,
      settings,
      'results.json',
      records=records,
      sandbox=verifier.tier_name,
    ):
      return
    if model:
      sample_all(config, sets, model, verifier, workdir)
  hosts.run_once(
    lambda: write(config, sets, others, baseline, verdicts, workdir)
  )


def write(c, sets, others, theirs, verdicts, workdir):
  """The tables of what is in workdir/chunks; results.json is last, the sign of
  the end."""
  lines = {name: scores.read_lines(workdir, name) for name in sets}
  found = dict(
    model=c.init,
    protocol=dict(
      temperature=c.sample.temperature,
      top_p=c.sample.top_p,
      max_new_tokens=c.sample.max_new_tokens,
      template=c.prompt.template,
      seed=c.seed,
    ),
    sets={
      name: scores.score(
        lines[name], c.samples, c.pass_k, c.majority_k or c.samples
      )
      for name in sets
    },
    paired={
      name: scores.subtract(lines[name], mean_N, c.baseline)
      for name, mean_N in theirs.items()
    },
    codeforces=scores.rate(*verdicts) if verdicts else {},
  )
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
  if not (c.data or c.compare_with or c.codeforces):
    raise errors.UserError(
      'there is nothing to evaluate: set config.data.NAME to records, or '
      'config.codeforces or config.compare_with'
    )
  for name in c.data:
    if not re.fullmatch(r'\w[\w -]*', name):
      raise errors.UserError(
        f'the set {name!r} of config.data becomes part of file names: use '
        "letters, digits, spaces, '-' and '_'"
      )
  for key, k in [
    ('cons', c.majority_k or 1),
    *(('pass_k', k) for k in c.pass_k),
  ]:
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
  if not all(c.prompt.stop_strings + c.sample.stop_token_sequences):
    raise errors.UserError(
      'config.prompt.stop_strings or config.sample.stop_token_sequences has an empty entry, which '
      'would end every response at once: leave it out'
    )
  if c.baseline and not c.data:
    raise errors.UserError(
      'config.baseline subtracts an evaluation from this one: set config.data'
    )


def weights(c):
  """The rewards that are measured; nothing learns from their sum."""
  return {'accuracy': 1.0, c.format: 0.0, 'language': 0.0}


def problems(c, source):
  """[(number in the source, record)], `limit` of them chosen by their text."""
  records = tasks.load_records(source, c.seed)

  def digest(n):
    return hashlib.blake2b(records[n]['prompt'].encode()).digest()

  numbers = sorted(range(len(records)), key=digest)[: c.limit or None]
  registry.check_rewards(weights(c), [records[n] for n in numbers])
  for n in numbers:
    language.target(records[n])  # Refuses one that is not known.
  return [(n, records[n]) for n in sorted(numbers)]


@dataclasses.dataclass(frozen=True)
class Model:
  """The model that is evaluated."""

  sampler: Sampler
  params: dict  # on the devices


def load_model(config: Config, records: list[dict]) -> Model:
  """The model that config.init names, checked against the records."""
  placement = device_placement.placement(config.parallel)
  params, cfg, tokenizer = policy.load(
    config.init, config.compute, None, config.seed
  )
  prompts = templates.encode_prompts(tokenizer, records, config.prompt)
  prompt_width = max(map(len, prompts))
  policy.check_length(
    cfg, prompt_width + config.sample.max_new_tokens + config.prompt.results_len
  )
  sampler = Sampler(
    placement,
    cfg,
    tokenizer,
    config.prompt,
    config.sample,
    prompt_width,
    config.compute.scan_decode,
  )
  return Model(sampler, device_placement.put_state(placement, params))


def sample_all(c, sets, model, verifier, workdir):
  """Writes workdir/chunks/NAME-00000.jsonl and so on, those that are missing.

  A problem's samples are a function of the seed, the set's name and its number
  in the source: neither chunks nor limit change them.
  """
  chunks = [
    (name, n, numbered[n * c.prompts_per_chunk : (n + 1) * c.prompts_per_chunk])
    for name, numbered in sets.items()
    for n in range(math.ceil(len(numbered) / c.prompts_per_chunk))
  ]

  def path(name, n):
    return workdir / 'chunks' / f'{name}-{n:05}.jsonl'

  missing = hosts.run_once(
    lambda: [i for i, x in enumerate(chunks) if not path(*x[:2]).exists()]
  )
  scorer = Scorer(
    weights=weights(c), by_domain={}, rules=verifier.rules, models={}
  )
  first, started = len(chunks) - len(missing), time.time()
  for done, i in enumerate(missing, first + 1):
    name, n, numbered = chunks[i]
    numbers, records = zip(*numbered)
    key = jax.random.key(c.seed)
    key = jax.random.fold_in(key, zlib.crc32(name.encode()) & 0x7FFFFFFF)
    samples = model.sampler.sample(
      model.params, list(records), np.array(numbers), key, c.samples
    )
    rewards = pending.score(scorer, samples.records, samples.texts)
    lost = np.isnan(rewards.parts['accuracy']).sum()
    if lost:
      raise errors.UserError(
        f'{lost} samples of the set {name} could not be judged: python -m r1jax '
        'verify says why; the same command goes on after the chunks that are '
        f'in {workdir / "chunks"}'
      )
    lines = sample_lines(c, samples, rewards)
    hosts.run_once(lambda: files.write_jsonl(path(name, n), lines))
    shown = held_out.summary(samples, rewards)
    del shown['reward']  # It is the accuracy.
    line = metrics.progress_line(done, len(chunks), shown, started, first)
    print(f'{name}  {line}', flush=True)
    hosts.raise_if_terminating()


def sample_lines(c, samples, rewards):
  """A dict a sample: what was asked, what came, what it is worth."""
  for n, (record, text) in enumerate(zip(samples.records, samples.texts)):
    parts = {name: float(x[n]) for name, x in rewards.parts.items()}
    yield dict(
      id=record['id'],
      prompt=record['prompt'],
      answer=record.get('answer'),
      response=text,
      extracted=grading.extract(text),
      accuracy=parts['accuracy'],
      format=parts[c.format],
      language=parts['language'],
      finished=bool(samples.rows.finished_B[n]),
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
