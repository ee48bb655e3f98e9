"""The driver inside the sandbox: restricts its process, then runs a program or
serves calls of the program's functions.

It imports little, since a sandboxed program starts in the time that imports
take. What it sends is not trusted, since the program can change it.
"""

import builtins
import posix
import sys

from r1jax.sandbox import modules, wire

# Replies before the one to a call: its computation begins, and has ended.
CALLED, RETURNED = ('called', ''), ('returned', '')
READY = b'ready\n'  # on stderr, after the restrictions
EXIT_CODES = {'passed': 0, 'error': 1, 'compile': 123, 'memory': 124}
STREAMS = {'/dev/stdin': 0, '/dev/stdout': 1, '/dev/stderr': 2}
SIGKILL = 9
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
PR_SET_SECCOMP, PR_NO_NEW_PRIVS = 22, 38
MAX_CALLS_FROM_C = 50_000  # nested; kernel.STACK has 2 KiB for each
CAPABILITY_VERSION = 0x20080522


def main(
  serve: bool, texts: list, limit: int, restrictions: dict, given: dict
) -> None:
  """Runs the texts, or serves calls of their functions with answers of at most
  `limit` characters. A service, which restricts the process, passes {}. `given`
  has the names, files and packages of the program."""
  if restrictions:
    _restrict(restrictions)
    posix.environ.clear()
    posix.write(2, READY)
  sys.meta_path.insert(0, modules.Finder(given.get('packages', {})))
  if serve:
    _serve(texts, limit, given, is_local=bool(restrictions))
  problem, _ = _load('__main__', texts, given)
  if problem:
    kind, message = problem
    posix.write(2, message.encode('utf-8', 'backslashreplace'))
    sys.exit(EXIT_CODES[kind])


def _serve(texts, limit, given, is_local):
  """Loads a program, reports the result, answers calls until the end and exits.

  With a service, every call has its own process and one reply.
  """
  requests, replies = open(posix.dup(0), 'rb'), posix.dup(1)
  null = posix.open('/dev/null', posix.O_RDWR)
  for descriptor in range(3):
    posix.dup2(null, descriptor)
  posix.close(null)
  problem, namespace = _load('program', texts, given)
  if problem:
    _reply(replies, problem, limit)
    posix._exit(1)

  def report(stage):
    if is_local:
      _reply(replies, stage, limit)

  report(('loaded', ''))
  for line in requests:
    call = wire.decode(line.decode().removesuffix('\n'))
    _reply(replies, _call(namespace, report, *call), limit)
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


def _call(namespace, report, name, args, kwargs):
  """The reply to a call: its value, and its arguments if it changed them.
  `report` is called directly before and after the call."""
  before, raised = _text((args, kwargs)), None
  report(CALLED)
  try:
    function = _function(namespace, name)
    if function is None:
      return 'error', f'there is no {name!r} in the program'
    value = function(*args, **kwargs)
  except BaseException as error:
    names = [kind.__name__ for kind in type(error).__mro__]
    raised = 'raised', names, _describe(error)
  report(RETURNED)
  if raised:
    return raised
  changed = _text((args, kwargs)) != before
  return 'value', value, (args, kwargs) if changed else None


def _function(namespace, name):
  """A method 'CLASS.NAME' of a new object; NAME alone is a method of a class
  Solution if that has it, or else a function. None if missing."""
  owner, _, name = name.rpartition('.')
  kind = namespace.get(owner or 'Solution')
  if isinstance(kind, type) and (owner or hasattr(kind, name)):
    return getattr(kind(), name, None)
  return namespace.get(name)


def _text(value):
  """The encoded value, None if it cannot be encoded."""
  try:
    return wire.encode(value, sys.maxsize)
  except BaseException:
    return None


def _load(name, texts, given):
  """(None or the problem's kind and message, namespace) of a new module in
  which the texts are run."""
  module = sys.modules[name] = type(sys)(name)
  namespace = module.__dict__
  namespace['__builtins__'] = builtins
  # Programs call exit(), which is defined by `site`, which is not imported.
  builtins.exit = builtins.quit = sys.exit
  problem, stage = None, 'compile'
  try:
    code = [compile(text, 'program', 'exec') for text in texts]
    stage = 'error'
    _deepen_calls_from_c()
    if given.get('recursion'):
      sys.setrecursionlimit(given['recursion'])
      for part in code:
        provide(part, given['names'], namespace)
    if given.get('files'):
      _show_files(given['files'])
    if any('/dev/std' in text for text in texts):
      _name_streams()
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


def provide(code, names: dict, namespace: dict) -> None:
  """Imports the names that the code uses, from {name: (module, attribute)}."""
  for name in code.co_names:
    if name in names and name not in namespace:
      module, attribute = names[name]
      found = __import__(module)
      namespace[name] = getattr(found, attribute) if attribute else found
  for part in code.co_consts:
    if type(part) is type(code):
      provide(part, names, namespace)


def _deepen_calls_from_c():
  """Python 3.12 and 3.13 allow few nested calls from C, as of cached functions,
  whatever the recursion limit. The limit follows sys.getrecursionlimit() in the
  state of the thread."""
  if not (3, 12) <= sys.version_info < (3, 14):
    return
  try:
    import _ctypes
  except ImportError:  # at a service
    return

  class Address(_ctypes._SimpleCData):
    _type_ = 'P'

  class Int(_ctypes._SimpleCData):
    _type_ = 'i'

  class Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = Address

  state = Function(
    _ctypes.dlsym(_ctypes.dlopen(None, 2), 'PyThreadState_Get')
  )()
  for offset in range(24, 96, 4):
    remaining = Int.from_address(state + offset + 4)
    is_limit = Int.from_address(state + offset).value == sys.getrecursionlimit()
    if is_limit and 0 < remaining.value <= 10_000:
      remaining.value = MAX_CALLS_FROM_C
      return


def _show_files(files):
  """Lets open() read {name: text}, as arguments of the program."""
  import io

  def show(name, mode='r', *args, **kwargs):
    if type(name) is not int and str(name) in files and set(mode) <= set('rbt'):
      text = files[str(name)]
      if 'b' in mode:
        return io.BytesIO(text.encode('utf-8', 'surrogateescape'))
      return io.StringIO(text)
    return opened(name, mode, *args, **kwargs)

  import posixpath

  opened, io.open, builtins.open = open, show, show
  for name in 'exists', 'isfile':
    setattr(posixpath, name, lambda path: str(path) in files)
  sys.argv[:] = ['program', *files]


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


def _name_streams():
  """Lets open() read and write the streams by their names, which are links to
  files of /proc."""

  def open_stream(name, *args, **kwargs):
    return opened(STREAMS.get(str(name), name), *args, **kwargs)

  opened, builtins.open = open, open_stream


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
