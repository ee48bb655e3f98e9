"""Records with a scorer of their own: reasoning-gym's tasks and the user's."""

import json

import pytest

from experiments.verifiers import reasoning_gym
from r1jax import errors, user_code
from r1jax.data import gym_tasks, record_files, tasks
from r1jax.rewards import guarded_eval, registry, scorer, verdict, verifiers

# CPU seconds that no machine reaches, and few worker processes.
CONFIG = verdict.VerifyConfig(workers=2, seconds=100.0)


def tagged(answer):
  return f'<think>\\boxed{{1}}</think>\n<answer>{answer}</answer>'


def verdicts_of(records, answers):
  registry.check_rewards({'accuracy': 1.0}, records)
  with verifiers.Verifiers(CONFIG, records) as opened:
    return opened.verdicts(records, list(map(tagged, answers)))


@pytest.fixture(scope='module')
def opened():
  """Verifiers whose workers import reasoning-gym once."""
  config = verdict.VerifyConfig(workers=1, seconds=100.0)
  with verifiers.Verifiers(config) as found:
    yield found


# A gold with tags, one with newlines, one with brackets; a list whose numbers
# the scorer compares as numbers; an antiderivative that differs by a constant.
ACCEPTED = {
  'ab': None,
  'futoshiki': None,
  'tower_of_hanoi': None,
  'jugs': None,
  'number_sorting': lambda gold: gold.replace('.0', ''),
  'simple_integration': lambda gold: gold.replace('+ C', '+ 17'),
  'chain_sum': lambda gold: f'{gold}.00',
}


@pytest.fixture(scope='module')
def gym():
  """{task: (two records, the task's dataset of reasoning-gym)}."""
  factory = pytest.importorskip('reasoning_gym').create_dataset
  return {
    name: (
      tasks.load_records(f'gym:{name}?count=2', 5),
      factory(name, size=2, seed=5),
    )
    for name in [*ACCEPTED, 'graph_color', 'countdown', 'prime_factorization']
  }


def test_the_reward_is_the_number_of_the_tasks_own_scorer(gym, opened):
  records, answers, expected = [], [], []
  for name, (own, dataset) in gym.items():
    golds = [record.get('answer', '') for record in own]
    wrong = ['', 'x', '1', own[0]['prompt'], golds[1], f'{golds[0]} 1']
    if change := ACCEPTED.get(name):
      wrong.append(change(golds[0]))
    for answer in [golds[0], *wrong]:
      records.append(own[0])
      answers.append(answer)
      value = 0.0
      try:
        if answer:  # else there is no answer, whatever the scorer gives
          value = float(dataset.score_answer(answer.strip(), dataset[0]))
      except ValueError:  # of prime_factorization
        pass
      expected.append(value)
  found = opened.verdicts(records, list(map(tagged, answers)))
  assert [x.value for x in found] == expected


def test_records_of_tasks_pass_the_checks_of_a_start(gym):
  records = [record for own, _ in gym.values() for record in own]
  assert registry.check_rewards({'accuracy': 1.0}, records) == records


def test_the_table_of_the_tasks_agrees_with_their_scorers():
  pytest.importorskip('reasoning_gym')
  config = verdict.VerifyConfig(workers=1, seconds=100.0)
  row = reasoning_gym.compare('n_queens', 1, config)
  assert (row.golds, row.accepted, row.wrong, row.differ) == (1, 1, 12, 0)


def test_what_the_scorer_accepts_is_right_and_a_copied_question_is_not(
  gym, opened
):
  records = [gym[name][0][0] for name in ACCEPTED]
  answers = []
  for record, change in zip(records, ACCEPTED.values()):
    gold = record['answer']
    answers.append(f'\n{change(gold) if change else gold}\n')
  found = opened.verdicts(records, list(map(tagged, answers)))
  assert {x.kind for x in found} == {'equal'}
  (chain_sum, *_), _ = gym['chain_sum']
  question = chain_sum['prompt'].partition(': ')[2].rstrip(' =.')
  assert '+' in question or '-' in question
  (copied,) = opened.verdicts([chain_sum], [tagged(question)])
  assert copied.value < 1


