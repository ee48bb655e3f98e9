"""The language reward counts words by sentence, and cannot be gamed."""

import time
import unicodedata

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
    monkeypatch.setattr(language, 'chinese_segmenter', lambda: None)


def counts(text):
  """The counts that are not 0."""
  return {name: n for name, n in language.count(text).items() if n}


# (text, English words, Chinese characters, other words)
WORDS = [
  ('', 0, 0, 0),
  ('The cat sat.', 3, 0, 0),
  ("It's the dog’s bowl, isn't it?", 6, 0, 0),
  ('well-known state_of_the_art', 6, 0, 0),
  ('ＨＥＬＬＯ ｗｏｒｌｄ', 2, 0, 0),
  ('the segment AB and the triangle ABC', 5, 0, 0),
  ('THE SUM OF ALL', 4, 0, 0),
  ('so F = ma and dx = 3, e^ab is', 3, 0, 0),
  ('So x = 3, then I add a y to it', 5, 0, 0),  # I and a are letters
  ('3x + 5cm, H2O, x1, log2(8), 10 km', 1, 0, 0),  # km
  ('sin x, cos(y), max(a, b), gcd', 0, 0, 0),
  ('先算总数', 0, 4, 0),
  ('先算 total 再除以 3', 1, 5, 0),
  ('人々𠀀', 0, 3, 0),
  ('Привет, мир и я', 0, 0, 4),
  ('こんにちは', 0, 0, 2.5),
  ('まず合計を計算します。先算总数', 0, 4, 5),
  ('カタカナ and ﾊﾟ', 1, 0, 3),
  ('안녕 세상', 0, 0, 2),
  ('مرحبا بالعالم', 0, 0, 2),
  ('α + β = π, Δx, µm', 0, 0, 0),
  ('καλημέρα', 0, 0, 1),
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
  ('see ```for item in basket', 5, 0, 0),  # not closed: text
  ('see\n```\nfor item in basket', 5, 0, 0),
  ('~~~py\nx = foo(bar)\n~~~ ok', 3, 0, 0),  # not closed
  ('~~~py\nx = foo(bar)\n~~~\nok', 1, 0, 0),
  ('```py\nx = 3  # the first number\n```', 3, 0, 0),
  ('```c\nint n = 3; // the first number\n```', 3, 0, 0),
  ('```py\nprint("the number is", n)\n```', 3, 0, 0),
  ('```py\nd["key"] = "value"\n```', 0, 0, 0),
  ('```py\nfrom math import sqrt\nreturn total\n```', 0, 0, 0),
  ('```\nso we add 3 + 4 = 7 apples\n```', 4, 0, 0),
  ('`the number of apples` is `n`', 5, 0, 0),
  ('`first` `we` `add` is', 4, 0, 0),  # spans in a row are one
  ('`总数` is', 1, 2, 0),
  ('```\n先算总数\n```', 0, 4, 0),
  ('```py\n总数 = 3  # 先算\n```', 0, 4, 0),
  ('```\n先算总数', 0, 4, 0),
  ('[asy]\ndraw((0,0)--(1,1));\n[/asy] ok', 1, 0, 0),
  ('so $\\text{the sum of all}$ is', 6, 0, 0),
  ('$\\mathrm{the sum of all}$', 4, 0, 0),
  ('$\\text{the}$ $\\text{sum}$ is', 3, 0, 0),
  ('$this hides a long sentence$', 4, 0, 0),  # a formula with prose in it
  ('hidden: $\\text{答案是五}$', 1, 4, 0),
  ('\\boxed{пять} \\[ 先算 \\]', 0, 2, 1),
]


@pytest.mark.parametrize('text, en, han, other', WORDS)
def test_words_are_counted_by_script(text, en, han, other, monkeypatch):
  monkeypatch.setattr(language, 'chinese_segmenter', lambda: None)
  expected = dict(en=en, zh=han / 2, other=other)
  assert counts(text) == {name: n for name, n in expected.items() if n}


def test_chinese_is_segmented_into_words():
  pytest.importorskip('rjieba')
  words = counts('我们先计算 sum 总数')
  assert words == dict(en=1, zh=4)  # 我们 先 计算 总数


# Thoughts without accents, as far as the language allows.
THOUGHTS = dict(
  en='First we add both numbers, and then we divide the sum by three. So the '
  'result is seven.',
  de='Zuerst addieren wir beide Zahlen, und dann teilen wir die Summe durch '
  'drei. Also ist das Ergebnis sieben.',
  fr='On additionne les deux nombres, puis on divise la somme par trois. Donc '
  'le resultat est sept.',
  es='Primero sumamos los dos numeros y luego dividimos la suma entre tres. '
  'Entonces el resultado es siete.',
  it='Prima sommiamo i due numeri e poi dividiamo la somma per tre. Quindi il '
  'risultato finale della divisione vale sette.',
  pt='Primeiro somamos os dois numeros e depois dividimos a soma por tres. '
  'Portanto o resultado da conta fica sete.',
  nl='Eerst tellen we beide getallen op en dan delen we de som door drie. Dus '
  'het resultaat is zeven.',
  pl='Najpierw dodajemy obie liczby, a potem dzielimy sume przez trzy. Wynik '
  'to siedem.',
  tr='Once iki sayiyi topluyoruz, sonra toplami uce boluyoruz. Sonuc yedi olur.',
  zh='首先我们把两个数相加，然后把和除以三。所以结果是七。',
)


