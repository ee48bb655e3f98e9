"""Rows in the forms in which they are published become records."""

import gzip
import json

import pytest

from r1jax import errors
from r1jax.data import gold_answers, record_files, tasks, templates
from r1jax.data.bad_records import BadRecords
from r1jax.data.record_forms import make_record
from r1jax.rewards import registry, verdict, verifiers
from r1jax.rewards.code import unit_tests
from r1jax.rewards.math import grading


def user(text):
  return dict(role='user', content=text)


def assistant(text):
  return dict(role='assistant', content=text)


SYSTEM = dict(role='system', content='Be brief.')
VERL = dict(
  data_source='math_dapo',
  prompt=[user('What is 2+2?')],
  ability='MATH',
  reward_model=dict(ground_truth='4', style='rule-lighteval/MATH_v2'),
  extra_info=dict(index='9a9b'),
)
SHAREGPT = [{'from': 'human', 'value': 'q'}, {'from': 'gpt', 'value': 'r'}]
PARTS = [dict(type='text', text='a'), dict(type='text', text='b')]


@pytest.mark.parametrize(
  'row, record',
  [
    (VERL, VERL | dict(prompt='What is 2+2?', answer='4')),
    (
      dict(prompt='q', reward_model=dict(ground_truth=dict(target=['a', 'b']))),
      dict(
        prompt='q',
        reward_model=dict(ground_truth=dict(target=['a', 'b'])),
        answer=['a', 'b'],
      ),
    ),
    (dict(messages=[user('q')]), dict(prompt='q')),
    (
      dict(messages=[SYSTEM, user('q'), assistant('r')], answer=4),
      dict(turns=[SYSTEM], prompt='q', response='r', answer='4'),
    ),
    (
      dict(messages=[user('a'), assistant('b'), user('c'), assistant('d')]),
      dict(turns=[user('a'), assistant('b')], prompt='c', response='d'),
    ),
    (dict(conversations=SHAREGPT), dict(prompt='q', response='r')),
    (
      dict(system='Be brief.', conversations=SHAREGPT),
      dict(system='Be brief.', turns=[SYSTEM], prompt='q', response='r'),
    ),
    (dict(prompt=[dict(role='user', content=PARTS)]), dict(prompt='ab')),
    (
      dict(prompt=[user('q')], completion=[assistant('r')]),
      dict(prompt='q', completion=[assistant('r')], response='r'),
    ),
    (
      dict(messages=[user('q'), assistant('r') | dict(reasoning_content='t')]),
      dict(prompt='q', response='<think>t</think>r'),
    ),
    (
      dict(prompt='q', solution=r'so $\boxed{\frac{1}{2}}$.'),
      dict(
        prompt='q',
        solution=r'so $\boxed{\frac{1}{2}}$.',
        answer=r'\frac{1}{2}',
      ),
    ),
    (
      dict(problem='q', solution='so \\boxed{3}, and\n\\boxed{4}', source='x'),
      dict(prompt='q', answer='4', response='so \\boxed{3}, and\n\\boxed{4}'),
    ),
    (
      dict(problem='q', solution='$\\frac12$'),
      dict(prompt='q', answer='$\\frac12$', response='$\\frac12$'),
    ),
    (
      dict(problem='q', solution='A proof.'),
      dict(prompt='q', response='A proof.'),
    ),
    (dict(problem='q', expected_answer='7'), dict(prompt='q', answer='7')),
    (
      dict(question='q', answer='a plain one'),
      dict(prompt='q', answer='a plain one'),
    ),
    (dict(question='q', answer=5), dict(prompt='q', answer='5')),
    (
      dict(question='q', choices=['x', 'y'], answer='B'),
      dict(prompt='q', choices=['x', 'y'], answer='B'),
    ),
    (
      dict(instruction='a', input='b', output='c'),
      dict(prompt='a\n\nb', response='c'),
    ),
    (dict(problem='q', answer=['4']), dict(prompt='q', answer='4')),
    (
      dict(prompt='q', answer=[0.5, '1/2', '0.5']),
      dict(prompt='q', answer=['0.5', '1/2']),
    ),
    (
      dict(prompt=None, messages=[user('q')]),
      dict(prompt='q'),
    ),
    (
      dict(
        chosen=[user('q'), assistant('c')], rejected=[user('q'), assistant('r')]
      ),
      dict(prompt='q', chosen='c', rejected='r'),
    ),
    (
      dict(
        prompt='q',
        chosen=[SYSTEM, user('q'), assistant('c')],
        rejected=[SYSTEM, user('q'), assistant('r')],
      ),
      dict(prompt='q', turns=[SYSTEM], chosen='c', rejected='r'),
    ),
    (
      dict(prompt='q', reasoning_content='t', response='r'),
      dict(prompt='q', reasoning_content='t', response='<think>t</think>r'),
    ),
    (
      dict(messages=[user('q'), assistant('r') | dict(reasoning='t')]),
      dict(prompt='q', response='<think>t</think>r'),
    ),
    (
      dict(instruction='q', output='r', history=[['a', 'b']]),
      dict(prompt='q', turns=[user('a'), assistant('b')], response='r'),
    ),
    (
      dict(instruction='q', input='i', chosen='c', rejected='r'),
      dict(
        instruction='q', input='i', prompt='q\n\ni', chosen='c', rejected='r'
      ),
    ),
    (
      dict(system='Be brief.', question='q', chosen='c', rejected='r'),
      dict(
        system='Be brief.',
        question='q',
        turns=[SYSTEM],
        prompt='q',
        chosen='c',
        rejected='r',
      ),
    ),
    (
      dict(
        conversations=[{'from': 'human', 'value': 'q'}],
        chosen={'from': 'gpt', 'value': 'c'},
        rejected={'from': 'gpt', 'value': 'r'},
      ),
      dict(prompt='q', chosen='c', rejected='r'),
    ),
    (  # TRL's standard preferences with an implicit prompt
      dict(chosen='The sky is blue.', rejected='The sky is green.'),
      dict(prompt='The sky is', chosen=' blue.', rejected=' green.'),
    ),
    (
      dict(chosen='The sky is blue', rejected='The sky is black'),
      dict(prompt='The sky is', chosen=' blue', rejected=' black'),
    ),
    (
      dict(chosen='Q: 1+1?\nA:2', rejected='Q: 1+1?\nA:3'),
      dict(prompt='Q: 1+1?\nA:', chosen='2', rejected='3'),
    ),
    (
      dict(prompt=[user('q')], chosen=[assistant('c')], rejected='r'),
      dict(prompt='q', chosen='c', rejected='r'),
    ),
  ],
)
def test_rows_become_records(row, record):
  before = json.dumps(row)
  assert make_record(row, 'row') == record
  assert json.dumps(row) == before


