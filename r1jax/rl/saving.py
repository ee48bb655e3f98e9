"""When an rl run is saved: after a step, at SIGTERM, and where an error ends
it."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator

from r1jax import errors
from r1jax.distributed import hosts, watchdog
from r1jax.rl import saved_rollout
from r1jax.rl.rl_run import Position, RlState, Run
from r1jax.rl.rollouts import Rollout
from r1jax.training import checkpoint


def save(
  run: Run, state: RlState, position: Position, rollout: Rollout | None = None
) -> None:
  """Writes a checkpoint in the background, unless the step is saved already.
  Before it writes the rollout that the next update learns from, if it was
  sampled already."""
  if position.step > (run.checkpoints.latest_step() or 0):
    if rollout:
      saved_rollout.write(run, position.step, rollout)
    is_judged = position.score is not None and math.isfinite(position.score)
    checkpoint.save(
      run.checkpoints,
      position.step,
      state,
      dataclasses.asdict(position),
      position.score if is_judged else None,
    )


@contextlib.contextmanager
def saved_on_error(
  run: Run, state: RlState, position: Position, rollout: Rollout | None = None
) -> Iterator[None]:
  """If the user's code fails in this context, an outage lasts, memory does not
  suffice, or SIGTERM ends an evaluation, saves a checkpoint from which the run
  continues later."""
  try:
    yield
  except (errors.UserError, errors.Outage, errors.Terminated):
    save(run, state, position, rollout)
    raise
  except errors.OutOfMemory:  # of one host alone, perhaps
    if hosts.count() == 1:
      save(run, state, position, rollout)
    raise


def end_if_terminating(
  run: Run, state: RlState, position: Position, rollout: Rollout | None = None
) -> None:
  """If any host received SIGTERM, saves and raises Terminated on all hosts."""
  if hosts.terminate_requested():
    save(run, state, position, rollout)
    raise errors.Terminated


def exit_early_if_saved(
  run: Run, position: Position
) -> contextlib.AbstractContextManager:
  """In this context SIGTERM ends the run at once if the position is saved or no
  step was done."""
  return watchdog.exit_early_if(
    lambda: (
      not position.step or checkpoint.is_saved(run.checkpoints, position.step)
    )
  )
