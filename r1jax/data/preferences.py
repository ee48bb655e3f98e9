"""Pairs of responses, of which one is preferred."""

import os
import re
from typing import Any

from r1jax import errors
from r1jax.data import chats
from r1jax.data.formats import Record

KEYS = 'chosen', 'rejected'
# Of the texts of Anthropic's HH-RLHF.
HH_TURN = re.compile(r'(?:\A|\n\n)(Human|Assistant):')
LAST_WORD = re.compile(r'\S*\Z')
HH_ROLES = dict(Human='user', Assistant='assistant')


def with_preference(record: Record, row: Record, where: str) -> Record:
  """The record, with chosen and rejected as texts, and the prompt of their
  chats. Raises UserError if it is not the same."""
  record, contexts = dict(record), {}
  for key in KEYS:
    messages = row.get(key)
    if row.get('prompt') is None:
      messages = _hh_messages(messages)
    if isinstance(messages, dict):  # LLaMA-Factory writes one message.
      messages = [messages]
    if chats.is_messages(messages):
      chat = chats.answered(messages, where, key)
      record[key] = chat.response
      if chat.prompt:
        contexts[key] = [*chat.turns, dict(role='user', content=chat.prompt)]
  for key, context in contexts.items():
    first = next(iter(contexts.values()))
    prompt = record.get('prompt') or context[-1]['content']
    if context != first or context[-1]['content'].strip() != prompt.strip():
      raise errors.UserError(
        f"{where}: {key!r} is the answer to another chat than 'chosen' or "
        "'prompt'"
      )
    record['prompt'] = prompt
    if context[:-1] and 'turns' not in row:
      record['turns'] = context[:-1]
  return record


def _hh_messages(value: Any) -> Any:
  """The messages of a text of HH-RLHF, which has its prompt within; other
  values as they are."""
  if not isinstance(value, str) or not HH_TURN.match(value):
    return value
  _, *parts = HH_TURN.split(value)
  return [
    dict(role=HH_ROLES[name], content=text.strip())
    for name, text in zip(parts[::2], parts[1::2])
  ]


def without_prompt(chosen: Any, rejected: Any) -> Record:
  """The prompt with which two texts begin, and what follows it in each: TRL's
  preferences with an implicit prompt. It ends before a space, and not within a
  word. Empty if there is none, or if one has nothing else."""
  if not isinstance(chosen, str) or not isinstance(rejected, str):
    return {}
  prompt = os.path.commonprefix([chosen, rejected])
  following = chosen[len(prompt) :][:1] + rejected[len(prompt) :][:1]
  if prompt[-1:].isalnum() and any(map(str.isalnum, following)):
    prompt = LAST_WORD.sub('', prompt)
  prompt = prompt.removesuffix(' ')
  rest = [text[len(prompt) :] for text in (chosen, rejected)]
  if not prompt.strip() or not all(text.strip() for text in rest):
    return {}
  return dict(zip(('prompt', *KEYS), (prompt, *rest)))
