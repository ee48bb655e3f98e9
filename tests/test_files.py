"""What is said of files that do not exist, and of full disks."""

import concurrent.futures
import os
import pathlib
import time

import jax
import numpy as np
import pytest

from r1jax import errors, experiment_files, files
from r1jax.checkpoints import hf_files, safetensors_file
from r1jax.data import record_files

ROOT = pathlib.Path(__file__).parents[1]


def test_a_missing_model_names_the_command_that_makes_it(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)  # where no demo has run
  path = 'models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'
  with pytest.raises(errors.UserError, match=f'exist: `make {path}` makes it'):
    hf_files.download(path)
  with pytest.raises(
    errors.UserError, match='demo_base.py --workdir runs/demo'
  ):
    hf_files.download('runs/demo/base/model')


def test_missing_records_name_the_target_that_makes_them():
  path = 'runs/mini_r1/data/corpus.jsonl'
  with pytest.raises(
    errors.UserError, match=f'{path}: `make mini-r1` makes it'
  ):
    record_files.read(path)


def test_the_model_of_an_unfinished_run_is_named_so(tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  with pytest.raises(errors.UserError, match='is not finished, and writes its'):
    hf_files.download(str(tmp_path / 'model'))


def test_a_missing_file_names_the_one_that_is_likely_meant(tmp_path):
  (tmp_path / 'train.jsonl').write_text('')
  with pytest.raises(errors.UserError, match=r'did you mean .*/train.jsonl\?'):
    record_files.read(tmp_path / 'train.json')
  assert experiment_files.near(pathlib.Path('demo_zero.py'), '*.py') == (
    ': did you mean experiments/demo_zero.py?'
  )


def test_other_missing_files_have_no_hint():
  assert experiment_files.how_to_get('/somewhere/models/smollm2/x') == ''


@pytest.mark.parametrize('command', experiment_files.MADE_BY.values())
def test_the_commands_exist(command):
  words = command.split()
  if words[0] == 'make':
    makefile = (ROOT / 'Makefile').read_text()
    target = words[1].replace('models/smollm2/SmolLM2', '$(SMOLLM2):')
    assert f'\n{target.partition("-135M")[0]}' in makefile
  else:
    assert (ROOT / words[words.index('--config') + 1]).exists()


def test_a_file_can_be_written_by_several_at_once(tmp_path, monkeypatch):
  path, replace = tmp_path / 'report.html', os.replace

  def slow_replace(*paths):
    time.sleep(0.05)
    replace(*paths)

  monkeypatch.setattr(files.os, 'replace', slow_replace)
  texts = ['a' * 9, 'b' * 5]
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    list(pool.map(files.write_text, [path] * 2, texts))
  assert path.read_text() in texts and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_has_left_is_removed(tmp_path, monkeypatch):
  """Nothing else: neither the user's files nor one that is being written."""
  path, others = tmp_path / 'results.json', []
  with monkeypatch.context() as patch:
    patch.setattr(files.pathlib.Path, 'unlink', lambda *a, **b: None)
    patch.setattr(files.os, 'replace', lambda *paths: None)
    files.write_text(path, '{')  # is not renamed, as if the process were killed
  (left,) = tmp_path.iterdir()
  for name in ('my.tmp', 'x.0123456.tmp', 'x.0123abcg.tmp', '.0123abcd.tmp'):
    others.append(tmp_path / name)
    others[-1].write_text('')
  others.append(tmp_path / 'folder.0123abcd.tmp')
  others[-1].mkdir()
  new = tmp_path / 'report.html.0123abcd.tmp'
  for old in (left, *others):
    os.utime(old, (0, 0))
  new.write_text('')
  files.remove_interrupted(tmp_path)
  assert sorted(tmp_path.iterdir()) == sorted([*others, new])


def test_a_full_disk_is_named_whatever_writes_to_it():
  """Also numpy's tofile, whose error has no number, and a file of weights."""
  full, array = pathlib.Path('/dev/full'), np.zeros((99, 999), np.float32)
  weights = {'w': jax.ShapeDtypeStruct(array.shape, array.dtype)}

  def write_weights():
    writer = safetensors_file.Writer(full, weights)
    writer.write(array)

  def write_by_numpy():
    with files.named(full), open(full, 'wb') as file:
      array.tofile(file)

  for write in (write_weights, write_by_numpy):
    with pytest.raises(OSError) as error:
      write()
    code, sentence = errors.exit_status(error.value)
    assert code == errors.USER_ERROR
    assert sentence.startswith('no space to write /dev/full (disk full?)')
