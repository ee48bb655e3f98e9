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


class Limits(NamedTuple):
  """What a server has room for."""

  max_len: int  # tokens of prompt and response
  max_responses: int  # of one call
  vocab_size: int


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
  ids = _encode(model, prompt.full_text, 'messages')
  name = 'max_tokens'
  if body.get('max_completion_tokens') is not None:
    name = 'max_completion_tokens'
  max_tokens = api_fields.integer(body, name, None, 1)
  logprobs = api_fields.flag(body, 'logprobs')
  top_logprobs = api_fields.integer(body, 'top_logprobs', 0, 0, MAX_TOP)
  if top_logprobs and not logprobs:
    raise ApiError(400, 'top_logprobs needs logprobs: true', 'top_logprobs')
  return _asked(
    body,
    model,
    limits,
    [ids],
    [prompt.full_text],
    prompt.opening,
    max_tokens,
    top_logprobs,
    logprobs,
  )


def read_completion(body: dict, model: Source, limits: Limits) -> Asked:
  """A completion of texts or of rows of ids, which are taken as they are."""
  api_fields.check_known(body, (*COMMON, *COMPLETION))
  prompts, texts = [], []
  for prompt in _prompts(body.get('prompt')):
    if isinstance(prompt, str):
      api_fields.check_text(prompt, 'prompt')
      text = templates.with_prefix(model.policy.tokenizer, prompt)
      prompts.append(_encode(model, text, 'prompt'))
      texts.append(prompt)
    else:
      wrong = [i for i in prompt if not 0 <= i < limits.vocab_size]
      if wrong:
        raise ApiError(
          400,
          f'prompt has the id {wrong[0]}: the model has the ids 0 to '
          f'{limits.vocab_size - 1}',
          'prompt',
        )
      prompts.append(prompt)
      texts.append(model.policy.tokenizer.decode(prompt))
  echo = api_fields.flag(body, 'echo')
  max_tokens = api_fields.integer(
    body, 'max_tokens', COMPLETION_TOKENS, 0 if echo else 1
  )
  top_logprobs = api_fields.integer(body, 'logprobs', None, 0, MAX_TOP)
  return _asked(
    body,
    model,
    limits,
    prompts,
    texts,
    '',
    max_tokens,
    top_logprobs or 0,
    top_logprobs is not None,
    echo,
  )


def _asked(
  body,
  model,
  limits,
  prompts,
  texts,
  opening,
  max_tokens,
  top_logprobs,
  logprobs,
  echo=False,
):
  """What the fields that both have ask for."""
  stream = api_fields.flag(body, 'stream')
  n = api_fields.integer(body, 'n', 1, 1, MAX_CHOICES)
  if n * len(prompts) > limits.max_responses:
    raise ApiError(
      400,
      f'the request asks for {n * len(prompts)} responses at once, but the '
      f'server takes {limits.max_responses}: ask for fewer',
      'n',
    )
  seed = api_fields.integer(body, 'seed', None, 0, MAX_SEED)
  shared = Request(
    prompt=(),
    max_tokens=0,
    temperature=api_fields.number(body, 'temperature', 1.0, 0, 100),
    top_p=api_fields.number(body, 'top_p', 1.0, 1e-6, 1),
    top_k=api_fields.integer(body, 'top_k', 0, -1, 2**31 - 1),
    seed=options.new_seed() if seed is None else seed,
    stop=(*model.stop, *api_fields.stop_of(body)),
    top_logprobs=top_logprobs,
    prompt_logprobs=echo and logprobs,
  )
  shared = dataclasses.replace(shared, top_k=max(shared.top_k, 0))  # -1: all
  requests = []
  for number, ids in enumerate(prompts):
    count = _fitting(ids, max_tokens, limits.max_len)
    for member in range(n):
      requests.append(
        dataclasses.replace(
          shared,
          prompt=tuple(ids),
          max_tokens=count,
          number=number,
          member=member,
        )
      )
  return Asked(
    requests=requests,
    n=n,
    texts=texts,
    opening=opening,
    stream=stream,
    include_usage=_include_usage(body.get('stream_options'), stream),
    logprobs=logprobs,
    echo=echo,
    return_token_ids=api_fields.flag(body, 'return_token_ids'),
  )


def _fitting(ids, max_tokens, max_len):
  """The tokens of a response; None: as many as there is room for."""
  if not ids:
    raise ApiError(400, 'the prompt has no tokens', 'prompt')
  wanted = 1 if max_tokens is None else max_tokens
  if len(ids) + wanted > max_len:
    raise ApiError(
      400,
      f'the prompt has {len(ids)} tokens and the response may have {wanted}, '
      f'but the server has room for {max_len}: shorten the prompt, or lower '
      'max_tokens',
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


def _encode(model, text, param):
  try:
    return model.policy.tokenizer.encode(text)
  except errors.UserError as error:
    raise ApiError(400, str(error), param) from error


def _include_usage(stream_options, stream):
  if stream_options is None:
    return False
  match stream_options:
    case {'include_usage': bool(value), **rest} if stream and not rest:
      return value
  raise ApiError(
    400,
    'stream_options must be {"include_usage": true or false}, with stream: true',
    'stream_options',
  )
