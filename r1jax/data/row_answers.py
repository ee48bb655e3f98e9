"""The gold answer of a row of a data file."""

from r1jax import errors
from r1jax.data import gold_answers, preferences, row_checks, verl
from r1jax.data.formats import Record

# Keys of a gold answer; the first that a row has counts.
ANSWERS = 'answer', 'ground_truth', 'expected_answer', 'final_answer'
TESTS = 'test', 'tests'
# One of these keys makes a null as the answer an absent one.
JUDGED_BY = {
  'answer',
  'solution',
  *preferences.KEYS,
  *TESTS,
  'choices',
  'domain',
}
# Domains whose answers are not mathematics, and are read as they are.
TEXT_DOMAINS = 'code', 'text', 'tools'


def with_answer(record: Record, row: Record, form: str, where: str) -> Record:
  """The record with its gold answer, if the row has one."""
  tests = verl.tests_of(row)
  if tests is not None:
    return {**record, 'tests': tests}
  value, key = _answer_of(row, form)
  if not key:
    return record
  row_checks.check_one(_with_truth(row), ANSWERS, 'answer', where)
  gold = gold_answers.read(value, where, key)
  if _is_mathematics(row):
    golds = gold_answers.alternatives(gold)
    golds = [gold_answers.of_answer(x, where, key) for x in golds]
    is_long = '\n' in str(gold) and r'\begin' not in str(gold)
    if form == 'question' and golds == [gold] and is_long:
      raise errors.UserError(
        f'{where}: {key!r} has several lines, and ends with neither "#### …" '
        r'(GSM8K), "The answer is: …" (MATH-500) nor \boxed{…}: a plain answer '
        'is one line'
      )
    gold = gold_answers.read(golds, where, key)
  return {**record, 'answer': gold}


def _is_mathematics(row):
  """Whether a row's answer is compared as mathematics, so that it may end a
  worked solution."""
  others = 'choices', 'judge', *TESTS
  return row.get('domain') not in TEXT_DOMAINS and not any(map(row.get, others))


def _with_truth(row):
  """The row with verl's ground truth, under a key that it does not have."""
  truth = verl.ground_truth(row)
  if truth in (None, '') or 'ground_truth' in row:
    return row
  return {**row, 'ground_truth': truth}


def _answer_of(row, form):
  """(the gold answer of a row, its key); (None, '') without one."""
  if form == 'mawps':
    return row['target'], 'target'
  for key in ANSWERS:
    if key in row:
      return row[key], key
  truth = verl.ground_truth(row)
  if truth not in (None, ''):
    return truth, 'reward_model.ground_truth'
  solution = row.get('solution')
  if isinstance(solution, str) and not row.keys() & set(TESTS):
    text = solution.strip()
    bare = text if gold_answers.BARE.fullmatch(text) else None
    gold = gold_answers.of_solution(solution) or bare
    if gold:
      return gold, 'solution'
  return None, ''
