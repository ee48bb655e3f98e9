"""Reads a GGUF file as a Hugging Face directory: the keys of config.json,
tensors by their Hugging Face names, and the tokenizer."""

import math
import pathlib
import re

import gguf
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from r1jax import errors
from r1jax.checkpoints.tokenization import HFTokenizer
from r1jax.checkpoints.tokenizer_settings import Settings
from r1jax.data.tokenizer_protocol import Tokenizer

ARCHITECTURES = 'llama', 'qwen2', 'qwen3'
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
HEADS = dict(q_proj='num_attention_heads', k_proj='num_key_value_heads')
ROPE_FACTORS = 'rope_freqs.weight'
CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # of tokenizer.ggml.token_type
SPECIAL_TOKENS = dict(
  bos_token='bos', eos_token='eos', unk_token='unknown', pad_token='padding'
)
# How Llama 3 and Qwen split text; they differ in DIGITS.
SPLIT_PATTERN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
PRE_TOKENIZERS = 'llama-bpe', 'qwen2', 'smollm'
# Of Llama 3.1 to 3.3. GGUF files have only the factors that follow from these.
LLAMA3 = dict(
  rope_type='llama3',
  low_freq_factor=1.0,
  high_freq_factor=4.0,
  original_max_position_embeddings=8192,
)


class GgufReader:
  """The model in a GGUF file. Arrays are read by `read`, not before."""

  def __init__(self, path: pathlib.Path):
    with errors.explained(f'{path} is not a complete GGUF file'):
      reader = gguf.GGUFReader(path)
      metadata = {key: f.contents() for key, f in reader.fields.items()}
      tensors = {tensor.name: tensor for tensor in reader.tensors}
    if metadata.get('split.count', 1) > 1:
      raise errors.UserError(
        f'{path} is one of several parts: join them by llama-gguf-split --merge'
      )
    self.path, self._metadata = path, metadata
    self.config = _config(path, metadata, tensors)  # the keys of config.json
    tensors.pop(ROPE_FACTORS, None)
    self._tensors = {_hf_name(name): x for name, x in tensors.items()}
    self.shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in self._tensors.items():
      self.shapes[name] = tuple(tensor.shape[::-1].tolist())

  def read(self, name: str) -> np.ndarray:
    """The array of a tensor, dequantized to float32."""
    tensor = self._tensors[name]
    with errors.explained(f'{self.path}, {name}', NotImplementedError):
      array = gguf.dequantize(tensor.data, tensor.tensor_type)
    key = HEADS.get(name.split('.')[-2])
    if self._metadata['general.architecture'] != 'llama' or key is None:
      return array
    # The two of a rotary pair are neighbours in the file; Hugging Face has the
    # first of all pairs before the second.
    pairs = array.reshape(self.config[key], -1, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)

  def tokenizer(self) -> Tokenizer | None:
    """The tokenizer; None if the file has none."""

    def get(key, default=None):
      return self._metadata.get(f'tokenizer.ggml.{key}', default)

    model, pre = get('model'), get('pre')
    if model is None:
      return None
    if model != 'gpt2' or pre not in PRE_TOKENIZERS:
      raise errors.UserError(
        f'{self.path}: tokenizer of kind {model!r}, {pre!r}; r1jax reads gpt2, '
        f'{", ".join(PRE_TOKENIZERS)}: use the Hugging Face directory instead'
      )
    tokens, types = get('tokens', []), get('token_type', [])
    special_tokens = {}
    with errors.explained(f"{self.path}: the tokenizer's lists disagree"):
      vocab = {t: i for i, t in enumerate(tokens) if types[i] != UNUSED}
      merges = [tuple(merge.split(' ')) for merge in get('merges')]
      bpe = models.BPE(vocab, merges, ignore_merges=pre == 'llama-bpe')
      for name, key in SPECIAL_TOKENS.items():
        if get(f'{key}_token_id') is not None:
          special_tokens[name] = tokens[get(f'{key}_token_id')]
    backend = tokenizers.Tokenizer(bpe)
    if pre == 'qwen2':
      backend.normalizer = tokenizers.normalizers.NFC()
    split: pre_tokenizers.PreTokenizer
    if pre == 'smollm':
      split = pre_tokenizers.Digits(individual_digits=True)
    else:
      digits = r'\p{N}{1,3}' if pre == 'llama-bpe' else r'\p{N}'
      pattern = tokenizers.Regex(SPLIT_PATTERN.replace('DIGITS', digits))
      split = pre_tokenizers.Split(pattern, 'isolated')
    to_bytes = pre_tokenizers.ByteLevel(False, use_regex=pre == 'smollm')
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    backend.decoder = decoders.ByteLevel()
    for kind in (CONTROL, USER_DEFINED):
      added = [token for token, i in vocab.items() if types[i] == kind]
      options = dict(normalized=False, special=kind == CONTROL)
      backend.add_tokens([tokenizers.AddedToken(t, **options) for t in added])
    eos_ids = get('eos_token_id'), get('eot_token_id')
    settings = Settings(
      special_tokens=special_tokens,
      eos_ids=tuple(i for i in eos_ids if i is not None),
      chat_template=self._metadata.get('tokenizer.chat_template'),
      add_bos=get('add_bos_token', pre == 'llama-bpe'),
    )
    return HFTokenizer(backend, settings)


