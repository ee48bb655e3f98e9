"""Programs in a sandbox elsewhere: a service with the protocol of SandboxFusion
(POST URL/run_code)."""

import http.client
import json
import math
import time
import urllib.request

from r1jax.sandbox import launch, outcome
from r1jax.sandbox.outcome import Limits, Outcome, Stopped

MAX_STDERR = 2000  # characters of a program's stderr that are kept
CHUNK = 1 << 16
QUEUE_SECONDS = 30.0  # in addition to the program's
# What reading a response raises that does not follow the protocol.
MALFORMED = AttributeError, KeyError, TypeError, ValueError


class ServiceChannel:
  """Calls of a program's functions. Each call runs in a new process, so the
  program keeps no state between calls."""

  def __init__(
    self, url: str, code: list[str], limits: Limits, given: dict
  ) -> None:
    self.url, self.limits = url, limits
    self.script = launch.script(code, limits, True, given)
    self.deadline = time.monotonic() + (limits.suite_wall or math.inf)

  def ask(self, line: bytes) -> object:
    """The reply to a request. Raises Stopped if there is none."""
    if time.monotonic() > self.deadline:
      raise Stopped('timeout', outcome.WALL_TIME)
    kind, stdout, detail = run(
      self.url, self.script, line.decode(), self.limits
    )
    if kind not in ('passed', 'error'):
      raise Stopped(kind, detail)
    lines = stdout.splitlines()
    if len(lines) != 1:
      raise Stopped('error', detail or f'{len(lines)} replies to a call')
    return outcome.parse_reply(lines[0])


def reach(url: str) -> None:
  """Raises an exception if the service does not answer."""
  urllib.request.urlopen(url, timeout=QUEUE_SECONDS).close()


def run(url: str, script: str, stdin: str, limits: Limits) -> Outcome:
  """The Outcome of a launch.script at a service."""
  body = dict(
    code=script,
    language='python',
    stdin=stdin,
    compile_timeout=limits.max_seconds,
    run_timeout=limits.max_seconds,
    memory_limit_MB=limits.memory >> 20,
  )
  max_bytes = 8 * limits.output + (1 << 20)
  try:
    request = urllib.request.Request(
      url.rstrip('/') + '/run_code',
      json.dumps(body).encode(),
      {'Content-Type': 'application/json'},
    )
    timeout = limits.max_wall + QUEUE_SECONDS
    deadline = time.monotonic() + timeout
    data = b''
    with urllib.request.urlopen(request, timeout=timeout) as response:
      while part := response.read1(CHUNK):
        data += part
        if len(data) > max_bytes or time.monotonic() > deadline:
          break
    if time.monotonic() > deadline:
      return Outcome(
        'infra', b'', f'the service took more than {timeout:.0f} s'
      )
    if len(data) > max_bytes:
      return Outcome('output', b'', f'a response over {max_bytes} bytes')
    return _parse(json.loads(data), limits)
  except (OSError, http.client.HTTPException, *MALFORMED) as error:
    problem = f'{type(error).__name__}: {error}'
    return Outcome('infra', b'', f'the service failed: {problem}')


def _parse(response, limits):
  if response['status'] == 'SandboxError':
    return Outcome('infra', b'', f'the service failed: {response["message"]}')
  result = response['run_result']
  stdout = (result['stdout'] or '').encode('utf-8', 'replace')
  stderr = (result['stderr'] or '').strip()[-MAX_STDERR:]
  if result['status'] == 'TimeLimitExceeded':
    return Outcome('timeout', stdout, f'more than {limits.seconds} seconds')
  if len(stdout) > limits.output:
    return Outcome('output', stdout, f'more than {limits.output} bytes')
  kind = outcome.EXIT_KINDS.get(result['return_code'], 'error')
  return Outcome(kind, stdout, stderr)
