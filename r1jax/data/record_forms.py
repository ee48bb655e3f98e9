"""Rows of files, in the forms in which they are published, as records."""

from typing import Any, NamedTuple

from r1jax import errors
from r1jax.data import (
  chats,
  formats,
  gold_answers,
  preferences,
  row_answers,
  row_checks,
)
from r1jax.data.formats import Record


class Form(NamedTuple):
  """The keys by which a row tells its form."""

  all_of: tuple[str, ...]
  any_of: tuple[str, ...] = ()  # one of them, if there are any


# Keys of a response; the first that a row has counts.
RESPONSES = 'response', 'completion'
RESULTS = *row_answers.ANSWERS, *RESPONSES, 'solution'
# Of these a row without a prompt has one, or several that are equal.
QUESTIONS = 'problem', 'question', 'instruction'
CHATS = 'messages', 'conversations'  # may end with the response
SYSTEM = 'system', 'system_prompt'  # keys of a system message
FORMS = dict(  # tried in order
  mbpp=Form(('task_id', 'code', 'test_list'), ('text', 'prompt')),
  prompt=Form(('prompt',)),
  messages=Form(('messages',)),
  conversations=Form(('conversations',)),
  problem=Form(('problem',), RESULTS),
  mawps=Form(('input', 'target')),
  question=Form(('question',), RESULTS),
  instruction=Form(('instruction',), ('output', *RESPONSES)),
  livecodebench=Form(('question_content', 'public_test_cases')),
  codeforces=Form(('description', 'official_tests')),
  chosen=Form(preferences.KEYS),
)
EXPECTED = (
  'prompt, messages, conversations, problem/answer, problem/solution, '
  'question/answer, input/target, instruction/output, instruction/response, '
  'chosen/rejected, question_content/public_test_cases, '
  'description/official_tests or text/code/test_list'
)
NAME_COLUMNS = (
  "columns with other names are named behind '?' of the source, "
  "?prompt=COLUMN&answer=COLUMN, or by the config's map of them"
)
# What a record keeps of a row with a problem or a question. Rows with a prompt
# or a chat keep all keys.
KEPT = (
  'id',
  'turns',
  'choices',
  'final_form',
  'scorer',
  *preferences.KEYS,
  'safe',
)
KEPT_TEXTS = 'domain', 'language'  # files of others have lists there


def form_of(row: Record) -> str:
  """The name of a row's form; '' if it has none. A key whose value is null does
  not count where other keys tell a form."""
  return _form_with(_given(row).keys()) or _form_with(row.keys())


def _form_with(keys):
  for name, form in FORMS.items():
    is_one = not form.any_of or keys & set(form.any_of)
    if is_one and keys >= set(form.all_of):
      return name
  return ''


def _given(row):
  """The row without the keys whose value is null."""
  return {key: value for key, value in row.items() if value is not None}


def make_record(row: Record, where: str) -> Record:
  """A row as a record, which may still need an id. A key whose value is null
  counts as absent. Raises UserError, which begins with `where` and names the
  key at fault, or formats.LeftOut."""
  form, given = form_of(row), _given(row)
  if not form:
    raise errors.UserError(
      f'{where} has the keys {", ".join(row) or "none"}; expected {EXPECTED}; '
      f'{NAME_COLUMNS}'
    )
  row_checks.check_media(given, where)
  if form in formats.READERS:
    needed = {key: row[key] for key in FORMS[form].all_of}
    return _problem_with_tests(given | needed, form, where)
  if form in (*QUESTIONS, 'mawps'):
    row_checks.check_one(given, QUESTIONS, 'prompt', where)
    record = _published(given, form, where)
  else:
    record = _with_chat(given, form, where)
    record = preferences.with_preference(record, given, where)
  if form == 'chosen' and 'prompt' not in record:
    record |= _question_of_pair(given, where)
  prompt, key = record.get('prompt'), 'input' if form == 'mawps' else form
  if not isinstance(prompt, str) or not prompt.strip():
    raise errors.UserError(f'{where}: {key!r} must be a text, not blank')
  record = _with_response(record, given, form, where)
  record |= _system_turns(record, given, where)
  if 'scorer' in given:  # It may use an answer of any kind, also null.
    return record | {k: row[k] for k in ('answer',) if k in row}
  record = row_answers.with_answer(record, given, form, where)
  if 'answer' in row and not {*record, *given} & row_answers.JUDGED_BY:
    gold_answers.read(row['answer'], where, 'answer')  # raises: it is null
  return record


