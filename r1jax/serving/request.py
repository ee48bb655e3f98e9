"""What is asked for, and what has arrived of it."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.serving.text_stream import TextStream

Finish = Literal['', 'stop', 'length', 'cancelled', 'timeout', 'error']


@dataclasses.dataclass(frozen=True)
class Request:
  """One response that is asked for."""

  prompt: tuple[int, ...]
  max_tokens: int  # 0: none, for prompt_logprobs alone
  temperature: float = 1.0
  top_p: float = 1.0
  top_k: int = 0
  # A response is a function of the model, the prompt, these options and three
  # numbers: those of decode.sample. Other requests do not change it.
  seed: int = 0
  number: int = 0  # of the prompt in its request
  member: int = 0  # of the response in its group
  stop: tuple[str, ...] = ()
  top_logprobs: int = 0
  prompt_logprobs: bool = False


class Token(NamedTuple):
  """A token with log-probabilities under softmax(logits / temperature), before
  top-k and top-p."""

  id: int
  logp: float | None  # None for the first token of a prompt
  top: list[tuple[int, float]]  # the most probable ids


class Update(NamedTuple):
  """What has arrived of a response. The texts of all updates, joined, are its
  text; the last update has a finish."""

  text: str
  tokens: list[Token]  # sampled ones, the end token included
  finish: Finish = ''
  prompt: list[Token] | None = None  # with prompt_logprobs, in the first update


class Ticket:
  """A request in the engine. receive(update) is called in the engine's thread
  and must return at once."""

  def __init__(
    self,
    request: Request,
    tokenizer: Tokenizer,
    receive: Callable[[Update], None],
    deadline: float,
  ) -> None:
    self.request, self.receive, self.deadline = request, receive, deadline
    self.is_cancelled = False  # any thread may set it
    self._stream = TextStream(tokenizer, request.stop)
    self._count = 0  # of sampled tokens

  def reason_to_leave(self, now: float) -> Finish:
    """Why the request ends at this moment; '' if it does not."""
    if self.is_cancelled:
      return 'cancelled'
    return 'timeout' if now > self.deadline else ''

  def add(self, tokens: Sequence[Token], eos_ids: Sequence[int]) -> Update:
    """The update with more tokens. Those after a stop string are left out."""
    text, used = '', []
    finish: Finish = ''
    for token in tokens:
      if token.logp is None or not math.isfinite(token.logp):
        return Update('', [], 'error')
      used.append(token)
      self._count += 1
      if token.id in eos_ids:
        finish = 'stop'
        break
      text += self._stream.push(token.id)
      if self._stream.stopped:
        finish = 'stop'
        break
      if self._count == self.request.max_tokens:
        finish = 'length'
    if finish:
      text += self._stream.finish()
    return Update(text, used, finish)
