"""launch_tpu.sh, with a gcloud that notes its arguments and whose workers are
this machine under another home."""

import os
import pathlib
import shutil
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / 'launch_tpu.sh'
GCLOUD = r"""#!/usr/bin/env bash
printf '%s\n' "$@" >> "$FAKE/calls"
echo >> "$FAKE/calls"
case "$3 $4" in
  'queued-resources describe') echo "$FAKE_STATE" ;;
  'tpu-vm scp') cp "$5" "$FAKE/home/${6#*:}" ;;
  'tpu-vm ssh')
    for argument in "$@"; do
      if [[ $argument == --command=* ]]; then
        HOME=$FAKE/home bash -c "${argument#--command=}"
      fi
    done ;;
esac
"""
# The worker's tmux runs the job at once, its python says what it was given.
TMUX = r"""#!/usr/bin/env bash
[[ $1 == has-session ]] && exit "$FAKE_SESSION"
shift 4 && "$@"
"""
PYTHON = r"""#!/usr/bin/env bash
[[ $2 == r1jax ]] || exit 0
printf '<%s>' "$HF_TOKEN" "$@" && exit 3
"""
PYTHON_OF_THE_HOST = r"""#!/usr/bin/env bash
if [[ $2 == venv ]]; then mkdir -p .venv/bin && cp "$FAKE/python" .venv/bin; fi
"""
HERE = ['--name', 'r1', '--zone=z']
CREATE = ['create', *HERE, '--type=v4-8', '--runtime=tpu-vm', '--spot']
RUN = ['run', *HERE, '--', 'rl', '--config', 'a b.py', "--config.x='$HOME;'"]


class Host:
  """A clone of one commit, and a PATH with the fakes in front."""

  def __init__(self, folder):
    self.folder, self.clone = folder, folder / 'clone'
    (folder / 'bin').mkdir()
    (folder / 'home').mkdir()
    self.clone.mkdir()
    fakes = {
      'bin/gcloud': GCLOUD,
      'bin/tmux': TMUX,
      'bin/python3.11': PYTHON_OF_THE_HOST,
      'python': PYTHON,
    }
    for name, text in fakes.items():
      (folder / name).write_text(text)
      (folder / name).chmod(0o755)
    shutil.copy(SCRIPT, self.clone)
    (self.clone / 'secret').write_text('not committed')
    for command in ('init -q', 'add launch_tpu.sh', 'commit -q -m one'):
      self.git(*command.split())

  def git(self, *arguments):
    me = ['-c', 'user.name=me', '-c', 'user.email=me@example.org']
    command = ['git', '-C', self.clone, *me, *arguments]
    return subprocess.check_output(command, text=True).strip()

  def launch(self, *arguments, state='ACTIVE', session=1):
    env = dict(
      PATH=f'{self.folder}/bin:{os.environ["PATH"]}',
      HOME=str(self.folder),
      TMPDIR=str(self.folder),
      FAKE=str(self.folder),
      FAKE_STATE=state,
      FAKE_SESSION=str(session),
    )
    return subprocess.run(
      [self.clone / 'launch_tpu.sh', *arguments],
      env=env,
      capture_output=True,
      text=True,
    )

  @property
  def calls(self):
    path = self.folder / 'calls'
    text = path.read_text() if path.exists() else ''
    return [call.split('\n') for call in text.split('\n\n')[:-1]]


@pytest.fixture
def host(tmp_path):
  return Host(tmp_path)


def test_create_asks_for_a_queued_resource(host):
  done = host.launch(*CREATE, '--project=p', '--valid-for', '6h')
  assert done.returncode == 0, done.stderr
  assert host.calls == [
    'compute tpus queued-resources create r1 --zone=z --project=p --node-id=r1 '
    '--accelerator-type=v4-8 --runtime-version=tpu-vm --labels=run-id=r1 '
    '--spot --valid-until-duration=6h'.split()
  ]


def test_setup_uploads_the_commit_and_nothing_else(host):
  done = host.launch('setup', *HERE)
  assert done.returncode == 0, done.stderr
  home = host.folder / 'home'
  assert (home / 'r1jax').resolve().name == 'r1jax-' + host.git(
    'rev-parse', 'HEAD'
  )
  names = {path.name for path in (home / 'r1jax').iterdir()}
  assert names == {'launch_tpu.sh', '.venv'}
  assert all('--worker=all' in call for call in host.calls)


def test_secrets_arrive_in_a_file_for_the_owner_alone(host):
  (host.folder / 'env').write_text('HF_TOKEN=hf_1\n')
  host.launch('setup', *HERE, '--env-file', str(host.folder / 'env'))
  there = host.folder / 'home/.r1jax.env'
  assert there.read_text() == 'HF_TOKEN=hf_1\n'
  assert there.stat().st_mode & 0o777 == 0o600
  assert 'hf_1' not in (host.folder / 'calls').read_text()