def code_row(**truth):
  model = dict(ground_truth=json.dumps(truth), style='rule')
  return VERL | dict(reward_model=model)


def test_the_tests_of_a_program_in_a_ground_truth_are_kept(tmp_path, capsys):
  stdin = code_row(inputs=['1 2\n', '3 4\n'], outputs=['3\n', '7\n'])
  record = make_record(stdin, 'row')
  assert record['prompt'] == 'What is 2+2?' and 'answer' not in record
  assert record['tests'] == [
    dict(input='1 2\n', output='3\n'),
    dict(input='3 4\n', output='7\n'),
  ]
  call = code_row(inputs=[[1]], outputs=[[2]], fn_name='f')
  path = tmp_path / 'x.json'
  path.write_text(json.dumps([stdin, call, code_row(inputs=['1'], outputs=[])]))
  assert len(record_files.read(path)) == 1
  printed = capsys.readouterr().out
  assert 'left out 2 of 3 problems' in printed and 'call a function' in printed


@pytest.mark.parametrize(
  'row, message',
  [
    (dict(messages='q'), "row: 'messages' must be a list"),
    (dict(messages=[]), "row: 'messages' must be a list"),
    (dict(messages=[user('q'), 'r']), r"row: 'messages'\[1\] is no message"),
    (
      dict(messages=[user('q'), dict(role='critic', content='')]),
      r"row: 'messages'\[1\] has 'role' 'critic'",
    ),
    (
      dict(conversations=[{'from': 'bing', 'value': ''}]),
      r"row: 'conversations'\[0\] has 'from' 'bing'",
    ),
    (
      dict(prompt=[dict(role='user', content=None)]),
      r"row: 'prompt'\[0\] needs a text as its 'content'",
    ),
    (
      dict(prompt=[dict(role='user', content=[dict(type='image_url')])]),
      r"row: 'prompt'\[0\] needs a text as its 'content'",
    ),
    (
      dict(prompt=[user(' ')]),
      "row: 'prompt' must end with a message of the us",
    ),
    (
      dict(prompt=[user('q'), assistant('r')]),
      "row: 'prompt' must end with a m",
    ),
    (
      dict(messages=[assistant('r')]),
      "row: 'messages' must end with a message",
    ),
    (dict(messages=[SYSTEM]), "row: 'messages' must end with a message of the"),
    (
      dict(messages=[assistant('') | dict(tool_calls=[1])]),
      r"row: 'messages'\[0\] has 'tool_calls'",
    ),
    (
      dict(prompt=[SYSTEM, user('q')], turns=[user('a'), assistant('b')]),
      "turns in 'prompt' and in 'turns'",
    ),
    (
      dict(prompt='q', reward_model=dict(ground_truth=dict(a=1))),
      "row: 'reward_model.ground_truth' must be text or a number",
    ),
    (dict(problem=['q'], answer='1'), "row: 'problem' must be a text"),
    (dict(question='', answer='1'), "row: 'question' must be a text"),
    (dict(problem='q', answer=None), "row: 'answer' must be text or a number"),
    (dict(problem='q'), 'row has the keys problem; expected'),
    (dict(chosen='c', rejected='r'), "no key 'prompt'"),
    (
      dict(system='A', messages=[SYSTEM, user('q')]),
      "'system' and a system message in its chat, which differ",
    ),
    (
      dict(system='A', system_prompt='B', messages=[SYSTEM, user('q')]),
      "'system' and 'system_prompt', which differ",
    ),
    (dict(system=dict(a=1), prompt='q'), "'system' must be a text"),
    (
      dict(prompt='q', response='a', completion='b'),
      "'response' and 'completion', which differ",
    ),
    (
      dict(messages=[user('q'), assistant('a')], response='b'),
      "'messages' and 'response', which differ",
    ),
    (
      dict(instruction='q', output='a', response='b'),
      "'output' and 'response', which differ",
    ),
    (
      dict(messages=[user('q'), assistant('a')], tools=[dict(name='f')]),
      "'tools' beside its chat",
    ),
    (
      dict(prompt='q', answer='5', reward_model=dict(ground_truth='6')),
      "'answer' and 'ground_truth', which differ",
    ),
    (dict(chosen='blue', rejected='black'), "no key 'prompt'"),
    (dict(chosen='The sky', rejected='The sky is'), "no key 'prompt'"),
    (
      dict(
        chosen=[user('q'), assistant('c')], rejected=[user('p'), assistant('r')]
      ),
      "row: 'rejected' is the answer to another chat",
    ),
    (
      dict(prompt='p', chosen=[user('q'), assistant('c')], rejected='r'),
      "row: 'chosen' is the answer to another chat",
    ),
    (
      dict(prompt='q', chosen=[user('q')]),
      "row: 'chosen' must end with a message",
    ),
    (dict(question='q', answer='####'), "row: 'answer' has nothing after"),
    (dict(prompt='q', answer='2 + 2\n####'), "row: 'answer' has nothing after"),
    (
      dict(problem='q', answer=r'x \boxed{}'),
      "row: 'answer' has nothing after",
    ),
    (dict(prompt='q', answer=None, id=None), "row: 'answer' must be text"),
    (dict(prompt='q', answer=None, solution=None), "row: 'answer' must be te"),
    (dict(prompt='q', answer=None, response='r'), "row: 'answer' must be te"),
    (
      dict(prompt='q', response=[user('q')]),
      "'response' must end with a messag",
    ),
  ],
)
def test_an_error_names_the_key_at_fault(row, message):
  with pytest.raises(errors.UserError, match=message):
    make_record(row, 'row')


