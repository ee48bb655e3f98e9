"""Tokenizers keep every text, and their settings come from a checkpoint."""

import json
import shutil

import pytest
import sentencepiece
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
def sentencepiece_directory(tmp_path_factory):
  path = tmp_path_factory.mktemp('spm')
  lines = (f'{a} plus {b} is {a + b}.' for a in range(20) for b in range(20))
  (path / 'text.txt').write_text('\n'.join(lines))
  sentencepiece.SentencePieceTrainer.train(
    input=str(path / 'text.txt'),
    model_prefix=str(path / 'tokenizer'),
    vocab_size=290,
    user_defined_symbols=list(tokenization.TAGS),
    model_type='bpe',
    byte_fallback=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    add_dummy_prefix=False,
    allow_whitespace_only_pieces=True,
    minloglevel=2,
  )
  return path


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
  tokenizer = tokenization.ByteTokenizer()
  ascii_text = bytes(range(128)).decode()
  assert tokenizer.encode(ascii_text) == list(range(128))
  assert tokenizer.encode('é</answer>') == [*'é'.encode(), 260]
  assert (tokenizer.vocab_size, tokenizer.eos_ids) == (261, (256,))
  assert tokenizer.encode(tokenizer.decode([256, 257])) == [256, 257]
  assert tokenizer.decode([0xF0, 0x9F, 65]) == '\N{REPLACEMENT CHARACTER}A'
  assert tokenization.ByteTokenizer(special=()).vocab_size == 257


def test_decode_inverts_encode(sentencepiece_directory, tmp_path):
  tokenization.ByteTokenizer().save(tmp_path)
  for tokenizer in (
    tokenization.ByteTokenizer(),
    tokenization.load(tmp_path),
    tokenization.load(sentencepiece_directory),
  ):
    for text in TEXTS:
      ids = tokenizer.encode(text)
      assert tokenizer.decode(ids) == text
      assert all(0 <= i < tokenizer.vocab_size for i in ids)


def test_sentencepiece_parses_special_and_control_pieces(
  sentencepiece_directory,
):
  tokenizer = tokenization.load(sentencepiece_directory)
  assert tokenizer.eos_ids == (tokenizer.encode('</s>')[0],)
  text = '<s>1 plus<think></think></s></s>2'
  ids = tokenizer.encode(text)
  assert tokenizer.decode(ids) == text
  for piece in ('<s>', '<think>', '</think>', '</s>'):
    (i,) = tokenizer.encode(piece)
    assert ids.count(i) == text.count(piece)
  assert '<s>' not in tokenizer.decode(tokenizer.encode('< s >'))


def test_a_saved_sentencepiece_tokenizer_loads_the_same(
  sentencepiece_directory, tmp_path
):
  tokenizer = tokenization.load(sentencepiece_directory)
  tokenizer.save(tmp_path)
  again = tokenization.load(tmp_path)
  assert again.eos_ids == tokenizer.eos_ids
  assert [again.encode(t) for t in TEXTS] == [
    tokenizer.encode(t) for t in TEXTS
  ]


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
def test_end_tokens_are_those_of_both_files(config, generation, want, tmp_path):
  assert (
    tokenization.load(write_hf(tmp_path, config, generation)).eos_ids == want
  )


def test_end_tokens_of_config_json_count_without_a_generation_config(tmp_path):
  path = write_hf(tmp_path, dict(eos_token='<|end|>'))
  (path / 'config.json').write_text(json.dumps(dict(eos_token_id=[259, 256])))
  assert tokenization.load(path).eos_ids == (256, 259)
  (path / 'generation_config.json').unlink()
  assert tokenization.load(path).eos_ids == (256, 259)
  (path / 'generation_config.json').write_text('{"eos_token_id": 258}')
  assert tokenization.load(path).eos_ids == (256, 258)


def test_special_tokens_map_counts_as_in_transformers(tmp_path):
  path = write_hf(tmp_path)
  special = dict(eos_token=dict(content='</think>'), bos_token='<think>')
  (path / 'special_tokens_map.json').write_text(json.dumps(special))
  assert tokenization.load(path).eos_ids == (258,)
  config = dict(eos_token='<|end|>')
  write = (path / 'tokenizer_config.json').write_text
  write(json.dumps(config))
  assert tokenization.load(path).eos_ids == (258,)  # an old version's files
  write(json.dumps(config | dict(added_tokens_decoder={})))
  tokenizer = tokenization.load(path)
  assert tokenizer.eos_ids == (256,)
  assert tokenizer.settings.special_tokens['bos_token'] == '<think>'


def test_an_unknown_end_token_is_named_with_its_files(tmp_path):
  path = write_hf(tmp_path)
  (path / 'special_tokens_map.json').write_text('{"eos_token": "<|no|>"}')
  message = '<|no|>.*special_tokens_map.json.* is not in the vocabulary'
  with pytest.raises(errors.UserError, match=message.replace('|', '[|]')):
    tokenization.load(path)


