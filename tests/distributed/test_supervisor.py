"""The supervisor of launch_tpu.sh, with processes that end as stages do."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import toy
import toy_hosts
import toy_metrics
import toy_pause
from toy_pod import MANY_SECONDS, SCRIPT, Pod, gone

from r1jax import files

LOCAL = ['run', '--local=2', '--', 'rl', '--config', 'a b.py']


@pytest.fixture
def pod(tmp_path):
  pod = Pod(tmp_path)
  yield pod
  pod.end()


def begin(pod, *arguments, **env):
  python = str(pod.folder / 'python')
  return pod.start(*(arguments or LOCAL), PYTHON=python, **env)


def supervise(pod, *arguments, **env):
  """(exit code, stdout, stderr)."""
  process = begin(pod, *arguments, **env)
  out, err = process.communicate(timeout=MANY_SECONDS)
  return process.returncode, out, err


def play(pod, *processes):
  """Sets how each process ends in its attempts, see PYTHON in toy_pod."""
  for i, plays in enumerate(processes):
    pod.write(f'plays-{i}', *plays)


def living(pod, *hosts):
  """The ids of processes that wait, once all of them do."""
  paths = [pod.folder / f'waits-{i}' for i in hosts]
  pod.until(lambda: all(p.exists() and p.read_text().strip() for p in paths))
  return [int(path.read_text()) for path in paths]


def test_processes_get_their_number_and_the_coordinator(pod):
  code, out, err = supervise(pod)
  assert (code, err) == (0, '')
  assert out == 'process 0 speaks\n'
  assert pod.read('runs/rl/log-1') == 'process 1 speaks\n'
  addresses = set()
  for i in range(2):
    env = pod.read(f'env-{i}')
    assert 'R1JAX_HOSTS=2\n' in env and f'R1JAX_HOST={i}\n' in env
    addresses |= set(re.findall(r'R1JAX_COORDINATOR=(127.0.0.1:\d+)\n', env))
    given = ['-m', 'r1jax', *LOCAL[3:], '--workdir', 'runs/rl']
    assert pod.given(i) == given
  assert len(addresses) == 1


def test_one_process_keeps_its_environment(pod):
  one = ['run', '--local', '1', '--logs', 'l', '--', 'rl', '--workdir=w']
  supervise(pod, *one, R1JAX_HOSTS='auto')
  assert 'R1JAX_HOSTS=auto\n' in pod.read('env-laptop')
  assert 'R1JAX_COORDINATOR' not in pod.read('env-laptop')
  assert pod.given('laptop') == ['-m', 'r1jax', 'rl', '--workdir=w']
  assert pod.read('l/log') == 'process laptop speaks\n'


@pytest.mark.parametrize('code', [70, 75, 134, 137, 139, 1])
def test_all_processes_restart_after_one_fails(pod, code):
  play(pod, ['waits', '0'], [f'{code} with 0', '0'])
  ended, out, _ = supervise(pod)
  assert ended == 0
  first, again = out.splitlines()[:-1], out.splitlines()[-1]
  assert first[0] == again == 'process 0 speaks'
  assert first[-1].startswith(f'launch_tpu.sh: process 1 ended with {code}')
  assert first[-1].endswith(': restart 1 of 100, in 1 s')
  assert pod.read('runs/rl/log-1') == 'process 1 speaks\n' * 2


def test_a_process_that_does_not_end_is_killed(pod):
  play(pod, ['deaf', '0'], ['137 with 0', '0'])
  process = begin(pod)
  (deaf,) = living(pod, 0)
  process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 0 and gone(deaf)


def test_a_user_error_is_not_restarted(pod):
  play(pod, ['waits'], ['2 with 0'])
  code, out, _ = supervise(pod)
  assert code == 2 and 'terminated\n' in out and 'restart' not in out
  assert pod.count('laptop/sleeps') < 9


def test_pauses_double_up_to_a_minute_and_reset_after_progress(pod):
  quick = ['137 after 40 gains'] * 8
  play(pod, [*quick, '137 after 400 gains', '137 after 40 gains', '0'])
  one = ['run', '--local=1', '--run-id=a', '--', 'rl']
  pod.write('plays-laptop', *pod.read('plays-0').split('\n')[:-1])
  code, out, _ = supervise(pod, *one)
  assert code == 0
  pauses = [int(s) for s in re.findall(r'in (\d+) s', out)]
  assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 1, 2]
  assert 'restart 10 of 100' in out


def test_it_gives_up_after_all_retries(pod):
  play(pod, ['waits'] * 3, ['1 after 40', '3 after 40', '4 after 40'])
  code, out, err = supervise(pod, *LOCAL[:2], '--retries=2', *LOCAL[2:])
  assert code == 4 and out.count('restart ') == 2
  assert 'ended with 4: gives up after 2 restarts' in out
  assert err.endswith('process 1 speaks\n' * 3)


@pytest.mark.parametrize('hosts, attempts', [('', 5), ('auto', 10)])
def test_it_gives_up_after_crashes_in_a_row_without_a_new_step(
  pod, hosts, attempts
):
  pod.write('plays-laptop', *['1', '137 after 4000'] * 10)
  one = ['run', '--local=1', '--', 'rl']
  code, out, _ = supervise(pod, *one, R1JAX_HOSTS=hosts)
  assert code in (1, 137)
  assert out.count('process laptop speaks') == attempts
  assert f'for the {attempts}th time in a row: gives up' in out


def test_new_steps_and_temporary_trouble_are_no_crash_loop(pod):
  crashes = ['1'] * 4 + ['1 gains'] + ['1'] * 4 + ['75'] * 6 + ['0']
  pod.write('plays-laptop', *crashes)
  code, out, _ = supervise(pod, 'run', '--local=1', '--', 'rl')
  assert code == 0 and out.count('restart ') == len(crashes) - 1
  assert (pod.folder / 'runs/rl/gained').exists()


def test_temporary_trouble_without_a_new_step_is_given_up_later(pod):
  trouble = ['75'] * 19
  plays = [*trouble, '75 gains', *trouble, '1', *trouble]
  pod.write('plays-laptop', *plays)
  code, out, _ = supervise(pod, 'run', '--local=1', '--', 'rl')
  assert code == 75
  assert out.count('process laptop speaks') == 20 + 19 + 1 + 1
  assert 'for the 20th time in a row: gives up after 40 restarts' in out


def test_steps_that_are_reached_again_are_not_new(pod):
  """As after a crash between two checkpoints."""
  metrics = pod.folder / 'runs/rl/metrics.jsonl'
  metrics.parent.mkdir(parents=True)
  metrics.write_text('{}\n' * 3)
  (pod.folder / 'bin/rewind').write_text(
    f"#!/bin/sh\nsed -i '3,$d' {metrics}\n"
  )
  (pod.folder / 'bin/rewind').chmod(0o755)
  pod.write('plays-laptop', *['1 rewinds gains'] * 9)
  code, out, _ = supervise(pod, 'run', '--local=1', '--', 'rl')
  assert code == 1 and out.count('process laptop speaks') == 5


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_it_waits(pod, number):
  play(pod, ['waits'], ['waits'])
  process = begin(pod)
  living(pod, 0, 1)
  process.send_signal(number)
  out, _ = process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 75 and out.endswith('terminated\n')
  assert pod.read('runs/rl/log-1').endswith('terminated\n')
  assert not (pod.folder / 'runs/rl/pid').exists()


def test_many_signals_are_one_request(pod):
  """As when a machine shuts down and tmux ends."""
  play(pod, ['counts'], ['counts'])
  process = begin(pod, *LOCAL[:2], '--grace=999999', *LOCAL[2:])
  living(pod, 0, 1)
  for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
    process.send_signal(number)
    before = pod.count('laptop/sleeps')
    pod.until(lambda: pod.count('laptop/sleeps') > before + 3)
  assert pod.read('runs/rl/log').count('got a signal') == 1
  pod.write('saved', '')
  process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 75
  assert pod.read('runs/rl/log').endswith('saved\n')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGUSR1])
def test_ctrl_c_and_stop_after_a_request_kill(pod, number):
  play(pod, ['deaf'], ['deaf'])
  process = begin(pod, *LOCAL[:2], '--grace=999999', *LOCAL[2:])
  pids = living(pod, 0, 1)
  for each in (signal.SIGTERM, number):
    before = pod.count('laptop/sleeps')
    pod.until(lambda: pod.count('laptop/sleeps') > before + 3)
    process.send_signal(each)
  process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 75 and all(map(gone, pids))


def test_a_signal_between_two_attempts_ends_it(pod):
  play(pod, ['1', '1', '1', 'waits'], ['waits'] * 4)
  # The pause after the first attempt lasts until the supervisor has ended.
  (pod.folder / 'bin/sleep').write_text(
    '#!/bin/sh\n/bin/sleep 0.01\n'
    'while grep -q "restart 1" "$FAKE/runs/rl/log" && [ ! -e "$FAKE/ended" ]\n'
    'do /bin/sleep 0.02; done\n'
  )
  process = begin(pod)
  pod.until(lambda: 'restart 1' in pod.read('runs/rl/log'))
  process.terminate()
  process.wait(timeout=MANY_SECONDS)
  (pod.folder / 'ended').touch()
  process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 75
  assert pod.read('runs/rl/log').count('speaks') == 1


@pytest.mark.skipif(sys.platform != 'linux', reason='needs prctl')
def test_processes_get_sigterm_when_the_supervisor_is_killed(pod):
  play(pod, ['waits'], ['waits'])
  process = begin(pod)
  pids = living(pod, 0, 1)
  process.kill()
  process.communicate(timeout=MANY_SECONDS)
  pod.until(lambda: all(map(gone, pids)))
  for name in ('log', 'log-1'):
    assert pod.read(f'runs/rl/{name}').endswith('terminated\n')


def test_a_second_supervisor_of_a_run_is_refused(pod):
  play(pod, ['waits'], ['waits'])
  first = begin(pod)
  living(pod, 0, 1)
  (pod.folder / 'bin/flock').write_text('#!/bin/sh\nexec /usr/bin/flock -n 9\n')
  (pod.folder / 'bin/flock').chmod(0o755)
  code, _, err = supervise(pod)
  assert code == 1 and 'rl is still running, see runs/rl' in err
  first.terminate()
  first.communicate(timeout=MANY_SECONDS)
  assert first.returncode == 75


def test_a_dry_run_starts_nothing(pod):
  code, out, _ = supervise(pod, *LOCAL[:2], '--dry-run', *LOCAL[2:])
  lines = out.splitlines()
  assert code == 0 and len(lines) == 2
  assert 'R1JAX_HOST=1 ' in lines[1] and 'a\\ b.py' in lines[1]
  assert not (pod.folder / 'runs').exists()
  env = pod.environment()
  subprocess.run(['bash', '-c', lines[1]], env=env, check=True)
  assert pod.given(1)[2:5] == ['rl', '--config', 'a b.py']


@pytest.mark.slow
def test_a_real_run_with_a_killed_process_equals_an_undisturbed_one(
  base, tmp_path
):
  expected, killed = tmp_path / 'expected', tmp_path / 'killed'
  process = real(base, expected, sys.executable)
  out, _ = process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 0, out
  folder, python = pausing(tmp_path)
  process = real(base, killed, python)
  toy_hosts.wait_for(lambda: len(list(folder.glob('paused-*'))) == 2)
  os.kill(child(process.pid, 'R1JAX_HOST=1'), signal.SIGKILL)
  log = tmp_path / 'killed-logs/log'
  toy_hosts.wait_for(lambda: 'received SIGTERM' in log.read_text())
  (folder / 'continue').touch()
  out, _ = process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 0, out
  assert 'process 1 ended with 137 (killed; out of memory?): restart 1 ' in out
  for ours, theirs in zip(
    files.read_jsonl(killed / 'metrics.jsonl'),
    files.read_jsonl(expected / 'metrics.jsonl'),
    strict=True,
  ):
    ours, theirs = map(toy_metrics.without_timings, (ours, theirs))
    assert ours == theirs
  weights = 'model/model.safetensors'
  assert (killed / weights).read_bytes() == (expected / weights).read_bytes()


@pytest.mark.slow
def test_a_machine_that_shuts_down_leaves_a_checkpoint(base, tmp_path):
  """All processes of the session get SIGTERM, and SIGHUP when tmux ends."""
  folder, python = pausing(tmp_path)
  process = real(base, tmp_path / 'run', python, save_every=9)
  toy_hosts.wait_for(lambda: len(list(folder.glob('paused-*'))) == 2)
  pids = [child(process.pid, f'R1JAX_HOST={host}') for host in range(2)]
  for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
    for pid in [*pids, process.pid]:
      os.kill(pid, number)
    time.sleep(0.3)
  (folder / 'continue').touch()
  out, _ = process.communicate(timeout=MANY_SECONDS)
  assert process.returncode == 75, out
  assert toy_hosts.saved(tmp_path / 'run') == 1


def pausing(tmp_path):
  """(the folder, a python) of a run that pauses at its first step."""
  folder, python = tmp_path / 'pause', tmp_path / 'python'
  command = map(str, [sys.executable, *toy_pause.command(1, folder, [])])
  python.write_text(f'#!/bin/sh\nshift 2\nexec {shlex.join(command)} "$@"\n')
  python.chmod(0o755)
  return folder, python


def real(base, workdir, python, save_every=1):
  """Starts a supervisor of two processes that run the toy rl stage."""
  command = [SCRIPT, 'run', '--local=2', f'--logs={workdir}-logs', '--', 'rl']
  command += ['--config', toy.HERE / 'toy_rl.py', '--workdir', workdir]
  command += [f'--config.init={base}/model']
  command += [f'--config.save_every={save_every}']
  env = dict(JAX_PLATFORMS='cpu', XLA_FLAGS=toy.ONE_DEVICE, PYTHON=str(python))
  return subprocess.Popen(
    command,
    cwd=SCRIPT.parent,
    env=os.environ | env,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def child(parent, variable):
  """The child process whose environment has NAME=value."""
  listing = subprocess.check_output(['pgrep', '-P', str(parent)], text=True)
  for pid in listing.split():
    path = pathlib.Path(f'/proc/{pid}/environ')
    if path.exists() and variable in path.read_text().split('\0'):
      return int(pid)
