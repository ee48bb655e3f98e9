"""Tokenizers: bytes, SentencePiece, and Hugging Face's tokenizer.json."""

import copy
import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from r1jax import errors, files
from r1jax.checkpoints import tokenizer_settings
from r1jax.checkpoints.tokenizer_settings import (
  OPTIONS,
  Messages,
  Settings,
)
from r1jax.data.tokenizer_protocol import Tokenizer

TAGS = ('<think>', '</think>', '<answer>', '</answer>')


class HFTokenizer:
  """A Tokenizer (see data/tokenizer_protocol.py) by the tokenizers library."""

  def __init__(self, backend: tokenizers.Tokenizer, settings: Settings):
    _add_missing(backend, settings)
    backend.no_truncation()
    backend.no_padding()
    self.backend, self.settings = backend, settings
    self.vocab_size = max(backend.get_vocab().values()) + 1
    self.eos_ids = _eos_ids(settings, backend.token_to_id, self.vocab_size)
    bos = settings.special_tokens.get('bos_token', '')
    add_bos = settings.add_bos
    if add_bos is None:
      add_bos = backend.token_to_id(bos) in backend.encode('').ids
    self.prefix = bos if add_bos else ''

  def encode(self, text: str) -> list[int]:
    return self.backend.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Iterable[int]) -> str:
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=False)

  def chat(self, messages: Messages) -> str:
    return self.settings.render_chat(messages)

  def save(self, directory: str | Path) -> None:
    self.backend.save(str(Path(directory, 'tokenizer.json')))
    self.settings.write(directory, 'PreTrainedTokenizerFast')


class ByteTokenizer(HFTokenizer):
  """Ids 0 to 255 are bytes, 256 is the end token, then the special strings."""

  def __init__(self, special: Sequence[str] = TAGS):
    # Printable bytes have characters of the same code, the others from 256 on.
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = [ord(char) for char in alphabet if ord(char) < 256]
    others = [byte for byte in range(256) if byte not in printable]
    vocab = dict(zip(alphabet, printable + others))
    backend = tokenizers.Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(['<|end|>', *special])
    settings = Settings(special_tokens=dict(eos_token='<|end|>'))
    super().__init__(backend, settings)


class SentencePieceTokenizer:
  """A Tokenizer by a SentencePiece model, and tokens added to it. Control pieces
  and added tokens in a text, such as </s>, become their ids."""

  def __init__(self, model_file: Path, settings: Settings):
    with errors.explained(f'{model_file} is not a SentencePiece model'):
      sp = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    tokens = settings.special_tokens
    if sp.eos_id() >= 0:
      tokens = dict(eos_token=sp.id_to_piece(sp.eos_id())) | tokens
    self.settings = dataclasses.replace(settings, special_tokens=tokens)
    self.sp = sp
    pieces = {sp.id_to_piece(i): i for i in range(sp.vocab_size())}
    added = {x['content']: i for i, x in settings.added_tokens.items()}
    for text, i in added.items():
      own = sp.id_to_piece(i) if i < sp.vocab_size() else text
      if pieces.setdefault(text, i) != i or own != text:
        raise errors.UserError(
          f'{model_file}: the added token {text!r} has the id {i}, which is '
          f'that of {own!r}, or has another id there'
        )
    self.vocab_size = max(pieces.values()) + 1
    self.eos_ids = _eos_ids(self.settings, pieces.get, self.vocab_size)
    self.prefix = tokens.get('bos_token', '') if settings.add_bos else ''
    control = {p: i for p, i in pieces.items() if _is_control(sp, i)}
    self._special = control | added
    self._text_of = {i: text for text, i in self._special.items()}
    longest_first = sorted(self._special, key=len, reverse=True)
    any_special = '|'.join(map(re.escape, longest_first))
    self._split = re.compile(f'({any_special or "(?!)"})')

  def encode(self, text: str) -> list[int]:
    ids = []
    for part in self._split.split(text):
      if part in self._special:
        ids.append(self._special[part])
      else:
        ids += self.sp.encode(part)
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    text, size = '', self.sp.vocab_size()
    is_special = self._text_of.__contains__
    for special, group in itertools.groupby(map(int, ids), is_special):
      if special:
        text += ''.join(map(self._text_of.__getitem__, group))
      else:
        text += self.sp.decode([i for i in group if i < size])
    return text

  def chat(self, messages: Messages) -> str:
    return self.settings.render_chat(messages)

  def save(self, directory: str | Path) -> None:
    model = self.sp.serialized_model_proto()
    Path(directory, 'tokenizer.model').write_bytes(model)
    added = {str(i): x for i, x in self.settings.added_tokens.items()}
    more = dict(added_tokens_decoder=added) if added else {}
    self.settings.write(directory, 'LlamaTokenizer', **more)


