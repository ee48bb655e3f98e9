"""GGUF files, written as llama.cpp's converter writes them."""

import json
import math

import gguf
import numpy as np
import pytest
import tokenizers
import toy_pretrained
from golden import make_convert
from tokenizers import pre_tokenizers

from r1jax import errors
from r1jax.checkpoints import gguf_file, pretrained, tokenization
from r1jax.models import rope

TEXTS = (
  "we'll add  1234567 and WE'RE\n\n 12, 你好 🙂 é\r\n  <|user|>x²<|end|>",
  '',
  '   \n 7',
)
LEVEL = pre_tokenizers.ByteLevel(add_prefix_space=False)


def write(
  path,
  family,
  tokenizer=(),
  tensors=(),
  norm=None,
  rope_factor=None,
  **changes,
):
  """The golden checkpoint of a family; `tokenizer` has tokenizer keys."""
  entry = toy_pretrained.GOLDEN[family]
  config = entry['config'] | changes
  arch, heads = config['model_type'], config['num_attention_heads']
  key_heads = config['num_key_value_heads']
  writer = gguf.GGUFWriter(path, arch)
  writer.add_block_count(config['num_hidden_layers'])
  writer.add_context_length(config['max_position_embeddings'])
  writer.add_embedding_length(config['hidden_size'])
  writer.add_feed_forward_length(config['intermediate_size'])
  writer.add_head_count(heads)
  writer.add_head_count_kv(key_heads)
  if 'head_dim' in config:
    writer.add_key_length(config['head_dim'])
  writer.add_layer_norm_rms_eps(config['rms_norm_eps'])
  writer.add_rope_freq_base(config['rope_parameters']['rope_theta'])
  if rope_factor:
    writer.add_rope_scaling_factor(rope_factor)
  for key, value in dict(tokenizer).items():
    add = writer.add_array if isinstance(value, list) else writer.add_string
    add = writer.add_uint32 if isinstance(value, int) else add
    add(f'tokenizer.{key}', value)
  names = gguf.get_tensor_name_map(
    next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == arch), 3
  )
  weights = make_convert.weights(entry['shapes'])
  if norm is not None:
    weights['model.norm.weight'] = norm
  for name, array in weights.items():
    if arch == 'llama' and ('q_proj' in name or 'k_proj' in name):
      number = heads if 'q_proj' in name else key_heads
      halves = array.reshape(number, 2, -1, array.shape[1])
      array = halves.swapaxes(1, 2).reshape(array.shape)
    full = names.get_name(name, try_suffixes=('.weight', '.bias'))
    writer.add_tensor(full, np.ascontiguousarray(array))
  for name, array in dict(tensors).items():
    writer.add_tensor(name, array)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def bpe_tokenizer(pre):
  """(a tokenizer trained on a line, the same as GGUF keys)."""
  tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
  tokenizer.pre_tokenizer = LEVEL
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=290,
    special_tokens=['<|end|>', '<|user|>'],
    initial_alphabet=LEVEL.alphabet(),
    show_progress=False,
  )
  tokenizer.train_from_iterator(["we'll add  1234567 and 1234567"] * 9, trainer)
  vocab = tokenizer.get_vocab()
  merges = json.loads(tokenizer.to_str())['model']['merges']
  return tokenizer, {
    'ggml.model': 'gpt2',
    'ggml.pre': pre,
    'ggml.tokens': [*sorted(vocab, key=vocab.get), '[PAD]'],
    'ggml.token_type': [3, 3] + [1] * (len(vocab) - 2) + [5],
    'ggml.merges': [' '.join(pair) for pair in merges],
    'ggml.bos_token_id': 1,
    'ggml.eos_token_id': 0,
    'ggml.eot_token_id': 1,
    'chat_template': '{{ bos_token }}{{ messages[0].content }}',
  }


@pytest.mark.parametrize('family', ['llama_tied', 'qwen2', 'qwen3'])
def test_a_gguf_file_loads_like_a_directory_with_the_same_weights(
  family, tmp_path
):
  params, cfg, tokenizer = pretrained.load(
    write(tmp_path / 'model.gguf', family)
  )
  directory = toy_pretrained.write_directory(tmp_path / 'model', family)
  want_params, want_cfg, _ = pretrained.load(directory)
  toy_pretrained.assert_same_tree(params, want_params)
  assert (cfg, tokenizer) == (want_cfg, None)


def test_llama3_scaling_follows_from_the_rope_factors(tmp_path):
  settings = dict(rope_parameters=dict(rope_theta=640000.0))
  want = rope.Llama3Scaling(32.0, 1.0, 4.0, 8192)

  def load(factors):
    tensors = {'rope_freqs.weight': np.array(factors, np.float32)}
    path = write(tmp_path / 'a.gguf', 'llama3', tensors=tensors, **settings)
    return pretrained.load(path)[1].kinds[0].rope.scaling

  # Wavelengths 6, 178, 5027 and 142172: kept below 2048, stretched beyond
  # 8192, in between a mixture.
  smooth = (8192 / (2 * math.pi * 800) - 1) / 3
  between = 1 / ((1 - smooth) / 32 + smooth)
  assert load([1, 1, between, 32]) == want
  with pytest.raises(errors.UserError, match='rope factors'):
    load([1, 1, 2 * between, 32])


