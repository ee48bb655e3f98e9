"""Prompt templates: records to prompts, responses to (thinking, rest)."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from r1jax import errors, user_code
from r1jax.config import option
from r1jax.data import chats, tools
from r1jax.data.bad_records import BadRecords, TooLong
from r1jax.data.record_files import Record
from r1jax.data.tokenizer_protocol import Tokenizer

# r1_zero is table 1 of the R1 paper, verbatim, also in its full stops.
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

# What a template may put at the end of a prompt, though it belongs to the
# response: an open <think>, or empty thinking.
OPENING = re.compile(r'<think>\s*(?:</think>\s*)?\Z')


@dataclasses.dataclass(frozen=True)
class PromptConfig:
  template: str = option(
    'r1_zero',
    "r1_zero, plain, chat, or a text with '{question}'",
    is_code=True,
    fixed='prompt',
  )
  system: str = option(
    '', 'system message of chats that have none; template=chat', fixed='prompt'
  )
  prefill: str = option(
    '', 'start of every response, e.g. <think>', fixed='prompt'
  )
  stop_strings: tuple[str, ...] = option((), 'texts that end a response')
  max_len: int = option(512, 'max. tokens of prompt and prefill', minimum=1)
  tool: str = option(
    '',
    "calculator: a response may call it; '': none",
    is_code=True,
    fixed='prompt',
  )
  calls: int = option(4, 'max. tool calls in a response', minimum=1)
  result_len: int = option(32, 'max. tokens of a result with tags', minimum=1)

  @property
  def results_len(self) -> int:
    """The max. tokens of all results in a response."""
    return self.calls * self.result_len if self.tool else 0


class Prompt(NamedTuple):
  """A rendered prompt."""

  text: str  # up to where a response begins
  opening: str  # how every response begins: an own tag of the template, prefill
  is_opened: bool = False  # by a tag of the template

  @property
  def full_text(self) -> str:
    """What the model continues."""
    return self.text + self.opening


def make_prompt(
  tokenizer: Tokenizer, record: Record, prompt: PromptConfig
) -> Prompt:
  """The prompt of a record. A <think> with which its template ends is part of
  the opening; a prefill does not repeat it."""
  text = prompt_text(tokenizer, record, prompt)
  match = OPENING.search(text)
  opening = match[0] if match else ''
  prefill = without_opening(prompt.prefill, opening)
  if '</think>' in opening and '<think>' in prefill:
    raise errors.UserError(
      f'the prompt template ends with {opening!r}, a thinking that is closed, '
      f'and the prefill {prompt.prefill!r} opens another: leave the prefill out, '
      'or take a template that does not close the thinking'
    )
  return Prompt(
    text=text.removesuffix(opening),
    opening=opening + prefill,
    is_opened=bool(opening),
  )


def without_opening(text: str, opening: str) -> str:
  """A response without the tags and the space of its opening, if it begins with
  them; whitespace between them may differ."""
  if not opening.strip():
    return text.removeprefix(opening)
  if text.startswith(opening):
    return text[len(opening) :]
  beginnings = [opening.split()]
  if opening.split()[0] == '<think>' and '</think>' not in opening:
    beginnings.append(['<think>'])  # saved without the rest of the prefill
  for words in beginnings:
    pattern = r'\s*' + r'\s*'.join(map(re.escape, words)) + r'\s*'
    match = re.match(pattern, text)
    if match:
      return text[match.end() :]
  return text


def with_opening(text: str, opening: str) -> str:
  """A response that begins with its opening, which is added where missing."""
  rest = without_opening(text, opening)
  return text if rest != text else opening + text


def with_prefix(tokenizer: Tokenizer, text: str) -> str:
  """A text that begins with the tokenizer's prefix, once."""
  return tokenizer.prefix + text.removeprefix(tokenizer.prefix)


def without_end(tokenizer: Tokenizer, response: str) -> str:
  """A response without the text of end tokens, and space after it, with which
  it was saved; the end token is added to its ids."""
  ends = [tokenizer.decode([i]) for i in tokenizer.eos_ids]
  ends = [end for end in ends if end.strip()]
  text = response
  while found := [end for end in ends if text.rstrip().endswith(end)]:
    text = text.rstrip().removesuffix(found[0])
  return text


def encode_prompts(
  tokenizer: Tokenizer, records: Sequence[Record], prompt: PromptConfig
) -> list[list[int]]:
  """The ids of each record's prompt, opening included. Raises UserError, with
  all records that have none or more than config.prompt.max_len."""
  prompts = [make_prompt(tokenizer, record, prompt) for record in records]
  return encode_made(tokenizer, records, prompts, prompt.max_len)


def encode_made(
  tokenizer: Tokenizer,
  records: Sequence[Record],
  prompts: Sequence[Prompt],
  max_len: int,
) -> list[list[int]]:
  """encode_prompts of prompts that are made already."""
  bad, ids_P = BadRecords(key=''), []
  for record, made in zip(records, prompts, strict=True):
    ids = tokenizer.encode(made.full_text)
    with bad.noted(record['id']):
      check_length(record, ids, max_len)
      ids_P.append(ids)
  bad.finish(len(ids_P), 'the data')
  return ids_P


