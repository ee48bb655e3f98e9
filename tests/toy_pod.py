"""A fake pod on this machine: a gcloud whose workers are folders, a tmux, a
clock that only sleep advances, and a python whose processes end as a test sets
them."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time

SCRIPT = pathlib.Path(__file__).parent.parent / 'launch_tpu.sh'
MANY_SECONDS = 900  # A slow machine needs a small part of them.
GCLOUD = r"""#!/usr/bin/env bash
exec 8>> "$FAKE/gcloud.lock" && flock 8
printf '%s\0' "$@" $'\1' >> "$FAKE/calls"
cat /proc/[0-9]*/cmdline >> "$FAKE/processes" 2> /dev/null
pop() { # removes and prints a line of a list; with $2 the last one stays
  [[ -s $1 ]] && head -n 1 "$1"
  { [[ $2 ]] && (($(wc -l < "$1") == 1)); } || sed -i 1d "$1" 2> /dev/null
}
hangs() { # for ever, if the next line of a list is this verb
  [[ $(pop "$FAKE/hangs") == "$1" ]] || return
  echo "$$" > "$FAKE/hanging-$$"
  flock -u 8
  exec /bin/sleep 9999 8>&-
}
lost() { echo "ERROR: (gcloud.compute.tpus) NOT_FOUND: no $1" >&2; exit 1; }
homes() {
  for argument in "$@"; do
    case $argument in
      --command=*) command=${argument#--command=} ;;
      --worker=all) workers=$(seq 0 "$((FAKE_WORKERS - 1))") ;;
      --worker=*) workers=${argument#--worker=} ;;
    esac
  done
}
hangs "$4"
case "$3 $4" in
  'queued-resources create')
    error=$(pop "$FAKE/refusals")
    if [[ $error ]]; then echo "ERROR: $error" >&2; exit 1; fi
    echo >> "$FAKE/created" ;;
  'queued-resources delete')
    echo >> "$FAKE/deleted"
    for session in "$FAKE"/home/*/session; do
      kill -KILL -- "-$(cat "$session")" 2> /dev/null
    done
    rm -rf "$FAKE/home" ;;
  'queued-resources describe')
    life=$(wc -l < "$FAKE/created")
    (($(wc -l < "$FAKE/deleted") < life)) || lost request
    state=$(pop "$FAKE/life-$life" stays)
    case $state in BROKEN*) echo "ERROR: $state" >&2; exit 1 ;; esac
    echo "${state:-ACTIVE}" ;;
  'tpu-vm describe')
    state=$(pop "$FAKE/node-$5" stays)
    [[ $state != ABSENT ]] || lost node
    echo 'a warning of gcloud' >&2
    echo "${state:-READY}" ;;
  'tpu-vm scp')
    homes "$@"
    for worker in $workers; do
      mkdir -p "$FAKE/home/${6%%:*}-$worker"
      cp "$5" "$FAKE/home/${6%%:*}-$worker/${6#*:}"
    done ;;
  'tpu-vm ssh')
    [[ $(pop "$FAKE/sshs") != fails ]] || exit 255
    homes "$@"
    flock -u 8
    for worker in $workers; do
      mkdir -p "$FAKE/home/$5-$worker"
      HOME=$FAKE/home/$5-$worker bash -c "$command" 8>&- || result=$?
    done
    exit "${result:-0}" ;;
esac
"""
TMUX = r"""#!/usr/bin/env bash
file=$HOME/session
case $1 in
  has-session) [[ -f $file ]] &&
    grep -qs '^State:[^Z]*$' "/proc/$(cat "$file")/status" ;;
  kill-session) kill -HUP -- "-$(cat "$file")" ;;
  new-session)
    shift 4
    setsid "$@" < /dev/null > /dev/null 2>&1 &
    echo "$!" > "$file" ;;
esac
"""
PYTHON = r"""#!/usr/bin/env bash
[[ $2 == r1jax ]] || exit 0
cat /proc/[0-9]*/cmdline >> "$FAKE/processes" 2> /dev/null
i=${R1JAX_HOST:-$(basename "$HOME")}
printf '%s\0' "$@" >> "$FAKE/given-$i"
env >> "$FAKE/env-$i"
echo "process $i speaks"
play=$(head -n 1 "$FAKE/plays-$i" 2> /dev/null)
sed -i 1d "$FAKE/plays-$i" 2> /dev/null
if [[ $play == *' rewinds gains' ]]; then rewind && play=${play/ rewinds/}; fi
if [[ $play == *' gains' ]]; then
  play=${play% gains}
  while (($#)) && [[ $1 != --workdir ]]; do shift; done
  mkdir -p "$2" && echo '{"step": 1}' >> "$2/metrics.jsonl"
fi
wait_for_signals() {
  exec 5<> <(:) # a pipe that remains open and empty
  echo "$$" > "$FAKE/waits-$i"
  while :; do read -r -u 5; done
}
case $play in
  waits) trap 'echo terminated; exit 75' TERM
    wait_for_signals ;;
  counts) trap 'echo got a signal' TERM HUP INT
    echo "$$" > "$FAKE/waits-$i"
    exec 5<> <(:)
    until [[ -e $FAKE/saved ]]; do read -r -t 0.05 -u 5; done
    echo saved && exit 75 ;;
  deaf) trap '' TERM
    wait_for_signals ;;
  *' with '*)
    until [[ -s $FAKE/waits-${play#* with } ]]; do /bin/sleep 0.02; done
    exit "${play% with *}" ;;
  *' after '*) sleep "${play#* after }" && exit "${play% after *}" ;;
  *) exit "${play:-0}" ;;
esac
"""
PYTHON_OF_THE_HOST = r"""#!/usr/bin/env bash
if [[ $2 == venv ]]; then mkdir -p .venv/bin && cp "$FAKE/python" .venv/bin; fi
"""
# Every machine has its own clock, of which a second takes a millisecond. Time
# passes for a supervisor only while all its processes wait for signals or have
# ended, and on the laptop only while this holds for all workers: the speed of
# the processes does not matter.
SLEEP = r"""#!/usr/bin/env bash
shopt -s nullglob
printf sleep > "/proc/$$/comm"
look_at() { # PID: sets name and state
  name='' state=Z
  { read -r _ name state _ < "/proc/$1/stat"; } 2> /dev/null
}
waits() { # PID
  local file pid
  look_at "$1"
  [[ $state == Z || $name == '(tail)' || $name == '(sleep)' ]] && return
  for file in "$FAKE"/hanging-*; do # it waits for a call of gcloud that hangs
    read -r pid < "$file"
    look_at "$pid"
    [[ $state == Z ]] || return 0
  done
  look_at "$1"
  for file in "$FAKE"/waits-*; do
    read -r pid < "$file"
    [[ $pid == "$1" && $state == S ]] && return
  done
  return 1
}
all_wait() {
  local pid pids=() file worker waiting
  read -r -a pids < "/proc/$PPID/task/$PPID/children"
  for pid in "${pids[@]}"; do
    waits "$pid" || return
  done
  [[ $HOME == */laptop ]] || return 0
  for file in "$FAKE"/home/*/session; do
    read -r pid < "$file"
    look_at "$pid"
    [[ $state != Z ]] || continue
    worker=${file%/session}
    waiting=$FAKE/waits-${worker##*/}
    [[ -s $waiting ]] && read -r pid < "$waiting" || return 1
    look_at "$pid"
    [[ $state == S ]] || return
  done
}
until [[ ! -e /proc/$PPID ]] || all_wait; do /bin/sleep 0.02; done
/bin/sleep "$(printf 0.%03d "$(($1 + 9))")"
exec 7>> "$HOME/clock.lock" && flock 7
echo $(($(date) + $1)) > "$HOME/clock.new" && mv "$HOME/clock.new" "$HOME/clock"
echo "$1" >> "$HOME/sleeps"
"""
# Only a call that hangs exceeds its limit, and only if a test wants it.
TIMEOUT = r"""#!/usr/bin/env bash
while [[ $1 == --* ]]; do shift; done
"${@:2}" &
trap 'kill "$!"; exit 143' TERM
while kill -0 "$!" 2> /dev/null; do
  if [[ -e $FAKE/hanging-$! && -e $FAKE/impatient ]]; then
    kill "$!"
    exit 124
  fi
  /bin/sleep 0.02