WORKED = 'step one\nstep two\n#### 6'


@pytest.mark.parametrize(
  'row',
  [
    dict(prompt='q'),
    dict(prompt=[user('q')]),
    dict(messages=[user('q')]),
    dict(conversations=[{'from': 'human', 'value': 'q'}]),
    dict(question='q'),
    dict(problem='q'),
  ],
)
@pytest.mark.parametrize(
  'answer, gold',
  [
    (WORKED, '6'),
    ('5 #### 7', '7'),
    (r'so \boxed{8}.', '8'),
    ('so\nThe answer is: 9', '9'),
    (r'The answer is: $\boxed{9}$', '9'),
    ('#### Step 1\nadd\n#### Step 2\n\\boxed{4}', '4'),
    ([WORKED, '6.0'], ['6', '6.0']),
    ('Paris', 'Paris'),
    ('[1, 2]', '[1, 2]'),
  ],
)
def test_a_worked_solution_is_read_in_all_forms(row, answer, gold):
  assert make_record(row | dict(answer=answer), 'row')['answer'] == gold


@pytest.mark.parametrize(
  'more',
  [
    dict(domain='text'),
    dict(domain='code'),
    dict(domain='tools'),
    dict(choices=['a', 'b']),
    dict(scorer='my.py:f'),
    dict(judge=True),
    dict(tests=[{'assert': 'f(1)'}]),
  ],
)
def test_answers_that_are_not_mathematics_stay_as_they_are(more):
  row = dict(prompt='q', answer=WORKED, **more)
  assert make_record(row, 'row') == row