class LimitedTokenizer:
  """A tokenizer without its last ids, for which its model has no embedding
  (Gemma 3 1B has one: <image_soft_token>). A text with them is refused."""

  def __init__(self, tokenizer: Tokenizer, vocab_size: int):
    self.whole, self.vocab_size = tokenizer, vocab_size
    self.eos_ids = tuple(i for i in tokenizer.eos_ids if i < vocab_size)
    self.prefix = tokenizer.prefix

  def encode(self, text: str) -> list[int]:
    ids = self.whole.encode(text)
    for i in ids:
      if i >= self.vocab_size:
        raise errors.UserError(
          f'the text has the token {self.whole.decode([i])!r} with the id {i}, '
          f'but the model has embeddings of {self.vocab_size} ids only: leave '
          'this token out'
        )
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    return self.whole.decode(ids)

  def chat(self, messages: Messages) -> str:
    return self.whole.chat(messages)

  def save(self, directory: str | Path) -> None:
    self.whole.save(directory)


def load(directory: Path) -> Tokenizer | None:
  """The tokenizer of a Hugging Face directory; None if there is none."""
  path, model = directory / 'tokenizer.json', directory / 'tokenizer.model'
  for file in path, model:
    if file.exists():
      files.check_is_no_pointer(file)
  if path.exists():
    with errors.explained(f'{path} is not readable'):
      backend = tokenizers.Tokenizer.from_file(str(path))
    return HFTokenizer(backend, tokenizer_settings.read(directory))
  if model.exists():
    return SentencePieceTokenizer(model, tokenizer_settings.read(directory))
  return None


def _add_missing(backend, settings):
  """Adds the tokens that are listed beside tokenizer.json and are not in it."""
  for i, token in sorted(settings.added_tokens.items()):
    text = token['content']
    if backend.token_to_id(text) is None:
      options = {key: bool(token.get(key)) for key in OPTIONS}
      backend.add_tokens([tokenizers.AddedToken(text, **options)])
      if backend.token_to_id(text) != i:
        raise errors.UserError(
          f'the added token {text!r} has the id {i}, but it would be '
          f'{backend.token_to_id(text)} after those of tokenizer.json'
        )


def _is_control(sp, i):
  return i < sp.vocab_size() and sp.is_control(i)


def _eos_ids(settings, to_id, vocab_size):
  """The tokenizer's own end token, then those of generation_config.json, or
  else of config.json."""
  ids, eos = list(settings.eos_ids), settings.special_tokens.get('eos_token')
  if eos is not None and to_id(eos) is None:
    raise errors.UserError(
      f'the end token {eos!r} (eos_token of tokenizer_config.json or '
      'special_tokens_map.json) is not in the vocabulary of the tokenizer'
    )
  if eos is not None:
    ids.insert(0, to_id(eos))
  for i in ids:
    if not isinstance(i, int) or not 0 <= i < vocab_size:
      raise errors.UserError(
        f'the end token {i} (eos_token {eos!r} of tokenizer_config.json, or '
        f'eos_token_id of generation_config.json or config.json) is no id below '
        f'{vocab_size}'
      )
  return tuple(dict.fromkeys(ids))


def chat_template(tokenizer: Tokenizer) -> str | None:
  """The chat template of a tokenizer; None if it has none."""
  return _whole(tokenizer).settings.chat_template


def with_chat_template(tokenizer: Tokenizer, template: str) -> Tokenizer:
  """The tokenizer with another chat template."""
  changed = copy.copy(_whole(tokenizer))
  changed.settings = dataclasses.replace(
    changed.settings, chat_template=template
  )
  if isinstance(tokenizer, LimitedTokenizer):
    return LimitedTokenizer(changed, tokenizer.vocab_size)
  return changed


def with_eos_ids(tokenizer: Tokenizer, eos_ids: Sequence[int]) -> Tokenizer:
  """The tokenizer with other end tokens."""
  changed = copy.copy(_whole(tokenizer))
  changed.eos_ids = tuple(eos_ids)
  if isinstance(tokenizer, LimitedTokenizer):
    return LimitedTokenizer(changed, tokenizer.vocab_size)
  return changed


def _whole(tokenizer):
  if isinstance(tokenizer, LimitedTokenizer):
    return tokenizer.whole
  return tokenizer
