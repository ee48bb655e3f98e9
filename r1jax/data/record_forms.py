"""Rows of files, in the forms in which they are published, as records."""

import contextlib
import json
import re
from typing import Any

from r1jax import errors
from r1jax.data import chats, formats, gold_answers
from r1jax.data.formats import Record

# Keys of a gold answer and of a response; the first that a row has counts.
ANSWERS = 'answer', 'ground_truth', 'expected_answer', 'final_answer'
RESPONSES = 'response', 'completion'
PREFERENCE = 'chosen', 'rejected'
RESULTS = *ANSWERS, *RESPONSES, 'solution'
# The keys by which a row tells its form, tried in order: it has all of the
# first and, if there are any, one of the second.
FORMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = dict(
  prompt=(('prompt',), ()),
  messages=(('messages',), ()),
  conversations=(('conversations',), ()),
  problem=(('problem',), RESULTS),
  mawps=(('input', 'target'), ()),
  question=(('question',), RESULTS),
  instruction=(('instruction', 'output'), ()),
  livecodebench=(('question_content', 'public_test_cases'), ()),
  codeforces=(('description', 'official_tests'), ()),
  chosen=(PREFERENCE, ()),
)
EXPECTED = (
  'prompt, messages, conversations, problem/answer, problem/solution, '
  'question/answer, input/target, instruction/output, chosen/rejected, '
  'question_content/public_test_cases or description/official_tests'
)
# What a record keeps of a row with a problem or a question. Rows with a prompt
# or a chat keep all keys.
KEPT = 'id', 'turns', 'choices', 'final_form', 'scorer', *PREFERENCE, 'safe'
KEPT_TEXTS = 'domain', 'language'  # files of others have lists there
# A solution that is nothing but its answer: a word, or a formula.
BARE = re.compile(r'[^\s$]+|\$[^$\n]+\$|\\\([^\n]+\\\)|\\\[[^\n]+\\\]')


def form_of(row: Record) -> str:
  """The name of a row's form; '' if it has none. A key whose value is null does
  not count where other keys tell a form."""
  given = {key for key, value in row.items() if value is not None}
  for keys in given, set(row):
    for name, (all_of, one_of) in FORMS.items():
      if keys >= set(all_of) and (not one_of or keys & set(one_of)):
        return name
  return ''


def make_record(row: Record, where: str) -> Record:
  """A row as a record, which may still need an id. Raises UserError, which
  begins with `where` and names the key at fault, or formats.LeftOut."""
  form = form_of(row)
  if not form:
    raise errors.UserError(
      f'{where} has the keys {", ".join(row) or "none"}; expected {EXPECTED}'
    )
  if form in formats.READERS:
    return _problem_with_tests(row, form, where)
  if form in ('problem', 'question', 'instruction', 'mawps'):
    record = _published(row, form)
  else:
    record = _with_chat(row, form, where)
  prompt, key = record.get('prompt'), 'input' if form == 'mawps' else form
  if not isinstance(prompt, str) or not prompt.strip():
    raise errors.UserError(f'{where}: {key!r} must be a text, not blank')
  response = response_of(row, where)
  if response is not None:
    record['response'] = response
  return _with_answer(record, row, form, where)


def response_of(row: Record, where: str) -> Any:
  """The response of a row: a text, the text of the last of its messages, or a
  value of another kind as it is; None without one."""
  for key in RESPONSES:
    if _is_messages(row.get(key)):
      return _answered_chat(row, key, where).response
    if row.get(key) is not None:
      return row[key]
  return None


def _problem_with_tests(row, form, where):
  with errors.explained(f'{where} cannot be read as a problem of {form}'):
    try:
      return formats.READERS[form](row)
    except formats.LeftOut as problem:
      left_out = problem
  raise left_out


def _published(row, form):
  """The prompt of a row with a problem or a question, and the keys to keep."""
  record = {key: row[key] for key in KEPT if row.get(key) is not None}
  record |= {k: row[k] for k in KEPT_TEXTS if isinstance(row.get(k), str)}
  if 'scorer' in row:
    record = dict(row)  # It may use all keys.
  record['prompt'] = row['input' if form == 'mawps' else form]
  if form == 'instruction':
    record['response'] = row['output']
    if row.get('input'):
      record['prompt'] = f'{row[form]}\n\n{row["input"]}'
  elif not any(row.get(key) is not None for key in ANSWERS):
    if isinstance(row.get('solution'), str):
      record['response'] = row['solution']
  return record


