"""The commands of launch_tpu.sh on a fake pod, see toy_pod.py."""

import os
import pathlib
import random
import re
import shutil
import signal
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


def test_create_passes_the_options_of_networks_and_capacity(pod):
  own = [
    *('--network=n', '--subnetwork=s', '--internal-ips', '--tags=t'),
    *('--service-account=a', '--scopes=cloud-platform', '--metadata=k=v,w=x y'),
    *('--data-disk=source=d1', '--data-disk=source=d2', '--reservation=r'),
  ]
  done = pod.launch('create', *CREATE, *own)
  assert done.returncode == 0, done.stderr
  assert set(own) <= set(pod.calls[0])
  pod.launch('create', '--track=alpha', *CREATE, '--dry-run')
  done = pod.launch('create', '--track=alpha', *CREATE, '--dry-run')
  assert 'gcloud alpha compute tpus' in done.stdout


def test_ssh_and_scp_go_through_iap_and_keep_alive(pod):
  pod.launch('setup', *HERE, '--iap')
  for call, kind in zip(pod.calls, ('scp', 'ssh'), strict=True):
    assert '--tunnel-through-iap' in call
    assert f'--{kind}-flag=-oServerAliveInterval=15' in call


def test_a_call_of_gcloud_that_hangs_is_ended(pod):
  pod.write('created', '')
  pod.write('hangs', 'ssh')
  pod.write('impatient')
  done = pod.launch('run', *HERE, '--', 'rl')
  assert done.returncode == 124
  assert pod.verbs() == ['tpu-vm ssh']


def test_the_timer_of_the_machine_deletes_its_tpu(pod):
  """When no process holds the lock of a run any more."""
  done = pod.launch('create', *CREATE, '--autodown=5')
  assert done.returncode == 0, done.stderr
  (option,) = [x for x in pod.calls[0] if 'startup-script=' in x]
  script = pathlib.Path(option.partition('startup-script=')[2])
  lock = pod.folder / 'home/me/runs/r1/lock'
  lock.parent.mkdir(parents=True)
  text = script.read_text().replace('/home/*', f'{pod.folder}/home/*')
  text = text.replace('/root/', f'{pod.folder}/none/')
  text = text.replace('/run/', f'{pod.folder}/')
  script.write_text(
    text.replace('    [ "$idle"', '    echo $idle >> idle\n    [ "$idle"')
  )
  holder = subprocess.Popen(['flock', lock, '/bin/sleep', '999'])
  pod.until(lambda: subprocess.call(['flock', '-n', str(lock), 'true']) == 1)
  timer = subprocess.Popen(
    ['bash', script],
    cwd=pod.folder,
    env=pod.environment(),
    start_new_session=True,
  )
  try:
    pod.until(lambda: pod.count('idle') > 9)
    assert not pod.count('deleted') and set(pod.read('idle').split()) == {'0'}
    subprocess.run(['pkill', '-P', str(holder.pid)], check=True)
    holder.wait()
    pod.until(lambda: pod.count('deleted'))
    assert '5' in pod.read('idle').split()
    assert '--force' in pod.calls[-1] and 'r1' in pod.calls[-1]
  finally:
    os.killpg(timer.pid, signal.SIGKILL)
    timer.wait()


def test_setup_says_what_is_not_uploaded(pod):
  (pod.clone / 'launch_tpu.sh').write_text(SCRIPT.read_text() + '\n# changed\n')
  done = pod.launch('setup', *HERE)
  assert done.returncode == 0
  assert 'not committed and not uploaded, 2 files' in done.stderr
  assert ' M launch_tpu.sh' in done.stderr and '?? secret' in done.stderr
  assert (
    f'uploads {pod.git("rev-parse", "--short", "HEAD")} (one)' in done.stderr
  )


def test_no_other_user_can_replace_the_archive(pod):
  pod.launch('setup', *HERE)
  (copy,) = [call for call in pod.calls if 'scp' in call]
  assert pathlib.Path(copy[4]).parent == pod.clone / '.git'


def test_a_tpu_that_remains_is_said(pod):
  pod.write('created', '')
  pod.launch('setup', *HERE)
  pod.launch(*RUN)
  pod.run()
  for command in ('status', 'stop'):
    done = pod.launch(command, *HERE)
    assert 'r1 still exists and costs money' in done.stderr


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


# Values that a shell would change or execute, also those of names that bash or
# launch_tpu.sh use themselves.
ODD = {
  f'V{n}': value
  for n, value in enumerate(
    [
      *('', ' ', '  two  spaces  ', '\ttab\t', "'", '"', "it's", 'a"b'),
      *(
        "'quoted'",
        '"quoted"',
        '$HOME',
        '${HOME}',
        '$(touch bad)',
        '`touch bad`',
      ),
      *('; touch bad', '&& touch bad', '| touch bad', '> bad', '< none', '\\'),
      *(
        'back\\slash',
        '\\n',
        'ends in \\',
        '#',
        'a #b',
        '=',
        'a=b=c',
        '*',
        '~',
      ),
      *(
        '{a,b}',
        '[a-z]',
        '!!',
        '%s%n',
        'é中🙂',
        '\x1b[31m',
        'a\rb',
        '\rb',
      ),
      *('-n', '--', "$'\\n'", '\x7f', '(x)', 'x[$(touch bad)]'),
    ]
  )
}
ODD |= dict(name='n', code='c', SECONDS='x[$(touch bad)]', _x='1', IFS='a')


