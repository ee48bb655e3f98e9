"""Times r1jax: python -m experiments.benchmarks.ours WORKLOAD --model DIR

rollout, update and step go through the functions that the rl stage calls;
heavy_tail holds refilled slots against the same sampler in lock-step."""

import dataclasses
import functools

import jax
import numpy as np

from experiments.benchmarks import workload
from r1jax import (
  data,
  generate,
  grpo,
  main,
  parallel,
  policy,
  rewards,
  sample,
  spmd,
  train,
)

NEVER = (-1,)  # as end tokens: no id that is drawn
SLOTS, ENDS, MAX_NEW = 32, 8, 512  # of heavy_tail


class Run:
  """A policy, its optimiser and its sampler, as the rl stage sets them up."""

  def __init__(self, options):
    self.options, self.sizes = options, workload.sizes(options)
    s = self.sizes
    compute = policy.ComputeConfig(
      dtype=options.dtype,
      scan_layers=options.scan,
      remat=options.remat,
    )
    params, self.cfg, words = policy.load(options.model, compute, None, 0)
    self.place = parallel.placement(
      parallel.ParallelConfig(), jax.devices()[:1]
    )
    self.decode_cfg = dataclasses.replace(
      self.cfg, scan_layers=False, remat='none'
    )
    self.texts, self.ids_PT = workload.prompts(options.model, s)
    self.generator = generate.Generator(
      functools.partial(spmd.map_rows, self.place),
      self.place.rows,
      self.decode_cfg,
      words,
      generate.PromptConfig(template='plain'),
      sample.SampleConfig(slots=s.rows, ends=NEVER),
      generate.at_once(functools.partial(rewards.total, dict(format=1.0))),
      s.prompt,
    )
    self.grpo = grpo.GrpoConfig(
      questions=s.prompts,
      group=s.group,
      beta=workload.BETA,
      clip_low=workload.CLIP,
      clip_high=workload.CLIP,
      old='trainer',
    )
    tx = train.optimizer(
      train.OptimConfig(lr=workload.LR, clip_norm=workload.CLIP_NORM), 1
    )
    loss_fn = grpo.make_loss(self.grpo, self.cfg, 1.0)
    self.update_step = spmd.train_step(self.place, loss_fn, tx)
    self.scorer = spmd.map_rows(
      self.place, functools.partial(grpo.make_score, temperature=1.0), self.cfg
    )
    self.ref = parallel.put_state(self.place, params)
    self.state = parallel.put_state(
      self.place, train.new_state(parallel.copy(self.ref), tx)
    )
    self.calls = 0

  def rollout(self):
    """W1: texts to samples."""
    self.calls += 1
    s = self.sizes
    records = [
      dict(id=str(n), prompt=text) for n, text in enumerate(self.texts)
    ]
    samples = self.generator(
      self.state.params, records, np.arange(s.prompts),
      jax.random.key(self.calls), s.group, 1.0, s.new,
    )  # fmt: skip
    assert samples.rollout.mask_BL.sum() == s.drawn
    return samples.rollout

  def update(self, rollout):
    """W2: reference log-probabilities, gradient, AdamW."""
    c, s, micro = self.grpo, self.sizes, self.options.micro
    reward_B = rollout.tokens_BL.sum(axis=1) % 7
    batch = grpo.rows(
      c, rollout, reward_B.astype(np.float32), np.ones(s.rows, bool)
    )
    buckets = data.lengths(s.prompt + s.new, 1)
    batch['ref_BL'] = grpo.score(self.scorer, self.ref, batch, micro, buckets)
    for mini in grpo.mini_batches(c, batch, (0, self.calls), s.new):
      parts = [part for _, part in data.cut(mini, micro, buckets)]
      self.state, sums = self.update_step(self.state, parts)
    assert not jax.block_until_ready((self.state, sums))[1]['skipped']

  def made_up_rollout(self):
    """Random ids where the samples would be."""
    s = self.sizes
    prompt_BT = np.repeat(self.ids_PT, s.group, axis=0)
    drawn_BT = np.random.default_rng(0).integers(
      3, self.cfg.real_vocab, (s.rows, s.new)
    )
    tokens_BL = np.concatenate([prompt_BT, drawn_BT], axis=1).astype(np.int32)
    column_L = np.arange(s.prompt + s.new, dtype=np.int32)
    return sample.Rollout(
      tokens_BL=tokens_BL,
      pos_BL=np.broadcast_to(column_L, tokens_BL.shape),
      logp_BL=np.zeros(tokens_BL.shape, np.float32),
      mask_BL=np.broadcast_to(column_L >= s.prompt, tokens_BL.shape),
      finished_B=np.zeros(s.rows, bool),
      steps=None,
      live=None,
    )


