"""The interface of a tokenizer, for all packages that are given one."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Tokenizer(Protocol):
  """Text to ids and back. r1jax.checkpoints.tokenization implements it."""

  vocab_size: int
  eos_ids: tuple[int, ...]  # each ends a response; the tokenizer's own is first
  prefix: str  # precedes a text that is not a chat: the BOS token, or ''

  def encode(self, text: str) -> list[int]:
    """The ids of a text, without BOS or EOS tokens of its own."""

  def decode(self, ids: Iterable[int]) -> str:
    """The text of ids, special tokens included."""

  def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
    """The text of messages with the keys 'role' and 'content', up to where the
    response begins. Raises UserError if there is no template or it fails."""

  def save(self, directory: str | Path) -> None:
    """Writes the files of a Hugging Face tokenizer into the directory."""