def test_run_hands_the_stage_its_arguments_as_they_were_written(host):
  (host.folder / 'env').write_text('HF_TOKEN=hf_1\n')
  host.launch('setup', *HERE, '--env-file', str(host.folder / 'env'))
  for run_id in ('r1', 'again'):
    run = [*RUN[:3], '--run-id', run_id, *RUN[3:]]
    done = host.launch(*run)
    assert done.returncode == 0, done.stderr
    folder = host.folder / 'home/runs' / run_id
    assert (folder / 'exit_code').read_text() == '3\n'
    assert (folder / 'log').read_text() == (
      '<hf_1><-m><r1jax><rl><--config><a b.py>'
      f"<--config.x='$HOME;'><--workdir><{folder}>"
    )


def test_run_keeps_the_work_directory_that_it_is_given(host):
  host.launch('setup', *HERE)
  host.launch('run', *HERE, '--', 'rl', '--workdir=/mnt/bucket/r1')
  log = (host.folder / 'home/runs/r1/log').read_text()
  assert log == '<><-m><r1jax><rl><--workdir=/mnt/bucket/r1>'


def test_a_run_does_not_start_twice(host):
  done = host.launch(*RUN, session=0)
  assert done.returncode == 1 and 'r1 still runs on' in done.stderr
  assert not (host.folder / 'home/runs/r1/log').exists()


def test_a_run_that_cannot_start_has_ended_too(host):
  host.launch(*RUN)
  assert ': r1 exited with 1\n' in host.launch('status', *HERE).stdout
  assert 'r1jax' in (host.folder / 'home/runs/r1/log').read_text()


def test_status_says_how_the_run_ended(host):
  host.launch('setup', *HERE)
  assert ': r1 absent\n' in host.launch('status', *HERE).stdout
  host.launch(*RUN)
  assert 'ACTIVE\n' in host.launch('status', *HERE).stdout
  assert ': r1 exited with 3\n' in host.launch('status', *HERE).stdout
  assert ': r1 running\n' in host.launch('status', *HERE, session=0).stdout


def test_status_asks_no_worker_before_there_are_any(host):
  done = host.launch('status', *HERE, state='WAITING_FOR_RESOURCES')
  assert done.stdout == 'WAITING_FOR_RESOURCES\n' and len(host.calls) == 1


def test_delete_is_forced_and_does_not_wait(host):
  host.launch('delete', *HERE)
  assert host.calls == [
    'compute tpus queued-resources delete r1 --zone=z --force --async '
    '--quiet'.split()
  ]


@pytest.mark.parametrize(
  'arguments',
  [
    CREATE,
    ['setup', *HERE, '--env-file', str(SCRIPT)],
    RUN,
    *([command, *HERE] for command in ('status', 'logs', 'delete')),
  ],
  ids=lambda arguments: arguments[0],
)
def test_a_dry_run_prints_and_calls_nothing(host, arguments):
  done = host.launch(arguments[0], '--dry-run', *arguments[1:])
  assert done.returncode == 0 and 'gcloud compute tpus' in done.stdout
  assert not host.calls
  assert not list(host.folder.glob('*.tar.gz'))


def test_a_dry_run_can_be_pasted_into_a_shell(host):
  host.launch('setup', *HERE)
  host.folder.joinpath('calls').unlink()
  host.launch(*RUN)
  host.folder.joinpath('calls').rename(host.folder / 'called')
  printed = host.launch('run', '--dry-run', *RUN[1:]).stdout
  env = os.environ | dict(FAKE=str(host.folder), FAKE_SESSION='1')
  env['PATH'] = f'{host.folder}/bin:{env["PATH"]}'
  subprocess.run(['bash', '-c', printed], env=env, check=True)
  assert (host.folder / 'calls').read_text() == (
    host.folder / 'called'
  ).read_text()


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    (['creat'], 'there is no command creat'),
    (['create', '--zone=z'], 'create needs --name and --zone'),
    (['create', *HERE], 'create needs --type and --runtime'),
    (['create', *HERE, '--sport'], '--sport needs a value, or is unknown'),
    (['create', *HERE, '--sport=1'], 'unknown option --sport'),
    (['run', *HERE], 'run needs the arguments of a stage after --'),
    (['status', *HERE, '--run-id=a b'], 'the run id a b may have'),
    (['setup', *HERE, '--commit=nosuch'], 'there is no commit nosuch'),
    (['setup', *HERE, '--env-file=nosuch'], 'there is no file nosuch'),
  ],
)
def test_wrong_arguments_are_a_sentence_and_exit_2(host, arguments, sentence):
  done = host.launch(*arguments)
  assert done.returncode == 2 and sentence in done.stderr
  assert done.stderr.count('\n') == 1
  assert not host.calls


def test_help_names_every_command(host):
  text = host.launch('--help').stdout
  for command in ('create', 'setup', 'run', 'status', 'logs', 'delete'):
    assert f'\n  {command} ' in text
  assert max(map(len, text.splitlines())) <= 80
