"""Times r1jax: python -m experiments.benchmarks.ours WORKLOAD --model DIR

rollout, update and step go through the functions that the rl stage calls;
heavy_tail holds refilled slots against the same sampler in lock-step."""

import jax
import numpy as np

from experiments.benchmarks import workload
from r1jax import cli
from r1jax.checkpoints import policy
from r1jax.data import batching, templates
from r1jax.distributed import device_placement
from r1jax.rewards import registry
from r1jax.rl import grpo
from r1jax.sampling import decode, generate
from r1jax.training import optimizer, train_step

NEVER = (-1,)  # as end tokens: no id that is drawn
SLOTS, ENDS, MAX_NEW = 32, 8, 512  # of heavy_tail


class Run:
  """A policy, its optimiser and its sampler, as the rl stage sets them up."""

  def __init__(self, options):
    self.options, self.sizes = options, workload.sizes(options)
    s = self.sizes
    compute = policy.ComputeConfig(
      dtype=options.dtype, scan_layers=options.scan, remat=options.remat
    )
    params, self.cfg, words = policy.load(options.model, compute, None, 0)
    self.place = device_placement.placement(
      device_placement.ParallelConfig(), jax.devices()[:1]
    )
    self.texts, self.ids_PT = workload.prompts(options.model, s)
    self.sampler = generate.Sampler(
      self.place,
      self.cfg,
      words,
      templates.PromptConfig(template='plain'),
      decode.SampleConfig(decode_slots=s.rows, eos_ids=NEVER),
      s.prompt,
    )
    self.grpo = grpo.GrpoConfig(
      prompts_per_step=s.prompts,
      group_size=s.group,
      kl_coef=workload.BETA,
      clip_low=workload.CLIP,
      clip_high=workload.CLIP,
      old_logprobs='trainer',
    )
    tx = optimizer.optimizer(
      optimizer.OptimConfig(lr=workload.LR, clip_norm=workload.CLIP_NORM), 1
    )
    loss_fn = grpo.make_loss(self.grpo, self.cfg, 1.0)
    self.updates = train_step.update_programs(self.place, loss_fn, tx)
    self.logprobs = grpo.logprobs_program(self.place, self.cfg, 1.0)
    self.ref = device_placement.put_state(self.place, params)
    self.state = device_placement.put_state(
      self.place, train_step.init_state(device_placement.copy(self.ref), tx)
    )
    self.calls = 0

  def rollout(self):
    """W1: texts to samples."""
    self.calls += 1
    s = self.sizes
    records = [
      dict(id=str(n), prompt=text) for n, text in enumerate(self.texts)
    ]
    samples = self.sampler.sample(
      self.state.params,
      records,
      np.arange(s.prompts),
      jax.random.key(self.calls),
      s.group,
      1.0,
      s.new,
    )
    registry.weighted_rewards(dict(format=1.0), samples.records, samples.texts)
    assert samples.rows.mask_BL.sum() == s.drawn
    return samples.rows

  def update(self, rollout):
    """W2: reference log-probabilities, gradient, AdamW."""
    c, s, micro = self.grpo, self.sizes, self.options.micro
    reward_B = rollout.tokens_BL.sum(axis=1) % 7
    batch = grpo.with_advantages(
      c,
      grpo.columns(rollout),
      reward_B.astype(np.float32),
      np.ones(s.rows, bool),
    )
    buckets = batching.lengths(s.prompt + s.new, 1)
    batch['ref_BL'] = grpo.compute_logprobs(
      self.place, self.logprobs, self.ref, batch, micro, buckets
    )
    for mini in grpo.mini_batches(c, batch, (0, self.calls), s.new):
      parts = [part for _, part in batching.cut(mini, micro, buckets)]
      self.state, sums = train_step.update(
        self.place, self.updates, self.state, parts
      )
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
    return decode.SampledRows(
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
  sc = decode.SampleConfig(
    decode_slots=slots,
    max_new_tokens=64 if options.quick else MAX_NEW,
    refill_interval=options.refill_interval,
    eos_ids=tuple(range(ENDS)),
  )
  rng, group = np.random.default_rng(0), s.group
  count = slots * options.rows_per_slot // group
  prompts = decode.Prompts(
    rng.integers(ENDS, cfg.vocab_size, (count, s.prompt), np.int32),
    np.full(count, s.prompt, np.int32),
    np.arange(count, dtype=np.int32),
    np.zeros(count, np.int32),
    np.full(count, sc.max_new_tokens, np.int32),
  )

  def draw(p):
    return jax.device_get(
      decode.sample(params, cfg, p, jax.random.key(0), group, sc)
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
      'r1jax',
      'heavy_tail',
      f'{options.dtype} {name}',
      int(length_B.sum()),
      *times,
      slots=slots,
      rows=len(length_B),
      steps=steps,
      occupancy=round(live / (steps * slots), 3),
      mean=round(float(length_B.mean()), 1),
      longest=int(length_B.max()),
    )
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
  cli.compilation_cache()
  options = parse()
  heavy_tail(options) if options.workload == 'heavy_tail' else measure(options)
