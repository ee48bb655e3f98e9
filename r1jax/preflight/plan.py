"""A run on one pod: its mesh, rows per device, and how often programs run."""

import dataclasses
import math
from typing import Self

from r1jax import errors
from r1jax.distributed import device_placement
from r1jax.models.model_config import LayerSizes
from r1jax.models.sharding import FsdpTensorParallel
from r1jax.models.transformer import ModelConfig
from r1jax.preflight.chips import Pod
from r1jax.rl import grpo_config, micro_batches
from r1jax.rl.rl_config import Config
from r1jax.sampling import page_table, refill

# The rows of the device with the busiest experts of a layer over the mean of the
# devices. arXiv:2606.04101 measured 1.30 to 4.01 between ranks, in models of 106
# to 671 B parameters without balancing; the busiest of 8 experts of r1jax's toys
# has 2.0 to 2.3 times the mean. It is at most the metric router/max_load.
EXPERT_IMBALANCE = 2.0
# The share of the drafts that are accepted, of which DeepSeek-V3 reports 85 to
# 90 % (arXiv:2412.19437, 5.4.3).
DRAFT_ACCEPTANCE = 0.85
Axes = tuple[tuple[str, int], ...]  # (name, size) of each mesh axis


@dataclasses.dataclass(frozen=True)
class Plan:
  """A run on one pod. A shard is the part of a batch that the devices of one
  'model' axis share; prompts, samples, rows and slots are per shard."""

  config: Config
  cfg: ModelConfig
  pod: Pod
  mean_response_len: int = 0  # tokens; 0: the maximum
  held_out_problems: int = 0  # of an evaluation; 0: not known
  expert_imbalance: float = EXPERT_IMBALANCE

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
  def shared_cfg(self) -> ModelConfig:
    """The config of the model that the devices compute together, with copies of
    key heads that they share."""
    return self.cfg.sharded(FsdpTensorParallel(self.tensor_parallel))

  @property
  def layer_sizes(self) -> LayerSizes:
    return self.shared_cfg.layer_sizes

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
    limit = self.max_new_tokens
    return min(self.mean_response_len or limit, limit)

  @property
  def row_len(self) -> int:
    """Tokens of the longest row, results of tools included."""
    prompt = self.config.prompt
    return prompt.max_len + self.max_new_tokens + prompt.results_len

  @property
  def decode_cfg(self) -> ModelConfig:
    """The config of the decode loop."""
    scan_layers = self.config.compute.scan_decode
    return dataclasses.replace(self.cfg, scan_layers=scan_layers)

  @property
  def reads_filled_cache(self) -> bool:
    """Whether decoding reads only the filled part of each row's cache."""
    return self.decode_cfg.reads_filled_cache

  @property
  def filled_columns(self) -> float:
    """The columns that a row fills on average, if all responses have the mean
    length."""
    filled = self.config.prompt.max_len + self.mean_new_tokens / 2
    return min(self.row_len, filled)

  @property
  def read_share(self) -> float:
    """The share of its row that a decode step reads on average: all of it, or by
    a kernel the filled columns."""
    return (
      self.filled_columns / self.row_len if self.reads_filled_cache else 1.0
    )

  @property
  def cache_share(self) -> float:
    """The bytes of the cache that a decode step moves, over those that it has."""
    sample = self.config.sample
    if not sample.cache_tokens:
      return self.read_share
    columns = self.live_slots * self.filled_columns
    if not self.reads_filled_cache:
      # The pages of all slots are copied to whole rows, which are read.
      columns = 3 * self.decode_slots * self.row_len
    return columns / ((sample.pages + 1) * sample.page_tokens)

  @property
  def micro_batch_rows(self) -> int:
    """Rows of the longest form of a micro-batch."""
    rows = self.config.micro_batch_size
    if self.config.tokens_per_micro_batch:
      rows = self.config.tokens_per_micro_batch // self.row_len
    return max(1, rows // self.num_shards)

  @property
  def prompts(self) -> int:
    return max(1, self.config.grpo.prompts_per_step // self.num_shards)

  @property
  def samples(self) -> int:
    return self.prompts * self.config.grpo.group_size

  @property
  def chunk_prompts(self) -> int:
    """Prompts of a chunk of the held-out evaluation."""
    size = self.config.eval.prompts_per_chunk
    size = min(size, self.held_out_problems or size)
    return math.ceil(size / self.num_shards)

  @property
  def decode_slots(self) -> int:
    return min(self.config.sample.decode_slots, self.samples)

  @property
  def live_slots(self) -> float:
    """The slots that have a sample, on average: all of them, or as many as the
    pages of the cache hold at a time."""
    sample = self.config.sample
    if not sample.cache_tokens:
      return self.decode_slots
    columns = (
      self.filled_columns + (sample.page_tokens + self.segment_tokens) / 2
    )
    pages = sample.pages * (1 - page_table.RESERVE)
    held = pages * sample.page_tokens / columns
    return max(1, min(self.decode_slots, held))

  @property
  def segment_tokens(self) -> int:
    """Tokens of a slot between two refills."""
    return refill.segment_tokens(self.config.sample)

  @property
  def step_tokens(self) -> int:
    """Tokens of a slot that a decode step computes: the last one and a draft, if
    there are drafts."""
    return 2 if self.config.sample.draft else 1

  @property
  def decode_layers(self) -> int:
    """Layers that a decode step computes, with the module that drafts."""
    return self.cfg.layers + self.config.sample.draft

  @property
  def packed_share(self) -> float:
    """The tokens of packed rows over those of rows with a prompt each, if all
    prompts and responses are as long as they can be; 1.0 if rows are not packed.
    See rl/micro_batches.choose_packing."""
    config, prompt = self.config.grpo, self.config.prompt.max_len
    if config.share_prompts == 'off' or config.mtp_coef:
      return 1.0
    if self.config.tokens_per_micro_batch:
      return 1.0  # Of rows one after another all have a prompt each, at most.
    responses = math.gcd(config.group_size, self.micro_batch_rows)
    share = 1 - (1 - 1 / responses) * prompt / self.row_len
    is_packed = share < micro_batches.WORTHWHILE
    return share if is_packed or config.share_prompts == 'on' else 1.0

  @property
  def micro_batches(self) -> int:
    """Micro-batches of one update."""
    group = self.config.grpo
    rows = group.prompts_per_step // group.minibatches * group.group_size
    return self._parts(rows)

  def _parts(self, rows):
    """The micro-batches of so many rows of the mean length."""
    tokens = self.config.tokens_per_micro_batch
    if not tokens:
      return math.ceil(rows / self.config.micro_batch_size)
    prompt = self.config.prompt
    row = prompt.max_len + self.mean_new_tokens + prompt.results_len
    return math.ceil(rows * row / tokens)

  def calls(self) -> dict[str, int]:
    """{program: its calls in a rollout and the rollout's updates}."""
    config, updates = self.config.grpo, self.config.grpo.updates
    rows = config.prompts_per_step * config.group_size
    scored = bool(config.kl_coef) + grpo_config.needs_old_logprobs(config)
    # Within one slice the program after the last micro-batch is negligible;
    # between slices it sums the gradients.
    is_applied = self.pod.slices > 1 and self.micro_batches > 1
    tokens = self.samples * self.mean_new_tokens
    if self.config.sample.draft:
      tokens = math.ceil(tokens / (1 + DRAFT_ACCEPTANCE))
    return dict(
      train=self.micro_batches * updates,
      apply=is_applied * updates,
      score=scored * self._parts(rows),
      gather=1,
      prefill=1,
      decode=math.ceil(tokens / self.live_slots),
    )

  @property
  def rollouts(self) -> int:
    """Rollouts of the run."""
    return self.config.steps // self.config.grpo.updates

  @property
  def chunks(self) -> int:
    """Chunks of one evaluation; 0 if the number of its problems is unknown."""
    return math.ceil(
      self.held_out_problems / (self.chunk_prompts * self.num_shards)
    )

  @property
  def chunk(self) -> Self:
    """The plan whose rollout is a chunk of the held-out evaluation."""
    config, prompts = self.config, self.chunk_prompts * self.num_shards
    grpo_config = dataclasses.replace(
      config.grpo, prompts_per_step=prompts, group_size=config.eval.samples
    )
    sample = dataclasses.replace(
      config.sample, temperature=config.eval.temperature
    )
    config = dataclasses.replace(config, grpo=grpo_config, sample=sample)
    return dataclasses.replace(self, config=config)

  @property
  def evaluations(self) -> int:
    """Evaluations of the run; the first is before training."""
    every = self.config.eval.every
    return 1 + self.config.steps // every if every else 0


def make(
  config: Config,
  cfg: ModelConfig,
  pod: Pod,
  mean_response_len: int = 0,
  held_out_problems: int = 0,
  expert_imbalance: float = EXPERT_IMBALANCE,
) -> Plan:
  """The Plan. Refuses a mesh that the pod's devices do not allow."""
  device_placement.check(config.parallel, pod.devices)
  if config.parallel.rollout_devices:
    raise errors.UserError(
      'config.parallel.rollout_devices must be 0 for preflight: it supports '
      'only devices that both sample and learn'
    )
  return Plan(
    config=config,
    cfg=cfg,
    pod=pod,
    mean_response_len=mean_response_len,
    held_out_problems=held_out_problems,
    expert_imbalance=expert_imbalance,
  )
