"""Sweeps whose runs are a small program, and one of real runs."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import toy

from r1jax import cli, errors, files
from r1jax.ablation import command, processes, sweep
from r1jax.distributed import signals

# Writes what a run of a stage writes; its reward is 10 * lr + seed. A run with
# lr = 9 fails. With the file `wait` beside the settings it waits after its first
# step, until SIGTERM, on which it ends as a stage does.
RUN = """
import json, pathlib, runpy, signal, sys, time

folder = pathlib.Path(sys.argv[1])
config = runpy.run_path(folder / 'config.py')['get_config']().to_dict()
lr, seed = config['optim']['lr'], config['seed']
print('lr', lr, flush=True)
if lr == 9.0:
  sys.exit('the optimiser is broken')
(folder / 'config.json').write_text(json.dumps(dict(config=config)))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
with open(folder / 'metrics.jsonl', 'a') as file:
  print(json.dumps(dict(step=1, reward=0.0)), file=file)
(folder / 'started').touch()
while (folder.parents[1] / 'wait').exists():
  time.sleep(0.01)
(folder / 'metrics.jsonl').write_text(''.join(
  json.dumps(dict(step=n, reward=10 * lr + seed)) + '\\n' for n in (1, 2)
))
(folder / 'model').mkdir()
"""


@pytest.fixture
def small_runs(monkeypatch):
  """Runs the program RUN in place of stages; the list of started folders."""
  started = []

  def small(folder, stage):
    started.append(f'{folder.parent.name}/{folder.name}')
    return [sys.executable, '-c', RUN, str(folder)]

  monkeypatch.setattr(processes, 'command', small)
  return started


def run(workdir, lrs, *changes, **options):
  return sweep.sweep(
    toy.settings('rl', *changes), workdir, {'optim.lr': lrs}, **options
  )


def test_a_sweep_runs_every_setting_with_every_seed(small_runs, tmp_path):
  found = run(tmp_path, [0.1, 0.3], seeds=3)
  assert [row['mean'] for row in found.settings] == [2.0, 4.0]
  assert [row['difference'] for row in found.settings] == [None, 2.0]
  assert small_runs == [
    'optim.lr=0.1/seed-0',
    'optim.lr=0.3/seed-0',
    'optim.lr=0.1/seed-1',
    'optim.lr=0.3/seed-1',
    'optim.lr=0.1/seed-2',
    'optim.lr=0.3/seed-2',
  ]
  assert (tmp_path / 'sweep.html').exists() and not found.left_out
  assert (tmp_path / small_runs[0] / 'log.txt').read_text() == 'lr 0.1\n'


def test_finished_runs_are_not_repeated_when_values_and_seeds_are_added(
  small_runs, tmp_path
):
  run(tmp_path, [0.1], seeds=1)
  small_runs.clear()
  found = run(tmp_path, [0.3, 0.1], seeds=2)
  assert small_runs == [
    'optim.lr=0.3/seed-0',
    'optim.lr=0.3/seed-1',
    'optim.lr=0.1/seed-1',
  ]
  assert [row['optim.lr'] for row in found.settings] == [0.3, 0.1]


def test_lines_say_how_far_the_sweep_is(small_runs, tmp_path, capsys):
  run(tmp_path, [0.1, 0.3], seeds=1)
  first, second, page = capsys.readouterr().out.splitlines()
  assert first == 'run 0/2  now optim.lr=0.1/seed-0'
  left = r'run 1/2  \d+:\d\d:\d\d left  now optim.lr=0.3/seed-0'
  assert re.fullmatch(left, second)
  assert page == f'{tmp_path}/sweep.html'


def test_a_failing_run_does_not_end_the_others(small_runs, tmp_path, capsys):
  found = run(tmp_path, [9.0, 0.1], seeds=2)
  assert [row['optim.lr'] for row in found.settings] == [0.1]
  failed = [tmp_path / 'optim.lr=9.0' / f'seed-{n}' for n in (0, 1)]
  assert list(found.left_out) == failed
  text = capsys.readouterr().err
  assert 'optim.lr=9.0/seed-0 (exit code 1)' in text
  assert 'optim.lr=9.0/seed-1 (exit code 1)' in text
  assert text.count('lr 9.0\nthe optimiser is broken\n') == 1


def test_jobs_run_at_the_same_time(small_runs, tmp_path):
  (tmp_path / 'wait').touch()

  def release():
    while len(list(tmp_path.glob('*/*/started'))) < 3:
      time.sleep(0.01)
    (tmp_path / 'wait').unlink()

  thread = threading.Thread(target=release, daemon=True)
  thread.start()  # With fewer processes the sweep would not end.
  found = run(tmp_path, [0.1, 0.2, 0.3], seeds=1, jobs=3)
  thread.join()
  assert len(found.runs) == 3


@pytest.mark.parametrize(
  'number, error',
  [(signal.SIGTERM, errors.Terminated), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_signal_ends_the_runs_and_the_same_call_continues(
  small_runs, tmp_path, number, error, capsys
):
  (tmp_path / 'wait').touch()
  main_thread = threading.main_thread().ident

  def interrupt():
    while len(list(tmp_path.glob('*/*/started'))) < 2:
      time.sleep(0.01)
    signal.pthread_kill(main_thread, number)

  thread = threading.Thread(target=interrupt, daemon=True)
  thread.start()
  with pytest.raises(error):
    run(tmp_path, [0.1, 0.3], seeds=2, jobs=2)
  thread.join()
  assert 'waits for the checkpoints of optim.lr=0.1' in capsys.readouterr().err
  assert len(small_runs) == 2
  (tmp_path / 'wait').unlink()
  found = run(tmp_path, [0.1, 0.3], seeds=2)  # so the lock is free
  assert len(found.runs) == 4 and not found.left_out


class Saving:
  """A run that writes its checkpoint while the same signals come again."""

  def __init__(self):
    self.calls = []

  def terminate(self):
    self.calls.append('terminate')

  def wait(self):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
      signal.raise_signal(number)
    self.calls.append('saved')

  def kill(self):
    self.calls.append('kill')


def test_several_signals_are_one_request_to_end():
  process = Saving()
  with pytest.raises(errors.Terminated), signals.raised():
    try:
      signal.raise_signal(signal.SIGTERM)
    finally:
      processes.end({'a': process})
  assert process.calls == ['terminate', 'saved']


def test_runs_of_a_killed_sweep_keep_the_lock(small_runs, tmp_path):
  (tmp_path / 'wait').touch()
  folder = tmp_path / 'optim.lr=0.1' / 'seed-0'
  with sweep.locked(tmp_path) as lock:
    folder.mkdir(parents=True)
    (folder / 'config.py').write_text(
      sweep.CONFIG_FILE.format(dict(optim=dict(lr=0.1), seed=0))
    )
    process = processes.start(folder, 'rl', 1, lock)
  with pytest.raises(errors.UserError, match='still running'):
    run(tmp_path, [0.1], seeds=1)
  process.kill()
  process.wait()
  (tmp_path / 'wait').unlink()
  assert run(tmp_path, [0.1], seeds=1).runs


@pytest.mark.parametrize(
  'changes, grid, sentence',
  [
    (['steps=12'], {'optim.lr': [0.1]}, 'steps: 4 -> 12'),
    (['seed=1'], {'optim.lr': [0.1]}, 'seed: 0 -> 1'),
    ([], {'steps': [4]}, 'belongs to a sweep of rl over optim.lr'),
    ([], {}, 'belongs to a sweep of rl over optim.lr'),
  ],
)
def test_a_directory_belongs_to_one_config_and_keys(
  small_runs, tmp_path, changes, grid, sentence
):
  run(tmp_path, [0.1], seeds=1)
  with pytest.raises(errors.UserError) as error:
    sweep.sweep(toy.settings('rl', *changes), tmp_path, grid, seeds=1)
  assert sentence in str(error.value)


def test_what_influences_no_result_may_differ(small_runs, tmp_path):
  run(tmp_path, [0.1], seeds=1)
  run(tmp_path, [0.2], 'optim.lr=7', 'log_samples=1', seeds=1)
  assert len(small_runs) == 2


@pytest.mark.parametrize(
  'options, sentence',
  [
    (dict(stage='evaluate'), 'must be one of rl, sft, reward_model'),
    (dict(seeds=0), 'the number of seeds is 0'),
    (dict(jobs=0), 'the number of jobs is 0'),
    (dict(seeds='3'), "the number of seeds is '3'"),
    (dict(jobs='2'), "the number of jobs is '2'"),
    (dict(grid=['optim.lr']), "the grid is list ['optim.lr']: give a dict"),
    (dict(grid={3: [1]}), 'the grid is dict {3: [1]}: give a dict'),
    (dict(config=dict(steps=3)), "the config is dict {'steps': 3}: give"),
    (dict(workdir=None), 'the directory of the sweep is None'),
    (dict(workdir=''), "the directory of the sweep is ''"),
  ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(
  small_runs, tmp_path, options, sentence
):
  arguments = dict(config=toy.settings('rl'), workdir=tmp_path / 'sweep')
  arguments |= dict(grid={'optim.lr': [0.1]}) | options
  with pytest.raises(errors.UserError) as error:
    sweep.sweep(**arguments)
  assert sentence in str(error.value)
  assert not (tmp_path / 'sweep').exists()


def test_several_processes_share_the_memory_of_a_gpu(tmp_path, monkeypatch):
  variable = 'XLA_PYTHON_CLIENT_MEM_FRACTION'
  monkeypatch.delenv(variable, raising=False)
  code = f'import os; print(os.environ.get({variable!r}))'
  monkeypatch.setattr(
    processes, 'command', lambda *_: [sys.executable, '-c', code]
  )
  for jobs in (1, 3):
    processes.start(tmp_path, 'rl', jobs, 2).wait()
  assert processes.last_lines(tmp_path / 'log.txt', 5) == ['None', '0.300']


def test_the_command_prints_the_table(small_runs, tmp_path, capsys):
  arguments = ['sweep', '--config', str(toy.HERE / 'toy_rl.py')]
  arguments += ['--workdir', str(tmp_path), '--seeds', '2']
  arguments += ['--config.steps=8', '--grid', 'config.optim.lr=[0.1,0.3]']
  assert cli.main(arguments) == 0
  out = capsys.readouterr().out
  assert out.splitlines()[-3].split()[:4] == ['0.1', '2', '1.5', '0.7071']
  assert (
    json.loads((tmp_path / 'sweep.json').read_text())['config']['steps'] == 8
  )
  arguments += ['--grid', 'steps=[8]']
  assert cli.main(arguments) == 2
  assert 'belongs to a sweep' in capsys.readouterr().err


def test_the_command_has_help(capsys):
  assert cli.main(['--help']) == 0
  assert '\n  sweep ' in capsys.readouterr().out
  with pytest.raises(SystemExit) as end:
    cli.main(['sweep', '--help'])
  assert end.value.code == 0
  text = capsys.readouterr().out
  assert '--grid' in text and '--jobs' in text
  assert max(map(len, text.splitlines())) <= 80


def test_the_command_exits_1_if_a_run_failed(small_runs, tmp_path):
  arguments = ['--config', str(toy.HERE / 'toy_rl.py'), '--seeds', '1']
  arguments += ['--workdir', str(tmp_path), '--grid', 'optim.lr=[9.0,0.1]']
  assert command.run(arguments) == 1


def test_the_runs_are_those_of_the_stage_with_the_code_of_the_user(
  base, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'mine.py').write_text(
    'def short(records, texts):\n  return [1 / (1 + len(text)) for text in texts]\n'
  )
  rewards = {'accuracy': 1.0, 'mine.py:short': 0.5}
  found = sweep.sweep(
    toy.settings('rl', f'init={base}/model', 'steps=2'),
    'sweep',
    {'rewards': [rewards]},
    seeds=1,
  )
  assert found.settings[0]['rewards'] == rewards
  assert found.value == 'eval/pass1 at step 2'
  (folder,) = [row['workdir'] for row in found.runs]
  lines = files.read_jsonl(folder / 'metrics.jsonl')
  assert lines[-1]['reward/short'] > 0


@pytest.mark.slow
def test_a_sweep_that_is_killed_and_continued_equals_one_that_is_not(
  base, tmp_path
):
  """Real runs, killed after the first checkpoint of the second."""
  arguments = [sys.executable, '-m', 'r1jax', 'sweep']
  arguments += ['--config', str(toy.HERE / 'toy_rl.py'), '--seeds', '2']
  arguments += [f'--config.init={base}/model', '--config.steps=8']
  arguments += ['--grid', 'optim.lr=[1e-3,1e-2]']
  environment = os.environ | dict(XLA_FLAGS=toy.ONE_DEVICE)

  def start(folder):
    return subprocess.Popen(
      [*arguments, '--workdir', folder], cwd=toy.HERE.parent, env=environment
    )

  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  assert start(whole).wait() == 0
  process = start(killed)
  second = killed / 'optim.lr=0.01' / 'seed-0'
  while not (second / 'checkpoints' / '2').exists():
    time.sleep(0.01)
  process.terminate()
  assert process.wait() == errors.TERMINATED
  assert start(killed).wait() == 0
  names = [path.relative_to(whole) for path in whole.glob('*/*/metrics.jsonl')]
  assert len(names) == 4
  for name in names:
    ours, theirs = (
      files.read_jsonl(killed / name),
      files.read_jsonl(whole / name),
    )
    assert [line.get('reward') for line in ours] == [
      line.get('reward') for line in theirs
    ]


def test_functions_given_in_python_are_swept_in_this_process(
  base, tmp_path, capsys
):
  def short(records, texts):
    return [1 / (1 + len(text)) for text in texts]

  def broken(records, texts):
    return ['long' for text in texts]

  config = toy.settings('rl', f'init={base}/model', 'steps=2', 'eval.every=0')
  grid = {'rewards': [{short: 1.0}, {broken: 1.0}, {'format': 1.0}]}
  found = sweep.sweep(config, tmp_path, grid, seeds=1)
  assert len(found.settings) == 2 and len(found.left_out) == 1
  assert "returned str 'long' for record" in capsys.readouterr().err
  assert sweep.sweep(config, tmp_path, grid, seeds=1).settings == found.settings
