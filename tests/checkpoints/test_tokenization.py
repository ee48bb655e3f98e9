import json

import pytest
import tokenizers

from r1jax import errors
from r1jax.checkpoints import tokenization
from r1jax.data import templates

TEXTS = (
  'plain text, 12 + 34 = 46\n',
  ' a  <think>b </think><answer>\t7</answer>\r\n\n',
  'naïve — 你好，世界 🙂👩‍👧 é \x00 x²',
  '',
  '   ',
)
CHAT = [dict(role='user', content='1 < 2 & "é"?')]


@pytest.fixture(scope='module')
def sentencepiece_file(tmp_path_factory):
  path = tmp_path_factory.mktemp('spm')
  lines = (f'{a} plus {b} is {a + b}.' for a in range(20) for b in range(20))
  (path / 'text.txt').write_text('\n'.join(lines))
  return tokenization.train_sentencepiece(path / 'text.txt', path / 'm', 290)


def write_hf(path, config=(), generation=(), template=None, bos=False):
  """A directory with the byte tokenizer's tokenizer.json and these settings."""
  tokenization.ByteTokenizer().save(path)
  if bos:
    backend = tokenizers.Tokenizer.from_file(str(path / 'tokenizer.json'))
    backend.post_processor = tokenizers.processors.TemplateProcessing(
      single='<think> $A', special_tokens=[('<think>', 257)]
    )
    backend.save(str(path / 'tokenizer.json'))
  (path / 'tokenizer_config.json').write_text(json.dumps(dict(config)))
  (path / 'generation_config.json').write_text(json.dumps(dict(generation)))
  if template:
    (path / 'chat_template.jinja').write_text(template)
  return path


def test_bytes_are_their_own_ids_and_tags_follow_the_end_token():
  words = tokenization.ByteTokenizer()
  ascii_text = bytes(range(128)).decode()
  assert words.encode(ascii_text) == list(range(128))
  assert words.encode('é</answer>') == [*'é'.encode(), 260]
  assert (words.vocab_size, words.eos_ids) == (261, (256,))
  assert words.encode(words.decode([256, 257])) == [256, 257]
  assert words.decode([0xF0, 0x9F, 65]) == '\N{REPLACEMENT CHARACTER}A'
  assert tokenization.ByteTokenizer(special=()).vocab_size == 257


def test_every_text_survives_encoding(sentencepiece_file, tmp_path):
  tokenization.ByteTokenizer().save(tmp_path)
  for words in (
    tokenization.ByteTokenizer(),
    tokenization.load(tmp_path),
    tokenization.load(sentencepiece_file),
  ):
    for text in TEXTS:
      ids = words.encode(text)
      assert words.decode(ids) == text
      assert all(0 <= i < words.vocab_size for i in ids)


def test_sentencepiece_parses_special_and_control_pieces(sentencepiece_file):
  words = tokenization.load(sentencepiece_file)
  assert words.eos_ids == (words.encode('</s>')[0],)
  text = '<s>1 plus<think></think></s></s>2'
  ids = words.encode(text)
  assert words.decode(ids) == text
  for piece in ('<s>', '<think>', '</think>', '</s>'):
    (i,) = words.encode(piece)
    assert ids.count(i) == text.count(piece)
  assert '<s>' not in words.decode(words.encode('< s >'))


def test_a_saved_sentencepiece_tokenizer_loads_the_same(
  sentencepiece_file, tmp_path
):
  words = tokenization.load(sentencepiece_file)
  words.save(tmp_path)
  again = tokenization.load(tmp_path)
  assert again.eos_ids == words.eos_ids
  assert [again.encode(t) for t in TEXTS] == [words.encode(t) for t in TEXTS]


def test_training_on_too_little_text_gets_a_sentence(tmp_path):
  (tmp_path / 'text.txt').write_text('a b c')
  with pytest.raises(errors.UserError, match='9000 pieces.*too high'):
    tokenization.train_sentencepiece(
      tmp_path / 'text.txt', tmp_path / 'm', 9000
    )
  with pytest.raises(errors.UserError, match='absent.txt'):
    tokenization.train_sentencepiece(
      tmp_path / 'absent.txt', tmp_path / 'm', 300
    )


@pytest.mark.parametrize(
  'config, generation, want',
  [
    (dict(eos_token='<|end|>'), dict(eos_token_id=260), (256, 260)),
    (
      dict(eos_token='<|end|>'),
      dict(eos_token_id=[259, 256, 0]),
      (256, 259, 0),
    ),
    (dict(eos_token=dict(content='</think>')), {}, (258,)),
    (dict(eos_token=None), dict(eos_token_id=None), ()),
  ],
)
def test_end_tokens_are_the_union_of_both_files(
  config, generation, want, tmp_path
):
  assert (
    tokenization.load(write_hf(tmp_path, config, generation)).eos_ids == want
  )


def test_bos_is_put_before_texts_where_the_tokenizer_puts_it(tmp_path):
  config = dict(bos_token='<think>')

  def load(**kw):
    return tokenization.load(write_hf(tmp_path, **kw))

  assert load(config=config).prefix == ''
  with_bos = load(config=config, bos=True, template='{{ bos_token }}x')
  assert with_bos.encode('a') == [97]
  assert templates.render('plain', with_bos, 'a') == '<think>a'
  assert templates.render('chat', with_bos, 'a') == '<think>x'
  assert load(config=config | dict(add_bos_token=True)).prefix == '<think>'
  refused = load(config=config | dict(add_bos_token=False), bos=True)
  assert refused.prefix == ''


