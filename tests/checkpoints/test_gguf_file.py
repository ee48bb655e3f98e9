"""GGUF files, written as llama.cpp's converter writes them."""

import json
import math

import gguf
import jax
import numpy as np
import pytest
import safetensors.numpy
import sentencepiece
import tokenizers
import toy_deepseek
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


def write_file(path, arch, keys, tensors, raw=()):
  """A file with these keys, of which those without a dot are of the
  architecture, and tensors by Hugging Face's name; `raw` are quantized."""
  writer = gguf.GGUFWriter(path, arch)
  for key, value in keys.items():
    add = {int: writer.add_uint32, float: writer.add_float32}
    add |= {str: writer.add_string, bool: writer.add_bool}
    add |= {list: writer.add_array}
    full = (
      key if key.split('.')[0] in ('split', 'tokenizer') else f'{arch}.{key}'
    )
    add[type(value)](full, value)
  for name, array in tensors.items():
    writer.add_tensor(name, np.ascontiguousarray(array))
  for name, (kind, blocks) in dict(raw).items():
    writer.add_tensor(name, blocks, raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def base_keys(config):
  """The keys that files of all architectures have."""
  return {
    'block_count': config['num_hidden_layers'],
    'context_length': config['max_position_embeddings'],
    'embedding_length': config['hidden_size'],
    'feed_forward_length': config['intermediate_size'],
    'attention.head_count': config['num_attention_heads'],
    'attention.head_count_kv': config['num_key_value_heads'],
    'attention.layer_norm_rms_epsilon': config['rms_norm_eps'],
  }


def gguf_names(arrays, arch, **own):
  """{name of llama.cpp: array}; `own` are the architecture's names of a part
  of Hugging Face's names. The experts of a layer are one tensor."""
  numbers = {name: a for a, name in gguf.MODEL_ARCH_NAMES.items()}
  names = gguf.get_tensor_name_map(numbers[arch], 9)
  tensors, experts = {}, {}
  for name, array in arrays.items():
    parts = name.split('.')
    if 'experts' in parts:
      kind = f'ffn_{parts[-2].removesuffix("_proj")}_exps'
      experts.setdefault(f'blk.{parts[2]}.{kind}.weight', []).append(
        (int(parts[5]), array)
      )
    elif parts[-1] == 'e_score_correction_bias':
      tensors[f'blk.{parts[2]}.exp_probs_b.bias'] = array
    else:
      full = names.get_name(name, try_suffixes=('.weight', '.bias'))
      tensors[full] = array
  for name, pairs in experts.items():
    pairs.sort(key=lambda pair: pair[0])
    tensors[name] = np.stack([array for _, array in pairs])
  return tensors


def assert_same_model(file, directory, atol=0.0):
  params, cfg, _ = pretrained.load(file)
  want, want_cfg, _ = pretrained.load(directory)
  assert cfg == want_cfg
  assert jax.tree.structure(params) == jax.tree.structure(want)
  for a, b in zip(*map(jax.tree.leaves, (params, want)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize('family', ['gemma2', 'gemma3'])
def test_norms_of_gemma_are_stored_with_1_added(family, tmp_path):
  """Exact up to the rounding of 1 + w in float32."""
  types = ['sliding_attention', 'sliding_attention', 'full_attention']
  changes = dict(query_pre_attn_scalar=10)
  if family == 'gemma3':
    changes |= dict(layer_types=types)
  directory = toy_pretrained.write_directory(
    tmp_path / 'model', family, **changes
  )
  entry = toy_pretrained.GOLDEN[family]
  config, arrays = entry['config'], make_convert.weights(entry['shapes'])
  keys = base_keys(config) | {
    'attention.key_length': config['head_dim'],
    'attention.sliding_window': config['sliding_window'],
  }
  if family == 'gemma2':
    keys |= {
      'attn_logit_softcapping': config['attn_logit_softcapping'],
      'final_logit_softcapping': config['final_logit_softcapping'],
    }
  else:
    keys |= {
      'rope.freq_base': 800.0,
      'rope.freq_base_swa': 40.0,
      'rope.scaling.type': 'linear',
      'rope.scaling.factor': 4.0,
      'attention.sliding_window_pattern': [x != types[-1] for x in types],
    }
  tensors = {
    name: array + np.float32('norm' in name)
    for name, array in gguf_names(arrays, family).items()
  }
  file = write_file(tmp_path / 'a.gguf', family, keys, tensors)
  assert_same_model(file, directory, atol=2e-7)


def test_the_experts_of_a_layer_are_one_tensor(tmp_path):
  directory = toy_pretrained.write_directory(tmp_path / 'model', 'qwen3_moe')
  entry = toy_pretrained.GOLDEN['qwen3_moe']
  config, arrays = entry['config'], make_convert.weights(entry['shapes'])
  experts = config.get('num_experts') or config['num_local_experts']
  keys = base_keys(config) | {
    'attention.key_length': config['head_dim'],
    'rope.freq_base': config['rope_parameters']['rope_theta'],
    'expert_count': experts,
    'expert_used_count': config['num_experts_per_tok'],
    'expert_feed_forward_length': config['moe_intermediate_size'],
  }
  tensors = gguf_names(arrays, 'qwen3moe')
  file = write_file(tmp_path / 'a.gguf', 'qwen3moe', keys, tensors)
  assert_same_model(file, directory)


def deepseek(tmp_path, kind, is_new):
  """(keys, tensors) of a file, and the directory of the same model. Newer files
  have kv_b as two tensors."""
  directory = toy_deepseek.write_directory(
    tmp_path / 'model', kind, num_nextn_predict_layers=0
  )
  arrays = safetensors.numpy.load_file(directory / 'model.safetensors')
  config = toy_deepseek.GOLDEN[kind]['config']
  nope, value = config['qk_nope_head_dim'], config['v_head_dim']
  rotated, rank = config['qk_rope_head_dim'], config['kv_lora_rank']
  scaling = config['rope_parameters']
  keys = base_keys(config) | {
    'attention.kv_lora_rank': rank,
    'attention.key_length': nope + rotated,
    'attention.value_length': value,
    'rope.dimension_count': rotated,
    'rope.freq_base': scaling['rope_theta'],
    'leading_dense_block_count': config['first_k_dense_replace'],
    'expert_count': config['n_routed_experts'],
    'expert_used_count': config['num_experts_per_tok'],
    'expert_shared_count': config['n_shared_experts'],
    'expert_feed_forward_length': config['moe_intermediate_size'],
    'expert_weights_scale': config['routed_scaling_factor'],
    'expert_weights_norm': config['norm_topk_prob'],
    'expert_gating_func': 1 + (config['model_type'] == 'deepseek_v3'),
    'expert_group_count': config['n_group'],
    'expert_group_used_count': config['topk_group'],
  }
  if config['q_lora_rank']:
    keys['attention.q_lora_rank'] = config['q_lora_rank']
  if scaling['rope_type'] == 'yarn':
    keys |= {
      'rope.scaling.type': 'yarn',
      'rope.scaling.factor': scaling['factor'],
      'rope.scaling.original_context_length': 32,
      'rope.scaling.yarn_beta_fast': float(scaling['beta_fast']),
      'rope.scaling.yarn_log_multiplier': 0.1 * scaling['mscale_all_dim'],
    }
  tensors = gguf_names(arrays, 'deepseek2')
  if is_new:
    keys |= {
      'attention.head_count_kv': 1,
      'attention.key_length': rank + rotated,
      'attention.value_length': rank,
      'attention.key_length_mla': nope + rotated,
      'attention.value_length_mla': value,
    }
    for name in [name for name in tensors if 'attn_kv_b' in name]:
      heads = tensors.pop(name).reshape(-1, nope + value, rank)
      k_b, v_b = heads[:, :nope].swapaxes(1, 2), heads[:, nope:]
      tensors[name.replace('kv_b', 'k_b')] = k_b
      tensors[name.replace('kv_b', 'v_b')] = v_b
  return keys, tensors, directory


@pytest.mark.parametrize(
  'kind, is_new', [('v2', False), ('moonlight', True), ('v2_lite', True)]
)
def test_latent_attention_is_read_in_the_old_and_the_new_form(
  kind, is_new, tmp_path
):
  keys, tensors, directory = deepseek(tmp_path, kind, is_new)
  file = write_file(tmp_path / 'a.gguf', 'deepseek2', keys, tensors)
  assert_same_model(file, directory)


def test_the_parts_of_a_model_are_read_beside_the_first(tmp_path):
  keys, tensors, directory = deepseek(tmp_path, 'moonlight', True)
  names = list(tensors)
  first = tmp_path / 'm-00001-of-00003.gguf'
  split = {'split.count': 3, 'split.tensors.count': len(names)}
  groups = names[:5], names[5:11], names[11:]
  for n, group in enumerate(groups):
    own = keys | split if n == 0 else split
    path = tmp_path / f'm-{n + 1:05}-of-00003.gguf'
    part = {name: tensors[name] for name in group}
    write_file(path, 'deepseek2', own | {'split.no': n}, part)
  assert_same_model(first, directory)
  last = tmp_path / 'm-00003-of-00003.gguf'
  with pytest.raises(errors.UserError, match='name the first one.*00001-of-'):
    pretrained.load(last)
  last.rename(tmp_path / 'm.gguf')
  with pytest.raises(errors.UserError, match='m-00003-of-00003.gguf is miss'):
    pretrained.load(first)
  (tmp_path / 'm-00002-of-00003.gguf').rename(last)
  write_file(tmp_path / 'm-00002-of-00003.gguf', 'deepseek2', split, {})
  with pytest.raises(errors.UserError, match='parts are not of one model'):
    pretrained.load(first)


@pytest.mark.parametrize('family', ['qwen2', 'qwen3'])
def test_yarn_is_read_with_its_attention_factor(family, tmp_path):
  entry = toy_pretrained.GOLDEN[family]
  arrays = make_convert.weights(entry['shapes'])
  keys = base_keys(entry['config']) | {
    'rope.freq_base': 1e6,
    'rope.scaling.type': 'yarn',
    'rope.scaling.factor': 4.0,
    'rope.scaling.original_context_length': 32,
    'rope.scaling.attn_factor': 0.8782488562869419,
  }
  if 'head_dim' in entry['config']:
    keys['attention.key_length'] = entry['config']['head_dim']
  file = write_file(
    tmp_path / 'a.gguf', family, keys, gguf_names(arrays, family)
  )
  scaling = pretrained.load(file)[1].rope.scaling
  assert (scaling.factor, scaling.original_max_position_embeddings) == (4, 32)
  assert scaling.attention == pytest.approx(1, abs=1e-6)


def decode_q6_k(block):
  """The 256 numbers of a Q6_K block, one by one: d scale (q - 32), where q has
  4 bits in the first 128 bytes and 2 in the next 64."""
  low, high = block[:128], block[128:192]
  scale = block[192:208].view(np.int8)
  (d,) = block[208:210].view(np.float16)
  out = []
  for i in range(256):
    half, i_half = divmod(i, 128)
    byte = low[64 * half + i_half % 64]
    four = byte >> 4 if i_half >= 64 else byte & 15
    two = high[32 * half + i_half % 32] >> (2 * (i_half // 32)) & 3
    q = int(four) + 16 * int(two) - 32
    out.append(float(d) * int(scale[i // 16]) * q)
  return out


def decode_q4_k(block):
  """The 256 numbers of a Q4_K block: d scale q - d_min min, with 6 bits for the
  scale and min of each 32 numbers."""
  d, d_min = block[:4].view(np.float16)
  packed, quants = block[4:16].astype(int), block[16:]
  out = []
  for i in range(256):
    j = i // 32
    if j < 4:
      scale, low = packed[j] & 63, packed[j + 4] & 63
    else:
      scale = packed[j + 4] & 15 | packed[j - 4] >> 6 << 4
      low = packed[j + 4] >> 4 | packed[j] >> 6 << 4
    byte = int(quants[32 * (j // 2) + i % 32])
    q = byte >> 4 if j % 2 else byte & 15
    out.append(float(d) * scale * q - float(d_min) * low)
  return out


def test_k_quants_are_dequantized(tmp_path):
  random, kinds = np.random.default_rng(0), gguf.GGMLQuantizationType
  entry = toy_pretrained.GOLDEN['qwen2']
  arrays = gguf_names(make_convert.weights(entry['shapes']), 'qwen2')
  raw = {}
  for name, kind, size in ('x', kinds.Q4_K, 144), ('y', kinds.Q6_K, 210):
    blocks = random.integers(0, 256, (3, 2, size)).astype(np.uint8)
    scales = np.float16([0.125, 0.0625]).view(np.uint8)
    if name == 'x':
      blocks[..., :4] = scales
    else:
      blocks[..., 208:] = scales[:2]
    raw[f'{name}.weight'] = kind, blocks.reshape(3, -1)
  keys = base_keys(entry['config'])
  file = write_file(tmp_path / 'a.gguf', 'qwen2', keys, arrays, raw)
  reader = gguf_file.GgufReader(file)
  for name, decode in ('x', decode_q4_k), ('y', decode_q6_k):
    blocks = raw[f'{name}.weight'][1].reshape(6, -1)
    want = np.array([decode(block) for block in blocks]).reshape(3, 512)
    assert reader.shapes[f'{name}.weight'] == (3, 512)
    got = reader.read(f'{name}.weight')
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert np.abs(want).max() > 100


def test_a_model_with_experts_in_the_llama_architecture_is_named(tmp_path):
  entry = toy_pretrained.GOLDEN['llama_tied']
  arrays = make_convert.weights(entry['shapes'])
  keys = base_keys(entry['config']) | {'expert_count': 8}
  file = write_file(
    tmp_path / 'a.gguf', 'llama', keys, gguf_names(arrays, 'llama')
  )
  with pytest.raises(errors.UserError, match="'llama' model with experts"):
    pretrained.load(file)


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


@pytest.mark.parametrize(
  'pre', ['smollm', 'llama-bpe', 'qwen2', 'deepseek-r1-qwen', 'deepseek-v3']
)
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
  for pre in ('smollm', 'llama-bpe', 'qwen2', 'deepseek-v3'):
    path = write(tmp_path / 'a.gguf', 'llama_tied', bpe_tokenizer(pre)[1])
    split = gguf_file.GgufReader(path).tokenizer().backend.pre_tokenizer
    pieces = split.pre_tokenize_str("a  12345'S\n\n6")
    splits[pre] = [piece for piece, _ in pieces]
  assert splits == {
    'smollm': ['a', 'ĠĠ', *'12345', "'", 'S', 'ĊĊ', '6'],
    'llama-bpe': ['a', 'Ġ', 'Ġ', '123', '45', "'S", 'ĊĊ', '6'],
    'qwen2': ['a', 'Ġ', 'Ġ', *'12345', "'S", 'ĊĊ', '6'],
    'deepseek-v3': ['a', 'ĠĠ', '123', '45', "'S", 'ĊĊ', '6'],
  }


@pytest.mark.parametrize('has_prefix', [False, True])
def test_a_tokenizer_of_sentencepiece_gives_its_ids(has_prefix, tmp_path):
  """As of Gemma, which has pieces of spaces, and as of Llama 2."""
  lines = (f'{a} plus {b} is {a + b}.' for a in range(20) for b in range(20))
  (tmp_path / 'text.txt').write_text('\n'.join(lines))
  sentencepiece.SentencePieceTrainer.train(
    input=str(tmp_path / 'text.txt'),
    model_prefix=str(tmp_path / 'spm'),
    vocab_size=290,
    user_defined_symbols=['<turn>', 'x' if has_prefix else '▁▁▁'],
    model_type='bpe',
    byte_fallback=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    add_dummy_prefix=has_prefix,
    minloglevel=2,
  )
  sp = sentencepiece.SentencePieceProcessor(str(tmp_path / 'spm.model'))
  pieces = range(sp.vocab_size())
  types = [6 if sp.is_byte(i) else 1 for i in pieces]
  types[:5] = [2, 3, 3, 4, 4]  # <unk> <s> </s>, then those of the user
  keys = {
    'ggml.model': 'llama',
    'ggml.tokens': [sp.id_to_piece(i) for i in pieces],
    'ggml.scores': [sp.get_score(i) for i in pieces],
    'ggml.token_type': types,
    'ggml.unknown_token_id': 0,
    'ggml.bos_token_id': 1,
    'ggml.eos_token_id': 2,
    'ggml.add_space_prefix': has_prefix,
  }
  keys = {f'tokenizer.{key}': value for key, value in keys.items()}
  entry = toy_pretrained.GOLDEN['qwen2']
  tensors = gguf_names(make_convert.weights(entry['shapes']), 'qwen2')
  keys |= base_keys(entry['config'])
  file = write_file(tmp_path / 'a.gguf', 'qwen2', keys, tensors)
  tokenizer = gguf_file.GgufReader(file).tokenizer()
  assert (tokenizer.prefix, tokenizer.eos_ids) == ('<s>', (2,))
  for text in ('7 plus 13 is 20.', ' plus  é 1 你', 'a   b', ''):
    assert tokenizer.encode(text) == sp.encode(text)
    assert tokenizer.decode(sp.encode(text)) == sp.decode(sp.encode(text))
  assert tokenizer.encode('<turn>7</s>')[0] == 3


@pytest.mark.parametrize(
  'change, message',
  [
    ({'ggml.model': 'bert'}, "kind 'bert', 'smollm'"),
    ({'ggml.model': 'llama'}, 'lists disagree'),  # without scores
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


def test_a_scaled_rotary_embedding_without_a_type_is_linear(tmp_path):
  path = write(tmp_path / 'a.gguf', 'qwen2', rope_factor=4.0)
  cfg = pretrained.load(path)[1]
  assert cfg.rope == rope.Rope(10000.0, rope.LinearScaling(4.0))
