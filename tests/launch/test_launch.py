"""The commands of launch_tpu.sh on a fake pod, see toy_pod.py."""

import pathlib
import random
import re
import shutil
import subprocess
import sys

import pytest
from toy_pod import CREATE, HERE, SCRIPT, Pod, gone

RUN = ['run', *HERE, '--', 'rl', '--config', 'a b.py', "--config.x='$HOME;'"]
RETRY = ['retry', *CREATE, '--', 'rl', '--workdir=/mnt/r1']
SLICES = ['--slices=2']


@pytest.fixture
def pod(tmp_path):
  pod = Pod(tmp_path)
  yield pod
  pod.end()


def test_create_requests_a_queued_resource(pod):
  done = pod.launch(
    *('create', *CREATE, '--project=p', '--valid-for', '6h', '--labels=a=b')
  )
  assert done.returncode == 0, done.stderr
  assert pod.calls == [
    'compute tpus queued-resources create r1 --node-id=r1 '
    '--accelerator-type=v4-8 --runtime-version=tpu-vm '
    '--labels=run-id=r1,a=b --spot --valid-until-duration=6h --zone=z '
    '--project=p'.split()
  ]


def test_several_slices_are_nodes_with_a_prefix(pod):
  pod.launch('create', *CREATE, *SLICES)
  assert '--node-count=2 --node-prefix=r1' in ' '.join(pod.calls[0])
  assert '--node-id' not in pod.read('calls')


def test_create_with_wait_prints_the_states(pod):
  slow = ['WAITING_FOR_RESOURCES'] * 9
  pod.write('life-1', *slow, 'BROKEN', 'PROVISIONING', 'PROVISIONING', 'ACTIVE')
  done = pod.launch('create', *CREATE, '--wait')
  assert done.returncode == 0, done.stderr
  lines = [line.split(': ')[1] for line in done.stderr.splitlines()]
  states = [line.split()[2].rstrip(',') for line in lines]
  assert states == [slow[0], slow[0], 'PROVISIONING', 'ACTIVE']
  assert lines[0].endswith('after 0 min') and lines[1].endswith('after 10 min')
  sleeps = pod.read('laptop/sleeps').split()
  assert sleeps[:6] == ['10', '20', '40', '80', '120', '120']


@pytest.mark.parametrize('state', ['FAILED', 'SUSPENDED'])
def test_wait_ends_in_a_state_that_cannot_become_active(pod, state):
  pod.write('created', '')
  pod.write('life-1', 'PROVISIONING', state)
  done = pod.launch('wait', *HERE)
  assert done.returncode == 1 and f'r1 is {state}' in done.stderr
  assert 'delete it' in done.stderr


def test_setup_uploads_only_the_commit(pod):
  for _ in range(2):
    done = pod.launch('setup', *HERE, '--prepare', 'date >> ~/disk # mounted')
    assert done.returncode == 0, done.stderr
  home = pod.folder / 'home/r1-0'
  assert (home / 'r1jax').resolve().name == 'r1jax-' + pod.git(
    'rev-parse', 'HEAD'
  )
  names = {path.name for path in (home / 'r1jax').iterdir()}
  assert names == {'launch_tpu.sh', '.venv', '.installed'}
  assert (home / 'disk').read_text() == '1000\n' * 2


def test_every_command_reaches_all_workers_of_all_slices(pod):
  pod.write('created', '')
  places = [f'r1-{node}-{worker}' for node in (0, 1) for worker in (0, 1, 2)]
  for command in ('setup', 'run', 'status', 'stop'):
    stage = ['--', 'rl'] if command == 'run' else []
    done = pod.launch(command, *HERE, *SLICES, *stage, workers=3)
    assert done.returncode == 0, done.stderr
    if command == 'run':
      assert [pod.run(place).parts[-3] for place in places] == places
    if command == 'status':
      lines = sorted(done.stdout.splitlines()[1:])
      assert lines == [f'{place}: r1 exited with 0' for place in places]
  marks = pod.folder.glob('home/*/runs/r1/stopped')
  assert sorted(mark.parts[-4] for mark in marks) == places


