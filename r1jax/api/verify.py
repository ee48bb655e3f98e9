"""Verdicts on responses, to debug a reward."""

from collections.abc import Sequence

from r1jax import errors
from r1jax.data import record_files
from r1jax.rewards import registry, verifiers
from r1jax.rewards.verdict import Verdict, VerifyConfig


def verify(
  records: Sequence[dict], responses: Sequence[str], partial: bool = False
) -> list[Verdict]:
  """A verdict on each response to the record at the same place: its value (the
  accuracy reward), its kind and the reason. With `partial` a program is worth
  the share of the tests that pass."""
  if isinstance(responses, str) or isinstance(records, dict):
    raise errors.UserError('the records and the responses must be lists')
  if len(records) != len(responses):
    raise errors.UserError(
      f'there are {len(records)} records and {len(responses)} responses: give '
      'a list with one response to each record'
    )
  own_records = []
  for n, record in enumerate(records):
    own_records.append(record_files.own_record(record, f'record {n}', str(n)))
  registry.check_rewards(dict(accuracy=1.0), own_records)
  config = VerifyConfig(partial=partial)
  with verifiers.Verifiers(config, own_records) as verifier:
    return verifier.verdicts(own_records, responses)
