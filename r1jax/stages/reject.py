"""Rejection sampling: a policy's correct and readable responses, balanced and
mixed with other records, for sft to learn from (R1, B.3.3)."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time

import jax
import ml_collections
import numpy as np

from r1jax import config as configs
from r1jax import errors, files
from r1jax.checkpoints import policy
from r1jax.data import record_files, templates
from r1jax.distributed import device_placement, hosts
from r1jax.rejection import filters, llm_judge, reject_config
from r1jax.rejection.reject_config import Config
from r1jax.rewards import pending, registry, verifiers
from r1jax.sampling.generate import Sampler, Samples
from r1jax.training import metrics, run_directory

KEYS = 'id', 'turns', 'prompt', 'answer', 'response', 'domain'  # as sft reads


@dataclasses.dataclass(frozen=True)
class Run:
  """What stays the same from the first chunk of a run to the last."""

  config: Config
  records: list[dict]
  rules: dict[str, registry.Reward]
  sampler: Sampler
  params: dict  # on the devices
  judge: Sampler | None
  judge_params: dict | None

  @property
  def key(self) -> jax.Array:
    return jax.random.key(self.config.seed)


def run(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> None:
  """Leaves records.jsonl for sft, and beside it rejected.jsonl, counts.json."""
  settings, config = config, configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  placement = device_placement.placement(config.parallel)
  reject_config.check(config)
  records, mixed = reject_config.load(config)
  judged = [x for x in records if llm_judge.judges(config.judge, x)]
  model, judge, prompt_width = load_models(config, placement, records, judged)
  with verifiers.open_verifiers(config.verify, records) as verifier:
    if run_directory.claim(
      workdir,
      Config,
      settings,
      'records.jsonl',
      records=records + mixed,
      sandbox=verifier.tier_name,
    ):
      return
    sampler = Sampler(
      placement,
      model.cfg,
      model.tokenizer,
      config.prompt,
      config.sample,
      prompt_width,
      config.compute.scan_decode,
    )
    judge_sampler = judge_params = None
    params = device_placement.put_state(placement, model.params)
    if judge:
      judge_sampler = Sampler(
        placement,
        judge.cfg,
        judge.tokenizer,
        config.judge.prompt,
        config.judge.sample,
        config.judge.prompt.max_len,
        config.compute.scan_decode,
      )
      judge_params = params
      if judge is not model:
        judge_params = device_placement.put_state(placement, judge.params)
    run = Run(
      config=config,
      records=records,
      rules=verifier.rules,
      sampler=sampler,
      params=params,
      judge=judge_sampler,
      judge_params=judge_params,
    )
    samples = sample_all(run, workdir / 'chunks')
    hosts.run_once(lambda: finish(run, mixed, samples, workdir))


def load_models(
  config: Config,
  placement: device_placement.Placement,
  records: list[dict],
  judged: list[dict],
) -> tuple[policy.Policy, policy.Policy | None, int]:
  """(the policy, the LLM judge if one is needed, the longest prompt), checked."""
  model = policy.load(config.init, config.compute, None, config.seed)
  prompts = templates.encode_prompts(model.tokenizer, records, config.prompt)
  prompt_width = max(map(len, prompts))
  policy.check_length(
    model.cfg,
    prompt_width + config.sample.max_new_tokens + config.prompt.results_len,
  )
  device_placement.shardings(placement, model.params)  # refuses an uneven mesh
  if not judged:
    return model, None, prompt_width
  judge = model
  if config.judge.init != config.init:
    judge = policy.load(config.judge.init, config.compute, None, config.seed)
    device_placement.shardings(placement, judge.params)
  llm_judge.check_room(config.judge, judge, judged)
  return model, judge, prompt_width


def score(
  config: Config,
  rules: dict[str, registry.Reward],
  records: list[dict],
  texts: list[str],
) -> dict[str, np.ndarray]:
  """The rewards of config.min_rewards by name, of all rows. The accuracy is
  infinite where the LLM judge decides. A collective on several hosts."""
  own = hosts.own_rows(len(texts))
  records, texts = records[own], texts[own]
  parts = {}
  for name in config.min_rewards:
    rows = [
      n
      for n, record in enumerate(records)
      if name != 'accuracy' or not llm_judge.judges(config.judge, record)
    ]
    parts[name] = np.full(len(texts), np.inf, np.float32)
    parts[name][rows], _ = registry.weighted_rewards(
      {name: 1.0},
      [records[n] for n in rows],
      [texts[n] for n in rows],
      more=rules,
    )
  return pending.gather(None, parts).parts


def sample_all(run, folder):
  """Every sample, with the reason to reject it, chunk by chunk: those of an
  earlier process are read from their files."""
  hosts.run_once(lambda: folder.mkdir(exist_ok=True))
  done = hosts.run_once(lambda: [path.name for path in folder.iterdir()])
  c, total, samples = run.config, len(run.records), []
  began, first = time.time(), 0
  for start in range(0, total, c.prompts_per_chunk):
    path = folder / f'{start // c.prompts_per_chunk:05}.jsonl'
    if path.name in done:
      samples += files.read_jsonl(path)
      first = start + c.prompts_per_chunk
      continue
    if start and start == first:
      print(f'going on from prompt {start} of {folder.parent}')
    now = time.time()
    chunk = one_chunk(run, start)
    hosts.run_once(lambda: files.write_jsonl(path, chunk))
    samples += chunk
    rate = sum(x['length'] for x in chunk) / (time.time() - now)
    passed = np.mean([not x['reason'] for x in samples])
    end = min(start + c.prompts_per_chunk, total)
    speed = dict(tokens_per_s=rate)
    line = metrics.progress_line(end, total, speed, began, first)
    print(
      f'prompts{line.removeprefix("step")}  accepted {passed:.1%}  rejected: '
      f'{filters.reasons(samples)}',
      flush=True,
    )
    hosts.raise_if_terminating()
  return samples


def one_chunk(run: Run, start: int) -> list[dict]:
  """The samples of the prompts from `start` on, filtered and judged."""
  config = run.config
  records = run.records[start : start + config.prompts_per_chunk]
  samples = run.sampler.sample(
    run.params,
    records,
    start + np.arange(len(records)),
    jax.random.fold_in(run.key, 0),
    config.samples,
  )
  parts = score(config, run.rules, samples.records, samples.texts)
  chunk = [
    dict(
      number=start + n // config.samples,
      sample=n % config.samples,
      response=samples.texts[n],
      length=int(samples.length_N[n]),
      reason=reason(config, samples, parts, n),
    )
    for n in range(len(samples.texts))
  ]
  asked, questions = [], []
  for n, line in enumerate(chunk):
    record = samples.records[n]
    if line['reason'] or not llm_judge.judges(config.judge, record):
      continue
    question = llm_judge.question(config.judge, record, line['response'])
    if llm_judge.fits(config.judge, run.judge.tokenizer, question):
      asked.append(line)
      questions.append(question)
    else:
      line['reason'] = 'too long for the judge'
  if asked:
    verdicts = llm_judge.verdicts(
      config.judge,
      run.judge,
      run.judge_params,
      questions,
      [line['number'] * config.samples + line['sample'] for line in asked],
      jax.random.fold_in(run.key, 1),
      config.prompts_per_chunk,
    )
    for line, verdict in zip(asked, verdicts):
      line['reason'] = '' if verdict == 'correct' else verdict
  return chunk


def reason(
  config: Config, samples: Samples, parts: dict[str, np.ndarray], n: int
) -> str:
  """Why a sample is rejected before the LLM judge is asked, or ''."""
  if not samples.rows.finished_B[n]:
    return 'truncated'
  for name, min_reward in config.min_rewards.items():
    if np.isnan(parts[name][n]):
      return 'not judged'
    if parts[name][n] < np.float32(min_reward):
      return name
  return filters.fault(config.filters, samples.records[n], samples.texts[n])


def finish(run, mixed, samples, workdir):
  """Balances, counts, and writes; records.jsonl is last, the sign of the end."""
  c = run.config
  samples = [
    dict(x, id=f'{record["id"]}/{x["sample"]}', domain=record['domain'])
    for x in samples
    for record in [run.records[x['number']]]
  ]
  chosen = filters.balance(samples, c.per_prompt, c.per_domain, c.seed)
  kept = [run.records[x['number']] | x for x in chosen if not x['reason']]
  rejected = [x for x in chosen if x['reason']]
  rejected = only(('id', 'response', 'reason'), rejected)
  files.write_jsonl(workdir / 'rejected.jsonl', rejected)
  counts = filters.tally(c.samples, samples, chosen, mixed)
  text = json.dumps(counts, indent=2) + '\n'
  files.write_text(workdir / 'counts.json', text)
  said = filters.reasons(chosen)
  print(f'kept {len(kept)} of {len(samples)} samples; rejected: {said}')
  answers = {
    x['reason']
    for x in samples
    if llm_judge.judges(c.judge, run.records[x['number']])
  }
  if 'no verdict' in answers and not answers & {'', 'incorrect'}:
    raise errors.UserError(
      'the judge never answered: no reply to any question held a verdict; '
      f'nothing is lost, the samples are in {workdir / "chunks"}: try another '
      'config.judge.init, judge.question_template or judge.prompt with a new --workdir'
    )
  if not kept:
    raise errors.UserError(
      f'none of the {len(samples)} samples was kept ({said}), see '
      f'{workdir / "rejected.jsonl"}: raise config.k, train config.init '
      'further, or ask for less by config.min_rewards or config.filters, with a new '
      '--workdir'
    )
  records = kept + mixed
  order = record_files.prompt_indices(c.seed, 0, len(records), len(records))
  rows = only(KEYS, [records[n] for n in order])
  files.write_jsonl(workdir / 'records.jsonl', rows)


def only(keys, rows):
  """Of each row these keys."""
  return [{key: row[key] for key in keys if key in row} for row in rows]
