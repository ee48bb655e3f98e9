"""The sandbox and the remaining time of all tests of one program."""

import dataclasses
import math
import time

from r1jax.rewards.verdict import Verdict
from r1jax.sandbox.outcome import WALL_TIME
from r1jax.sandbox.tiers import Limits, Spent, Tier

SMALLEST = 0.01  # seconds, where none are left; 0 would be no limit


class Suite:
  """A tier, and limits that shrink by what the tests have used."""

  def __init__(self, tier: Tier, limits: Limits) -> None:
    self.tier, self.all_limits = tier, limits
    self.spent, self.sleeps = Spent(), False
    self.started = time.monotonic()

  def limits(self) -> Limits:
    """The limits of the next test."""
    limits = self.all_limits
    if limits.suite_seconds:
      left = limits.suite_seconds - self.spent.seconds
      limits = dataclasses.replace(limits, suite_seconds=max(left, SMALLEST))
    if limits.suite_wall:
      used = time.monotonic() - self.started - self.spent.delay
      left = limits.suite_wall - used
      limits = dataclasses.replace(limits, suite_wall=max(left, SMALLEST))
    return limits

  def is_over(self) -> bool:
    """Whether the time of all tests is used up, or the program has slept for all
    of the time of a test: it would do so in the others."""
    limits = self.limits()
    left = limits.suite_seconds or math.inf, limits.suite_wall or math.inf
    return self.sleeps or min(left) <= SMALLEST

  def ended(self, kind: str, detail: str) -> Verdict:
    """The Verdict on a program that ended before its tests."""
    self.sleeps = self.sleeps or detail == WALL_TIME
    return Verdict(math.nan if kind == 'infra' else 0.0, kind, one_line(detail))


def one_line(text: str) -> str:
  """The text without line breaks and characters that cannot be printed."""
  text = ' '.join(text.split())
  return ''.join(c if c.isprintable() else '\ufffd' for c in text)
