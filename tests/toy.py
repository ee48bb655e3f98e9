"""Runs stages with the configs of the toy_*.py files, changed by tests."""

import importlib
import os
import pathlib

from r1jax import cli, config
from r1jax.files import read_jsonl

HERE = pathlib.Path(__file__).parent
# XLA_FLAGS of a process with one CPU device, where those of the tests have four.
FOUR_DEVICES = '--xla_force_host_platform_device_count=4'  # see conftest.py
ONE_DEVICE = os.environ.get('XLA_FLAGS', '').replace(FOUR_DEVICES, '').strip()


def stage(name):
  """The module of a stage."""
  return importlib.import_module(cli.STAGES[name])


def settings(name, *changes):
  """The stage's toy config changed by 'key=value', as on the command line."""
  loaded = config.load_file(HERE / f'toy_{name}.py')
  return config.override(loaded, [f'--config.{change}' for change in changes])


def built(name, *changes):
  """The same as the stage's frozen Config."""
  return config.build(stage(name).Config, settings(name, *changes))


def run(name, workdir, *changes):
  """Runs a stage; returns the lines of its metrics."""
  stage(name).run(settings(name, *changes), workdir)
  return read_jsonl(workdir / 'metrics.jsonl')


def files(workdir):
  """{path: content} of all files below a directory."""
  return {p: p.read_bytes() for p in workdir.rglob('*') if p.is_file()}
