"""Builds an rl run of its config, and restores its newest checkpoint."""

import contextlib
import pathlib
from concurrent.futures import ThreadPoolExecutor

import ml_collections

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement
from r1jax.models import transformer
from r1jax.rewards import registry, reward_model, verifiers
from r1jax.rewards.pending import Scorer
from r1jax.rl import (
  curriculum,
  grpo,
  grpo_config,
  rl_config,
  rl_records,
)
from r1jax.rl.rl_run import Position, RlState, Run, Sampling
from r1jax.sampling import loading
from r1jax.training import (
  checkpoint,
  memory_errors,
  metrics,
  optimizer,
  run_directory,
  train_step,
)
from r1jax.training.config_changes import NO_CHANGE, Change
from r1jax.training.progress import Progress


def open_run(
  stack: contextlib.ExitStack,
  settings: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  change: Change = NO_CHANGE,
) -> tuple[Run, RlState, Position] | None:
  """Builds the run and restores its newest checkpoint. Returns None if the run
  is finished. Resources to close are registered on `stack`."""
  directory = run_directory.open_directory(
    workdir, rl_config.Config, settings, change
  )
  config = directory.config
  rl_config.check_changes(config, directory.changes)
  placement, rollout_placement = device_placement.placements(config.parallel)
  rl_config.check(config, placement, rollout_placement)
  with memory_errors.explained('loading of the model', config):
    sampling, params = load_sampling(stack, config, rollout_placement)
    device_placement.shardings(placement, params)  # refuses an uneven mesh
    check_rows(sampling, placement, rollout_placement)
    if not directory.progress:
      # Before the run has the directory: its weights may be damaged.
      params = device_placement.put_state(placement, params)
  records = [*sampling.records, *sampling.held_out_records]
  claimed = run_directory.claim(
    directory,
    'model',
    records,
    config.steps,
    scored=rl_records.verified_records(config, records),
    sandbox=sampling.verifiers.tier_name,
  )
  if claimed is None:
    return None
  checkpoints = checkpoint.open_manager(
    workdir / 'checkpoints', config.keep, config.best
  )
  stack.callback(checkpoint.close, checkpoints)
  with memory_errors.explained('loading of the model', config):
    if checkpoints.latest_step() is not None:
      params = device_placement.put_zeros(placement, params)  # to be restored
    updates, state = first_state(config, placement, sampling, params)
  del params
  writer = metrics.Writer(workdir, config)
  stack.callback(writer.close)
  with memory_errors.explained('loading of the model', config):
    position, restored = Position(), checkpoint.restore(checkpoints, state)
  if restored:
    state, facts, _ = restored
    position = Position(**facts)
    print(f'resuming from step {position.step} of {workdir}')
  rl_config.check_remaining(config, position.step)
  run_directory.record_changes(claimed, position.step)
  writer.rewind(position.step if restored else -1)
  progress = Progress(
    config.steps,
    position.step,
    config.log_every,
    metrics_file=workdir / 'metrics.jsonl',
  )
  stack.callback(progress.close)
  run = Run(
    config=config,
    placement=placement,
    sampling=sampling,
    updates=updates,
    checkpoints=checkpoints,
    writer=writer,
    progress=progress,
  )
  return run, state, position


def check_rows(sampling: Sampling, *placements: Placement) -> None:
  """Refuses micro-batches that do not hold the longest row of the run."""
  config = sampling.config
  longest = sampling.sampler.prompt_width + config.prompt.results_len
  longest += max(config.response_lengths)
  for placement in placements:
    rl_config.check_shards(config, placement.num_shards, longest)
  rl_config.check_sharing(config, sampling.cfg)


def first_state(
  config: rl_config.Config,
  placement: Placement,
  sampling: Sampling,
  params: dict,
) -> tuple[train_step.UpdatePrograms, RlState]:
  """(the compiled updates, the state before the first), on the devices."""
  optimizer.check_router_bias(config.optim, params)
  mtp_coef = config.grpo.mtp_coef
  policy.check_mtp(sampling.cfg, mtp_coef, 'config.grpo.mtp_coef')
  tx = optimizer.optimizer(config.optim, config.steps)
  updates = grpo.update_programs(
    config.grpo,
    placement,
    sampling.cfg,
    config.sample.temperature,
    tx,
    config.optim.router_bias_rate,
  )
  params, ref_params = device_placement.put_state(placement, params), None
  if config.grpo.kl_coef and not config.teacher:
    # A copy, since the update donates the policy's buffers.
    ref_params = device_placement.copy(params)
    if sampling.placement is not placement:
      ref_params = device_placement.put_state(sampling.placement, ref_params)
  train = train_step.create_state(placement, params, tx)
  return updates, RlState(train=train, ref=ref_params)


def load_sampling(
  stack: contextlib.ExitStack, config: rl_config.Config, placement: Placement
) -> tuple[Sampling, dict]:
  """(Sampling, the policy's parameters, unread), as the config says."""
  records, held_out_records = rl_records.load_records(config)
  both = records + held_out_records
  names = registry.user_names(config.rewards, config.by_domain)
  verified = rl_records.verified_records(config, both)
  verifier = stack.enter_context(
    verifiers.Verifiers(config.verify, verified, names)
  )
  model, prompt_width, kept = loading.load_policy(
    config, placement, both, max(config.response_lengths)
  )
  if len(kept) < len(both):
    numbers = set(map(id, kept))
    records = [x for x in records if id(x) in numbers]
    held_out_records = [x for x in held_out_records if id(x) in numbers]
    rl_records.check_records(config, records, held_out_records)
  params, cfg, tokenizer = model
  models = {}
  for name, path in config.reward_models.items():
    models[name] = reward_model.RewardModel(
      path, config.compute, placement, config.micro_batch_size
    )
  teacher_params, ref_cfg = None, cfg
  if config.teacher:
    teacher_params, ref_cfg = load_teacher(config, placement, tokenizer)
  order, weights = config.curriculum, config.prompts_mix
  prompts = first_prompts = curriculum.prompts(order, records, weights)
  if config.domains_from:
    first_records = rl_records.first_records(config, records)
    first_prompts = curriculum.prompts(order, first_records, weights)
  temperature = config.sample.temperature
  sampling = Sampling(
    config=config,
    placement=placement,
    prompts=prompts,
    first_prompts=first_prompts,
    held_out_records=held_out_records,
    cfg=cfg,
    tokenizer=tokenizer,
    sampler=loading.make_sampler(config, placement, model, prompt_width),
    scorer=Scorer(config.rewards, config.by_domain, verifier.rules, models),
    verifiers=verifier,
    policy_logprobs=grpo.logprobs_program(
      placement, cfg, temperature, grpo_config.replays_routing(config.grpo, cfg)
    ),
    ref_logprobs=grpo.logprobs_program(placement, ref_cfg, temperature),
    teacher_params=teacher_params,
    executor=stack.enter_context(ThreadPoolExecutor(2)),
  )
  return sampling, params


def load_teacher(
  config: rl_config.Config, placement: Placement, tokenizer: Tokenizer
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
  params = transformer.frozen(params, cfg)
  return device_placement.put_state(placement, params), cfg