@pytest.mark.parametrize(
  'template, want',
  [
    (
      '{% for m in messages %}\n  {% if m.role == "user" %}\n{{ m.content }}'
      '{{ eos_token }}\n  {% endif %}\n{% endfor %}'
      '{% if add_generation_prompt %}A:{% endif %}',
      '1 < 2 & "é"?<|end|>\nA:',
    ),
    ('{{ messages | tojson }}', json.dumps(CHAT, ensure_ascii=False)),
    (
      '{{ messages[0] | tojson(indent=1) }}',
      json.dumps(CHAT[0], ensure_ascii=False, indent=1),
    ),
    ('{% generation %}x{% endgeneration %}{{ absent }}', 'x'),
    (
      '{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}'
      '{% endfor %}',
      '01',
    ),
    ('{{ strftime_now("%%") }}', '%'),
  ],
)
def test_chat_templates_render_as_in_transformers(template, want, tmp_path):
  config = dict(eos_token='<|end|>')
  in_config = dict(chat_template=template)
  by_name = [
    dict(name='tool', template='no'),
    dict(name='default', **{'template': template}),
  ]
  for place in (
    dict(config=config | in_config),
    dict(config=config | dict(chat_template=by_name)),
    dict(config=config, template=template),
  ):
    words = tokenization.load(write_hf(tmp_path, **place))
    assert words.chat(CHAT) == want
  words.save(tmp_path)
  (tmp_path / 'chat_template.jinja').unlink()
  assert tokenization.load(tmp_path).chat(CHAT) == want


@pytest.mark.parametrize(
  'template, sentence',
  [
    ("{{ raise_exception('roles must alternate') }}", 'roles must alternate'),
    ('{% if %}', 'chat template failed'),
    ('{{ messages.append(1) }}', 'chat template failed'),
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", 'chat template failed'),
    ('{{ 1 / 0 }}', 'division by zero'),
    (None, 'no chat template'),
  ],
)
def test_a_bad_chat_template_gets_a_sentence(template, sentence, tmp_path):
  words = tokenization.load(write_hf(tmp_path, template=template))
  with pytest.raises(errors.UserError, match=sentence):
    words.chat(CHAT)


def test_a_directory_without_tokenizer_has_none(tmp_path):
  assert tokenization.load(tmp_path) is None


@pytest.mark.parametrize(
  'name, text, sentence',
  [
    ('tokenizer.json', '{"model"', 'tokenizer.json is not readable'),
    ('tokenizer_config.json', '{', 'tokenizer_config.json is not readable'),
    ('tokenizer_config.json', '{"eos_token": "<eos>"}', "'<eos>'"),
    ('generation_config.json', '{"eos_token_id": 261}', '261.*261 ids'),
    ('generation_config.json', '{"eos_token_id": ["a"]}', 'end token a'),
  ],
)
def test_a_broken_tokenizer_file_gets_a_sentence(
  name, text, sentence, tmp_path
):
  (write_hf(tmp_path) / name).write_text(text)
  with pytest.raises(errors.UserError, match=sentence):
    tokenization.load(tmp_path)


def test_a_broken_sentencepiece_file_gets_a_sentence(tmp_path):
  (tmp_path / 'tokenizer.model').write_bytes(b'no model')
  with pytest.raises(errors.UserError, match='tokenizer.model is not'):
    tokenization.load(tmp_path)


def test_the_r1_zero_template_is_the_papers_word_for_word():
  assert templates.render(
    'r1_zero', tokenization.ByteTokenizer(), '{x} %s?'
  ) == (
    'A conversation between User and Assistant. The user asks a question, and '
    'the Assistant solves it. The assistant first thinks about the reasoning '
    'process in the mind and then provides the user with the answer. The '
    'reasoning process and answer are enclosed within <think> </think> and '
    '<answer> </answer> tags, respectively, i.e., <think> reasoning process '
    'here </think> <answer> answer here </answer>. User: {x} %s?. Assistant:'
  )


def test_a_template_is_a_name_or_a_text_with_a_place_for_the_question():
  words = tokenization.ByteTokenizer()
  assert templates.render('plain', words, 'Q') == 'Q'
  assert templates.render('{0} {question}', words, '{q}') == '{0} {q}'
  with pytest.raises(errors.UserError, match="'r1-zero'.*'r1_zero'"):
    templates.render('r1-zero', words, 'Q')


@pytest.mark.parametrize(
  'text, want',
  [
    ('<think>a</think>b', ('a', 'b')),
    (' <think>a </think>\nb', ('a ', '\nb')),
    ('a</think>b', ('a', 'b')),
    ('a</think>b</think>c', ('a</think>b', 'c')),
    ('no tags', ('', 'no tags')),
    ('<think>never closed', ('', '')),
    ('<think>a</think>b<think>c', ('a', '')),
    ('', ('', '')),
  ],
)
def test_thinking_ends_at_the_last_closing_tag(text, want):
  assert templates.think_split(text) == want
