"""What wastes the hours of a pod and can be seen before: keys that cannot work
together, responses that can never end or be right, groups without a signal, a
sampler and a trainer that disagree."""

import dataclasses
import functools
import pathlib
import types

import jax
import numpy as np

from r1jax import config as configs
from r1jax import (
  data,
  errors,
  generate,
  gguf_file,
  grpo,
  parallel,
  policy,
  rewards,
  rl_config,
  spmd,
  tokenizer,
)
from r1jax.preflight import respond, sizes

SMALL = 2e8  # parameters of a model that is tried out here
RECORDS, SAMPLES, TOKENS = 8, 8, 256  # of what is tried


@dataclasses.dataclass(frozen=True)
class Check:
  name: str
  good: bool | None  # None: it could not be looked at
  text: str

  @property
  def line(self):
    mark = {True: 'ok ', False: 'BAD', None: ' - '}[self.good]
    return f'{mark} {self.name}: {self.text}'


def everything(plan, pass_rate=None):
  """The Checks, one after another."""
  c, place = plan.c, types.SimpleNamespace(rows=plan.shards)
  yield held(
    'keys', 'nothing that excludes each other', rl_config.check, c, place
  )
  yield held(
    'positions', f'rows of {plan.row_len:,} tokens, {plan.cfg.max_len:,} known',
    policy.check_length, plan.cfg, plan.row_len,
  )  # fmt: skip
  yield effects(plan)
  try:
    records, _ = rl_config.load_records(c)
    yield Check('records', True, f'{len(records):,} of {c.prompts}')
  except errors.UserError as error:
    made = c.prompts.startswith(('toy:', 'gym:'))
    missing = not made and not pathlib.Path(c.prompts).exists()
    yield Check('records', None if missing else False, str(error))
    records = []
  words = tokenizer_of(c.init)
  if words and records:
    yield from respond.checks(Check, c, words, records)
  else:
    lack = 'records' if words else f'tokenizer of {c.init or "config.init"}'
    yield Check('ends and format', None, f'the {lack} is not on this machine')
  yield from tried(plan, words, records, pass_rate)


def held(name, good, check, *arguments):
  """A Check of what raises a UserError where it does not hold."""
  try:
    check(*arguments)
  except errors.UserError as error:
    return Check(name, False, str(error))
  return Check(name, True, good)


def effects(plan):
  """Keys that were set and do nothing with the others as they are."""
  c = plan.c
  standard = configs.defaults(rl_config.Config).to_dict()
  found = configs.changes(standard, dataclasses.asdict(c))
  changed = {key for key, _, _ in found}
  idle = [
    f'{key} ({why})'
    for why, keys in without_effect(plan).items()
    for key in keys
    if key in changed
  ]
  text = '; '.join(idle) or 'every key that was set does something'
  return Check('effects', not idle, text)


def without_effect(plan):
  """{why: keys that have no effect}."""
  c, found = plan.c, {}
  if not c.grpo.beta:
    found['grpo.beta is 0'] = ['grpo.kl', 'grpo.ref_every', 'teacher']
  if c.teacher:
    found['a teacher stays as it is'] = ['grpo.ref_every']
  if grpo.on_policy(c.grpo):
    found['one update a rollout: the ratio is 1'] = [
      'grpo.clip_low', 'grpo.clip_high',
    ]  # fmt: skip
  if not c.prompt.tool:
    found['there is no prompt.tool'] = ['prompt.calls', 'prompt.result_len']
  if not c.by_domain:
    found['by_domain is empty'] = ['domains_from']
  if not c.eval.every:
    names = ('data', 'held_out', 'samples', 'temperature')
    found['eval.every is 0'] = [f'eval.{name}' for name in names]
  if c.optim.schedule == 'constant':
    found['optim.schedule is constant'] = ['optim.final']
  if c.sample.slots > plan.samples:
    found[f'a shard has {plan.samples} samples'] = ['sample.slots']
  return found


def tokenizer_of(init):
  """The tokenizer of a local checkpoint, weights unread; None without one."""
  source = pathlib.Path(init)
  if init and source.is_dir():
    return tokenizer.load(source)
  if init and source.is_file():
    words = gguf_file.read(source)[2]
    return words and tokenizer.HFTokenizer(
      words[0], tokenizer.Settings(**words[1])
    )
  return None


