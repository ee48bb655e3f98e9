"""Programs in a sandbox somewhere else: a service that speaks the protocol of
SandboxFusion (POST URL/run_code)."""

import http.client
import json
import urllib.error
import urllib.request

from r1jax.sandbox import inside, launch, outcome
from r1jax.sandbox.outcome import Outcome, Stopped

TOLD = 2000  # characters of a program's stderr that are kept
MISREAD = AttributeError, KeyError, TypeError, ValueError
PATIENCE = 30.0  # seconds beside the program's own, for a queue


def source(code, limits, serve):
  """A whole Python program: the driver, and what it shall run."""
  setup = dict(
    serve=serve,
    say_loaded=False,
    code=code,
    output=limits.output,
    restrictions=None,
  )
  wire, driver = launch.sources()
  return f'{launch.START}\nstart({wire!r}, {driver!r}, {setup!r})\n'


def run(tier, code, stdin, limits, serve=False):
  """The Outcome of one run at the service."""
  body = dict(
    code=source(code, limits, serve),
    language='python',
    stdin=stdin.decode('utf-8', 'surrogateescape'),
    compile_timeout=limits.seconds,
    run_timeout=limits.seconds,
    memory_limit_MB=limits.memory >> 20,
  )
  try:
    told = asked(tier.place, body, limits)
    return ending(told, limits)
  except Stopped as stopped:
    return Outcome(stopped.kind, b'', stopped.detail)
  except (OSError, http.client.HTTPException, *MISREAD) as error:
    problem = f'{type(error).__name__}: {error}'
    return Outcome('infra', b'', f'the service failed: {problem}')


def ending(told, limits):
  """The Outcome that a service's answer tells; one of MISREAD where it is no
  answer."""
  if told['status'] == 'SandboxError':
    return Outcome('infra', b'', f'the service says: {told["message"]}')
  result = told['run_result']
  stdout = (result['stdout'] or '').encode('utf-8', 'replace')
  detail = (result['stderr'] or '').strip()[-TOLD:]
  if result['status'] == 'TimeLimitExceeded':
    return Outcome('timeout', stdout, f'more than {limits.seconds} seconds')
  if len(stdout) > limits.output:
    return Outcome('output', stdout, f'more than {limits.output} bytes')
  kinds = {0: 'passed', inside.COMPILE: 'compile', inside.MEMORY: 'memory'}
  return Outcome(kinds.get(result['return_code'], 'error'), stdout, detail)


def asked(url, body, limits):
  """The service's answer to a request, of a bounded length."""
  request = urllib.request.Request(
    url.rstrip('/') + '/run_code',
    json.dumps(body).encode(),
    {'Content-Type': 'application/json'},
  )
  most = 8 * limits.output + (1 << 20)
  with urllib.request.urlopen(
    request, timeout=3 * limits.seconds + 1 + PATIENCE
  ) as response:
    data = response.read(most + 1)
  if len(data) > most:
    raise Stopped('output', f'an answer of more than {most} bytes')
  return json.loads(data)


def ask(tier, code, limits, line):
  """The reply of a program to a line, in a run of its own: it remembers nothing
  from one call to the next."""
  ended = run(tier, code, line, limits, serve=True)
  if ended.kind not in ('passed', 'error'):
    raise Stopped(ended.kind, ended.detail)
  lines = ended.stdout.splitlines()
  if len(lines) != 1:
    raise Stopped('error', ended.detail or f'{len(lines)} answers to a call')
  return outcome.read(lines[0])