@pytest.mark.parametrize('form', ['added_tokens.json', 'added_tokens_decoder'])
def test_tokens_are_added_to_a_sentencepiece_model(
  form, sentencepiece_directory, tmp_path
):
  shutil.copy(sentencepiece_directory / 'tokenizer.model', tmp_path)
  added = {'<|im_start|>': 290, '<|im_end|>': 292, '<s>': 1}
  file, content = tmp_path / form, added
  if form == 'added_tokens_decoder':
    file = tmp_path / 'tokenizer_config.json'
    tokens = {i: dict(content=x, special=False) for x, i in added.items()}
    content = dict(added_tokens_decoder=tokens, eos_token='<|im_end|>')
  else:
    special = dict(eos_token='<|im_end|>')
    (tmp_path / 'special_tokens_map.json').write_text(json.dumps(special))
  file.write_text(json.dumps(content))
  tokenizer = tokenization.load(tmp_path)
  assert tokenizer.eos_ids == (292,) and tokenizer.vocab_size == 293
  text = '<s><|im_start|>1 plus<|im_end|>'
  ids = tokenizer.encode(text)
  assert ids[:2] == [1, 290] and ids[-1] == 292
  assert tokenizer.decode(ids) == text
  assert tokenizer.decode([291, *ids]) == text  # an id without a token
  (tmp_path / 'out').mkdir()
  tokenizer.save(tmp_path / 'out')
  again = tokenization.load(tmp_path / 'out')
  assert (again.eos_ids, again.encode(text)) == ((292,), ids)
  saved = json.loads((tmp_path / 'out/tokenizer_config.json').read_text())
  special = saved['added_tokens_decoder']['292']['special']
  assert special is (form == 'added_tokens.json')


def test_tokens_are_added_to_a_tokenizer_json_that_lacks_them(tmp_path):
  path = write_hf(tmp_path)
  size = tokenization.ByteTokenizer().vocab_size
  tokens = {256: dict(content='<|end|>'), size: dict(content='<new>')}
  config = dict(added_tokens_decoder=tokens, eos_token='<|end|>')
  (path / 'tokenizer_config.json').write_text(json.dumps(config))
  tokenizer = tokenization.load(path)
  assert tokenizer.encode('a<new>') == [97, size]
  assert tokenizer.vocab_size == size + 1
  (tmp_path / 'out').mkdir()
  tokenizer.save(tmp_path / 'out')
  saved = json.loads((tmp_path / 'out/tokenizer_config.json').read_text())
  assert 'added_tokens_decoder' not in saved  # tokenizer.json has them
  again = tokenization.load(tmp_path / 'out')
  assert again.encode('a<new>') == [97, size]
  tokens[size + 7] = dict(content='<gap>')
  (path / 'tokenizer_config.json').write_text(json.dumps(config))
  with pytest.raises(errors.UserError, match=f"'<gap>' has the id {size + 7}"):
    tokenization.load(path)


@pytest.mark.parametrize('added', [{'<think>': 300}, {'<new>': 5}, {'a': 'b'}])
def test_added_tokens_that_contradict_the_model_are_refused(
  added, sentencepiece_directory, tmp_path
):
  shutil.copy(sentencepiece_directory / 'tokenizer.model', tmp_path)
  (tmp_path / 'added_tokens.json').write_text(json.dumps(added))
  with pytest.raises(
    errors.UserError, match='the added token|added tokens cannot'
  ):
    tokenization.load(tmp_path)


def test_the_prefix_is_bos_if_the_tokenizer_adds_one(tmp_path):
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
  for where in (
    dict(config=config | in_config),
    dict(config=config | dict(chat_template=by_name)),
    dict(config=config, template=template),
  ):
    tokenizer = tokenization.load(write_hf(tmp_path, **where))
    assert tokenizer.chat(CHAT) == want
  tokenizer.save(tmp_path)
  (tmp_path / 'chat_template.jinja').unlink()
  assert tokenization.load(tmp_path).chat(CHAT) == want


@pytest.mark.parametrize(
  'template, message',
  [
    ("{{ raise_exception('roles must alternate') }}", 'roles must alternate'),
    ('{% if %}', 'chat template failed'),
    ('{{ messages.append(1) }}', 'chat template failed'),
    ("{{ ''.__class__.__mro__[1].__subclasses__() }}", 'chat template failed'),
    ('{{ 1 / 0 }}', 'division by zero'),
    (None, 'no chat template'),
  ],
)
def test_a_bad_chat_template_is_a_user_error(template, message, tmp_path):
  tokenizer = tokenization.load(write_hf(tmp_path, template=template))
  with pytest.raises(errors.UserError, match=message):
    tokenizer.chat(CHAT)


