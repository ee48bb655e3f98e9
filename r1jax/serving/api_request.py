"""Reads the bodies of OpenAI's completions and chat completions."""

import dataclasses
from typing import NamedTuple

from r1jax import errors
from r1jax.config import MAX_SEED
from r1jax.data import chats, templates
from r1jax.serving import api_fields, options, source
from r1jax.serving.api_fields import ApiError
from r1jax.serving.request import Request
from r1jax.serving.slots import MAX_TOP
from r1jax.serving.source import Source

MAX_CHOICES = 128
COMPLETION_TOKENS = 16  # the default of OpenAI's completions
TOKEN_CHARACTERS = 128  # of a token, at most on average

# Fields of both, and of each.
COMMON = (
  'model',
  'max_tokens',
  'temperature',
  'top_p',
  'top_k',
  'n',
  'stop',
  'seed',
  'stream',
  'stream_options',
  'logprobs',
  'return_token_ids',
)
CHAT = 'messages', 'max_completion_tokens', 'top_logprobs'
COMPLETION = 'prompt', 'echo'
# The second is about random text in a stream of OpenAI's, which is not added.
STREAM_OPTIONS = {'include_usage', 'include_obfuscation'}


class Limits(NamedTuple):
  """What a server has room for."""

  max_len: int  # tokens of prompt and response
  max_responses: int  # of one call
  vocab_size: int


class Own(NamedTuple):
  """What chats and completions have each in fields of their own."""

  prompts: list[list[int]]
  texts: list[str]  # of the prompts
  max_tokens: int | None
  logprobs: bool
  top_logprobs: int
  echo: bool = False


@dataclasses.dataclass(frozen=True)
class Asked:
  """What a body asks for: n responses to each of the prompts, in the order of
  `requests`."""

  requests: list[Request]
  n: int
  texts: list[str]  # of the prompts, for echo
  opening: str  # of each response, see templates.Prompt
  stream: bool
  include_usage: bool
  logprobs: bool
  echo: bool
  return_token_ids: bool


def read_chat(body: dict, model: Source, limits: Limits) -> Asked:
  """A chat completion. Its prompt is rendered by the template."""
  api_fields.check_known(body, (*COMMON, *CHAT))
  try:
    messages = chats.read(body.get('messages'), 'the request', 'messages')
    prompt = source.make_prompt(model, messages)
  except errors.UserError as error:
    raise ApiError(400, str(error), 'messages') from error
  name = 'max_tokens'
  if body.get('max_completion_tokens') is not None:
    name = 'max_completion_tokens'
  logprobs = api_fields.flag(body, 'logprobs')
  top_logprobs = api_fields.integer(body, 'top_logprobs', 0, 0, MAX_TOP)
  if top_logprobs and not logprobs:
    raise ApiError(400, 'top_logprobs needs logprobs: true', 'top_logprobs')
  own = Own(
    prompts=[_encode(model, prompt.full_text, limits, 'messages')],
    texts=[prompt.full_text],
    max_tokens=api_fields.integer(body, name, None, 1),
    logprobs=logprobs,
    top_logprobs=top_logprobs,
  )
  return _asked(body, model, limits, own, prompt.opening)


def read_completion(body: dict, model: Source, limits: Limits) -> Asked:
  """A completion of texts or of rows of ids, which are taken as they are."""
  api_fields.check_known(body, (*COMMON, *COMPLETION))
  prompts, texts = [], []
  for prompt in _prompts(body.get('prompt')):
    if isinstance(prompt, str):
      text = templates.with_prefix(model.policy.tokenizer, prompt)
      prompts.append(_encode(model, text, limits, 'prompt'))
      texts.append(prompt)
    else:
      _check_ids(prompt, limits)
      prompts.append(prompt)
      texts.append(model.policy.tokenizer.decode(prompt))
  echo = api_fields.flag(body, 'echo')
  top_logprobs = api_fields.integer(body, 'logprobs', None, 0, MAX_TOP)
  own = Own(
    prompts=prompts,
    texts=texts,
    max_tokens=api_fields.integer(
      body, 'max_tokens', COMPLETION_TOKENS, 0 if echo else 1
    ),
    logprobs=top_logprobs is not None,
    top_logprobs=top_logprobs or 0,
    echo=echo,
  )
  return _asked(body, model, limits, own)


