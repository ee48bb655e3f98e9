"""Which errors are a user's, which may be tried again, and how they are shown."""

import errno
import functools
import http.server
import signal
import socket
import struct
import threading
import urllib.error
import urllib.request

import huggingface_hub
import huggingface_hub.errors as hub_errors
import pytest
import requests

from r1jax import errors
from r1jax.checkpoints import hf_files
from r1jax.data import bad_records
from r1jax.distributed import signals, watchdog
from r1jax.training import checkpoint

# Escapes of terminals, line ends, changes of direction, half of a character.
BAD = 'a\x1b[2J\x1b]0;t\x07\r\nr1jax: forged\x9b31m\u202e\u2066\u2028\ud800\x7f'


class Hub(http.server.BaseHTTPRequestHandler):
  """A hub whose answers are its server's `answer`: a status, or a failure."""

  def do_GET(self):
    answer = self.server.answer
    if answer == 'reset':
      linger = struct.pack('ii', 1, 0)
      self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
      self.connection.close()
      self.close_connection = True
    elif answer == 'cut':
      self.send_response(200)
      self.send_header('Content-Length', '1000')
      self.end_headers()
      self.wfile.write(b'{')
    else:
      self.send_response(answer)
      self.send_header('Content-Length', '0')
      self.end_headers()

  do_HEAD = do_GET

  def log_message(self, *args):
    pass


@pytest.fixture
def hub():
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  yield server
  server.shutdown()
  server.server_close()
  thread.join()


@pytest.mark.parametrize(
  'answer, code',
  [(404, 2), (401, 2), (403, 2)]
  + [(x, 75) for x in (429, 500, 502, 503, 504, 'reset', 'cut', 'refused')],
)
def test_a_hub_that_may_answer_later_is_tried_again(
  hub, tmp_path, monkeypatch, answer, code
):
  hub.answer, port = answer, hub.server_port
  if answer == 'refused':
    with socket.socket() as unused:
      unused.bind(('127.0.0.1', 0))
      port = unused.getsockname()[1]
  download = functools.partial(
    huggingface_hub.snapshot_download,
    endpoint=f'http://127.0.0.1:{port}',
    cache_dir=tmp_path,
  )
  monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
  with pytest.raises(errors.UserError) as raised:
    hf_files.download('org/name')
  found, sentence = errors.exit_status(raised.value)
  assert found == code and 'org/name' in sentence
  assert ('the same command tries it again' in sentence) == (code == 75)


@pytest.mark.parametrize(
  'name, code',
  [(x, 75) for x in ('EIO', 'ESTALE', 'ETIMEDOUT', 'ECONNRESET', 'ENOTCONN')]
  + [(x, 2) for x in ('ENOENT', 'EACCES', 'EISDIR', 'ENOSPC', 'EROFS')],
)
def test_trouble_of_a_disk_is_no_users_error(tmp_path, monkeypatch, name, code):
  path = tmp_path / 'config.json'

  def fail(*args, **more):
    raise OSError(getattr(errno, name), name, str(path))

  monkeypatch.setattr(type(path), 'read_text', fail)
  with pytest.raises(errors.UserError) as raised:
    hf_files.read_json(path)
  assert errors.exit_status(raised.value)[0] == code


def test_what_led_to_an_error_decides_also_where_it_is_hidden():
  try:
    try:
      raise TimeoutError('read timed out')
    except TimeoutError:
      raise ValueError('no weights') from None
  except ValueError as error:
    assert errors.exit_status(error)[0] == 75
  assert errors.exit_status(ValueError('no weights')) == (1, None)


def test_the_same_command_resumes_a_run_alone():
  assert errors.exit_status(KeyboardInterrupt()) == (130, 'interrupted')
  run = signals.error_of(signal.SIGINT), signals.error_of(signal.SIGTERM)
  for error, code in zip(run, (130, 75)):
    found, sentence = errors.exit_status(error)
    assert found == code and 'the same command resumes the run' in sentence


def answered(kind, status):
  """The error of a library for an answer of HTTP."""
  response = requests.Response()
  response.status_code = status
  return kind('refused', response=response)


@pytest.mark.parametrize(
  'error, code',
  [
    (ConnectionResetError(), 75),
    (socket.gaierror(socket.EAI_AGAIN, 'again'), 75),
    (socket.gaierror(socket.EAI_NONAME, 'no such name'), 1),
    (BrokenPipeError(), 1),
    (urllib.error.HTTPError('http://x', 503, 'busy', {}, None), 75),
    (urllib.error.HTTPError('http://x', 404, 'none', {}, None), 1),
    (answered(requests.HTTPError, 429), 75),
    (answered(requests.HTTPError, 401), 1),
    (requests.HTTPError('no answer'), 1),
    (answered(hub_errors.HfHubHTTPError, 503), 75),
    (answered(hub_errors.HfHubHTTPError, 404), 1),
    (ValueError('Error reading a/0.0 [OS error 116: Stale file handle]'), 75),
    (ValueError('Error reading a/0.0 [OS error 2: No such file]'), 1),
    (SystemExit(503), 1),
    (MemoryError(), 2),
    (huggingface_hub.errors.OfflineModeIsEnabled(), 1),
  ],
)
def test_errors_by_kind(error, code):
  assert errors.exit_status(error)[0] == code


def test_a_checkpoint_that_cannot_be_read_now_is_not_set_aside(
  tmp_path, monkeypatch
):
  step = tmp_path / '3'
  step.mkdir()

  def fail(path):
    raise OSError(errno.ESTALE, 'Stale file handle', str(path))

  monkeypatch.setattr(checkpoint, '_read_facts', fail)
  with pytest.raises(OSError, match='Stale'):
    checkpoint._set_aside_unreadable(tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ['3']


def test_texts_of_others_cannot_control_a_terminal_or_forge_a_line():
  shown = errors.printable(BAD)
  assert shown.isprintable() and shown.encode()
  assert errors.printable('中文 é 🙂 Δ "\\n"') == '中文 é 🙂 Δ "\\n"'
  assert errors.printable('a\n\x1b', lines=True) == 'a\n\\x1b'


def test_an_error_with_a_text_of_a_record_is_one_message(capsys):
  error = errors.UserError(f'record {BAD} has no answer')
  watchdog.print_error(error)
  first, *others = capsys.readouterr().err.splitlines()
  assert first.startswith('r1jax: record a') and first.isprintable()
  assert all(x.startswith('  ') and x.isprintable() for x in others)
  (line,) = error._render_traceback_()
  assert line.replace('\n', '').isprintable()


def test_lists_of_bad_records_have_one_line_for_each(capsys):
  bad = bad_records.BadRecords(skip=True)
  with bad.noted(BAD):
    raise errors.UserError(f'record {BAD} is empty')
  bad.finish(3, 'data.jsonl')
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 2 and all(line.isprintable() for line in lines)
