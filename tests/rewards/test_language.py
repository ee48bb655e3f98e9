"""The language reward counts words by script, and cannot be gamed."""

import time

import numpy as np
import pytest

from r1jax import errors
from r1jax.rewards import language, registry

EN = dict(id='r/en', prompt='How many apples are left?')
ZH = dict(id='r/zh', prompt='还剩多少个苹果？')


@pytest.fixture(params=['rjieba', 'characters'])
def segmenter(request, monkeypatch):
  if request.param == 'rjieba':
    pytest.importorskip('rjieba')
  else:
    monkeypatch.setattr(language, 'rjieba', None)


# (text, English words, Chinese characters, other words)
WORDS = [
  ('', 0, 0, 0),
  ('The cat sat.', 3, 0, 0),
  ("It's the dog’s bowl, isn't it?", 6, 0, 0),
  ('well-known state_of_the_art', 6, 0, 0),
  ('So x = 3, then I add a y to it', 5, 0, 0),  # I and a are letters
  ('3x + 5cm, H2O, x1, log2(8), 10 km', 1, 0, 0),  # km
  ('sin x, cos(y), max(a, b), gcd', 0, 0, 0),
  ('先算总数', 0, 4, 0),
  ('先算 total 再除以 3', 1, 5, 0),
  ('人々が𠀀', 0, 3, 0.5),
  ('Привет, мир и я', 0, 0, 4),
  ('こんにちは', 0, 0, 2.5),
  ('カタカナ and ﾊﾟ', 1, 0, 3),
  ('안녕 세상', 0, 0, 2),
  ('مرحبا بالعالم', 0, 0, 2),
  ('α + β = π, Δx, µm', 0, 0, 0),
  ('καλημέρα', 0, 0, 1),
  ('a café in Zürich', 1, 0, 2),
  ('½ ² ① Ⅳ ℝ 𝑥 10º', 0, 0, 0),
  ('the value $x = \\text{total} + 1$ is', 3, 0, 0),
  ('$$\\text{area} = \\pi r^2$$ done', 1, 0, 0),
  ('so \\(a + foo\\) and \\[ \\sum_i bar_i \\] end', 3, 0, 0),
  ('thus \\boxed{\\text{Monday}} holds', 2, 0, 0),
  ('thus \\frac{1}{2} \\times \\alpha holds', 2, 0, 0),
  ('\\begin{align*} foo &= bar \\end{align*} ok', 1, 0, 0),
  ('\\begin{a}\\begin{b} x \\end{b}\\end{a} ok', 1, 0, 0),
  ('paid $5 and she has $7 left', 5, 0, 0),
  ('$5 and $7', 1, 0, 0),
  ('code `print(foo)` here', 2, 0, 0),
  ('see\n```python\nfor item in basket:\n  pass\n```\nend', 2, 0, 0),
  ('see ```for item in basket', 1, 0, 0),
  ('$this hides a long sentence$', 4, 0, 0),  # a formula with prose in it
  ('hidden: $\\text{答案是五}$', 1, 4, 0),
  ('\\boxed{пять} \\[ 先算 \\]', 0, 2, 1),
]


@pytest.mark.parametrize('text, en, han, other', WORDS)
def test_words_are_counted_by_script(text, en, han, other, monkeypatch):
  monkeypatch.setattr(language, 'rjieba', None)
  assert language.count(text) == dict(en=en, zh=han / 2, other=other)


def test_chinese_is_segmented_into_words():
  pytest.importorskip('rjieba')
  words = language.count('我们先计算 sum 总数')
  assert words == dict(en=1, zh=4, other=0)  # 我们 先 计算 总数


def test_the_share_is_that_of_the_target_among_all_words(monkeypatch):
  monkeypatch.setattr(language, 'rjieba', None)
  text = 'first we 先算总数 and да'
  assert language.share(text, 'en') == 3 / 6
  assert language.share(text, 'zh') == 2 / 6


def test_a_text_without_words_has_no_share(segmenter):
  for text in ('', ' \n', '3 + 4 = 7', '$x$', '```\nwords\n```', 'x x x'):
    assert language.share(text, 'en') == language.share(text, 'zh') == 0


def test_the_target_is_the_records_or_the_main_language_of_the_prompt(
  segmenter,
):
  assert language.target(EN) == 'en'
  assert language.target(ZH) == 'zh'
  assert language.target(EN | dict(language='zh')) == 'zh'
  assert language.target(dict(prompt='用 Python 计算这些数字的总和')) == 'zh'
  assert language.target(dict(prompt='What does 你好 mean here?')) == 'en'
  assert language.target(dict(prompt='123')) == 'en'


def test_an_unknown_target_is_refused_with_the_id_of_its_record():
  with pytest.raises(errors.UserError, match="record r/en .* 'fr': make it en"):
    language.language([EN | dict(language='fr')], ['<think>oui</think>'])


# (record, response, share)
RESPONSES = [
  (EN, '<think>first we add</think><answer>五</answer>', 1),
  (ZH, '<think>先算总数</think><answer>five apples</answer>', 1),
  (EN, '<think>先算总数</think><answer>five apples</answer>', 0),
  (EN, '<think></think>all of it is English', 0),
  (EN, '<think>3 + 4</think>words', 0),
  (EN, 'no thinking at all', 0),
  (EN, '<think>truncated while', 1),
]


@pytest.mark.parametrize('record, text, share', RESPONSES)
def test_only_the_thinking_counts(record, text, share, segmenter):
  assert language.language([record], [text]) == share


def test_it_is_a_reward_by_name(segmenter):
  records, texts, shares = zip(*RESPONSES)
  reward_N, parts = registry.weighted_rewards({'language': 0.5}, records, texts)
  np.testing.assert_array_equal(parts['language'], np.float32(shares))
  np.testing.assert_array_equal(reward_N, np.float32(shares) / 2)
  assert registry.weighted_rewards({'language': 1}, [], [])[0].shape == (0,)


HOSTILE = [
  'a',
  'a ',
  '中',
  '中 ',
  '中a',
  'я',
  'か',
  '1',
  '1a',
  "a'",
  '$',
  '$a',
  '$a ',
  '$$',
  '$ab cd ',
  '\\(',
  '\\(ab ',
  '\\[x',
  '\\boxed{',
  '\\boxed{a',
  '{',
  '\\boxed{{}',
  '\\begin{',
  '\\begin{a}x',
  '\\end{a}',
  '`',
  '`a',
  '```',
  '```a',
  '\\',
  '\\a',
  '\\mathrm{',
  '\u0301',
  '\n',
  '½',
  '<think>',
  'a’',
  '$a b c d e f g h ab',
  'α',
  '\ud800',
]


@pytest.mark.parametrize('piece', HOSTILE)
def test_hostile_texts_do_not_take_quadratic_time(piece, segmenter):
  text = (piece * 100_000)[:100_000]
  for begin in ('', '$', '\\boxed{'):
    began = time.process_time()
    assert 0 <= language.share(begin + text + '$', 'en') <= 1
    # All take less than 0.1 s; quadratic work would take minutes.
    assert time.process_time() - began < 20