def _asked(body, model, limits, own, opening=''):
  """What the own fields of a chat or a completion and the common ones ask
  for."""
  n = api_fields.integer(body, 'n', 1, 1, MAX_CHOICES)
  count = n * len(own.prompts)
  if count > limits.max_responses:
    raise ApiError(
      400,
      f'the request asks for {count} responses at once, but the server takes '
      f'{limits.max_responses}: ask for fewer',
      'n',
    )
  stream = api_fields.flag(body, 'stream')
  shared, requests = _shared(body, model, own), []
  for number, ids in enumerate(own.prompts):
    one = dataclasses.replace(
      shared,
      prompt=tuple(ids),
      max_tokens=_fitting(ids, own.max_tokens, limits.max_len),
      number=number,
    )
    requests += [dataclasses.replace(one, member=m) for m in range(n)]
  return Asked(
    requests=requests,
    n=n,
    texts=own.texts,
    opening=opening,
    stream=stream,
    include_usage=_include_usage(body.get('stream_options'), stream),
    logprobs=own.logprobs,
    echo=own.echo,
    return_token_ids=api_fields.flag(body, 'return_token_ids'),
  )


def _shared(body, model, own):
  """What all responses have in common, as a Request without a prompt."""
  seed = api_fields.integer(body, 'seed', None, 0, MAX_SEED)
  top_k = api_fields.integer(body, 'top_k', 0, -1, 2**31 - 1)
  return Request(
    prompt=(),
    max_tokens=0,
    temperature=api_fields.number(body, 'temperature', 1.0, 0, 100),
    top_p=api_fields.number(body, 'top_p', 1.0, 1e-6, 1),
    top_k=max(top_k, 0),  # -1: all
    seed=options.new_seed() if seed is None else seed,
    stop=(*model.stop, *api_fields.stop_of(body)),
    top_logprobs=own.top_logprobs,
    prompt_logprobs=own.echo and own.logprobs,
  )


def _fitting(ids, max_tokens, max_len):
  """The tokens of a response; None: as many as there is room for."""
  if not ids:
    raise ApiError(400, 'the prompt has no tokens', 'prompt')
  wanted = 1 if max_tokens is None else max_tokens
  if len(ids) + wanted > max_len:
    hint = ', or lower max_tokens' if len(ids) < max_len else ''
    raise ApiError(
      400,
      f'the prompt has {len(ids)} tokens and the response may have {wanted}, '
      f'but the server has room for {max_len}: shorten the prompt{hint}',
      'max_tokens',
    )
  return max_len - len(ids) if max_tokens is None else max_tokens


def _prompts(prompt):
  """The prompts of a completion: texts, or lists of ids."""
  if isinstance(prompt, str):
    return [prompt]
  if isinstance(prompt, list) and prompt:
    if all(api_fields.is_integer(i) for i in prompt):
      return [prompt]
    is_rows = all(isinstance(x, list) for x in prompt)
    if is_rows and all(api_fields.is_integer(i) for row in prompt for i in row):
      return prompt
    if all(isinstance(x, str) for x in prompt):
      return prompt
  raise ApiError(
    400, 'prompt must be a text, a list of ids, or a list of these', 'prompt'
  )


def _check_ids(ids, limits):
  wrong = [i for i in ids if not 0 <= i < limits.vocab_size]
  if wrong:
    raise ApiError(
      400,
      f'prompt has the id {wrong[0]}: the model has the ids 0 to '
      f'{limits.vocab_size - 1}',
      'prompt',
    )


def _encode(model, text, limits, param):
  """The ids of a text, unless it is much too long: that would take minutes."""
  if len(text) > limits.max_len * TOKEN_CHARACTERS:
    raise ApiError(
      400,
      f'the prompt has {len(text)} characters, but the server has room for '
      f'{limits.max_len} tokens: shorten it',
      param,
    )
  try:
    return model.policy.tokenizer.encode(text)
  except errors.UserError as error:
    raise ApiError(400, str(error), param) from error


def _include_usage(stream_options, stream):
  if stream_options is None:
    return False
  match stream_options:
    case {**fields} if stream and set(fields) <= STREAM_OPTIONS:
      return api_fields.flag(fields, 'include_usage')
  raise ApiError(
    400,
    'stream_options must be {"include_usage": true or false}, with stream: true',
    'stream_options',
  )
