"""Errors that end a run with one sentence, and the exit codes of r1jax."""

import contextlib
import errno
import re
import select
import socket
import sys
import urllib.error
from collections.abc import Iterator

USER_ERROR = 2
STUCK = 70  # no progress, see distributed/watchdog.py
TERMINATED = 75  # by a signal, or by temporary trouble: the run can go on later
INTERRUPTED = 130
OUTPUT_CLOSED = 141  # as of a program that SIGPIPE ends
# The disk, a quota or the limit on the size of files.
DISK_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
# Trouble of a network, a remote disk or a machine, which often ends by itself.
TEMPORARY_NAMES = (
  'EIO',
  'ESTALE',
  'ETIMEDOUT',
  'ETIME',
  'EINTR',
  'EBUSY',
  'ENOLCK',
  'EREMOTEIO',
  'ENOLINK',
  'ECOMM',
  'EPROTO',
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'ENOTCONN',
  'ESHUTDOWN',
  'ENETDOWN',
  'ENETRESET',
  'ENETUNREACH',
  'EHOSTDOWN',
  'EHOSTUNREACH',
  'ENOBUFS',
  'EMFILE',
  'ENFILE',
)
TEMPORARY = {vars(errno)[x] for x in TEMPORARY_NAMES if x in vars(errno)}
TEMPORARY_STATUS = (408, 425, 429, 500, 502, 503, 504)  # of HTTP
# Classes by name: several modules have them, under several names themselves.
TEMPORARY_CLASSES = {
  'RemoteProtocolError',
  'IncompleteRead',
  'BadStatusLine',
  'Timeout',
  'TimeoutException',
  'SSLEOFError',
  'SSLZeroReturnError',
}
# Those with an answer of HTTP: of the hub, httpx and requests.
HTTP_CLASSES = {'HfHubHTTPError', 'HTTPStatusError', 'RequestException'}
# In messages of XLA. Its other RESOURCE_EXHAUSTED errors are not of memory, and
# an error of a program that runs in the background begins with INTERNAL.
OUT_OF_MEMORY = re.compile(
  r'out of memory|RESOURCE_EXHAUSTED\b.*(memory|allocat)',
  re.IGNORECASE | re.DOTALL,
)
OS_ERROR = re.compile(r'\bOS error (\d+)')  # in messages of tensorstore


class UserError(ValueError):
  """One sentence with what is wrong, where, and what to change. Its texts of
  records and files cannot control a terminal."""

  def __str__(self) -> str:
    return printable(super().__str__(), lines=True)

  def _render_traceback_(self) -> list[str]:
    """The lines that a notebook shows instead of a traceback."""
    return [f'UserError: {self}']


