"""The tiers of this machine, and a service that runs programs in one."""

import contextlib
import http.server
import json
import re
import threading

import pytest

from r1jax.sandbox import tiers

FOUND = {name: (tier, reason) for name, tier, reason in tiers.probe()}
TIERS = 'bwrap', 'landlock', 'service'
# A slow machine needs a small part of this time.
LIMITS = tiers.Limits(seconds=60, memory=256 << 20, output=1 << 16)
SHORT = 2.0  # CPU seconds of programs that must exceed their limit


def local():
  """A tier of this machine; skips the test without one."""
  for tier, _ in FOUND.values():
    if tier:
      return tier
  pytest.skip('; '.join(reason for _, reason in FOUND.values()))


@contextlib.contextmanager
def tier_of(name):
  """The tier of a name; skips the test if it does not work here."""
  if name == 'service':
    with service() as url:
      yield tiers.Tier('service', url)
    return
  tier, reason = FOUND[name]
  if not tier:
    pytest.skip(reason)
  yield tier


@contextlib.contextmanager
def service(response=None):
  """The URL of a SandboxFusion service, with a fixed response if given."""
  tier = local()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
      assert self.path == '/run_code'
      request = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
      data = json.dumps(response or respond(tier, request)).encode()
      self.send_response(200)
      self.send_header('Content-Length', str(len(data)))
      self.end_headers()
      self.wfile.write(data)

    def log_message(self, *_):
      pass

  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
  thread = threading.Thread(target=server.serve_forever, args=(0.02,))
  thread.start()
  try:
    yield f'http://127.0.0.1:{server.server_port}/'
  finally:
    server.shutdown()
    thread.join()
    server.server_close()


def respond(tier, request):
  """The response to a request, whose program runs in the tier."""
  limits = tiers.Limits(
    seconds=request['run_timeout'],
    memory=request['memory_limit_MB'] << 20,
    output=LIMITS.output,
  )
  kind, stdout, detail = tiers.run(
    tier, [request['code']], request['stdin'], limits
  )
  # The driver of the request is itself a program here: its exit code stands in
  # the message.
  exit_code = re.search(r'exit with (\d+)\Z', detail)
  statuses = dict(passed='Finished', timeout='TimeLimitExceeded')
  return dict(
    status='Success' if kind == 'passed' else 'Failed',
    message='',
    compile_result=None,
    run_result=dict(
      status=statuses.get(kind, 'Error'),
      execution_time=0.01,
      return_code=int(exit_code[1]) if exit_code else int(kind != 'passed'),
      stdout=stdout.decode('utf-8', 'replace'),
      stderr=detail,
    ),
    executor_pod_name=None,
    files={},
  )
