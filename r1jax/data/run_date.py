"""The date and time that chat templates see: in a run those of its beginning,
which all hosts share. config.json has them if a template asked for them."""

import contextlib
import contextvars
import datetime
from collections.abc import Iterator

# A process has one run at a time. Its threads render prompts too.
_of_run: datetime.datetime | None = None
_was_asked = False  # for the date of the run
_within = contextvars.ContextVar[datetime.datetime | None]('date', default=None)


def now() -> datetime.datetime:
  """The date within `at`, that of the run, or the present one."""
  global _was_asked
  _was_asked = True
  return _within.get() or _of_run or datetime.datetime.now()


def set_run(date: str) -> None:
  """Sets the date of the run in ISO format; '' ends it."""
  global _of_run, _was_asked
  _of_run = datetime.datetime.fromisoformat(date) if date else None
  _was_asked = False


def was_asked() -> bool:
  """Whether a template has asked for the date since set_run."""
  return _was_asked


@contextlib.contextmanager
def at(date: str) -> Iterator[None]:
  """Within this context, in this thread, the date is this one, unless ''."""
  value = datetime.datetime.fromisoformat(date) if date else _within.get()
  token = _within.set(value)
  try:
    yield
  finally:
    _within.reset(token)
