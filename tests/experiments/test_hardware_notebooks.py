"""The notebooks for Colab and Kaggle run from top to bottom, with a tiny model
and a CPU in place of theirs."""

import json
import pathlib
import shlex

import pytest

from r1jax import cli, files

FOLDER = pathlib.Path(__file__).parents[2] / 'experiments/notebooks'
TINY = """\
from experiments.hardware import {name}


def get_config():
  config = {name}.get_config()
  config.prompt.template = 'plain'
  config.prompt.max_len = 16
  config.sample.max_new_tokens = 8
  config.sample.decode_slots = 4
  config.sample.refill_interval = 4
  config.sample.kv_windows = 1
  config.micro_batch_size = 32
  config.length_buckets = 1
  config.grpo.prompts_per_step = 8
  config.grpo.group_size = 4
  config.eval.held_out = 8
  config.eval.samples = 4  # as many rows as a rollout, which share programs
  config.compute.remat = 'none'
  return config
"""


def cells(name):
  """(source, tags) of the cells with code."""
  notebook = json.loads((FOLDER / f'{name}.ipynb').read_text())
  for cell in notebook['cells']:
    if cell['cell_type'] == 'code':
      yield ''.join(cell['source']), cell['metadata'].get('tags', [])


def execute(source, names):
  """Runs a cell: commands of r1jax in this process, the rest as Python."""
  code = []
  for line in source.splitlines():
    if line.startswith('!r1jax'):
      exec('\n'.join(code), names)
      code, text = [], line.removeprefix('!').format(**names)
      assert cli.main(shlex.split(text)[1:]) == 0, text
    elif line == 'from IPython.display import HTML':
      names['HTML'] = str  # IPython is not in the environment of the tests
    elif not line.startswith('%'):
      code.append(line)
  exec('\n'.join(code), names)


@pytest.mark.parametrize(
  'name, config', [('colab_gpu', 'colab_t4'), ('kaggle_tpu', 'kaggle_v5e')]
)
def test_a_notebook_for_free_hardware_runs_with_a_tiny_model(
  name, config, base, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  pathlib.Path('configs').mkdir()
  pathlib.Path('configs/tiny.py').write_text(TINY.format(name=config))
  rows = [{'question': f'{n}+1', 'answer': str(n + 1)} for n in range(30)]
  files.write_jsonl(pathlib.Path('sums.jsonl'), rows)
  names = {}
  for source, tags in cells(name):
    if tags == ['parameters']:
      exec(source, names)
      assert names['CONFIG'] == f'experiments/hardware/{config}.py'
      names |= dict(CONFIG='configs/tiny.py', MODEL=f'{base}/model', STEPS=1)
      names |= dict(RECORDS='sums.jsonl', LENGTH=8)
    elif tags != ['install']:
      execute(source, names)
  output = capsys.readouterr().out
  assert 'It fits' in output and 'step 1/1' in output
  assert names['text'].startswith('<!')


def test_the_notebooks_install_the_versions_of_the_lock_file():
  for name in 'colab_gpu', 'kaggle_tpu':
    (install,) = [source for source, tags in cells(name) if 'install' in tags]
    assert '-c code/requirements.lock' in install