@pytest.mark.parametrize(
  'truth, gold',
  [
    ('["10"]', '10'),
    ('["1/2", "0.5"]', ['1/2', '0.5']),
    ('[10]', '10'),
    ('[1, 2]', '[1, 2]'),
    ('[0, 1)', '[0, 1)'),
    ('{"target": ["a"]}', 'a'),
  ],
)
def test_a_ground_truth_may_be_json_of_alternatives(truth, gold):
  model = dict(ground_truth=truth, style='rule')
  for value in model, json.dumps(model):
    row = dict(prompt=[user('q')], reward_model=value)
    assert make_record(row, 'row')['answer'] == gold


def test_a_null_is_an_absent_key():
  nulls = dict.fromkeys(
    'id scorer answer choices domain turns test tests language final_form '
    'response chosen reward_model final_answer my_own'.split()
  )
  box = r'so \boxed{3}'
  row = nulls | dict(problem='q', solution=box)
  assert make_record(row, 'row') == dict(prompt='q', answer='3', response=box)
  row = nulls | dict(prompt='q', ground_truth=4)
  made = make_record(row, 'row')
  assert made == dict(prompt='q', ground_truth=4, answer='4')
  row = nulls | dict(prompt='q', domain='chat')
  assert make_record(row, 'row') == dict(prompt='q', domain='chat')
  row = dict(prompt='q', scorer='my.py:f', answer=None, turns=None)
  made = make_record(row, 'row')
  assert made == dict(prompt='q', scorer='my.py:f', answer=None)


def test_a_null_id_is_that_of_the_line(tmp_path):
  rows = [dict(prompt='a', id=None), dict(prompt='b', id=None, task_id=7)]
  path = tmp_path / 'x.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  assert [x['id'] for x in record_files.read(path)] == ['x/1', '7']
  own = record_files.own_record(rows[0], 'record 0', 'own/0')
  assert own == dict(id='own/0', prompt='a')


@pytest.mark.parametrize(
  'solution, gold',
  [
    (r'so $x=\boxed 5$.', '5'),
    (r'\boxed 5. It costs $3.', '5'),
    (r'so $\fbox 12$', '12'),
    (r'so \fbox{7}', '7'),
    (r'$\boxed\frac{1}{2}$', r'\frac{1}{2}'),
    (r'$\boxed -\frac{\sqrt{2}}{2}$', r'-\frac{\sqrt{2}}{2}'),
    (r'thus \boxed 1,000 people', '1,000'),
    (r'$\boxed{1}$, then $\boxed 2$', '2'),
  ],
)
def test_a_box_needs_no_braces(solution, gold):
  assert gold_answers.of_solution(solution) == gold


def test_a_command_in_words_is_no_box():
  for text in r'Use \boxed.', r'Use \boxed to mark it', r'\boxedx 5':
    assert gold_answers.of_solution(text) is None


