"""A tracker that logs to Weights & Biases, in a process of its own."""

from collections.abc import Mapping

import wandb

from r1jax.training.trackers.tracked_run import TrackedRun

COLUMNS = ['id', 'prompt', 'response', 'reward', 'length', 'finished']


class Wandb:
  """A run of wandb with the id of the run, which a resumed run continues. The
  environment variables of wandb are in force (WANDB_MODE=offline, …)."""

  def __init__(
    self,
    run: TrackedRun,
    project: str = 'r1jax',
    entity: str | None = None,
    name: str | None = None,
    group: str | None = None,
    mode: str | None = None,
  ):
    self.run = wandb.init(
      project=project,
      entity=entity,
      name=name or run.name,
      group=group,
      mode=mode,
      id=run.id,
      resume='allow',
      dir=run.workdir,
      config=run.config,
    )
    # Steps of our own: wandb's count what is logged, and cannot go back.
    self.run.define_metric('step')
    self.run.define_metric('*', step_metric='step')

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    self.run.log({'step': step, **metrics})

  def samples(self, step: int, samples: list[dict]) -> None:
    rows = [[str(sample[key]) for key in COLUMNS] for sample in samples]
    table = wandb.Table(columns=COLUMNS, data=rows)
    self.run.log({'step': step, 'samples': table})

  def close(self) -> None:
    self.run.finish()
