"""Evaluation by the paper's protocol (R1, D.1): pass@1, pass@k and majority
votes of several samples a problem, with intervals and the paper's scores."""

import contextlib
import json
import time
import zlib
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from r1jax import errors, files
from r1jax.data import gold_answers
from r1jax.data.formats import Record
from r1jax.distributed import device_placement, hosts
from r1jax.evaluation import evaluate_config, held_out, scores, tables, votes
from r1jax.rewards import outage, registry, verifiers
from r1jax.rewards.pending import Scorer
from r1jax.sampling import loading
from r1jax.sampling.generate import Samples
from r1jax.sampling.loading import SamplingModel
from r1jax.training import closing, memory_errors, run_directory
from r1jax.training.config_changes import NO_CHANGE, Change
from r1jax.training.progress import Progress

Config = evaluate_config.Config
SHOWN = 3  # responses of each set on the page; sets in the closing lines


def run(
  settings: ml_collections.ConfigDict,
  workdir: str | Path,
  change: Change = NO_CHANGE,
) -> None:
  """Writes results.json, .md and .html, and all samples, to workdir."""
  workdir, began = Path(workdir), time.monotonic()
  directory = run_directory.open_directory(
    workdir, Config, settings, change, run_directory.ONE_CONFIG
  )
  config = directory.config
  evaluate_config.check(config)
  inputs = evaluate_config.read_inputs(config)
  records = inputs.records
  names = registry.user_names(inputs.weights)
  with verifiers.Verifiers(config.verify, records, names) as verifier:
    model = None
    if records:
      model, good = load_model(config, records)
      if len(good) < len(records):
        inputs = evaluate_config.with_records(config, inputs, good)
      records = good
    inputs = evaluate_config.with_baseline(config, inputs)
    claimed = run_directory.claim(
      directory,
      'results.json',
      records,
      scored=records,
      sandbox=verifier.tier_name,
    )
    if claimed is None:
      return
    run_directory.record_changes(claimed, claimed.progress)
    if model:
      scorer = Scorer(
        weights=inputs.weights, by_domain={}, rules=verifier.rules, models={}
      )
      sample_all(
        config, inputs.sets, model, scorer, verifier, workdir / 'chunks'
      )
  results = hosts.run_once(lambda: write_results(config, inputs, workdir))
  problems = sum(map(len, inputs.sets.values()))
  did, following = 'tables', {}
  if records:
    did = f'{problems} problems with {config.samples} samples each'
    following[closing.command('chat', config.init)] = 'talk to the model'
  page = f'the tables and samples are in {workdir / "results.html"}'
  closing.show(result_line(results), did, began, page, following)


def result_line(results: dict[str, Any]) -> str:
  """pass@1 with its interval of the first SHOWN sets of results.json, and its
  difference from the baseline."""
  texts = []
  for name, found in list(results['sets'].items())[:SHOWN]:
    low, high = found['interval']
    text = f'{name} {found["pass1"]:.3f} [{low:.3f}, {high:.3f}]'
    if name in results['paired']:
      pair = results['paired'][name]
      low, high = pair['interval']
      text += (
        f' ({pair["difference"]:+.3f} [{low:+.3f}, {high:+.3f}] from '
        f'{pair["baseline"]})'
      )
    texts.append(text)
  return f'pass@1: {", ".join(texts)}' if texts else ''


def load_model(
  config: Config, records: list[Record]
) -> tuple[SamplingModel, list[Record]]:
  """(the model of config.init on the devices, the records whose prompts are not
  too long)."""
  placement = device_placement.placement(config.parallel)
  with memory_errors.explained('loading of the model', config):
    model, prompt_width, records = loading.load_policy(
      config, placement, records, config.sample.max_new_tokens
    )
    sampler = loading.make_sampler(config, placement, model, prompt_width)
    params = loading.put_frozen(placement, model)
  return SamplingModel(sampler, params), records


