"""Estimates memory and time per chip of an rl run on a pod, without the pod: by
the TPU compiler if libtpu is installed, else by formula."""

import argparse
import json
import math
import pathlib

import jax
import ml_collections

from r1jax import config as configs
from r1jax import errors, files
from r1jax.data import tasks
from r1jax.preflight import arithmetic, checks, chips, knobs, report, shapes
from r1jax.preflight import plan as plans
from r1jax.preflight.compiler import programs, versions
from r1jax.rl import rl_config

Config = rl_config.Config


def add_options(parser: argparse.ArgumentParser) -> None:
  """Adds preflight's arguments beside the config of the run."""
  add, known = parser.add_argument, ', '.join(chips.CHIPS)
  topology = f'like v5e:16x16; chips: {known}'
  add('--topology', metavar='CHIP:SHAPE', required=True, help=topology)
  model = 'a config.json, without the weights, in place of config.init'
  add('--model', metavar='FILE', help=model)
  slices = (
    'slices of this topology, connected by the data-centre network; sets '
    'config.parallel.slices, which is the default'
  )
  add('--slices', metavar='N', type=int, help=slices)
  length = 'mean length of a response, for the time; default: the maximum'
  add('--length', metavar='TOKENS', type=int, help=length)
  rate = (
    "the base model's pass rate, for the share of groups without a gradient; "
    'default: measured, if the model is here and small'
  )
  add('--pass-rate', metavar='P', type=float, help=rate)
  imbalance = (
    'rows of the device with the busiest experts over the mean of the devices; '
    f'default: {plans.EXPERT_IMBALANCE:g}'
  )
  add('--expert-imbalance', metavar='X', type=float, help=imbalance)
  formula = 'formulas only: compile nothing'
  add('--formula', action='store_true', help=formula)
  add('--json', metavar='FILE', help='also write the report as JSON')


def rehearse(
  settings: ml_collections.ConfigDict, options: argparse.Namespace
) -> bool:
  """Prints the report. Returns whether the run fits and no check fails."""
  jax.config.update('jax_platforms', 'cpu')
  if options.model is not None:
    settings.init = model_file(options.model)
  if options.slices is not None:
    settings.parallel.slices = options.slices
  config = configs.build(Config, settings)
  check_options(options, max(config.response_lengths))
  pod = chips.pod(options.topology, config.parallel.slices)
  cfg = shapes.computed(config.init, config.compute, pod.chip)
  length = options.length or 0
  problems = held_out_problems(config)
  imbalance = options.expert_imbalance or plans.EXPERT_IMBALANCE
  plan = plans.make(config, cfg, pod, length, problems, imbalance)
  costs = arithmetic.costs(plan)
  reason = '--formula' if options.formula else programs.cannot_compile(plan)
  if reason:
    print(f'by formula only: {reason}')
  else:
    print('\n'.join(versions.lines()), flush=True)
    costs = programs.costs(plan, costs)
  fits = all(x.fits(pod.chip) for x in costs)
  fixes = [] if fits else knobs.find(plan, costs)
  print('\n'.join(report.lines(plan, costs, fixes)), flush=True)
  print('\nChecks:')
  found = []
  for check in checks.run_checks(plan, options.pass_rate):
    print('\n'.join(report.wrap(check.line)), flush=True)
    found.append(check)
  if options.json:
    values = report.as_json(plan, costs, fixes, found)
    pathlib.Path(options.json).write_text(json.dumps(values, indent=2) + '\n')
  return fits and all(check.good is not False for check in found)


def model_file(text: str) -> str:
  """The config.json that --model names, or that of its folder, or of the result
  of a run."""
  path = pathlib.Path(text)
  result = path / 'model' / 'config.json'
  if path.is_dir():
    path = result if result.is_file() else path / 'config.json'
  if not shapes.is_config(path):
    raise errors.UserError(
      f'--model {text}: name a config.json of a model, or the folder that has it; '
      'config.init takes GGUF files and names on the hub'
    )
  return str(path)


def check_options(options: argparse.Namespace, max_new_tokens: int) -> None:
  """Refuses numbers that no run can have, and a report that cannot be written."""
  length, rate = options.length, options.pass_rate
  if length is not None and not 1 <= length <= max_new_tokens:
    raise errors.UserError(
      f'--length is {length}: it must be from 1 to the {max_new_tokens:,} tokens '
      'that a response may have'
    )
  if rate is not None and not 0 <= rate <= 1:  # NaN is refused too
    raise errors.UserError(f'--pass-rate is {rate}: it must be from 0 to 1')
  imbalance = options.expert_imbalance
  if imbalance is not None and not 1 <= imbalance < math.inf:
    raise errors.UserError(
      f'--expert-imbalance is {imbalance}: it must be a number from 1 on'
    )
  files.check_local(options.json, '--json')
  folder = pathlib.Path(options.json or '.').parent
  if not folder.is_dir():
    raise errors.UserError(
      f'--json {options.json}: there is no folder {folder}'
    )
  if options.json and pathlib.Path(options.json).is_dir():
    raise errors.UserError(
      f'--json {options.json} is a folder: name a file in it'
    )


def held_out_problems(config: Config) -> int:
  """The number of problems of an evaluation; 0 if they are not here."""
  if not config.eval.data:
    return config.eval.held_out
  try:
    columns = config.eval.data_map or config.prompts_map
    seed = config.seed + 1
    return len(tasks.load_records(config.eval.data, seed, None, columns))
  except errors.UserError:
    return 0