@pytest.mark.parametrize(
  'answer, is_accepted',
  [
    ('There are two of them. We have no final number.', False),
    ('step one\nstep two\n6', False),
    ('four men', True),
    ('from Mt. Everest to St. Helens', True),
    ('It is the man of No. 5 in the garden.', True),
    ('\\begin{pmatrix} 1 & 2 \\\\\n 3 & 4 \\end{pmatrix}', True),
  ],
)
def test_prose_is_no_gold_answer_of_mathematics(answer, is_accepted):
  assert gold_answers.is_prose(answer) != is_accepted
  record = make_record(dict(prompt='q', answer=answer), 'row') | dict(id='a')
  if is_accepted:
    assert registry.check_rewards(dict(accuracy=1.0), [record]) == [record]
    return
  with pytest.raises(errors.UserError, match="record a: 'answer' has several"):
    registry.check_rewards(dict(accuracy=1.0), [record])


def test_a_missing_answer_is_named_with_its_file_line_and_key(tmp_path):
  rows = [
    dict(prompt='a', id='u'),
    dict(prompt='b', answer=4),
    dict(prompt='c'),
  ]
  path = tmp_path / 'x.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  bad = BadRecords()
  records = tasks.load_records(str(path), 0, bad)
  records = registry.check_rewards(dict(accuracy=1.0), records, bad=bad)
  with pytest.raises(errors.UserError) as caught:
    bad.finish(len(records), 'x')
  _, first, second = str(caught.value).split('\n')
  assert "record u has no answer to compare with: add 'answer'" in first
  assert first.endswith(f'({path} line 1)')
  assert "record x/3 has no answer to compare with: add 'answer'" in second
  assert second.endswith(f'({path} line 3)')


def test_developer_is_a_name_of_the_system_role():
  row = dict(messages=[dict(SYSTEM, role='developer'), user('q')])
  assert make_record(row, 'row') == dict(prompt='q', turns=[SYSTEM])


@pytest.mark.parametrize(
  'completion, turns',
  [
    (
      [assistant('a'), user('b'), assistant('c')],
      [SYSTEM, user('q'), assistant('a')],
    ),
    (
      [user('q'), assistant('a'), user('b'), assistant('c')],
      [SYSTEM, user('q'), assistant('a')],
    ),
    (
      [SYSTEM, user('q'), assistant('a'), user('b'), assistant('c')],
      [SYSTEM, user('q'), assistant('a')],
    ),
  ],
)
def test_a_completion_of_several_messages_continues_the_chat(completion, turns):
  row = dict(prompt=[SYSTEM, user('q')], completion=completion)
  record = make_record(row, 'row')
  assert (record['turns'], record['prompt']) == (turns, 'b')
  assert record['response'] == 'c'


def test_a_completion_may_repeat_the_prompt():
  row = dict(prompt='q', completion=[user('q'), assistant('c')])
  record = make_record(row, 'row')
  assert (record['prompt'], record['response']) == ('q', 'c')
  assert 'turns' not in record


def test_rows_of_dolly_and_mbpp_are_read():
  row = dict(instruction='a', context='b', response='c', category='x')
  assert make_record(row, 'row') == dict(prompt='a\n\nb', response='c')
  mbpp = dict(
    task_id=3,
    text='Add.',
    code='def one():\n  return 1\ndef add(a, b):\n  return a + b',
    test_list=['assert add(1, 2) == 3'],
    test_setup_code='',
    challenge_test_list=[],
  )
  record = dict(
    id='3',
    prompt='Add.\nYour code should pass these tests:\nassert add(1, 2) == 3',
    entry_point='add',
    tests=[{'assert': 'assert add(1, 2) == 3'}],
  )
  assert make_record(mbpp, 'row') == record
  unit_tests.check_tests(record)
  imports = dict(mbpp, prompt=mbpp.pop('text'), test_imports=['import math'])
  made = make_record(imports, 'row')
  assert made['prefix'].strip() == 'import math'
  with pytest.raises(errors.UserError, match='row cannot be .* of mbpp'):
    make_record(imports | dict(code='x = 1'), 'row')


ROWS = [dict(problem=f'q{n}', answer=n) for n in range(3)]


def written(path, data):
  path.write_bytes(data)
  return path


