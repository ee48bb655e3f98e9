"""Every stage names all records that it cannot use, or leaves them out."""

import dataclasses
import json

import pytest
import toy

from r1jax import errors
from r1jax.checkpoints import tokenization
from r1jax.data.templates import PromptConfig
from r1jax.evaluation import evaluate_config
from r1jax.rejection import reject_config
from r1jax.rl import rl_config, rl_records
from r1jax.stages import reward_model, verify
from r1jax.supervised import (
  reward_model_config,
  reward_model_rows,
  sft_rows,
)

TOKENIZER = tokenization.ByteTokenizer()
GOOD = dict(prompt='1+1', answer='2', response='<think>1</think>2')
PAIR = dict(prompt='1', chosen='<think>1</think>2', rejected='<think></think>3')
BAD_GOLDS = [
  dict(prompt='?', answer='((', response='x'),
  dict(prompt='?', answer=None, response='x'),
  dict(prompt='', answer='1', response='x'),
  '{"prompt": "?"',
]


@pytest.fixture
def data(tmp_path):
  """A file of seven records, four of them bad."""
  path = tmp_path / 'data.jsonl'
  rows = [GOOD, *BAD_GOLDS, GOOD, GOOD | dict(prompt='2')]
  lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
  path.write_text('\n'.join(lines) + '\n')
  return str(path)


def records_of_rl(data, skip):
  settings = dataclasses.replace(
    rl_config.Config(),
    prompts=data,
    skip_bad_records=skip,
    rewards=dict(accuracy=1.0),
    eval=dataclasses.replace(rl_config.Config().eval, held_out=1),
  )
  train, held_out = rl_records.load_records(settings)
  assert held_out
  return train + held_out


def evaluate_records(data, skip):
  settings = evaluate_config.Config(data=dict(A=data), skip_bad_records=skip)
  return evaluate_config.read_inputs(settings).records


def reject_records(data, skip):
  settings = reject_config.Config(
    data=data, mix=data, skip_bad_records=skip, min_rewards=dict(accuracy=1.0)
  )
  records, mixed = reject_config.load(settings)
  assert len(mixed) == 4  # A bad gold does not matter there.
  return records


def verify_records(data, skip):
  settings = verify.Config(data=data, skip_bad_records=skip)
  return verify.load(settings).records


@pytest.mark.parametrize(
  'read', [records_of_rl, evaluate_records, reject_records, verify_records]
)
def test_all_bad_golds_are_named_or_left_out(read, data, capsys):
  with pytest.raises(errors.UserError) as caught:
    read(data, False)
  text = str(caught.value)
  assert text.startswith(f'4 of 7 records of {data} cannot be used')
  assert 'record data/2' in text
  assert all(f'jsonl line {n}' in text for n in (3, 4, 5))
  records = read(data, True)
  assert {x['id'] for x in records} == {'data/1', 'data/6', 'data/7'}
  assert f'left out 4 of 7 records of {data}' in capsys.readouterr().out


def test_sft_names_or_leaves_out_what_it_cannot_train_on(capsys):
  rows = ['a', 'abcdefghi', 'a', 'a'], ['b', 'b', 'b' * 30, None]
  records = [
    dict(id=str(n), prompt=prompt, response=response)
    for n, (prompt, response) in enumerate(zip(*rows))
  ]
  config = dataclasses.replace(
    toy.built('sft'),
    max_len=20,
    prompt=PromptConfig(template='plain', max_len=8),
  )
  with pytest.raises(errors.UserError) as caught:
    sft_rows.encode(TOKENIZER, records, config, 'the data')
  text = str(caught.value)
  assert text.startswith('3 of 4') and 'record 3' in text
  assert 'record 1 has 9' in text and 'record 2 has 32 tokens' in text
  config = dataclasses.replace(config, skip_bad_records=True)
  rows = sft_rows.encode(TOKENIZER, records, config, 'the data')
  assert [x['id'] for x in rows.records] == ['0']
  assert len(rows.ids) == len(rows.masks) == 1


def test_reward_model_names_or_leaves_out_what_it_cannot_train_on(
  tmp_path, capsys
):
  long = dict(chosen='<think>1</think>' + '2' * 50, id='long')
  bad = [dict(prompt='1', chosen='x', id='lacks'), PAIR | long]
  path = tmp_path / 'pairs.jsonl'
  rows = [PAIR | dict(id='a'), *bad, PAIR | dict(id='b')]
  path.write_text(''.join(json.dumps(x) + '\n' for x in rows))
  config = reward_model.Config(
    data=str(path),
    held_out=0,
    max_len=40,
    prompt=PromptConfig(template='plain'),
  )
  with pytest.raises(errors.UserError, match='record lacks has no text'):
    reward_model_config.load_records(config)
  config = dataclasses.replace(config, skip_bad_records=True)
  records, _ = reward_model_config.load_records(config)
  assert [x['id'] for x in records] == ['a', 'long', 'b']
  kept, rows = reward_model_rows.encode_good(
    TOKENIZER, records, config, 'pairs'
  )
  assert [x['id'] for x in kept] == ['a', 'b'] and len(rows) == 2
  config = dataclasses.replace(config, skip_bad_records=False)
  with pytest.raises(errors.UserError, match='record long has .* tokens'):
    reward_model_rows.encode_good(TOKENIZER, records, config, 'pairs')
  twice = [x | dict(id=f'{x["id"]}{n}') for n in (1, 2) for x in records]
  with pytest.raises(errors.UserError, match='of 6 records of held cannot'):
    reward_model_rows.encode_good(TOKENIZER, twice, config, 'held')
  failing = tmp_path / 'own_failing.py'
  failing.write_text('def ask(record): return record["nothing"]')
  prompt = PromptConfig(template=f'{failing}:ask')
  config = dataclasses.replace(config, prompt=prompt)
  problem = '3 of 3 records of pairs .*\n  the prompt template: .* record .a.'
  with pytest.raises(errors.UserError, match=problem):
    reward_model_rows.encode_good(TOKENIZER, records, config, 'pairs')


def test_problems_with_long_prompts_leave_their_sets(data):
  settings = evaluate_config.Config(data=dict(A=data), skip_bad_records=True)
  inputs = evaluate_config.read_inputs(settings)
  kept = inputs.records[1:]
  inputs = evaluate_config.with_records(settings, inputs, kept)
  assert [*inputs.sets['A'].values()] == inputs.records == kept
  assert len(kept) == 2
  with pytest.raises(errors.UserError, match='no record of .* can be used'):
    evaluate_config.with_records(settings, inputs, [])


def test_no_verifier_is_asked_where_the_llm_judge_decides():
  records = [dict(id=x, domain='math', judge=x == 'a') for x in 'ab']
  config = reject_config.Config(min_rewards=dict(accuracy=1.0))
  found = reject_config.verified_records(config, records)
  assert [x['id'] for x in found] == ['b']
  config = reject_config.Config(min_rewards=dict(format=1.0))
  assert reject_config.verified_records(config, records) == []
