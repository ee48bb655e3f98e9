"""Chat templates of checkpoints: jinja programs, run in a sandbox."""

import datetime
import json

import jinja2.ext
import jinja2.sandbox

from r1jax import errors
from r1jax.data import templates


class _Generation(jinja2.ext.Extension):
  """{% generation %} marks what the model wrote; here only its body counts."""

  tags = {'generation'}

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    return jinja2.nodes.Scope(body, lineno=line)


def render_chat(template, names, messages):
  """The chat as text, up to where the assistant's answer begins."""
  if not template:
    raise errors.UserError(
      'this tokenizer has no chat template: choose a prompt template of '
      f'{", ".join(templates.TEMPLATES)}, or a text of your own with {{question}}'
    )

  def fail(message):
    raise jinja2.TemplateError(message)

  env = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, jinja2.ext.loopcontrols],
  )
  # jinja's own filter escapes HTML.
  env.filters['tojson'] = lambda x, **how: json.dumps(
    x, **dict(ensure_ascii=False) | how
  )
  env.globals['raise_exception'] = fail
  env.globals['strftime_now'] = lambda f: datetime.datetime.now().strftime(f)
  try:
    return env.from_string(template).render(
      messages=messages, add_generation_prompt=True, **names
    )
  except Exception as error:  # a template is a program of someone else's
    raise errors.UserError(f'the chat template failed: {error}') from error
