"""Reinforcement learning by GRPO: R1-Zero, reasoning RL and all-scenario RL are
this one stage with other rewards (R1, sections 2 and 3)."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np

from r1jax import (
  checkpoint,
  convert,
  data,
  errors,
  generate,
  grpo,
  held_out,
  metrics,
  parallel,
  policy,
  rewards,
  rl_config,
  train,
)
from r1jax import (
  config as configs,
)
from r1jax.rewards import preference

Config = rl_config.Config


@dataclasses.dataclass(frozen=True)
class Run:
  """What stays the same from the first step of a run to the last."""

  c: Config
  place: parallel.Placement
  records: list
  first_records: list  # until config.domains_from
  held: list
  generator: generate.Generator
  score: Callable  # (params, rows) -> logp_BL
  score_ref: Callable  # the same of the reference, which may be a teacher
  teacher: dict | None  # its parameters
  step: Callable  # (state, micro-batches) -> (state, sums)
  writer: metrics.Writer
  key: jax.Array
  first: int  # the step that this process began with
  started: float  # and when

  def max_new(self, step):
    """The length allowed to a rollout that begins after `step` updates."""
    starts = [new for first, new in self.c.longer if first <= step]
    return starts[-1] if starts else self.c.sample.max_new

  def evaluate(self, params, step):
    key = jax.random.fold_in(jax.random.fold_in(self.key, 1), step)
    return held_out.evaluate(
      self.c.eval, self.generator, params, self.held, key, self.max_new(step)
    )


def run(config, workdir):
  """Trains, and leaves the model in workdir/model as transformers opens it."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  place = parallel.placement(c.parallel)
  rl_config.check(c, place)
  records, held = rl_config.load_records(c)
  params, cfg, words = policy.load(c.init, c.compute, None, c.seed)
  width = max(map(len, generate.encode(words, records + held, c.prompt)))
  policy.check_length(cfg, width + max(c.lengths))
  parallel.shardings(place, params)  # Refuses what the mesh cannot cut.
  reward = functools.partial(
    rewards.total, c.rewards, by_domain=c.by_domain,
    more={
      name: preference.load(
        path, c.compute, functools.partial(parallel.map_rows, place), c.micro,
        functools.partial(parallel.put_state, place),
      )
      for name, path in c.reward_models.items()
    },
  )  # fmt: skip
  teacher, ref_cfg = load_teacher(c, place, words) if c.teacher else (None, cfg)
  configs.claim(workdir, Config, config)
  if (workdir / 'model').exists():
    print(f'{workdir} is finished: the model is in {workdir / "model"}')
    return

  tx = train.optimizer(c.optim, c.steps)
  state = dict(train=parallel.put_state(place, train.new_state(params, tx)))
  if c.grpo.beta and not c.teacher:
    state['ref'] = parallel.put_state(place, params)
  del params
  manager = checkpoint.open_manager(workdir / 'checkpoints', c.keep, c.best)
  found = checkpoint.restore(manager, state)
  facts = dict(step=0, cursor=0, ref_step=0)
  if found:
    state, facts, _ = found
    print(f'going on from step {facts["step"]} of {workdir}')
  writer = metrics.Writer(workdir, jax.process_index())
  writer.rewind(facts['step'] if found else -1)
  temperature = c.sample.temperature
  decode_cfg = dataclasses.replace(
    cfg, scan_layers=c.compute.scan_decode, remat='none'
  )
  r = Run(
    c, place, records, rl_config.first_records(c, records), held,
    generate.Generator(
      functools.partial(parallel.map_loops, place), place.rows, decode_cfg,
      words, c.prompt, c.sample, reward, width,
    ),
    parallel.map_rows(place, grpo.make_score(cfg, temperature)),
    parallel.map_rows(place, grpo.make_score(ref_cfg, temperature)), teacher,
    parallel.train_step(place, grpo.make_loss(c.grpo, cfg, temperature), tx),
    writer, jax.random.key(c.seed), facts['step'], time.time(),
  )  # fmt: skip
  if not found and c.eval.every:
    line = dict(step=0) | r.evaluate(state['train'].params, 0)
    writer.write(line)
    print(held_out.base_rate(line), flush=True)

  with contextlib.ExitStack() as stack:
    stack.callback(writer.close)
    stack.callback(checkpoint.close, manager)
    while facts['step'] < c.steps:
      before = facts['step']
      state, facts = one_rollout(r, state, facts)
      step = facts['step']
      if crossed(c.save_every, before, step) or step >= c.steps:
        checkpoint.save(manager, step, state, facts, facts['score'])
  convert.save(
    workdir / 'model', jax.device_get(state['train'].params), cfg, words
  )


