"""Evaluation by the paper's protocol: pass@1 over several samples of each
problem, pass@k and majority votes, with intervals and the paper's scores (R1,
D.1)."""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path

import jax
import ml_collections
import numpy as np

from r1jax import config as configs
from r1jax import errors, files
from r1jax.distributed import device_placement, hosts
from r1jax.evaluation import evaluate_config, held_out, scores, tables
from r1jax.rewards import pending, verifiers
from r1jax.rewards.math import grading
from r1jax.rewards.pending import Scorer
from r1jax.sampling import loading
from r1jax.training import metrics, run_directory

Config = evaluate_config.Config
SHOWN = 3  # responses of each set on the page


def run(settings: ml_collections.ConfigDict, workdir: str | Path) -> None:
  """Writes results.json, results.md and results.html to workdir, and all
  samples to workdir/chunks."""
  config, workdir = configs.build(Config, settings), Path(workdir)
  evaluate_config.check(config)
  inputs = evaluate_config.read_inputs(config)
  records = inputs.records
  with verifiers.open_verifiers(config.verify, records) as verifier:
    model = load_model(config, records) if records else None
    facts = dict(records=records, sandbox=verifier.tier_name)
    if run_directory.claim(workdir, Config, settings, 'results.json', **facts):
      return
    if model:
      scorer = Scorer(
        weights=evaluate_config.reward_weights(config),
        by_domain={},
        rules=verifier.rules,
        models={},
      )
      sample_all(config, inputs.sets, model, scorer, workdir)
  hosts.run_once(lambda: write_results(config, inputs, workdir))


def load_model(config: Config, records: list[dict]) -> loading.SamplingModel:
  """The model of config.init on the devices."""
  placement = device_placement.placement(config.parallel)
  model, prompt_width = loading.load_policy(
    config, placement, records, config.sample.max_new_tokens
  )
  sampler = loading.make_sampler(config, placement, model, prompt_width)
  params = device_placement.put_state(placement, model.params)
  return loading.SamplingModel(sampler=sampler, params=params)


def sample_all(
  config: Config,
  sets: dict[str, dict[int, dict]],
  model: loading.SamplingModel,
  scorer: Scorer,
  workdir: Path,
) -> None:
  """Writes the samples of each chunk of problems to its file, unless it exists:
  workdir/chunks/NAME-00000.jsonl and so on.

  Samples depend on the seed, the set's name and the problem's number, but not
  on the chunk or config.limit.
  """
  chunks, size = [], config.prompts_per_chunk
  for name, problems in sets.items():
    numbers = list(problems)
    for start in range(0, len(numbers), size):
      path = workdir / 'chunks' / f'{name}-{start // size:05}.jsonl'
      chunks.append((path, name, numbers[start : start + size]))
  # Host 0 decides, so that all hosts sample the same chunks.
  exists = hosts.run_once(lambda: [path.exists() for path, _, _ in chunks])
  missing = [chunk for chunk, done in zip(chunks, exists) if not done]
  first, started = len(chunks) - len(missing), time.time()
  for done, (path, name, numbers) in enumerate(missing, first + 1):
    set_number = zlib.crc32(name.encode()) & 0x7FFFFFFF
    samples = model.sampler.sample(
      model.params,
      [sets[name][n] for n in numbers],
      np.array(numbers),
      jax.random.fold_in(jax.random.key(config.seed), set_number),
      config.samples,
    )
    rewards = pending.score(scorer, samples.records, samples.texts)
    if failed := int(np.isnan(rewards.parts['accuracy']).sum()):
      raise errors.UserError(
        f'{failed} samples of the set {name} have no accuracy, since a verifier '
        'failed: python -m r1jax verify shows the reasons. The same command '
        f'continues after the chunks that are in {path.parent}'
      )
    lines = sample_lines(config, samples, rewards)
    hosts.run_once(lambda: files.write_jsonl(path, lines))
    means = held_out.summary(samples, rewards)
    del means['reward']  # It equals the accuracy.
    line = metrics.progress_line(done, len(chunks), means, started, first)
    print(f'{name}  {line}', flush=True)
    hosts.raise_if_terminating()


def sample_lines(config: Config, samples, rewards) -> list[dict]:
  """The samples as JSON."""
  lines = []
  for n, (record, text) in enumerate(zip(samples.records, samples.texts)):
    lines.append(
      dict(
        id=record['id'],
        prompt=record['prompt'],
        answer=record.get('answer'),
        response=text,
        extracted=grading.extract(text),
        accuracy=float(rewards.parts['accuracy'][n]),
        format=float(rewards.parts[config.format][n]),
        language=float(rewards.parts['language'][n]),
        finished=bool(samples.rows.finished_B[n]),
        length=int(samples.length_N[n]),
      )
    )
  return lines


def write_results(
  config: Config, inputs: evaluate_config.Inputs, workdir: Path
) -> None:
  """Writes the tables of the samples in workdir/chunks. results.json is the
  last file: it marks the run as finished."""
  majority_k = config.majority_k or config.samples
  sets, paired, shown = {}, {}, []
  for name in inputs.sets:
    lines = scores.read_lines(workdir, name)
    sets[name] = scores.score(lines, config.samples, config.pass_k, majority_k)
    if name in inputs.baseline:
      paired[name] = scores.paired(
        lines, inputs.baseline[name], config.baseline
      )
    shown += shown_samples(name, lines)
  protocol = dict(
    temperature=config.sample.temperature,
    top_p=config.sample.top_p,
    max_new_tokens=config.sample.max_new_tokens,
    template=config.prompt.template,
    seed=config.seed,
  )
  results = dict(
    model=config.init,
    protocol=protocol,
    sets=sets,
    paired=paired,
    codeforces=inputs.codeforces,
  )
  rows = [(workdir.resolve().name, results), *inputs.compared]
  text = tables.markdown(rows)
  files.write_text(workdir / 'results.md', text)
  files.write_text(workdir / 'results.html', tables.page(rows, shown))
  content = json.dumps(results, indent=2) + '\n'
  files.write_text(workdir / 'results.json', content)
  print(text, end='', flush=True)


def shown_samples(name: str, lines: list[dict]) -> list[tuple[str, str, str]]:
  """(heading, prompt, response) of SHOWN samples, evenly spaced over a set."""
  shown = []
  for line in lines[:: max(1, len(lines) // SHOWN)][:SHOWN]:
    correct = 'correct' if line['accuracy'] else 'wrong'
    truncated = '' if line['finished'] else ', truncated'
    heading = (
      f'{name}, {line["id"]}: {correct}, answer {line["extracted"]}, gold '
      f'{line["answer"]}, {line["length"]} tokens{truncated}'
    )
    shown.append((heading, line['prompt'], line['response']))
  return shown
