"""What a tokenizer has beside its vocabulary: special tokens, end tokens, and a
chat template, which is a jinja program that runs in jinja's sandbox."""

import dataclasses
import datetime
import functools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence

import jinja2.ext
import jinja2.sandbox

from r1jax import errors
from r1jax.checkpoints.hf_files import read_json, write_json

Messages = Sequence[Mapping[str, str]]
JSON_FILES = 'tokenizer_config.json', 'generation_config.json'
SPECIAL_TOKENS = 'bos_token', 'eos_token', 'unk_token', 'pad_token'


@dataclasses.dataclass(frozen=True)
class Settings:
  special_tokens: dict[str, str] = dataclasses.field(default_factory=dict)
  eos_ids: tuple[int, ...] = ()  # those of generation_config.json
  chat_template: str | None = None
  add_bos: bool | None = None  # None: as the vocabulary's file says


def read(directory: pathlib.Path) -> Settings:
  """The settings in the files of a Hugging Face directory."""
  paths = [directory / name for name in JSON_FILES]
  config, generation = [read_json(p) if p.exists() else {} for p in paths]
  special_tokens = {}
  for key in SPECIAL_TOKENS:
    value = config.get(key)
    if isinstance(value, dict):  # an AddedToken
      value = value.get('content')
    if isinstance(value, str):
      special_tokens[key] = value
  eos_ids = generation.get('eos_token_id')
  if eos_ids is None:
    eos_ids = []
  template = config.get('chat_template')
  path = directory / 'chat_template.jinja'
  if path.exists():
    template = path.read_text(encoding='utf-8')
  elif isinstance(template, list):
    dicts = [x for x in template if isinstance(x, dict)]
    named = [x for x in dicts if x.get('name') == 'default']
    template = named[0].get('template') if named else None
  return Settings(
    special_tokens=special_tokens,
    eos_ids=tuple(eos_ids) if isinstance(eos_ids, list) else (eos_ids,),
    chat_template=template,
    add_bos=config.get('add_bos_token'),
  )


def write(
  settings: Settings, directory: str | os.PathLike[str], tokenizer_class: str
) -> None:
  """Writes tokenizer_config.json."""
  config: dict = dict(tokenizer_class=tokenizer_class)
  config |= settings.special_tokens
  if settings.add_bos is not None:
    config['add_bos_token'] = settings.add_bos
  if settings.chat_template:
    config['chat_template'] = settings.chat_template
  write_json(pathlib.Path(directory, 'tokenizer_config.json'), config)


class _Generation(jinja2.ext.Extension):
  """{% generation %} marks the assistant's text; only its body is rendered."""

  tags = {'generation'}

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    return jinja2.nodes.Scope(body, lineno=line)


def _raise_exception(message):
  raise jinja2.TemplateError(message)


def render_chat(settings: Settings, messages: Messages) -> str:
  """The chat as text, up to where the assistant's response begins. A template
  sees the same names as in transformers."""
  if not settings.chat_template:
    raise errors.UserError(
      'this tokenizer has no chat template: set config.prompt.template to '
      "r1_zero, plain, or a text with '{question}'"
    )
  env = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, jinja2.ext.loopcontrols],
  )
  # Jinja's own filter would escape for HTML.
  env.filters['tojson'] = functools.partial(json.dumps, ensure_ascii=False)
  env.globals['raise_exception'] = _raise_exception
  env.globals['strftime_now'] = datetime.datetime.now().strftime
  with errors.explained('the chat template failed'):
    text = env.from_string(settings.chat_template).render(
      messages=messages, add_generation_prompt=True, **settings.special_tokens
    )
  return text
