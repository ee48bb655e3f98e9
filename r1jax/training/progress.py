"""Shows how far a run is: in place in a notebook or a terminal, as lines in a
file or a pipe."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1jax import errors
from r1jax.distributed import hosts
from r1jax.training import live_display

LINES = 20
REDRAW_SECONDS = 0.5  # at least, between two updates of a line or a cell
PART_SECONDS = 30.0  # at least, between two lines about parts of a step
METRICS = {
  'reward': 'reward {:.3f}',
  'reward/accuracy': 'accuracy {:.3f}',
  'eval/pass1': 'pass@1 {:.3f}',
  'eval/reward': 'held-out reward {:.3f}',
  'length': 'length {:.1f}',
  'truncated': 'truncated {:.1%}',
  'loss': 'loss {:.4f}',
  'accepted': 'accepted {:.1%}',
  'sampling_logp_difference': 'Δlogp {:.1e}',
  'tokens_per_s': '{:,.0f} tokens/s',
}


class Progress:
  """Shows the progress of `steps` steps, or other units, of which `first_step`
  were done earlier. Only host 0 shows it. A terminal has one line with the last
  step; a notebook also has the curves of `metrics_file` (metrics.jsonl). Other
  outputs have a line for the first and the last step, for each evaluation, and
  every `log_every` steps (0: about LINES lines in all)."""

  def __init__(
    self,
    steps: int,
    first_step: int = 0,
    log_every: int = 0,
    unit: str = 'step',
    metrics_file: Path | None = None,
  ):
    self.steps, self.first_step, self.unit = steps, first_step, unit
    self.log_every = log_every or max(1, steps // LINES)
    self.started, self.last_step = time.monotonic(), first_step
    self.is_silent = hosts.index() > 0
    self.latest: dict[str, Any] = {}  # value by metric
    self.parts = progress_parts(first_step, steps, {}, unit=unit)
    self.is_drawn, self.drawn_at = False, 0.0
    self.printed_at = self.started
    self.display = None
    if not self.is_silent:
      self.display = live_display.find(metrics_file)
    self._draw()

  def show(self, step: int, metrics: Mapping[str, Any], note: str = '') -> None:
    """Shows that `step` is done, those of its metrics that are in METRICS, and
    a note."""
    is_due, self.last_step = self._is_due(step, metrics), step
    if self.is_silent or not (self.display or is_due):
      return
    if self.display:
      self.latest |= metrics  # So pass@1 remains until the next evaluation.
      metrics = self.latest
    seconds = time.monotonic() - self.started
    left = seconds / (step - self.first_step) * (self.steps - step)
    self.parts = progress_parts(step, self.steps, metrics, left, self.unit)
    if note:
      self.parts.append(errors.printable(note))
    self.is_drawn = False
    if not self.display:
      self._print(live_display.SEPARATOR.join(self.parts))
    elif time.monotonic() - self.drawn_at >= REDRAW_SECONDS:
      self._draw()

  def show_part(self, done: int, total: int, unit: str) -> None:
    """Shows how far a long part of a step is, such as an evaluation: a line if
    none was printed for PART_SECONDS, or in a display beside the last step."""
    if self.is_silent:
      return
    now, line = time.monotonic(), f'{unit} {done}/{total}'
    if self.display:
      if now - self.drawn_at >= REDRAW_SECONDS:
        self._draw(line)
        self.is_drawn = False  # Without the part it is not.
    elif now - self.printed_at >= PART_SECONDS:
      step = f'{self.unit} {self.last_step}/{self.steps}'
      self._print(f'{step}  {line}')

  def close(self) -> None:
    """Shows the last step, and ends the line of a terminal."""
    if self.display:
      if not self.is_drawn:
        self._draw()
      self.display.close()

  def _is_due(self, step, metrics):
    is_first = self.last_step == self.first_step
    is_evaluated = any(name.startswith('eval/') for name in metrics)
    every = self.log_every
    is_multiple = step // every > self.last_step // every
    return is_first or is_evaluated or is_multiple or step >= self.steps

  def _print(self, line):
    self.printed_at = time.monotonic()
    print(line, flush=True)

  def _draw(self, note=''):
    self.is_drawn, self.drawn_at = True, time.monotonic()
    if self.display:
      # The part that is being done changes most, so it is never left out.
      parts = [*self.parts[:1], note, *self.parts[1:]] if note else self.parts
      self.display.draw(parts, self.last_step / self.steps)


def progress_parts(
  step: int,
  steps: int,
  metrics: Mapping[str, Any],
  seconds_left: float | None = None,
  unit: str = 'step',
) -> list[str]:
  """The parts of a line: the step, the time left, and those metrics of METRICS
  that are given."""
  parts = [f'{unit} {step:{len(str(steps))}}/{steps}']
  if seconds_left is not None:
    minutes, seconds = divmod(round(seconds_left), 60)
    parts.append(f'{minutes // 60}:{minutes % 60:02}:{seconds:02} left')
  for name, text in METRICS.items():
    if name in metrics:
      parts.append(text.format(metrics[name]))
  return parts