def response_of(row: Record, where: str) -> Any:
  """The response of a row: a text, the text of the last of its messages, or a
  value of another kind as it is; None without one."""
  value, key = _response_and_key(row)
  if chats.is_messages(value):
    return chats.answered(value, where, key).response
  return value


def _response_and_key(row):
  for key in RESPONSES:
    if row.get(key) is not None:
      return row[key], key
  return None, ''


def _with_response(record, row, form, where):
  """The record with its response. A response of several messages continues the
  chat, as TRL's: its last question is the prompt."""
  value, key = _response_and_key(row)
  texts = {name: row.get(name) for name in RESPONSES}
  if form == 'instruction':
    texts = dict(output=row.get('output')) | texts
  elif form in CHATS:
    texts = {form: record.get('response')} | texts
  row_checks.check_response(texts, where)
  if chats.is_messages(value):
    chat = chats.answered(value, where, key)
    if chat.prompt:
      record = record | chats.continued(record, chat)
    return record | dict(response=chat.response)
  if isinstance(value, str):
    # Other keys of thinking may be switches in a row: 'reasoning': 'on'.
    value = chats.with_thinking(value, row.get('reasoning_content'))
  return record if value is None else record | dict(response=value)


def _problem_with_tests(row, form, where):
  with errors.explained(f'{where} cannot be read as a problem of {form}'):
    try:
      return formats.READERS[form](row)
    except formats.LeftOut as problem:
      left_out = problem
  raise left_out


def _published(row, form, where):
  """The prompt of a row with a problem or a question, and the keys to keep."""
  record = {key: row[key] for key in KEPT if key in row}
  record |= {k: row[k] for k in KEPT_TEXTS if isinstance(row.get(k), str)}
  if 'scorer' in row:
    record = dict(row)  # It may use all keys.
  record['prompt'] = row.get('input' if form == 'mawps' else form)
  if form == 'instruction':
    if 'output' in row:
      record['response'] = row['output']
    record['prompt'] = _instruction(row)
    if row.get('history'):
      record['turns'] = chats.of_pairs(row['history'], where, 'history')
  elif not row.keys() & set(row_answers.ANSWERS) and isinstance(
    row.get('solution'), str
  ):
    record['response'] = row['solution']
  return record


def _instruction(row):
  """Alpaca's or Dolly's prompt."""
  more = row.get('input') or row.get('context')
  return f'{row["instruction"]}\n\n{more}' if more else row['instruction']


def _question_of_pair(row, where):
  """The prompt of a row with chosen and rejected under another key, or else the
  text with which both begin, without which they are then."""
  row_checks.check_one(row, QUESTIONS, 'prompt', where)
  found = [key for key in QUESTIONS if key in row]
  if found:
    is_alpaca = found[0] == 'instruction'
    return dict(prompt=_instruction(row) if is_alpaca else row[found[0]])
  parts = preferences.without_prompt(*(row[key] for key in preferences.KEYS))
  if not parts:
    raise errors.UserError(
      f"{where} has 'chosen' and 'rejected', but no key 'prompt', and both do "
      f'not begin with one, as messages or as text; {NAME_COLUMNS}'
    )
  return parts


def _with_chat(row, form, where):
  """The row, with a chat as turns, prompt and response."""
  record = dict(row)
  is_chat = form in CHATS
  if is_chat or (form == 'prompt' and isinstance(row.get(form), list)):
    row_checks.check_tools(row, where)
    record |= _prompt_and_turns(row, form, where)
    if is_chat:
      del record[form]
  return record


def _system_turns(record, row, where):
  """The turns of a record with the system message that the row has under a key
  of its own, if its turns do not begin with one."""
  turns = record.get('turns') or []
  if not isinstance(turns, list):
    return {}
  row_checks.check_system(row, SYSTEM, turns, where)
  found = [row[key] for key in SYSTEM if row.get(key)]
  if not found or chats.is_system(turns):
    return {}
  return dict(turns=[dict(role='system', content=found[0]), *turns])


def _prompt_and_turns(row, key, where):
  """The prompt, the turns before it, and the response after it, if a chat has
  them."""
  messages = chats.read(row.get(key), where, key)
  chat = chats.split(messages, where, key)
  if not chat.prompt or (key == 'prompt' and chat.response is not None):
    raise errors.UserError(
      f'{where}: {key!r} must end with a message of the user'
      + ('' if key == 'prompt' else ', or with the response to one')
    )
  if chat.turns and row.get('turns'):
    raise errors.UserError(
      f"{where} has turns in {key!r} and in 'turns': leave one of them out"
    )
  made = dict(prompt=chat.prompt)
  if chat.turns:
    made['turns'] = chat.turns
  if chat.response is not None:
    made['response'] = chat.response
  return made