@contextlib.contextmanager
def explained(
  sentence: str,
  kind: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator:
  """Raises exceptions of the body as UserErrors that begin with a sentence."""
  try:
    yield
  except kind as error:
    raise UserError(f'{sentence} ({type(error).__name__}: {error})') from error


def printable(text: object, lines: bool = False) -> str:
  """A text of a record, a model or a file for a terminal or a log: control and
  invisible characters become escapes, line ends too unless `lines`."""
  return ''.join(
    x
    if x.isprintable() or (lines and x == '\n')
    else x.encode('unicode_escape').decode()
    for x in str(text)
  )


class OutOfMemory(Exception):
  """One sentence about memory that did not suffice, see
  training/memory_errors.py."""

  def _render_traceback_(self) -> list[str]:
    """The lines that a notebook shows instead of a traceback."""
    return [f'OutOfMemory: {self}']


class Terminated(Exception):
  """A signal ends the run; the checkpoint to resume from is on disk."""

  def __str__(self) -> str:
    return 'terminated by a signal; the same command resumes the run'


class Outage(Exception):
  """One sentence about trouble of a network, a service or a machine that has
  lasted long. What was complete is saved; the same command tries again."""

  def __str__(self) -> str:
    return printable(super().__str__(), lines=True)

  def _render_traceback_(self) -> list[str]:
    """The lines that a notebook shows instead of a traceback."""
    return [f'Outage: {self}']


def is_out_of_memory(error: BaseException) -> bool:
  """Whether memory of the host or of a device did not suffice."""
  if isinstance(error, MemoryError):
    return True
  is_xla = {'JaxRuntimeError', 'XlaRuntimeError'} & _class_names(error)
  return bool(is_xla and OUT_OF_MEMORY.search(str(error)))


def temporary_cause(error: BaseException) -> BaseException | None:
  """The error, or one that led to it, if that is trouble which may end by
  itself; else None."""
  seen: set[int] = set()
  cause: BaseException | None = error
  while cause is not None and id(cause) not in seen:
    if _is_temporary(cause):
      return cause
    seen.add(id(cause))
    # Also a context that `from None` hides: httpcore hides those of sockets.
    cause = cause.__cause__ or cause.__context__
  return None


def _is_temporary(error):
  if 'OfflineModeIsEnabled' in _class_names(error):  # by HF_HUB_OFFLINE
    return False
  if isinstance(error, (ConnectionError, TimeoutError, Outage)):
    return not isinstance(error, BrokenPipeError)  # of a reader that has left
  if TEMPORARY_CLASSES & _class_names(error):
    return True
  if _http_status(error) in TEMPORARY_STATUS:
    return True
  if isinstance(error, socket.gaierror):
    return error.errno == socket.EAI_AGAIN
  if isinstance(error, OSError) and error.errno in TEMPORARY:
    return True
  numbers = OS_ERROR.findall(str(error)) if isinstance(error, Exception) else []
  return any(int(number) in TEMPORARY for number in numbers)


def _http_status(error):
  """The status of an answer of HTTP; None if the error has none."""
  if isinstance(error, urllib.error.HTTPError):
    return error.code
  if HTTP_CLASSES & _class_names(error) and error.response is not None:
    return error.response.status_code
  return None


def _class_names(error):
  return {cls.__name__ for cls in type(error).__mro__}


def exit_status(error: BaseException) -> tuple[int, str | None]:
  """The (exit code, sentence) of what ended a run. The sentence is None for an
  unexpected error, which is shown with its traceback."""
  if isinstance(error, Terminated):
    return TERMINATED, str(error)
  if isinstance(error, KeyboardInterrupt):
    return INTERRUPTED, f'interrupted; {error}' if str(error) else 'interrupted'
  if isinstance(error, OSError) and error.errno in DISK_FULL:
    return USER_ERROR, (
      f'no space to write {error.filename or _full_output()} (disk full?): what '
      'was complete is kept (checkpoints, lines, chunks); free space and repeat '
      'the command, which resumes a run from its last checkpoint'
    )
  if isinstance(error, BrokenPipeError) and closed_outputs():
    return OUTPUT_CLOSED, (
      'the reader of the output has ended, and so does the command; if it is a '
      'run, the same command resumes it'
    )
  if isinstance(error, Outage):
    return TERMINATED, f'{error}; the same command tries it again'
  if isinstance(error, OutOfMemory):
    return USER_ERROR, str(error)
  if is_out_of_memory(error):
    text = ' '.join(str(error).split())[:300]
    return USER_ERROR, (
      f'out of memory ({type(error).__name__}: {text}): use a smaller model or '
      'more devices; in a run, lower micro_batch_size, decode_slots or '
      'max_new_tokens'
    )
  cause = temporary_cause(error)
  if cause:
    kind, text = type(cause).__name__, str(error) or type(error).__name__
    return TERMINATED, (
      f'{text}; a {kind} may be temporary: the same command tries it again'
    )
  if isinstance(error, UserError):
    return USER_ERROR, str(error)
  return 1, None


def _full_output():
  """What a write without the name of a file went to: stdout, or stderr, if it
  still has text that cannot be written."""
  for name in full_outputs():
    return name
  return 'stdout or a file'


def full_outputs() -> dict[str, int]:
  """The file descriptors of stdout and stderr, by name, that are on a full disk
  and have text which cannot be written."""
  full = {}
  for name, stream in dict(stdout=sys.stdout, stderr=sys.stderr).items():
    try:
      print(end='', file=stream, flush=True)
    except OSError as error:
      if error.errno in DISK_FULL:
        full[name] = stream.fileno()
  return full


def closed_outputs() -> list[int]:
  """The file descriptors of stdout and stderr that are pipes whose reader has
  ended, as `head` does after its lines."""
  poll = select.poll()
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError, AttributeError):
      poll.register(stream.fileno(), 0)
  return [file for file, event in poll.poll(0) if event & select.POLLERR]