def test_lines_arrays_and_compressed_files_give_the_same_records(tmp_path):
  lines = ''.join(json.dumps(row) + '\n' for row in ROWS).encode()
  array = json.dumps(ROWS, indent=2).encode()
  expected = [
    dict(id=f'x/{n + 1}', prompt=f'q{n}', answer=str(n)) for n in range(3)
  ]
  for name, data in (
    ('x.jsonl', lines),
    ('x.json', array),
    ('x.jsonl.gz', gzip.compress(lines)),
    ('x.json.gz', gzip.compress(array)),
    ('x.gz', gzip.compress(lines)),
    ('x.jsonl', lines.decode().encode('utf-16')),
  ):
    assert record_files.read(written(tmp_path / name, data)) == expected, name


@pytest.mark.parametrize(
  'name, data, message',
  [
    (
      'x.jsonl.gz',
      gzip.compress(b'{}', mtime=0)[:-4],
      'not a complete gzip file',
    ),
    ('x.gz', b'\x1f\x8bno', 'not a complete gzip file'),
    ('x.json', b'[{"prompt": "a"},\n{"prompt": ', 'is it complete'),
    ('x.json', b'[]', 'x.json has no records: it is empty'),
    ('x.json', b'[{"prompt": "a"}, 3]', 'x.json entry 2 is not a JSON object'),
    ('x.json', b'[{"prompt": "\\ud800"}]', 'x.json entry 1 is not JSON'),
    ('x.json', b'[' * 100_000, 'is it complete'),
    ('x.json', b'{\n"prompt": "a"\n}', 'x.json begins with a JSON object of s'),
    ('x.json', b'{\n"a": 1\n}\n{\n"a": 2\n}', 'JSON object of several lines'),
    ('x.jsonl', b'{"prompt": "\\ud800"}', 'one half of a pair'),
    ('x.jsonl', b'version https://git-lfs.github.com/spec/v1', 'git lfs pull'),
    (
      'x.jsonl',
      b'["a"]\n["b"]\n',
      '2 of 2 records .*\n.*line 1 is not a JSON ob',
    ),
    ('x.xlsx', b'PK', 'not from .xlsx: convert it'),
    ('x.jsonl', b'PAR1\x15', 'x.jsonl is not text but parquet'),
    ('x.parquet.gz', gzip.compress(b'PAR1', mtime=0), 'without gzip'),
    ('x.json', b'\x28\xb5\x2f\xfd\x04', 'is not text but zstandard'),
    ('x.csv', b'BZh91AY', 'is not text but bzip2'),
    ('x.csv', b'prompt,answer', 'x.csv has no records: it is empty'),
  ],
)
def test_other_files_are_refused_with_the_reason(tmp_path, name, data, message):
  with pytest.raises(errors.UserError, match=message):
    record_files.read(written(tmp_path / name, data))


def test_all_rows_at_fault_are_counted_whatever_their_form(tmp_path):
  rows = [VERL, dict(VERL, prompt=[]), dict(text='a'), dict(messages=[SYSTEM])]
  data = ''.join(json.dumps(row) + '\n' for row in rows).encode()
  with pytest.raises(errors.UserError) as caught:
    record_files.read(written(tmp_path / 'x.jsonl', data))
  text = str(caught.value)
  assert text.startswith('3 of 4 records')
  for part in "line 2: 'prompt'", 'line 3 has the keys', "line 4: 'messages'":
    assert part in text


def test_records_of_python_have_the_same_forms():
  rows = [VERL, dict(messages=[user('q'), assistant('r')], id=3)]
  first, second = [
    record_files.own_record(row, f'record {n}', str(n))
    for n, row in enumerate(rows)
  ]
  assert (first['id'], first['answer']) == ('0', '4')
  assert second == dict(id='3', prompt='q', response='r')


def test_one_of_several_gold_answers_is_enough():
  record = dict(id='a', prompt='q', answer=['4', 'x^2', 'four men'])
  texts = [f'<answer>{text}</answer>' for text in ('4', 'x \\cdot x', '5')]
  assert registry.check_rewards({'accuracy': 1.0}, [record]) == [record]
  config = verdict.VerifyConfig(workers=1)
  with verifiers.Verifiers(config) as verifier:
    assert [x.value for x in verifier.verdicts([record] * 3, texts)] == [
      1,
      1,
      0,
    ]
  boxes = [r'<answer>\boxed{4}</answer>', r'<answer>\boxed{5}</answer>']
  assert grading.accuracy([record] * 2, boxes).tolist() == [1, 0]
  bad = record | dict(answer=['4', '(('])
  with pytest.raises(
    errors.UserError, match="gold answer '\\(\\(' of record a"
  ):
    registry.check_rewards({'accuracy': 1.0}, [bad])


