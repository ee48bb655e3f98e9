"""The tiers that this machine has, a service among them that runs what it is
sent in one of the others."""

import contextlib
import http.server
import json
import re
import threading

import pytest

from r1jax.sandbox import tiers

FOUND = {name: (tier, why) for name, tier, why in tiers.tiers()}
TIERS = 'bwrap', 'landlock', 'service'
LIMITS = tiers.Limits(seconds=1, memory=256 << 20, output=1 << 16)


def local():
  """A tier of this machine; skips the test where there is none."""
  for tier, _ in FOUND.values():
    if tier:
      return tier
  pytest.skip('; '.join(why for _, why in FOUND.values()))


@contextlib.contextmanager
def tier_of(name):
  """The tier of a name; skips the test where it is not had."""
  if name == 'service':
    with service() as url:
      yield tiers.Tier('service', url)
    return
  tier, why = FOUND[name]
  if not tier:
    pytest.skip(why)
  yield tier


@contextlib.contextmanager
def service(answer=None):
  """The URL of a SandboxFusion service; `answer` is what it always says."""
  tier = local()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
      assert self.path == '/run_code'
      asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
      said = json.dumps(answer or ran(tier, asked)).encode()
      self.send_response(200)
      self.send_header('Content-Length', str(len(said)))
      self.end_headers()
      self.wfile.write(said)

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


def ran(tier, asked):
  """What the service says of a program."""
  limits = tiers.Limits(
    asked['run_timeout'], asked['memory_limit_MB'] << 20, LIMITS.output
  )
  kind, stdout, detail = tiers.run(
    tier, asked['code'], asked['stdin'].encode(), limits
  )
  # The driver that is sent is a program here, so its exit code is in words.
  left = re.search(r'exit with (\d+)\Z', detail)
  statuses = dict(passed='Finished', timeout='TimeLimitExceeded')
  return dict(
    status='Success' if kind == 'passed' else 'Failed',
    message='',
    compile_result=None,
    run_result=dict(
      status=statuses.get(kind, 'Error'),
      execution_time=0.01,
      return_code=int(left[1]) if left else int(kind != 'passed'),
      stdout=stdout.decode('utf-8', 'replace'),
      stderr=detail,
    ),
    executor_pod_name=None,
    files={},
  )
