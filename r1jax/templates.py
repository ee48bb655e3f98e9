"""From a question to the text of a prompt, and from a response to its thinking
and the rest."""

import datetime
import difflib
import json

import jinja2.ext
import jinja2.sandbox

from r1jax import errors

# R1-Zero's is the paper's Table 1, word for word; the full stop after the
# question is the paper's too.
TEMPLATES = dict(
  r1_zero='A conversation between User and Assistant. The user asks a '
  'question, and the Assistant solves it. The assistant first thinks about '
  'the reasoning process in the mind and then provides the user with the '
  'answer. The reasoning process and answer are enclosed within <think> '
  '</think> and <answer> </answer> tags, respectively, i.e., <think> '
  'reasoning process here </think> <answer> answer here </answer>. '
  'User: {question}. Assistant:',
  plain='{question}',
)


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
      f'{", ".join(TEMPLATES)}, or a text of your own with {{question}}'
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


def render(template, tokenizer, question, turns=()):
  """The prompt for a question after earlier turns of a chat, as text.

  `template` is a name of TEMPLATES, 'chat' for the tokenizer's own, or a text
  with {question} in it. turns are {role, content} as chat templates take them.
  """
  if template == 'chat':
    return tokenizer.chat([*turns, dict(role='user', content=question)])
  if turns:
    raise errors.UserError(
      f'the prompt template {template!r} has no room for earlier turns: set '
      'config.prompt.template=chat for records with turns'
    )
  text = TEMPLATES.get(template, template)
  if '{question}' not in text:
    names = [*TEMPLATES, 'chat']
    near = difflib.get_close_matches(template, names, n=1, cutoff=0)[0]
    raise errors.UserError(
      f'unknown prompt template {template!r}: did you mean {near!r}? It is one '
      f'of {", ".join(names)}, or a text with {{question}} in it'
    )
  return tokenizer.prefix + text.replace('{question}', question)


def think_split(text):
  """(thinking, rest): the text before and after the last </think>, without
  the tags; thinking that is never closed leaves no rest."""
  thinking, _, rest = text.rpartition('</think>')
  thinking = thinking.lstrip().removeprefix('<think>')
  return thinking, '' if '<think>' in rest else rest
