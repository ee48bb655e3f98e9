"""What runs inside the sandbox: it lays the restrictions upon itself, then runs
a program, or answers calls of its functions, one at a time.

It needs the standard library alone, as little of it as possible: a sandboxed
program starts in the time that these imports take. Nothing that it says is
believed; it only chooses what the program answers.
"""

import builtins
import posix
import sys

from r1jax.sandbox import wire

READY = b'ready\n'
FAILED, COMPILE, MEMORY = 1, 123, 124  # exit codes of a program
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_NO_NEW_PRIVS = (
  1,
  4,
  22,
  38,
)
CAPABILITY_VERSION = 0x20080522
SIGKILL = 9
CHUNK = 1 << 16


def main(setup):
  """Runs setup['code'], texts in one namespace, under the restrictions."""
  serving = setup['serve']
  channel = replies() if serving else None
  if setup['restrictions']:
    restrict(setup['restrictions'])
    posix.environ.clear()
    posix.write(2, READY)
  if serving:
    serve(setup, *channel)
  else:
    run(setup)


def run(setup):
  """The program, as if it had been started by its name; does not return."""
  module = room('__main__')
  problem, code = prepared(setup['code'])
  if not problem:
    problem = execute(code, module.__dict__)
  if problem is None:
    return
  kind, message = problem
  posix.write(2, message.encode('utf-8', 'backslashreplace'))
  sys.exit(dict(compile=COMPILE, memory=MEMORY).get(kind, FAILED))


def replies():
  """(where requests come from, where replies go), away from 0 to 2, which
  then lead nowhere."""
  nowhere = posix.open('/dev/null', posix.O_RDWR)
  channel = posix.dup(0), posix.dup(1)
  posix.dup2(nowhere, 0)
  posix.dup2(nowhere, 1)
  posix.close(nowhere)
  return channel


def serve(setup, requests, answers):
  """Loads the program, says how that went, then answers calls to the end."""
  limit = setup['output']
  nowhere = posix.open('/dev/null', posix.O_RDWR)
  posix.dup2(nowhere, 2)
  posix.close(nowhere)

  def reply(value):
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
      line = line[posix.write(answers, line) :]

  module = room('program')
  problem, code = prepared(setup['code'])
  if not problem:
    problem = execute(code, module.__dict__)
  if problem is None and setup['say_loaded']:
    reply(('loaded', ''))
  elif problem is not None:
    reply(problem)
    posix._exit(FAILED)
  for line in lines(requests):
    reply(called(module.__dict__, *wire.decode(line)))
  posix._exit(0)


def called(namespace, name, args, kwargs):
  """What a call gave, and its arguments where it changed them."""
  try:
    if name not in namespace:
      return 'error', f'there is no {name!r} in the program'
    before = seen((args, kwargs))
    value = namespace[name](*args, **kwargs)
    changed = seen((args, kwargs)) != before
    return 'value', value, (args, kwargs) if changed else None
  except BaseException as error:
    return 'raised', type(error).__name__, told(error)


def seen(value):
  """The value's text, to see whether a call has changed it."""
  try:
    return wire.encode(value, sys.maxsize)
  except BaseException:
    return None


def prepared(texts):
  """(None or what is wrong, the compiled texts)."""
  try:
    return None, [compile(text, 'program', 'exec') for text in texts]
  except MemoryError:
    return ('memory', 'the compiler had too little memory'), None
  except BaseException as error:
    return ('compile', told(error)), None


def execute(code, namespace):
  """None, or (kind, message) of how it failed."""
  try:
    for part in code:
      exec(part, namespace)
  except SystemExit as error:
    if error.code not in (None, 0):
      return 'error', f'exit with {str(error.code)[:200]}'
  except MemoryError:
    return 'memory', 'MemoryError'
  except BaseException as error:
    return 'error', told(error)
  return None


def told(error):
  """An exception for a person: its type, its message, its line."""
  try:
    message = f'{type(error).__name__}: {str(error)[:500]}'.removesuffix(': ')
    trace, line = error.__traceback__, None
    while trace is not None:
      if trace.tb_frame.f_code.co_filename == 'program':
        line = trace.tb_lineno
      trace = trace.tb_next
    return message if line is None else f'{message} (line {line})'
  except BaseException:
    return 'an exception without words'


def room(name):
  """A module of the program's own."""
  module = type(sys)(name)
  sys.modules[name] = module
  module.__dict__['__builtins__'] = builtins
  # Programs end so, though it is `site`, which is not imported, that has it.
  builtins.exit = builtins.quit = leave
  sys.meta_path.insert(0, Threading())
  return module


def leave(code=None):
  raise SystemExit(code)


class Threading:
  """Makes `threading` one whose threads run when they are started: recursive
  programs take a thread for its larger stack, and the kernel is asked for none.
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


def lines(fd):
  """Lines that come through a pipe, to its end."""
  pending = b''
  while chunk := posix.read(fd, CHUNK):
    pending += chunk
    while b'\n' in pending:
      line, _, pending = pending.partition(b'\n')
      yield line.decode()


def restrict(plan):
  """Denies this process what plan says; raises OSError where that fails."""
  number = plan['numbers']
  syscall, errno, address = kernel()

  def ask(name, *args):
    result = syscall(number[name], *args, *[0] * (6 - len(args)))
    if result < 0:
      raise OSError(errno(), f'{name} failed', str(args))
    return result

  ask('prctl', PR_SET_PDEATHSIG, SIGKILL)
  if plan['parent'] not in (0, posix.getppid()):
    posix._exit(FAILED)
  ask('prctl', PR_SET_DUMPABLE, 0)
  ask('prctl', PR_NO_NEW_PRIVS, 1)
  header = CAPABILITY_VERSION.to_bytes(4, sys.byteorder) + bytes(4)
  ask('capset', address(header), address(bytes(24)))
  for resource, most in plan['rlimits']:
    ask('prlimit64', 0, resource, address(word(most) * 2), 0)
  if plan['landlock']:
    ruleset, rules = plan['landlock']
    fd = ask('landlock_create_ruleset', address(ruleset), len(ruleset), 0)
    for path, rights in rules:
      beneath = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
      rule = word(rights) + beneath.to_bytes(4, sys.byteorder)
      ask('landlock_add_rule', fd, 1, address(rule), 0)
      posix.close(beneath)
    ask('landlock_restrict_self', fd, 0)
    posix.close(fd)
  program = plan['filter']
  length = (len(program) // 8).to_bytes(8, sys.byteorder)
  pointed = length + word(address(program))
  ask('prctl', PR_SET_SECCOMP, 2, address(pointed))


def word(number):
  return number.to_bytes(8, sys.byteorder)


def kernel():
  """(syscall, errno, address of a copy of some bytes); `ctypes` itself takes
  four of the seven milliseconds that a program needs to start."""
  import _ctypes

  class Long(_ctypes._SimpleCData):
    _type_ = 'l'

  class Character(_ctypes._SimpleCData):
    _type_ = 'c'

  class Call(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = Long
    _argtypes_ = (Long,) * 7

  kept = []

  def address(data):
    class Copy(_ctypes.Array):
      _type_, _length_ = Character, len(data)

    kept.append(Copy.from_buffer_copy(data))
    return _ctypes.addressof(kept[-1])

  call = Call(_ctypes.dlsym(_ctypes.dlopen(None, 2), 'syscall'))
  return call, _ctypes.get_errno, address
