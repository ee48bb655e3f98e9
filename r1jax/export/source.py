"""The model that is exported, and the run that it comes from."""

from pathlib import Path
from typing import Any, NamedTuple

from r1jax import errors
from r1jax.api import work_directory
from r1jax.api.work_directory import WorkDirectory
from r1jax.checkpoints import policy
from r1jax.checkpoints.policy import ComputeConfig, Policy
from r1jax.stages import rl
from r1jax.training import checkpoint


class Source(NamedTuple):
  """A policy, and what is known of the run that trained it."""

  name: str  # as the user gave it
  policy: Policy
  run: WorkDirectory | None = None
  step: int | None = None  # of the run; None if its checkpoints are gone
  is_best: bool = False  # chosen by its held-out score
  is_finished: bool = False  # the run has taken all its steps

  @property
  def config(self) -> Any:
    """The stage's config at the step."""
    assert self.run
    return work_directory.config_at(self.run, self.step)

  @property
  def is_rl(self) -> bool:
    return self.run is not None and self.run.stage is rl

  @property
  def short_name(self) -> str:
    """A name for files: that of the directory, and the step unless it is the
    result of the run."""
    path = self.run.path if self.run else Path(self.name)
    name = path.resolve().name.removesuffix('.gguf')
    return name if self.step is None else f'{name}-step-{self.step}'


def read(name: str, step: str) -> Source:
  """The source of a model's name or of RUN, RUN@STEP. A step is a number,
  'best', 'last', or '' for the result of a finished run."""
  run, at, named = name.rpartition('@')
  if at and not Path(name).exists():
    if step and step != named:
      raise errors.UserError(
        f'{name} names the step {named}, and --step {step}: leave one out'
      )
    name, step = run, named
  directory = work_directory.run_of(Path(name))
  if directory is None:
    if step:
      raise errors.UserError(
        f'{name} is not the work directory of a run, so it has no checkpoint '
        f'of --step {step}'
      )
    loaded = policy.load(name, ComputeConfig(), None, seed=0)
    return Source(name, loaded)
  return _of_run(name, directory, step)


def _of_run(name, directory, step):
  """The source of a step of a run. The result of a finished run is read from
  its last checkpoint, whose weights are not rounded."""
  is_finished = (directory.path / 'model').exists()
  steps = checkpoint.saved_scores(directory.checkpoints)
  number = None
  if step:
    number = work_directory.step_of(directory, step)
  elif is_finished and steps:
    number = max(steps)
  elif not is_finished and steps:
    raise errors.UserError(
      f'{name} is not finished: choose a checkpoint by --step best, --step last, '
      f'or one of the steps {", ".join(map(str, steps))}'
    )
  loaded = work_directory.policy_at(directory, number, 'float32')
  return Source(
    name=name,
    policy=loaded,
    run=directory,
    step=number,
    is_best=step == 'best',
    is_finished=is_finished and number == max(steps, default=None),
  )
