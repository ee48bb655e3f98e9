"""Rows as TRL, verl, DAPO, ShareGPT, Alpaca, DeepSeek and HH-RLHF have them,
system messages, and rows that can be read in two ways."""

import pytest

from r1jax import errors
from r1jax.data import templates
from r1jax.data.bad_records import BadRecords
from r1jax.data.record_forms import make_record


def message(role, text):
  return dict(role=role, content=text)


USER, ANSWER = message('user', 'What is 2+2?'), message('assistant', '4')
OTHER, SYSTEM = message('assistant', '5'), message('system', 'Be brief.')
WORKED = 'Two and two.\n#### 4'
THOUGHT = '<think>two and two</think>4'


def share(*pairs):
  return [{'from': name, 'value': text} for name, text in pairs]


# The row, and what its record has at least.
ROWS = dict(
  trl_language_model=(
    dict(messages=[USER, ANSWER]),
    dict(prompt='What is 2+2?', response='4'),
  ),
  trl_prompt_completion=(
    dict(prompt='What is', completion=' 2+2?'),
    dict(prompt='What is', response=' 2+2?'),
  ),
  trl_conversational=(
    dict(prompt=[SYSTEM, USER], completion=[ANSWER]),
    dict(turns=[SYSTEM], prompt='What is 2+2?', response='4'),
  ),
  trl_grpo=(
    dict(prompt=[SYSTEM, USER], solution=r'So $\boxed{4}$.'),
    dict(turns=[SYSTEM], prompt='What is 2+2?', answer='4'),
  ),
  trl_preference=(
    dict(prompt=[USER], chosen=[ANSWER], rejected=[OTHER]),
    dict(prompt='What is 2+2?', chosen='4', rejected='5'),
  ),
  trl_implicit_prompt=(
    dict(chosen=[SYSTEM, USER, ANSWER], rejected=[SYSTEM, USER, OTHER]),
    dict(turns=[SYSTEM], prompt='What is 2+2?', chosen='4', rejected='5'),
  ),
  hh_rlhf=(
    dict(
      chosen='\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: 2+2?'
      '\n\nAssistant: 4',
      rejected='\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: 2+2?'
      '\n\nAssistant: 5\n\nor 6',
    ),
    dict(
      turns=[message('user', 'Hi.'), message('assistant', 'Hello.')],
      prompt='2+2?',
      chosen='4',
      rejected='5\n\nor 6',
    ),
  ),
  verl_gsm8k=(
    dict(
      data_source='openai/gsm8k',
      prompt=[USER],
      ability='math',
      reward_model=dict(style='rule', ground_truth='4'),
      extra_info=dict(answer=WORKED, index=0, split='train'),
    ),
    dict(prompt='What is 2+2?', answer='4'),
  ),
  dapo=(
    dict(
      prompt=[USER],
      solution='4',
      data_source='math_dapo',
      reward_model=dict(ground_truth='4', style='rule-lighteval/MATH_v2'),
    ),
    dict(prompt='What is 2+2?', answer='4'),
  ),
  sharegpt=(
    dict(
      conversations=share(
        ('system', 'Be brief.'), ('human', 'What is 2+2?'), ('gpt', THOUGHT)
      )
    ),
    dict(turns=[SYSTEM], prompt='What is 2+2?', response=THOUGHT),
  ),
  sharegpt_with_a_tool=(
    dict(
      conversations=share(
        ('human', 'a'),
        ('gpt', 'call'),
        ('tool', '4'),
        ('gpt', 'It is 4.'),
        ('human', 'And 3+3?'),
        ('gpt', '6'),
      )
    ),
    dict(prompt='And 3+3?', response='6'),
  ),
  deepseek=(
    dict(prompt='What is 2+2?', response=THOUGHT),
    dict(prompt='What is 2+2?', response=THOUGHT),
  ),
  deepseek_messages=(
    dict(messages=[USER, ANSWER | dict(reasoning_content='two and two')]),
    dict(prompt='What is 2+2?', response=THOUGHT),
  ),
  alpaca=(
    dict(instruction='Add.', input='2, 2', output='4', system='Be brief.'),
    dict(turns=[SYSTEM], prompt='Add.\n\n2, 2', response='4'),
  ),
  alpaca_without_input=(
    dict(instruction='Add 2, 2.', input='', output='4'),
    dict(prompt='Add 2, 2.', response='4'),
  ),
  gsm8k=(
    dict(question='What is 2+2?', answer=WORKED, final_answer=4.0),
    dict(prompt='What is 2+2?', answer='4'),
  ),
  open_orca=(
    dict(id='1', system_prompt='Be brief.', question='q', response='r'),
    dict(id='1', turns=[SYSTEM], prompt='q', response='r'),
  ),
  aime=(
    dict(problem='q', question='q', answer='025', solution='s'),
    dict(prompt='q', answer='025'),
  ),
)