def measure(options):
  """Times one of the workloads of a whole step."""
  run, s = Run(options), workload.sizes(options)
  if options.workload == 'rollout':
    job, tokens, variant = run.rollout, s.drawn, options.dtype
  else:
    variant = f'{options.dtype} micro {options.micro}'
    variant += ' scan' if options.scan else ''
    variant += f' remat {options.remat}' if options.remat != 'none' else ''
    if options.workload == 'update':
      rollout = run.made_up_rollout()
      job, tokens = lambda: run.update(rollout), s.trained
    else:
      job, tokens = lambda: run.update(run.rollout()), s.drawn
  times = workload.timed(job, s.reps)
  workload.report('r1jax', options.workload, variant, tokens, *times)


def heavy_tail(options):
  """Samples whose lengths are geometric, eight or more for each slot: slots
  refilled as rows end, against batches of as many rows as there are slots."""
  s = workload.sizes(options)
  slots = 8 if options.quick else SLOTS
  compute = policy.ComputeConfig(dtype=options.dtype, scan_layers=False)
  params, cfg, _ = policy.load(options.model, compute, None, 0)
  params = jax.device_put(params)
  # A model of small random weights draws nearly evenly: its ends have a
  # probability of about ENDS / vocabulary at every token.
  sc = sample.SampleConfig(
    slots=slots,
    max_new=64 if options.quick else MAX_NEW,
    refill_every=options.refill_every,
    ends=tuple(range(ENDS)),
  )
  rng, group = np.random.default_rng(0), s.group
  count = slots * options.rows_per_slot // group
  prompts = sample.Prompts(
    rng.integers(ENDS, cfg.vocab_size, (count, s.prompt), np.int32),
    np.full(count, s.prompt, np.int32),
    np.arange(count, dtype=np.int32),
    np.zeros(count, np.int32),
    np.full(count, sc.max_new, np.int32),
  )
  draw = lambda p: jax.device_get(
    sample.sample(params, cfg, p, jax.random.key(0), group, sc)
  )
  each, done = slots // group, {}

  def refilled():
    done['refilled'] = [draw(prompts)]

  def lock_step():
    parts = [
      jax.tree.map(lambda a, n=n: a[n : n + each], prompts)
      for n in range(0, count, each)
    ]
    done['lock-step'] = [draw(part) for part in parts]

  for job in (refilled, lock_step):
    times = workload.timed(job, s.reps)
    name = job.__name__.replace('_', '-')
    rollouts = done[name]
    length_B = np.concatenate([r.mask_BL.sum(axis=1) for r in rollouts])
    steps = int(sum(r.steps for r in rollouts))
    live = int(sum(r.live for r in rollouts))
    workload.report(
      'r1jax', 'heavy_tail', f'{options.dtype} {name}', int(length_B.sum()),
      *times, slots=slots, rows=len(length_B), steps=steps,
      occupancy=round(live / (steps * slots), 3),
      mean=round(float(length_B.mean()), 1), longest=int(length_B.max()),
    )  # fmt: skip
  same = np.array_equal(
    done['refilled'][0].tokens_BL,
    np.concatenate([r.tokens_BL for r in done['lock-step']]),
  )
  assert same or options.dtype != 'float32', 'the tokens differ'


def parse():
  parser = workload.arguments(
    __doc__.partition('\n')[0], ('rollout', 'update', 'step', 'heavy_tail')
  )
  parser.add_argument('--scan', action='store_true', help='scanned layers')
  parser.add_argument('--remat', default='none', help='none, full or dots')
  parser.add_argument('--rows-per-slot', type=int, default=8)
  parser.add_argument('--refill-every', type=int, default=16)
  return parser.parse_args()


if __name__ == '__main__':
  main.compilation_cache()
  options = parse()
  heavy_tail(options) if options.workload == 'heavy_tail' else measure(options)