def test_values_of_an_env_file_arrive_unchanged(pod):
  lines = [f'{name}={value}\n' for name, value in ODD.items()]
  raw = b'RAW=\xff\xfe'  # without a newline at the end
  (pod.folder / 'env').write_bytes(''.join(lines).encode() + raw)
  (pod.folder / 'python').write_text(
    '#!/usr/bin/env bash\n[[ $2 == r1jax ]] || exit 0\nenv -0 > "$FAKE/env"\n'
  )
  env_file = ['--env-file', str(pod.folder / 'env')]
  assert pod.launch('setup', *HERE, *env_file).returncode == 0
  assert pod.launch(*RUN).returncode == 0
  folder = pod.run()
  given = (pod.folder / 'env').read_bytes().split(b'\0')
  missing = [f'{k}={v}' for k, v in ODD.items() if k != 'IFS']
  missing = [x for x in missing if x.encode() not in given]
  assert not missing and raw in given
  assert not list(pod.folder.rglob('bad'))
  printed = [(folder / 'log').read_text(), (folder / 'job.sh').read_text()]
  assert all(x not in text for text in printed for x in ('touch', 'quoted'))


def test_lines_of_an_env_file_that_may_be_meant_otherwise_are_said(pod):
  pod.write('env', '# a comment', '', 'export A=1', 'B="hf_x"', 'C', 'D=1')
  done = pod.launch('setup', *HERE, '--env-file', str(pod.folder / 'env'))
  assert done.returncode == 0 and 'hf_x' not in done.stderr
  for text in ('line 3 is not NAME=value', 'the quotes of B', 'line 5 is not'):
    assert text in done.stderr
  assert done.stderr.count('env: ') == 3


def test_the_end_of_a_line_of_windows_is_no_part_of_a_value(pod):
  (pod.folder / 'env').write_bytes(b'A=1\r\n\r\n# a\r\nB="2"\r\nC=\r\nD=4\n')
  options = ['--local=2', '--env-file=env']
  done = pod.launch(
    'run', *options, '--', 'rl', PYTHON=str(pod.folder / 'python')
  )
  assert done.returncode == 0
  assert '5 lines end with CR LF' in done.stderr
  assert 'the quotes of B' in done.stderr
  assert {'A=1', 'B="2"', 'C=', 'D=4'} <= set(pod.read('env-1').splitlines())


@pytest.mark.parametrize('text', ['A=a\0b', 'A=b\n\0', 'A=1\n'], ids=ascii)
def test_a_nul_in_an_env_file_is_refused(pod, text):
  encoding = 'utf-8' if '\0' in text else 'utf-16'
  (pod.folder / 'env').write_bytes(text.encode(encoding))
  done = pod.launch('setup', *HERE, '--env-file', str(pod.folder / 'env'))
  assert done.returncode == 2 and 'env has NUL bytes' in done.stderr
  assert not pod.calls


def test_processes_of_this_machine_get_the_variables_too(pod):
  pod.write('env', 'A=$HOME;', 'LIBTPU_INIT_ARGS=--x')
  options = ['--local=2', '--libtpu-args=--y', '--env-file=env']
  done = pod.launch(
    'run', *options, '--', 'rl', PYTHON=str(pod.folder / 'python')
  )
  assert done.returncode == 0, done.stderr
  env = pod.read('env-1').splitlines()
  assert {'A=$HOME;', 'LIBTPU_INIT_ARGS=--x --y', 'R1JAX_HOST=1'} <= set(env)


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
  special += ['--', '-n', '--dry-runs', '$(touch bad)', "'; touch bad; '", '~']
  special += ['', '-name', 'END', '\\', '\n', '%s%n', '!!', '{a,b}', '$HOME']
  special += ["$'\\n'"]
  done = pod.launch('run', *HERE, '--', 'rl', '--workdir', '/w', *special)
  assert done.returncode == 0, done.stderr
  pod.run()
  assert pod.given() == ['-m', 'r1jax', 'rl', '--workdir', '/w', *special]
  assert not list(pod.folder.rglob('bad'))


@pytest.mark.parametrize(
  'command, sentence',
  [
    ('run -- rl --workdir /w --dry-run', '--dry-run is an option of run'),
    ('run -- rl --workdir /w --grace=5', '--grace is an option of run'),
    ('run -- rl --workdir /w --spot', '--spot is an option of run'),
    ('run -- rl --workdir /w --slices 2', '--slices is an option of run'),
    ('stop -- --dry-run', 'stop has no ARGUMENTS'),
    ('delete -- --dry-run', 'delete has no ARGUMENTS'),
    ('setup -- --commit abc', 'setup has no ARGUMENTS'),
    ('retry --type t --runtime r -- rl --workdir /w --dry-run', 'of retry'),
    ('create --type t --runtime r -- --dry-run', 'create has no ARGUMENTS'),
  ],
)
def test_an_option_behind_the_dashes_is_refused_and_nothing_is_called(
  pod, command, sentence
):
  """A dry run would be real."""
  name, *arguments = command.split()
  done = pod.launch(name, *HERE, *arguments)
  assert done.returncode == 2 and sentence in done.stderr
  assert 'before --' in done.stderr
  assert not pod.calls


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
    ([*RUN, '--workdir', 'runs/a'], '--workdir runs/a is relative'),
    ([*RETRY[:-1], '--workdir=~/a'], '--workdir ~/a is relative'),
    ([*RUN, '--workdir=gs://b/x'], '--workdir is gs://b/x, but'),
    ([*RETRY[:-1], '--workdir', 's3://b'], '--workdir is s3://b, but'),
    (['create', *CREATE, '--autodown=soon'], '--autodown is soon: it must be'),
    (['status', *HERE, '--track=ga'], '--track is alpha or beta, not ga'),
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
