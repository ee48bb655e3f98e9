"""Answers and tests in the rows of verl, DAPO and Skywork-OR1."""

import contextlib
import json
from typing import Any

from r1jax.data import formats
from r1jax.data.formats import Record


def ground_truth(row: Record) -> Any:
  """The ground truth of verl's rows, which may be {'target': answers}, or JSON
  of a list of answers. Other JSON, such as [1, 2], may be an answer itself."""
  model = _read_json(row.get('reward_model'))
  text = model.get('ground_truth') if isinstance(model, dict) else None
  truth = _read_json(text)
  if isinstance(truth, dict) and truth.keys() == {'target'}:
    return truth['target']
  if isinstance(truth, list) and truth:
    types = {type(x) for x in truth}
    if types == {str} or (len(truth) == 1 and types <= {int, float}):
      return truth
  return text


def _read_json(value):
  """The object or list of a text that is JSON; other values as they are."""
  if isinstance(value, str) and value.lstrip()[:1] in ('{', '['):
    with contextlib.suppress(ValueError, RecursionError):
      return json.loads(value)
  return value


def tests_of(row: Record) -> list[dict] | None:
  """The tests of a program in verl's ground truth, JSON of inputs and outputs;
  None without them. Raises formats.LeftOut if they call a function, whose
  arguments this form does not tell from its result."""
  truth = ground_truth(row)
  table = _read_json(truth) if isinstance(truth, str) else None
  if not isinstance(table, dict) or not table.keys() >= {'inputs', 'outputs'}:
    return None
  if table.get('fn_name'):
    raise formats.LeftOut('its tests call a function')
  inputs, outputs = table['inputs'], table['outputs']
  if not isinstance(inputs, list) or not isinstance(outputs, list):
    return None
  if len(inputs) != len(outputs) or not inputs:
    raise formats.LeftOut('its tests are incomplete')
  return [dict(input=x, output=y) for x, y in zip(inputs, outputs)]
