"""What an rl run holds from its first step to its last, and how it begins."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor

import jax
import ml_collections
import orbax.checkpoint as ocp
from flax import struct

from r1jax import config as configs
from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.data import templates
from r1jax.distributed import device_placement, hosts, programs
from r1jax.distributed.device_placement import Placement
from r1jax.models import transformer
from r1jax.rewards import reward_model, verifiers
from r1jax.rewards.pending import Scorer
from r1jax.rl import grpo, rl_config
from r1jax.sampling.generate import Sampler
from r1jax.training import (
  checkpoint,
  metrics,
  optimizer,
  run_directory,
  train_step,
)


@struct.dataclass
class RlState:
  """What the updates change; it is saved in checkpoints."""

  train: train_step.TrainState
  ref: dict | None  # the reference's parameters, on the rollout devices


@dataclasses.dataclass(frozen=True)
class Position:
  """How far a run is; it is saved in checkpoints."""

  step: int = 0  # updates so far
  next_prompt: int = 0  # in the endless stream of prompts
  ref_step: int = 0  # when the reference was refreshed last
  score: float | None = None  # pass@1 of the step, where it was evaluated


@dataclasses.dataclass(frozen=True)
class Run:
  """What stays the same from the first step of a run to the last."""

  config: rl_config.Config
  placement: Placement  # of the updates
  rollout_placement: Placement  # of sampling: the same devices, or others
  records: list[dict]
  held_out_records: list[dict]
  cfg: transformer.ModelConfig
  tokenizer: object
  sampler: Sampler
  scorer: Scorer
  verifiers: verifiers.Verifiers
  policy_logprobs: Callable  # compiled programs, see grpo.logprobs_program
  ref_logprobs: Callable
  teacher_params: dict | None  # in the place of a reference
  updates: train_step.UpdatePrograms
  executor: Executor
  checkpoints: ocp.CheckpointManager
  writer: metrics.Writer
  first_step: int  # that this process began with
  started: float  # time.time() then

  @property
  def key(self) -> jax.Array:
    return jax.random.key(self.config.seed)

  @property
  def has_rollout_devices(self) -> bool:
    """Whether sampling has devices of its own."""
    return self.rollout_placement is not self.placement

  def records_at(self, step: int) -> list[dict]:
    """The records that are sampled after `step` updates."""
    if step >= self.config.domains_from:
      return self.records
    return rl_config.first_records(self.config, self.records)


def open_run(
  stack: contextlib.ExitStack,
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
) -> tuple[Run, RlState, Position] | None:
  """Loads all that a run needs, and its newest checkpoint if it has one. None if
  the run is finished. What must be closed is put on the stack."""
  settings = config
  config = configs.build(rl_config.Config, settings)
  placement, rollout_placement = device_placement.placements(config.parallel)
  rl_config.check(config, placement, rollout_placement)
  records, held_out_records = rl_config.load_records(config)
  all_records = records + held_out_records
  verifier = stack.enter_context(
    verifiers.open_verifiers(config.verify, all_records)
  )
  params, cfg, tokenizer = policy.load(
    config.init, config.compute, None, config.seed
  )
  prompts = templates.encode_prompts(tokenizer, all_records, config.prompt)
  prompt_width = max(map(len, prompts))
  policy.check_length(
    cfg, prompt_width + max(config.response_lengths) + config.prompt.results_len
  )
  device_placement.shardings(placement, params)  # refuses an uneven mesh
  reward_models = {}
  for name, path in config.reward_models.items():
    reward_models[name] = reward_model.load(
      path, config.compute, rollout_placement, config.micro_batch_size
    )
  teacher_params, ref_cfg = None, cfg
  if config.teacher:
    teacher_params, ref_cfg = load_teacher(config, rollout_placement, tokenizer)
  if run_directory.claim(
    workdir,
    rl_config.Config,
    settings,
    'model',
    records=all_records,
    sandbox=verifier.tier_name,
  ):
    return None
  tx = optimizer.optimizer(config.optim, config.steps)
  loss_fn = grpo.make_loss(
    config.grpo,
    programs.shard_config(placement, cfg),
    config.sample.temperature,
  )
  state = RlState(
    train=train_step.create_state(placement, params, tx),
    ref=_first_reference(config, rollout_placement, params),
  )
  del params
  checkpoints = checkpoint.open_manager(
    workdir / 'checkpoints', config.keep, config.best
  )
  stack.callback(checkpoint.close, checkpoints)
  restored = checkpoint.restore(checkpoints, state)
  position = Position()
  writer = metrics.Writer(workdir, hosts.index())
  stack.callback(writer.close)
  if restored:
    state, facts, _ = restored
    position = Position(**facts)
    print(f'going on from step {position.step} of {workdir}')
  writer.rewind(position.step if restored else -1)
  run = Run(
    config=config,
    placement=placement,
    rollout_placement=rollout_placement,
    records=records,
    held_out_records=held_out_records,
    cfg=cfg,
    tokenizer=tokenizer,
    sampler=Sampler(
      rollout_placement,
      cfg,
      tokenizer,
      config.prompt,
      config.sample,
      prompt_width,
      config.compute.scan_decode,
    ),
    scorer=Scorer(
      weights=config.rewards,
      by_domain=config.by_domain,
      rules=verifier.rules,
      models=reward_models,
    ),
    verifiers=verifier,
    policy_logprobs=grpo.logprobs_program(
      rollout_placement, cfg, config.sample.temperature
    ),
    ref_logprobs=grpo.logprobs_program(
      rollout_placement, ref_cfg, config.sample.temperature
    ),
    teacher_params=teacher_params,
    updates=train_step.update_programs(placement, loss_fn, tx),
    executor=stack.enter_context(ThreadPoolExecutor(2)),
    checkpoints=checkpoints,
    writer=writer,
    first_step=position.step,
    started=time.time(),
  )
  return run, state, position


def policy_params(run: Run, state: RlState) -> dict:
  """The policy's parameters on the rollout devices."""
  if not run.has_rollout_devices:
    return state.train.params
  return device_placement.put_state(run.rollout_placement, state.train.params)


def is_saved(run: Run, step: int) -> bool:
  """Whether a resume would begin at this step; any thread may ask."""
  return step == 0 or checkpoint.is_saved(run.checkpoints, step)


def load_teacher(
  config: rl_config.Config, placement: Placement, tokenizer
) -> tuple[dict, transformer.ModelConfig]:
  """(parameters, config) of the model that is distilled into the policy."""
  params, cfg, teacher_tokenizer = policy.load(
    config.teacher, config.compute, None, config.seed
  )
  text = '12 <think>\n思考 naïve'
  same = teacher_tokenizer.vocab_size == tokenizer.vocab_size
  if not same or teacher_tokenizer.encode(text) != tokenizer.encode(text):
    raise errors.UserError(
      f'config.teacher {config.teacher} and config.init {config.init} have '
      'different tokenizers: a teacher must use the same ids as its student'
    )
  return device_placement.put_state(placement, params), cfg


def _first_reference(config, placement, params):
  if not config.grpo.kl_coef or config.teacher:
    return None
  return device_placement.put_state(placement, params)
