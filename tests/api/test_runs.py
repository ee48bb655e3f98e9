"""Runs from Python: what run() returns, interruption, changes, and the handle
of a work directory."""

import os
import signal
import sys
import threading

import numpy as np
import pytest
import toy

import r1jax
from r1jax import files
from r1jax.evaluation import tables
from r1jax.stages import rl


def short(records, texts):
  return [-len(text) / 100 for text in texts]


RECORDS = [
  dict(prompt=f'{n:03}', answer=str(sum(map(int, f'{n:03}')) % 10))
  for n in range(0, 1000, 7)
]


def settings(base, *changes):
  return toy.settings('rl', f'init={base}/model', *changes)


@pytest.fixture(scope='module')
def run(base, tmp_path_factory):
  """A run of four steps with a reward and records given in Python."""
  return r1jax.run(
    settings(base),
    tmp_path_factory.mktemp('runs') / 'mine',
    rewards={'accuracy': 1.0, short: 0.2},
    records=iter(RECORDS),
  )


@pytest.fixture(scope='module')
def samples(run):
  return run.samples(1)


def without_times(lines):
  names = 'seconds', 'tokens_per_s', 'time/'
  return [
    {key: x for key, x in line.items() if not key.startswith(names)}
    for line in lines
  ]


def test_the_handle_has_the_stage_the_config_and_the_metrics(run):
  assert run.stage == 'rl' and str(run.workdir) in repr(run)
  accuracy, own = run.config.rewards.items()
  assert accuracy == ('accuracy', 1.0) and own[1] == 0.2
  assert 'short' in own[0]
  assert run.config.grpo.group_size == 4
  lines = files.read_jsonl(run.workdir / 'metrics.jsonl')
  assert lines[1]['reward/short'] < 0
  metrics = run.metrics
  if not isinstance(metrics, list):
    metrics = metrics.to_dict('records')
  assert [line['step'] for line in metrics] == [0, 1, 2, 3, 4]


def test_tables_are_data_frames_if_pandas_is_installed(monkeypatch):
  rows = [dict(step=1, loss=0.5), dict(step=2)]
  monkeypatch.setitem(sys.modules, 'pandas', None)
  assert tables.data_frame(rows) is rows
  monkeypatch.undo()
  pandas = pytest.importorskip('pandas')
  table = tables.data_frame(rows)
  assert isinstance(table, pandas.DataFrame)
  assert list(table.step) == [1, 2]


def test_a_notebook_shows_the_last_numbers_and_shaded_tokens(run, samples):
  page = run._repr_html_()
  assert str(run.workdir) in page and '<td>4</td>' in page
  assert 'eval/pass1' in page
  page = samples._repr_html_()
  assert page.count('<pre>') == 16 and 'advantage' in page
  assert '&lt;think&gt;</span>' in page
  assert samples.html('ratio', rows=[3]).count('<pre>') == 1
  assert not isinstance(samples.table, list) or len(samples.table) == 16


def test_best_is_the_step_with_the_highest_held_out_score(run):
  lines = files.read_jsonl(run.workdir / 'metrics.jsonl')
  scores = {x['step']: x['eval/pass1'] for x in lines if 'eval/pass1' in x}
  best = max((2, 4), key=lambda step: (scores[step], step))
  ids = [[50, 51, 52]]
  ours = r1jax.load(f'{run.workdir}@best').logits(ids)
  np.testing.assert_array_equal(ours, run.load(best).logits(ids))
  other = run.load(6 - best).logits(ids)
  assert (ours != other).any()


def test_a_finished_run_is_returned_at_once(run, base, capsys, monkeypatch):
  monkeypatch.setattr(rl, 'train', None)
  before = toy.files(run.workdir)
  again = r1jax.run(
    settings(base),
    run.workdir,
    rewards={'accuracy': 1.0, short: 0.2},
    records=RECORDS,
  )
  assert 'is finished: the result is' in capsys.readouterr().out
  assert toy.files(again.workdir) == before


def test_other_records_or_rewards_in_the_same_directory_are_refused(run, base):
  for keys in (
    dict(rewards={'accuracy': 1.0}, records=RECORDS),
    dict(rewards={'accuracy': 1.0, short: 0.2}, records=RECORDS[1:]),
  ):
    with pytest.raises(r1jax.UserError):
      r1jax.run(settings(base), run.workdir, **keys)


def test_responses_have_the_template_of_the_run(run):
  model = run.load()
  prompt = [dict(prompt='123', answer='6')]
  (ours,) = run.generate(prompt, group=2, max_new_tokens=6, seed=3)
  (theirs,) = model.generate(['123'], group=2, max_new_tokens=6, seed=3)
  assert [x.ids for x in ours] == [x.ids for x in theirs]
  assert run.load() is model
  (first,) = run.generate(['123'], temperature=0.0, step=2)
  assert len(first[0].ids) <= 10  # sample.max_new_tokens of the run


