"""A run's sizes on one pod: how the mesh is cut, how long its rows are, and how
often each program runs in a rollout."""

import dataclasses
import math

from r1jax import errors
from r1jax.distributed import device_placement
from r1jax.models import transformer
from r1jax.preflight import chips
from r1jax.rl import grpo, rl_config


@dataclasses.dataclass(frozen=True)
class Plan:
  c: rl_config.Config
  cfg: transformer.ModelConfig
  pod: chips.Pod
  length: int = 0  # tokens of a mean response; 0: the longest

  @property
  def axes(self):
    """(name, size) of the mesh that parallel.placement makes."""
    if self.c.parallel.strategy == 'pmap':
      return (('data', self.pod.devices),)
    slices, heads = self.c.parallel.slices, self.c.parallel.tensor_parallel
    inner = ('data', self.pod.devices // slices // heads), ('model', heads)
    return (('slice', slices), *inner) if slices > 1 else inner

  @property
  def shards(self):
    """How many parts the rows of a batch are cut into."""
    return self.pod.devices // self.c.parallel.tensor_parallel

  @property
  def prompt_len(self):
    return self.c.prompt.max_len

  @property
  def new_len(self):
    """The most tokens of a response."""
    return max(self.c.response_lengths)

  @property
  def row_len(self):
    """Tokens of the longest row, the calls of tools included."""
    return self.prompt_len + self.new_len + self.c.prompt.results_len

  @property
  def micro_rows(self):
    """Rows of a micro-batch on one shard."""
    return max(1, self.c.micro_batch_size // self.shards)

  @property
  def prompts(self):
    """Prompts of a rollout on one shard."""
    return max(1, self.c.grpo.prompts_per_step // self.shards)

  @property
  def samples(self):
    """Samples of a rollout on one shard."""
    return self.prompts * self.c.grpo.group_size

  @property
  def slots(self):
    return min(self.c.sample.decode_slots, self.samples)

  @property
  def mean_len(self):
    return min(self.length or self.new_len, self.new_len)

  @property
  def micro_batches(self):
    """Of one update."""
    rows = (
      self.c.grpo.prompts_per_step
      // self.c.grpo.minibatches
      * self.c.grpo.group_size
    )
    return max(1, math.ceil(rows / self.c.micro_batch_size))

  @property
  def has_reference(self):
    return bool(self.c.grpo.kl_coef)

  def calls(self):
    """{program: how often it runs in a rollout and its updates}."""
    g = self.c.grpo
    passes = math.ceil(
      g.prompts_per_step * g.group_size / self.c.micro_batch_size
    )
    score = passes * self.has_reference
    if g.old_logprobs == 'trainer' and not grpo.is_on_policy(g):
      score += passes
    # What follows the last of several micro-batches is small, but for the sum
    # over slices.
    apply = self.pod.slices > 1 and self.micro_batches > 1
    return dict(
      train=self.micro_batches * g.updates,
      apply=apply * g.updates,
      score=score,
      prefill=1,
      decode=math.ceil(self.samples * self.mean_len / self.slots),
    )


def make(c, cfg, pod, length=0):
  """The Plan; refuses what the pod's devices cannot share."""
  device_placement.check(c.parallel, pod.devices)
  if c.parallel.rollout_devices:
    raise errors.UserError(
      'config.parallel.rollout_devices shares out the devices of one host; preflight '
      'rehearses runs in which all of them draw and learn: set it to 0'
    )
  if c.parallel.slices != pod.slices and c.parallel.strategy != 'pmap':
    raise errors.UserError(
      f'config.parallel.slices is {c.parallel.slices}, the pod has '
      f'{pod.slices}: set both to the same number'
    )
  if cfg.kv_heads % c.parallel.tensor_parallel:
    raise errors.UserError(
      f'config.parallel.tensor_parallel is {c.parallel.tensor_parallel}: it must divide the '
      f'{cfg.kv_heads} key heads of {c.init}'
    )
  return Plan(c, cfg, pod, length)
