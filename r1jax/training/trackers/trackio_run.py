"""A tracker that logs to trackio, in a process of its own."""

from collections.abc import Mapping

import trackio

from r1jax.training.trackers.tensorboard import as_markdown
from r1jax.training.trackers.tracked_run import TrackedRun


class Trackio:
  """A run of trackio that a resumed run continues. Its name is unique, since
  trackio finds runs by name. The environment variables of trackio are in force
  (TRACKIO_DIR, TRACKIO_SPACE_ID, …)."""

  def __init__(
    self,
    run: TrackedRun,
    project: str = 'r1jax',
    name: str | None = None,
    group: str | None = None,
    space_id: str | None = None,
  ):
    self.run = trackio.init(
      project=project,
      name=name or f'{run.name.replace("/", "-")}-{run.id[:6]}',
      group=group,
      space_id=space_id,
      config=run.config,
      resume='allow',
      embed=False,
      auto_log_gpu=False,
      auto_log_cpu=False,
    )

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    self.run.log(dict(metrics), step=step)

  def samples(self, step: int, samples: list[dict]) -> None:
    text = '\n\n---\n\n'.join(as_markdown(sample) for sample in samples)
    self.run.log({'samples': trackio.Markdown(text)}, step=step)

  def close(self) -> None:
    trackio.finish()
