"""Tokenizer settings besides the vocabulary: special tokens, end tokens and the
chat template, which is rendered in jinja's sandbox."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2.ext
import jinja2.sandbox

from r1jax import errors
from r1jax.checkpoints.hf_files import read_json, write_json
from r1jax.data import run_date

Messages = Sequence[Mapping[str, str]]
OPTIONS = 'lstrip', 'rstrip', 'normalized', 'single_word', 'special'
SPECIAL = 'bos_token', 'eos_token', 'unk_token', 'pad_token'


@dataclasses.dataclass(frozen=True)
class Settings:
  special_tokens: dict[str, str] = dataclasses.field(default_factory=dict)
  # Those of generation_config.json, or else of config.json.
  eos_ids: tuple[int, ...] = ()
  chat_template: str | None = None
  add_bos: bool | None = None  # None: as the vocabulary's file says
  # {id: token with `content`, `special` …} beside those of the vocabulary.
  added_tokens: dict[int, dict] = dataclasses.field(default_factory=dict)

  def write(
    self, directory: str | Path, tokenizer_class: str, **more: object
  ) -> None:
    """Writes tokenizer_config.json, with `more` of its keys."""
    config: dict = dict(tokenizer_class=tokenizer_class, **self.special_tokens)
    config |= more
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
        'this tokenizer has no chat template: set the prompt template to '
        "r1_zero, plain, or a text with '{question}'"
      )
    extensions = [_Generation, jinja2.ext.loopcontrols]
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
      trim_blocks=True, lstrip_blocks=True, extensions=extensions
    )
    # Jinja's own filter would escape for HTML.
    env.filters['tojson'] = functools.partial(json.dumps, ensure_ascii=False)
    env.globals['raise_exception'] = _raise_exception
    env.globals['strftime_now'] = run_date.now().strftime
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
  """The settings in the files of a Hugging Face directory, which count as in
  transformers: special_tokens_map.json and added_tokens.json before
  tokenizer_config.json if that is of an old version, which does not list the
  added tokens; the end tokens of config.json without generation_config.json."""
  config = _read_if_there(directory / 'tokenizer_config.json')
  special_tokens = _special_tokens(config)
  mapped = _special_tokens(
    _read_if_there(directory / 'special_tokens_map.json')
  )
  listed = config.get('added_tokens_decoder')
  if isinstance(listed, dict):
    special_tokens = mapped | special_tokens
  else:
    special_tokens |= mapped
  ids = _read_if_there(directory / 'generation_config.json').get('eos_token_id')
  if ids is None:
    ids = _read_if_there(directory / 'config.json').get('eos_token_id')
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
    added_tokens=_added_tokens(directory, listed, special_tokens),
  )


def _read_if_there(path):
  return read_json(path) if path.exists() else {}


def _special_tokens(table):
  """The texts of the special tokens in a JSON file."""
  tokens = {}
  for key in SPECIAL:
    value = table.get(key)
    if isinstance(value, dict):  # an AddedToken
      value = value.get('content')
    if isinstance(value, str):
      tokens[key] = value
  return tokens


def _added_tokens(directory, listed, special_tokens):
  """{id: token} of the added tokens, which tokenizer_config.json lists, or else
  {text: id} of added_tokens.json."""
  path = directory / 'added_tokens.json'
  if isinstance(listed, dict):
    path = directory / 'tokenizer_config.json'
  tokens = {}
  with errors.explained(f'{path}: the added tokens cannot be read'):
    if isinstance(listed, dict):
      for i, token in listed.items():
        tokens[int(i)] = dict(token) | dict(content=str(token['content']))
    else:
      options = dict.fromkeys(OPTIONS, False)
      for text, i in _read_if_there(path).items():
        special = text in special_tokens.values()
        tokens[int(i)] = options | dict(content=text, special=special)
  for i, token in tokens.items():
    if i < 0 or not token['content']:
      raise errors.UserError(f'{path}: {token["content"]!r} has the id {i}')
  return tokens
