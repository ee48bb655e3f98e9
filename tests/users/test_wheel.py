"""The wheel, installed in an empty environment and used in another folder."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.users


def run(*command, folder):
  """The output of a command that must succeed."""
  process = subprocess.run(
    command, cwd=folder, capture_output=True, text=True, timeout=3600
  )
  assert process.returncode == 0, process.stdout + process.stderr
  return process.stdout


@pytest.fixture(scope='module')
def python(tmp_path_factory):
  """The interpreter of an environment that has nothing but the wheel and what
  it requires, in the versions of the lock file."""
  folder = tmp_path_factory.mktemp('wheel')
  pip = sys.executable, '-m', 'pip'
  run(*pip, 'wheel', '--no-deps', '-w', folder, ROOT, folder=folder)
  run(sys.executable, '-m', 'venv', folder / 'venv', folder=folder)
  python = folder / 'venv/bin/python'
  (wheel,) = folder.glob('*.whl')
  lock = ROOT / (
    'requirements-3.11.lock'
    if sys.version_info < (3, 12)
    else 'requirements.lock'
  )
  run(python, '-m', 'pip', 'install', '-c', lock, wheel, folder=folder)
  return python


def test_the_experiments_come_with_the_wheel(python, tmp_path):
  stage = python, '-m', 'r1jax'
  base = '--config=experiments/demo_base.py', '--workdir=base'
  run(*stage, 'sft', *base, '--config.epochs=1', folder=tmp_path)
  # Its rewards, records and objective are files beside it.
  own = '--config=experiments/your_own/zero.py', '--workdir=zero'
  changes = '--config.init=base/model', '--config.steps=2'
  output = run(*stage, 'rl', *own, *changes, folder=tmp_path)
  assert 'step 2/2' in output
  assert (tmp_path / 'zero/model/model.safetensors').exists()


def test_help_and_report_work_without_a_checkout(python, tmp_path):
  assert 'sft' in run(python, '-m', 'r1jax', '--help', folder=tmp_path)
  help_text = run(python, '-m', 'r1jax', 'rl', '--help', folder=tmp_path)
  assert 'grpo.group_size' in help_text
