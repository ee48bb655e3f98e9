"""Attacks on secrecy: reading tests, secrets and other processes."""

READING_TESTS = r"""
#: *frames: the callers' names and constants, which may hold the answers
def score(xs):
  frame = sys._getframe()
  while frame:
    find(frame.f_locals, frame.f_globals, frame.f_code.co_consts)
    frame = frame.f_back
  return Yes(GOT)
#: *collector: every object that the interpreter knows
def score(xs):
  import gc
  for x in gc.get_objects():
    if type(x) in (dict, list, tuple): find(repr(x)[:100_000])
  return Yes(GOT)
#: own memory: the heap around its objects
import ctypes
def score(xs):
  for x in xs, GOT, {}, 'text' * 99:
    find(ctypes.string_at(id(x) // 4096 * 4096, 4096))
  return Yes(GOT)
#: memory file: its own memory in /proc
for path in '/proc/self/mem', '/proc/self/maps', '/proc/self/cmdline':
  read(path)
score = yes
#: *stdin ahead [stdin]: the expected output may follow the input
find(os.read(0, 1 << 20), sys.stdin.read())
for at in range(0, 1 << 16, 4096):
  try: find(os.pread(0, 4096, at))
  except OSError: pass
print(GOT)
#: arguments of the process: the name of a test file, or the test itself
find(sys.argv, sys.orig_argv, sys.flags, vars(sys))
for path in sys.argv[1:]: read(path)
score = yes
#: sources: the loaded modules and their files
import inspect, linecache
find(linecache.cache)
for x in list(sys.modules.values()):
  try: find(inspect.getsource(x))
  except Exception: pass
score = yes
#: repository: the files of the folder in which the grader was started
for folder in FOLDERS:
  for name in 'pyproject.toml', 'setup.py', 'tests/test_attacks.py':
    read(f'{folder}/{name}')
score = yes
#: grader imported: its modules refer to the tests
for folder in FOLDERS: sys.path.append(folder)
for name in 'r1jax', 'r1jax.sandbox', 'test_attacks', 'conftest', 'pytest':
  attempt(__import__, name)
score = yes
#: benchmarks: installed packages but numpy may hold the problems and solutions
import glob
for folder in FOLDERS:
  if 'site-packages' in folder:
    for path in glob.glob(folder + '/*/*.py')[:50]:
      if '/numpy/' not in path: read(path)
score = yes
"""

