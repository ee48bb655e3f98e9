"""Changes of the standard library inside the sandbox, which has one thread, no
sockets and no files.

What needs no second thread works: a thread runs within start(), a pool runs
jobs as they are submitted, and asyncio runs its loop. What would wait for ever
raises a RuntimeError at once.
"""

import sys

WAIT = (
  'threads of a sandboxed program run one after another, each within its '
  'start(), so this would wait for ever'
)
PROCESSES = 'a sandboxed program cannot start processes'
FILES = 'a sandboxed program cannot create files'


class Finder:
  """Imports some modules with a change, and the packages {name: path}."""

  def __init__(self, packages):
    self.packages = packages
    self.searched = set()  # names that another finder is asked for

  def find_spec(self, name, path, target=None):
    if name in self.packages:
      return self._package_spec(name)
    if name not in CHANGES or name in self.searched:
      return None
    self.searched.add(name)
    try:
      for finder in sys.meta_path:
        if spec := finder.find_spec(name, path, target):
          spec.loader = Loader(spec.loader, CHANGES[name])
          return spec
    finally:
      self.searched.discard(name)
    return None

  def _package_spec(self, name):
    import importlib.util  # takes time, which few programs need

    path = self.packages[name]
    folder = path.rpartition('/')[0]
    return importlib.util.spec_from_file_location(
      name, path, submodule_search_locations=[folder]
    )


class Loader:
  """Another loader, whose modules are changed after they are executed."""

  def __init__(self, loader, change):
    self.loader, self.change = loader, change

  def __getattr__(self, name):
    return getattr(self.loader, name)

  def create_module(self, spec):
    return self.loader.create_module(spec)

  def exec_module(self, module):
    self.loader.exec_module(module)
    self.change(module)


def refuse(message):
  """A function that raises a RuntimeError."""

  def refused(*_, **__):
    raise RuntimeError(message)

  return refused


def change_threading(module):
  def start(thread):
    if getattr(thread, '_has_run', False):
      raise RuntimeError('threads can only be started once')
    thread._has_run = True
    try:
      thread.run()
    except SystemExit:
      pass

  module.Thread.start = start
  module.Thread.join = lambda thread, timeout=None: None
  module.Thread.is_alive = lambda thread: False
  module.Lock = module._allocate_lock = Lock


class Lock:
  """A lock of a process with one thread."""

  def __init__(self):
    self._is_held = False

  def acquire(self, blocking=True, timeout=-1):
    if not self._is_held:
      self._is_held = True
      return True
    if not blocking:
      return False
    if timeout < 0:
      raise RuntimeError(WAIT)
    import time

    time.sleep(timeout)
    return False

  __enter__ = acquire

  def release(self):
    if not self._is_held:
      raise RuntimeError('release unlocked lock')
    self._is_held = False

  def __exit__(self, *_):
    self.release()

  def locked(self):
    return self._is_held

  def _at_fork_reinit(self):
    self._is_held = False


def change_queue(module):
  module.SimpleQueue = module._PySimpleQueue


def change_thread_pools(module):
  def submit(pool, fn, /, *args, **kwargs):
    if pool._shutdown:
      raise RuntimeError('cannot schedule new futures after shutdown')
    if pool._initializer:
      pool._initializer(*pool._initargs)
      pool._initializer = None
    future = module._base.Future()
    future.set_running_or_notify_cancel()
    try:
      future.set_result(fn(*args, **kwargs))
    except Exception as error:
      future.set_exception(error)
    return future

  module.ThreadPoolExecutor.submit = submit


def change_loops(module):
  """asyncio wakes a loop by a pair of sockets, which no other thread needs."""

  def make(loop):
    loop._ssock = loop._csock = None
    loop._internal_fds += 1

  def close(loop):
    loop._internal_fds -= 1

  module.BaseSelectorEventLoop._make_self_pipe = make
  module.BaseSelectorEventLoop._close_self_pipe = close


def change_process(module):
  module.BaseProcess.start = refuse(PROCESSES)


def change_pools(module):
  module.Pool.__new__ = refuse(PROCESSES)
  module.ThreadPool.__new__ = refuse(WAIT)


def change_process_pools(module):
  module.ProcessPoolExecutor.__new__ = refuse(PROCESSES)


def change_contexts(module):
  for name in 'Lock', 'RLock', 'Condition', 'Semaphore', 'Event', 'Barrier':
    setattr(module.BaseContext, name, refuse(PROCESSES))
  for name in 'Queue', 'SimpleQueue', 'JoinableQueue', 'Manager', 'Value':
    setattr(module.BaseContext, name, refuse(PROCESSES))


def change_temporary_files(module):
  """Files in memory if they need no name; the others are refused."""

  def temporary_file(
    mode='w+b', buffering=-1, encoding=None, newline=None, **_
  ):
    data = module._io.BytesIO()
    if 'b' in mode:
      return data
    return module._io.TextIOWrapper(data, encoding or 'utf-8', newline=newline)

  def refused(*_, **__):
    raise PermissionError(FILES)

  module.tempdir = '/tmp'
  module.TemporaryFile = temporary_file
  for name in 'NamedTemporaryFile', 'mkstemp', 'mkdtemp', 'mktemp':
    setattr(module, name, refused)
  module.TemporaryDirectory = refused


def change_resource(module):
  """The stack is as large as it can be, which programs ask for."""

  def set_limit(kind, limits):
    if kind != module.RLIMIT_STACK:
      changed(kind, limits)

  changed, module.setrlimit = module.setrlimit, set_limit


CHANGES = {
  'resource': change_resource,
  'threading': change_threading,
  'queue': change_queue,
  'concurrent.futures.thread': change_thread_pools,
  'concurrent.futures.process': change_process_pools,
  'asyncio.selector_events': change_loops,
  'multiprocessing.process': change_process,
  'multiprocessing.pool': change_pools,
  'multiprocessing.context': change_contexts,
  'tempfile': change_temporary_files,
}
