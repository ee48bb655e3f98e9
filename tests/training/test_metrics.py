"""metrics.jsonl after a kill and a resume is that of an unbroken run."""

import errno
import json
import time

import jax
import numpy as np
import pytest
import toy_metrics

from r1jax import errors, files
from r1jax.distributed import hosts
from r1jax.training import metrics


def step(number):
  return dict(step=number, reward=number / 3, seconds=time.perf_counter())


def sample(number):
  return dict(step=number, id='q1', response='<think>é', reward=1.0)


def run(workdir, restored, steps):
  writer = metrics.Writer(workdir)
  writer.rewind(restored)
  for number in range(restored + 1, steps):
    writer.write(step(number))
    writer.samples([sample(number)] * 2)
    writer.groups([dict(step=number, samples=[sample(number)])])
  writer.close()


def lines(workdir, name='metrics.jsonl'):
  return [
    toy_metrics.without_timings(line)
    for line in files.read_jsonl(workdir / name)
  ]


@pytest.mark.parametrize('restored', [-1, 0, 3])
def test_a_resumed_run_repeats_the_unbroken_one(tmp_path, restored):
  run(tmp_path / 'unbroken', -1, 7)
  run(tmp_path / 'killed', -1, 5)
  written = metrics.FILES[:3]
  for name in written:
    with open(tmp_path / 'killed' / name, 'ab') as file:
      file.write(b'{"step": 5, "response": "\xc3')
  run(tmp_path / 'killed', restored, 7)
  for name in written:
    unbroken = lines(tmp_path / 'unbroken', name)
    assert len(unbroken) in (7, 14)
    assert lines(tmp_path / 'killed', name) == unbroken


def test_rewinding_leaves_no_other_file(tmp_path):
  run(tmp_path, -1, 3)
  run(tmp_path, 1, 3)
  names = sorted(path.name for path in tmp_path.iterdir())
  assert names == ['groups.jsonl', 'metrics.jsonl', 'samples.jsonl']


def test_recomputed_tokens_after_the_restored_step_are_removed(tmp_path):
  run(tmp_path, -1, 3)
  for number in (1, 2):
    with open(tmp_path / 'tokens.jsonl', 'a') as file:
      file.write(json.dumps(dict(step=number)) + '\n')
  metrics.Writer(tmp_path).rewind(1)
  assert files.read_jsonl(tmp_path / 'tokens.jsonl') == [dict(step=1)]


def test_numbers_of_every_kind_become_json(tmp_path):
  writer = metrics.Writer(tmp_path)
  kinds = dict(a=np.float32(0.5), b=np.int64(3), c=np.array(2.0), d=7)
  writer.write(dict(step=np.int32(1), nan=float('nan'), inf=np.inf, **kinds))
  written = json.loads((tmp_path / 'metrics.jsonl').read_text())
  assert written == dict(step=1, nan=None, inf=None, a=0.5, b=3, c=2.0, d=7)


def test_a_line_is_on_disk_when_write_returns(tmp_path):
  writer = metrics.Writer(tmp_path)
  writer.write(step(1))
  assert len(files.read_jsonl(tmp_path / 'metrics.jsonl')) == 1


def test_other_hosts_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr(hosts, 'index', lambda: 1)
  writer = metrics.Writer(tmp_path)
  writer.rewind(-1)
  writer.write(step(0))
  writer.samples([sample(0)])
  writer.close()
  assert not list(tmp_path.iterdir())


def test_an_error_of_a_full_disk_names_the_file(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(metrics, '_dump', full)
  with pytest.raises(OSError) as caught:
    metrics.Writer(tmp_path).write(step(1))
  code, sentence = errors.exit_status(caught.value)
  assert code == 2 and str(tmp_path / 'metrics.jsonl') in sentence


def test_a_broken_line_is_reported_with_its_number(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 0}\n{"step": \n{"step": 2}\n')
  with pytest.raises(errors.UserError, match='metrics.jsonl, line 2'):
    files.read_jsonl(path)


def test_without_timings_drops_names_and_patterns():
  line = dict(step=1, seconds=2, tokens_per_s=3, wall=4, **{'time/sample': 5})
  assert toy_metrics.without_timings(line | {'seconds_like': 6}) == {
    'step': 1,
    'seconds_like': 6,
  }


def test_counts_stay_whole_numbers(tmp_path):
  writer = metrics.Writer(tmp_path)
  writer.write(dict(step=1, skipped=np.array(2, np.int32), x=np.float32(0.5)))
  assert '"skipped": 2, "x": 0.5' in (tmp_path / 'metrics.jsonl').read_text()


def test_programs_are_counted():
  before = len(metrics.compilations)
  jax.jit(lambda x: x * 3 - 7)(np.ones(5)).block_until_ready()
  assert len(metrics.compilations) > before
