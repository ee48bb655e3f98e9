"""Verdicts on responses, to debug a reward."""

from collections.abc import Iterable, Mapping
from typing import Any

from r1jax import errors, user_code
from r1jax.data import record_files
from r1jax.rewards import registry, verifiers
from r1jax.rewards.verdict import Verdict, VerifyConfig


def verify(
  records: Iterable[Mapping[str, Any]],
  responses: Iterable[str],
  partial: bool = False,
) -> list[Verdict]:
  """A verdict on each response to the record at the same place: its value (the
  accuracy reward), its kind and the reason. A response begins with the <think>
  that its prompt opened. With `partial` a program is worth the share of the
  tests that pass."""
  for name, values in dict(records=records, responses=responses).items():
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
      raise errors.UserError(
        f'the {name} must be a list, not {user_code.describe(values)}'
      )
  records, responses = list(records), list(responses)
  if len(records) != len(responses):
    raise errors.UserError(
      f'there are {len(records)} records and {len(responses)} responses: give '
      'a list with one response to each record'
    )
  own_records = []
  for n, (record, response) in enumerate(zip(records, responses)):
    if not isinstance(record, Mapping):
      raise errors.UserError(
        f'record {n} is {user_code.describe(record)}: it must be a dict'
      )
    if not isinstance(response, str):
      raise errors.UserError(
        f'response {n} is {user_code.describe(response)}: it must be a text'
      )
    own_records.append(record_files.own_record(record, f'record {n}', str(n)))
  config = VerifyConfig(partial=partial)
  registry.check_rewards(dict(accuracy=1.0), own_records, verify=config)
  with verifiers.Verifiers(config, own_records) as verifier:
    return verifier.verdicts(own_records, responses)
