"""Rejection sampling: a policy's correct and readable responses, balanced and
mixed with other records, as data for the sft stage (R1, B.3.3)."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import NamedTuple

import jax
import ml_collections
import numpy as np

from r1jax import files
from r1jax.checkpoints import policy
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record
from r1jax.distributed import device_placement, hosts, watchdog
from r1jax.rejection import filters, llm_judge, reject_config, result
from r1jax.rejection.reject_config import Config
from r1jax.rewards import outage, pending, registry, verifiers
from r1jax.rewards.pending import Rewards
from r1jax.rewards.registry import Reward
from r1jax.sampling import loading
from r1jax.sampling.generate import Samples
from r1jax.sampling.loading import SamplingModel
from r1jax.training import closing, memory_errors, run_directory
from r1jax.training.config_changes import NO_CHANGE, Change
from r1jax.training.progress import Progress


class Run(NamedTuple):
  """What stays the same from the first chunk of a run to the last."""

  config: Config
  records: list[Record]
  rules: dict[str, Reward]
  policy: SamplingModel
  judge: SamplingModel | None  # None if no record needs the LLM judge


def run(
  settings: ml_collections.ConfigDict,
  workdir: str | Path,
  change: Change = NO_CHANGE,
) -> None:
  """Writes records.jsonl for the sft stage, rejected.jsonl and counts.json."""
  workdir, began = Path(workdir), time.monotonic()
  directory = run_directory.open_directory(
    workdir, Config, settings, change, run_directory.ONE_CONFIG
  )
  config = directory.config
  reject_config.check(config)
  records, mixed = reject_config.load(config)
  with memory_errors.explained('loading of the model', config):
    model, judge, records = load_models(config, records)
  names = registry.user_names(config.min_rewards)
  verified = reject_config.verified_records(config, records)
  with verifiers.Verifiers(config.verify, verified, names) as verifier:
    claimed = run_directory.claim(
      directory,
      'records.jsonl',
      records + mixed,
      scored=verified,
      sandbox=verifier.tier_name,
    )
    if claimed is None:
      return
    run_directory.record_changes(claimed, claimed.progress)
    run = Run(config, records, verifier.rules, model, judge)
    samples = sample_all(run, workdir / 'chunks')
  hosts.run_once(lambda: result.write(config, records, mixed, samples, workdir))
  path = workdir / 'records.jsonl'
  did = f'{len(records)} prompts with {config.samples} samples each'
  data = f'--config.data={path}'
  train = closing.command('sft', '--config', 'FILE', '--workdir', 'DIR', data)
  following = {train: 'train on them'}
  closing.show('', did, began, f'the records are {path}', following)


def load_models(
  config: Config, records: list[Record]
) -> tuple[SamplingModel, SamplingModel | None, list[Record]]:
  """(the policy, the LLM judge or None if no record needs it, the records that
  are not too long for either)."""
  placement = device_placement.placement(config.parallel)
  model, prompt_width, records = loading.load_policy(
    config, placement, records, config.sample.max_new_tokens
  )
  sampler = loading.make_sampler(config, placement, model, prompt_width)
  params = loading.put_frozen(placement, model)
  sampling_policy = SamplingModel(sampler, params)
  if not any(llm_judge.needs_judge(config.judge, x) for x in records):
    return sampling_policy, None, records
  judge = config.judge
  if judge.init != config.init:
    model = policy.load(judge.init, config.compute, None, config.seed)
    params = loading.put_frozen(placement, model)
  bad = BadRecords(config.skip_bad_records, drop_too_long=config.drop_too_long)
  records = llm_judge.short_enough(judge, model, records, bad)
  bad.finish(len(records), config.data)
  config = dataclasses.replace(config, prompt=judge.prompt, sample=judge.sample)
  sampler = loading.make_sampler(config, placement, model, judge.prompt.max_len)
  return sampling_policy, SamplingModel(sampler, params), records


def sample_all(run: Run, folder: Path) -> list[dict]:
  """The samples of all records, each with the reason for its rejection or ''.
  Each chunk of prompts has a file, written once, then read."""
  hosts.run_once(lambda: folder.mkdir(exist_ok=True))
  names = hosts.run_once(lambda: [path.name for path in folder.iterdir()])
  size, total = run.config.prompts_per_chunk, len(run.records)
  starts = range(0, total, size)
  paths = [folder / f'{start // size:05}.jsonl' for start in starts]
  samples: list[dict] = []
  saved = [path for path in paths if path.name in names]
  done = min(len(saved) * size, total)
  if saved:
    print(f'continues from prompt {done} of {folder.parent}')
  with contextlib.closing(Progress(total, done, unit='prompts')) as progress:
    for start, path in zip(starts, paths):
      if path in saved:
        samples += files.read_jsonl(path)
        continue
      began = time.time()
      chunk = sample_chunk(run, start)
      hosts.run_once(lambda: files.write_jsonl(path, chunk))
      samples += chunk
      tokens = sum(sample['length'] for sample in chunk)
      numbers = dict(
        tokens_per_s=tokens / (time.time() - began),
        accepted=np.mean([not sample['reason'] for sample in samples]),
      )
      reasons = f'rejected: {filters.summarize_reasons(samples)}'
      done = min(done + size, total)
      progress.show(done, numbers, reasons)
      hosts.raise_if_terminating()
  return samples


def sample_chunk(run: Run, start: int) -> list[dict]:
  """The samples of the chunk of prompts that begins with record `start`."""
  k, (sampler, params) = run.config.samples, run.policy
  records = run.records[start : start + run.config.prompts_per_chunk]
  numbers = start + np.arange(len(records))
  key = jax.random.fold_in(jax.random.key(run.config.seed), 0)
  size = min(run.config.prompts_per_chunk, len(run.records))
  with memory_errors.explained('rollout', run.config):
    samples = sampler.sample(params, records, numbers, key, k, num_prompts=size)
  reasons = rule_reasons(run, samples)
  reasons = judged_reasons(run, samples, reasons, start * k)
  return [
    dict(
      number=start + n // k,
      id=f'{record["id"]}/{n % k}',
      domain=record['domain'],
      response=samples.texts[n],
      length=int(samples.length_N[n]),
      reason=reasons[n],
    )
    for n, record in enumerate(samples.records)
  ]


def rule_reasons(run: Run, samples: Samples) -> list[str]:
  """Why each sample is rejected without the LLM judge, or ''. A collective."""
  count, tries = len(samples.texts), 0
  # Finished chunks are saved, so SIGTERM need not wait for a user's reward.
  with watchdog.exit_early_if(lambda: True):
    rewards = min_rewards(run, samples)
    while outage.spoils(rewards.outages, count):
      outage.pause(rewards.outages, count, tries)
      rewards, tries = min_rewards(run, samples), tries + 1
  parts = rewards.parts
  return [_rule_reason(run.config, samples, parts, n) for n in range(count)]


def min_rewards(run: Run, samples: Samples) -> Rewards:
  """The rewards of config.min_rewards by name, infinite where a record does not
  need one. A collective."""
  config, own = run.config, hosts.own_rows(len(samples.texts))
  records, texts = samples.records[own], samples.texts[own]
  parts, outage_N = {}, np.zeros(len(texts), bool)
  for name in config.min_rewards:
    index = list(range(len(texts)))
    if name == 'accuracy':
      # Where the LLM judge is needed, it replaces the accuracy reward.
      index = [
        n for n in index if not llm_judge.needs_judge(config.judge, records[n])
      ]
    rows, answers = [records[n] for n in index], [texts[n] for n in index]
    scores = registry.scores({name: 1.0}, rows, answers, rules=run.rules)
    parts[name] = np.full(len(texts), np.inf, np.float32)
    parts[name][index] = scores.reward_N
    outage_N[index] |= scores.outage_N
  total_N = np.zeros(len(texts), np.float32)  # is not used
  return pending.gather(registry.Scores(total_N, parts, outage_N))


def _rule_reason(config, samples, rewards, n):
  if not samples.rows.finished_B[n]:
    return 'truncated'
  for name, min_reward in config.min_rewards.items():
    if np.isnan(rewards[name][n]):
      return 'verifier failed'
    if rewards[name][n] < np.float32(min_reward):
      return name
  record, text = samples.records[n], samples.texts[n]
  return filters.reject_reason(config.filters, record, text)


def judged_reasons(
  run: Run, samples: Samples, reasons: list[str], first_number: int
) -> list[str]:
  """The reasons, with those of the LLM judge for samples that need it and have
  no other. first_number is that of the first sample in the run."""
  reasons, config, judge = list(reasons), run.config.judge, run.judge
  if judge is None:
    return reasons
  questions = {}
  for n, record in enumerate(samples.records):
    if reasons[n] or not llm_judge.needs_judge(config, record):
      continue
    question = llm_judge.question(config, record, samples.texts[n])
    if llm_judge.fits(config, judge.sampler.tokenizer, question):
      questions[first_number + n] = question
    else:
      reasons[n] = 'too long for the judge'
  size = run.config.prompts_per_chunk
  key = jax.random.fold_in(jax.random.key(run.config.seed), 1)
  with memory_errors.explained('rollout', run.config):
    verdicts = llm_judge.verdicts(config, judge, questions, key, size)
  for number, verdict in verdicts.items():
    reasons[number - first_number] = '' if verdict == 'correct' else verdict
  return reasons
