"""Errors that end a run with one sentence, and the exit codes of r1jax."""

import contextlib
import errno
import select
import sys
from collections.abc import Iterator

USER_ERROR = 2
STUCK = 70  # no progress, see distributed/watchdog.py
TERMINATED = 75
INTERRUPTED = 130
OUTPUT_CLOSED = 141  # as of a program that SIGPIPE ends
# The disk, a quota or the limit on the size of files.
DISK_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


class UserError(ValueError):
  """One sentence with what is wrong, where, and what to change."""

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


class Terminated(Exception):
  """A signal ends the run; the checkpoint to resume from is on disk."""

  def __str__(self) -> str:
    return 'terminated by a signal; the same command resumes the run'


def exit_status(error: BaseException) -> tuple[int, str | None]:
  """The (exit code, sentence) of what ended a run. The sentence is None for an
  unexpected error, which is shown with its traceback."""
  if isinstance(error, UserError):
    return USER_ERROR, str(error)
  if isinstance(error, OSError) and error.errno in DISK_FULL:
    return USER_ERROR, (
      f'no space to write {error.filename or "a file"} (disk full?): free '
      'space, and the same command resumes from the last checkpoint'
    )
  if isinstance(error, BrokenPipeError) and closed_outputs():
    return OUTPUT_CLOSED, (
      'the reader of the output has ended, and so does the command; the same '
      'command resumes a run'
    )
  if isinstance(error, Terminated):
    return TERMINATED, str(error)
  if isinstance(error, KeyboardInterrupt):
    return INTERRUPTED, 'interrupted; the same command resumes the run'
  return 1, None


def closed_outputs() -> list[int]:
  """The file descriptors of stdout and stderr that are pipes whose reader has
  ended, as `head` does after its lines."""
  poll = select.poll()
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError, AttributeError):
      poll.register(stream.fileno(), 0)
  return [file for file, event in poll.poll(0) if event & select.POLLERR]
