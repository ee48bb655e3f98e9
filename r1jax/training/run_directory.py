"""The work directory of a run: it belongs to one config, and is finished when it
holds the stage's result."""

import pathlib
from typing import Any

import ml_collections

from r1jax import config as configs
from r1jax.distributed import hosts


def claim(
  workdir: pathlib.Path,
  config_class: type,
  config: ml_collections.ConfigDict,
  result: str,
  **inputs: Any,
) -> bool:
  """Makes the work directory this config's; returns whether it is finished.

  Refuses hosts that do not see the same config, inputs, code and directory, and
  a directory that belongs to another config. `result` is the file or folder
  that the stage writes last. A collective on several hosts.
  """
  hosts.check_agreement(
    workdir, config=configs.build(config_class, config), **inputs
  )
  hosts.run_once(lambda: configs.claim_workdir(workdir, config_class, config))
  finished = hosts.run_once((workdir / result).exists)
  if finished:
    print(f'{workdir} is finished: the result is {workdir / result}')
  return finished
