"""README.md of an exported model: what it is made from, how, and its figures."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from r1jax.export import facts
from r1jax.export.source import Source

HUB_NAME = re.compile(r'\w[\w.-]*/\w[\w.-]*')
HUB_DATA = re.compile(r'hf://(\w[\w.-]*/\w[\w.-]*)')
RECIPES = dict(
  rl='by reinforcement learning (GRPO)', sft='by supervised fine-tuning'
)


def text(source: Source, title: str, dtype: str, file: str = '') -> str:
  """The card of a model with weights of `dtype`; `file` is the GGUF file, '' for
  a directory of Hugging Face."""
  parts = [front_matter(source, file), f'# {title}', _summary(source, dtype)]
  parts += ['## Use', _use(source, file)]
  if source.run:
    parts += _prompt(source)
    parts += ['## Training', *_training(source)]
    parts += _evaluation(source)
    parts += ['## Config', *_config(source)]
  parts += ['## Software', _software(source)]
  return '\n\n'.join(part for part in parts if part) + '\n'


def front_matter(source: Source, file: str = '') -> str:
  """The metadata that the hub reads, as YAML. Texts are written as JSON, which
  is YAML too."""
  library = 'gguf' if file else 'transformers'
  tags = ['r1jax', 'jax', 'reasoning']
  if source.run:
    tags += ['reinforcement-learning', 'grpo'] if source.is_rl else ['sft']
  base = source.config.init if source.run else source.name
  lines = [
    '---',
    f'library_name: {library}',
    'pipeline_tag: text-generation',
    f'tags: {json.dumps(tags)}',
  ]
  if HUB_NAME.fullmatch(base) and not Path(base).exists():
    lines.append(f'base_model: {json.dumps(base)}')
  names = []
  if source.run:
    values = ' '.join(value for _, value in facts.prompts(source))
    names = sorted(set(HUB_DATA.findall(values)))
  if names:
    lines.append(f'datasets: {json.dumps(names)}')
  return '\n'.join([*lines, '---'])


def _summary(source, dtype):
  if not source.run:
    return f'{_code(source.name)}, written with {dtype} weights by r1jax.'
  config, stage = source.config, source.run.stage_name
  base = 'random weights'
  if config.init != 'scratch':
    base = _code(config.init)
  sentence = f'Trained from {base} {RECIPES[stage]} with r1jax.'
  if source.step is not None:
    sentence += f' These are the weights after {source.step} updates'
    if not source.is_finished:
      sentence += ', before the end of the run'
    sentence += f', as {dtype}.'
  return sentence


def _use(source, file):
  if file:
    return _fenced(
      f'llama-cli --model {file} --jinja\npython -m r1jax chat {file}'
    )
  arguments = '**inputs'
  if source.run and source.config.prompt.stop_strings:
    arguments += ', tokenizer=tokenizer'  # to find the stop strings
  return _fenced(
    'from transformers import AutoModelForCausalLM, AutoTokenizer\n\n'
    "tokenizer = AutoTokenizer.from_pretrained('.')\n"
    "model = AutoModelForCausalLM.from_pretrained('.')\n"
    "messages = [{'role': 'user', 'content': 'What is 12 * 7?'}]\n"
    'inputs = tokenizer.apply_chat_template(\n'
    "  messages, add_generation_prompt=True, return_tensors='pt',\n"
    '  return_dict=True,\n'
    ')\n'
    f'output = model.generate({arguments})\n'
    'print(tokenizer.decode(output[0]))',
    'python',
  )


def _prompt(source):
  """The section about the prompts."""
  prompt = source.config.prompt
  parts = ['## Prompt', 'The chat template makes the prompts of training:']
  if prompt.template == 'chat':
    parts = ['## Prompt', 'The chat template is that of the base model.']
  else:
    parts.append(_fenced(facts.template(source)))
  if prompt.system:
    parts += ['The system message, unless a chat has one:']
    parts.append(_fenced(prompt.system))
  if prompt.prefill:
    parts.append(f'Every response begins with {_code(prompt.prefill)}.')
  if prompt.stop_strings:
    stops = ', '.join(map(_code, prompt.stop_strings))
    parts.append(f'A response ends after {stops}, or with its end token.')
  if prompt.tool:
    parts.append(
      f'In training the tool {_code(prompt.tool)} answered calls within a '
      'response; other programs do not answer them.'
    )
  return parts


def _training(source):
  """The data and the recipe."""
  config = source.config
  rows = [*facts.prompts(source), ('optimiser steps', str(source.step))]
  rows += [('learning rate', f'{config.optim.lr:g}'), ('seed', config.seed)]
  if source.is_rl:
    grpo, rewards = config.grpo, config.rewards
    rows += [
      ('prompts a step', grpo.prompts_per_step),
      ('responses a prompt', grpo.group_size),
      ('sampling temperature', f'{config.sample.temperature:g}'),
      ('max. new tokens', config.max_new_tokens_at(source.step or 0)),
      ('weight of the KL term', f'{grpo.kl_coef:g}'),
      ('rewards and weights', json.dumps(rewards, ensure_ascii=False)),
    ]
    for domain, weights in config.by_domain.items():
      text = json.dumps(weights, ensure_ascii=False)
      rows.append((f'rewards of the domain {domain}', text))
  else:
    rows += [
      ('rows a step', config.batch_size),
      ('max. tokens', config.max_len),
    ]
  return [_table(('', ''), [(key, _code(value)) for key, value in rows])]


def _evaluation(source):
  """The section of held-out figures: before training, and of the step or the
  last evaluation before it."""
  lines = facts.evaluations(source)
  if not lines:
    return ['## Held-out figures', 'The run has none of this step.']
  shown = lines if lines[0] is lines[-1] else [lines[0], lines[-1]]
  notes = _evaluation_notes(source, lines[-1])
  return ['## Held-out figures', _figures(source, shown), notes]


def _figures(source, lines):
  """A table with a row for each evaluation, without columns that are empty."""
  figures, rows = facts.figures(source), []
  titles = ['step', *figures, 'problems', 'tokens', 'truncated']
  for line in lines:
    cells = [str(line['step'])]
    cells += [facts.figure(line, *names) for names in figures.values()]
    for name in ('eval/problems', 'eval/length', 'eval/truncated'):
      value = line.get(name)
      cells.append('' if value is None else f'{value:.4g}')
    rows.append(cells)
  known = [n for n in range(len(titles)) if any(row[n] for row in rows)]
  rows = [[row[n] for n in known] for row in rows]
  return _table([titles[n] for n in known], rows)


def _evaluation_notes(source, last):
  """What the figures are of, and why that of a chosen step is too good."""
  config = source.config.eval
  notes = (
    f'{config.samples} samples a problem at temperature '
    f'{config.temperature:g}; in brackets the 95 % interval over the problems.'
  )
  if source.step is not None and last['step'] != source.step:
    notes += (
      f' The last evaluation up to step {source.step} is that of step '
      f'{last["step"]}.'
    )
  if source.is_best:
    notes += (
      f' The step was chosen among {facts.count_evaluations(source)} by '
      f'{_code(facts.best_by(source))}, so its own figure is too good on '
      'average: evaluate it on other problems.'
    )
  if last.get('eval/unscored'):
    share = f'{last["eval/unscored"]:.1%}'
    notes += f' {share} of the samples could not be judged.'
  return notes


def _config(source):
  """The keys that differ from the defaults, and the changes during the run."""
  record, rows = source.run.record, []
  for key, (default, value) in record.changed.items():
    rows.append((_code(key), _json(default), _json(value)))
  parts = [_table(('key', 'default', 'here'), rows)]
  changes = []
  for entry in record.changes:
    if source.step is None or entry['step'] < source.step:
      values = _json(entry['old']), _json(entry['new'])
      changes.append((entry['step'], _code(entry['key']), *values))
  if changes:
    titles = 'from step', 'key', 'before', 'after'
    parts += ['Changes during the run:', _table(titles, changes)]
  return parts


def _software(source):
  """The commit and the versions with which the step was made."""
  start, rows = facts.last_start(source), []
  if 'commit' in start:
    changed = start.get('has_changes')
    note = ' with changes that are not committed' if changed else ''
    rows.append(('commit of r1jax', _code(start['commit']) + note))
  names = dict(
    source='digest of its source',
    python='Python',
    devices='devices',
    processes='processes',
    time='started',
  )
  for key, title in names.items():
    if key in start:
      rows.append((title, _code(start[key])))
  packages = start.get('packages', {})
  versions = ', '.join(
    f'{name} {version}' for name, version in packages.items()
  )
  return _table(('', ''), [*rows, ('packages', versions)])


def _table(titles: Sequence, rows: Iterable[Sequence]) -> str:
  """A table of Markdown."""
  lines = [titles, ['---'] * len(titles), *rows]
  return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def _json(value: Any) -> str:
  return _code(json.dumps(value, ensure_ascii=False))


def _code(value: Any) -> str:
  """A value as code of Markdown, within a table too."""
  value = ' '.join(str(value).split()).replace('|', '\\|')
  marks = '`' * (1 + _longest_run(value))
  space = ' ' if '`' in value else ''
  return f'{marks}{space}{value}{space}{marks}' if value else ''


def _fenced(value: str, language: str = '') -> str:
  marks = '`' * max(3, 1 + _longest_run(value))
  return f'{marks}{language}\n{value}\n{marks}'


def _longest_run(value):
  """The length of the longest run of backticks."""
  return max(map(len, re.findall('`+', value)), default=0)
