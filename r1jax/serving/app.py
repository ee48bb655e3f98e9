"""The HTTP application of a server: OpenAI's completions and chat completions
over the engine, and a page to try the model in."""

import asyncio
import functools
import hmac
import json
import pathlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette import concurrency
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import (
  HTMLResponse,
  JSONResponse,
  Response,
  StreamingResponse,
)
from starlette.routing import Route

from r1jax.serving import api_answer, api_fields, api_request, request_body
from r1jax.serving.api_answer import Answer
from r1jax.serving.api_fields import ApiError
from r1jax.serving.api_request import Asked, Limits
from r1jax.serving.engine import Engine, QueueFull, Stopped
from r1jax.serving.request import Update
from r1jax.serving.source import Source

PAGE = pathlib.Path(__file__).with_name('page.html')
RETRY_AFTER = 1  # seconds, for a client that meets a full queue
LOOPBACK = 'localhost', '127.0.0.1', '[::1]'
# The page is one file; it may connect to this server alone.
POLICY = (
  "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
  "connect-src 'self'; base-uri 'none'; form-action 'none'; "
  "frame-ancestors 'none'"
)
KINDS = {401: 'authentication_error', 429: 'rate_limit_error'}


class Api:
  """The handlers. `key` is what clients must show; '': none, and then only
  those that name the server as a loopback host are answered."""

  def __init__(self, model: Source, engine: Engine, name: str, key: str):
    self.model, self.engine, self.name, self.key = model, engine, name, key
    self.created = int(time.time())
    self.limits = Limits(
      max_len=engine.max_len,
      max_responses=min(engine.max_waiting, 4 * api_request.MAX_CHOICES),
      vocab_size=engine.vocab_size,
    )

  async def page(self, request: HttpRequest) -> Response:
    headers = {'Content-Security-Policy': POLICY, 'Cache-Control': 'no-store'}
    return HTMLResponse(PAGE.read_text('utf-8'), headers=headers)

  async def health(self, request: HttpRequest) -> Response:
    body = dict(
      status='ok',
      model=self.name,
      holds_turns=self.model.holds_turns,
      **self.engine.counts()._asdict(),
    )
    return JSONResponse(body)

  async def models(self, request: HttpRequest) -> Response:
    self._authorize(request)
    return JSONResponse(dict(object='list', data=[self._entry()]))

  async def one_model(self, request: HttpRequest) -> Response:
    self._authorize(request)
    self._check_model(request.path_params['name'])
    return JSONResponse(self._entry())

  async def chat(self, request: HttpRequest) -> Response:
    return await self._complete(request, api_request.read_chat, is_chat=True)

  async def completion(self, request: HttpRequest) -> Response:
    read = api_request.read_completion
    return await self._complete(request, read, is_chat=False)

  async def _complete(self, request, read: Callable, is_chat: bool):
    self._authorize(request)
    content = await request_body.read(request)
    # In threads: a long body takes a while to parse, and to encode.
    body = await concurrency.run_in_threadpool(api_fields.parse, content)
    self._check_model(body.get('model'))
    asked = await concurrency.run_in_threadpool(
      read, body, self.model, self.limits
    )
    answer = Answer(asked, self.name, self.model.policy.tokenizer, is_chat)
    updates = self._updates(asked, request)
    # Raises ApiError for a full queue before an answer begins.
    first = await anext(updates)
    assert first is None
    if asked.stream:
      return StreamingResponse(
        _stream(answer, updates),
        media_type='text/event-stream',
        headers={'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no'},
      )
    try:
      async for n, update in updates:
        _raise_failure(update)
        answer.add(n, update)
    finally:
      await updates.aclose()
    return JSONResponse(answer.whole())

  async def _updates(self, asked: Asked, request: HttpRequest) -> Any:
    """None when the requests are in the queue, then (n, update) until all
    responses have ended. Cancels them if the client goes away."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue()  # type: ignore
    receive = [
      functools.partial(_put, loop, queue, n)
      for n in range(len(asked.requests))
    ]
    try:
      tickets = self.engine.submit(asked.requests, receive)
    except QueueFull as error:
      raise ApiError(
        429,
        f'{self.engine.max_waiting} requests are waiting already: try again',
        headers={'Retry-After': str(RETRY_AFTER)},
      ) from error
    except Stopped as error:
      raise ApiError(503, 'the server ends') from error
    watch = asyncio.create_task(_watch(request, queue))
    try:
      yield None
      left = len(tickets)
      while left:
        item = await queue.get()
        if item is None:
          raise ClientGone
        left -= item[1].finish != ''
        yield item
    finally:
      watch.cancel()
      self.engine.cancel(tickets)

  def _authorize(self, request):
    if not self.key:
      host = request.headers.get('host', '').lower()
      name, _, port = host.rpartition(':')
      if host not in LOOPBACK and not (name in LOOPBACK and port.isdigit()):
        raise ApiError(
          403,
          f'this server has no key, so it answers as localhost only, not as '
          f'{host!r}: start it with --api-key',
        )
      return
    given = request.headers.get('authorization', '')
    wanted = f'Bearer {self.key}'
    if not hmac.compare_digest(given.encode(), wanted.encode()):
      raise ApiError(
        401,
        'the key is missing or wrong: send it as Authorization: Bearer KEY',
        headers={'WWW-Authenticate': 'Bearer'},
      )

  def _check_model(self, name):
    if name is not None and name != self.name:
      raise ApiError(
        404, f'there is no model {name!r}: this is {self.name!r}', 'model'
      )

  def _entry(self):
    return api_answer.model_entry(self.name, self.created, self.limits.max_len)


class ClientGone(Exception):
  """The client has closed its connection."""


def make_app(model: Source, engine: Engine, name: str, key: str) -> Starlette:
  """The application. The engine is run by another thread."""
  api = Api(model, engine, name, key)
  routes = [
    Route('/', api.page),
    Route('/health', api.health),
    Route('/v1/models', api.models),
    Route('/v1/models/{name:path}', api.one_model),
    Route('/v1/chat/completions', api.chat, methods=['POST']),
    Route('/v1/completions', api.completion, methods=['POST']),
  ]
  handlers: dict[Any, Callable] = {
    ApiError: _api_error,
    HTTPException: _http_error,
    ClientGone: _client_gone,
    ClientDisconnect: _client_gone,  # before its body has arrived
    Exception: _failure,
  }
  return Starlette(
    routes=routes,
    exception_handlers=handlers,
    middleware=[Middleware(request_body.ReadToEnd)],
  )


async def _stream(
  answer: Answer, updates: AsyncIterator[tuple[int, Update]]
) -> AsyncIterator[str]:
  """The events of a stream."""
  try:
    for n in range(len(answer.asked.requests)):
      yield _event(answer.first_chunk(n))
    async for n, update in updates:
      answer.add(n, update)
      if failure := api_answer.failure(update):
        status, sentence = failure
        yield _event(
          api_answer.error_body(sentence, _kind(status), code=str(status))
        )
        return
      if update.text or update.tokens or update.prompt or update.finish:
        yield _event(answer.chunk(n, update))
    if answer.asked.include_usage:
      yield _event(answer.usage_chunk())
    yield 'data: [DONE]\n\n'
  except ClientGone:
    return
  finally:
    await updates.aclose()  # type: ignore[attr-defined]


async def _watch(request, queue):
  """Puts None into the queue when the client goes away."""
  message = dict(type='')
  while message['type'] != 'http.disconnect':
    message = await request.receive()
  queue.put_nowait(None)


def _put(loop, queue, n, update):
  """Hands an update of the engine's thread to the loop of the server."""
  if not loop.is_closed():
    loop.call_soon_threadsafe(queue.put_nowait, (n, update))


def _raise_failure(update):
  if failure := api_answer.failure(update):
    raise ApiError(*failure)


def _event(body):
  return f'data: {json.dumps(body, ensure_ascii=False)}\n\n'


def _kind(status):
  kind = 'server_error' if status >= 500 else 'invalid_request_error'
  return KINDS.get(status, kind)


async def _api_error(request, error):
  code = 'invalid_api_key' if error.status == 401 else None
  body = api_answer.error_body(
    error.sentence, _kind(error.status), error.param, code
  )
  return JSONResponse(body, error.status, headers=error.headers)


async def _http_error(request, error):
  sentences = {
    404: f'there is no {request.url.path}: see /v1/models',
    405: f'{request.url.path} is not for {request.method}',
  }
  sentence = sentences.get(error.status_code, error.detail)
  body = api_answer.error_body(sentence, _kind(error.status_code))
  return JSONResponse(body, error.status_code, headers=error.headers)


async def _failure(request, error):
  """The answer to an unexpected error, whose traceback uvicorn prints."""
  sentence = 'the server failed; it has more in its output'
  return JSONResponse(api_answer.error_body(sentence, _kind(500)), 500)


async def _client_gone(request, error):
  return Response(status_code=499)  # which nobody reads
