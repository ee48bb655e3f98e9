"""The samples of a run become groups of responses."""

import math

from r1jax.reports import groups


def sample(text='yes', reward=1.0, **more):
  made = dict(response=text, reward=reward, rewards=dict(accuracy=reward))
  return made | dict(finished=True, length=3) | more


def line(step, *samples, **more):
  made = dict(step=step, id=f'q{step}', prompt='2 + 2?', answer='4')
  return made | dict(samples=list(samples)) | more


def test_a_group_has_its_prompt_its_gold_and_its_responses():
  lines = [line(10, sample(advantage=0.5), sample('no', 0.0, advantage=-0.5))]
  (found,) = groups.of_run('zero', lines, [])
  assert found['run'] == 'zero' and found['title'] == 'step 10'
  assert found['prompt'] == '2 + 2?' and found['gold'] == '4'
  assert [x['advantage'] for x in found['responses']] == [0.5, -0.5]
  assert found['responses'][0]['parts'] == dict(accuracy=1.0)


def test_runs_without_groups_show_the_samples_that_they_have():
  logged = [dict(sample(), step=n, id='q', prompt='?') for n in (1, 1, 2)]
  logged[1]['response'] = 'no'
  first, second = groups.of_run('zero', [], logged)
  assert len(first['responses']) == 2 and first['gold'] is None
  assert '1 of its responses are logged' in second['remark']
  assert second['responses'][0]['advantage'] is None


def test_recomputed_steps_are_shown_beside_the_others():
  logged = [dict(sample(), step=n, id='q', prompt='?') for n in range(100)]
  (tokens,) = [line(50, sample('a'))]
  found = groups.of_run('zero', [], logged, [tokens], count=3)
  shown = [(x['title'], x['responses'][0]['text']) for x in found]
  assert shown == [
    ('step 0', 'yes'),
    ('step 50', 'a'),
    ('step 99', 'yes'),
  ]


def test_equal_responses_are_shown_once_and_the_best_first():
  lines = [
    line(1, sample('no', 0.0), sample(), sample('?', math.nan), sample())
  ]
  (found,) = groups.of_run('zero', lines, [])
  texts = [(x['text'], x['remark']) for x in found['responses']]
  assert texts == [
    ('yes', '3 tokens, finished, 2 times'),
    ('no', '3 tokens, finished'),
    ('?', '3 tokens, finished'),
  ]


def test_long_runs_and_long_texts_are_cut_in_the_middle():
  text = 'a' * 70_000 + 'b' * 70_000
  lines = [line(step, sample(text)) for step in range(1, 1001)]
  found = groups.of_run('zero', lines, [])
  assert len(found) == groups.STEPS
  assert found[0]['title'] == 'step 1' and found[-1]['title'] == 'step 1,000'
  shown = found[0]['responses'][0]['text']
  assert len(shown) < groups.CHARACTERS + 100
  assert shown.startswith('aa') and shown.endswith('bb')
  assert '120,000 characters left out' in shown


def test_tokens_have_a_number_each_also_where_they_are_cut():
  count = groups.TOKENS + 5
  numbers = [None, *[1 / 3] * (count - 1)]
  per_token = dict.fromkeys(groups.PER_TOKEN, numbers)
  lines = [line(1, sample(tokens=['t'] * count, **per_token))]
  ((response,),) = [x['responses'] for x in groups.of_run('zero', lines, [])]
  assert len(response['tokens']) == len(response['ratio']) == groups.TOKENS + 1
  assert response['ratio'][:2] == [None, 0.3333]
  assert '5 tokens left out' in response['tokens'][groups.TOKENS * 2 // 3]


def test_prompts_may_be_conversations():
  messages = [dict(role='system', content='Be brief.'), dict(role='user')]
  text = groups.prompt_text(messages)
  assert text == '[system] Be brief.\n\n[user] None'
  assert groups.prompt_text({'a': 1}) == '{"a": 1}'


def test_golds_may_be_alternatives_or_objects():
  assert groups.gold_text(['1/2', 0.5]) == '1/2 or 0.5'
  assert groups.plain_answer({1, 2}) == ['{1, 2}']
  assert groups.plain_answer(7) == 7 and groups.plain_answer(None) is None


def test_the_samples_of_an_evaluated_problem_are_a_group():
  lines = []
  for n in range(6):
    made = sample(f'{n}', answer=str(n // 2), accuracy=float(n % 2))
    lines.append(dict(made, id=f'p{n // 2}', prompt='?', format=1.0))
  found = groups.of_problems('math', lines, samples=2)
  assert [x['title'] for x in found] == [f'problem {n}' for n in (1, 2, 3)]
  assert [x['gold'] for x in found] == ['0', '1', '2']
  parts = [x['parts'] for x in found[0]['responses']]
  assert parts == [dict(accuracy=a, format=1.0) for a in (0.0, 1.0)]
