"""What every experiment starts from: its stage, with nothing changed."""

import importlib

from r1jax import cli, config


def get_config(stage='rl'):
  """Every key of the stage at its default."""
  return config.defaults(importlib.import_module(cli.STAGES[stage]).Config)
