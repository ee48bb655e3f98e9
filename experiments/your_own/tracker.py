"""A tracker of your own: appends the rewards of a run to a text file.

--config.trackers=tensorboard,experiments/your_own/tracker.py:TextFile
"""

import pathlib


class TextFile:
  """Is called with what r1jax/training/trackers/tracked_run.py describes, in a
  process of its own. Settings, as in `…:TextFile?name=log.txt`, are keyword
  arguments."""

  def __init__(self, run, name='rewards.txt'):
    self.file = open(pathlib.Path(run.workdir) / name, 'a')
    self.put(f'{run.name} from step {run.first_step} on: {run.changed}')

  def put(self, line):
    print(line, file=self.file, flush=True)

  def write(self, step, metrics):
    if 'train/reward' in metrics:
      self.put(f'{step} {metrics["train/reward"]:.4f}')

  def samples(self, step, samples):
    self.put(f'{step} {samples[0]["response"]!r}')

  def close(self):
    self.file.close()
