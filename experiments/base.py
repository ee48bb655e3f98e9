"""The config that all experiments start from: the defaults of a stage."""

import importlib

from r1jax import cli, config


def get_config(stage='rl'):
  """All keys of a stage with their default values."""
  return config.defaults(importlib.import_module(cli.STAGES[stage]).Config)
