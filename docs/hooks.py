"""Pages of the documentation that are made from the code, for mkdocs."""

import dataclasses
import importlib
import textwrap

from mkdocs.structure.files import File

from r1jax import cli, config
from r1jax.reports import metric_texts

KEYS = """\
# Keys of a config

A stage has the keys below; `experiments/` has configs that change some of them,
and `--config.KEY=VALUE` changes one on the command line. Where **change** is
`free`, a command that is repeated may have another value; where it is empty,
`--change KEY=VALUE` is needed; with a reason the key cannot change within a run
(see [Change a run](../changing_a_run.md)). `code` after the meaning: the value
may be the name of [your own function](../your_own_code.md).
"""

METRICS = """\
# Metrics

What `metrics.jsonl`, TensorBoard and the report have of a run; `*` stands for
the names of rewards, of devices, and of metrics that an objective returns.

"""


def on_files(files, config):
  """Adds the generated pages to those of docs/."""
  files.append(File.generated(config, 'reference/keys.md', content=keys()))
  text = METRICS + metric_texts.markdown()
  files.append(File.generated(config, 'reference/metrics.md', content=text))
  return files


def keys():
  """The page of all keys of all stages."""
  parts = [KEYS]
  for name, module in cli.STAGES.items():
    stage = importlib.import_module(module)
    if name != 'preflight' and dataclasses.fields(stage.Config):
      parts.append(f'## {name}\n\n{table(stage.Config)}')
  return '\n\n'.join(parts)


def table(cls):
  """The keys of a stage with defaults and meanings, as a table."""
  lines = ['| key | default | meaning | change |', '|---|---|---|---|']
  for name, default, metadata in config.named_options(cls()):
    shown = textwrap.shorten(repr(default), 60, placeholder=' …')
    meaning = metadata.get('help', '')
    if metadata.get('is_code'):
      meaning += ' (`code`)'
    change = 'free' if metadata.get('is_free') else metadata.get('fixed', '')
    code = f'`{name}`', '`' + shown.replace('|', '\\|') + '`'
    cells = *code, escape(meaning), escape(change)
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def escape(cell):
  """A text in which no character is markup."""
  for character, name in ('|', '\\|'), ('<', '&lt;'), ('{', '&#123;'):
    cell = cell.replace(character, name)
  return cell