@pytest.mark.parametrize('name', THOUGHTS)
@pytest.mark.parametrize(
  'form',
  [
    '{}',
    '```\n{}\n```',
    '```python\n# {}\nx = 3\n```',
    '~~~\n{}',
    '`{}`',
    '$\\text{{{}}}$',
    '<!-- {} -->',
    'x = 3, $y^2 = 4$\n\n{}\n\n\\[ z = 5 \\]',
  ],
)
def test_a_language_is_known_wherever_it_is_written(name, form, segmenter):
  text = form.format(THOUGHTS[name])
  for target in ('en', name):
    expected = float(target == name)
    assert language.share(text, target) == expected
  record = dict(id='r', prompt='?', language=name)
  response = f'<think>{text}</think><answer>7</answer>'
  assert language.language([record], [response]) == 1


OTHERS = [
  'Primum duos numeros addimus, deinde summam per tres dividimus.',
  'Kwanza tunajumlisha namba zote mbili, halafu tunagawanya jumla kwa tatu.',
  'Yn gyntaf rydym yn adio y ddau rif ac yna yn rhannu y cyfanswm gyda thri.',
  'Women xian ba liang ge shu jia qi lai, ranhou chu yi san, suoyi shi qi.',
  'asdf qwer zxcv hjkl uiop fghj rtyu vbnm dfgh jklz',
]


@pytest.mark.parametrize('text', OTHERS)
def test_latin_letters_in_no_target_language_are_not_english(text):
  assert set(counts(text)) == {'other'}


PROGRAM = """\
#include <iostream>
from collections import defaultdict as dd
def solve(n: int, items: list[str]) -> int:
    for item in items:
        if item not in seen and len(item) > 3:
            total += prices["name"]
        else:
            continue
    return total if total is not None else 0
const add = (a, b) => a + b;
public static void main(String[] args) {
SELECT name, age FROM people
GROUP BY name
ORDER BY age DESC;"""


@pytest.mark.parametrize('language_name', ['', 'python', 'cpp'])
def test_a_program_has_no_language(language_name, segmenter):
  code = f'```{language_name}\n{PROGRAM}\n```'
  assert counts(code) == {}
  assert set(counts(f'先写代码：\n{code}\n所以答案是五。')) == {'zh'}


def test_sentences_of_two_languages_have_their_proportions():
  for name in ('de', 'fr', 'es', 'pl'):
    own, english = counts(THOUGHTS[name])[name], counts(THOUGHTS['en'])['en']
    for text in (
      f'{THOUGHTS["en"]} {THOUGHTS[name]}',
      f'{THOUGHTS[name]}\n{THOUGHTS["en"]}',
    ):
      found = language.share(text, name)
      assert abs(found - own / (own + english)) < 0.15


def test_names_and_single_words_keep_the_language_of_their_context():
  english = 'Jean buys a croissant in Toulouse. Voila. He pays $3 for it.'
  assert set(counts(english)) == {'en'}
  german = THOUGHTS['de'] + ' Okay. Peter und Mary. Total. ' + THOUGHTS['de']
  assert set(counts(german)) == {'de'}
  assert set(counts('先算 total，再算 apples。最后 sum 是七')) == {'en', 'zh'}


def test_decomposed_accents_are_those_of_one_character():
  text = 'La réponse est évidemment égale à la moitié du carré'
  decomposed = unicodedata.normalize('NFD', text)
  assert counts(decomposed) == counts(text) == dict(fr=9)


def test_the_share_is_that_of_the_target_among_all_words(monkeypatch):
  monkeypatch.setattr(language, 'chinese_segmenter', lambda: None)
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
  assert language.target(dict(prompt='Combien de pommes reste-t-il ?')) == 'fr'
  assert language.target(dict(prompt='Solve 3x + 5 = 20.')) == 'en'


def test_an_unknown_target_is_refused_with_the_id_of_its_record():
  with pytest.raises(
    errors.UserError, match="record r/en .* 'ru': make it one"
  ):
    language.language([EN | dict(language='ru')], ['<think>да</think>'])


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
  '\u0301\u0327',
  '“',
  "'a ",
  '[asy]',
  '~',
  '~~~\n',
  '. ',
  '.',
  '.a',
  '`a` ',
  '# ',
  'AB ',
  'ab ab, ',
  '\\text{a',
  '1 ',
]


@pytest.mark.parametrize('piece', HOSTILE)
def test_hostile_texts_do_not_take_quadratic_time(piece):
  text = (piece * 50_000)[:50_000]
  for begin in ('', '$', '\\boxed{', '```\nx '):
    began = time.process_time()
    assert 0 <= language.share(begin + text + '$', 'en') <= 1
    # All take less than 0.1 s; quadratic work would take minutes.
    assert time.process_time() - began < 20


@pytest.mark.parametrize('joint', ['\u200b', '\u00ad', '\u2060'])
def test_invisible_characters_do_not_hide_words(joint):
  german = 'Zuerst addieren wir alle Zahlen und teilen dann durch zwei.'
  hidden = ' '.join(joint.join(word) for word in german.split())
  assert language.share(hidden, 'en') == language.share(german, 'en') == 0
  assert language.share(hidden, 'de') > 0.9
