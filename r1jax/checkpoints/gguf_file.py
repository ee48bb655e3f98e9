"""A GGUF file read as if it were a Hugging Face directory: config.json's keys,
tensors by their Hugging Face names, and the tokenizer."""

import functools
import math
import re

import gguf
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from r1jax import errors

ARCHITECTURES = dict(
  llama='LlamaForCausalLM', qwen2='Qwen2ForCausalLM', qwen3='Qwen3ForCausalLM'
)
NAMES = dict(
  token_embd='model.embed_tokens',
  output_norm='model.norm',
  output='lm_head',
  attn_norm='input_layernorm',
  attn_q='self_attn.q_proj',
  attn_k='self_attn.k_proj',
  attn_v='self_attn.v_proj',
  attn_output='self_attn.o_proj',
  attn_q_norm='self_attn.q_norm',
  attn_k_norm='self_attn.k_norm',
  ffn_norm='post_attention_layernorm',
  ffn_gate='mlp.gate_proj',
  ffn_up='mlp.up_proj',
  ffn_down='mlp.down_proj',
)
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # of tokenizer.ggml.token_type
SPECIAL = dict(
  bos_token='bos', eos_token='eos', unk_token='unknown', pad_token='padding'
)
WORDS = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# Llama 3.1 to 3.3: a GGUF file has the factors that follow from these, and
# not these.
LOW_FREQ_FACTOR, HIGH_FREQ_FACTOR, ORIGINAL_MAX_LEN = 1.0, 4.0, 8192


def read(path):
  """(config, tensors, tokenizer): config.json's keys; name -> (shape, function
  to read); (tokenizers.Tokenizer, the settings beside it), or None."""
  try:
    reader = gguf.GGUFReader(path)
    metadata = {key: f.contents() for key, f in reader.fields.items()}
    found = {t.name: t for t in reader.tensors}
  except Exception as error:  # the package lets out whatever comes
    raise errors.UserError(
      f'{path} is not a whole GGUF file, download it again ({error!r})'
    ) from error
  if metadata.get('split.count', 1) > 1:
    raise errors.UserError(
      f'{path} is one part of several: join them with llama-gguf-split --merge'
    )
  config = _config(path, metadata, found)
  found.pop('rope_freqs.weight', None)
  heads = dict(
    attn_q=config['num_attention_heads'], attn_k=config['num_key_value_heads']
  )
  tensors = {}
  for name, tensor in found.items():
    block, kind, end = re.fullmatch(
      r'(blk\.\d+\.)?(.*?)(\.\w+)?', name
    ).groups()
    turned = metadata['general.architecture'] == 'llama' and kind in heads
    full = f'{block or ""}{NAMES.get(kind, kind)}{end or ""}'
    tensors[full.replace('blk.', 'model.layers.')] = (
      tuple(tensor.shape[::-1].tolist()),
      functools.partial(_array, path, tensor, heads[kind] if turned else 0),
    )
  return config, tensors, _tokenizer(path, metadata)


def _array(path, tensor, heads):
  """The tensor in float32; of a llama's queries and keys the rotary pairs,
  neighbours in the file, become halves as Hugging Face has them."""
  try:
    array = gguf.dequantize(tensor.data, tensor.tensor_type)
  except NotImplementedError as error:
    raise errors.UserError(f'{path}, {tensor.name}: {error}') from error
  if not heads:
    return array
  pairs = array.reshape(heads, -1, 2, *array.shape[1:])
  return pairs.swapaxes(1, 2).reshape(array.shape)


