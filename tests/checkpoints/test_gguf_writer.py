"""GGUF files that r1jax writes, read again. tests/users opens them with
llama.cpp."""

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_pretrained
import toy_tokenizers
from tokenizers import pre_tokenizers

from r1jax import errors
from r1jax.checkpoints import (
  gguf_metadata,
  gguf_tokenizer,
  gguf_vocabulary,
  gguf_writer,
  pretrained,
  tokenization,
)

# What files of these architectures say without a key, or cannot say otherwise.
CHANGES = dict(
  llama3=dict(rope_parameters=dict(rope_type='default', rope_theta=500.0)),
  mistral=dict(sliding_window=None),
  gemma2=dict(query_pre_attn_scalar=10),
  gemma3=dict(query_pre_attn_scalar=10, layer_types=['sliding_attention'] * 3),
)
TEXTS = "we'll add  1234567\n\n 12, 你好 🙂<|user|>x²<|end|>", '   \n 7'


def model(tmp_path, family, **changes):
  """(params, cfg) of a golden checkpoint."""
  changes = CHANGES.get(family, {}) | changes
  path = toy_pretrained.write_directory(
    tmp_path / f'{family}-hf', family, **changes
  )
  params, cfg, _ = pretrained.load(path)
  return params, cfg


@pytest.mark.parametrize(
  'family',
  ['llama3', 'llama_tied', 'qwen2', 'qwen3', 'qwen3_moe', 'mistral']
  + ['gemma2', 'gemma3'],
)
def test_a_file_holds_the_same_model(family, tmp_path):
  params, cfg = model(tmp_path, family)
  file = tmp_path / 'a.gguf'
  gguf_writer.save(file, params, cfg, None, 'float32')
  again, again_cfg, _ = pretrained.load(file)
  # A file of Mistral is one of Llama; Gemma's have 1 + w, rounded.
  assert again_cfg == cfg or family == 'mistral'
  atol = 2e-7 if family.startswith('gemma') else 0
  assert jax.tree.structure(again) == jax.tree.structure(params)
  for a, b in zip(*map(jax.tree.leaves, (again, params))):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_matrices_are_rounded_and_vectors_are_not(dtype, tmp_path):
  params, cfg = model(tmp_path, 'qwen3')
  file = tmp_path / 'a.gguf'
  gguf_writer.save(file, params, cfg, None, dtype)
  again, again_cfg, _ = pretrained.load(file)
  want = np.asarray(params['embed']).astype(jnp.dtype(dtype))
  np.testing.assert_array_equal(again['embed'], want.astype(np.float32))
  np.testing.assert_array_equal(again['norm'], params['norm'])
  kinds = {x.name: x.tensor_type for x in gguf.GGUFReader(file).tensors}
  assert kinds['blk.0.attn_q.weight'] == gguf_writer.KINDS[dtype].ggml
  assert kinds['blk.0.attn_q_norm.weight'] == gguf_writer.KINDS['float32'].ggml


def test_a_model_in_parts_is_opened_by_the_first(tmp_path):
  params, cfg = model(tmp_path, 'qwen2')
  path = tmp_path / 'a.gguf'
  gguf_writer.save(path, params, cfg, None, 'float32', part_bytes=9000)
  parts = gguf_writer.paths(path)
  assert len(parts) > 2 and parts[0].name.startswith('a-00001-of-')
  again, _, _ = pretrained.load(parts[0])
  toy_pretrained.assert_same_tree(again, jax.tree.map(np.asarray, params))


def test_the_factors_of_llama_3_are_a_tensor(tmp_path):
  scaling = dict(
    rope_type='llama3',
    rope_theta=5e5,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
  )
  params, cfg = model(tmp_path, 'llama3', rope_parameters=scaling)
  gguf_writer.save(tmp_path / 'a.gguf', params, cfg, None, 'float32')
  _, again, _ = pretrained.load(tmp_path / 'a.gguf')
  assert again == cfg


@pytest.mark.parametrize(
  'family, changes, message',
  [
    ('olmo2', {}, 'a Olmo2 model, .* Qwen3, Gemma2'),
    ('mistral', dict(sliding_window=9), 'has sliding_window 9'),
    ('qwen2_window', {}, 'use_sliding_window True .* --format hf'),
    ('gemma2', dict(query_pre_attn_scalar=14), 'query_pre_attn_scalar 14'),
  ],
)
def test_what_a_file_cannot_say_is_refused(family, changes, message, tmp_path):
  _, cfg = model(tmp_path, family, **changes)
  with pytest.raises(errors.UserError, match=message):
    gguf_metadata.metadata(cfg)


def test_numbers_beyond_float16_are_refused(tmp_path):
  params, cfg = model(tmp_path, 'qwen2')
  params['embed'] = np.full_like(params['embed'], 1e6)
  with pytest.raises(errors.UserError, match='token_embd.weight are not fin'):
    gguf_writer.save(tmp_path / 'a.gguf', params, cfg, None, 'float16')


def read(keys):
  return gguf_tokenizer.read('a.gguf', keys)


@pytest.mark.parametrize('pre', gguf_tokenizer.PRE_TOKENIZERS)
def test_the_pre_tokenizer_is_found_by_how_it_divides_texts(pre):
  tokenizer = toy_tokenizers.byte_level(pre, chat_template='{{ messages }}')
  keys = gguf_vocabulary.metadata(tokenizer, 300)
  same = {'deepseek-r1-qwen': 'qwen2'}  # two names of one
  assert keys['tokenizer.ggml.pre'] == same.get(pre, pre)
  assert len(keys['tokenizer.ggml.tokens']) == 300
  again = read(keys)
  assert again.prefix == tokenizer.prefix and again.eos_ids == (0,)
  assert again.settings.chat_template == '{{ messages }}'
  for text in TEXTS:
    assert again.encode(text) == tokenizer.encode(text)
    assert again.decode(again.encode(text)) == text


def test_a_tokenizer_of_bytes_has_a_merge_that_applies_to_no_text():
  tokenizer = tokenization.ByteTokenizer()
  keys = gguf_vocabulary.metadata(tokenizer, tokenizer.vocab_size)
  assert keys['tokenizer.ggml.merges'] == ['ÿ ÿ']
  for text in (*TEXTS, '<think>ÿÿ</think>'):
    assert read(keys).encode(text) == tokenizer.encode(text)


def test_a_tokenizer_that_divides_texts_in_another_way_is_refused():
  tokenizer = toy_tokenizers.byte_level('qwen2')
  tokenizer.backend.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(False)]
  )
  with pytest.raises(errors.UserError, match='divides texts in a way'):
    gguf_vocabulary.metadata(tokenizer, 300)


@pytest.mark.parametrize('has_prefix', [True, False])
def test_sentencepiece_has_its_ids(has_prefix, tmp_path):
  tokenizer = toy_tokenizers.sentencepiece(tmp_path, has_prefix)
  keys = gguf_vocabulary.metadata(tokenizer, 296)
  assert keys['tokenizer.ggml.add_space_prefix'] == has_prefix
  assert keys['tokenizer.ggml.token_type'][3:5] == [6, 6]
  for text in ('7 plus 13 is 20.', ' plus  é 1 你<|user|>7'):
    assert read(keys).encode(text) == tokenizer.encode(text)
