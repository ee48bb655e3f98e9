"""Bodies of HTTP requests: read within bounds, and to their end before the
answer, which a client that still sends could not read."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request as HttpRequest

from r1jax.serving.api_fields import ApiError

MAX_BODY = 16 * 2**20  # bytes
MAX_REST = 256 * 2**20  # bytes that are read of a body that is refused
BODY_SECONDS = 60.0  # in which a body must arrive, and the rest of one

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def read(request: HttpRequest) -> bytes:
  """The bytes of a body of JSON. Raises ApiError."""
  kind = request.headers.get('content-type', '').partition(';')[0].strip()
  if kind.lower() != 'application/json':
    raise ApiError(
      415, 'send the body with the header Content-Type: application/json'
    )
  content = bytearray()
  try:
    async with asyncio.timeout(BODY_SECONDS):
      async for part in request.stream():
        content += part
        if len(content) > MAX_BODY:
          raise ApiError(
            413, f'the body has more than {MAX_BODY >> 20} MiB: send less'
          )
  except TimeoutError as error:
    raise ApiError(
      408, f'the body did not arrive within {BODY_SECONDS:.0f} seconds'
    ) from error
  return bytes(content)


class ReadToEnd:
  """An ASGI application that answers when the body has arrived, or MAX_REST of
  it. A body that waits for `100 Continue` need not be sent."""

  def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
    self.app = app

  async def __call__(
    self, scope: MutableMapping[str, Any], receive: Receive, send: Send
  ) -> None:
    names = [name.lower() for name, _ in scope['headers']]
    is_complete = b'expect' in names

    async def noted() -> Message:
      nonlocal is_complete
      message = await receive()
      is_complete = not message.get('more_body', False)
      return message

    async def skip_rest() -> None:
      left = MAX_REST
      while not is_complete and left > 0:
        left -= len((await noted()).get('body', b''))

    async def send_at_end(message: Message) -> None:
      if message['type'] == 'http.response.start':
        with contextlib.suppress(TimeoutError):
          async with asyncio.timeout(BODY_SECONDS):
            await skip_rest()
      await send(message)

    await self.app(scope, noted, send_at_end)