def tried(plan, words, records, pass_rate):
  """Sampler against trainer and the share of dead groups, from the model."""
  c, G = plan.c, plan.c.grpo.group
  size = sum(np.prod(a.shape) for _, a in sizes.leaves(plan.cfg))
  reason = ''
  if not (words and records):
    reason = 'the model or its records are not on this machine'
  elif size > SMALL:
    reason = f'{size / 1e9:.2f} B parameters are too many for this machine'
  if reason:
    yield Check('sampler and trainer', None, reason)
  else:
    params, cfg, words = policy.load(c.init, c.compute, None, c.seed)
    samples = sampled(c, params, cfg, words, records)
    yield agreement(c, params, cfg, samples)
    if pass_rate is None:
      yield measured_dead(c, samples, G)
      return
  if pass_rate is None:
    yield Check('dead groups', None, f'{reason}; say --pass-rate')
    return
  share = dead(np.array([pass_rate]), G)
  yield Check(
    'dead groups', bool(share < 0.9),
    f'{share:.0%} at a pass rate of {pass_rate:g} and {G} samples',
  )  # fmt: skip


def dead(rate_P, G):
  """The mean chance that G samples are all right or all wrong."""
  return float(np.mean(rate_P**G + (1 - rate_P) ** G))


def sampled(c, params, cfg, words, records):
  """A few samples of a few records, on one device of this machine."""
  index = data.prompt_indices(
    c.seed, 0, min(RECORDS, len(records)), len(records)
  )
  chosen = [records[i] for i in index]
  place = parallel.placement(parallel.ParallelConfig(), jax.local_devices()[:1])
  width = max(map(len, generate.encode(words, chosen, c.prompt)))
  plain = dataclasses.replace(c.prompt, tool='')
  sc = dataclasses.replace(c.sample, slots=RECORDS * SAMPLES)
  generator = generate.Generator(
    functools.partial(spmd.map_rows, place), 1,
    dataclasses.replace(cfg, scan_layers=True, remat='none'),
    words, plain, sc, lambda records, texts: None, width,
  )  # fmt: skip
  return generator(
    params, chosen, np.arange(len(chosen)), jax.random.key(c.seed), SAMPLES,
    c.sample.temperature, min(c.sample.max_new, TOKENS),
  )  # fmt: skip


def agreement(c, params, cfg, samples):
  """log-probabilities of drawn tokens, by the sampler and by the trainer."""
  bare = samples.rollout.replace(steps=None, live=None)
  rows = jax.tree.map(lambda a: a[::SAMPLES], bare)  # one a record
  score = jax.jit(grpo.make_score(cfg, c.sample.temperature))
  logp_BL = score(params, dict(tokens_BL=rows.tokens_BL, pos_BL=rows.pos_BL))
  apart = np.abs(np.asarray(logp_BL) - rows.logp_BL)[rows.mask_BL]
  limit = 1e-3 if c.compute.dtype == 'float32' else 0.05
  return Check(
    'sampler and trainer', bool(apart.mean() < limit),
    f'|delta log p| of {apart.size} tokens in {c.compute.dtype}: mean '
    f'{apart.mean():.1e}, largest {apart.max():.1e}',
  )  # fmt: skip


def measured_dead(c, samples, G):
  weights = {
    name: w for name, w in c.rewards.items() if name in rewards.REWARDS
  }
  _, parts = rewards.total(weights, samples.records, samples.texts, c.by_domain)
  if 'accuracy' not in parts:
    return Check('dead groups', None, 'no accuracy among config.rewards')
  right_PG = np.nan_to_num(parts['accuracy']).reshape(-1, SAMPLES) > 0.5
  rate_P = right_PG.mean(axis=1)
  share = dead(rate_P, G)
  return Check(
    'dead groups', bool(share < 0.9),
    f'{share:.0%} of groups of {G}, at the base\'s pass rates on '
    f'{len(rate_P)} records, {rate_P.mean():.2f} on average',
  )  # fmt: skip
