"""The table of rewards, their weighted sum, its checks; format and length."""

import numpy as np
import pytest

from r1jax import errors
from r1jax.rewards import format, penalties, registry

# (response, keeps the paper's template, keeps the think tags alone)
FORMS = [
  ('<think>a</think><answer>b</answer>', 1, 1),
  ('<think>a</think> <answer> b </answer>', 1, 1),
  (' \n<think>\na\n</think>\n\n<answer>\nb\n</answer>\n ', 1, 1),
  ('<think></think><answer>b</answer>', 1, 1),
  ('<think>1 < 2 > 0</think><answer><b></answer>', 1, 1),
  ('<think>a</think>b', 0, 1),
  ('<think>a</think>\nThe answer is \\boxed{5}.', 0, 1),
  ('<think>a</think><answer>b</answer> and more', 0, 1),
  ('<think>a</think> so <answer>b</answer>', 0, 1),
  ('<think>a</think><answer>b</answer><answer>c</answer>', 0, 1),
  ('<think>a</think><answer><answer>b</answer></answer>', 0, 1),
  ('<think>a</think><answer>b', 0, 1),
  ('<think>a</think><answer>', 0, 0),
  ('<think>a</think>b</answer>', 0, 1),
  ('<think>a<answer>b</answer></think>', 0, 0),
  ('<think>a<answer>b</answer></think>c', 0, 1),
  ('<think>a</think><answer></answer>', 0, 0),
  ('<think>a</think><answer> \n </answer>', 0, 0),
  ('<think>a</think><answer>\u200b\u2060</answer>', 0, 0),
  ('<think>a</think>\u200b\u2060', 0, 0),
  ('so <think>a</think><answer>b</answer>', 0, 0),
  ('a</think><answer>b</answer>', 0, 0),
  ('<answer>b</answer>', 0, 0),
  ('<answer>b</answer><think>a</think>', 0, 0),
  ('<think>a</think><think>b</think><answer>c</answer>', 0, 0),
  ('<think><think>a</think></think><answer>b</answer>', 0, 0),
  ('<think>a<answer>b</answer>', 0, 0),
  ('<think>a</think>', 0, 0),
  ('</think><think><answer>b</answer>', 0, 0),
  ('<THINK>a</THINK><ANSWER>b</ANSWER>', 0, 0),
  ('<think >a</think ><answer >b</answer >', 0, 0),
  ('think a /think answer b /answer', 0, 0),
  ('', 0, 0),
  ('<think>' * 20_000, 0, 0),
  ('<think></think>' * 20_000, 0, 0),
  ('<think>a</think>' + ' ' * 200_000 + '<answer>b</answer>', 1, 1),
]

RECORDS = [dict(id=f'r/{n}', prompt='2+3', answer='5') for n in range(3)]
TEXTS = [
  '<think>a</think><answer>5</answer>',
  '<think>a</think><answer>6</answer>',
  '<think>a</think>\\boxed{5}',
]


def test_format_matches_the_whole_text():
  texts, with_answer, with_think = zip(*FORMS)
  records = [{}] * len(texts)
  for reward, truth in (
    (format.format_reward, with_answer),
    (format.think_format_reward, with_think),
  ):
    reward_N = reward(records, texts)
    assert reward_N.dtype == np.float32
    wrong = [
      (text[:60], score)
      for text, score, want in zip(texts, reward_N, truth)
      if score != want
    ]
    assert not wrong


def test_soft_overlong_is_equation_13_of_dapo():
  np.testing.assert_array_equal(
    penalties.soft_overlong([0, 60, 61, 80, 99, 100, 101, 500], 100, 40),
    np.float32([0, 0, -1 / 40, -0.5, -39 / 40, -1, -1, -1]),
  )


def test_total_is_the_weighted_sum():
  reward_N, parts = registry.weighted_rewards(
    {'accuracy': 1.0, 'format': 0.2}, RECORDS, TEXTS
  )
  np.testing.assert_array_equal(parts['accuracy'], [1, 0, 1])
  np.testing.assert_array_equal(parts['format'], [1, 1, 0])
  np.testing.assert_array_equal(reward_N, np.float32([1.2, 0.2, 1]))
  assert reward_N.dtype == np.float32


def test_a_reward_of_weight_zero_is_computed():
  reward_N, parts = registry.weighted_rewards({'format': 0}, RECORDS, TEXTS)
  np.testing.assert_array_equal(parts['format'], [1, 1, 0])
  np.testing.assert_array_equal(reward_N, 0)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_reward_that_is_not_finite_is_an_error_with_its_record(
  bad, monkeypatch
):
  def broken(records, texts):
    return np.array([1, bad, 0])

  monkeypatch.setitem(registry.REWARDS, 'accuracy', broken)
  with pytest.raises(ValueError, match="'accuracy' of record r/1"):
    registry.weighted_rewards({'format': 1, 'accuracy': 1}, RECORDS, TEXTS)


