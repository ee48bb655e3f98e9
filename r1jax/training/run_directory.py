"""The work directory of a run: it belongs to one config, and is finished when it
holds the stage's result."""

import pathlib
from typing import Any

from ml_collections import ConfigDict

from r1jax import config as configs
from r1jax.distributed import hosts


def claim(
  workdir: pathlib.Path, cls: type, config: ConfigDict, result: str, **inputs
) -> bool:
  """Makes the work directory this config's; returns whether it holds `result`,
  the file or folder that the stage writes last. A collective.

  Raises UserError if the directory belongs to another config, or if the hosts
  do not have the same config, inputs, code and directory.
  """
  built: Any = configs.build(cls, config)
  hosts.check_agreement(workdir, config=built, **inputs)
  hosts.run_once(lambda: configs.claim_workdir(workdir, cls, config))
  finished = hosts.run_once((workdir / result).exists)
  if finished:
    print(f'{workdir} is finished: the result is {workdir / result}')
  return finished
