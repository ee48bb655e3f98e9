"""Writes responses as OpenAI's completions and chat completions: whole ones,
and the chunks of a stream."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.serving.api_request import Asked
from r1jax.serving.request import Token, Update

REPLACEMENT = '\N{REPLACEMENT CHARACTER}'


class Answer:
  """The answer to one request, whose updates it is given in any order of the
  responses."""

  def __init__(
    self, asked: Asked, model: str, tokenizer: Tokenizer, is_chat: bool
  ) -> None:
    self.asked, self.tokenizer, self.is_chat = asked, tokenizer, is_chat
    prefix = 'chatcmpl' if is_chat else 'cmpl'
    self._head = dict(
      id=f'{prefix}-{uuid.uuid4().hex}', created=int(time.time()), model=model
    )
    self._updates: list[list[Update]] = [[] for _ in asked.requests]
    self._offsets = [0] * len(asked.requests)  # of the next token of a chunk

  def add(self, n: int, update: Update) -> None:
    """Takes an update of response n."""
    self._updates[n].append(update)

  def whole(self) -> dict[str, Any]:
    """The answer when all responses have ended."""
    name = 'chat.completion' if self.is_chat else 'text_completion'
    choices = []
    for n, updates in enumerate(self._updates):
      update = _joined(updates)
      text = self._opening(n) + update.text
      choice = self._choice(n, update)
      if self.is_chat:
        choice['message'] = dict(role='assistant', content=text, refusal=None)
      else:
        choice['text'] = text
      choices.append(choice)
    body = dict(self._head, object=name, choices=choices, usage=self.usage())
    return body | self._prompt_ids()

  def first_chunk(self, n: int) -> dict[str, Any]:
    """The beginning of response n in a stream, before its first token."""
    return self._chunk(n, Update('', []), self._opening(n), is_first=True)

  def chunk(self, n: int, update: Update) -> dict[str, Any]:
    """An update of response n in a stream."""
    return self._chunk(n, update, update.text, is_first=False)

  def usage_chunk(self) -> dict[str, Any]:
    """The last chunk of a stream whose request has include_usage."""
    name = 'chat.completion.chunk' if self.is_chat else 'text_completion'
    return dict(self._head, object=name, choices=[], usage=self.usage())

  def usage(self) -> dict[str, int]:
    prompts = [len(request.prompt) for request in self.asked.requests]
    prompt = sum(prompts[:: self.asked.n])
    completion = 0
    for updates in self._updates:
      completion += sum(len(update.tokens) for update in updates)
    return dict(
      prompt_tokens=prompt,
      completion_tokens=completion,
      total_tokens=prompt + completion,
    )

  def _chunk(self, n, update, text, is_first):
    name = 'chat.completion.chunk' if self.is_chat else 'text_completion'
    choice = self._choice(n, update)
    if self.is_chat:
      choice['delta'] = dict(content=text)
      if is_first:
        choice['delta'] = dict(role='assistant', content=text)
    else:
      choice['text'] = text
    body = dict(self._head, object=name, choices=[choice])
    return body | self._prompt_ids() if is_first else body

  def _prompt_ids(self):
    """The ids of the prompts, where they are asked for: of a chat's prompt, or
    of each prompt of a completion."""
    if not self.asked.return_token_ids:
      return {}
    rows = [list(x.prompt) for x in self.asked.requests[:: self.asked.n]]
    return dict(prompt_token_ids=rows[0] if self.is_chat else rows)

  def _opening(self, n):
    """What precedes the sampled text of a response."""
    if self.asked.echo:
      return self.asked.texts[n // self.asked.n]
    return self.asked.opening

  def _choice(self, n, update):
    choice: dict[str, Any] = dict(
      index=n, finish_reason=update.finish or None, logprobs=None
    )
    if self.asked.logprobs:
      tokens = [*(update.prompt or []), *update.tokens]
      if self.is_chat:
        choice['logprobs'] = dict(
          content=[self._chat_token(token) for token in tokens], refusal=None
        )
      else:
        choice['logprobs'] = self._completion_tokens(n, tokens)
    if self.asked.return_token_ids:
      choice['token_ids'] = [token.id for token in update.tokens]
    return choice

  def _chat_token(self, token: Token):
    top = [self._named(i, logp) for i, logp in token.top]
    return dict(self._named(token.id, token.logp), top_logprobs=top)

  def _named(self, i, logp):
    """A token of a chat. Its bytes are not known if it is a part of a
    character."""
    text = self.tokenizer.decode([i])
    data = None if REPLACEMENT in text else list(text.encode())
    return dict(token=text, logprob=logp, bytes=data)

  def _completion_tokens(self, n, tokens: Sequence[Token]):
    texts = [self.tokenizer.decode([token.id]) for token in tokens]
    offsets = []
    for text in texts:
      offsets.append(self._offsets[n])
      self._offsets[n] += len(text)
    top = None
    if self.asked.requests[n].top_logprobs:
      top = [self._top(token) for token in tokens]
    return dict(
      tokens=texts,
      token_logprobs=[token.logp for token in tokens],
      top_logprobs=top,
      text_offset=offsets,
    )

  def _top(self, token: Token):
    """{text: log-probability} of the most probable tokens and of the token. Of
    tokens with the same text, such as parts of characters, the first counts."""
    if token.logp is None:
      return None
    top: dict[str, float] = {}
    for i, logp in [*token.top, (token.id, token.logp)]:
      top.setdefault(self.tokenizer.decode([i]), logp)
    return top


def _joined(updates):
  """All updates of a response as one."""
  prompts = [update.prompt for update in updates if update.prompt]
  return Update(
    text=''.join(update.text for update in updates),
    tokens=[token for update in updates for token in update.tokens],
    finish=updates[-1].finish,
    prompt=prompts[0] if prompts else None,
  )


def failure(update: Update) -> tuple[int, str] | None:
  """(status, sentence) of an update that ends a response without its end."""
  return FAILURES.get(update.finish)


FAILURES: dict[str, tuple[int, str]] = dict(
  timeout=(504, 'the request took longer than the server allows'),
  cancelled=(503, 'the server ends'),
  error=(
    500,
    'the response could not be computed: its log-probabilities are not finite, '
    'or the device failed; the server has more in its output',
  ),
)


def error_body(
  sentence: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
  """The body of an error."""
  return dict(error=dict(message=sentence, type=kind, param=param, code=code))


def model_entry(name: str, created: int, max_len: int) -> dict[str, Any]:
  """A model in the list of models."""
  return dict(
    id=name,
    object='model',
    created=created,
    owned_by='r1jax',
    max_model_len=max_len,
  )