done
wait "$!"
"""
DATE = r"""#!/usr/bin/env bash
cat "$HOME/clock" 2> /dev/null || echo 1000
"""
FAKES = {
  'bin/gcloud': GCLOUD,
  'bin/tmux': TMUX,
  'bin/sleep': SLEEP,
  'bin/date': DATE,
  'bin/timeout': TIMEOUT,
  'bin/hostname': '#!/usr/bin/env bash\nbasename "$HOME"\n',
  'bin/python3.11': PYTHON_OF_THE_HOST,
  'python': PYTHON,
}
HERE = ['--name', 'r1', '--zone=z']
CREATE = [*HERE, '--type=v4-8', '--runtime=tpu-vm', '--spot']


def gone(pid):
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().split()[2] == 'Z'
  except FileNotFoundError:
    return True


class Pod:
  """A clone of the repository with one commit, and the fakes' files."""

  def __init__(self, folder):
    self.folder, self.clone = folder, folder / 'clone'
    for name in ('bin', 'home', 'clone', 'laptop'):
      (folder / name).mkdir()
    for name in ('created', 'deleted'):
      (folder / name).touch()
    for name, text in FAKES.items():
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

  def environment(self, workers=1):
    return dict(
      PATH=f'{self.folder}/bin:{os.environ["PATH"]}',
      HOME=str(self.folder / 'laptop'),
      TMPDIR=str(self.folder),
      FAKE=str(self.folder),
      FAKE_WORKERS=str(workers),
    )

  def start(self, *arguments, workers=1, **env):
    return subprocess.Popen(
      [self.clone / 'launch_tpu.sh', *arguments],
      cwd=self.folder,
      env=self.environment(workers) | env,
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
      # A background job ignores SIGINT, and a shell cannot trap a signal that
      # is ignored when it starts.
      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

  def launch(self, *arguments, **options):
    """Runs a command to its end; its process, stdout and stderr being text."""
    process = self.start(*arguments, **options)
    process.stdout, process.stderr = process.communicate(timeout=MANY_SECONDS)
    return process

  def write(self, name, *lines):
    (self.folder / name).write_text(''.join(f'{line}\n' for line in lines))

  def read(self, name):
    path = self.folder / name
    return path.read_text() if path.exists() else ''

  def count(self, name):
    return self.read(name).count('\n')

  def run(self, worker='r1-0'):
    """Waits for the end of a run on a worker; the folder of the run."""
    home = self.folder / 'home' / worker
    self.until((home / 'runs/r1/exit_code').exists)
    self.until(lambda: gone(int((home / 'session').read_text())))
    return home / 'runs/r1'

  def end(self):
    """Ends the supervisors, and the processes that would make them wait."""
    paths = [*self.folder.glob('**/pid'), *self.folder.glob('waits-*')]
    for path in paths:
      is_supervisor = path.name == 'pid'
      with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text())
        os.kill(pid, signal.SIGTERM if is_supervisor else signal.SIGKILL)

  def until(self, condition):
    end = time.monotonic() + MANY_SECONDS
    while not condition():
      assert time.monotonic() < end, 'timeout'
      time.sleep(0.02)

  @property
  def calls(self):
    """The arguments of every call of gcloud."""
    calls = [call.split('\0') for call in self.read('calls').split('\1\0')]
    return [call[:-1] for call in calls[:-1]]

  def verbs(self):
    return [' '.join(call[2:4]) for call in self.calls]

  def given(self, worker='r1-0'):
    """The arguments of all calls of python on a worker."""
    return self.read(f'given-{worker}').split('\0')[:-1]