def _with_chat(row, form, where):
  """The row, with its chats as turns, prompt, response, chosen and rejected."""
  record = dict(row)
  if form in ('messages', 'conversations') or isinstance(row[form], list):
    if form != 'chosen':
      record |= _prompt_and_turns(row, form, where)
      if form != 'prompt':
        del record[form]
  contexts = {}
  for key in PREFERENCE:
    if _is_messages(row.get(key)):
      chat = _answered_chat(row, key, where)
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
  if form == 'chosen' and not contexts:
    raise errors.UserError(
      f"{where} has 'chosen' and 'rejected', but no key 'prompt'"
    )
  return record


def _prompt_and_turns(row, key, where):
  """The prompt, the turns before it, and the response after it, if a chat has
  them."""
  messages = chats.read(row[key], where, key)
  if isinstance(row.get('system'), str) and messages[0]['role'] != 'system':
    messages = [dict(role='system', content=row['system']), *messages]
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


def _answered_chat(row, key, where):
  """A chat that ends with a message of the assistant."""
  chat = chats.split(chats.read(row[key], where, key), where, key)
  if chat.response is None:
    raise errors.UserError(
      f'{where}: {key!r} must end with a message of the assistant'
    )
  return chat


def _is_messages(value):
  return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _with_answer(record, row, form, where):
  """The record with its gold answer, if the row has one."""
  if 'scorer' in row:  # It may use an answer of any kind.
    if 'answer' in row:
      record['answer'] = row['answer']
    return record
  tests = _tests_of(row)
  if tests is not None:
    return record | dict(tests=tests)
  value, key = _answer_of(row, form)
  if key:
    gold = gold_answers.read(value, where, key)
    if form in ('problem', 'question') and isinstance(gold, str):
      gold = _short(gold, form, where, key)
    record['answer'] = gold
  return record


def _answer_of(row, form):
  """(the gold answer of a row, its key); (None, '') without one."""
  if form == 'mawps':
    return row['target'], 'target'
  if 'answer' in row:  # null is an error
    return row['answer'], 'answer'
  for key in ANSWERS:
    if row.get(key) is not None:
      return row[key], key
  truth = _ground_truth(row)
  if truth not in (None, ''):
    return truth, 'reward_model.ground_truth'
  solution = row.get('solution')
  if isinstance(solution, str) and not row.keys() & {'test', 'tests'}:
    bare = solution.strip() if BARE.fullmatch(solution.strip()) else None
    gold = gold_answers.of_solution(solution) or bare
    if gold:
      return gold, 'solution'
  return None, ''


def _ground_truth(row):
  """The ground truth of verl's rows, which may be {'target': answers}."""
  model = row.get('reward_model')
  truth = model.get('ground_truth') if isinstance(model, dict) else None
  if isinstance(truth, dict) and truth.keys() == {'target'}:
    return truth['target']
  return truth


def _tests_of(row):
  """The tests of a program in verl's ground truth, JSON of inputs and outputs;
  None without them. Raises formats.LeftOut if they call a function, whose
  arguments this form does not tell from its result."""
  truth, table = _ground_truth(row), None
  if isinstance(truth, str) and truth.lstrip().startswith('{'):
    with contextlib.suppress(ValueError):
      table = json.loads(truth)
  if not isinstance(table, dict) or not table.keys() >= {'inputs', 'outputs'}:
    return None
  if table.get('fn_name'):
    raise formats.LeftOut('its tests call a function')
  inputs, outputs = table['inputs'], table['outputs']
  if not isinstance(inputs, list) or not isinstance(outputs, list):
    return None
  if len(inputs) != len(outputs) or not inputs:
    raise formats.LeftOut('its tests are incomplete')
  return [dict(input=x, output=y) for x, y in zip(inputs, outputs)]


def _short(gold, form, where, key):
  """The answer in a text that may be a worked solution."""
  short = gold_answers.of_solution(gold)
  if short is None and form == 'question' and '\n' in gold:
    raise errors.UserError(
      f'{where}: {key!r} has several lines, and ends with neither "#### …" '
      r'(GSM8K), "The answer is: …" (MATH-500) nor \boxed{…}: a plain answer '
      'is one line'
    )
  return short or gold
