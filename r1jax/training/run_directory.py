"""Work directories: each belongs to one config and is finished when it contains
the stage's result."""

import pathlib

from ml_collections import ConfigDict

from r1jax import config as configs
from r1jax.distributed import hosts


def claim(
  workdir: pathlib.Path, cls: type, config: ConfigDict, result: str, **inputs
) -> bool:
  """Assigns the work directory to this config; returns whether the run is
  finished (`result`, written last, exists). Raises UserError if it is another
  config's, or if the hosts differ in config, inputs, code or directory. A
  collective."""
  hosts.check_agreement(workdir, config=configs.build(cls, config), **inputs)
  hosts.run_once(lambda: configs.claim_workdir(workdir, cls, config))
  finished = hosts.run_once((workdir / result).exists)
  if finished:
    print(f'{workdir} is finished: the result is {workdir / result}')
  return finished
