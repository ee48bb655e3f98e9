"""The tokenizer of a GGUF file: byte-level BPE (gpt2 in its metadata), or the
BPE of SentencePiece (llama)."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from r1jax import errors
from r1jax.checkpoints.tokenization import HFTokenizer
from r1jax.checkpoints.tokenizer_settings import Settings

CONTROL, USER_DEFINED, UNUSED = 3, 4, 5  # of tokenizer.ggml.token_type
SPECIAL_TOKENS = dict(
  bos_token='bos', eos_token='eos', unk_token='unknown', pad_token='padding'
)
# How Llama 3 and Qwen split text; they differ in DIGITS.
SPLIT_PATTERN = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
# How DeepSeek-V3 splits text: by each of these in turn.
DEEPSEEK_PATTERNS = (
  r'\p{N}{1,3}',
  r'[一-龥぀-ゟ゠-ヿ]+',
  r'[!"#$%&' + r"'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"
  r'[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|'
  r'\s*[\r\n]+|\s+(?!\S)|\s+',
)
QWEN = 'qwen2', 'deepseek-r1-qwen'
WITH_REGEX = 'gpt-2', 'smollm'  # split as GPT-2 does
PRE_TOKENIZERS = 'llama-bpe', *QWEN, *WITH_REGEX, 'deepseek-v3'
# llama.cpp reads no file without merges. This one applies to no text: the byte
# 0xFF is not in UTF-8.
NO_MERGE = 'ÿ ÿ'
SPACE = '▁'  # how SentencePiece writes a space


def read(path: pathlib.Path, metadata: Mapping[str, Any]) -> HFTokenizer | None:
  """The tokenizer; None if the file has none. Raises UserError."""

  def get(key, default=None):
    return metadata.get(f'tokenizer.ggml.{key}', default)

  model, pre = get('model'), get('pre')
  if model is None:
    return None
  if model != 'llama' and (model != 'gpt2' or pre not in PRE_TOKENIZERS):
    raise errors.UserError(
      f'{path}: tokenizer of kind {model!r}, {pre!r}; r1jax reads llama, and '
      f'gpt2 with {", ".join(PRE_TOKENIZERS)}: use the Hugging Face directory '
      'instead'
    )
  tokens, types = get('tokens', []), get('token_type', [])
  special_tokens = {}
  with errors.explained(f"{path}: the tokenizer's lists disagree"):
    vocab = {t: i for i, t in enumerate(tokens) if types[i] != UNUSED}
    for name, key in SPECIAL_TOKENS.items():
      if get(f'{key}_token_id') is not None:
        special_tokens[name] = tokens[get(f'{key}_token_id')]
    if model == 'llama':
      has_prefix = get('add_space_prefix', True)
      unknown = special_tokens.get('unk_token')
      backend = _sentencepiece(vocab, get('scores'), unknown, has_prefix)
    else:
      backend = byte_level(vocab, get('merges', []), pre)
  for kind in (CONTROL, USER_DEFINED):
    added = []
    for token in [t for t, i in vocab.items() if types[i] == kind]:
      # Pieces of spaces are found where the normalizer has written these.
      is_spaces = model == 'llama' and SPACE in token
      options = dict(normalized=is_spaces, special=kind == CONTROL)
      added.append(tokenizers.AddedToken(token, **options))
    backend.add_tokens(added)
  eos_ids = get('eos_token_id'), get('eot_token_id')
  settings = Settings(
    special_tokens=special_tokens,
    eos_ids=tuple(i for i in eos_ids if i is not None),
    chat_template=metadata.get('tokenizer.chat_template'),
    add_bos=get('add_bos_token', model == 'llama' or pre == 'llama-bpe'),
  )
  return HFTokenizer(backend, settings)


def byte_level(
  vocab: dict[str, int], merges: Sequence[str], pre: str
) -> tokenizers.Tokenizer:
  """A byte-level BPE with one of PRE_TOKENIZERS."""
  if list(merges) == [NO_MERGE]:
    merges = []
  pairs: list[Any] = [tuple(merge.split(' ')) for merge in merges]
  bpe = models.BPE(vocab, pairs, ignore_merges=pre == 'llama-bpe')
  backend = tokenizers.Tokenizer(bpe)
  if pre in QWEN:
    backend.normalizer = normalizers.NFC()
  splits: list[pre_tokenizers.PreTokenizer]
  if pre == 'smollm':
    splits = [pre_tokenizers.Digits(individual_digits=True)]
  elif pre == 'gpt-2':
    splits = []
  elif pre == 'deepseek-v3':
    splits = [_split(pattern) for pattern in DEEPSEEK_PATTERNS]
  else:
    digits = r'\p{N}{1,3}' if pre == 'llama-bpe' else r'\p{N}'
    splits = [_split(SPLIT_PATTERN.replace('DIGITS', digits))]
  to_bytes = pre_tokenizers.ByteLevel(False, use_regex=pre in WITH_REGEX)
  backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, to_bytes])
  backend.decoder = decoders.ByteLevel()
  return backend


def _split(pattern):
  return pre_tokenizers.Split(tokenizers.Regex(pattern), 'isolated')


def _sentencepiece(vocab, scores, unknown, has_prefix):
  """A BPE with bytes for unknown characters. `has_prefix`: a space is added in
  front of a text."""
  bpe = models.BPE(
    vocab,
    _merges(vocab, scores),
    unk_token=unknown,
    byte_fallback=True,
    fuse_unk=True,
  )
  backend = tokenizers.Tokenizer(bpe)
  replace = normalizers.Replace(' ', SPACE)
  prepend = [normalizers.Prepend(SPACE)] if has_prefix else []
  backend.normalizer = normalizers.Sequence([*prepend, replace])
  strip = [decoders.Strip(' ', 1, 0)] if has_prefix else []
  backend.decoder = decoders.Sequence(
    [
      decoders.Replace(SPACE, ' '),
      decoders.ByteFallback(),
      decoders.Fuse(),
      *strip,
    ]
  )
  return backend


def _merges(
  vocab: Mapping[str, int], scores: Sequence[float]
) -> list[tuple[str, str]]:
  """The merges of a BPE in their order: SentencePiece merges the two pieces
  whose union has the highest score."""
  merges = []
  for piece, i in vocab.items():
    for end in range(1, len(piece)):
      left, right = piece[:end], piece[end:]
      if left in vocab and right in vocab:
        merges.append((-scores[i], vocab[left], vocab[right], left, right))
  return [(left, right) for *_, left, right in sorted(merges)]
