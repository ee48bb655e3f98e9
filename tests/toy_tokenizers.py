"""Small tokenizers of the kinds that GGUF files have."""

import sentencepiece as sentencepiece_library
import tokenizers
from tokenizers import pre_tokenizers

from r1jax.checkpoints import gguf_tokenizer, tokenization
from r1jax.checkpoints.tokenizer_settings import Settings


def byte_level(pre, **settings):
  """A tokenizer that divides texts as `pre` says, trained on a line."""
  backend = gguf_tokenizer.byte_level({}, [], pre)
  trainer = tokenizers.trainers.BpeTrainer(
    vocab_size=290,
    special_tokens=['<|end|>', '<|user|>'],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    show_progress=False,
  )
  backend.train_from_iterator(["we'll add  1234567 and 1234567"] * 9, trainer)
  backend.add_tokens(['<think>'])
  tokens = dict(eos_token='<|end|>', bos_token='<|user|>')
  settings = dict(special_tokens=tokens, add_bos=True) | settings
  return tokenization.HFTokenizer(backend, Settings(**settings))


def sentencepiece(folder, has_prefix):
  """A SentencePiece BPE of 290 pieces, and a token added to it."""
  lines = (f'{a} plus {b} is {a + b}.' for a in range(20) for b in range(20))
  (folder / 'text.txt').write_text('\n'.join(lines))
  sentencepiece_library.SentencePieceTrainer.train(
    input=str(folder / 'text.txt'),
    model_prefix=str(folder / 'spm'),
    vocab_size=290,
    model_type='bpe',
    byte_fallback=True,
    normalization_rule_name='identity',
    remove_extra_whitespaces=False,
    add_dummy_prefix=has_prefix,
    minloglevel=2,
  )
  added = {290: dict(content='<|user|>', special=True)}
  return tokenization.SentencePieceTokenizer(
    folder / 'spm.model', Settings(added_tokens=added)
  )
