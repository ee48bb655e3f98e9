"""A tokenizer as the metadata of a GGUF file: the inverse of gguf_tokenizer."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from r1jax import errors
from r1jax.checkpoints import gguf_tokenizer
from r1jax.checkpoints.gguf_tokenizer import (
  CONTROL,
  NO_MERGE,
  UNUSED,
  USER_DEFINED,
)
from r1jax.checkpoints.tokenization import (
  HFTokenizer,
  LimitedTokenizer,
  SentencePieceTokenizer,
)
from r1jax.data.tokenizer_protocol import Tokenizer

NORMAL, UNKNOWN, BYTE = 1, 2, 6  # of tokenizer.ggml.token_type
LOWEST = -1e9  # the score of a piece that no merge makes
# Texts by which a tokenizer is compared with that of its file.
PROBES = (
  "We'll add 1234567 and 89, I'M sure; DON'T\n\n  stop\t\ttabs \n \r\n end",
  'x²+y³=½·π ≈ 3.14159, naïve café, straße, 你好，世界。今日は ひらがな',
  'Привет, мир! שלום 안녕하세요 🙂👩‍🚀 é e\u0301 \u00a0nbsp',
  'def f(x):\n    return {x["a"]: [1, 22, 333, 4444]}  # 100%\n\n\n',
  '<think>\n12 + 30 = 42 </think> <answer>42</answer>\\boxed{\\frac{1}{2}}',
  '   leading, trailing   ',
  ' ',
  'a',
)


class Vocabulary(NamedTuple):
  """The tokens of a tokenizer by their ids."""

  tokens: list[str]
  kinds: list[int]
  scores: list[float]  # of SentencePiece; else empty
  merges: list[str]  # of byte-level BPE; else empty


def metadata(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
  """The keys tokenizer.*, for a model with embeddings of vocab_size ids. Raises
  UserError if a file cannot hold this tokenizer."""
  if isinstance(tokenizer, LimitedTokenizer):
    tokenizer = tokenizer.whole
  assert isinstance(tokenizer, HFTokenizer | SentencePieceTokenizer)
  for keys in _candidates(tokenizer, vocab_size):
    keys |= _settings(tokenizer, keys['tokens'])
    found = {f'tokenizer.ggml.{key}': value for key, value in keys.items()}
    if tokenizer.settings.chat_template:
      found['tokenizer.chat_template'] = tokenizer.settings.chat_template
    if _is_same(tokenizer, found):
      return found
  raise errors.UserError(
    'the tokenizer of this model divides texts in a way that r1jax cannot write '
    'into a GGUF file: it writes SentencePiece BPE, and byte-level BPE as '
    f'{", ".join(gguf_tokenizer.PRE_TOKENIZERS)} have it. Use --format hf, and '
    'the converter of llama.cpp if it knows this tokenizer'
  )


def _settings(tokenizer, tokens):
  """The keys of the special tokens, which are among the tokens."""
  keys: dict[str, Any] = dict(add_bos_token=bool(tokenizer.prefix))
  for name, key in gguf_tokenizer.SPECIAL_TOKENS.items():
    text = tokenizer.settings.special_tokens.get(name)
    if text in tokens:
      keys[f'{key}_token_id'] = tokens.index(text)
  for key, i in zip(('eos', 'eot', 'eom'), tokenizer.eos_ids):
    keys[f'{key}_token_id'] = i
  return keys


def _candidates(tokenizer, vocab_size):
  """The metadata that may be those of the tokenizer, one after the other."""
  if isinstance(tokenizer, SentencePieceTokenizer):
    vocabulary = _of_sentencepiece(tokenizer, vocab_size)
    return _sentencepiece_keys(vocabulary)
  content = json.loads(tokenizer.backend.to_str())
  model = content['model']
  if model['type'] != 'BPE':
    return []
  added = {x['id']: x for x in content['added_tokens']}
  tokens, kinds = _tokens(model['vocab'], added, vocab_size)
  merges = [x if isinstance(x, str) else ' '.join(x) for x in model['merges']]
  if model['byte_fallback']:
    kinds = _sentencepiece_kinds(tokens, kinds, model['unk_token'])
    scores = _scores_of_merges(tokens, merges)
    return _sentencepiece_keys(Vocabulary(tokens, kinds, scores, []))
  return _byte_level_keys(
    tokenizer, Vocabulary(tokens, kinds, [], merges or [NO_MERGE])
  )


def _tokens(vocab, added, vocab_size):
  """(tokens, kinds) by id; ids without a token have a name that no text has."""
  tokens = [f'[PAD{i}]' for i in range(vocab_size)]
  kinds = [UNUSED] * vocab_size
  for text, i in vocab.items():
    if i < vocab_size:
      tokens[i], kinds[i] = text, NORMAL
  for i, token in added.items():
    if i < vocab_size:
      tokens[i] = token['content']
      kinds[i] = CONTROL if token['special'] else USER_DEFINED
  return tokens, kinds


def _byte_level_keys(tokenizer, vocabulary):
  """Keys with each name of a pre-tokenizer that divides the probes as that of
  the tokenizer does. Without merges all are the same."""
  backend, found = tokenizer.backend, []
  for pre in gguf_tokenizer.PRE_TOKENIZERS:
    other = gguf_tokenizer.byte_level({}, [], pre)
    has_merges = vocabulary.merges != [NO_MERGE]
    if has_merges and _pieces(backend) != _pieces(other):
      continue
    found.append(
      dict(
        model='gpt2',
        pre=pre,
        tokens=vocabulary.tokens,
        token_type=vocabulary.kinds,
        merges=vocabulary.merges,
      )
    )
  return found


def _pieces(backend):
  """The probes as the normalizer and the pre-tokenizer divide them."""
  pieces = []
  for text in PROBES:
    if backend.normalizer:
      text = backend.normalizer.normalize_str(text)
    if not backend.pre_tokenizer:
      return None
    parts = backend.pre_tokenizer.pre_tokenize_str(text)
    pieces.append([part for part, _ in parts])
  return pieces


def _sentencepiece_keys(vocabulary):
  return [
    dict(
      model='llama',
      pre='default',
      tokens=vocabulary.tokens,
      scores=vocabulary.scores,
      token_type=vocabulary.kinds,
      add_space_prefix=has_prefix,
    )
    for has_prefix in (True, False)
  ]


def _sentencepiece_kinds(tokens, kinds, unknown):
  """The kinds with those of bytes, as <0x0A>, and of the unknown token."""
  found = list(kinds)
  for i, token in enumerate(tokens):
    is_byte = len(token) == 6 and token.startswith('<0x')
    if is_byte and kinds[i] == NORMAL:
      found[i] = BYTE
    elif token == unknown:
      found[i] = UNKNOWN
  return found


def _scores_of_merges(tokens, merges):
  """A score for each token: SentencePiece merges to the highest one first."""
  first: dict[str, int] = {}
  for rank, merge in enumerate(merges):
    first.setdefault(merge.replace(' ', '', 1), rank)
  return [-float(first[x]) if x in first else LOWEST for x in tokens]


def _of_sentencepiece(tokenizer, vocab_size):
  """The vocabulary of a SentencePiece model and the tokens added to it."""
  sp = tokenizer.sp
  vocab = {sp.id_to_piece(i): i for i in range(sp.vocab_size())}
  added = tokenizer.settings.added_tokens
  tokens, kinds = _tokens(vocab, {}, vocab_size)
  scores = [LOWEST] * vocab_size
  for i in range(min(sp.vocab_size(), vocab_size)):
    scores[i] = sp.get_score(i)
    if sp.is_control(i):
      kinds[i] = CONTROL
    elif sp.is_unknown(i):
      kinds[i] = UNKNOWN
    elif sp.is_byte(i):
      kinds[i] = BYTE
    elif sp.is_unused(i):
      kinds[i] = UNUSED
  for i, token in added.items():
    if i < vocab_size:
      tokens[i] = token['content']
      kinds[i] = CONTROL if token.get('special') else USER_DEFINED
  return Vocabulary(tokens, kinds, scores, [])


def _is_same(tokenizer, keys):
  """Whether the tokenizer of a file with these keys has the same ids."""
  try:
    other = gguf_tokenizer.read(Path('the GGUF file'), keys)
  except errors.UserError:
    return False
  if other is None or other.eos_ids != tokenizer.eos_ids[:2]:
    return False
  ends = [tokenizer.decode([i]) for i in tokenizer.eos_ids]
  texts = [*PROBES, *[f'a {end} b{end}c' for end in ends]]
  return all(other.encode(text) == tokenizer.encode(text) for text in texts)
