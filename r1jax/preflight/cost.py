"""The cost of one program on a chip, and its time by the roofline model."""

import dataclasses
from typing import Any

from r1jax.preflight.chips import Chip


@dataclasses.dataclass(frozen=True)
class Cost:
  """One call of a program on one chip, in bytes and FLOPs."""

  name: str
  argument: float = 0.0
  output: float = 0.0
  alias: float = 0.0  # part of the output that reuses arguments' buffers
  temp: float = 0.0
  resident: float = 0.0  # in HBM during the call, but not an argument
  flops: float = 0.0
  hbm: float = 0.0  # read and written
  ici: float = 0.0  # sent
  dcn: float = 0.0  # sent
  # (collectives.Collective, calls, bytes of the results)
  collectives: tuple[tuple[Any, float, float], ...] = ()
  source: str = 'formula'
  # Of argument and temp, by formula.
  parts: dict[str, float] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()
  refused: str = ''  # the compiler's error, if the program does not fit

  @property
  def own(self) -> float:
    """Bytes of the program itself."""
    return self.argument + self.output - self.alias + self.temp

  @property
  def need(self) -> float:
    """Bytes of HBM in use during the call."""
    return self.own + self.resident

  def seconds(self, chip: Chip) -> dict[str, float]:
    """The time on each resource by itself."""
    return dict(
      compute=self.flops / chip.flop_rate,
      HBM=self.hbm / chip.hbm_bandwidth,
      ICI=self.ici / chip.ici_bandwidth,
      DCN=self.dcn / chip.dcn_bandwidth,
    )

  def bound(self, chip: Chip) -> tuple[str, float]:
    """(slowest resource, its seconds): the time if all resources overlap."""
    return max(self.seconds(chip).items(), key=lambda item: item[1])

  def fits(self, chip: Chip) -> bool:
    return not self.refused and self.need <= chip.hbm_capacity