def test_ssh_and_scp_use_internal_addresses(pod):
  pod.launch('setup', *HERE, '--internal-ip')
  assert len(pod.calls) == 2
  assert all('--internal-ip' in call for call in pod.calls)


def test_secrets_are_in_a_file_that_only_the_owner_can_read(pod):
  pod.write('env', 'HF_TOKEN=hf_1secret')
  pod.write('plays-r1-0', '1', '0')
  pod.launch('setup', *HERE, '--env-file', str(pod.folder / 'env'))
  pod.launch(*RUN)
  pod.run()
  there = pod.folder / 'home/r1-0/.r1jax.env'
  assert there.read_text() == 'HF_TOKEN=hf_1secret\n'
  assert there.stat().st_mode & 0o777 == 0o600
  assert pod.read('env-r1-0').count('HF_TOKEN=hf_1secret') == 2
  for name in ('calls', 'processes', 'home/r1-0/runs/r1/job.sh'):
    assert pod.read(name) and 'hf_1secret' not in pod.read(name)


def test_run_starts_the_stage_on_a_pod_under_the_supervisor(pod):
  pod.launch('setup', *HERE)
  pod.write('plays-r1-0', '137', '0')
  run = [*RUN[:4], '--libtpu-args=vmem', *RUN[4:]]
  done = pod.launch(*run)
  assert done.returncode == 0, done.stderr
  folder = pod.run()
  assert (folder / 'exit_code').read_text() == '0\n'
  log = (folder / 'log').read_text().splitlines()
  assert log[::2] == ['process r1-0 speaks'] * 2 and 'restart 1 of' in log[1]
  once = ['-m', 'r1jax', *RUN[5:], '--workdir', str(folder)]
  assert pod.given() == once * 2
  env = pod.read('env-r1-0')
  assert env.count('R1JAX_HOSTS=auto\n') == 2
  assert 'LIBTPU_INIT_ARGS=--xla_tpu_scoped_vmem_limit_kib=98304\n' in env


def test_arguments_with_special_characters_arrive_unchanged(pod):
  pod.launch('setup', *HERE)
  parts = ' \'"$`\\\n\t;*?&|<>(){}[]!#~-=%^éß中🙂\x7f'
  generator = random.Random(0)
  special = [''.join(generator.choices(parts, k=k % 9)) for k in range(200)]
  special += ['--', '-n', '--dry-run', '$(touch bad)', "'; touch bad; '", '~']
  special += ['', '--name', 'END', '\\', '\n', '%s%n', '!!', '{a,b}', '$HOME']
  special += ["$'\\n'"]
  done = pod.launch('run', *HERE, '--', 'rl', '--workdir', '/w', *special)
  assert done.returncode == 0, done.stderr
  pod.run()
  assert pod.given() == ['-m', 'r1jax', 'rl', '--workdir', '/w', *special]
  assert not list(pod.folder.rglob('bad'))


def test_a_running_run_is_not_started_again(pod):
  pod.write('created', '')
  pod.launch('setup', *HERE)
  pod.write('plays-r1-0', 'waits')
  pod.launch(*RUN)
  pod.until((pod.folder / 'waits-r1-0').exists)
  done = pod.launch(*RUN)
  assert done.returncode == 1 and 'r1 is still running on r1-0' in done.stderr
  assert 'r1-0: r1 running\n' in pod.launch('status', *HERE).stdout
  assert pod.launch('stop', *HERE).returncode == 0
  assert (pod.run() / 'exit_code').read_text() == '75\n'
  assert 'r1-0: r1 was stopped\n' in pod.launch('status', *HERE).stdout


def test_stop_kills_what_does_not_end(pod):
  pod.launch('setup', *HERE)
  pod.write('plays-r1-0', 'deaf')
  pod.launch(*RUN)
  pod.until((pod.folder / 'waits-r1-0').exists)
  pod.launch('stop', *HERE, '--grace=5')
  pod.run()
  assert gone(int(pod.read('waits-r1-0')))


def test_a_run_that_cannot_start_has_an_exit_code(pod):
  pod.write('created', '')
  pod.launch(*RUN)
  folder = pod.run()
  assert 'r1jax' in (folder / 'log').read_text()
  assert ': r1 exited with 1\n' in pod.launch('status', *HERE).stdout


