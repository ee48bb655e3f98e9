"""The error of a user's making: main prints its sentence and exits with 2."""


class UserError(ValueError):
  """Says what was wrong, where, and what to change, in one sentence."""
