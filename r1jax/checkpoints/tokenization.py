"""Text to ids and back: bytes, SentencePiece, Hugging Face."""

import dataclasses
import json
import pathlib
import re

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from r1jax import errors
from r1jax.checkpoints import chat_template, hf_files

TAGS = ('<think>', '</think>', '<answer>', '</answer>')


@dataclasses.dataclass(frozen=True)
class Settings:
  """What a checkpoint says of its tokenizer beside the vocabulary."""

  names: dict = dataclasses.field(default_factory=dict)  # eos_token etc.
  eos_ids: tuple[int, ...] = ()  # those of generation_config.json
  chat_template: str | None = None
  add_bos: bool | None = None  # None: as the vocabulary's file has it


class HFTokenizer:
  """A `tokenizers.Tokenizer` and the settings beside it.

  eos_ids begins with the tokenizer's own end token; `prefix` is what a text
  that is no chat starts with: the BOS token's string where the tokenizer adds
  one, else ''.
  """

  def __init__(self, backend, settings):
    backend.no_truncation()
    backend.no_padding()
    self.backend, self.settings = backend, settings
    self.vocab_size = max(backend.get_vocab().values()) + 1
    self.eos_ids = _eos_ids(settings, backend.token_to_id, self.vocab_size)
    bos = settings.names.get('bos_token', '')
    add_bos = settings.add_bos
    if add_bos is None:
      add_bos = backend.token_to_id(bos) in backend.encode('').ids
    self.prefix = bos if add_bos else ''

  def encode(self, text):
    return self.backend.encode(text, add_special_tokens=False).ids

  def decode(self, ids):
    return self.backend.decode([int(i) for i in ids], skip_special_tokens=False)

  def chat(self, messages):
    return chat_template.render_chat(
      self.settings.chat_template, self.settings.names, messages
    )

  def save(self, directory):
    self.backend.save(str(pathlib.Path(directory, 'tokenizer.json')))
    _write_settings(directory, 'PreTrainedTokenizerFast', self.settings)


class ByteTokenizer(HFTokenizer):
  """Ids 0 to 255 are bytes, 256 is the end token, then the special strings."""

  def __init__(self, special=TAGS):
    # ByteLevel writes printable bytes as themselves, the rest from 256 on.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    codes = printable + [256 + n for n in range(len(others))]
    vocab = {chr(code): byte for code, byte in zip(codes, printable + others)}
    backend = tokenizers.Tokenizer(models.BPE(vocab, []))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer, backend.decoder = level, decoders.ByteLevel()
    backend.add_special_tokens(['<|end|>', *special])
    super().__init__(backend, Settings(names=dict(eos_token='<|end|>')))


class SentencePieceTokenizer:
  """A SentencePiece model; control pieces in the text become their ids."""

  def __init__(self, model_file, settings=Settings()):  # noqa: B008 (frozen)
    try:
      sp = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    except (OSError, RuntimeError) as error:
      raise errors.UserError(
        f'{model_file} is not a readable SentencePiece model: {error}'
      ) from error
    if sp.eos_id() >= 0 and 'eos_token' not in settings.names:
      names = settings.names | dict(eos_token=sp.id_to_piece(sp.eos_id()))
      settings = dataclasses.replace(settings, names=names)
    self.sp, self.settings, self.vocab_size = sp, settings, sp.vocab_size()
    pieces = {sp.id_to_piece(i): i for i in range(sp.vocab_size())}
    self.eos_ids = _eos_ids(settings, pieces.get, self.vocab_size)
    self.prefix = (
      settings.names.get('bos_token', '') if settings.add_bos else ''
    )
    self.control = {p: i for p, i in pieces.items() if sp.is_control(i)}
    either = '|'.join(map(re.escape, self.control))
    self.split = re.compile(f'({either or "(?!)"})')

  def encode(self, text):
    ids = []
    for part in self.split.split(text):
      known = part in self.control
      ids += [self.control[part]] if known else self.sp.encode(part)
    return ids

  def decode(self, ids):
    text, run = '', []
    for i in map(int, ids):
      if self.sp.is_control(i):
        text += self.sp.decode(run) + self.sp.id_to_piece(i)
        run = []
      else:
        run.append(i)
    return text + self.sp.decode(run)

  def chat(self, messages):
    return chat_template.render_chat(
      self.settings.chat_template, self.settings.names, messages
    )

  def save(self, directory):
    model = self.sp.serialized_model_proto()
    pathlib.Path(directory, 'tokenizer.model').write_bytes(model)
    _write_settings(directory, 'LlamaTokenizer', self.settings)


