"""A run on one pod: its mesh, the rows of each device, and how often each
program runs."""

import dataclasses
import math

from r1jax import errors
from r1jax.distributed import device_placement
from r1jax.models.transformer import ModelConfig
from r1jax.preflight.chips import Pod
from r1jax.rl import grpo
from r1jax.rl.rl_config import Config

Axes = tuple[tuple[str, int], ...]  # (name, size) of each mesh axis


@dataclasses.dataclass(frozen=True)
class Plan:
  """A shard is one part of a batch's rows, for the devices of a 'model' axis.
  Rows, prompts, samples and slots are those of one shard."""

  config: Config
  cfg: ModelConfig
  pod: Pod
  mean_response_len: int = 0  # tokens; 0: the maximum

  @property
  def axes(self) -> Axes:
    """The mesh that device_placement.placement makes."""
    parallel = self.config.parallel
    if parallel.strategy == 'pmap':
      return (('data', self.pod.devices),)
    data = self.num_shards // parallel.slices
    axes = (('data', data), ('model', parallel.tensor_parallel))
    return (('slice', parallel.slices), *axes) if parallel.slices > 1 else axes

  @property
  def tensor_parallel(self) -> int:
    return self.config.parallel.tensor_parallel

  @property
  def num_shards(self) -> int:
    return self.pod.devices // self.tensor_parallel

  @property
  def itemsize(self) -> int:
    """Bytes of a number in the matrix products."""
    return 2 if self.cfg.dtype == 'bfloat16' else 4

  @property
  def max_new_tokens(self) -> int:
    return max(self.config.response_lengths)

  @property
  def mean_new_tokens(self) -> int:
    most = self.max_new_tokens
    return min(self.mean_response_len or most, most)

  @property
  def row_len(self) -> int:
    """Tokens of the longest row, results of tools included."""
    prompt = self.config.prompt
    return prompt.max_len + self.max_new_tokens + prompt.results_len

  @property
  def micro_batch_rows(self) -> int:
    return max(1, self.config.micro_batch_size // self.num_shards)

  @property
  def prompts(self) -> int:
    return max(1, self.config.grpo.prompts_per_step // self.num_shards)

  @property
  def samples(self) -> int:
    return self.prompts * self.config.grpo.group_size

  @property
  def decode_slots(self) -> int:
    return min(self.config.sample.decode_slots, self.samples)

  @property
  def micro_batches(self) -> int:
    """Micro-batches of one update."""
    group = self.config.grpo
    rows = group.prompts_per_step // group.minibatches * group.group_size
    return max(1, math.ceil(rows / self.config.micro_batch_size))

  def calls(self) -> dict[str, int]:
    """{program: its calls in a rollout and the rollout's updates}."""
    config, updates = self.config.grpo, self.config.grpo.updates
    rows = config.prompts_per_step * config.group_size
    scored = bool(config.kl_coef) + grpo.needs_old_logprobs(config)
    # Within one slice the program after the last micro-batch is negligible;
    # between slices it sums the gradients.
    is_applied = self.pod.slices > 1 and self.micro_batches > 1
    tokens = self.samples * self.mean_new_tokens
    return dict(
      train=self.micro_batches * updates,
      apply=is_applied * updates,
      score=scored * math.ceil(rows / self.config.micro_batch_size),
      prefill=1,
      decode=math.ceil(tokens / self.decode_slots),
    )


def make(
  config: Config, cfg: ModelConfig, pod: Pod, mean_response_len: int = 0
) -> Plan:
  """The Plan. Refuses a mesh that the pod's devices or the model do not
  allow."""
  parallel = config.parallel
  device_placement.check(parallel, pod.devices)
  if parallel.rollout_devices:
    raise errors.UserError(
      'config.parallel.rollout_devices must be 0 for preflight: it supports only '
      'devices that both sample and learn'
    )
  if parallel.slices != pod.slices and parallel.strategy != 'pmap':
    raise errors.UserError(
      f'config.parallel.slices is {parallel.slices}, the pod has '
      f'{pod.slices}: set both to the same number'
    )
  if cfg.kv_heads % parallel.tensor_parallel:
    raise errors.UserError(
      f'config.parallel.tensor_parallel is {parallel.tensor_parallel}: it must '
      f'divide the {cfg.kv_heads} key heads of {config.init}'
    )
  length = mean_response_len
  return Plan(config=config, cfg=cfg, pod=pod, mean_response_len=length)
