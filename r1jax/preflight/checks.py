"""Checks before a run starts: config, records, ideal responses, and samples of
the model if it is local and small."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from r1jax import config as configs
from r1jax import errors
from r1jax.checkpoints import gguf_file, policy, tokenization
from r1jax.data import templates
from r1jax.data.sources import source_rows
from r1jax.preflight import host_memory, ideal_response, shapes, trial
from r1jax.preflight.plan import Plan
from r1jax.rewards import verifiers
from r1jax.rewards.code import unit_tests
from r1jax.rl import grpo_config, rl_config, rl_records
from r1jax.sampling import page_table

RECORDS = 64  # that are checked
MAX_DEAD_SHARE = 0.9
MAX_LOGP_DIFFERENCE = dict(float32=1e-3, bfloat16=0.05)  # mean, by dtype


class Check(NamedTuple):
  """good is None if something needed is not on this machine."""

  name: str
  good: bool | None
  text: str

  @property
  def line(self) -> str:
    """The check as a line of the report."""
    if self.good is None:
      return f' -  {self.name}: {self.text}'
    return f'{"ok " if self.good else "BAD"} {self.name}: {self.text}'


def run_checks(plan: Plan, pass_rate: float | None = None) -> Iterator[Check]:
  """All checks, one after another. `pass_rate` replaces that of the model."""
  config = plan.config
  yield _check_keys(plan)
  yield _check_positions(plan)
  yield _check_host_memory(plan)
  yield _check_effects(config, plan.samples)
  records, check = _check_records(config)
  yield check
  tokenizer = _load_tokenizer(config.init)
  if tokenizer and records:
    yield from _check_responses(config, tokenizer, records)
  else:
    missing = 'records are' if tokenizer else f'tokenizer of {config.init} is'
    yield Check('ends and format', None, f'the {missing} not on this machine')
  yield from _check_samples(plan, tokenizer, records, pass_rate)


def _check_keys(plan):
  """The checks that the rl stage makes of its config."""
  config = plan.config
  try:
    rl_config.check(config)
    rl_config.check_shards(config, plan.num_shards, plan.row_len)
    rl_config.check_sharing(config, plan.cfg)
    page_table.check(config.sample, plan.row_len)
    page_table.check_kernel(plan.decode_cfg, config.sample)
  except errors.UserError as error:
    return Check('keys', False, str(error))
  return Check('keys', True, 'no keys conflict')


def _check_positions(plan):
  try:
    policy.check_length(plan.cfg, plan.row_len)
  except errors.UserError as error:
    return Check('positions', False, str(error))
  text = f'rows of {plan.row_len:,} tokens, the model has {plan.cfg.max_len:,}'
  return Check('positions', True, text)


def _check_host_memory(plan):
  needs, memory = host_memory.needs(plan), plan.pod.host_memory
  parts = ', '.join(f'{name} {n / 1e9:,.0f}' for name, n in needs.items())
  good = max(needs.values()) <= memory
  text = f'{parts} of {memory / 1e9:,.0f} GB of a host, by formula'
  if not good:
    text += ': take a machine type with more memory or a smaller model'
  return Check('host memory', good, text)


def _check_effects(config, shard_samples):
  """Keys that differ from their default but have no effect."""
  keys = {}  # by the reason why they have none
  if not config.grpo.kl_coef:
    names = 'grpo.kl_estimator grpo.ref_every teacher'
    keys['config.grpo.kl_coef is 0'] = names
  if config.teacher:
    keys['config.teacher is never refreshed'] = 'grpo.ref_every'
  if grpo_config.is_on_policy(config.grpo):
    names = 'grpo.clip_low grpo.clip_high'
    keys['one update a rollout: the ratio is 1'] = names
  if not config.prompt.tool:
    keys['config.prompt.tool is empty'] = 'prompt.calls prompt.result_len'
  if not config.by_domain:
    keys['config.by_domain is empty'] = 'domains_from'
  if not config.eval.every:
    # eval.data and held_out still say which records are not trained on.
    names = 'eval.samples eval.temperature eval.prompts_per_chunk'
    keys['config.eval.every is 0'] = names
  if config.optim.schedule == 'constant':
    keys['config.optim.schedule is constant'] = 'optim.final'
  if config.sample.decode_slots > shard_samples:
    keys[f'a shard has {shard_samples} samples'] = 'sample.decode_slots'
  if not config.sample.cache_tokens:
    keys['config.sample.cache_tokens is 0'] = 'sample.page_tokens'
  standard = configs.defaults(rl_config.Config).to_dict()
  changed, found = configs.changes(standard, dataclasses.asdict(config)), []
  for reason, names in keys.items():
    some = [name for name in names.split() if name in changed]
    found += [f'config.{name} ({reason})' for name in some]
  if found:
    return Check('effects', False, f'no effect: {"; ".join(found)}')
  return Check('effects', True, 'all changed keys have an effect')


def _check_records(config):
  """(records, their Check)."""
  try:
    records, _ = rl_records.load_records(config)
  except errors.UserError as error:
    is_file = not config.prompts.startswith(('toy:', 'gym:'))
    place = source_rows.parse(config.prompts).place
    missing = is_file and not pathlib.Path(place).exists()
    return [], Check('records', None if missing else False, str(error))
  text = f'{len(records):,} of {config.prompts_name}'
  return records, Check('records', True, text)


def _load_tokenizer(init):
  """The tokenizer of a local checkpoint, without its weights."""
  source = pathlib.Path(init)
  if init and source.is_dir():
    return tokenization.load(source)
  if init and source.is_file() and not shapes.is_config(source):
    return gguf_file.GgufReader(source).tokenizer()
  return None


def _check_responses(config, tokenizer, records):
  """Prompts, end tokens and ideal responses."""
  records = records[:: max(1, len(records) // RECORDS)][:RECORDS]
  try:
    records, longest = templates.fitting(
      tokenizer,
      records,
      config.prompt,
      config.skip_bad_records,
      config.drop_too_long,
    )
  except errors.UserError as error:
    yield Check('prompts', False, str(error))
    return
  text = f'at most {longest} tokens in {len(records)} records; '
  text += f'config.prompt.max_len is {config.prompt.max_len}'
  yield Check('prompts', True, text)
  made = [templates.make_prompt(tokenizer, x, config.prompt) for x in records]
  for one, record in {
    x.opening: (x, y) for x, y in zip(made, records)
  }.values():
    question = record['prompt']
    problem = ideal_response.thinking_problem(config, one, question)
    text = problem or ideal_response.describe_opening(config, one)
    yield Check('begin of responses', not problem, text)
  problem = ideal_response.end_token_problem(config, tokenizer)
  eos_ids = config.sample.eos_ids or tokenizer.eos_ids
  names = ideal_response.named_ids(tokenizer, eos_ids)
  text = problem or names or 'none, only stop strings'
  yield Check('end token', not problem, text)
  prompts = templates.encode_prompts(tokenizer, records, config.prompt)
  count, found = 0, []
  with verifiers.Verifiers(config.verify) as verifier:
    for record, prompt in zip(records, prompts):
      if not _has_gold_text(record):
        continue
      count += 1
      problem = ideal_response.problem(
        config, tokenizer, record, prompt, verifier.rules
      )
      if problem:
        found.append(errors.printable(f'record {record["id"]}: {problem}'))
  good, text = True, f'all {count} end and get every reward'
  if not count:
    good, text = None, 'all answers are programs or have no single gold'
  elif found:
    good, text = False, f'{len(found)} of {count} fail: {found[0]}'
  yield Check('ideal responses', good, text)


def _has_gold_text(record):
  """Whether an ideal response can be made: not for programs, nor for a scorer
  that has no gold answer or one that is no text."""
  gold = record.get('answer', None if 'scorer' in record else '')
  return isinstance(gold, str) and not unit_tests.is_code(record)


def _check_samples(plan, tokenizer, records, pass_rate):
  """Sampler against trainer, and the share of dead groups."""
  config, dtype = plan.config, plan.config.compute.dtype
  count, reason, rate_P = shapes.num_parameters(plan.cfg), '', None
  if tokenizer is None or not records:
    reason = 'the model or its records are not on this machine'
  elif count > trial.MAX_PARAMETERS:
    reason = f'{count / 1e9:.2f} B parameters are too many to sample'
  if reason:
    yield Check('sampler and trainer', None, reason)
    reason += '; set --pass-rate'
  else:
    model = trial.load(config)
    samples = trial.sample(config, model, records)
    error_N = trial.logp_errors(config, model, samples)
    mean, size = error_N.mean(), error_N.size
    text = f'|delta log p| of {size} tokens in {dtype}: mean {mean:.1e}, max. '
    good = bool(mean < MAX_LOGP_DIFFERENCE[dtype])
    yield Check('sampler and trainer', good, f'{text}{error_N.max():.1e}')
    with verifiers.Verifiers(config.verify) as verifier:
      rate_P = trial.pass_rates(config, samples, verifier.rules)
    reason = 'config.rewards has no accuracy'
  if pass_rate is not None:
    rate_P = np.array([pass_rate])
  if rate_P is None:
    yield Check('dead groups', None, reason)
  else:
    size, mean = config.grpo.group_size, rate_P.mean()
    share = trial.dead_share(rate_P, size)
    text = f'{share:.0%} of groups of {size} samples, at a mean pass rate of '
    yield Check('dead groups', share < MAX_DEAD_SHARE, f'{text}{mean:.2g}')