def train_sentencepiece(text_path, model_prefix, vocab_size, special=TAGS):
  """Train BPE on the lines of a text file; returns the model file's path.

  Nothing is normalised and unknown characters fall back to bytes, so that
  decode(encode(text)) == text; each string of `special` is one token.
  """
  try:
    sentencepiece.SentencePieceTrainer.train(
      input=str(text_path),
      model_prefix=str(model_prefix),
      vocab_size=vocab_size,
      user_defined_symbols=list(special),
      model_type='bpe',
      byte_fallback=True,
      split_digits=True,
      normalization_rule_name='identity',
      remove_extra_whitespaces=False,
      add_dummy_prefix=False,
      allow_whitespace_only_pieces=True,
      max_sentence_length=1 << 20,
      minloglevel=2,
    )
  except (OSError, RuntimeError) as error:
    raise errors.UserError(
      f'cannot train a SentencePiece model of {vocab_size} pieces on '
      f'{text_path}: {error}'
    ) from error
  return f'{model_prefix}.model'


def load(path):
  """The tokenizer of a checkpoint's directory, None where it holds none; or
  that of a SentencePiece file NAME.model."""
  path = pathlib.Path(path)
  if path.suffix == '.model':
    return SentencePieceTokenizer(path)
  file = path / 'tokenizer.json'
  if file.exists():
    try:
      backend = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing narrower
      raise errors.UserError(f'{file} is not readable: {error}') from error
    return HFTokenizer(backend, _read_settings(path))
  file = path / 'tokenizer.model'
  if file.exists():
    return SentencePieceTokenizer(file, _read_settings(path))
  return None


def _read_settings(directory):
  """The Settings in the files of a Hugging Face directory."""
  config, generation = (
    hf_files.read_json(directory / name) if (directory / name).exists() else {}
    for name in ('tokenizer_config.json', 'generation_config.json')
  )
  names = {}
  for key in ('bos_token', 'eos_token', 'unk_token', 'pad_token'):
    value = config.get(key)
    value = value.get('content') if isinstance(value, dict) else value
    if isinstance(value, str):
      names[key] = value
  template = config.get('chat_template')
  if isinstance(template, list):  # several, by name
    named = [t for t in template if isinstance(t, dict)]
    template = {t.get('name'): t.get('template') for t in named}.get('default')
  if (directory / 'chat_template.jinja').exists():
    template = (directory / 'chat_template.jinja').read_text(encoding='utf-8')
  eos = generation.get('eos_token_id')
  eos = eos if isinstance(eos, list) else [] if eos is None else [eos]
  return Settings(names, tuple(eos), template, config.get('add_bos_token'))


def _write_settings(directory, kind, settings):
  config = dict(tokenizer_class=kind, **settings.names)
  if settings.add_bos is not None:
    config['add_bos_token'] = settings.add_bos
  if settings.chat_template:
    config['chat_template'] = settings.chat_template
  text = json.dumps(config, indent=2, ensure_ascii=False)
  path = pathlib.Path(directory, 'tokenizer_config.json')
  path.write_text(text + '\n', encoding='utf-8')


def _eos_ids(settings, to_id, vocab_size):
  """The tokenizer's own end token, then those of generation_config.json."""
  ids = list(settings.eos_ids)
  if 'eos_token' in settings.names:
    ids.insert(0, to_id(settings.names['eos_token']))
  for i in ids:
    if not isinstance(i, int) or not 0 <= i < vocab_size:
      raise errors.UserError(
        f'the end token {i} (eos_token {settings.names.get("eos_token")!r} of '
        'tokenizer_config.json, or eos_token_id of generation_config.json) is '
        f'not one of the {vocab_size} ids of the tokenizer'
      )
  return tuple(dict.fromkeys(ids))
