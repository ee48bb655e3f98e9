"""Reinforcement learning by GRPO: R1-Zero, reasoning RL and all-scenario RL are
this one stage with other rewards (R1, sections 2 and 3)."""

import contextlib
import dataclasses
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor

import jax

from r1jax import (
  checkpoint,
  convert,
  data,
  generate,
  grpo,
  held_out,
  metrics,
  parallel,
  rl_config,
  rl_run,
  train,
  verifiers,
)
from r1jax import (
  config as configs,
)

Config = rl_config.Config


def run(config, workdir):
  """Trains, and leaves the model in workdir/model as transformers opens it."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  place = parallel.placement(c.parallel)
  rl_config.check(c, place)
  records, held = rl_config.load_records(c)
  with contextlib.ExitStack() as stack:
    judges = stack.enter_context(verifiers.opened(c.verify, records + held))
    executor = stack.enter_context(ThreadPoolExecutor(1))
    r, params = rl_run.load(c, place, records, held, judges, executor)
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
    loss_fn = grpo.make_loss(
      c.grpo, parallel.on(place, r.cfg), c.sample.temperature
    )
    r = dataclasses.replace(
      r, writer=writer, step=parallel.train_step(place, loss_fn, tx),
      first=facts['step'], started=time.time(),
    )  # fmt: skip
    if not found and c.eval.every:
      line = dict(step=0) | r.evaluate(state['train'].params, 0)
      writer.write(line)
      print(held_out.base_rate(line), flush=True)

    stack.callback(writer.close)
    stack.callback(checkpoint.close, manager)
    pending = None  # the rollout that config.grpo.late learns from next
    while facts['step'] < c.steps:
      before = facts['step']
      state, facts, pending = one_rollout(r, state, facts, pending)
      step = facts['step']
      if crossed(c.save_every, before, step) or step >= c.steps:
        # What is pending is drawn again.
        kept = dict(facts, cursor=pending.cursor) if pending else facts
        checkpoint.save(manager, step, state, kept, facts['score'])
    params = jax.device_get(state['train'].params)
    convert.save(workdir / 'model', params, r.cfg, r.words)


def crossed(every, before, after):
  """Whether a multiple of `every` lies in (before, after]."""
  return bool(every) and after // every > before // every


def one_rollout(r, state, facts, pending):
  """Draws, rewards and learns from one rollout; returns state, facts, and the
  rollout that is to be learnt from next where config.grpo.late."""
  c, began = r.c, time.time()
  if 'ref' in state and crossed(
    c.grpo.ref_every, facts['ref_step'], facts['step']
  ):
    state = dict(state, ref=parallel.copy(state['train'].params))
    facts = dict(facts, ref_step=facts['step'])
  if c.grpo.late and not pending:
    pending, facts = roll(r, state, facts)
  rolled, last = None, facts['step'] + c.grpo.updates >= c.steps
  if not (pending and last):
    rolled, facts = roll(r, state, facts)
  if pending:
    pending, rolled = rolled, pending
  state, facts = learn(r, state, facts, rolled, began)
  return state, facts, pending


@dataclasses.dataclass(frozen=True)
class Rolled:
  """A rollout whose rewards may still be on their way."""

  samples: generate.Samples
  batch: dict  # its rows, with old and reference log-probabilities
  max_new: int
  cursor: int  # where its questions begin
  times: dict  # seconds of its parts


def roll(r, state, facts):
  """(Rolled, facts): draws a rollout, and while its rewards are computed the
  log-probabilities of the policy that drew it and of the reference."""
  c, began, step = r.c, time.time(), facts['step']
  params, max_new = state['train'].params, r.max_new(step)
  samples, cursor = rl_run.draw(r, params, facts)
  sampled = time.time()
  batch = grpo.columns(samples.rollout)
  buckets = data.lengths(batch['tokens_BL'].shape[1], c.buckets)
  if c.grpo.old == 'trainer' and not grpo.on_policy(c.grpo):
    batch['old_BL'] = grpo.score(r.score, params, batch, c.micro, buckets)
  if c.grpo.beta:
    ref = r.teacher if c.teacher else state['ref']
    batch['ref_BL'] = grpo.score(r.score_ref, ref, batch, c.micro, buckets)
  times = {'time/sample': sampled - began, 'time/score': time.time() - sampled}
  rolled = Rolled(samples, batch, max_new, facts['cursor'], times)
  return rolled, dict(facts, cursor=cursor)


def learn(r, state, facts, rolled, began):
  """Updates the policy by a rollout; returns state and facts."""
  c, step, samples = r.c, facts['step'], rolled.samples
  ready = time.time()
  shaped = grpo.shape_rewards(c.grpo, samples, rolled.max_new)
  waited = time.time() - ready
  batch = grpo.with_advantages(c.grpo, rolled.batch, *shaped)
  buckets = data.lengths(batch['tokens_BL'].shape[1], c.buckets)
  lines = []
  for mini in grpo.mini_batches(c.grpo, batch, (c.seed, step), rolled.max_new):
    micro = [part for _, part in data.cut(mini, c.micro, buckets)]
    new, sums = r.step(state['train'], micro)
    state, sums = dict(state, train=new), jax.device_get(sums)
    step += 1
    train.stop_if_stuck(c.optim, sums['skipped'], step, c.steps)
    rate = train.learning_rate(c.optim, c.steps)(step - 1)
    lines.append(dict(step=step, lr=rate) | grpo.update_metrics(c.grpo, sums))
  seconds = time.time() - began
  line = (
    rollout_metrics(r, samples)
    | rolled.times
    | verdicts(r)
    | {
      'seconds': seconds,
      'tokens_per_s': samples.length_N.sum() / seconds,
      'time/rewards': waited,
      'time/waiting': waited / seconds,
      'time/update': time.time() - ready - waited,
      'time/programs': metrics.programs(),
    }
  )
  lines[0] |= line
  score = None
  if crossed(c.eval.every, facts['step'], step):
    lines[-1] |= r.evaluate(state['train'].params, step)
    score = float(lines[-1]['eval/pass1'])
  for line in lines:
    r.writer.write(line)
  r.writer.samples(generate.lines(samples, step, c.log_samples))
  shown = line | lines[-1] | dict(delta_logp=lines[0]['delta_logp'])
  print(metrics.progress(step, c.steps, shown, r.started, r.first), flush=True)
  return state, dict(facts, step=step, score=score)


def verdicts(r):
  """How many answers the verifiers gave up on since the last time."""
  counts = r.verifiers.taken() if r.verifiers else {}
  return {f'verify/{kind}': n for kind, n in counts.items()}


def rollout_metrics(r, samples):
  """What the rollout was like, before the update."""
  slots = min(r.c.sample.slots, len(samples.texts) // r.place.rows)
  offered = max(1, samples.rollout.steps.sum() * slots)
  return generate.summary(samples) | {
    'dead_groups': grpo.dead_groups(r.c.grpo, samples.reward_N).mean(),
    'occupancy': samples.rollout.live.sum() / offered,
  }
