"""The verify stage scores responses and explains every verdict."""

import gzip
import json

import pytest

from experiments import base
from r1jax import cli, config, errors, files
from r1jax.distributed import hosts
from r1jax.stages import verify

RECORDS = [
  dict(
    id='a', prompt='2+2', answer='4', response=r'<answer>\boxed{4}</answer>'
  ),
  dict(
    id='b',
    prompt='root',
    answer=r'\sqrt{12}',
    response=r'<think>!</think><answer>\boxed{2\sqrt{3}}</answer>',
  ),
  dict(
    id='c',
    prompt='which',
    answer='B',
    choices=['x', 'y'],
    response=r'<think></think><answer>x</answer>',
  ),
  dict(id='d', prompt='none', answer='5', response='5'),
]


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def test_records_and_responses_may_be_messages_in_arrays_and_gzip(tmp_path):
  records = [
    dict(id=1, prompt=[dict(role='user', content='2+2')], answer=['4', 'IV']),
    dict(id=2, problem='1+1', solution=r'It is \boxed{2}.'),
  ]
  texts = [f'<answer>{n}</answer>' for n in (4, 3)]
  responses = [
    dict(id=1, response=[dict(role='assistant', content=texts[0])]),
    dict(id=2, completion=texts[1]),
  ]
  data, answers = tmp_path / 'r.jsonl.gz', tmp_path / 'a.json'
  lines = ''.join(json.dumps(row) + '\n' for row in records)
  data.write_bytes(gzip.compress(lines.encode()))
  answers.write_text(json.dumps(responses, indent=2))
  run(
    tmp_path / 'run',
    f'data={data}',
    f'responses={answers}',
    'verify.workers=1',
  )
  lines = files.read_jsonl(tmp_path / 'run' / 'verdicts.jsonl')
  assert [x['rewards']['accuracy'] for x in lines] == [1, 0]
  settings = config.override(
    base.get_config('verify'), [f'--config.data={data}']
  )
  assert verify.output_path(settings).name == 'r.verdicts.jsonl'


def run(workdir, *changes):
  changes = ['verify.seconds=60', *changes]  # for slow machines
  changes = [f'--config.{change}' for change in changes]
  verify.run(config.override(base.get_config('verify'), changes), workdir)


def test_every_response_has_rewards_and_a_reason(tmp_path, capsys):
  data = write(tmp_path / 'data.jsonl', RECORDS)
  run(tmp_path / 'run', f'data={data}', 'verify.workers=1')
  lines = files.read_jsonl(tmp_path / 'run' / 'verdicts.jsonl')
  assert [x['id'] for x in lines] == list('abcd')
  assert [x['rewards']['accuracy'] for x in lines] == [1, 1, 0, 0]
  assert [x['rewards']['format'] for x in lines] == [0, 1, 1, 0]
  kinds = ['equal', 'equal', 'unequal', 'no answer']
  assert [x['kind'] for x in lines] == kinds
  assert all(x['reason'] for x in lines)
  output = capsys.readouterr().out
  assert 'accuracy 0.5000 (4 of 4)' in output and '1 no answer' in output
  assert all(x['reason'] in output for x in lines)
  run(tmp_path / 'run', f'data={data}', 'verify.workers=1')
  assert 'is finished' in capsys.readouterr().out


def test_no_scorer_is_called_without_the_accuracy(tmp_path, capsys):
  scorers = f'{tmp_path}/no.py:f', 'human:alice', ['a'], 5
  rows = [RECORDS[1] | dict(id=str(n), scorer=x) for n, x in enumerate(scorers)]
  data = write(tmp_path / 'data.jsonl', rows)
  run(tmp_path / 'run', f'data={data}', "rewards=['format']")
  assert 'format 1.0000 (4 of 4)' in capsys.readouterr().out


def test_responses_may_be_the_samples_of_a_run(tmp_path):
  data = write(tmp_path / 'data.jsonl', RECORDS)
  rows = [dict(id='d', response=r'\boxed{5}'), dict(id='d', response='?')]
  written = write(tmp_path / 'samples.jsonl', rows)
  run(
    tmp_path / 'run',
    f'data={data}',
    f'responses={written}',
    "rewards=['accuracy','language']",
  )
  lines = files.read_jsonl(tmp_path / 'run' / 'verdicts.jsonl')
  assert [x['rewards']['accuracy'] for x in lines] == [1, 0]
  assert [x['id'] for x in lines] == ['d', 'd']


def test_responses_without_the_think_tag_of_their_prompt_get_it(tmp_path):
  texts = ['So.</think><answer>5</answer>', r'unclosed \boxed{5}']
  texts.append('<think>' + texts[0])
  rows = [RECORDS[3] | dict(id=str(n), response=x) for n, x in enumerate(texts)]
  data = write(tmp_path / 'data.jsonl', rows)
  run(tmp_path / 'run', f'data={data}', r'opening="<think>\n"')
  lines = files.read_jsonl(tmp_path / 'run' / 'verdicts.jsonl')
  assert [x['rewards']['format'] for x in lines] == [1, 0, 1]
  assert [x['rewards']['accuracy'] for x in lines] == [1, 0, 1]
  assert lines[0]['response'].startswith('<think>\nSo.')


