"""Times r1jax: python -m experiments.benchmarks.ours WORKLOAD --model DIR

rollout, update and step call the functions that the rl stage calls. heavy_tail
compares slots that are refilled with the same decode loop in lock-step.
"""

import argparse
import dataclasses
import functools

import jax
import numpy as np

from experiments.benchmarks import workload
from r1jax.checkpoints import policy
from r1jax.data import templates
from r1jax.distributed import device_placement, programs
from r1jax.models import transformer
from r1jax.rewards import registry
from r1jax.rl import advantages, grpo, grpo_config, micro_batches
from r1jax.sampling import decode, generate
from r1jax.training import optimizer, train_step

NO_ID = (-1,)  # as end tokens: every response has the full length
# Of heavy_tail.
DECODE_SLOTS, END_TOKENS, MAX_NEW_TOKENS = 32, 8, 512


class Run:
  """A policy, its optimiser and its sampler, as the rl stage makes them."""

  def __init__(self, options: argparse.Namespace):
    self.options, self.sizes = options, workload.get_sizes(options)
    sizes = self.sizes
    compute = policy.ComputeConfig(
      dtype=options.dtype,
      scan_layers=options.scan,
      remat=options.remat,
      attention=options.attention,
    )
    params, self.cfg, tokenizer = policy.load(options.model, compute, None, 0)
    self.placement = device_placement.placement(
      device_placement.ParallelConfig(), jax.devices()[:1]
    )
    self.texts, self.ids_PT = workload.make_prompts(options.model, sizes)
    self.sampler = generate.Sampler(
      placement=self.placement,
      cfg=self.cfg,
      tokenizer=tokenizer,
      prompt=templates.PromptConfig(template='plain'),
      sample=decode.SampleConfig(decode_slots=sizes.rows),
      prompt_width=sizes.prompt_len,
    )
    self.sampler.sample_config = dataclasses.replace(
      self.sampler.sample_config, eos_ids=NO_ID
    )
    self.grpo_config = grpo_config.GrpoConfig(
      prompts_per_step=sizes.prompts,
      group_size=sizes.group_size,
      kl_coef=workload.KL_COEF,
      clip_low=workload.CLIP,
      clip_high=workload.CLIP,
      old_logprobs='trainer',
      share_prompts=options.share_prompts,
    )
    self.cutting = micro_batches.Cutting(
      micro_batch_size=options.micro_batch_size,
      length_buckets=1,
      prompt_width=sizes.prompt_len,
      num_shards=1,
    )
    tx = optimizer.optimizer(
      optimizer.OptimConfig(lr=workload.LR, clip_norm=workload.CLIP_NORM), 1
    )
    loss_fn = grpo.make_loss(self.grpo_config, self.cfg, temperature=1.0)
    self.updates = train_step.update_programs(self.placement, loss_fn, tx)
    self.logprobs = grpo.logprobs_program(
      self.placement, self.cfg, temperature=1.0
    )
    self.ref = device_placement.put_state(self.placement, params)
    self.state = train_step.create_state(self.placement, params, tx)
    self.calls = 0

  def rollout(self) -> decode.SampledRows:
    """W1: from texts to sampled rows and rewards."""
    self.calls += 1
    records = [
      dict(id=str(n), prompt=text) for n, text in enumerate(self.texts)
    ]
    samples = self.sampler.sample(
      self.state.params,
      records,
      np.arange(self.sizes.prompts),
      jax.random.key(self.calls),
      self.sizes.group_size,
      max_new_tokens=self.sizes.max_new_tokens,
    )
    registry.weighted_rewards(dict(format=1.0), samples.records, samples.texts)
    assert samples.rows.mask_BL.sum() == self.sizes.sampled_tokens
    return samples.rows

  def update(self, rows: decode.SampledRows) -> float:
    """W2: reference log-probabilities, gradient, AdamW. Returns the share of
    padding."""
    sizes = self.sizes
    reward_B = rows.tokens_BL.sum(axis=1) % 7
    learn_B = np.ones(sizes.rows, bool)
    adv_B = advantages.of_rewards(
      self.grpo_config, reward_B.astype(np.float32), learn_B
    )
    batch = advantages.add(grpo.columns(rows), adv_B, learn_B)
    cutting = self.cutting
    packing = micro_batches.choose_packing(self.grpo_config, batch, cutting)
    parts = micro_batches.cut(self.grpo_config, batch, cutting, packing)
    batch['ref_BL'] = grpo.compute_logprobs(
      self.placement, self.logprobs, self.ref, parts, rows.tokens_BL.shape
    )
    mini_batches = grpo.mini_batches(
      self.grpo_config, batch, (0, self.calls), sizes.max_new_tokens
    )
    for mini_batch in mini_batches:
      parts = micro_batches.cut(self.grpo_config, mini_batch, cutting, packing)
      self.state, sums = train_step.update(
        self.placement, self.updates, self.state, [part for _, part in parts]
      )
    assert not jax.block_until_ready((self.state, sums))[1]['skipped']
    return micro_batches.padding([part for _, part in parts])

  def step(self) -> None:
    """W3: a rollout and the update by it."""
    self.update(self.rollout())

  def random_rows(self) -> decode.SampledRows:
    """Rows with random ids as responses."""
    sizes = self.sizes
    prompt_BT = np.repeat(self.ids_PT, sizes.group_size, axis=0)
    response_BT = np.random.default_rng(0).integers(
      3, self.cfg.real_vocab, (sizes.rows, sizes.max_new_tokens)
    )
    tokens_BL = np.concatenate([prompt_BT, response_BT], axis=1)
    column_L = np.arange(tokens_BL.shape[1], dtype=np.int32)
    is_response_L = column_L >= sizes.prompt_len
    return decode.SampledRows(
      tokens_BL=tokens_BL.astype(np.int32),
      pos_BL=np.broadcast_to(column_L, tokens_BL.shape),
      logp_BL=np.zeros(tokens_BL.shape, np.float32),
      mask_BL=np.broadcast_to(is_response_L, tokens_BL.shape),
      finished_B=np.zeros(sizes.rows, bool),
      steps=None,
      live=None,
    )


