"""What an rl run holds: its constants, and the state that changes."""

import dataclasses
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import jax
import orbax.checkpoint as ocp
from flax import struct

from r1jax.data.formats import Record
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement
from r1jax.models import kernels, transformer
from r1jax.rewards import verifiers
from r1jax.rewards.pending import Scorer
from r1jax.rl import curriculum, rl_config, unscored
from r1jax.rl.micro_batches import Cutting
from r1jax.sampling.generate import Sampler
from r1jax.training import metrics, train_step
from r1jax.training.progress import Progress


class RlState(struct.PyTreeNode):
  """The part of a run that updates change; it is saved in checkpoints."""

  train: train_step.TrainState
  ref: dict | None  # the reference's parameters, on the rollout devices


@dataclasses.dataclass(frozen=True)
class Position:
  """The progress of a run; it is saved in checkpoints."""

  step: int = 0  # updates so far
  next_prompt: int = 0  # index in the stream of prompts
  ref_step: int = 0  # when the reference was refreshed last
  # Of prompts by id, see rl/curriculum.py; empty without config.by_success.
  success: dict[str, float] = dataclasses.field(default_factory=dict)
  # By config.eval.best, where the step was evaluated; NaN if nothing was judged.
  score: float | None = None


@dataclasses.dataclass(frozen=True)
class Sampling:
  """The constants that rollouts use."""

  config: rl_config.Config
  placement: Placement
  prompts: curriculum.Prompts
  first_prompts: curriculum.Prompts  # before config.domains_from
  held_out_records: list[Record]
  cfg: transformer.ModelConfig
  tokenizer: Tokenizer
  sampler: Sampler
  scorer: Scorer
  verifiers: verifiers.Verifiers
  policy_logprobs: Callable  # compiled programs, see grpo.logprobs_program
  ref_logprobs: Callable
  teacher_params: dict | None  # in place of a reference
  executor: Executor

  @property
  def key(self) -> jax.Array:
    return jax.random.key(self.config.seed)

  @property
  def records(self) -> Sequence[Record]:
    """All records that are trained on."""
    return self.prompts.records

  def prompts_at(self, step: int) -> curriculum.Prompts:
    """The prompts that are sampled after `step` updates."""
    if step >= self.config.domains_from:
      return self.prompts
    return self.first_prompts


@dataclasses.dataclass(frozen=True)
class Run:
  """The constants of a run."""

  config: rl_config.Config
  placement: Placement  # of the updates
  sampling: Sampling  # on the same devices, or others
  updates: train_step.UpdatePrograms
  checkpoints: ocp.CheckpointManager
  writer: metrics.Writer
  progress: Progress
  unscored_rollouts: unscored.UnscoredRollouts = dataclasses.field(
    default_factory=unscored.UnscoredRollouts
  )

  @property
  def has_rollout_devices(self) -> bool:
    """Whether sampling has devices of its own."""
    return self.sampling.placement is not self.placement


def policy_params(run: Run, state: RlState) -> dict:
  """The policy's parameters on the rollout devices."""
  if not run.has_rollout_devices:
    return state.train.params
  return device_placement.put_state(run.sampling.placement, state.train.params)


def cutting(sampling: Sampling, placement: Placement) -> Cutting:
  """How batches are cut into micro-batches for these devices."""
  config = sampling.config
  return Cutting(
    micro_batch_size=config.micro_batch_size,
    length_buckets=config.length_buckets,
    prompt_width=sampling.sampler.prompt_width,
    num_shards=placement.num_shards,
    tokens=config.tokens_per_micro_batch,
    can_share=kernels.can_share_prompts(sampling.cfg.attention),
  )
