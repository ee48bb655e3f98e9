"""The prompts of a run as a chat template of jinja, by which other programs make
the same prompts."""

import datetime
import json
import re

from r1jax import errors, user_code
from r1jax.checkpoints import tokenization
from r1jax.data import templates, tools
from r1jax.data.templates import PromptConfig
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.serving import source as serving

NO_SYSTEM = 'This model was trained without system messages.'
DATE = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")


def of_run(
  tokenizer: Tokenizer, prompt: PromptConfig, date: str = ''
) -> str | None:
  """The template of config.prompt, prefill included. `date` is that of the run,
  in ISO format, if its chat template has asked for one. None for a template
  that is a function of the user's."""
  name = prompt.template
  if name.endswith('.py') or (
    user_code.is_name(name) and '{question}' not in name
  ):
    return None
  if name == 'chat':
    return _of_chat(tokenizer, prompt, date)
  text = templates.TEMPLATES.get(name, name)
  if prompt.tool:
    text = text.replace('{tool}', tools.load(prompt.tool).description)
  return _of_text(tokenizer, text.removeprefix(tokenizer.prefix), prompt)


def _of_chat(tokenizer, prompt, date):
  """The tokenizer's own template, followed by what the run adds to it."""
  template = tokenization.chat_template(tokenizer)
  if template is None:
    raise errors.UserError(
      'config.prompt.template is chat, but the tokenizer has no chat template'
    )
  if date:
    now = datetime.datetime.fromisoformat(date)
    template = DATE.sub(lambda x: _literal(now.strftime(x[2])), template)
  if prompt.system:
    template = _default_system(prompt.system) + template
  prefill = _prefill(tokenizer, prompt)
  if not prefill:
    return template
  # Jinja leaves out a newline at the end of a template, and only there.
  return template.removesuffix('\n') + _generation(prefill)


def _default_system(text):
  """A system message for chats that begin without one."""
  message = f"{{'role': 'system', 'content': {_literal(text)}}}"
  return (
    "{% if not messages or messages[0]['role'] != 'system' %}"
    f'{{% set messages = [{message}] + messages %}}{{% endif %}}'
  )


def _prefill(tokenizer, prompt):
  """What the run adds to the end of a prompt, given how the template ends."""
  record = dict(id='', prompt='?')
  text = templates.prompt_text(tokenizer, record, prompt)
  made = templates.make_prompt(tokenizer, record, prompt)
  return made.full_text.removeprefix(text)


def _of_text(tokenizer, text, prompt):
  """A text with {question} as a template without line breaks of its own. A
  later question follows an answer as in `r1jax chat` where the template is
  R1-Zero's, else its end token."""
  prefix = _literal(tokenizer.prefix)
  template = f'{{{{ {prefix} }}}}' if tokenizer.prefix else ''
  end = _literal(tokenizer.decode([tokenizer.eos_ids[0]]))
  question, answer = _with_question(text), f"message['content'] + {end}"
  if prompt.template == 'r1_zero':
    later = _with_question(serving.NEXT_TURN)
    question = f'({question}) if loop.first else ({later})'
    answer = "' ' + message['content'] | trim"
  template += (
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    f'{{{{ {question} }}}}'
    "{% elif message['role'] == 'assistant' %}"
    f'{{{{ {answer} }}}}'
    '{% else %}'
    f'{{{{ raise_exception({_literal(NO_SYSTEM)}) }}}}'
    '{% endif %}{% endfor %}'
  )
  prefill = _prefill(tokenizer, prompt)
  return template + _generation(prefill) if prefill else template


def _with_question(text):
  """An expression of jinja: the text with the message in place of {question}."""
  parts = [_literal(part) for part in text.split('{question}')]
  expression = " + message['content'] + ".join(parts)
  return expression.removeprefix('"" + ').removesuffix(' + ""')


def _generation(text):
  """The text where a response is to begin."""
  return (
    f'{{% if add_generation_prompt %}}{{{{ {_literal(text)} }}}}{{% endif %}}'
  )


def _literal(text):
  """A text as jinja writes it, whose escapes are those of JSON."""
  return json.dumps(text, ensure_ascii=False)
