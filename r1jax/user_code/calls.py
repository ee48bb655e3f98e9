"""Whether user code can be called as it must be, and what is said when it
fails."""

import inspect
import textwrap
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from r1jax import errors
from r1jax.user_code import object_names
from r1jax.user_code.source_digest import PACKAGE


def check_call(
  function: Any,
  name: str,
  key: str,
  form: str,
  options: Iterable[str] = (),
  options_key: str = '',
) -> None:
  """Raises UserError unless the function can be called with the positional
  arguments of `form`, such as '(records, texts) -> numbers', and with keyword
  arguments `options`, which are those of the config key options_key."""
  name, expected = object_names.shown_name(name), f'expected a function {form}'
  if options_key:
    names = ', '.join(options) or 'none'
    expected += f' that also takes the options of {options_key} ({names})'
  if not callable(function):
    raise errors.UserError(f'{key}: {name} is {describe(function)}; {expected}')
  arguments = form.partition('(')[2].partition(')')[0].split(', ')
  try:
    inspect.signature(function).bind(*arguments, **dict.fromkeys(options))
  except TypeError as error:
    raise errors.UserError(
      f'{key}: {name} has the parameters {inspect.signature(function)}; '
      f'{expected}: {error}'
    ) from None
  except ValueError:  # Some built-in functions have no signature.
    return


def failure(sentence: str, error: BaseException) -> errors.UserError:
  """A UserError with the sentence and, below it, the traceback of the error
  from its first frame outside r1jax."""
  frames: list = traceback.extract_tb(error.__traceback__)
  inside = [PACKAGE in Path(frame.filename).parents for frame in frames]
  if not all(inside):
    frames = frames[inside.index(False) :]
  lines = [
    'Traceback (most recent call last):\n',
    *traceback.format_list(frames),
  ]
  lines += traceback.format_exception_only(error)
  return errors.UserError(f'{sentence}\n{"".join(lines).rstrip()}')


def describe(value: Any) -> str:
  """A value that user code returned, in at most 60 characters, for errors."""
  return f'{type(value).__name__} {textwrap.shorten(repr(value), 60)}'