def measure(options: argparse.Namespace) -> None:
  """Times a rollout, an update or a whole step."""
  run, sizes = Run(options), workload.get_sizes(options)
  variant = f'{options.dtype} micro {options.micro_batch_size}'
  variant += ' scan' if options.scan else ''
  variant += f' prompts {options.share_prompts}'
  variant += f' remat {options.remat}' if options.remat != 'none' else ''
  if options.workload == 'rollout':
    tokens, variant = sizes.sampled_tokens, options.dtype
    times = workload.time_calls(run.rollout, sizes.reps)
  elif options.workload == 'update':
    tokens, rows = sizes.trained_tokens, run.random_rows()
    times = workload.time_calls(lambda: run.update(rows), sizes.reps)
  else:
    tokens = sizes.sampled_tokens
    times = workload.time_calls(run.step, sizes.reps)
  device = jax.devices()[0]
  memory = device.memory_stats() or {}  # none on CPUs
  workload.report(
    'r1jax',
    options.workload,
    variant,
    tokens,
    *times,
    device=device.device_kind,
    attention=run.cfg.attention,
    peak_device_gib=round(memory.get('peak_bytes_in_use', 0) / 2**30, 2),
  )


def heavy_tail(options: argparse.Namespace) -> None:
  """Times responses of geometric length, several for each slot: slots that are
  refilled as rows end, and batches of as many rows as there are slots."""
  sizes = workload.get_sizes(options)
  slots = 8 if options.quick else DECODE_SLOTS
  compute = policy.ComputeConfig(dtype=options.dtype, scan_layers=False)
  params, cfg, _ = policy.load(options.model, compute, None, 0)
  params = jax.device_put(jax.tree.map(np.asarray, params))
  # A model with small random weights samples almost uniformly, so the end
  # tokens have a probability of about END_TOKENS / vocabulary.
  config = decode.SampleConfig(
    decode_slots=slots,
    max_new_tokens=64 if options.quick else MAX_NEW_TOKENS,
    refill_interval=options.refill_interval,
    eos_ids=tuple(range(END_TOKENS)),
  )
  count = slots * options.rows_per_slot // sizes.group_size
  ids_PT = np.random.default_rng(0).integers(
    END_TOKENS, cfg.vocab_size, (count, sizes.prompt_len), np.int32
  )
  prompts = generate.make_prompts(
    ids_PT.tolist(),
    sizes.prompt_len,
    number_P=np.arange(count),
    first_member_P=np.zeros(count, int),
    max_new_tokens_P=np.full(count, config.max_new_tokens),
  )
  per_batch = slots // sizes.group_size
  batches = [
    jax.tree.map(lambda a, n=n: a[n : n + per_batch], prompts)
    for n in range(0, count, per_batch)
  ]
  tokens = []
  for name, parts in (('refilled', [prompts]), ('lock-step', batches)):
    sample = functools.partial(
      sample_parts, params, cfg, parts, sizes.group_size, config
    )
    times = workload.time_calls(sample, sizes.reps)
    results = sample()
    report_rows(f'{options.dtype} {name}', results, slots, times)
    tokens.append(np.concatenate([rows.tokens_BL for rows in results]))
  refilled, lock_step = tokens
  same = np.array_equal(refilled, lock_step)
  assert same or options.dtype != 'float32', 'the tokens differ'


def sample_parts(
  params: dict,
  cfg: transformer.ModelConfig,
  parts: list[decode.Prompts],
  group_size: int,
  config: decode.SampleConfig,
) -> list[decode.SampledRows]:
  """The sampled rows of each part of the prompts, on the host."""
  key = jax.random.key(0)
  return [
    jax.device_get(decode.sample(params, cfg, part, key, group_size, config))
    for part in parts
  ]


def report_rows(
  variant: str,
  results: list[decode.SampledRows],
  slots: int,
  times: tuple[float, list[float]],
) -> None:
  """Reports the times of all rows with the occupancy of the slots."""
  length_B = np.concatenate([rows.mask_BL.sum(axis=1) for rows in results])
  steps = int(sum(rows.steps for rows in results))
  live = int(sum(rows.live for rows in results))
  workload.report(
    'r1jax',
    'heavy_tail',
    variant,
    int(length_B.sum()),
    *times,
    slots=slots,
    rows=len(length_B),
    steps=steps,
    occupancy=round(live / (steps * slots), 3),
    mean_length=round(float(length_B.mean()), 1),
    max_length=int(length_B.max()),
  )


def make_parser() -> argparse.ArgumentParser:
  parser = workload.make_parser(
    __doc__.partition('\n')[0], ('rollout', 'update', 'step', 'heavy_tail')
  )
  parser.add_argument('--scan', action='store_true', help='scanned layers')
  parser.add_argument('--remat', default='none', help='none, full or dots')
  parser.add_argument('--attention', default='auto')
  parser.add_argument(
    '--share-prompts', choices=('auto', 'on', 'off'), default='auto'
  )
  parser.add_argument('--rows-per-slot', type=int, default=8)
  parser.add_argument('--refill-interval', type=int, default=16)
  return parser


def main() -> None:
  programs.compilation_cache()
  options = make_parser().parse_args()
  if options.workload == 'heavy_tail':
    heavy_tail(options)
  else:
    measure(options)


if __name__ == '__main__':
  main()
