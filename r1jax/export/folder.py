"""Writes the directory of an exported model."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from r1jax import errors, files
from r1jax.checkpoints import gguf_writer, hf_files, pretrained, tokenization
from r1jax.checkpoints.policy import Policy
from r1jax.export import chat_template, facts, model_card
from r1jax.export.source import Source

MARK = 'r1jax_export.json'  # by which a directory is known as an export
Dtype = Literal['float32', 'bfloat16', 'float16']
DTYPE_NAMES = dict(float32='F32', bfloat16='BF16', float16='F16')


def check(output: Path) -> None:
  """Raises UserError unless the directory is absent, empty or an export, which
  is replaced."""
  if output.is_file():
    raise errors.UserError(f'{output} is a file: give a directory as --output')
  is_export = (output / MARK).exists()
  if output.exists() and any(output.iterdir()) and not is_export:
    raise errors.UserError(
      f'{output} is not empty, and it is not the output of an earlier export: '
      'choose another --output'
    )


def write(
  source: Source, output: Path, kind: str, dtype: Dtype, part_bytes: int
) -> list[Path]:
  """Writes the model beside `output` and renames it. Returns the files. kind is
  'hf' or 'gguf'. Waits for other exports into the same parent."""
  output = output.absolute()
  output.parent.mkdir(parents=True, exist_ok=True)
  with files.locked(output.parent):
    return _write(source, output, kind, dtype, part_bytes)


def _write(source, output, kind, dtype, part_bytes):
  new = output.with_name(f'.{output.name}.new')
  old = output.with_name(f'.{output.name}.old')
  _put_back(old, output)  # after a kill between the two renames below
  check(output)
  for left in (new, old):
    shutil.rmtree(left, ignore_errors=True)
  try:
    if kind == 'hf':
      _write_hf(source, new, dtype, part_bytes)
    else:
      _write_gguf(source, new, dtype, part_bytes)
    content = json.dumps(_facts(source, kind, dtype), indent=2)
    files.write_text(new / MARK, content + '\n')
    if output.exists():
      output.rename(old)
    new.rename(output)
  except BaseException:
    _put_back(old, output)
    shutil.rmtree(new, ignore_errors=True)
    raise
  shutil.rmtree(old, ignore_errors=True)
  return sorted(output.iterdir())


def _put_back(old, output):
  if old.exists() and not output.exists():
    old.rename(output)


def _write_hf(source, folder, dtype, part_bytes):
  """A directory that transformers opens."""
  model = served(source)
  pretrained.save(
    folder,
    model.params,
    model.cfg,
    model.tokenizer,
    dtype=dtype,
    max_file_bytes=part_bytes,
  )
  path = folder / 'generation_config.json'
  settings = generation_config(source, model.tokenizer.eos_ids)
  hf_files.write_json(path, settings)
  card = model_card.text(source, source.short_name, dtype)
  files.write_text(folder / 'README.md', card)


def _write_gguf(source, folder, dtype, part_bytes):
  """A directory with a GGUF file, or its parts, and the card."""
  folder.mkdir()
  model, name = served(source), source.short_name
  path = folder / f'{name}-{DTYPE_NAMES[dtype]}.gguf'
  more: dict[str, Any] = {'general.name': name, 'general.type': 'model'}
  settings = generation_config(source, model.tokenizer.eos_ids)
  for key, own in dict(
    temperature='temp', top_p='top_p', top_k='top_k'
  ).items():
    if key in settings:
      more[f'general.sampling.{own}'] = settings[key]
  gguf_writer.save(
    path, model.params, model.cfg, model.tokenizer, dtype, part_bytes, more
  )
  first = gguf_writer.paths(path)[0].name
  card = model_card.text(source, name, dtype, first)
  files.write_text(folder / 'README.md', card)


def served(source: Source) -> Policy:
  """The policy with the end tokens of its run, and a chat template that makes
  its prompts. Prints why it keeps the template of its tokenizer, if the run's
  is a function."""
  policy = source.policy
  if source.run is None:
    return policy
  tokenizer, config = policy.tokenizer, source.config
  if source.is_rl and config.sample.eos_ids:
    tokenizer = tokenization.with_eos_ids(tokenizer, config.sample.eos_ids)
  date = source.run.record.date
  template = chat_template.of_run(tokenizer, config.prompt, date)
  if template is not None:
    tokenizer = tokenization.with_chat_template(tokenizer, template)
  else:
    print(
      f'config.prompt.template is your function {config.prompt.template}, which '
      'cannot be written as a chat template: the model keeps that of its '
      'tokenizer, or has none'
    )
  return policy._replace(tokenizer=tokenizer)


def generation_config(source: Source, eos_ids: Sequence[int]) -> dict[str, Any]:
  """The end tokens, and how the run's evaluation samples."""
  found: dict[str, Any] = dict(eos_token_id=list(eos_ids))
  if not source.is_rl:
    return found
  config, temperature = source.config, source.config.eval.temperature
  found['max_new_tokens'] = config.max_new_tokens_at(
    source.step or config.steps
  )
  found['do_sample'] = temperature > 0
  if temperature > 0:
    # transformers would choose among the 50 most probable tokens.
    found |= dict(temperature=float(temperature), top_k=0)
    found['top_p'] = float(config.sample.top_p)
  decode = source.policy.tokenizer.decode
  stops = [*config.prompt.stop_strings]
  stops += [decode(ids) for ids in config.sample.stop_token_sequences]
  if stops:
    found['stop_strings'] = stops
  return found


def _held_out(line):
  names = [x for x in line if x == 'step' or x.startswith('eval/')]
  return {name: line[name] for name in names}


def _facts(source, kind, dtype):
  """What the export is of, for programs."""
  lines = facts.evaluations(source)
  return dict(
    source=source.name,
    stage=source.run.stage_name if source.run else None,
    step=source.step,
    format=kind,
    dtype=dtype,
    held_out=_held_out(lines[-1]) if lines else None,
    trained_by=facts.last_start(source) if source.run else None,
    exported_by=facts.this_process(),
    time=time.strftime('%Y-%m-%d %H:%M:%S'),
  )
