"""The result of a preflight, as text of at most 100 columns and as JSON."""

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import Any

from r1jax.preflight import experts, host_memory, shapes
from r1jax.preflight import plan as plans
from r1jax.preflight.checks import Check
from r1jax.preflight.chips import GIB
from r1jax.preflight.compiler import versions
from r1jax.preflight.cost import Cost
from r1jax.preflight.knobs import Fix
from r1jax.preflight.plan import Plan

MAX_COLLECTIVES = 12  # lines a program
Costs = Sequence[Cost]
Fixes = Sequence[Fix]


def lines(plan: Plan, costs: Costs, fixes: Fixes) -> list[str]:
  """The report without the checks."""
  found = [*_describe_run(plan), '', *_memory(plan, costs), '']
  found += [*verdict(plan, costs, fixes), '', *_resources(plan, costs), '']
  return found + _collectives(costs) + _rollout(plan, costs)


def _describe_run(plan):
  config, cfg, pod = plan.config, plan.cfg, plan.pod
  size = f'{config.micro_batch_size} rows'
  if config.tokens_per_micro_batch:
    size = f'{config.tokens_per_micro_batch:,} tokens'
  axes = ' x '.join(f'{name} {size}' for name, size in plan.axes)
  found = [
    f'{pod.name}: {pod.devices} devices on {pod.hosts} hosts, {axes}',
    f'{config.init}: {shapes.num_parameters(cfg) / 1e9:.2f} B parameters, '
    f'{cfg.dtype}, remat {cfg.remat}, attention {cfg.attention}',
    f'rows of {plan.row_len:,} tokens ({config.prompt.max_len:,} of the '
    f'prompt), micro-batches of {size}, '
    f'{plan.micro_batch_rows} a shard',
    f'rollouts of {config.grpo.prompts_per_step} x {config.grpo.group_size} '
    f'samples, {plan.decode_slots} slots a shard, {plan.mean_new_tokens:,} '
    'tokens a response',
  ]
  if plan.packed_share < 1:
    found += wrap(
      'responses of a group share their prompt (config.grpo.share_prompts): packed '
      f'rows have {plan.packed_share:.0%} of the tokens, which the times of train '
      'and score below are multiplied by; memory is that of whole rows'
    )
  if config.sample.cache_tokens:
    found += wrap(
      f'the cache of a shard has {config.sample.pages:,} pages of '
      f'{config.sample.page_tokens} tokens (config.sample.cache_tokens): enough '
      f'for {plan.live_slots:,.0f} samples at a time, if all responses have the '
      'mean length'
    )
  if config.sample.draft:
    found += wrap(
      'each decode step verifies a draft (config.sample.draft): with '
      f'{plans.DRAFT_ACCEPTANCE:.0%} of them accepted it samples '
      f'{1 + plans.DRAFT_ACCEPTANCE:.2f} tokens'
    )
  if cfg.num_experts:
    found += _describe_experts(plan)
  if config.grpo.max_staleness:
    found.append('each rollout is learned from one step after it was sampled')
  if config.teacher:
    found.append('the teacher is assumed to be as large as the policy')
  return found


def _describe_experts(plan):
  layer, cfg, devices = plan.layer_sizes, plan.cfg, plan.tensor_parallel
  tokens = plan.micro_batch_rows * plan.row_len
  load = experts.load(plan, tokens, plan.row_len)
  rounds = 'all rows in one round'
  if load.in_rounds:
    rounds = f'{load.rounds} rounds there'
  found = wrap(
    f'experts: {layer.experts} of {cfg.num_experts} a token, '
    f'{cfg.num_experts // devices} on a chip; its buffers have {load.rows:.3g} '
    f'rows a token, of which {layer.experts / devices:.3g} are used on average '
    f'and {load.used:.3g} on the busiest chip '
    f'(--expert-imbalance={plan.expert_imbalance:g}), {rounds}'
  )
  if devices == 1:
    return found
  gathered, exchanged = [n / GIB for n in experts.dispatch(plan, tokens)]
  ours, other = (
    f'{gathered:.3f} GiB by all-gather of all tokens and reduce-scatter',
    f'{exchanged:.3f} GiB by all-to-all of the rows in '
    f'{experts.exchanged_load(plan, tokens).rounds} rounds',
  )
  if load.is_exchanged:
    ours, other = other, ours
  return found + wrap(
    f'their tokens: a chip sends {ours}, forward for a micro-batch; it would send '
    f'{other}'
  )


