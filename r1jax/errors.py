"""What ends a run with a sentence and an exit code of its own, see main."""


class UserError(ValueError):
  """Says what was wrong, where, and what to change, in one sentence."""


class Terminated(Exception):
  """A signal asked the run to end; what it needs to go on is on disk."""

  def __str__(self):
    return 'told to end; the same command goes on from where it is'
