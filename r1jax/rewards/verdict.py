"""What a verifier says of one response."""

from typing import NamedTuple


class Verdict(NamedTuple):
  """value is the reward, 0 to 1, NaN where nothing could be judged; kind a word
  to count by; reason a sentence for whoever debugs a reward."""

  value: float
  kind: str
  reason: str
