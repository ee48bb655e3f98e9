"""A server of the toy model in this process, and its clients."""

import contextlib
import dataclasses
import http.client
import json
import threading

import uvicorn

from r1jax.serving import app, serve
from r1jax.serving.engine import Engine
from r1jax.serving.source import Source


@dataclasses.dataclass
class Server:
  engine: Engine
  port: int
  key: str

  def call(self, method, path, body=None, **headers):
    """(status, headers, JSON) of a request."""
    with contextlib.closing(self.connection()) as connection:
      response = send(connection, method, path, body, self.key, headers)
      return response.status, response.headers, json.loads(response.read())

  def post(self, path, **body):
    """The JSON of an answer without an error."""
    status, _, answer = self.call('POST', path, body)
    assert status == 200, answer
    return answer

  def refused(self, path, **body):
    """(status, sentence) of an error."""
    status, _, answer = self.call('POST', path, body)
    return status, answer['error']['message']

  def events(self, path, **body):
    """The chunks of a stream."""
    with contextlib.closing(self.connection()) as connection:
      body = body | dict(stream=True)
      response = send(connection, 'POST', path, body, self.key, {})
      assert response.status == 200
      texts = response.read().decode().removesuffix('\n\n').split('\n\n')
    assert texts.pop() == 'data: [DONE]'
    return [json.loads(text.removeprefix('data: ')) for text in texts]

  def connection(self):
    return http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)


def send(connection, method, path, body, key, headers):
  """The response to a request, whose body has not been read."""
  headers = {'Content-Type': 'application/json'} | {
    name.replace('_', '-'): value for name, value in headers.items()
  }
  if key and 'Authorization' not in headers:
    headers['Authorization'] = f'Bearer {key}'
  content = body if isinstance(body, bytes) else json.dumps(body).encode()
  connection.request(method, path, None if body is None else content, headers)
  return connection.getresponse()


@contextlib.contextmanager
def serving(model: Source, engine: Engine, key=''):
  """A Server, whose engine runs in a thread."""
  listener = serve.listen('127.0.0.1', 0)
  server = uvicorn.Server(
    serve.web_config(app.make_app(model, engine, 'toy', key))
  )
  web = threading.Thread(target=server.run, kwargs=dict(sockets=[listener]))
  ending = threading.Event()

  def decode():
    while not ending.is_set():
      engine.run_once()
      engine.wait(0.05)

  loop = threading.Thread(target=decode)
  web.start()
  loop.start()
  try:
    while not server.started:
      pass
    yield Server(engine, listener.getsockname()[1], key)
  finally:
    ending.set()
    loop.join()
    engine.stop()
    engine.cancel_all()
    server.should_exit = True
    web.join()