@pytest.mark.parametrize('pre', ['smollm', 'llama-bpe', 'qwen2'])
def test_the_tokenizer_of_a_gguf_file_is_exact_and_survives_save(pre, tmp_path):
  path = write(tmp_path / 'a.gguf', 'llama_tied', bpe_tokenizer(pre)[1])
  with pytest.raises(errors.UserError, match='ids, its model only 61'):
    pretrained.load(path)
  tokenizer = gguf_file.GgufReader(path).tokenizer()
  assert tokenizer.eos_ids == (0, 1)
  assert tokenizer.backend.token_to_id('[PAD]') is None  # unused
  assert tokenizer.prefix == ('<|user|>' if pre == 'llama-bpe' else '')
  assert tokenizer.chat([dict(content='hi')]) == '<|user|>hi'
  for text in TEXTS:
    assert tokenizer.decode(tokenizer.encode(text)) == text
  tokenizer.save(tmp_path)
  loaded = tokenization.load(tmp_path)
  assert [loaded.encode(t) for t in TEXTS] == [
    tokenizer.encode(t) for t in TEXTS
  ]
  assert loaded.prefix == tokenizer.prefix


def test_each_kind_of_tokenizer_splits_digits_in_its_own_way(tmp_path):
  splits = {}
  for pre in ('smollm', 'llama-bpe', 'qwen2'):
    path = write(tmp_path / 'a.gguf', 'llama_tied', bpe_tokenizer(pre)[1])
    split = gguf_file.GgufReader(path).tokenizer().backend.pre_tokenizer
    pieces = split.pre_tokenize_str("a  12345'S\n\n6")
    splits[pre] = [piece for piece, _ in pieces]
  assert splits == {
    'smollm': ['a', 'ĠĠ', *'12345', "'", 'S', 'ĊĊ', '6'],
    'llama-bpe': ['a', 'Ġ', 'Ġ', '123', '45', "'S", 'ĊĊ', '6'],
    'qwen2': ['a', 'Ġ', 'Ġ', *'12345', "'S", 'ĊĊ', '6'],
  }


@pytest.mark.parametrize(
  'change, message',
  [
    ({'ggml.model': 'llama'}, "kind 'llama', 'smollm'"),
    ({'ggml.pre': 'jais'}, "kind 'gpt2', 'jais'"),
    ({'ggml.token_type': [1, 1]}, 'lists disagree'),
    ({'ggml.merges': ['no such']}, 'lists disagree'),
    ({'ggml.eos_token_id': 5000}, 'lists disagree'),
  ],
)
def test_an_unsupported_tokenizer_is_a_user_error(change, message, tmp_path):
  tokenizer = bpe_tokenizer('smollm')[1] | change
  path = write(tmp_path / 'a.gguf', 'llama_tied', tokenizer)
  with pytest.raises(errors.UserError, match=message):
    pretrained.load(path)


def test_a_damaged_or_unsupported_gguf_file_is_a_user_error(tmp_path):
  path = write(tmp_path / 'a.gguf', 'qwen2', bpe_tokenizer('qwen2')[1])
  data = path.read_bytes()
  for size in (0, 3, 20, 300, len(data) // 2, len(data) - 100):
    path.write_bytes(data[:size])
    with pytest.raises(errors.UserError, match='not a complete GGUF file'):
      pretrained.load(path)
  path.write_bytes(data.replace(b'qwen2', b'qwen9'))
  with pytest.raises(errors.UserError, match="a 'qwen9' model"):
    pretrained.load(path)
  path.write_bytes(data.replace(b'block_count', b'block_c0unt'))
  with pytest.raises(errors.UserError, match='block_count is None'):
    pretrained.load(path)
  data = write(path, 'qwen2').read_bytes()
  path.write_bytes(data.replace(b'blk.1.attn_q.bias', b'blk.1.attn_x.bias'))
  with pytest.raises(errors.UserError, match='lacks.*layers.1.*q_proj.bias'):
    pretrained.load(path)


def test_weights_of_a_gguf_file_that_are_not_finite_are_refused(tmp_path):
  for value in np.nan, np.inf:
    norm = np.array([1, value] + [1] * 30, np.float32)
    path = write(tmp_path / 'a.gguf', 'qwen2', norm=norm)
    with pytest.raises(errors.UserError, match='1 of 32 numbers of model.norm'):
      pretrained.load(path)


def test_a_scaled_rotary_embedding_without_a_type_is_refused(tmp_path):
  path = write(tmp_path / 'a.gguf', 'qwen2', rope_factor=4.0)
  with pytest.raises(errors.UserError, match='scaled .factor 4.0.'):
    pretrained.load(path)
