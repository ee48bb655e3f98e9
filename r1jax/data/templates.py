"""From a question to the text of a prompt, and from a response to its thinking
and the rest."""

import dataclasses
import difflib

from r1jax import errors
from r1jax.config import option

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


@dataclasses.dataclass(frozen=True)
class PromptConfig:
  template: str = option(
    'r1_zero', "r1_zero, plain, chat, or a text with '{question}'"
  )
  prefill: str = option('', 'begins every response, e.g. <think>')
  stop_strings: tuple[str, ...] = option(
    (), 'texts that end a response, as ids alone'
  )
  max_len: int = option(
    512, 'most tokens of a prompt, prefill included', least=1
  )
  tool: str = option('', "calculator: a response may call it; '': none")
  calls: int = option(4, 'calls of the tool in a response at most', least=1)
  result_len: int = option(32, 'most tokens of a result with its tags', least=1)

  @property
  def results_len(self):
    """The most tokens that a response has beside those that were drawn."""
    return self.calls * self.result_len if self.tool else 0


def encode_prompts(words, records, c):
  """The prompt's ids for each record."""
  rows = []
  for record in records:
    text = render(c.template, words, record['prompt'], earlier_turns(record))
    ids = words.encode(text + c.prefill)
    if not 0 < len(ids) <= c.max_len:
      raise errors.UserError(
        f'the prompt of record {record["id"]} has {len(ids)} tokens; '
        f'config.prompt.max_len allows 1 to {c.max_len}: raise it or drop the '
        'record'
      )
    rows.append(ids)
  return rows


def earlier_turns(record):
  """The turns before the prompt: none, or those under the key 'turns'."""
  turns = record.get('turns', [])

  def known(x):
    return (
      isinstance(x, dict)
      and x.get('role') in ('system', 'user', 'assistant')
      and isinstance(x.get('content'), str)
    )

  if not isinstance(turns, list) or not all(map(known, turns)):
    raise errors.UserError(
      f'the turns of record {record["id"]} must be a list of '
      '{"role": "system", "user" or "assistant", "content": a text}'
    )
  return turns