def test_status_calls_no_worker_before_there_are_any(pod):
  done = pod.launch('status', *HERE)
  assert done.stdout == 'ABSENT\n' and len(pod.calls) == 1


def test_logs_follow_a_worker_of_a_slice(pod):
  done = pod.launch(
    *('logs', *HERE, *SLICES, '--slice=1', '--worker=3', '--dry-run')
  )
  assert 'tpu-vm ssh r1-1 --worker=3' in done.stdout
  assert 'runs/r1/log' in done.stdout


def test_delete_is_forced_and_does_not_wait(pod):
  pod.launch('delete', *HERE)
  assert pod.calls == [
    'compute tpus queued-resources delete r1 --force --async --quiet '
    '--zone=z'.split()
  ]


@pytest.mark.parametrize(
  'arguments',
  [
    ['create', *CREATE, '--wait', *SLICES],
    ['setup', *HERE, '--env-file', str(SCRIPT), *SLICES],
    RUN,
    [*RETRY[:1], *SLICES, *RETRY[1:]],
    *([command, *HERE] for command in ('wait', 'status', 'stop', 'delete')),
  ],
  ids=lambda arguments: arguments[0],
)
def test_a_dry_run_prints_the_commands_and_calls_nothing(pod, arguments):
  done = pod.launch(arguments[0], '--dry-run', *arguments[1:])
  assert done.returncode == 0 and 'gcloud compute tpus' in done.stdout
  assert not pod.calls and not list(pod.folder.glob('*.tar.gz'))
  pod.write('created', '')
  pasted = ['bash', '-c', done.stdout]
  subprocess.run(pasted, env=pod.environment(), capture_output=True)
  printed = pod.calls
  if arguments[0] == 'retry':  # Its output is not a script.
    return
  (pod.folder / 'calls').unlink()
  shutil.rmtree(pod.folder / 'home', ignore_errors=True)
  pod.write('created', '')
  pod.write('deleted')
  pod.launch(*arguments)
  assert sorted(printed) == sorted(pod.calls)


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    (['creat'], 'there is no command creat'),
    (['create', '--zone=z'], 'create needs --name and --zone'),
    (['create', *HERE], 'create needs --type and --runtime'),
    (['create', *HERE, '--sport'], '--sport needs a value, or is unknown'),
    (['create', *HERE, '--sport=1'], 'unknown option --sport'),
    (['run', *HERE], 'run needs the arguments of a stage after --'),
    (['run', '--local=0', '--', 'rl'], '--local is 0: it must be an integer'),
    (['run', '--local=08', '--', 'rl'], '--local is 08: it must be'),
    (['stop', *HERE, '--local=2'], '--local is an option of run'),
    (['status', *HERE, '--run-id=a b'], 'the run id a b must match'),
    (['logs', *HERE, '--slice=1'], 'there are 1 slices, counted from 0'),
    (['setup', *HERE, '--commit=nosuch'], 'there is no commit nosuch'),
    (['setup', *HERE, '--env-file=nosuch'], 'there is no file nosuch'),
    (['run', *HERE, '--libtpu-args=fast', '--', 'rl'], '--libtpu-args is'),
    ([*RETRY[:-1]], 'retry needs a --workdir in ARGUMENTS'),
  ],
)
def test_wrong_arguments_are_one_line_and_exit_2(pod, arguments, sentence):
  done = pod.launch(*arguments)
  assert done.returncode == 2 and sentence in done.stderr
  assert done.stderr.count('\n') == 1
  assert not pod.calls


def test_help_names_every_command_and_option(pod):
  text = pod.launch('--help').stdout
  for command in 'create wait setup run status logs stop delete retry'.split():
    assert f'\n  {command} ' in text
  for patterns in re.findall(
    r'^ +(--[a-z-]+(?: \| --[a-z-]+)*)\)', SCRIPT.read_text(), re.M
  ):
    assert all(option in text for option in patterns.split(' | '))
  assert max(map(len, text.splitlines())) <= 80


def test_shellcheck_passes():
  shellcheck = pathlib.Path(sys.executable).parent / 'shellcheck'
  done = subprocess.run([shellcheck, SCRIPT], capture_output=True, text=True)
  assert not done.stdout + done.stderr