@pytest.mark.parametrize(
  'rows, changes, message',
  [
    ([dict(id='a', prompt='?', answer='4')], (), 'record a .* no response'),
    (RECORDS, ('responses=nowhere.jsonl',), 'no file nowhere.jsonl'),
    (RECORDS, ('responses=RESPONSES',), 'line 1 .* id is .z.'),
    (RECORDS, ("rewards=['acuracy']",), 'did you mean .accuracy'),
    ([dict(id='a', prompt='?', response='')], (), 'record a has no answer'),
  ],
)
def test_wrong_input_is_refused_and_no_file_is_written(
  tmp_path, rows, changes, message
):
  data = write(tmp_path / 'data.jsonl', rows)
  other = write(tmp_path / 'r.jsonl', [dict(id='z', response='4')])
  changes = [x.replace('RESPONSES', str(other)) for x in changes]
  with pytest.raises(errors.UserError, match=message):
    run(tmp_path / 'run', f'data={data}', *changes)
  assert not (tmp_path / 'run').exists()


def flags(folder, *arguments):
  """The exit code of verify with flags alone."""
  return cli.main(['verify', *arguments, '--config.verify.workers=1'])


ODD = (
  '\ufeff{"id": "a", "response": "<answer>\\\\boxed{4}</answer>"}\r\n'
  '\r\n   \n'
  '{"id": "a", "response": "<answer>5</answer>"}\n\n'
  '{"id": "d", "response": "\\\\boxed{5}"}'
)


def test_verify_works_from_flags_alone(tmp_path, capsys):
  data = write(tmp_path / 'data.jsonl', RECORDS)
  responses = tmp_path / 'r.jsonl'
  responses.write_bytes(ODD.encode())
  arguments = '--records', str(data), '--responses', str(responses)
  for _ in range(2):  # the second run replaces the verdicts
    assert flags(tmp_path, *arguments) == 0
  lines = files.read_jsonl(tmp_path / 'r.verdicts.jsonl')
  assert [x['rewards']['accuracy'] for x in lines] == [1, 0, 1]
  assert {x.name for x in tmp_path.iterdir()} == {
    'data.jsonl',
    'r.jsonl',
    'r.verdicts.jsonl',
  }
  assert flags(tmp_path, '--records', str(data)) == 0
  assert len(files.read_jsonl(tmp_path / 'data.verdicts.jsonl')) == 4


def test_one_host_alone_tries_whether_it_can_write(tmp_path, monkeypatch):
  data = write(tmp_path / 'data.jsonl', RECORDS)
  settings = base.get_config('verify')
  settings.data, tried = str(data), []
  monkeypatch.setattr(hosts, 'index', lambda: 1)
  monkeypatch.setattr(files, 'check_writable', tried.append)
  monkeypatch.setattr(files, 'write_jsonl', lambda path, rows: tried.append(1))
  verify.run_beside(settings)
  assert not tried


BAD_LINES = [
  '{"id": "a", "response": "4"}',
  '{"id": "z", "response": "4"}',
  '{"id": ["a"], "response": "4"}',
  '{"response": "4"}',
  '{"id": "a"}',
  '{"id": "a", "response": ["4"]}',
  '{"id": "a", "response": "\\ud800"}',
  '{"id": "a", "resp',
  '[]',
  '{"id": "d", "response": "5"}',
]


def test_all_bad_responses_are_named_before_any_is_judged(tmp_path, capsys):
  data = write(tmp_path / 'data.jsonl', RECORDS)
  responses = tmp_path / 'r.jsonl'
  responses.write_text('\n'.join(BAD_LINES))
  arguments = '--records', str(data), '--responses', str(responses)
  assert flags(tmp_path, *arguments) == 2
  output = capsys.readouterr()
  assert '8 of 10 records of' in output.err
  assert all(f'line {n} ' in output.err for n in range(2, 10))
  assert 'verified' not in output.out
  assert not (tmp_path / 'r.verdicts.jsonl').exists()
  skip = '--config.skip_bad_records=True'
  assert flags(tmp_path, *arguments, skip) == 0
  assert 'left out 8 of 10' in capsys.readouterr().out
  assert len(files.read_jsonl(tmp_path / 'r.verdicts.jsonl')) == 2


@pytest.mark.parametrize(
  'arguments, message',
  [
    ((), 'verify needs records: --records FILE'),
    (('--records', 'toy:running_sum?count=3'), 'give --workdir DIR'),
    (('--records', 'DATA', '--responses', 'no.jsonl'), 'no file no.jsonl of'),
    (('--records', 'no.jsonl', '--responses', 'DATA'), 'no data file no.jsonl'),
    (('--records', 'DATA', '--responses', 'EMPTY'), 'it is empty'),
    (
      ('--records', 'DATA', '--responses', 's3://y'),
      'responses is s3://y, but',
    ),
    (('--records', 'gs://x/y.jsonl'), 'records is gs://x/y.jsonl, but'),
    (('--records', 'http://x/y'), 'http://x/y, but'),
    (('--records', 'EMPTY'), 'it is empty'),
  ],
)
def test_wrong_flags_are_refused(arguments, message, tmp_path, capsys):
  places = dict(DATA=write(tmp_path / 'data.jsonl', RECORDS))
  places['EMPTY'] = write(tmp_path / 'empty.jsonl', [])
  arguments = [str(places.get(x, x)) for x in arguments]
  assert flags(tmp_path, *arguments) == 2
  assert message in capsys.readouterr().err