def fitting(
  tokenizer: Tokenizer,
  records: Sequence[Record],
  prompt: PromptConfig,
  skip_bad_records: bool,
  drop_too_long: bool = False,
) -> tuple[list[Record], int]:
  """(the records whose prompts are not too long, the tokens of the longest).
  Raises UserError with all others, unless it is to leave them out."""
  bad = BadRecords(skip_bad_records, drop_too_long=drop_too_long)
  kept: list[Record] = []
  longest = 0
  for record in records:
    with bad.noted(record['id']):
      made = make_prompt(tokenizer, record, prompt)
      ids = tokenizer.encode(made.full_text)
      check_length(record, ids, prompt.max_len)
      kept.append(record)
      longest = max(longest, len(ids))
  bad.finish(len(kept), 'the data')
  return kept, longest


def check_length(record: Record, ids: Sequence[int], max_len: int) -> None:
  """Raises UserError if a prompt has no tokens or more than max_len."""
  if not 0 < len(ids) <= max_len:
    kind = TooLong if ids else errors.UserError
    raise kind(
      f'the prompt of record {record["id"]} has {len(ids)} tokens; '
      f'config.prompt.max_len allows 1 to {max_len}: raise it or drop the '
      'record'
    )


def prompt_text(
  tokenizer: Tokenizer, record: Record, prompt: PromptConfig
) -> str:
  """The text of a record's prompt, without prefill, by config.prompt.template:
  see `render`, or the user's function of the record, which returns a text or
  the messages of a chat."""
  name, key = prompt.template, 'the prompt template'
  is_own = user_code.is_name(name) and '{question}' not in name
  if not is_own and not name.endswith('.py'):
    turns = earlier_turns(record)
    if prompt.system and not chats.is_system(turns):
      turns = [dict(role='system', content=prompt.system), *turns]
    if prompt.tool:
      name = name.replace('{tool}', tools.load(prompt.tool).description)
    return render(name, tokenizer, record['prompt'], turns)
  if prompt.system:
    raise errors.UserError(
      f'config.prompt.system is for the template chat, not for {name}, which '
      'can begin its messages with one'
    )
  function = user_code.load(name, key)
  user_code.check_call(function, name, key, '(record) -> text or messages')
  name = user_code.shown_name(name)
  try:
    made = function(dict(record))
  except (Exception, SystemExit) as error:
    sentence = f'{key}: {name} failed on record {record["id"]!r}'
    raise user_code.failure(sentence, error) from error
  if isinstance(made, str):
    return with_prefix(tokenizer, made)
  if isinstance(made, list) and made and all(map(_is_turn, made)):
    return tokenizer.chat(made)
  raise errors.UserError(
    f'{key}: {name} returned {user_code.describe(made)} for record '
    f'{record["id"]!r}; expected a text, or messages: a list of '
    '{"role": "system", "user" or "assistant", "content": a text}'
  )


def render(
  template: str, tokenizer: Tokenizer, question: str, turns: Sequence = ()
) -> str:
  """The text of a question after earlier turns of a chat, by a template: a name
  of TEMPLATES, 'chat' (the tokenizer's own), or a text with {question}."""
  if template == 'chat':
    return tokenizer.chat([*turns, dict(role='user', content=question)])
  if turns:
    raise errors.UserError(
      f'the prompt template {template!r} cannot hold turns, such as a system '
      'message: set config.prompt.template=chat for records with turns, or '
      'take them out'
    )
  text = TEMPLATES.get(template, template)
  if '{question}' not in text:
    names = [*TEMPLATES, 'chat']
    near = difflib.get_close_matches(template, names, n=1, cutoff=0)[0]
    raise errors.UserError(
      f'unknown prompt template {template!r}: did you mean {near!r}? It is one '
      f'of {", ".join(names)}, or a text with {{question}} in it'
    )
  return with_prefix(tokenizer, text.replace('{question}', question))


def earlier_turns(record: Record) -> list[dict[str, str]]:
  """The turns of a chat before the prompt, from the record's key 'turns'."""
  turns = record.get('turns', [])
  if not isinstance(turns, list) or not all(map(_is_turn, turns)):
    raise errors.UserError(
      f'the turns of record {record["id"]} must be a list of '
      '{"role": "system", "user" or "assistant", "content": a text}'
    )
  return turns


def _is_turn(turn):
  match turn:
    case {'role': 'system' | 'user' | 'assistant' | 'tool', 'content': str()}:
      return True
  return False


def think_split(text: str) -> tuple[str, str]:
  """(thinking, rest): the text before and after the last </think>, without the
  tags. The rest is empty if the last <think> is not closed."""
  thinking, _, rest = text.rpartition('</think>')
  thinking = thinking.lstrip().removeprefix('<think>')
  return thinking, '' if '<think>' in rest else rest