@pytest.mark.parametrize('signals', [1, 2])
def test_an_interrupted_cell_goes_on_where_it_was(
  base, tmp_path, monkeypatch, signals
):
  """Also if the user interrupts twice. The result is that of a run that was
  not interrupted."""
  monkeypatch.setattr(sys, 'ps1', '>>> ', raising=False)  # as in a notebook
  update, handlers = rl.update, _handlers()

  def interrupting(run, state, batch, step, rollout):
    if step == 3:
      monkeypatch.setattr(rl, 'update', update)
      for _ in range(signals):
        try:
          os.kill(os.getpid(), signal.SIGINT)
          threading.Event().wait(60)
        except KeyboardInterrupt:
          interrupts.append(step)
      raise KeyboardInterrupt
    return update(run, state, batch, step, rollout)

  interrupts = []
  monkeypatch.setattr(rl, 'update', interrupting)
  with pytest.raises(KeyboardInterrupt):
    r1jax.run(settings(base), tmp_path / 'a')
  assert len(interrupts) == signals
  assert _handlers() == handlers
  assert not any(x.name == 'watchdog' for x in threading.enumerate())
  assert not (tmp_path / 'a/model').exists()
  with pytest.raises(
    r1jax.UserError, match='not finished: .* the steps 2; the'
  ):
    r1jax.load(tmp_path / 'a')
  assert r1jax.load(f'{tmp_path}/a@last').vocab_size == 261
  resumed = r1jax.run(settings(base), tmp_path / 'a')
  whole = r1jax.run(settings(base), tmp_path / 'b')
  for name in ('metrics.jsonl', 'samples.jsonl'):
    ours, theirs = (
      without_times(files.read_jsonl(x.workdir / name))
      for x in (resumed, whole)
    )
    assert ours == theirs


def _handlers():
  return [signal.getsignal(x) for x in (signal.SIGINT, signal.SIGTERM)]


def test_change_goes_on_with_other_values(tmp_path):
  config = toy.settings('sft', 'steps=2', 'save_every=1')
  r1jax.run(config, tmp_path)
  change = {'steps': 3, 'optim': {'lr': 1e-4}}
  run = r1jax.run(config, tmp_path, change=change)
  assert run.config.steps == 3 and run.config.optim.lr == 1e-4
  lines = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [1, 2, 3]


def test_a_config_may_be_that_of_another_run(base):
  other = r1jax.open_run(base)
  copy = r1jax.run(other.config, base)
  assert copy.workdir == other.workdir and copy.config == other.config


@pytest.mark.parametrize('records', ['function', 'text'])
def test_records_may_be_a_function_or_a_name_in_a_file(records, tmp_path):
  file = tmp_path / 'own.py'
  file.write_text(
    "lst = [dict(prompt='12', response='<answer>3</answer>')] * 40"
  )

  def problems(seed):
    for n in range(10, 50):
      yield dict(prompt=str(n), response=f'<answer>{seed}</answer>')

  given = dict(function=problems, text=f'{file}:lst')[records]
  config = toy.settings('sft', 'steps=1')
  run = r1jax.run(config, tmp_path / 'run', records=given)
  name = run.config.data
  assert name == given or name.startswith('python:problems@')
  assert len(files.read_jsonl(run.workdir / 'metrics.jsonl')) == 1


@pytest.mark.parametrize(
  'name, rows, sentence',
  [
    ('advantage', None, "no array 'advantage' to show: give one of adv, ratio"),
    ([0, 5], None, r'no array \[0, 5\]'),
    ('adv', [99], 'no sample 99: rows can be 0 to 15'),
    ('adv', ['1'], "no sample '1'"),
    ('adv', 3, 'rows is 3: give the numbers'),
  ],
)
def test_what_samples_do_not_have_is_not_shown(samples, name, rows, sentence):
  with pytest.raises(r1jax.UserError, match=sentence):
    samples.html(name, rows)


@pytest.mark.parametrize('step', ['3', None, 1.5])
def test_a_step_that_is_no_number_is_refused(run, step):
  with pytest.raises(r1jax.UserError, match=f'{step!r}: give the .* 1 to 4'):
    run.samples(step)


def test_records_for_several_sets_and_other_folders_are_refused(tmp_path):
  with pytest.raises(r1jax.UserError, match='several sets of records'):
    r1jax.run(r1jax.configure('evaluate'), tmp_path, records=RECORDS)
  with pytest.raises(r1jax.UserError, match='unknown key config.rewards'):
    r1jax.run(r1jax.configure('sft'), tmp_path, rewards={'accuracy': 1.0})
  with pytest.raises(
    r1jax.UserError, match='is not the work directory of a run'
  ):
    r1jax.open_run(tmp_path)