def test_a_task_without_a_single_gold_has_right_answers(gym, opened):
  (record, _), dataset = gym['graph_color']
  assert 'answer' not in record
  colors = dataset[0]['metadata']['possible_answer']
  answers = [json.dumps(colors), '{}', 'x']
  found = opened.verdicts([record] * 3, list(map(tagged, answers)))
  assert [x.value for x in found] == [
    1,
    0.01,
    0,
  ]  # their credit for what is JSON


def test_records_of_a_task_survive_a_file(gym, tmp_path):
  records = [gym[name][0][0] for name in gym]
  path = tmp_path / 'records.jsonl'
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  assert record_files.read(path) == records


PROGRAM = '__import__("pathlib").Path({!r}).touch()'


@pytest.mark.parametrize(
  'name, attack',
  [
    ('spiral_matrix', '[{}]'),
    ('string_insertion', '[str({})]'),
    ('binary_matrix', '[[{}]]'),
    ('n_queens', '[[{}]]'),
    ('spiral_matrix', 'entry["answer"].split()'),
    ('binary_matrix', '[x.split() for x in entry["answer"].split("\\n")]'),
    ('countdown', '{}'),
    ('puzzle24', '{}'),
    ('simple_integration', '{}'),
    ('intermediate_integration', '{}'),
    ('polynomial_multiplication', '{}'),
  ],
)
def test_a_scorer_that_evaluates_answers_runs_nothing(name, attack, tmp_path):
  gym = pytest.importorskip('reasoning_gym')
  mark = tmp_path / 'mark'
  answer = attack.replace('{}', PROGRAM.format(str(mark)))
  (record,) = tasks.load_records(f'gym:{name}?count=1', 5)
  entry = gym.create_dataset(name, size=1, seed=5)[0]
  dataset = gym.create_dataset(name, size=1, seed=5)
  assert dataset.score_answer(answer, entry) >= 0.1 or mark.exists()
  mark.unlink(missing_ok=True)
  number, _ = scorer._gym_score(record['scorer'], record, answer)
  assert number < 0.1 and not mark.exists()


@pytest.mark.parametrize(
  'text', ['[1, 2.5, "a"]', '(1, -2)', '1 + 2 * 3', '{1: [True, None]}']
)
def test_plain_values_are_evaluated(text):
  assert eval(guarded_eval.plain(text)) == eval(text)


@pytest.mark.parametrize(
  'text',
  ['f()', 'x', 'x.y', '[1][0]', '[x for x in [1]]', 'lambda: 1', 'f"{1}"'],
)
def test_all_else_is_not_evaluated(text):
  with pytest.raises(guarded_eval.Refused):
    guarded_eval.plain(text)


@pytest.mark.parametrize(
  'text, is_read',
  [
    ('x**2/3 + sin(2*x)*exp(-x) + C', True),
    ('sqrt(2)*pi + 5!', True),
    ('a*b + f(x)', True),
    ('x.args', False),
    ('open("/etc/passwd")', False),
    ('S("1")', False),
    ('lambdify(x, x)', False),
    ('[c for c in x]', False),
    ('(lambda: 1)()', False),
    ('preview(x)', False),
  ],
)
def test_sympy_reads_mathematics_only(text, is_read):
  from sympy.parsing import sympy_parser

  for evaluate in (True, False):
    with guarded_eval.guarded():
      if is_read:
        sympy_parser.parse_expr(text, evaluate=evaluate)
        continue
      with pytest.raises((guarded_eval.Refused, SyntaxError)):
        sympy_parser.parse_expr(text, evaluate=evaluate)


