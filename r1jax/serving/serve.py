"""Serves a model over HTTP as OpenAI's completions and chat completions, with a
page to try it in."""

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Sequence

from r1jax import errors
from r1jax.command_errors import CommandParser
from r1jax.distributed import programs, signals
from r1jax.serving import options, source
from r1jax.serving.engine import Engine
from r1jax.serving.request import Request
from r1jax.training import memory_errors

USAGE = 'MODEL [--port N] [--slots N] [--max-len N] …'
KEYS = """\
It listens on 127.0.0.1. Elsewhere (--host) it needs a key, --api-key or the
environment variable R1JAX_API_KEY, and gives no encryption: put a proxy with
TLS before it. Temperature and other options come with each request."""
KEY_VARIABLE = 'R1JAX_API_KEY'
GRACE = 10.0  # seconds that requests have to end after SIGTERM
IDLE = 0.2  # seconds between two looks at whether to end
MISSING = "serve needs starlette and uvicorn: pip install 'r1jax[serve]'"


def make_parser() -> CommandParser:
  parser = options.parser_of('serve', USAGE, f'{__doc__}\n\n{KEYS}')
  options.add_max_len(parser, default=2048)
  add, add_number = parser.add_argument, parser.add_number
  add('--host', metavar='H', default='127.0.0.1', help='default: 127.0.0.1')
  add_number('--port', 8000, 'where it listens; 0: a free one', 0, 65535)
  add('--api-key', metavar='KEY', help=f'default: ${KEY_VARIABLE}')
  add('--name', metavar='TEXT', help='of the model; default: MODEL')
  add_number('--slots', 8, 'responses that are decoded at a time', 1)
  waiting = 'responses that may wait; others get the status 429'
  add_number('--queue', 256, waiting, 1)
  seconds = 'seconds of a request, with its waiting'
  add_number('--timeout', 600, seconds, 1, kind=float)
  return parser


def run(arguments: Sequence[str]) -> int:
  """Serves until SIGTERM or Ctrl-C; then requests have GRACE seconds to end."""
  chosen = make_parser().parse(arguments)
  with errors.explained(MISSING, ImportError):
    import uvicorn

    from r1jax.serving import app
  key = chosen.api_key or os.environ.get(KEY_VARIABLE, '')
  check_key(chosen.host, key)
  listener = listen(chosen.host, chosen.port)
  programs.compilation_cache()
  advice = 'lower --slots or --max-len, --dtype bfloat16'
  with memory_errors.advised(advice):
    model = source.load(
      chosen.model, chosen.dtype, chosen.template, chosen.prefill
    )
    engine = Engine(
      model.policy,
      model.eos_ids,
      num_slots=chosen.slots,
      max_len=chosen.max_len,
      max_waiting=chosen.queue,
      timeout=chosen.timeout,
    )
    compile_first(engine)
    name = chosen.name or chosen.model
    config = web_config(app.make_app(model, engine, name, key))
    server = uvicorn.Server(config)
    web = threading.Thread(
      target=server.run, kwargs=dict(sockets=[listener]), name='http'
    )
    print(banner(chosen, engine, listener), flush=True)
    run_to_end(engine, server, web)
  return 0


def web_config(application):
  """How uvicorn serves the application: without signals and access logs."""
  import uvicorn

  return uvicorn.Config(
    application,
    http='h11',
    ws='none',
    loop='asyncio',
    lifespan='off',
    log_config=None,
    log_level='warning',
    access_log=False,
    proxy_headers=False,
    server_header=False,
    timeout_graceful_shutdown=5,
  )


def run_to_end(engine: Engine, server, web: threading.Thread) -> None:
  """Runs the engine in this thread and the server in another, until a signal
  asks the process to end. Another one after its grace period ends it at once."""
  ending, signals_so_far = threading.Event(), signals.Requests()

  def receive(number):
    if signals_so_far.add(number) == 'again':
      signals.end_at_once(number)
    ending.set()

  with signals.received(receive):
    web.start()
    try:
      while not ending.is_set() and web.is_alive():
        engine.run_once()
        engine.wait(IDLE)
      if not ending.is_set():
        raise RuntimeError('the thread of the HTTP server has ended')
      finish(engine)
    except BaseException:
      engine.fail()
      raise
    finally:
      server.should_exit = True
      web.join()


def finish(engine: Engine) -> None:
  """Takes no more requests, and ends those that are there within GRACE."""
  engine.stop()
  counts = engine.counts()
  open_requests = counts.running + counts.waiting
  if open_requests:
    print(f'ending: {open_requests} responses to finish', flush=True)
  deadline = time.monotonic() + GRACE
  while any(engine.counts()[:2]) and time.monotonic() < deadline:
    engine.run_once()
  engine.cancel_all()
  print('ended', flush=True)


def compile_first(engine: Engine) -> None:
  """Compiles the programs for short prompts. Those for longer ones, one for
  each power of 2, are compiled with the first such prompt."""
  for _ in engine.stream(Request(prompt=(0,), max_tokens=1)):
    pass


def check_key(host: str, key: str) -> None:
  """Raises UserError for a server that others reach without a key."""
  if key and not (key.isascii() and key.isprintable() and ' ' not in key):
    raise errors.UserError(
      'the key must be of letters, digits and signs, without spaces'
    )
  if not key and not is_loopback(host):
    raise errors.UserError(
      f'{host} can be reached from other machines: give a key with --api-key '
      f'or the environment variable {KEY_VARIABLE}, or listen on 127.0.0.1'
    )


def is_loopback(host: str) -> bool:
  """Whether a host is this machine alone."""
  if host == 'localhost':
    return True
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return False


def listen(host: str, port: int) -> socket.socket:
  """A socket that is bound, but refuses clients until the server is ready.
  Raises UserError if that is not possible."""
  try:
    family, _, _, _, address = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
  except OSError as error:
    raise errors.UserError(
      f'cannot listen on {host} port {port} ({error.strerror or error}): '
      'choose another --port or --host'
    ) from None
  return listener


def banner(chosen, engine: Engine, listener: socket.socket) -> str:
  """What the server says when it is ready."""
  host, port = listener.getsockname()[:2]
  name = f'[{host}]' if ':' in host else host
  memory = engine.cache_bytes / 2**30
  return (
    f'{chosen.model}: {chosen.slots} slots of {engine.max_len} tokens, '
    f'{memory:.2f} GiB for their keys and values\n'
    f'page: http://{name}:{port}/   API: http://{name}:{port}/v1'
  )
