"""The runs of a sweep one after another in this process, for configs that hold
functions given in Python, which another process could not load."""

import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from r1jax import config as configs
from r1jax import errors, files, user_code
from r1jax.ablation import run_files
from r1jax.ablation.grid import PlannedRun
from r1jax.ablation.processes import LOG
from r1jax.distributed import hosts, programs
from r1jax.training import run_directory


def is_needed(cls: type, runs: Sequence[PlannedRun]) -> bool:
  """Whether a config of the class of a stage names objects given in Python."""
  for run in runs:
    names = configs.code_names(configs.build(cls, run.config))
    if any(name.startswith(user_code.PYTHON) for name in names):
      return True
  return False


def run_all(
  runs: Sequence[PlannedRun], workdir: Path, stage: ModuleType
) -> dict[str, int]:
  """Runs all that have no result yet. Returns the exit codes of those that
  failed, by name; their tracebacks are in log.txt. Ctrl-C and SIGTERM end the
  run, and the sweep."""
  programs.compilation_cache()
  failed = {}
  for n, run in enumerate(runs):
    folder = workdir / run.name
    if run_files.is_finished(folder):
      continue
    print(f'run {n + 1}/{len(runs)}  {run.name}', flush=True)
    try:
      with hosts.connected(folder), run_directory.occupied(folder):
        stage.run(configs.Settings(run.config), folder)
    except errors.Terminated:
      raise
    except Exception as error:
      files.write_text(folder / LOG, traceback.format_exc())
      failed[run.name] = errors.exit_status(error)[0]
  return failed
