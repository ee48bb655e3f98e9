"""The versions of jax and of the TPU compiler: of a rehearsal here, and of the
runs on a TPU that launch_tpu.sh has set up."""

import importlib.metadata
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[3]
# What the command setup installs, with Python 3.11.
SETUP_FILES = 'requirements-3.11.lock', 'requirements-tpu.lock'
PINNED = re.compile(
  r"^(\w+)==([\w.]+)(?:; python_version == '3.11')?$", re.MULTILINE
)
PACKAGES = 'jax', 'libtpu'


def here() -> dict[str, str]:
  """{package: version} of this environment, without what is not installed."""
  found = {}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def of_setup() -> dict[str, str]:
  """{package: version} on a TPU; empty if the lock files are not here."""
  found: dict[str, str] = {}
  for path in map(ROOT.joinpath, SETUP_FILES):
    text = path.read_text() if path.exists() else ''
    found |= dict(PINNED.findall(text))
  return {name: found[name] for name in PACKAGES if name in found}


def lines() -> list[str]:
  """The versions here, and those of setup where they differ."""
  text, installed, pinned = 'versions: ', here(), of_setup()
  text += ', '.join(f'{name} {number}' for name, number in installed.items())
  differing = {
    name: number
    for name, number in pinned.items()
    if name in installed and installed[name] != number
  }
  if not differing or len(installed) < len(PACKAGES):
    return [text]
  names = ' and '.join(f'{name} {n}' for name, n in differing.items())
  return [
    text,
    f'launch_tpu.sh setup installs {names}, with Python 3.11: see "Rehearse the '
    'pod" in docs/pods.md',
  ]