def test_a_directory_without_tokenizer_has_none(tmp_path):
  assert tokenization.load(tmp_path) is None


@pytest.mark.parametrize(
  'name, text, message',
  [
    ('tokenizer.json', '{"model"', 'tokenizer.json is not readable'),
    ('tokenizer_config.json', '{', 'tokenizer_config.json is not readable'),
    ('tokenizer_config.json', '{"eos_token": "<eos>"}', "'<eos>'"),
    ('generation_config.json', '{"eos_token_id": 261}', '261.*below 261'),
    ('generation_config.json', '{"eos_token_id": ["a"]}', 'end token a'),
  ],
)
def test_a_broken_tokenizer_file_is_a_user_error(name, text, message, tmp_path):
  (write_hf(tmp_path) / name).write_text(text)
  with pytest.raises(errors.UserError, match=message):
    tokenization.load(tmp_path)


def test_a_broken_sentencepiece_file_is_a_user_error(tmp_path):
  (tmp_path / 'tokenizer.model').write_bytes(b'no model')
  with pytest.raises(errors.UserError, match='tokenizer.model is not'):
    tokenization.load(tmp_path)


GEMMA_TEMPLATE = (
  '{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m.role }}\n'
  '{{ m.content | trim }}<end_of_turn>\n{% endfor %}'
  '{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}'
)


def write_gemma_tokenizer(path):
  """A tokenizer.json of the kind of Gemma: BPE of SentencePiece with bytes for
  unknown characters, no space in front, and tokens of newlines."""
  special = '<pad> <eos> <bos> <unk> <start_of_turn> <end_of_turn>'.split()
  newlines = ['\n', '\n\n', '\n\n\n']
  pieces = [f'<0x{byte:02X}>' for byte in range(256)]
  pieces += list('▁abcdefghijklmnopqrstuvwxyzH.')
  merges = [('h', 'e'), ('l', 'l'), ('he', 'll'), ('hell', 'o'), ('▁', '▁')]
  pieces += [a + b for a, b in merges]
  vocab = {x: i for i, x in enumerate([*special, *newlines, *pieces])}
  bpe = tokenizers.models.BPE(
    vocab, merges, unk_token='<unk>', byte_fallback=True, fuse_unk=True
  )
  backend = tokenizers.Tokenizer(bpe)
  backend.normalizer = tokenizers.normalizers.Replace(' ', '▁')
  backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(
    ' ', 'merged_with_previous'
  )
  backend.decoder = tokenizers.decoders.Sequence(
    [
      tokenizers.decoders.Replace('▁', ' '),
      tokenizers.decoders.ByteFallback(),
      tokenizers.decoders.Fuse(),
    ]
  )
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single='<bos> $A', special_tokens=[('<bos>', vocab['<bos>'])]
  )
  for texts, is_special in (special, True), (newlines, False):
    options = dict(normalized=False, special=is_special)
    backend.add_tokens([tokenizers.AddedToken(t, **options) for t in texts])
  backend.save(str(path / 'tokenizer.json'))
  config = dict(
    bos_token='<bos>', eos_token='<eos>', chat_template=GEMMA_TEMPLATE
  )
  (path / 'tokenizer_config.json').write_text(json.dumps(config))
  ends = dict(eos_token_id=[vocab['<eos>'], vocab['<end_of_turn>']])
  (path / 'generation_config.json').write_text(json.dumps(ends))


def test_a_tokenizer_of_gemma_keeps_spaces_newlines_and_unknown_bytes(tmp_path):
  write_gemma_tokenizer(tmp_path)
  tokenizer = tokenization.load(tmp_path)
  for text in ('hello  a.\n\nHello', '  你 🙂 é\n', '\t\n x\n\n\n\ny', ''):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    # Pieces decode on their own, as far as characters are whole.
    parts = [tokenizer.decode([i]) for i in ids]
    assert '�' in ''.join(parts) or ''.join(parts) == text
  assert tokenizer.encode('\n\nhello') == [7, tokenizer.encode('hello')[0]]
  assert tokenizer.eos_ids == (1, 5)
  tokenizer.save(tmp_path)
  assert tokenization.load(tmp_path).encode('é a') == tokenizer.encode('é a')


def test_a_template_that_begins_with_bos_does_not_double_it(tmp_path):
  write_gemma_tokenizer(tmp_path)
  tokenizer = tokenization.load(tmp_path)
  assert tokenizer.prefix == '<bos>'
  messages = [dict(role='user', content='hello\n')]
  text = templates.with_prefix(tokenizer, tokenizer.chat(messages))
  turn = '<start_of_turn>user\nhello<end_of_turn>\n<start_of_turn>model\n'
  assert text == '<bos>' + turn
  assert tokenizer.encode(text).count(2) == 1
