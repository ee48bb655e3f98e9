"""What wastes the hours of a pod and can be seen before: keys that cannot work
together, responses that can never end or be right, groups without a signal, a
sampler and a trainer that disagree."""

import dataclasses
import pathlib
import types

import jax
import numpy as np

from r1jax import config as configs
from r1jax import errors
from r1jax.checkpoints import gguf_file, policy, tokenization
from r1jax.data import record_files, templates
from r1jax.distributed import device_placement
from r1jax.preflight import respond, sizes
from r1jax.rewards import registry
from r1jax.rl import grpo, rl_config
from r1jax.sampling import generate

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
    'positions',
    f'rows of {plan.row_len:,} tokens, {plan.cfg.max_len:,} known',
    policy.check_length,
    plan.cfg,
    plan.row_len,
  )
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
  if not c.grpo.kl_coef:
    found['grpo.kl_coef is 0'] = [
      'grpo.kl_estimator',
      'grpo.ref_every',
      'teacher',
    ]
  if c.teacher:
    found['a teacher stays as it is'] = ['grpo.ref_every']
  if grpo.is_on_policy(c.grpo):
    found['one update a rollout: the ratio is 1'] = [
      'grpo.clip_low',
      'grpo.clip_high',
    ]
  if not c.prompt.tool:
    found['there is no prompt.tool'] = ['prompt.calls', 'prompt.result_len']
  if not c.by_domain:
    found['by_domain is empty'] = ['domains_from']
  if not c.eval.every:
    names = ('data', 'held_out', 'samples', 'temperature')
    found['eval.every is 0'] = [f'eval.{name}' for name in names]
  if c.optim.schedule == 'constant':
    found['optim.schedule is constant'] = ['optim.final']
  if c.sample.decode_slots > plan.samples:
    found[f'a shard has {plan.samples} samples'] = ['sample.decode_slots']
  return found


def tokenizer_of(init):
  """The tokenizer of a local checkpoint, weights unread; None without one."""
  source = pathlib.Path(init)
  if init and source.is_dir():
    return tokenization.load(source)
  if init and source.is_file():
    words = gguf_file.read(source)[2]
    return words and tokenization.HFTokenizer(
      words[0], tokenization.Settings(**words[1])
    )
  return None


def tried(plan, words, records, pass_rate):
  """Sampler against trainer and the share of dead groups, from the model."""
  c, G = plan.c, plan.c.grpo.group_size
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
    'dead groups',
    bool(share < 0.9),
    f'{share:.0%} at a pass rate of {pass_rate:g} and {G} samples',
  )


def dead(rate_P, G):
  """The mean chance that G samples are all right or all wrong."""
  return float(np.mean(rate_P**G + (1 - rate_P) ** G))


def sampled(c, params, cfg, words, records):
  """A few samples of a few records, on one device of this machine."""
  index = record_files.prompt_indices(
    c.seed, 0, min(RECORDS, len(records)), len(records)
  )
  chosen = [records[i] for i in index]
  place = device_placement.placement(
    device_placement.ParallelConfig(), jax.local_devices()[:1]
  )
  width = max(map(len, templates.encode_prompts(words, chosen, c.prompt)))
  plain = dataclasses.replace(c.prompt, tool='')
  sample = dataclasses.replace(c.sample, decode_slots=RECORDS * SAMPLES)
  sampler = generate.Sampler(
    place, cfg, words, plain, sample, width, scan_layers=True
  )
  return sampler.sample(
    params,
    chosen,
    np.arange(len(chosen)),
    jax.random.key(c.seed),
    SAMPLES,
    max_new_tokens=min(c.sample.max_new_tokens, TOKENS),
  )


def agreement(c, params, cfg, samples):
  """log-probabilities of drawn tokens, by the sampler and by the trainer."""
  bare = samples.rows.replace(steps=None, live=None)
  rows = jax.tree.map(lambda a: a[::SAMPLES], bare)  # one a record
  score = jax.jit(grpo.make_logprobs(cfg, c.sample.temperature))
  logp_BL = score(params, dict(tokens_BL=rows.tokens_BL, pos_BL=rows.pos_BL))
  apart = np.abs(np.asarray(logp_BL) - rows.logp_BL)[rows.mask_BL]
  limit = 1e-3 if c.compute.dtype == 'float32' else 0.05
  return Check(
    'sampler and trainer',
    bool(apart.mean() < limit),
    f'|delta log p| of {apart.size} tokens in {c.compute.dtype}: mean '
    f'{apart.mean():.1e}, largest {apart.max():.1e}',
  )


def measured_dead(c, samples, G):
  weights = {
    name: w for name, w in c.rewards.items() if name in registry.REWARDS
  }
  _, parts = registry.weighted_rewards(
    weights, samples.records, samples.texts, c.by_domain
  )
  if 'accuracy' not in parts:
    return Check('dead groups', None, 'no accuracy among config.rewards')
  right_PG = np.nan_to_num(parts['accuracy']).reshape(-1, SAMPLES) > 0.5
  rate_P = right_PG.mean(axis=1)
  share = dead(rate_P, G)
  return Check(
    'dead groups',
    bool(share < 0.9),
    f"{share:.0%} of groups of {G}, at the base's pass rates on "
    f'{len(rate_P)} records, {rate_P.mean():.2f} on average',
  )
