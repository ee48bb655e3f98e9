"""What one program costs a chip, and the roofline's answer to how long it
takes."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Cost:
  """Of one call of a program on one chip; bytes, FLOPs."""

  name: str
  argument: float = 0.0
  output: float = 0.0
  alias: float = 0.0  # of the output, in the place of arguments
  temp: float = 0.0
  resident: float = 0.0  # what lies in HBM beside the program's arguments
  flops: float = 0.0
  hbm: float = 0.0
  ici: float = 0.0  # sent
  dcn: float = 0.0  # sent
  collectives: tuple = ()  # (traffic.Collective, how many, bytes)
  source: str = 'formula'
  parts: tuple = ()  # (what, bytes) that argument and temp are made of
  notes: tuple = ()
  refused: str = ''  # the compiler's sentence: it does not fit

  @property
  def own(self):
    return self.argument + self.output - self.alias + self.temp

  @property
  def need(self):
    return self.own + self.resident

  def seconds(self, chip):
    """Of each resource, were it alone."""
    return dict(
      compute=self.flops / chip.flops,
      HBM=self.hbm / chip.hbm_speed,
      ICI=self.ici / chip.ici_speed,
      DCN=self.dcn / chip.dcn_speed,
    )

  def bound(self, chip):
    """(what it waits for, seconds), everything else overlapped."""
    return max(self.seconds(chip).items(), key=lambda item: item[1])

  def fits(self, chip):
    return not self.refused and self.need <= chip.hbm


@dataclasses.dataclass(frozen=True)
class Rollout:
  """The time of a rollout and its updates."""

  best: dict  # program -> seconds of all its calls, resources overlapped
  worst: dict  # the same with one resource at a time
  tokens: float  # drawn in it, on all devices

  @property
  def seconds(self):
    return sum(self.best.values()), sum(self.worst.values())


def rollout(plan, costs):
  """The Rollout of a plan, from the costs of its programs."""
  chip, calls = plan.pod.chip, plan.calls()
  best = {x.name: calls[x.name] * x.bound(chip)[1] for x in costs}
  worst = {x.name: calls[x.name] * sum(x.seconds(chip).values()) for x in costs}
  tokens = plan.c.grpo.prompts_per_step * plan.c.grpo.group_size * plan.mean_len
  return Rollout(best, worst, tokens)