@pytest.mark.parametrize(
  'answer', ['NaN', ' nan', '-inf', 'nan+nanj', '1+nani', 'Infinity', '(nan)']
)
def test_no_answer_of_nan_or_infinity_is_near_the_gold(answer):
  pytest.importorskip('reasoning_gym')
  (record,) = tasks.load_records('gym:complex_arithmetic?count=1', 5)
  assert scorer._gym_score(record['scorer'], record, answer)[0] == 0


def test_a_scorer_that_accepts_everything_is_named(tmp_path, capsys):
  records = own_records(tmp_path, 'all', 'def all(record, answer): return 1')
  with verifiers.Verifiers(CONFIG, records):
    pass
  assert "gives 1 to the answer '?'" in capsys.readouterr().out


def test_a_scorer_that_accepts_nonsense_for_one_record_is_named(
  tmp_path, capsys
):
  text = 'def last(record, answer): return record["target"] == 4'
  with verifiers.Verifiers(CONFIG, own_records(tmp_path, 'last', text)):
    pass
  assert "to the answer '?' to record 4: " in capsys.readouterr().out


def test_code_that_is_guarded_may_name_its_scopes():
  names, made = dict(a=2), {}
  a = 3
  with guarded_eval.guarded():
    assert eval('a', globals=names) == 2
    assert eval('a', locals=dict(a=5)) == 5
    assert eval('a') == a
    exec('b = a', globals=names, locals=made)
  assert made == dict(b=2)


def test_the_scorers_of_all_tasks_are_kept():
  factory = pytest.importorskip('reasoning_gym.factory')
  limit = gym_tasks.scorer_dataset.cache_parameters()['maxsize']
  assert limit >= len(factory.DATASETS)


def test_an_unevaluated_integral_is_only_right_if_the_gold_is_one():
  pytest.importorskip('reasoning_gym')
  (record,) = tasks.load_records('gym:simple_integration?count=1', 5)
  entry = gym_tasks.entry_of(record)
  integrand = entry['metadata']['integrand']
  copied = f'Integral({integrand}, {entry["metadata"]["variable"]})'
  assert scorer._gym_score(record['scorer'], record, copied)[0] == 0
  record['entry'] = repr(entry | dict(answer=copied))
  assert scorer._gym_score(record['scorer'], record, copied)[0] == 1


@pytest.mark.parametrize(
  'text, answer',
  [
    ('<think>1</think><answer>\n2\n</answer>', '2'),
    ('<think>1</think><answer>a < b</answer>', 'a < b'),
    ('<think>1</think><answer>1 2\n3 4</answer>', '1 2\n3 4'),
    ('<answer>1</answer><answer>2</answer>', '2'),
    ('<think>1</think><answer> \\boxed{ 2 } </answer>', '2'),
    ('<think>1</think><answer>It is \\boxed{2}</answer>', '2'),
    ('<answer>\\boxed{1} \\boxed{2}</answer>', '\\boxed{1} \\boxed{2}'),
    ('<think>1</think><answer>5', None),
    ('<answer>\\boxed{}</answer>', None),
    ('<think>\\boxed{1}</think>It is $\\boxed{2}$.', '2'),
    ('It is \\boxed{\\frac{1}{2}}', '\\frac{1}{2}'),
    ('<think>1</think>\\boxed{2} or \\boxed{3}', None),
    ('<think>1</think>2', None),
    ('<think><answer>1</answer>', None),
    ('<think>1</think><answer></answer>', None),
  ],
)
def test_a_scorer_gets_the_text_of_the_answer(text, answer):
  assert scorer.extract(text) == answer


OWN = """
import os
def near(record, answer):
  if answer == 'loop':
    while True: pass
  if answer == 'open':
    return None
  gold = record['target']
  return 0.0 if not answer.isdigit() else 1 / (1 + abs(int(answer) - gold))
def big(record, answer):
  return 2
def one(answer):
  return 1
def failing(record, answer):
  return record['nothing']
def ends(record, answer):
  if answer == 'end':
    os._exit(3)
  if answer == 'fill':
    raise MemoryError
  return 0
def late(record, answer):
  return 'x' if answer == 'a' else 0
"""