def test_several_choices_are_letters_not_a_list():
  record = dict(id='a', prompt='q', choices=['x', 'y'], answer=['A', 'B'])
  with pytest.raises(errors.UserError, match="several as 'AC'"):
    registry.check_rewards({'accuracy': 1.0}, [record])


def test_the_last_closed_box_of_a_solution_is_its_answer():
  assert gold_answers.of_solution(r'\boxed{1} or \boxed{\frac{a}{b}}.') == (
    r'\frac{a}{b}'
  )
  assert gold_answers.of_solution(r'\boxed{1') is None
  assert gold_answers.of_solution('no box') is None


class Chats:
  """A tokenizer of bytes, whose template has tags and no system message."""

  prefix = ''

  def encode(self, text):
    return list(text.encode())

  def chat(self, messages):
    if messages[0]['role'] == 'system':
      raise errors.UserError('the chat template failed (no system message)')
    return ''.join(f'<{x["role"]}>{x["content"]}' for x in messages)


def test_messages_go_through_each_template():
  record = make_record(VERL, 'row') | dict(id='a')
  for template, text in (
    ('chat', '<user>What is 2+2?'),
    ('plain', 'What is 2+2?'),
    ('r1_zero', templates.TEMPLATES['r1_zero'].format(question='What is 2+2?')),
  ):
    prompt = templates.PromptConfig(template=template)
    assert templates.make_prompt(Chats(), record, prompt).text == text


def test_a_prompt_that_begins_with_the_prefix_has_it_once():
  tokenizer = Chats()
  tokenizer.prefix = '<s>'
  prompt = templates.PromptConfig(template='plain')
  for text in 'hi', '<s>hi':
    made = templates.make_prompt(tokenizer, dict(id='a', prompt=text), prompt)
    assert made.text == '<s>hi'


@pytest.mark.parametrize('template', ['chat', 'r1_zero'])
def test_all_records_that_a_template_refuses_are_named(template, capsys):
  rows = [[user('a')], [SYSTEM, user('b')], [user('c')], [SYSTEM, user('d')]]
  records = [
    make_record(dict(prompt=row), 'row') | dict(id=f'r{n}')
    for n, row in enumerate(rows)
  ]
  prompt = templates.PromptConfig(template=template)
  with pytest.raises(errors.UserError, match=r'2 of 4 records(.|\n)*r1, r3'):
    templates.fitting(Chats(), records, prompt, False)
  kept, _ = templates.fitting(Chats(), records, prompt, True)
  assert [x['id'] for x in kept] == ['r0', 'r2']
  assert 'left out 2 of 4' in capsys.readouterr().out


def test_one_record_that_a_template_refuses_is_named():
  rows = [[user('a')], [SYSTEM, user('b')]]
  records = [
    make_record(dict(prompt=row), 'row') | dict(id=f'r{n}')
    for n, row in enumerate(rows)
  ]
  prompt = templates.PromptConfig(template='plain')
  with pytest.raises(errors.UserError, match='hold turns.*r1.*1 of 2 records'):
    templates.fitting(Chats(), records, prompt, False)


def test_what_is_wrong_for_all_records_is_said_once():
  records = [dict(id=f'r{n}', prompt='a') for n in range(30)]
  prompt = templates.PromptConfig(template='r1_zer')
  with pytest.raises(errors.UserError) as caught:
    templates.fitting(Chats(), records, prompt, False)
  assert str(caught.value).count('unknown prompt template') == 1


def test_bad_entries_of_an_array_may_be_left_out(tmp_path, capsys):
  path = written(tmp_path / 'x.json', json.dumps([*ROWS, 5]).encode())
  bad = BadRecords(skip=True)
  records = tasks.load_records(str(path), 0, bad)
  bad.finish(len(records), 'x.json')
  assert len(records) == 3
  assert 'left out 1 of 4 records' in capsys.readouterr().out