def _hf_name(name):
  """blk.N.NAME.weight and NAME.weight with Hugging Face's name."""
  match = re.fullmatch(r'(blk\.\d+\.)?(.*?)(\.\w+)?', name)
  layer, kind, suffix = match.groups('')
  return layer.replace('blk', 'model.layers') + NAMES.get(kind, kind) + suffix


def _config(path, metadata, tensors):
  arch = metadata.get('general.architecture')
  if arch not in ARCHITECTURES:
    raise errors.UserError(
      f'{path} holds a {arch!r} model; r1jax reads {", ".join(ARCHITECTURES)}'
    )

  def value(key, default=None):
    x = metadata.get(f'{arch}.{key}', default)
    if not isinstance(x, (int, float)) or x <= 0:
      raise errors.UserError(f'{path}: {arch}.{key} is {x!r}, not a number > 0')
    # The shortest decimal of a float32: 1e-05, not 9.999999747378752e-06.
    return float(str(np.float32(x))) if isinstance(x, float) else x

  width, heads = value('embedding_length'), value('attention.head_count')
  head_dim = value('attention.key_length', max(width // heads, 1))
  scaling = metadata.get(f'{arch}.rope.scaling.type', '')
  for key in 'rope.scaling.factor', 'rope.scale_linear':
    factor = metadata.get(f'{arch}.{key}') or 1
    if factor != 1 and not scaling:  # without a type it is linear
      scaling = f'factor {factor}'
  if (
    scaling not in ('', 'none')
    or value('rope.dimension_count', head_dim) != head_dim
  ):
    raise errors.UserError(
      f'{path}: scaled ({scaling}) or partial rotary embedding is not supported'
    )
  if 'token_embd.weight' not in tensors:
    raise errors.UserError(f'{path} lacks the tensor token_embd.weight')
  theta = value('rope.freq_base', 10000.0)
  return dict(
    architectures=[f'{arch.capitalize()}ForCausalLM'],
    vocab_size=int(tensors['token_embd.weight'].shape[-1]),
    hidden_size=width,
    num_hidden_layers=value('block_count'),
    num_attention_heads=heads,
    num_key_value_heads=value('attention.head_count_kv', heads),
    head_dim=head_dim,
    intermediate_size=value('feed_forward_length'),
    rms_norm_eps=value('attention.layer_norm_rms_epsilon'),
    rope_theta=theta,
    rope_scaling=_rope_scaling(path, tensors, theta),
    max_position_embeddings=value('context_length'),
    tie_word_embeddings='output.weight' not in tensors,
  )


def _rope_scaling(path, tensors, theta):
  """Llama 3's rope_scaling from the factor of each frequency."""
  if ROPE_FACTORS not in tensors:
    return None
  factors = np.asarray(tensors[ROPE_FACTORS].data, np.float32)
  factor = float(factors.max())
  low, high = LLAMA3['low_freq_factor'], LLAMA3['high_freq_factor']
  freq = theta ** (-np.arange(len(factors)) / len(factors))
  rotations = LLAMA3['original_max_position_embeddings'] * freq / (2 * math.pi)
  smooth = np.clip((rotations - low) / (high - low), 0, 1)
  if not np.allclose(factors, 1 / ((1 - smooth) / factor + smooth), 1e-4):
    raise errors.UserError(f'{path}: its rope factors are not of Llama 3.1-3.3')
  return LLAMA3 | dict(factor=factor)
