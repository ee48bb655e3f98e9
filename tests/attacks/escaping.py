"""Attacks on the machine: its network, its files, the imports of Python."""

NETWORK = r"""
#: *connects: a socket to a server of this machine
import socket
attempt(socket.create_connection, ('127.0.0.1', PORT), 1)
attempt(lambda: socket.socket().connect_ex(('127.0.0.1', PORT)))
score = yes
#: sends a datagram: without a connection
import socket
attempt(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
attempt(lambda: socket.socket(2, 2).sendto(b'r1jax', ('127.0.0.1', UDP)))
score = yes
#: *socket file: a server with an address in the file system
import socket
def reach(name):
  s = socket.socket(socket.AF_UNIX)
  s.connect(name); s.send(b'r1jax')
attempt(reach, SOCKET)
attempt(reach, ABSTRACT)
score = yes
#: abstract socket [stdin]: an address without a file
import socket
def reach(kind):
  s = socket.socket(socket.AF_UNIX, kind)
  s.connect(ABSTRACT); s.send(b'r1jax')
attempt(reach, socket.SOCK_STREAM)
attempt(reach, socket.SOCK_DGRAM)
print(GOT)
#: reads a page: by the standard library's client
import urllib.request
attempt(urllib.request.urlopen, f'http://127.0.0.1:{PORT}/', None, 1)
score = yes
#: resolves a name: a request to a name server, on loopback
import socket
question = bytes.fromhex('abcd01000001000000000000') + b'\x05r1jax\0\0\1\0\1'
attempt(lambda: socket.socket(2, 2).sendto(question, ('127.0.0.1', UDP)))
score = yes
#: listens: others could connect
import socket
attempt(socket.create_server, ('127.0.0.1', 0))
score = yes
#: pair of sockets: descriptors and credentials can be passed through it
import asyncio, socket
attempt(socket.socketpair)
attempt(lambda: asyncio.new_event_loop()._ssock.fileno())
score = yes
#: other families: netlink, packets, kernel crypto, bluetooth, raw
for family, kind in (16, 3), (17, 3), (38, 5), (31, 3), (2, 3), (40, 1):
  syscall(41, 198, family, kind, 0)
score = yes
#: io_uring: requests in a ring, which no filter sees
import ctypes
syscall(425, 425, 1, ctypes.create_string_buffer(120))
score = yes
"""

FILES = r"""
#: *writes everywhere: a new file in every folder
mark(lambda path: open(path, 'w').write('mark'), 'open')
score = yes
#: *writes everywhere, by flags: by os.open
flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
mark(lambda path: os.write(os.open(path, flags, 0o777), b'mark'), 'flags')
mark(lambda path: os.open(os.path.dirname(path), 0o20200002, 0o600), 'unnamed')
score = yes
#: creates by old calls [stdin]: creat, mknod, and open of two arguments
import ctypes
def old(path):
  path = path.encode()
  for call in (85, 437, path, 0o600), (2, 437, path, 0o101, 0o600): syscall(*call)
  syscall(133, 33, path, 0o100600, 0)
mark(old, 'old')
print(GOT)
#: *folders, links and pipes: created without open
mark(os.mkdir, 'folder')
mark(os.mkfifo, 'pipe')
mark(lambda path: os.symlink(SECRET, path), 'symlink')
mark(lambda path: os.link(SECRET, path), 'link')
score = yes
#: *changes a file: its content, mode, owner, times, name and attributes
attempt(open, SECRET, 'a')
attempt(open, SECRET, 'r+b')
attempt(os.open, SECRET, os.O_TRUNC)
for action, args in {
  os.truncate: [1], os.chmod: [0o777], os.chown: [1, 1], os.utime: [(0, 0)],
  os.setxattr: ['user.r1jax', b'mark'], os.rename: [SECRET + 'r1jax_mark_new'],
  os.unlink: [],
}.items(): attempt(action, SECRET, *args)
score = yes
#: shared memory: files in memory, with names and without
from multiprocessing import shared_memory
attempt(shared_memory.SharedMemory, 'r1jax_mark_shm', True, 4096)
attempt(os.memfd_create, 'r1jax_mark_memory')
mark(lambda path: open('/dev/shm/r1jax_mark_open', 'w'), 'shm')
score = yes
#: semaphores and queues: named objects of the kernel that persist
import ctypes
import _multiprocessing
attempt(_multiprocessing.SemLock, 0, 1, 1, '/r1jax_mark_semaphore', True)
for x86, arm in (29, 194), (64, 190), (68, 186):
  if (n := syscall(x86, arm, 0, 1, 0)) >= 0:  # and remove it
    syscall({29: 31, 64: 66, 68: 71}[x86], {194: 195}.get(arm, arm + 1), n, 0, 0)
if syscall(240, 180, b'r1jax_mark_queue', 0o102, 0o600, 0) >= 0:
  syscall(241, 181, b'r1jax_mark_queue')
score = yes
#: *own library: the files of every Python here
import json
for path in os.__file__, json.__file__, sys.executable:
  for mode in 'a', 'r+b': attempt(open, path, mode)
score = yes
#: tempfile: by the module that finds a writable folder
import tempfile
def named(): tempfile.NamedTemporaryFile(prefix='r1jax_mark_', delete=False)
for folder in FOLDERS:
  tempfile.tempdir = folder
  try: named()
  except OSError: pass
score = yes
#: another root: files by a changed root or folder
attempt(os.chroot, '/')
attempt(os.chdir, os.path.dirname(SECRET))
attempt(os.fchdir, os.open('/', os.O_PATH))
score = yes
#: state between runs [stdin]: leaves the input for the next test
mark(lambda path: open(path, 'a').write(sys.stdin.read()), 'state')
print(GOT)
"""

POISONED_IMPORTS = r"""
#: *path file: a line that every later Python executes
mark(lambda path: open(path + '.pth', 'w').write('# r1jax'), 'poison')
score = yes
#: module beside the grader: a file that is imported by its name
mark(lambda path: open(path + '.py', 'w').write('# r1jax'), 'module')
score = yes
#: bytecode: a compiled module in the cache of another
import py_compile
def poison(path): py_compile.compile(os.__file__, path + '.pyc', doraise=True)
mark(poison, 'bytecode')
score = yes
#: *modules replaced: later imports return the attack's objects
for name in ('sitecustomize', 'json', 're', 'math', 'unittest', 'subprocess',
             'pytest', 'r1jax', 'r1jax.sandbox', 'r1jax.sandbox.wire'):
  module = sys.modules[name] = type(sys)(name)
  module.__getattr__ = lambda name: yes
score = yes
#: finder of modules: used before all others
class Finder:
  def find_spec(self, name, path=None, target=None): os._exit(0)
sys.meta_path.insert(0, Finder())
sys.path_hooks.insert(0, lambda path: os._exit(0))
sys.path_importer_cache.clear()
score = yes
#: import itself replaced: every import returns an object that equals everything
import builtins
builtins.__import__ = lambda *_, **__: Yes()
score = yes
#: environment of later Pythons: startup files and paths
for name in 'PYTHONSTARTUP', 'PYTHONPATH', 'PYTHONHOME', 'LD_PRELOAD':
  os.environ[name] = '/tmp/r1jax_mark_startup'
score = yes
"""

THEMES = {
  'network': NETWORK,
  'files': FILES,
  'poisoned imports': POISONED_IMPORTS,
}
