"""The lock of a work directory: one run at a time writes there.

The file run.lock names the process that holds it: its machine, its number, and
when it started. The holder touches the file every few seconds. A holder on the
same machine is dead if there is no such process; one on another machine, which
may share the directory, if the file has not been touched for SILENT seconds.
"""

import contextlib
import errno
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from r1jax import errors
from r1jax.distributed import hosts, watchdog

FILE = 'run.lock'
TOUCHED = 5.0  # seconds between two touches
SILENT = 60.0  # seconds without a touch after which the holder is dead
NOT_WRITABLE = errno.EACCES, errno.EPERM, errno.EROFS


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
  """Holds the lock of a work directory for all processes of a run. Raises
  UserError if another run holds it. A folder that is new and still empty at the
  end is removed. A collective at its beginning."""
  lock = _Lock(workdir)
  is_new = hosts.run_once(lock.acquire)
  try:
    yield
  finally:
    if hosts.index() == 0:
      lock.release()
      if is_new:
        with contextlib.suppress(OSError):  # not empty
          workdir.rmdir()


class _Lock:
  """The lock in the process that holds it for its run."""

  def __init__(self, workdir: Path):
    self.path, self.token = workdir / FILE, uuid.uuid4().hex
    self.released = threading.Event()
    self.thread = threading.Thread(target=self._touch, daemon=True)

  def acquire(self) -> bool:
    """Takes the lock; returns True if the directory is new. Raises UserError if
    the holder lives."""
    folder = self.path.parent
    is_new = not folder.exists()
    if self.path.is_dir():
      raise errors.UserError(
        f'{self.path} is a folder, but must be the file that a run locks its '
        'work directory with: remove it'
      )
    try:
      with errors.explained(
        f'cannot write to the work directory {folder}', FileExistsError
      ):
        folder.mkdir(parents=True, exist_ok=True)
      while not self._create():
        holder = _read(self.path)
        _wait_until_dead(self.path, holder)
        self._remove(holder)
    except OSError as error:
      if error.errno in NOT_WRITABLE:  # So no run can write there.
        return False
      raise
    self.thread.start()
    return is_new

  def release(self) -> None:
    """Removes the file, unless another process holds the lock now."""
    self.released.set()
    if self.thread.is_alive():
      self.thread.join()
    if _read(self.path).get('token') == self.token:
      with contextlib.suppress(OSError):
        self.path.unlink()

  def _create(self):
    """Whether this process has created the file."""
    text = json.dumps(_this_process() | dict(token=self.token))
    try:
      with open(self.path, 'x', encoding='utf-8') as file:
        try:
          file.write(text)
          file.flush()
        except OSError:  # The disk is full.
          self.path.unlink()
          raise
    except FileExistsError:
      return False
    return True

  def _remove(self, holder):
    """Removes the file of a dead holder. That of a process which has replaced
    it in the meantime is put back."""
    taken = self.path.with_name(f'{FILE}.{self.token}')
    with contextlib.suppress(FileNotFoundError):
      self.path.rename(taken)
      if _read(taken).get('token') == holder.get('token'):
        taken.unlink()
      else:
        taken.rename(self.path)

  def _touch(self):
    """Shows other machines that this process lives, until the release."""
    while not self.released.wait(TOUCHED):
      token = _read(self.path).get('token', self.token)
      if token != self.token:
        watchdog.print_error(
          f'another run has taken {self.path.parent}, since this process was '
          f'suspended for more than {SILENT:g} seconds: it ends'
        )
        os._exit(errors.USER_ERROR)
      with contextlib.suppress(OSError):  # Another touch follows.
        os.utime(self.path)


def _this_process():
  """What a lock says about its holder."""
  pid = os.getpid()
  return dict(
    host=platform.node(),
    machine=_machine(),
    pid=pid,
    process_started=_process_started(pid),
    time=time.strftime('%Y-%m-%d %H:%M:%S'),
  )


def _machine():
  """Names the machine since its last start, and the processes that are visible
  from this one: containers have their own."""
  parts = [platform.node()]
  with contextlib.suppress(OSError):  # There is no /proc but on Linux.
    parts.append(Path('/proc/sys/kernel/random/boot_id').read_text().strip())
    parts.append(os.readlink('/proc/self/ns/pid'))
  return ' '.join(parts)


def _process_started(pid):
  """When a process started, in clock ticks since the machine's start; 'ended'
  for one that nobody has waited for yet; '' if it is not known."""
  try:
    stat = Path(f'/proc/{pid}/stat').read_text('utf-8', 'replace')
  except OSError:
    return ''
  state, *numbers = stat.rpartition(')')[2].split()
  return 'ended' if state in 'ZX' else numbers[18]


def _read(path):
  """What a lock says about its holder; {} if it is gone, damaged, or not written
  yet."""
  try:
    holder = json.loads(path.read_text('utf-8'))
    kinds = dict(token=str, machine=str, pid=int, process_started=str)
    is_whole = all(type(holder[key]) is kind for key, kind in kinds.items())
  except (OSError, ValueError, TypeError, KeyError):
    return {}
  return holder if is_whole else {}


def _is_running(holder):
  """Whether the process of a holder on this machine lives."""
  try:
    os.kill(holder['pid'], 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # It is another user's.
    pass
  return _process_started(holder['pid']) in ('', holder['process_started'])


def _wait_until_dead(path, holder):
  """Returns when the holder of a lock is dead. Raises UserError if it lives."""
  if holder.get('machine') == _machine():
    if _is_running(holder):
      raise _refusal(path, holder)
    return
  seen = _touched_at(path)
  if seen and _now_at(path) - seen < SILENT:
    print(
      f'{path} is of another machine: waits up to {SILENT:g} seconds to see '
      'whether its run lives',
      flush=True,
    )
  while seen and _now_at(path) - seen < SILENT:
    watchdog.heartbeat()
    if watchdog.terminate_requested():
      raise errors.Terminated
    time.sleep(1)
    touched = _touched_at(path)
    if touched and touched != seen:
      raise _refusal(path, _read(path))
    seen = touched


def _touched_at(path):
  """When a lock was touched, by the clock of its disk; 0 if it is gone."""
  try:
    with open(path, 'rb') as file:  # On NFS opening a file updates its times.
      return os.fstat(file.fileno()).st_mtime
  except FileNotFoundError:
    return 0.0


def _now_at(path):
  """The time by the clock of the disk."""
  probe = path.with_name(f'{FILE}.{uuid.uuid4().hex}')
  with open(probe, 'xb') as file:
    now = os.fstat(file.fileno()).st_mtime
  probe.unlink()
  return now


def _refusal(path, holder):
  return errors.UserError(
    f'the work directory {path.parent} is in use by process '
    f'{holder.get("pid")} on {holder.get("host")}, which began at '
    f'{holder.get("time")}: wait until it has ended, end it, or use another '
    '--workdir'
  )