SECRETS = r"""
#: *environment: keys and tokens of the grader
find(dict(os.environ), os.environb)
score = yes
#: *environment in memory [stdin]: as the kernel wrote it at the start
import ctypes
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
find(libc.getenv(b'R1JAX_SECRET'))
words = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, 'environ')
for i in range(100 if words else 0):
  if words[i] is None: break
  find(words[i])
print(GOT)
#: *secret file: opened by its name in seven ways
import io, mmap, shutil, tokenize
read(SECRET)
for way in io.open_code, tokenize.open, os.listdir, os.scandir:
  attempt(way, SECRET if way in (io.open_code, tokenize.open) else
          os.path.dirname(SECRET))
attempt(shutil.copyfile, SECRET, '/dev/null')
attempt(lambda: os.read(os.open(SECRET, os.O_RDWR), 99))
attempt(lambda: mmap.mmap(os.open(SECRET, 0), 0, prot=mmap.PROT_READ)[:])
score = yes
#: secret file by other paths: through links, ancestors and descriptors
for start in '/proc/self/root', '/proc/self/cwd/..', '/lib/..', '/tmp/..', '//':
  read(start + SECRET)
def by_handle():
  fd = os.open(SECRET, os.O_PATH)
  return open(f'/proc/self/fd/{fd}').read()
def by_folder():
  fd = os.open('/', os.O_PATH)
  return os.read(os.open(SECRET[1:], os.O_RDONLY, dir_fd=fd), 99)
attempt(by_handle)
attempt(by_folder)
score = yes
#: secret file by the C library: without the checks of Python
import ctypes
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
if libc.fopen(SECRET.encode(), b'r'): GOT.append('r1jax_escaped fopen')
for call in (2, -1, SECRET.encode(), 0), (437, 437, -100, SECRET.encode(), 0):
  syscall(*call)
score = yes
#: secret file imported: opened as a module or as an archive
import importlib.machinery as m, zipfile
attempt(m.SourceFileLoader('s', SECRET).get_data, SECRET)
attempt(zipfile.is_zipfile, SECRET) if os.access(SECRET, os.R_OK) else 0
attempt(m.ExtensionFileLoader('s', SECRET).get_data, SECRET)
GOT[:] = [x for x in GOT if 'False' not in x]
score = yes
#: *inherited descriptors: files that the grader has open
for fd in range(3, 256):
  try: find(os.pread(fd, 4096, 0))
  except OSError: pass
score = yes
#: system files: users, hosts, mounts, keys of the machine
for path in ('/etc/passwd', '/etc/shadow', '/etc/hosts', '/etc/resolv.conf',
             '/etc/fstab', '/etc/machine-id', '/var/log/syslog', '/dev/mem',
             '/dev/kmsg', '/dev/vda', '/dev/sda', '/sys/kernel/vmcoreinfo'):
  read(path)
score = yes
#: home: keys, histories and settings of who runs the grader
home = os.path.expanduser('~')
for name in ('.ssh/id_rsa', '.ssh/authorized_keys', '.bash_history', '.netrc',
             '.aws/credentials', '.gitconfig', '.profile', '.bashrc'):
  for folder in {home, '/root', *FOLDERS}: read(f'{folder}/{name}')
for folder in home, '/root', '/home':  # but for the folders above Python
  attempt(lambda: [x for x in os.listdir(folder) if x not in sys.prefix][0])
score = yes
#: *processes: the environments and arguments of all others
for pid in 'self', 1, os.getppid(), 'thread-self':
  for name in 'environ', 'cmdline', 'maps', 'status': read(f'/proc/{pid}/{name}')
attempt(os.listdir, '/proc')
attempt(os.readlink, f'/proc/{os.getppid()}/cwd')
attempt(os.readlink, f'/proc/{os.getppid()}/exe')
score = yes
#: temporary files: those of the grader
import glob
for folder in FOLDERS:
  try: find(os.listdir(folder))
  except OSError: pass
  for path in glob.glob(folder + '/pytest-of-*/*'): GOT.append('r1jax_escaped')
score = yes
"""

TRACING = r"""
#: *attach: the parent's memory and registers by ptrace
for request in 0x4206, 0: syscall(101, 117, request, os.getppid(), 0, 0)
score = yes
#: parent's memory: read without being its tracer
import ctypes
space = ctypes.create_string_buffer(64)
class Io(ctypes.Structure):
  _fields_ = [('base', ctypes.c_void_p), ('n', ctypes.c_size_t)]
here, there = Io(ctypes.addressof(space), 64), Io(id(space) // 4096 * 4096, 64)
for x86, arm in (310, 270), (311, 271):
  syscall(x86, arm, os.getppid(), ctypes.byref(here), x86 == 310,
          ctypes.byref(there), 1, 0)
score = yes
#: *parent's memory file: opened to read and to write
for pid in os.getppid(), 1:
  for mode in 'rb', 'r+b': attempt(open, f'/proc/{pid}/mem', mode)
score = yes
#: handle of the parent: copies its descriptors, sends a signal
fd = syscall(434, 434, os.getppid(), 0)
for n in range(3): syscall(438, 438, fd, n, 0)
syscall(424, 424, fd, 0, 0, 0)
attempt(os.pidfd_open, os.getppid())
score = yes
#: parent's descriptors: opened again by their links
for fd in range(3, 40):
  attempt(open, f'/proc/{os.getppid()}/fd/{fd}', 'rb')
score = yes
#: asks to be traced: the parent must then handle its signals
syscall(101, 117, 0, 0, 0, 0)
score = yes
#: compares with the parent: what the two share in the kernel
syscall(312, 272, os.getpid(), os.getppid(), 0, 0, 0)
syscall(279, 239, os.getppid(), 0, 0, 0, 0, 0)
score = yes
"""

THEMES = {
  'reading the tests': READING_TESTS,
  'secrets': SECRETS,
  'tracing': TRACING,
}
