"""The software of every start of a run, in starts.jsonl of its work directory."""

import contextlib
import importlib.metadata
import json
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import jax

import r1jax
from r1jax.distributed import agreement, hosts

FILE = 'starts.jsonl'
ROOT = Path(__file__).parents[2]  # of the checkout
PACKAGES = """
  jax jaxlib libtpu flax optax orbax-checkpoint numpy ml-collections
  tokenizers sentencepiece safetensors gguf jinja2 huggingface_hub sympy
  math-verify reasoning-gym py3langid rjieba
""".split()


def record(workdir: Path, step: int) -> None:
  """Adds a line about this start, from a step or a chunk on: time, machine,
  commit, a digest of r1jax's source, and the versions of libraries. To be
  called by all hosts."""
  facts: dict[str, Any] = dict(
    step=step,
    time=time.strftime('%Y-%m-%d %H:%M:%S'),
    host=platform.node(),
  )
  facts |= commit() | dict(source=agreement.source_digest())
  facts |= dict(
    python=platform.python_version(),
    devices=f'{jax.device_count()} {jax.devices()[0].device_kind}',
    processes=hosts.count(),
    packages=versions(),
  )
  hosts.run_once(lambda: _append(workdir / FILE, facts))


def commit() -> dict:
  """The commit of the checkout that runs, and whether files of the package
  differ from it; empty if there is no checkout."""
  name = re.fullmatch(r'r1jax-([0-9a-f]{40})', ROOT.name)
  if name:  # a copy of a commit, made by launch_tpu.sh
    return dict(commit=name[1])
  if not (ROOT / '.git').exists():
    return {}
  found, changed = _git('rev-parse', 'HEAD'), _git('status', '--short', 'r1jax')
  return dict(commit=found, has_changes=bool(changed)) if found else {}


def versions() -> dict[str, str]:
  """The versions of r1jax, as its source has it, and of the installed packages
  of PACKAGES."""
  found = dict(r1jax=r1jax.__version__)
  for name in PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      found[name] = importlib.metadata.version(name)
  return found


def _git(*arguments):
  """The output of git in the checkout; '' if it fails."""
  command = 'git', '-C', str(ROOT), '--no-optional-locks', *arguments
  try:
    result = subprocess.run(command, capture_output=True, text=True, timeout=20)
  except (OSError, subprocess.TimeoutExpired):
    return ''
  return result.stdout.strip() if not result.returncode else ''


def _append(path, facts):
  with open(path, 'a', encoding='utf-8') as file:
    file.write(json.dumps(facts) + '\n')