def sample_all(
  config: Config,
  sets: dict,
  model: SamplingModel,
  scorer: Scorer,
  verifier: verifiers.Verifiers,
  folder: Path,
) -> None:
  """Writes the samples of each chunk of problems to its file, unless it exists.
  They depend on the seed, the set's name and the problem's number only."""
  chunks, size = [], config.prompts_per_chunk
  for name, problems in sets.items():
    numbers = list(problems)
    for start in range(0, len(numbers), size):
      path = folder / f'{name}-{start // size:05}.jsonl'
      chunks.append((path, name, numbers[start : start + size]))
  # Host 0 decides, so that all hosts sample the same chunks.
  exists = hosts.run_once(lambda: [path.exists() for path, _, _ in chunks])
  missing = [chunk for chunk, saved in zip(chunks, exists) if not saved]
  total = sum(map(len, sets.values()))
  done = total - sum(len(numbers) for _, _, numbers in missing)
  with contextlib.closing(Progress(total, done, unit='problems')) as progress:
    for path, name, numbers in missing:
      set_number = zlib.crc32(name.encode()) & 0x7FFFFFFF
      key = jax.random.fold_in(jax.random.key(config.seed), set_number)
      problems = [sets[name][n] for n in numbers]
      with memory_errors.explained('rollout', config):
        samples = model.sampler.sample(
          model.params,
          problems,
          np.array(numbers),
          key,
          config.samples,
          num_prompts=min(size, max(map(len, sets.values()))),
        )
      rewards = outage.score(scorer, samples.records, samples.texts)
      if rewards.outages:  # of a few; the other verdicts are cached
        rewards = outage.score(scorer, samples.records, samples.texts)
      if rewards.outages:
        raise errors.Outage(
          f'{rewards.outages} samples of the set {name} could not be judged: '
          'the lines above say why, and so does python -m r1jax verify'
        )
      if failed := int(np.isnan(rewards.parts['accuracy']).sum()):
        raise errors.UserError(
          f'{failed} samples of the set {name} have no accuracy: python -m '
          'r1jax verify shows why the verifier failed. Repeat the command to '
          'continue; a scorer of your own must judge every answer'
        )
      hosts.run_once(
        lambda: files.write_jsonl(
          path, sample_lines(config, samples, rewards.parts, verifier)
        )
      )
      means = held_out.summary(samples, rewards)
      del means['reward']  # It equals the accuracy.
      done += len(numbers)
      progress.show(done, means, f'of {name}')
      hosts.raise_if_terminating()


def sample_lines(
  config: Config,
  samples: Samples,
  parts: dict,
  verifier: verifiers.Verifiers,
) -> list[dict]:
  """The samples with their rewards and votes as JSON."""
  label = registry.labels([config.format])[config.format]
  # Partial credit is a reward; only full credit counts as right.
  accuracy = [float(value == 1) for value in parts['accuracy']]
  vote = votes.groups(
    verifier, samples.records, samples.texts, accuracy, config.samples
  )
  lines = []
  for n, record in enumerate(samples.records):
    can_vote, extracted = votes.can_vote(verifier, record), None
    if can_vote:
      extracted = verifier.final_answer(record, samples.texts[n])
    lines.append(
      dict(
        id=record['id'],
        prompt=record['prompt'],
        answer=record.get('answer'),
        response=samples.texts[n],
        extracted=extracted,
        can_vote=can_vote,
        vote=vote[n],
        accuracy=accuracy[n],
        format=float(parts[label][n]),
        language=float(parts['language'][n]),
        finished=bool(samples.rows.finished_B[n]),
        length=int(samples.length_N[n]),
      )
    )
  return lines


def write_results(
  config: Config, inputs: evaluate_config.Inputs, workdir: Path
) -> dict[str, Any]:
  """Writes the tables of the samples in workdir/chunks. results.json is written
  last: its existence marks the run as finished. Returns its content."""
  majority_k = config.majority_k or config.samples
  sets, pairs, shown = {}, {}, []
  for name in inputs.sets:
    lines = scores.read_lines(workdir, name)
    sets[name] = scores.score(lines, config.samples, config.pass_k, majority_k)
    if name in inputs.baseline:
      pairs[name] = scores.paired(lines, inputs.baseline[name], config.baseline)
    shown += shown_samples(name, lines)
  protocol = dict(
    temperature=config.sample.temperature,
    top_p=config.sample.top_p,
    max_new_tokens=config.sample.max_new_tokens,
    template=config.prompt.template,
    seed=config.seed,
  )
  results = dict(model=config.init, protocol=protocol, sets=sets, paired=pairs)
  results['codeforces'] = inputs.codeforces
  rows = [(workdir.resolve().name, results), *inputs.compared]
  text = tables.markdown(rows)
  files.write_text(workdir / 'results.md', text)
  files.write_text(workdir / 'results.html', tables.page(rows, shown))
  content = json.dumps(results, indent=2) + '\n'
  files.write_text(workdir / 'results.json', content)
  print(text, end='', flush=True)
  return results


def shown_samples(name: str, lines: list[dict]) -> list[tuple[str, str, str]]:
  """(heading, prompt, response) of SHOWN samples, evenly spaced over a set."""
  shown = []
  for line in lines[:: max(1, len(lines) // SHOWN)][:SHOWN]:
    correct = 'correct' if line['accuracy'] else 'wrong'
    truncated = '' if line['finished'] else ', truncated'
    heading = f'{name}, {line["id"]}: {correct}'
    if line['can_vote']:
      heading += f', answer {line["extracted"]}'
    if line['answer'] is not None:
      golds = gold_answers.alternatives(line['answer'])
      heading += f', gold {" or ".join(map(str, golds))}'
    heading += f', {line["length"]} tokens{truncated}'
    shown.append((heading, line['prompt'], line['response']))
  return shown