def test_a_missing_reward_is_an_error(monkeypatch):
  def short(records, texts):
    return np.zeros(2)

  monkeypatch.setitem(registry.REWARDS, 'accuracy', short)
  with pytest.raises(
    ValueError, match=r"'accuracy' returned shape \(2,\) for 3"
  ):
    registry.weighted_rewards({'accuracy': 1}, RECORDS, TEXTS)


def test_an_unknown_reward_names_the_nearest():
  with pytest.raises(errors.UserError, match="did you mean 'accuracy'"):
    registry.check_rewards({'acuracy': 1}, RECORDS)
  with pytest.raises(errors.UserError, match='at least one reward'):
    registry.check_rewards({}, RECORDS)


def test_an_unreadable_gold_is_refused_if_the_accuracy_needs_it():
  records = [*RECORDS, dict(id='r/9', prompt='?', answer='(1,2')]
  registry.check_rewards({'format': 1}, records)
  registry.check_rewards({'accuracy': 1}, RECORDS)
  with pytest.raises(errors.UserError, match='record r/9'):
    registry.check_rewards({'accuracy': 1}, records)


BY_DOMAIN = {'general-helpful': {'kind': 2.0, 'format': 0.5}}
KIND = dict(kind=lambda records, texts: np.array([len(t) for t in texts]) / 100)


def test_the_weights_of_a_domain_replace_the_others():
  records = [dict(RECORDS[0], domain='math'), RECORDS[1]]
  records += [dict(id='g', prompt='hi', domain='general-helpful')]
  registry.check_rewards({'accuracy': 1.0}, records, BY_DOMAIN, KIND)
  reward_N, parts = registry.weighted_rewards(
    {'accuracy': 1.0, 'format': 0.2}, records, TEXTS, BY_DOMAIN, KIND
  )
  np.testing.assert_array_equal(parts['accuracy'], [1, 0, np.nan])
  np.testing.assert_array_equal(parts['format'], [1, 1, 0])
  np.testing.assert_allclose(parts['kind'], [np.nan, np.nan, 0.25])
  np.testing.assert_allclose(reward_N, [1.2, 0.2, 0.5])


def test_a_domain_without_rewards_is_refused_with_its_record():
  record = dict(id='g/7', prompt='hi', answer='5', domain='helpful')
  registry.check_rewards({'accuracy': 1.0}, [record])
  with pytest.raises(errors.UserError, match="record g/7 .*'helpful'"):
    registry.check_rewards({'accuracy': 1.0}, [record], BY_DOMAIN, KIND)
  with pytest.raises(errors.UserError, match="no reward 'kind'"):
    registry.check_rewards({'accuracy': 1.0}, [record], BY_DOMAIN)


def test_all_records_of_an_unknown_language_are_named_at_the_start():
  languages = 'xx', 'en', 'EN', None, 'zh-CN'
  records = [
    dict(id=f'r{n}', prompt='?', answer='1', language=x)
    for n, x in enumerate(languages)
  ]
  weights = {'accuracy': 1.0, 'language': 1.0}
  with pytest.raises(errors.UserError, match='3 of 5') as error:
    registry.check_rewards(weights, records)
  for name in ("'xx'", "'EN'", "'zh-CN'"):
    assert name in str(error.value)
  assert registry.check_rewards({'accuracy': 1.0}, records) == records


@pytest.mark.parametrize('by_domain', [{}, BY_DOMAIN])
def test_a_domain_that_is_no_text_is_a_bad_record(by_domain):
  records = [dict(id='r', prompt='?', answer='1', domain=['a'])]
  with pytest.raises(errors.UserError, match='the domain of record r is list'):
    registry.check_rewards({'accuracy': 1.0}, records, by_domain, KIND)


def test_accuracy_needs_an_answer_to_compare_with():
  with pytest.raises(errors.UserError, match='record r has no answer'):
    registry.check_rewards({'accuracy': 1.0}, [dict(id='r', prompt='?')])


def test_records_are_verified_where_the_accuracy_is_a_reward():
  domains = dict(general=dict(format=1.0), math=dict(accuracy=1.0))
  records = [dict(id=x, domain=x) for x in ('general', 'math', 'stem')]
  for weights, expected in (
    (dict(accuracy=1.0), ['math', 'stem']),
    (dict(format=1.0), ['math']),
  ):
    found = registry.verified_records(weights, records, domains)
    assert [x['id'] for x in found] == expected
