"""Reinforcement learning by GRPO: R1-Zero, reasoning RL and all-scenario RL are
this one stage with other rewards (R1, sections 2 and 3)."""

import contextlib
import dataclasses
import functools
import pathlib
import time
from concurrent.futures import ThreadPoolExecutor

import jax

from r1jax import (
  checkpoint,
  convert,
  data,
  errors,
  generate,
  grpo,
  held_out,
  hosts,
  metrics,
  parallel,
  rl_config,
  rl_run,
  spmd,
  train,
  verifiers,
  watch,
)
from r1jax import (
  config as configs,
)

Config = rl_config.Config


def run(config, workdir):
  """Trains, and leaves the model in workdir/model as transformers opens it."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  place, drawing = parallel.placements(c.parallel)
  rl_config.check(c, place, drawing)
  records, held = rl_config.load_records(c)
  with contextlib.ExitStack() as stack:
    judges = stack.enter_context(verifiers.opened(c.verify, records + held))
    executor = stack.enter_context(ThreadPoolExecutor(2))
    r, params = rl_run.load(c, place, drawing, records, held, judges, executor)
    tier = judges.tier and judges.tier.name
    hosts.agree(workdir, config=c, records=records + held, sandbox=tier)
    hosts.once(lambda: configs.claim(workdir, Config, config))
    if hosts.once((workdir / 'model').exists):
      print(f'{workdir} is finished: the model is in {workdir / "model"}')
      return
    tx = train.optimizer(c.optim, c.steps)
    state = dict(train=parallel.new_state(place, params, tx))
    if c.grpo.beta and not c.teacher:
      state['ref'] = parallel.put_state(drawing, params)
    del params
    manager = checkpoint.open_manager(workdir / 'checkpoints', c.keep, c.best)
    found = checkpoint.restore(manager, state)
    facts = dict(step=0, cursor=0, ref_step=0)
    if found:
      state, facts, _ = found
      print(f'going on from step {facts["step"]} of {workdir}')
    writer = metrics.Writer(workdir, hosts.index())
    writer.rewind(facts['step'] if found else -1)
    loss_fn = grpo.make_loss(
      c.grpo, spmd.on(place, r.cfg), c.sample.temperature
    )
    r = dataclasses.replace(
      r, writer=writer, step=spmd.train_step(place, loss_fn, tx),
      first=facts['step'], started=time.time(),
      saved=lambda step: not step or checkpoint.saved(manager, step),
    )  # fmt: skip
    if not found and c.eval.every:
      line = dict(step=0) | r.evaluate(state['train'].params, 0)
      writer.write(line)
      print(held_out.base_rate(line), flush=True)

    stack.callback(writer.close)
    stack.callback(checkpoint.close, manager)
    pending = None  # the rollout that config.grpo.late learns from next

    def save():
      # What is pending is drawn again.
      kept = dict(facts, cursor=pending.cursor) if pending else facts
      checkpoint.save(manager, facts['step'], state, kept, facts['score'])

    try:
      while facts['step'] < c.steps:
        before = facts['step']
        state, facts, pending = one_rollout(r, state, facts, pending)
        if crossed(c.save_every, before, facts['step']):
          save()
        hosts.boundary()
    except errors.ToldToEnd:
      # Of a rollout that was not learnt from, nothing is in state and facts.
      if facts['step'] > (manager.latest_step() or 0):
        save()
      raise
    if c.steps > (manager.latest_step() or 0):
      save()
    params = parallel.get_state(state['train'].params)
    export = lambda: convert.save(workdir / 'model', params, r.cfg, r.words)
    hosts.once(export)


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
    state = dict(state, ref=r.lend(parallel.copy(state['train'].params)))
    facts = dict(facts, ref_step=facts['step'])
  params, ref = r.lend(state['train'].params), state.get('ref', r.teacher)
  with watch.nothing_lost(functools.partial(r.saved, facts['step'])):
    if c.grpo.late and not pending:
      pending, facts = roll(r, params, ref, facts)
    last = facts['step'] + c.grpo.updates >= c.steps
    ahead = lambda: (None, facts)
    if not (pending and last):
      ahead = r.start(roll, r, params, ref, facts)
    rolled = pending or ahead()[0]
    hosts.boundary()  # The last one before the state changes.
  state, lines, times = learn(r, state, facts['step'], rolled)
  following, facts = ahead()
  times |= dict(seconds=time.time() - began)
  if r.drawing is not r.place and following:
    times |= idle(times, following.times)
  step, score = report(r, state, facts['step'], rolled, lines, times)
  facts = dict(facts, step=step, score=score)
  return state, facts, following if c.grpo.late else None


def idle(times, drawn):
  """The shares of the time in which the two groups of devices had no work."""
  busy = dict(train=times['time/update'], draw=sum(drawn.values()))
  share = lambda busy: max(0.0, 1 - busy / times['seconds'])
  return {f'time/idle_{name}': share(x) for name, x in busy.items()}


@dataclasses.dataclass(frozen=True)
class Rolled:
  """A rollout whose rewards may still be on their way."""

  samples: generate.Samples
  batch: dict  # its rows, with old and reference log-probabilities
  max_new: int
  cursor: int  # where its questions begin
  times: dict  # seconds of its parts


def roll(r, params, ref, facts):
  """(Rolled, facts): draws a rollout, and while its rewards are computed the
  log-probabilities of the policy that drew it and of the reference."""
  c, began, max_new = r.c, time.time(), r.max_new(facts['step'])
  samples, cursor = rl_run.draw(r, params, facts)
  sampled = time.time()
  batch = grpo.columns(samples.rollout)
  buckets = data.lengths(batch['tokens_BL'].shape[1], c.buckets)
  if c.grpo.old == 'trainer' and not grpo.on_policy(c.grpo):
    batch['old_BL'] = grpo.score(r.score, params, batch, c.micro, buckets)
  if c.grpo.beta:
    batch['ref_BL'] = grpo.score(r.score_ref, ref, batch, c.micro, buckets)
  times = {'time/sample': sampled - began, 'time/score': time.time() - sampled}
  rolled = Rolled(samples, batch, max_new, facts['cursor'], times)
  return rolled, dict(facts, cursor=cursor)


def learn(r, state, step, rolled):
  """(state, a line of metrics an update, seconds): updates the policy by a
  rollout."""
  c, began = r.c, time.time()
  shaped = grpo.shape_rewards(c.grpo, rolled.samples, rolled.max_new)
  waited = time.time() - began
  batch = grpo.with_advantages(c.grpo, rolled.batch, *shaped)
  buckets = data.lengths(batch['tokens_BL'].shape[1], c.buckets)
  lines = []
  for mini in grpo.mini_batches(c.grpo, batch, (c.seed, step), rolled.max_new):
    micro = [part for _, part in data.cut(mini, c.micro, buckets)]
    new, sums = r.step(state['train'], micro)
    state, sums = dict(state, train=new), jax.device_get(sums)
    watch.beat()
    step += 1
    train.stop_if_stuck(c.optim, sums['skipped'], step, c.steps)
    rate = train.learning_rate(c.optim, c.steps)(step - 1)
    lines.append(dict(step=step, lr=rate) | grpo.update_metrics(c.grpo, sums))
  updated = time.time() - began - waited
  return state, lines, {'time/rewards': waited, 'time/update': updated}


def report(r, state, before, rolled, lines, times):
  """Writes down a rollout and its updates, evaluates where it is time to;
  returns the step and the score."""
  c, samples, step = r.c, rolled.samples, lines[-1]['step']
  line = (
    rollout_metrics(r, samples)
    | rolled.times
    | verdicts(r)
    | times
    | {
      'tokens_per_s': samples.length_N.sum() / times['seconds'],
      'time/waiting': times['time/rewards'] / times['seconds'],
      'time/programs': metrics.programs(),
    }
  )
  lines[0] |= line
  score = None
  if crossed(c.eval.every, before, step):
    lines[-1] |= r.evaluate(state['train'].params, step)
    score = float(lines[-1]['eval/pass1'])
  for one in lines:
    r.writer.write(one)
  r.writer.samples(generate.lines(samples, step, c.log_samples))
  shown = line | lines[-1] | dict(delta_logp=lines[0]['delta_logp'])
  print(metrics.progress(step, c.steps, shown, r.started, r.first), flush=True)
  return step, score


def verdicts(r):
  """How many answers the verifiers gave up on since the last time."""
  counts = hosts.gather(r.verifiers.taken() if r.verifiers else {})
  return {f'verify/{kind}': sum(x[kind] for x in counts) for kind in counts[0]}


def rollout_metrics(r, samples):
  """What the rollout was like, before the update."""
  slots = min(r.c.sample.slots, len(samples.texts) // r.drawing.rows)
  offered = max(1, samples.rollout.steps.sum() * slots)
  return generate.summary(samples) | {
    'dead_groups': grpo.dead_groups(r.c.grpo, samples.reward_N).mean(),
    'occupancy': samples.rollout.live.sum() / offered,
  }