def _memory(plan, costs):
  capacity, rows = plan.pod.chip.hbm_capacity, []
  found = ['', 'GiB a chip by formula:']
  for x in costs:
    sizes = (x.argument, x.output, x.alias, x.temp, x.resident, x.need)
    gib, share = [n / GIB for n in sizes], f'{x.need / capacity:.0%}'
    if x.own:
      rows.append([x.name, *gib, share, x.source])
    if x.parts:
      parts = ', '.join(f'{name} {n / GIB:.3f}' for name, n in x.parts.items())
      found += wrap(f'  {x.name}: {parts}')
  head = ['program', 'arguments', 'output', 'alias', 'temporary']
  head += ['resident', 'need', 'share', 'by']
  title = f'GiB a chip, of {capacity / GIB:.2f} that a program can use:'
  return [title, *_table(head, rows), *found]


def verdict(plan: Plan, costs: Costs, fixes: Fixes) -> list[str]:
  """Whether the run fits; if not, why, and what would make it fit."""
  chip, largest = plan.pod.chip, max(costs, key=lambda x: x.need)
  need = f'{largest.need / GIB:.2f} of {chip.hbm_capacity / GIB:.2f} GiB'
  refused = [x for x in costs if x.refused]
  if largest.fits(chip) and not refused:
    return [f'It fits: {largest.name} needs {need} of a chip.']
  found = [f'It does not fit: {largest.name} needs {need} of a chip.']
  if refused:
    found = [f'It does not fit: the compiler refused {refused[0].name}:']
    found += wrap(f'  {refused[0].refused}')
  if not fixes:
    found.append('No combination of up to three changes fits: use more chips.')
    return found
  found.append('It would fit, by formula, with')
  for text, bytes_needed in fixes:
    found += wrap(f'  {text}  ({bytes_needed / GIB:.2f} GiB)')
  return found


def _resources(plan, costs):
  title = 'A call on a chip: TFLOP and GiB moved; milliseconds of each resource'
  chip, rows, notes = plan.pod.chip, [], []
  for x in costs:
    moved = [x.flops / 1e12, x.hbm / GIB, x.ici / GIB, x.dcn / GIB]
    times = [1e3 * seconds for seconds in x.seconds(chip).values()]
    rows.append([x.name, *moved, *times, x.bound(chip)[0]])
    notes += [f'  {x.name}: {note}' for note in x.notes]
  if plan.cache_share < 1:
    notes.append(
      f'  decode: reads {plan.cache_share:.0%} of the cache, what rows hold on '
      'average'
    )
  head = ['program', 'TFLOP', 'HBM', 'ICI', 'DCN']
  head += ['compute ms', 'HBM ms', 'ICI ms', 'DCN ms', 'bound']
  return [f'{title} alone:', *_table(head, rows), *notes]


def _collectives(costs):
  rows = []
  for x in costs:
    for key, count, size in x.collectives[:MAX_COLLECTIVES]:
      row = [x.name, key.kind, key.dtype, key.axes, key.group, int(count)]
      rows.append([*row, size / GIB, key.bytes_sent(size) / GIB])
  title = 'Collectives of a call on a chip: GiB of results, GiB sent:'
  head = 'program kind dtype along group count result sent'.split()
  return [title, *_table(head, rows), ''] if rows else []


def _rollout(plan, costs):
  overlapped, one_by_one, tokens = _rollout_time(plan, costs).values()
  rows = []
  for name, seconds in overlapped.items():
    rows.append([name, plan.calls()[name], seconds, one_by_one[name]])
  low, high = sum(overlapped.values()), sum(one_by_one.values())
  rows.append(['all', '', low, high])
  evaluation = _evaluation(plan, costs)
  rates = f'{tokens / high:,.0f} to {tokens / low:,.0f} tokens a second'
  return [
    'A rollout with its updates, seconds, with all resources overlapped or '
    'none:',
    *_table(['program', 'calls', 'overlapped', 'one by one'], rows),
    f'  {rates} on the pod by the roofline, an upper bound',
    *evaluation,
    *_whole_run(plan, (low, high), _chunk_time(plan, costs)),
  ]


def _chunk_time(plan, costs):
  """(overlapped, one by one) seconds of a chunk of the held-out evaluation;
  zeros without evaluations."""
  chip = plan.pod.chip
  for x in costs:
    if x.name == 'evaluate':
      return x.bound(chip)[1], sum(x.seconds(chip).values())
  return 0.0, 0.0


