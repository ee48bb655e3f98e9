"""Chats in the forms in which files hold them: lists of messages with role and
content, or with from and value, contents as texts or as lists of text parts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from r1jax import errors

ROLES = dict(system='system', user='user', assistant='assistant')
ROLES |= dict(human='user', gpt='assistant')  # where messages have from, value
ROLES |= dict(developer='system', model='assistant')  # their other names
ROLES |= dict(tool='tool', observation='tool')  # what a tool has returned
# Keys of the thinking before a response: DeepSeek's, vLLM's, gpt-oss'.
THINKING = 'reasoning_content', 'reasoning', 'thinking'
EXPECTED = (
  'a list of {"role": "system", "user" or "assistant", "content": a text}'
)

Message = dict[str, str]


class Chat(NamedTuple):
  """A chat up to a response, and the response if the chat has it."""

  turns: list[Message]  # before the prompt
  prompt: str  # of the user, '' if the chat is a response alone
  response: str | None


def read(value: Any, where: str, key: str) -> list[Message]:
  """The messages of a list under the key of a row, as role and content. Raises
  UserError with the place of what cannot be read."""
  if not isinstance(value, list) or not value:
    raise errors.UserError(f'{where}: {key!r} must be {EXPECTED}, not empty')
  messages = []
  for number, message in enumerate(value):
    name = f'{where}: {key!r}[{number}]'
    if not isinstance(message, dict):
      raise errors.UserError(
        f'{name} is no message; {key!r} must be {EXPECTED}'
      )
    role_key = 'from' if 'role' not in message and 'from' in message else 'role'
    text_key = 'content' if role_key == 'role' else 'value'
    role = message.get(role_key)
    if not isinstance(role, str) or role not in ROLES:
      raise errors.UserError(
        f'{name} has {role_key!r} {role!r}; expected {", ".join(ROLES)}'
      )
    if message.get('tool_calls'):
      raise errors.UserError(
        f"{name} has 'tool_calls', which r1jax does not read: leave it out"
      )
    text = _text(message.get(text_key))
    if text is None:
      raise errors.UserError(f'{name} needs a text as its {text_key!r}')
    for thinking in THINKING:
      text = with_thinking(text, message.get(thinking))
    messages.append(dict(role=ROLES[role], content=text))
  return messages


def with_thinking(text: str, thinking: Any) -> str:
  """A text after its thinking, if that is a text and not in it yet."""
  if not isinstance(thinking, str) or not thinking or '</think>' in text:
    return text
  return f'<think>{thinking}</think>{text}'


def of_pairs(value: Any, where: str, key: str) -> list[Message]:
  """The messages of [[question, response], …] (Alpaca's history)."""
  messages = []
  for pair in value if isinstance(value, list) else [None]:
    match pair:
      case [str(question), str(response)]:
        messages.append(dict(role='user', content=question))
        messages.append(dict(role='assistant', content=response))
      case _:
        raise errors.UserError(
          f'{where}: {key!r} must be a list of [question, response]'
        )
  return messages


def split(messages: Sequence[Message], where: str, key: str) -> Chat:
  """The parts of a chat, which ends with the user's message or with a response
  of the assistant to it."""
  turns, response = list(messages), None
  if turns[-1]['role'] == 'assistant':
    response = turns.pop()['content']
  if not turns:
    return Chat(turns=[], prompt='', response=response)
  last = turns.pop()
  if last['role'] != 'user' or not last['content'].strip():
    raise errors.UserError(
      f'{where}: {key!r} must end with a message of the user that is not '
      'blank, or with the response of the assistant to it'
    )
  return Chat(turns=turns, prompt=last['content'], response=response)


def answered(value: Any, where: str, key: str) -> Chat:
  """A chat that ends with a message of the assistant. Raises UserError."""
  chat = split(read(value, where, key), where, key)
  if chat.response is None:
    raise errors.UserError(
      f'{where}: {key!r} must end with a message of the assistant'
    )
  return chat


def continued(record: dict[str, Any], chat: Chat) -> dict[str, Any]:
  """The prompt of a chat that continues a record, and its turns: those of the
  record, with its prompt unless the chat repeats it, then those of the chat."""
  question = dict(role='user', content=record['prompt'])
  before = [*record.get('turns', ()), question]
  after = [*chat.turns, dict(role='user', content=chat.prompt)]
  if after[: len(before)] == before:
    before = []
  elif after[0] == question:
    before = before[:-1]
  turns = [*before, *after[:-1]]
  return dict(prompt=chat.prompt) | (dict(turns=turns) if turns else {})


def is_messages(value: Any) -> bool:
  """Whether a value is a list of messages, and not a text."""
  return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def is_system(turns: Sequence[Any]) -> bool:
  """Whether turns begin with a system message."""
  match list(turns):
    case [{'role': 'system'}, *_]:
      return True
  return False


def _text(content):
  """A content as text: a text, or parts of which each is a text. Else None."""
  if isinstance(content, str):
    return content
  if not isinstance(content, list) or not content:
    return None
  texts = []
  for part in content:
    is_text = isinstance(part, dict) and part.get('type') == 'text'
    text = part.get('text') if is_text else part
    if not isinstance(text, str):
      return None
    texts.append(text)
  return ''.join(texts)
