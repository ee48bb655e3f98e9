"""The driver inside the sandbox: restricts its process, then runs a program or
serves calls of the program's functions.

It imports little, since a sandboxed program starts in the time that imports
take. What it sends is not trusted, since the program can change it.
"""

import builtins
import posix
import sys

from r1jax.sandbox import wire

READY = b'ready\n'  # on stderr, after the restrictions
EXIT_CODES = {'passed': 0, 'error': 1, 'compile': 123, 'memory': 124}
SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_SECCOMP, PR_NO_NEW_PRIVS = 22, 38
CAPABILITY_VERSION = 0x20080522


def main(serve: bool, texts: list, limit: int, restrictions: dict) -> None:
  """Runs the texts, or serves calls of their functions with answers of at most
  `limit` characters. A service, which restricts the process, passes {}."""
  if restrictions:
    _restrict(restrictions)
    posix.environ.clear()
    posix.write(2, READY)
  if serve:
    _serve(texts, limit, is_local=bool(restrictions))
  problem, _ = _load('__main__', texts)
  if problem:
    kind, message = problem
    posix.write(2, message.encode('utf-8', 'backslashreplace'))
    sys.exit(EXIT_CODES[kind])


def _serve(texts, limit, is_local):
  """Loads a program, reports the result, answers calls until the end and exits.

  With a service, every call has its own process and one reply.
  """
  requests, replies = open(posix.dup(0), 'rb'), posix.dup(1)
  null = posix.open('/dev/null', posix.O_RDWR)
  for descriptor in range(3):
    posix.dup2(null, descriptor)
  posix.close(null)
  problem, namespace = _load('program', texts)
  if problem:
    _reply(replies, problem, limit)
    posix._exit(1)
  if is_local:
    _reply(replies, ('loaded', ''), limit)
  for line in requests:
    call = wire.decode(line.decode().removesuffix('\n'))
    _reply(replies, _call(namespace, *call), limit)
  posix._exit(0)


def _reply(descriptor, value, limit):
  try:
    line = wire.encode(value, limit)
  except wire.TooBig:
    line = wire.encode(('output', 'an answer was too long'), limit)
  except MemoryError:
    line = wire.encode(('memory', 'an answer was too long'), limit)
  except BaseException as error:
    line = wire.encode(('error', type(error).__name__), limit)
  line = line.encode() + b'\n'
  while line:
    line = line[posix.write(descriptor, line) :]


def _call(namespace, name, args, kwargs):
  """The reply to a call: its value, and its arguments if it changed them."""
  try:
    if name not in namespace:
      return 'error', f'there is no {name!r} in the program'
    before = _text((args, kwargs))
    value = namespace[name](*args, **kwargs)
    changed = _text((args, kwargs)) != before
    return 'value', value, (args, kwargs) if changed else None
  except BaseException as error:
    return 'raised', type(error).__name__, _describe(error)


def _text(value):
  """The encoded value, None if it cannot be encoded."""
  try:
    return wire.encode(value, sys.maxsize)
  except BaseException:
    return None


def _load(name, texts):
  """(None or the problem's kind and message, namespace) of a new module in
  which the texts are run."""
  module = sys.modules[name] = type(sys)(name)
  namespace = module.__dict__
  namespace['__builtins__'] = builtins
  # Programs call exit(), which is defined by `site`, which is not imported.
  builtins.exit = builtins.quit = sys.exit
  sys.meta_path.insert(0, _ThreadingFinder())
  problem, stage = None, 'compile'
  try:
    code = [compile(text, 'program', 'exec') for text in texts]
    stage = 'error'
    for part in code:
      exec(part, namespace)
  except SystemExit as error:
    if error.code not in (None, 0):
      problem = 'error', f'exit with {str(error.code)[:200]}'
  except MemoryError:
    problem = 'memory', 'MemoryError'
  except BaseException as error:
    problem = stage, _describe(error)
  return problem, namespace


def _describe(error):
  """An exception's type, message and line in the program."""
  try:
    message = f'{type(error).__name__}: {str(error)[:500]}'.removesuffix(': ')
    trace, line = error.__traceback__, None
    while trace is not None:
      if trace.tb_frame.f_code.co_filename == 'program':
        line = trace.tb_lineno
      trace = trace.tb_next
    return message if line is None else f'{message} (line {line})'
  except BaseException:
    return 'an exception that cannot be shown'


class _ThreadingFinder:
  """Imports `threading` so that a thread, which the kernel denies, runs within
  start(): recursive programs use one for its larger stack."""

  def find_spec(self, name, path, target=None):
    if name != 'threading':
      return None
    sys.meta_path.remove(self)
    import threading

    threading.Thread.start = lambda thread: thread.run()
    threading.Thread.join = lambda thread, timeout=None: None
    threading.Thread.is_alive = lambda thread: False
    self.module = threading
    del sys.modules[name]
    return type(threading.__spec__)(name, self)

  def create_module(self, spec):
    return self.module

  def exec_module(self, module):
    pass


def _restrict(restrictions):
  """Applies kernel.restrictions to this process. Raises OSError on failure."""
  call, address = _system_calls(restrictions['numbers'])
  call('prctl', PR_SET_PDEATHSIG, SIGKILL)
  if restrictions['parent'] not in (0, posix.getppid()):
    posix._exit(1)
  call('prctl', PR_SET_DUMPABLE, 0)
  call('prctl', PR_NO_NEW_PRIVS, 1)
  header = CAPABILITY_VERSION.to_bytes(4, sys.byteorder) + bytes(4)
  call('capset', address(header), address(bytes(24)))
  for resource, maximum in restrictions['rlimits']:
    call('prlimit64', 0, resource, address(_word(maximum) * 2), 0)
  if restrictions['landlock']:
    ruleset, rules = restrictions['landlock']
    fd = call('landlock_create_ruleset', address(ruleset), len(ruleset), 0)
    for path, rights in rules:
      beneath = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
      rule = _word(rights) + beneath.to_bytes(4, sys.byteorder)
      call('landlock_add_rule', fd, 1, address(rule), 0)
      posix.close(beneath)
    call('landlock_restrict_self', fd, 0)
    posix.close(fd)
  program = restrictions['filter']
  length = (len(program) // 8).to_bytes(8, sys.byteorder)
  call('prctl', PR_SET_SECCOMP, 2, address(length + _word(address(program))))


def _word(number):
  return number.to_bytes(8, sys.byteorder)


def _system_calls(numbers):
  """(call(name, *args), address(data): the address of a copy of some bytes)."""
  import _ctypes  # `ctypes` itself would double the time of a program's start

  class Long(_ctypes._SimpleCData):
    _type_ = 'l'

  class Character(_ctypes._SimpleCData):
    _type_ = 'c'

  class Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = Long
    _argtypes_ = (Long,) * 7

  syscall = Function(_ctypes.dlsym(_ctypes.dlopen(None, 2), 'syscall'))
  copies = []  # keeps them alive

  def call(name, *args):
    result = syscall(numbers[name], *args, *[0] * (6 - len(args)))
    if result < 0:
      raise OSError(_ctypes.get_errno(), f'{name} failed', str(args))
    return result

  def address(data):
    class Copy(_ctypes.Array):
      _type_, _length_ = Character, len(data)

    copies.append(Copy.from_buffer_copy(data))
    return _ctypes.addressof(copies[-1])

  return call, address
