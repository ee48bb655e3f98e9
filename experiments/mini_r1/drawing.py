"""The two images of the report: training curves and ablations."""

import io
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib import axes, figure

from r1jax.evaluation.html_page import COLOURS

BLUE, ORANGE, GREEN, *_ = COLOURS


class Ablation(NamedTuple):
  """A panel: the values of one key. The default value has no run of its own."""

  title: str
  key: str  # in the names of the runs
  values: Sequence[str]
  default: str | None
  symbol: str


class Curve(NamedTuple):
  """The same curve of several seeds."""

  runs: Sequence[str]
  colour: str
  label: str


ABLATIONS = (
  Ablation(
    title='Group size G, 256 samples a step',
    key='group_size',
    values=('4', '8', '16', '32'),
    default='16',
    symbol='G',
  ),
  Ablation(
    title='KL coefficient β',
    key='kl_coef',
    values=('0', '0.001', '0.1'),
    default='0',
    symbol='β',
  ),
  Ablation(
    title='Clip range ε, 4 updates a rollout',
    key='clip',
    values=('0.2', '1.0', '10.0'),
    default=None,
    symbol='ε',
  ),
  Ablation(
    title='Max. tokens of a response',
    key='max_new_tokens',
    values=('11', '14', '17', '20'),
    default='20',
    symbol='',
  ),
)
ZERO = Curve(('zero', 'zero-1', 'zero-2'), BLUE, 'R1-Zero, 3 seeds')
DEV2 = Curve(
  ('dev2', 'dev2-1', 'dev2-2'), GREEN, 'Dev2: with language reward, 3 seeds'
)
NO_LANGUAGE = Curve(('no_language',), ORANGE, 'without')
R1 = Curve(('r1', 'r1-1', 'r1-2'), GREEN, 'R1: preferences in the last half')
EARLY = Curve(
  ('early_preferences', 'early_preferences-1', 'early_preferences-2'),
  ORANGE,
  'preferences from step 0',
)
PANELS = (
  ('R1-Zero: held-out pass@1, 95 %', 'eval/pass1', (ZERO,)),
  ('R1-Zero: response length', 'eval/length', (ZERO,)),
  ('Language consistency', 'eval/reward/language', (DEV2, NO_LANGUAGE)),
  (
    'Language reward: held-out pass@1, 95 %',
    'eval/pass1',
    (DEV2, NO_LANGUAGE),
  ),
  ('Preferences: rule accuracy, 95 %', 'eval/pass1', (R1, EARLY)),
  ('Preferences: helpful reward model', 'eval/reward/helpful', (R1, EARLY)),
)


def ablations(run) -> bytes:
  """pass@1 after 40 updates with its interval, and the accuracy of rollouts."""
  image = figure.Figure(figsize=(14, 6.4), layout='constrained')
  image.get_layout_engine().set(w_pad=0.1, h_pad=0.12)
  grid = image.subplots(2, len(ABLATIONS), sharey='row')
  for ablation, top, bottom in zip(ABLATIONS, *grid):
    for n, value in enumerate(ablation.values):
      name = f'{ablation.key}-{value}'
      if value == ablation.default:
        name = 'default'
      lines = run.metrics(f'ablation/{name}')
      draw_last_evaluation(top, n, lines)
      draw(
        bottom,
        lines,
        'reward/accuracy',
        color=COLOURS[n],
        label=f'{ablation.symbol} {value}'.strip(),
        linewidth=1.3,
      )
    top.set_xticks(range(len(ablation.values)), ablation.values)
    top.set_xlim(-0.6, len(ablation.values) - 0.4)
    top.set_title(ablation.title, loc='left', fontsize=11, fontweight='bold')
    bottom.legend(fontsize=8, frameon=False, loc='upper left')
    bottom.set_xlabel('update', fontsize=9)
    for panel in (top, bottom):
      set_style(panel)
  grid[0][0].set_ylim(bottom=0)
  grid[0][0].set_ylabel('held-out pass@1, 95 % interval', fontsize=9)
  grid[1][0].set_ylabel('accuracy of rollouts', fontsize=9)
  return png(image)


def draw_last_evaluation(panel: axes.Axes, x: int, lines: list[dict]) -> None:
  """pass@1 of the last evaluation with its interval and response length."""
  last = [line for line in lines if 'eval/pass1' in line][-1]
  pass1, low, high = last['eval/pass1'], last['eval/low'], last['eval/high']
  panel.errorbar(
    x,
    pass1,
    yerr=[[pass1 - low], [high - pass1]],
    fmt='o',
    color=COLOURS[x],
    capsize=4,
  )
  panel.annotate(
    f'{last["eval/length"]:.1f} tokens',
    (x, low),
    (0, -12),
    textcoords='offset points',
    ha='center',
    fontsize=8,
    color='#666',
  )


def training_curves(run) -> bytes:
  """Zero, the language reward and the preference rewards over training."""
  image = figure.Figure(figsize=(14, 6.4), layout='constrained')
  image.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
  panels = image.subplots(2, 3).flat
  for panel, (title, metric, curves) in zip(panels, PANELS, strict=True):
    for curve in curves:
      draw_curve(panel, run, metric, curve)
    panel.set_title(title, loc='left', fontsize=11, fontweight='bold')
    panel.set_xlabel('update', fontsize=9)
    panel.legend(fontsize=8, frameon=False)
    if metric == 'eval/length':
      panel.set_ylabel('tokens', fontsize=9)
    set_style(panel)
  return png(image)


def draw_curve(panel: axes.Axes, run, metric: str, curve: Curve) -> None:
  """A line for each seed, with the interval of pass@1."""
  for name in curve.runs:
    lines = [line for line in run.metrics(name) if metric in line]
    draw(
      panel,
      lines,
      metric,
      color=curve.colour,
      marker='.',
      linewidth=1.2,
      label=curve.label if name == curve.runs[0] else None,
    )
    if metric == 'eval/pass1':
      panel.fill_between(
        [line['step'] for line in lines],
        [line['eval/low'] for line in lines],
        [line['eval/high'] for line in lines],
        color=curve.colour,
        alpha=0.12,
        lw=0,
      )


def draw(panel: axes.Axes, lines: list[dict], metric: str, **style) -> None:
  """A metric over the steps that have it."""
  lines = [line for line in lines if metric in line]
  panel.plot(
    [line['step'] for line in lines], [line[metric] for line in lines], **style
  )


def set_style(panel: axes.Axes) -> None:
  panel.tick_params(labelsize=8)
  panel.grid(color='#e5e5e5')
  panel.spines[['top', 'right']].set_visible(False)


def png(image: figure.Figure) -> bytes:
  """The bytes of a PNG file."""
  file = io.BytesIO()
  image.savefig(file, format='png', dpi=110)
  return file.getvalue()