def _config(path, metadata, found):
  kind = metadata.get('general.architecture')
  if kind not in ARCHITECTURES:
    raise errors.UserError(
      f'{path} holds a {kind!r} model; r1jax reads {", ".join(ARCHITECTURES)}'
    )

  def value(key, default=None):
    x = metadata.get(f'{kind}.{key}', default)
    if not isinstance(x, (int, float)) or x <= 0:
      raise errors.UserError(
        f'{path}: the key {kind}.{key} is {x!r}, not a number above 0'
      )
    # 9.999999747378752e-06 is how float32 writes 1e-05.
    return float(str(np.float32(x))) if isinstance(x, float) else x

  width, heads = value('embedding_length'), value('attention.head_count')
  head_dim = value('attention.key_length', max(width // heads, 1))
  scaling = metadata.get(f'{kind}.rope.scaling.type', 'none')
  if scaling != 'none' or value('rope.dimension_count', head_dim) != head_dim:
    raise errors.UserError(
      f'{path}: rotary positions that are scaled ({scaling}) or partial are '
      'not supported'
    )
  if 'token_embd.weight' not in found:
    raise errors.UserError(f'{path} lacks the tensor token_embd.weight')
  theta = value('rope.freq_base', 10000.0)
  config = dict(
    architectures=[ARCHITECTURES[kind]],
    vocab_size=int(found['token_embd.weight'].shape[-1]),
    hidden_size=width,
    num_hidden_layers=value('block_count'),
    num_attention_heads=heads,
    num_key_value_heads=value('attention.head_count_kv', heads),
    head_dim=head_dim,
    intermediate_size=value('feed_forward_length'),
    rms_norm_eps=value('attention.layer_norm_rms_epsilon'),
    rope_theta=theta,
    max_position_embeddings=value('context_length'),
    tie_word_embeddings='output.weight' not in found,
  )
  if 'rope_freqs.weight' in found:
    factors = np.asarray(found['rope_freqs.weight'].data, np.float32)
    config['rope_scaling'] = _rope_scaling(path, factors, theta)
  return config


def _rope_scaling(path, factors, theta):
  """Llama 3's scaling, read back from the factor of each frequency."""
  factor = float(factors.max())
  freq = theta ** (-np.arange(len(factors)) / len(factors))
  turns = ORIGINAL_MAX_LEN * freq / (2 * math.pi)
  span = HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR
  smooth = np.clip((turns - LOW_FREQ_FACTOR) / span, 0, 1)
  if not np.allclose(factors, 1 / ((1 - smooth) / factor + smooth), 1e-4):
    raise errors.UserError(
      f'{path}: its rope factors are not those of Llama 3.1 to 3.3'
    )
  return dict(
    rope_type='llama3',
    factor=factor,
    low_freq_factor=LOW_FREQ_FACTOR,
    high_freq_factor=HIGH_FREQ_FACTOR,
    original_max_position_embeddings=ORIGINAL_MAX_LEN,
  )


def _words(digits):
  """Llama 3's and Qwen's cut into words; they differ in how digits group."""
  split = pre_tokenizers.Split(
    tokenizers.Regex(WORDS.replace('DIGITS', digits)), 'isolated'
  )
  level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  return pre_tokenizers.Sequence([split, level])


def _tokenizer(path, metadata):
  if 'tokenizer.ggml.model' not in metadata:
    return None

  def get(key):
    return metadata.get(f'tokenizer.ggml.{key}')

  splitters = {
    'llama-bpe': _words(r'\p{N}{1,3}'),
    'qwen2': _words(r'\p{N}'),
    'smollm': pre_tokenizers.Sequence(
      [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
      ]
    ),
  }
  kind, pre = get('model'), get('pre')
  if kind != 'gpt2' or pre not in splitters:
    raise errors.UserError(
      f'{path} has a tokenizer of kind {kind!r}, {pre!r}; r1jax reads gpt2 of '
      f'kind {", ".join(splitters)}: take the model as a Hugging Face directory'
    )
  tokens, types = get('tokens') or [], get('token_type') or []
  try:
    vocab = {t: i for i, t in enumerate(tokens) if types[i] != UNUSED}
    merges = [tuple(merge.split(' ')) for merge in get('merges')]
    bpe = models.BPE(vocab, merges, ignore_merges=pre == 'llama-bpe')
    names = {
      name: tokens[get(f'{key}_token_id')]
      for name, key in SPECIAL.items()
      if get(f'{key}_token_id') is not None
    }
  except Exception as error:  # tokenizers raises nothing narrower
    raise errors.UserError(
      f'{path}: the lists of its tokenizer do not fit together ({error!r})'
    ) from error
  backend = tokenizers.Tokenizer(bpe)
  if pre == 'qwen2':
    backend.normalizer = tokenizers.normalizers.NFC()
  backend.pre_tokenizer, backend.decoder = splitters[pre], decoders.ByteLevel()
  for kind, special in ((CONTROL, True), (USER_DEFINED, False)):
    added = [
      tokenizers.AddedToken(token, normalized=False, special=special)
      for token, i in vocab.items()
      if types[i] == kind
    ]
    backend.add_tokens(added)
  add_bos = get('add_bos_token')
  ends = (get('eos_token_id'), get('eot_token_id'))
  return backend, dict(
    names=names,
    eos_ids=tuple(i for i in ends if i is not None),
    chat_template=metadata.get('tokenizer.chat_template'),
    add_bos=pre == 'llama-bpe' if add_bos is None else add_bos,
  )