@pytest.mark.parametrize('name', ROWS)
def test_a_published_row_becomes_a_record(name):
  row, expected = ROWS[name]
  record = make_record(row, 'row')
  assert {key: record.get(key) for key in expected} == expected
  assert record.get('turns', []) == expected.get(
    'turns', record.get('turns', [])
  )


@pytest.mark.parametrize(
  'row, message',
  [
    (
      dict(problem='a', question='b', answer='1'),
      "'problem' and 'question', which differ.*{'prompt': 'problem'}",
    ),
    (
      dict(question='a', answer='1', final_answer='2'),
      "'answer' and 'final_answer', which differ.*answer=answer",
    ),
    (
      dict(prompt='a', ground_truth=1, expected_answer=2),
      "'ground_truth' and 'expected_answer', which differ",
    ),
    (
      dict(prompt='a', system='b', system_prompt='c'),
      "'system' and 'system_prompt', which differ",
    ),
    (dict(prompt='a', images=['a.png']), "row has 'images'.*{'images': ''}"),
  ],
)
def test_a_row_that_can_be_read_in_two_ways_is_refused(row, message):
  with pytest.raises(errors.UserError, match=message):
    make_record(row, 'row')


def test_equal_columns_and_empty_ones_are_no_question():
  row = dict(prompt='q', answer='1,000', ground_truth=1000.0, images=[])
  assert make_record(row, 'row')['answer'] == '1,000'
  row = dict(prompt='q', answer=['1/2', '0.5'], final_answer=['0.5', '1/2'])
  assert make_record(row, 'row')['answer'] == ['1/2', '0.5']


class ChatTokenizer:
  prefix = ''

  def chat(self, messages):
    return ''.join(f'[{x["role"]}]{x["content"]}' for x in messages)

  def encode(self, text):
    return list(text.encode())


def test_a_system_message_of_the_config_begins_chats_without_one():
  prompt = templates.PromptConfig(template='chat', system='Think.')
  for row, text in [
    (dict(prompt='q'), '[system]Think.[user]q'),
    (dict(prompt='q', system='Be brief.'), '[system]Be brief.[user]q'),
  ]:
    record = make_record(row, 'row')
    assert templates.prompt_text(ChatTokenizer(), record, prompt) == text
  prompt = templates.PromptConfig(template='plain', system='Think.')
  with pytest.raises(
    errors.UserError, match='cannot hold turns, such as a sys'
  ):
    templates.prompt_text(ChatTokenizer(), dict(id='1', prompt='q'), prompt)


def test_records_too_long_are_dropped_and_counted(capsys):
  records = [dict(id=f'r/{n}', prompt='a' * n) for n in (3, 4, 5, 6)]
  prompt = templates.PromptConfig(template='plain', max_len=4)
  args = ChatTokenizer(), records, prompt
  kept, longest = templates.fitting(*args, False, drop_too_long=True)
  assert [x['id'] for x in kept] == ['r/3', 'r/4'] and longest == 4
  printed = capsys.readouterr().out
  assert printed == (
    'left out 2 of 4 records of the data, which are too long (r/5, r/6)\n'
  )
  with pytest.raises(errors.UserError, match='config.drop_too_long=True only'):
    templates.fitting(*args, False)
  args = ChatTokenizer(), records[2:], prompt
  with pytest.raises(errors.UserError, match='all records of the data are too'):
    templates.fitting(*args, False, drop_too_long=True)


def test_dropping_what_is_too_long_keeps_other_faults_as_errors():
  bad = BadRecords(drop_too_long=True)
  with bad.noted('a'):
    raise errors.UserError('no text')
  with pytest.raises(errors.UserError, match='no text'):
    bad.finish(1, 'x')
