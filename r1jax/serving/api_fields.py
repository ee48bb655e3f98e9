"""The fields of a body of JSON: types, bounds, and sentences about what is
wrong with them."""

import difflib
import json
from collections.abc import Collection
from typing import Any

MAX_STOP = 16
# Fields without an effect.
IGNORED = (
  'user',
  'metadata',
  'store',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'parallel_tool_calls',
)
# Fields that r1jax has not, with the values that ask for nothing.
NEUTRAL: dict[str, tuple] = dict(
  frequency_penalty=(0,),
  presence_penalty=(0,),
  repetition_penalty=(1,),
  logit_bias=({},),
  best_of=(1,),
  suffix=('',),
  min_p=(0,),
  tools=([],),
  tool_choice=('none', 'auto'),
  functions=([],),
  response_format=({'type': 'text'},),
  modalities=(['text'],),
)


class ApiError(Exception):
  """An answer that is an error: one sentence, with a status of HTTP."""

  def __init__(
    self,
    status: int,
    sentence: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
  ) -> None:
    super().__init__(sentence)
    self.status, self.sentence, self.param = status, sentence, param
    self.headers = headers


def parse(content: bytes) -> dict[str, Any]:
  """The JSON object of a body. JSON can hold halves of surrogate pairs, which
  are no text; the body has none."""
  try:
    body = json.loads(content, parse_constant=_no_constant)
    json.dumps(body, ensure_ascii=False).encode()
  except UnicodeError as error:
    raise ApiError(400, f'the body is not UTF-8 text: {error}') from error
  except (ValueError, RecursionError) as error:
    raise ApiError(400, f'the body is not JSON: {error}') from error
  if not isinstance(body, dict):
    raise ApiError(400, 'the body must be a JSON object')
  return body


def check_known(body: dict, known: Collection[str]) -> None:
  """Refuses fields that are not known, or that ask for what r1jax has not."""
  for name, value in body.items():
    if name in known or name in IGNORED or value is None:
      continue
    if name not in NEUTRAL:
      near = difflib.get_close_matches(name, known, 1)
      hint = (
        f'did you mean {near[0]}?' if near else f'known: {", ".join(known)}'
      )
      raise ApiError(400, f'there is no field {name!r}: {hint}', name)
    if value not in NEUTRAL[name]:
      text = json.dumps(value)[:60]
      raise ApiError(
        400, f'{name} is {text}, which r1jax has not: leave it out', name
      )


def stop_of(body: dict) -> list[str]:
  """The stop strings."""
  stop = body.get('stop')
  texts = [stop] if isinstance(stop, str) else stop
  if texts is None:
    return []
  is_list = isinstance(texts, list) and len(texts) <= MAX_STOP
  if not is_list or not all(isinstance(x, str) and x for x in texts):
    raise ApiError(
      400,
      f'stop must be a text, or a list of up to {MAX_STOP} texts, none of them '
      'empty',
      'stop',
    )
  return texts


def flag(body: dict, name: str) -> bool:
  """A field that is true or false; by default false."""
  value = body.get(name)
  if value is None:
    return False
  if not isinstance(value, bool):
    raise ApiError(400, f'{name} must be true or false', name)
  return value


def integer(
  body: dict,
  name: str,
  default: Any,
  minimum: int,
  maximum: int | None = None,
) -> Any:
  """A field that is an integer within bounds."""
  value = body.get(name)
  if value is None:
    return default
  is_within = is_integer(value) and value >= minimum
  if not is_within or (maximum is not None and value > maximum):
    text = f'an integer of at least {minimum}'
    if maximum is not None:
      text = f'an integer from {minimum} to {maximum}'
    raise ApiError(400, f'{name} must be {text}', name)
  return value


def number(
  body: dict, name: str, default: float, minimum: float, maximum: float
) -> float:
  """A field that is a number within bounds."""
  value = body.get(name)
  if value is None:
    return default
  is_number = is_integer(value) or isinstance(value, float)
  if not is_number or not minimum <= value <= maximum:
    raise ApiError(
      400, f'{name} must be a number from {minimum} to {maximum}', name
    )
  return float(value)


def is_integer(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool)


def _no_constant(name):
  raise ValueError(f'{name} is not a number of JSON')
