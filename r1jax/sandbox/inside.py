"""The driver inside the sandbox: restricts its process, then runs a program or
serves calls of the program's functions.

It imports as little as possible: a sandboxed program starts in the time that
these imports take. The trusted process does not trust what the driver sends,
since the program can change it.
"""

import builtins
import posix
import sys

from r1jax.sandbox import wire

READY = b'ready\n'  # on stderr, after the restrictions
FAILED, COMPILE, MEMORY = 1, 123, 124  # exit codes of a program
SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_SECCOMP, PR_NO_NEW_PRIVS = 22, 38
CAPABILITY_VERSION = 0x20080522
CHUNK = 1 << 16


def main(
  serve: bool, texts: list, max_output: int, restrictions: dict | None
) -> None:
  """Runs the texts in one namespace, or serves calls of their functions.

  A service applies restrictions of its own.
  """
  if serve:
    channel = posix.dup(0), posix.dup(1)
    _redirect_to_null(0, 1)
  if restrictions:
    _restrict(restrictions)
    posix.environ.clear()
    posix.write(2, READY)
  if serve:
    _serve(texts, *channel, max_output, is_local=bool(restrictions))
  else:
    _run(texts)


def _run(texts):
  problem, _ = _load('__main__', texts)
  if problem is None:
    return
  kind, message = problem
  posix.write(2, message.encode('utf-8', 'backslashreplace'))
  if kind == 'compile':
    sys.exit(COMPILE)
  sys.exit(MEMORY if kind == 'memory' else FAILED)


def _redirect_to_null(*descriptors):
  null = posix.open('/dev/null', posix.O_RDWR)
  for descriptor in descriptors:
    posix.dup2(null, descriptor)
  posix.close(null)


def _serve(texts, requests, replies, max_output, is_local):
  """Loads a program, reports the result, then answers calls until the end.

  At a service, every call has a process of its own and one reply.
  """
  _redirect_to_null(2)
  problem, namespace = _load('program', texts)
  if problem is not None:
    _reply(replies, problem, max_output)
    posix._exit(FAILED)
  if is_local:
    _reply(replies, ('loaded', ''), max_output)
  for line in _lines(requests):
    _reply(replies, _call(namespace, *wire.decode(line)), max_output)
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
  builtins.exit = builtins.quit = _exit
  sys.meta_path.insert(0, _ThreadingFinder())
  try:
    code = [compile(text, 'program', 'exec') for text in texts]
  except MemoryError:
    return ('memory', 'the compiler had too little memory'), namespace
  except BaseException as error:
    return ('compile', _describe(error)), namespace
  problem = None
  try:
    for part in code:
      exec(part, namespace)
  except SystemExit as error:
    if error.code not in (None, 0):
      problem = 'error', f'exit with {str(error.code)[:200]}'
  except MemoryError:
    problem = 'memory', 'MemoryError'
  except BaseException as error:
    problem = 'error', _describe(error)
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


def _exit(code=None):
  raise SystemExit(code)


class _ThreadingFinder:
  """Imports `threading` so that a thread runs within start().

  Recursive programs use a thread for its larger stack; the kernel allows none.
  """

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


def _lines(descriptor):
  """Lines from a pipe, to its end."""
  pending = b''
  while chunk := posix.read(descriptor, CHUNK):
    pending += chunk
    while b'\n' in pending:
      line, _, pending = pending.partition(b'\n')
      yield line.decode()


def _restrict(restrictions):
  """Applies kernel.restrictions to this process. Raises OSError on failure."""
  call, address = _system_calls(restrictions['numbers'])
  call('prctl', PR_SET_PDEATHSIG, SIGKILL)
  if restrictions['parent'] not in (0, posix.getppid()):
    posix._exit(FAILED)
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
  """(call(name, *args), address(data): the address of a copy of some bytes).

  Importing `ctypes` itself takes four of the seven milliseconds in which a
  program starts.
  """
  import _ctypes

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
