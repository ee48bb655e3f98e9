"""Tokenizer settings besides the vocabulary: special tokens, end tokens and the
chat template, which is rendered in jinja's sandbox."""

import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2.ext
import jinja2.sandbox

from r1jax import errors
from r1jax.checkpoints.hf_files import read_json, write_json

Messages = Sequence[Mapping[str, str]]
JSON_FILES = 'tokenizer_config.json', 'generation_config.json'


@dataclasses.dataclass(frozen=True)
class Settings:
  special_tokens: dict[str, str] = dataclasses.field(default_factory=dict)
  eos_ids: tuple[int, ...] = ()  # those of generation_config.json
  chat_template: str | None = None
  add_bos: bool | None = None  # None: as the vocabulary's file says

  def write(self, directory: str | Path, tokenizer_class: str) -> None:
    """Writes tokenizer_config.json."""
    config: dict = dict(tokenizer_class=tokenizer_class, **self.special_tokens)
    if self.add_bos is not None:
      config['add_bos_token'] = self.add_bos
    if self.chat_template:
      config['chat_template'] = self.chat_template
    write_json(Path(directory, 'tokenizer_config.json'), config)

  def render_chat(self, messages: Messages) -> str:
    """The chat as text, up to where the assistant's response begins. A template
    sees the same names as in transformers."""
    if not self.chat_template:
      raise errors.UserError(
        'this tokenizer has no chat template: set config.prompt.template to '
        "r1_zero, plain, or a text with '{question}'"
      )
    extensions = [_Generation, jinja2.ext.loopcontrols]
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
      trim_blocks=True, lstrip_blocks=True, extensions=extensions
    )
    # Jinja's own filter would escape for HTML.
    env.filters['tojson'] = functools.partial(json.dumps, ensure_ascii=False)
    env.globals['raise_exception'] = _raise_exception
    env.globals['strftime_now'] = datetime.datetime.now().strftime
    env.globals['add_generation_prompt'] = True
    with errors.explained('the chat template failed'):
      template = env.from_string(self.chat_template)
      text = template.render(self.special_tokens, messages=messages)
    return text


class _Generation(jinja2.ext.Extension):
  """{% generation %} marks the assistant's text; only its body is rendered."""

  tags = {'generation'}

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    return jinja2.nodes.Scope(body, lineno=line)


def _raise_exception(message):
  raise jinja2.TemplateError(message)


def read(directory: Path) -> Settings:
  """The settings in the files of a Hugging Face directory."""
  paths = [directory / name for name in JSON_FILES]
  config, generation = [read_json(p) if p.exists() else {} for p in paths]
  special_tokens = {}
  for key in ('bos_token', 'eos_token', 'unk_token', 'pad_token'):
    value = config.get(key)
    if isinstance(value, dict):  # an AddedToken
      value = value.get('content')
    if isinstance(value, str):
      special_tokens[key] = value
  ids = generation.get('eos_token_id')
  ids = ids if isinstance(ids, list) else [ids]
  template = config.get('chat_template')
  path = directory / 'chat_template.jinja'
  if path.exists():
    template = path.read_text(encoding='utf-8')
  elif isinstance(template, list):
    dicts = [x for x in template if isinstance(x, dict)]
    template = {x.get('name'): x.get('template') for x in dicts}.get('default')
  return Settings(
    special_tokens=special_tokens,
    eos_ids=tuple(i for i in ids if i is not None),
    chat_template=template,
    add_bos=config.get('add_bos_token'),
  )