def _evaluation(plan, costs):
  config, (low, high) = plan.config.eval, _chunk_time(plan, costs)
  if not plan.evaluations:
    return []
  size = plan.chunk_prompts * plan.num_shards
  text = f'{low:,.1f} to {high:,.1f} seconds for a chunk of {size:,} problems'
  if plan.chunks:
    text += f', {plan.chunks:,} chunks for {plan.held_out_problems:,} problems'
  return wrap(f'An evaluation of {config.samples} samples a problem: {text}')


def _whole_run(plan, rollout, chunk):
  """The prediction for the whole run."""
  count = plan.evaluations * (plan.chunks or 1)
  low, high = [
    (plan.rollouts * a + count * b) / 3600 for a, b in zip(rollout, chunk)
  ]
  text = f'{low:,.1f} to {high:,.1f} hours for {plan.rollouts:,} rollouts'
  if plan.evaluations:
    text += f' and {plan.evaluations:,} evaluations'
    if not plan.chunks:
      text += ' of one chunk (the held-out records are not on this machine)'
  return wrap(
    f'The whole run, predicted: {text}, without rewards, compilation and '
    'checkpoints. The roofline is a lower bound: real programs take longer'
  )


def _rollout_time(plan, costs):
  """Seconds of all calls by program, if all resources overlap or none do, and
  the number of tokens that all devices sample."""
  chip, calls, grpo = plan.pod.chip, plan.calls(), plan.config.grpo
  overlapped, one_by_one = {}, {}
  for x in costs:
    if x.name not in calls:  # The evaluation is not part of a rollout.
      continue
    count: float = calls[x.name]
    if x.name in ('train', 'score'):
      count *= plan.packed_share
    overlapped[x.name] = count * x.bound(chip)[1]
    one_by_one[x.name] = count * sum(x.seconds(chip).values())
  tokens = grpo.prompts_per_step * grpo.group_size * plan.mean_new_tokens
  return dict(overlapped=overlapped, one_by_one=one_by_one, tokens=tokens)


def _table(head, rows):
  """Lines of a table. The first column is aligned left, the others right."""
  cells = [head] + [[_cell(x) for x in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells)]
  found = []
  for row in cells:
    aligned = [row[0].ljust(widths[0])]
    aligned += [x.rjust(n) for x, n in zip(row[1:], widths[1:])]
    found.append(('  ' + '  '.join(aligned)).rstrip())
  return found


def _cell(x):
  if isinstance(x, str):
    return x
  if isinstance(x, int):
    return f'{x:,}'
  if x and abs(x) < 0.0005:
    return f'{x:.0e}'
  return f'{x:,.3f}'[: 9 if x < 1e4 else 12]


def wrap(text: str) -> list[str]:
  return textwrap.wrap(
    text, 100, subsequent_indent='    ', break_on_hyphens=False
  )


def as_json(
  plan: Plan, costs: Costs, fixes: Fixes, checks: Sequence[Check]
) -> dict[str, Any]:
  """The whole report, as plain values."""
  pod, programs = plan.pod, []
  for x in costs:
    collectives = [
      dataclasses.asdict(key) | dict(count=float(n), bytes=float(size))
      for key, n, size in x.collectives
    ]
    more = dict(collectives=collectives, bound=x.bound(pod.chip)[0])
    totals = dict(need=x.need, seconds=x.seconds(pod.chip))
    programs.append(dataclasses.asdict(x) | more | totals)
  found = dict(pod=pod.name, devices=pod.devices, hosts=pod.hosts)
  return found | dict(
    axes=dict(plan.axes),
    init=plan.config.init,
    hbm=pod.chip.hbm_capacity,
    versions=versions.here(),
    parameters=shapes.num_parameters(plan.cfg),
    row_len=plan.row_len,
    calls=plan.calls(),
    fits=all(x.fits(pod.chip) for x in costs),
    knobs=[text for text, _ in fixes],
    programs=programs,
    expert_imbalance=plan.expert_imbalance,
    rollout=_rollout_time(plan, costs),
    evaluation=dict(
      problems=plan.held_out_problems,
      chunks=plan.chunks,
      chunk_seconds=_chunk_time(plan, costs),
    ),
    host=host_memory.needs(plan) | dict(memory=plan.pod.host_memory),
    checks=[check._asdict() for check in checks],
  )