def own_records(folder, name, text=OWN):
  path = folder / 'own_scorer.py'
  path.write_text(text)
  return [
    dict(id=str(n), prompt='?', target=n, scorer=f'{path}:{name}')
    for n in (3, 4)
  ]


def test_a_record_may_have_a_scorer_of_the_users(tmp_path):
  records = own_records(tmp_path, 'near')
  found = verdicts_of([*records, records[0]], ['3', '3', 'x'])
  assert [x.value for x in found] == [1.0, 0.5, 0.0]
  assert [x.kind for x in found] == ['equal', 'partial', 'unequal']
  assert found[1].reason == 'near gives 0.5'


def test_a_scorer_has_limits_and_may_not_judge(tmp_path):
  records = own_records(tmp_path, 'near')
  registry.check_rewards({'accuracy': 1.0}, records)
  config = verdict.VerifyConfig(workers=1, seconds=0.5)
  with verifiers.Verifiers(config, records) as opened:
    found = opened.verdicts(records, [tagged('loop'), tagged('open')])
  assert found[0][:2] == (0.0, 'timeout')
  assert found[1].kind == 'unjudged' and found[1].value != found[1].value


def test_a_scorer_that_ends_its_process_does_not_judge(tmp_path, capsys):
  records = own_records(tmp_path, 'ends')
  found = verdicts_of(records, ['end', 'fill'])
  assert [x.kind for x in found] == ['unjudged', 'unjudged']
  assert all(x.value != x.value for x in found)
  shown = capsys.readouterr().err
  assert 'record 3 was not verified: the scorer' in shown
  assert 'it ended its worker process' in shown
  assert 'it ran out of memory' in shown


@pytest.mark.parametrize(
  'name, message',
  [
    ('big', 'returned int 2; expected a number from 0 to 1'),
    ('failing', "failed\n(.|\n)*KeyError: 'nothing'"),
    ('one', 'the scorer of record 3: .*one has the parameters'),
    ('none', 'has no .none.; did you mean one|it has'),
  ],
)
def test_a_wrong_scorer_is_refused_at_the_start(name, message, tmp_path):
  records = own_records(tmp_path, name)
  with pytest.raises(errors.UserError, match=message):
    registry.check_rewards({'accuracy': 1.0}, records)
    verifiers.Verifiers(CONFIG, records)


@pytest.mark.parametrize(
  'name, message',
  [
    ('subprocess:call', 'which is part of Python'),
    ('os.path:join', 'which is part of Python'),
    ('scorer', 'to name your own code'),
    (7, 'is int 7: name it as FILE.py:NAME'),
    ('python:f@abc', 'was given in Python'),
    ('gym:nothing?count=2', 'has no task .nothing.'),
  ],
)
def test_a_scorer_that_is_none_is_refused(name, message):
  record = dict(id='a', prompt='?', scorer=name)
  with pytest.raises(errors.UserError, match=message):
    registry.check_rewards({'accuracy': 1.0}, [record])


def test_a_failure_during_a_run_names_the_record_and_the_answer(tmp_path):
  records = own_records(tmp_path, 'late')
  with pytest.raises(errors.UserError, match="record '3' and the answer 'a'"):
    verdicts_of(records, ['a', 'b'])


def test_a_verdict_is_cached_for_its_scorer(tmp_path):
  near, late = (own_records(tmp_path, name)[0] for name in ('near', 'big'))
  with verifiers.Verifiers(CONFIG) as opened:
    assert opened.key(near, tagged('3')) != opened.key(late, tagged('3'))


def test_scorers_belong_to_the_code_of_a_run(tmp_path):
  records = own_records(tmp_path, 'near')
  place = str(tmp_path / 'own_scorer.py')
  old = record_files.scorer_code(records)
  assert old.keys() == {place}
  (tmp_path / 'own_scorer.py').write_text(OWN + '\n# changed\n')
  user_code.refresh([records[0]['scorer']])
  assert record_files.scorer_code(records) != old