def load_teacher(c, place, words):
  """(parameters, config) of the model in the reference's place."""
  params, cfg, theirs = policy.load(c.teacher, c.compute, None, c.seed)
  text = '12 <think>\n思考 naïve'
  if (theirs.vocab_size, theirs.encode(text)) != (
    words.vocab_size, words.encode(text),
  ):  # fmt: skip
    raise errors.UserError(
      f'config.teacher {c.teacher} and config.init {c.init} have different '
      'tokenizers: a teacher must speak of the same ids as its student'
    )
  return parallel.put_state(place, params), cfg


def crossed(every, before, after):
  """Whether a multiple of `every` lies in (before, after]."""
  return bool(every) and after // every > before // every


def draw(r, params, facts):
  """(samples, cursor) of a rollout's questions; with dynamic sampling more are
  drawn until enough groups are alive."""
  c, step = r.c, facts['step']
  key = jax.random.fold_in(jax.random.fold_in(r.key, 0), step)
  drawn, cursor, Q = [], facts['cursor'], c.grpo.questions
  records = r.records if step >= c.domains_from else r.first_records
  while True:
    index = data.prompt_indices(c.seed, cursor, Q, len(records))
    samples = r.generator(
      params, [records[i] for i in index], cursor + np.arange(Q), key,
      c.grpo.group, c.sample.temperature, r.max_new(step),
    )  # fmt: skip
    cursor += Q
    drawn.append(samples)
    alive = sum((~grpo.dead_groups(c.grpo, x.reward_N)).sum() for x in drawn)
    if alive >= Q or len(drawn) >= c.grpo.dynamic_tries:
      return grpo.choose(c.grpo, drawn), cursor


def one_rollout(r, state, facts):
  """Draws, rewards and learns from one rollout; returns state and facts."""
  c, began, step = r.c, time.time(), facts['step']
  if 'ref' in state and crossed(c.grpo.ref_every, facts['ref_step'], step):
    state = dict(state, ref=parallel.copy(state['train'].params))
    facts = dict(facts, ref_step=step)
  params, max_new = state['train'].params, r.max_new(step)
  samples, cursor = draw(r, params, facts)
  sampled = time.time()
  batch = grpo.rows(
    c.grpo, samples.rollout, *grpo.shape_rewards(c.grpo, samples, max_new)
  )
  buckets = data.lengths(batch['tokens_BL'].shape[1], c.buckets)
  if c.grpo.old == 'trainer' and not grpo.on_policy(c.grpo):
    batch['old_BL'] = grpo.score(r.score, params, batch, c.micro, buckets)
  if c.grpo.beta:
    ref = r.teacher if c.teacher else state['ref']
    batch['ref_BL'] = grpo.score(r.score_ref, ref, batch, c.micro, buckets)
  scored = time.time()

  lines = []
  for mini in grpo.mini_batches(c.grpo, batch, (c.seed, step), max_new):
    micro = [part for _, part in data.cut(mini, c.micro, buckets)]
    new, sums = r.step(state['train'], micro)
    state, sums = dict(state, train=new), jax.device_get(sums)
    step += 1
    train.stop_if_stuck(c.optim, sums['skipped'], step, c.steps)
    rate = train.learning_rate(c.optim, c.steps)(step - 1)
    lines.append(dict(step=step, lr=rate) | grpo.update_metrics(c.grpo, sums))
  updated = time.time()
  rolled = rollout_metrics(r, samples) | {
    'seconds': updated - began,
    'tokens_per_s': samples.length_N.sum() / (updated - began),
    'time/sample': sampled - began,
    'time/score': scored - sampled,
    'time/update': updated - scored,
    'time/programs': metrics.programs(),
  }
  lines[0] |= rolled
  score = None
  if crossed(c.eval.every, facts['step'], step):
    lines[-1] |= r.evaluate(state['train'].params, step)
    score = float(lines[-1]['eval/pass1'])
  for line in lines:
    r.writer.write(line)
  r.writer.samples(generate.lines(samples, step, c.log_samples))
  shown = rolled | lines[-1] | dict(delta_logp=lines[0]['delta_logp'])
  print(metrics.progress(step, c.steps, shown, r.started, r.first), flush=True)
  return state, dict(facts, step=step, cursor=cursor, score=score)


def rollout_metrics(r, samples):
  """What the rollout was like, before the update."""
  slots = min(r.c.sample.slots, len(samples.texts) // r.place.rows)
  offered = max(1, samples.rollout.steps.sum() * slots)
  return generate.summary(samples) | {
    'dead_groups': grpo.dead_groups(r.c.grpo, samples.reward_N).mean(),
    'occupancy': samples.rollout.live.sum() / offered,
  }
