"""The stages as the tests run them: toy_sft.py and toy_rl.py, with changes."""

import importlib
import pathlib

from r1jax import cli, config
from r1jax.files import read_jsonl

HERE = pathlib.Path(__file__).parent


def stage(name):
  return importlib.import_module(cli.STAGES[name])


def settings(name, *changes):
  """The stage's toy config changed by 'key=value', as on the command line."""
  loaded = config.load_file(HERE / f'toy_{name}.py')
  return config.override(loaded, [f'--config.{change}' for change in changes])


def built(name, *changes):
  return config.build(stage(name).Config, settings(name, *changes))


def run(name, workdir, *changes):
  stage(name).run(settings(name, *changes), workdir)
  return read_jsonl(workdir / 'metrics.jsonl')


def files(workdir):
  """Every file below a directory, by its name, with its bytes."""
  return {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
