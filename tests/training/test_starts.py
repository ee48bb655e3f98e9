"""Every start of a run notes the software that it runs with."""

import importlib.metadata

import jax

import r1jax
from r1jax import files
from r1jax.training import starts


def test_each_start_is_a_line_with_the_versions(tmp_path, monkeypatch):
  for step, commit in ((0, 'abc'), (7, 'def')):
    monkeypatch.setattr(starts, 'commit', lambda c=commit: dict(commit=c))
    starts.record(tmp_path, step)
  first, second = files.read_jsonl(tmp_path / starts.FILE)
  assert (first['step'], first['commit']) == (0, 'abc')
  assert (second['step'], second['commit']) == (7, 'def')
  assert first['packages']['r1jax'] == r1jax.__version__
  assert first['packages']['jax'] == jax.__version__
  assert first['packages']['numpy'] == importlib.metadata.version('numpy')
  assert len(first['source']) == 12 and first['processes'] == 1
  assert {'time', 'host', 'python', 'devices'} <= first.keys()


def test_the_commit_is_that_of_the_checkout_or_of_the_copy(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(starts, 'ROOT', tmp_path)
  assert starts.commit() == {}
  monkeypatch.setattr(starts, 'ROOT', tmp_path / f'r1jax-{"0a" * 20}')
  assert starts.commit() == dict(commit='0a' * 20)
  monkeypatch.setattr(starts, 'ROOT', tmp_path)
  (tmp_path / '.git').mkdir()
  monkeypatch.setattr(
    starts, '_git', lambda *x: 'M x' if 'status' in x else 'c'
  )
  assert starts.commit() == dict(commit='c', has_changes=True)
  monkeypatch.setattr(starts, '_git', lambda *x: '')  # git is missing
  assert starts.commit() == {}
