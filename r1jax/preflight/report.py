"""What a rehearsal found, as text of at most 100 columns and as JSON."""

import dataclasses
import math
import textwrap

from r1jax.preflight import cost, sizes

GIB = 2**30


def table(head, rows):
  """Lines of a table: the first column to the left, numbers to the right."""
  cells = [head, *([_cell(x) for x in row] for row in rows)]
  wide = [max(len(row[i]) for row in cells) for i in range(len(head))]
  lines = []
  for row in cells:
    first = row[0].ljust(wide[0])
    rest = [x.rjust(n) for x, n in zip(row[1:], wide[1:])]
    lines.append('  '.join(['', first, *rest]).rstrip())
  return lines


def _cell(x):
  if isinstance(x, str) or x is None:
    return x or ''
  if x and abs(x) < 0.0005:
    return f'{x:.0e}'
  return f'{x:,}' if isinstance(x, int) else f'{x:,.3f}'[: 9 if x < 1e4 else 12]


def parameters(cfg):
  return sum(math.prod(a.shape) for _, a in sizes.leaves(cfg))


def lines(plan, costs, knobs):
  """The whole report."""
  rollout = cost.rollout(plan, costs)
  return [
    *head(plan),
    '',
    *memory(plan, costs),
    '',
    *verdict(plan, costs, knobs),
    '',
    *time(plan, costs),
    '',
    *collectives(costs),
    *total(plan, rollout),
  ]


def head(plan):
  c, cfg, pod = plan.c, plan.cfg, plan.pod
  axes = ' x '.join(f'{name} {size}' for name, size in plan.axes)
  return [
    f'{pod.name}: {pod.devices} devices on {pod.hosts} hosts, {axes}',
    f'{c.init}: {parameters(cfg) / 1e9:.2f} B parameters, {cfg.dtype}, '
    f'remat {cfg.remat}, attention {cfg.attention}',
    f'rows of {plan.row_len:,} tokens ({plan.prompt_len:,} of the prompt), '
    f'micro-batches of {c.micro_batch_size} rows, {plan.micro_rows} a shard',
    f'rollouts of {c.grpo.prompts_per_step} x {c.grpo.group_size} samples, {plan.slots} '
    f'slots a shard, {plan.mean_len:,} tokens a response',
    *['the teacher is counted as large as the policy'] * bool(c.teacher),
  ]


def memory(plan, costs):
  usable = plan.pod.chip.hbm
  rows = [
    [
      x.name,
      *(n / GIB for n in (x.argument, x.output, x.alias, x.temp)),
      x.resident / GIB,
      x.need / GIB,
      f'{x.need / usable:.0%}',
      x.source,
    ]
    for x in costs
    if x.own
  ]
  found = [f'GiB a chip, of {usable / GIB:.2f} that a program can use:']
  found += table(
    [
      'program',
      'arguments',
      'output',
      'in place',
      'temporary',
      'beside it',
      'need',
      'share',
      'by',
    ],
    rows,
  )
  found += ['', 'GiB a chip by formula:']
  for x in (x for x in costs if x.parts):
    parts = ', '.join(f'{what} {n / GIB:.3f}' for what, n in x.parts)
    found += wrap(f'  {x.name}: {parts}')
  return found


def wrap(text):
  return textwrap.wrap(
    text, 100, subsequent_indent='    ', break_on_hyphens=False
  )


def verdict(plan, costs, knobs):
  chip = plan.pod.chip
  for x in costs:
    if x.refused:
      found = [f'It does not fit: {x.name} was refused by the compiler:']
      found += wrap(f'  {x.refused}')
      break
  else:
    worst = max(costs, key=lambda x: x.need)
    need = f'{worst.name} needs {worst.need / GIB:.2f} of {chip.hbm / GIB:.2f}'
    if worst.fits(chip):
      return [f'It fits: {need} GiB of a chip.']
    found = [f'It does not fit: {need} GiB of a chip.']
  if not knobs:
    return [*found, 'No three knobs together would make it fit: more chips.']
  found.append('It would fit, by formula, with')
  for words, need in knobs:
    found += wrap(f'  {words}  ({need / GIB:.2f} GiB)')
  return found


def time(plan, costs):
  chip = plan.pod.chip
  rows = []
  for x in costs:
    seconds = x.seconds(chip)
    rows.append(
      [x.name, x.flops / 1e12, x.hbm / GIB, x.ici / GIB, x.dcn / GIB]
      + [1e3 * seconds[name] for name in ('compute', 'HBM', 'ICI', 'DCN')]
      + [x.bound(chip)[0]]
    )
  notes = [f'  {x.name}: {note}' for x in costs for note in x.notes]
  found = ['A call, a chip: TFLOP and GiB moved; milliseconds of each alone:']
  found += table(
    [
      'program',
      'TFLOP',
      'HBM',
      'ICI',
      'DCN',
      'compute ms',
      'HBM ms',
      'ICI ms',
      'DCN ms',
      'bound',
    ],
    rows,
  )
  return found + notes


def collectives(costs, most=12):
  rows = []
  for x in costs:
    for key, count, size in x.collectives[:most]:
      rows.append(
        [
          x.name,
          key.kind,
          key.dtype,
          key.axes,
          int(key.group),
          int(count),
          size / GIB,
          key.wire(size) / GIB,
        ]
      )
  if not rows:
    return []
  return ['Collectives of a call, a chip: GiB of results, GiB sent:'] + [
    *table(
      ['program', 'kind', 'dtype', 'along', 'group', 'count', 'result', 'sent'],
      rows,
    ),
    '',
  ]


def total(plan, rollout):
  calls = plan.calls()
  rows = [
    [name, calls[name], rollout.best[name], rollout.worst[name]]
    for name in rollout.best
  ]
  low, high = rollout.seconds
  rows.append(['all', '', low, high])
  found = ['A rollout with its updates, seconds (all overlapped; nothing):']
  found += table(['program', 'calls', 'overlapped', 'one by one'], rows)
  found.append(
    f'  {rollout.tokens / high:,.0f} to {rollout.tokens / low:,.0f} tokens a '
    'second on the pod, by the roofline: no chip reaches it'
  )
  return found


def as_json(plan, costs, knobs, checks):
  """Everything, as plain values."""
  chip, rollout = plan.pod.chip, cost.rollout(plan, costs)

  def one(x):
    return {
      field.name: getattr(x, field.name)
      for field in dataclasses.fields(x)
      if field.name not in ('collectives', 'parts')
    }

  return dict(
    pod=plan.pod.name,
    devices=plan.pod.devices,
    hosts=plan.pod.hosts,
    axes=dict(plan.axes),
    init=plan.c.init,
    hbm=chip.hbm,
    parameters=parameters(plan.cfg),
    row_len=plan.row_len,
    calls=plan.calls(),
    fits=all(x.fits(chip) for x in costs),
    knobs=[k for k, _ in knobs],
    programs=[
      one(x)
      | dict(
        need=x.need,
        seconds=x.seconds(chip),
        bound=x.bound(chip)[0],
        parts=dict(x.parts),
        collectives=[
          dataclasses.asdict(key) | dict(count=float(n), bytes=float(size))
          for key, n, size in x.collectives
        ],
      )
      for x in costs
    ],
    rollout=dict(
      overlapped=rollout.best, one_by_one=rollout.worst, tokens=rollout.tokens
    ),
    checks=[dataclasses.asdict(x) for x in checks],
  )
