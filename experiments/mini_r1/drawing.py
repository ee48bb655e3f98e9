"""The two pictures of the report: the course of the runs, and the ablations."""

import base64
import io

from matplotlib import figure

from r1jax.stages.report import COLOURS

BLUE, RED, GREEN, PINK, *_ = COLOURS
# Panel: (its name in the run's folders, the values, what they are called).
ABLATIONS = {
  'Group size G, 256 samples a step': (
    'group',
    ('4', '8', '16', '32'),
    '16',
    'G',
  ),
  'Weight β of the KL': ('beta', ('0', '0.001', '0.1'), '0', 'β'),
  'Clip ε, 4 updates a rollout': ('clip', ('0.2', '1.0', '10.0'), None, 'ε'),
  'Room for a response, tokens': ('room', ('11', '14', '17', '20'), '20', ''),
}


def ablation(name, value, default):
  return 'default' if value == default else f'{name}-{value}'


def last(lines):
  """The line of the last evaluation."""
  return [line for line in lines if 'eval/pass1' in line][-1]


def ablations(run):
  """pass@1 after 40 updates with its interval, and the way there."""
  picture = figure.Figure(figsize=(14, 6.4), layout='constrained')
  picture.get_layout_engine().set(w_pad=0.1, h_pad=0.12)
  grid = picture.subplots(2, len(ABLATIONS), sharey='row')
  for (title, spec), axes, below in zip(ABLATIONS.items(), *grid):
    name, values, default, sign = spec
    for n, value in enumerate(values):
      lines = run.metrics(f'ablation/{ablation(name, value, default)}')
      end = last(lines)
      y, colour = end['eval/pass1'], COLOURS[n]
      margin = [[y - end['eval/low']], [end['eval/high'] - y]]
      axes.errorbar(n, y, yerr=margin, fmt='o', color=colour, capsize=4)
      axes.annotate(
        f'{end["eval/length"]:.1f} tokens',
        (n, end['eval/low']),
        (0, -12),
        textcoords='offset points',
        ha='center',
        fontsize=8,
        color='#666',
      )
      drawn = [x for x in lines if 'reward/accuracy' in x]
      below.plot(
        [x['step'] for x in drawn],
        [x['reward/accuracy'] for x in drawn],
        color=colour,
        label=f'{sign} {value}'.strip(),
        linewidth=1.3,
      )
    axes.set_xticks(range(len(values)), values)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_title(title, loc='left', fontsize=11, fontweight='bold')
    below.legend(fontsize=8, frameon=False, loc='upper left')
    below.set_xlabel('update', fontsize=9)
    for x in (axes, below):
      plain(x)
  grid[0][0].set_ylim(bottom=0)
  grid[0][0].set_ylabel('held-out pass@1, 95 % interval', fontsize=9)
  grid[1][0].set_ylabel('share right in rollouts', fontsize=9)
  return png(picture)


def course(run):
  """Zero, the language reward and the preference rewards over training."""
  picture = figure.Figure(figsize=(14, 6.4), layout='constrained')
  picture.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
  (pass1, length, spoken), (loud, right, liked) = picture.subplots(2, 3)
  zeros = ('zero', 'zero-1', 'zero-2'), BLUE, 'R1-Zero, 3 seeds'
  dev2s = (
    ('dev2', 'dev2-1', 'dev2-2'),
    GREEN,
    'Dev2: with language reward, 3 seeds',
  )
  silents = ('silent',), RED, 'without'
  r1s = ('r1', 'r1-1', 'r1-2'), GREEN, 'R1: preferences in the last half'
  longs = ('long', 'long-1', 'long-2'), RED, 'preferences from step 0'
  panels = (
    (pass1, 'R1-Zero: held-out pass@1, 95 %', 'eval/pass1', (zeros,)),
    (length, 'R1-Zero: response length', 'eval/length', (zeros,)),
    (spoken, 'Language consistency', 'eval/reward/language', (dev2s, silents)),
    (
      loud,
      'Language reward: held-out pass@1, 95 %',
      'eval/pass1',
      (dev2s, silents),
    ),
    (right, 'Preferences: rule accuracy, 95 %', 'eval/pass1', (r1s, longs)),
    (
      liked,
      'Preferences: helpful reward model',
      'eval/reward/helpful',
      (r1s, longs),
    ),
  )
  for axes, title, metric, groups in panels:
    for names, colour, label in groups:
      for n, name in enumerate(names):
        lines = [x for x in run.metrics(name) if metric in x]
        axes.plot(
          [x['step'] for x in lines],
          [x[metric] for x in lines],
          color=colour,
          marker='.',
          linewidth=1.2,
          label=label if n == 0 else None,
        )
        if metric == 'eval/pass1':
          axes.fill_between(
            [x['step'] for x in lines],
            [x['eval/low'] for x in lines],
            [x['eval/high'] for x in lines],
            color=colour,
            alpha=0.12,
            lw=0,
          )
    axes.set_title(title, loc='left', fontsize=11, fontweight='bold')
    axes.set_xlabel('update', fontsize=9)
    axes.legend(fontsize=8, frameon=False)
    plain(axes)
  length.set_ylabel('tokens', fontsize=9)
  return png(picture)


def plain(axes):
  axes.tick_params(labelsize=8)
  axes.grid(color='#e5e5e5')
  axes.spines[['top', 'right']].set_visible(False)


def png(picture):
  """As an <img> that needs no other file."""
  drawn = io.BytesIO()
  picture.savefig(drawn, format='png', dpi=110)
  return base64.b64encode(drawn.getvalue()).decode()
