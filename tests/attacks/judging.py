"""Attacks on the judge of a set: its checkers, limits, names and comparisons."""

CHECKERS = r"""
#: *prints a score [checker]: the checker's own word for a right output
print(1)
#: prints many scores [checker]: one of them may be read as the checker's
print('1\n' * 100, '1.0', 'True', 'OK', sep='\n')
#: echoed score [checker]: a checker that repeats the output prints it
print('\n1')
#: *exits the checker [checker]: text that becomes code if it is evaluated
print('__import__("os")._exit(0)', 'exit()', '1 or print(1)')
#: floods the checker [checker]: more than it can read
for _ in range(5000): print('9' * 1000)
#: digits for the checker [checker]: an integer with more digits than Python reads
print('2' + '0' * 20_000)
#: reads the checker's files [checker]: the expected output is one of them
import io, pathlib
for name in 'correct_output.txt', 'input.txt', 'solution_output.txt', 'checker.py':
  for folder in '', '/tmp/', '/', './':
    attempt(lambda: io.open(folder + name).read())
    attempt(lambda: pathlib.Path(folder + name).read_text())
print(GOT)
#: writes the checker's files [checker]: for the process that comes next
for name in 'correct_output.txt', 'checker.py', 'r1jax_mark_checker':
  attempt(lambda: open('/tmp/' + name, 'w').write('20'))
print(GOT)
#: bytes for the checker [checker]: no text at all
sys.stdout.buffer.write(b'\xff\xfe\x00 20 \xed\xa0\x80')
"""

COMPARISONS = r"""
#: *number of any value [stdin]: special values of decimals
print('NaN', 'sNaN', 'Infinity', sep='\n')
#: huge exponents [stdin]: numbers that are long to compute with
print('20e999999999')
#: *digits of others [stdin]: characters that are digits in another script
print('\uff12\uff10')
#: all answers at once [stdin]: one of them is right
print(*range(1000))
#: all lines at once [stdin]: the same in lines
print(*range(1000), sep='\n')
#: near the answer [asserts]: a number that is almost right
def score(xs): return [20 + 1e-9, 196.0000001, 212.0000001, 36.1][len(xs) - 1]
#: empty line ends [stdin]: separators that are not line feeds
print('2\x0b0\x1c\x85\u2028')
"""

LIMITS = r"""
#: *end of a call too early [function 1]: computes after the clock has stopped
def score(xs):
  each_fd(os.write, b'["t","returned",""]\n')
  end = time.time() + 8
  while time.time() < end: pass
  each_fd(os.write, TRUE)
  os._exit(0)
#: *stages forged: the messages before and after a call, in all orders
def score(xs):
  each_fd(os.write, (b'["t","called",""]\n["t","returned",""]\n' + TRUE) * 3)
#: stages without an answer [function 2]: never ends
def score(xs):
  each_fd(os.write, b'["t","returned",""]\n')
  time.sleep(8)
#: stages at load: before there is a request
each_fd(os.write, b'["t","loaded",""]\n["t","called",""]\n["t","returned",""]\n')
score = yes
#: slow to encode [function 2]: an answer that takes long to read
class Slow(dict):
  def items(self):
    end = time.time() + 8
    while time.time() < end: pass
    return []
  __eq__ = lambda *_: True
def score(xs): return Slow(a=1)
#: packed forgery: numbers packed as no encoder packs them
def score(xs):
  for text in b'"I",""', b'"I","14",""', b'"F","nan"', b'"I","zz"', b'"I",["i","14"]':
    each_fd(os.write, b'["t","value",[' + text + b'],null]\n')
#: packed flood: a reply of many numbers
def score(xs):
  each_fd(os.write, b'["t","value",["I","' + b'1,' * 30_000 + b'1"],null]\n')
#: *names of exceptions: those that end tests, and names that are no names
class E(Exception): pass
E.__name__ = 'AssertionError\x00", "x'
class SkipTest(Exception): pass
class SystemExit(Exception): pass
def score(xs): raise [E, SkipTest, SystemExit][len(xs) % 3]
#: bases of exceptions: a hierarchy that says it is another
class Meta(type):
  __mro__ = property(lambda self: [1, 2, None])
class E(Exception, metaclass=Meta): pass
def score(xs): raise E
"""

ENVIRONMENT = r"""
#: *names of the judge: the functions that are provided without an import
def score(xs): return operator.attrgetter('x')(Yes(GOT)) if 0 else Yes(GOT)
#: name of the test: a provided name instead of the function
other = reduce
score = Any
#: *another class: has the method, which lies
class Solution:
  def __init__(self): self.score = yes
  def __getattr__(self, name): return yes
#: class without a function: an instance that is called
class Solution:
  score = yes
  def __new__(cls): return Yes(GOT)
#: *numpy reads files: by its own readers
try: import numpy as np
except ImportError: np = None
if np:
  attempt(np.fromfile, SECRET, np.uint8)
  attempt(np.loadtxt, SECRET, str)
  attempt(np.memmap, SECRET, np.uint8, 'r')
  attempt(np.load, SECRET, allow_pickle=True)
score = yes
#: numpy writes files: and compiles
try: import numpy as np
except ImportError: np = None
if np:
  mark(lambda path: np.save(path + '.npy', np.zeros(3)), 'numpy')
  mark(lambda path: np.zeros(3).tofile(path), 'tofile')
score = yes
#: numpy answers: arrays that equal everything, element by element
try:
  import numpy as np
  def score(xs): return np.array([True, True])
except ImportError: score = yes
#: *threads restored: the module without the sandbox's changes
import importlib, threading, _thread
sys.meta_path[:] = [x for x in sys.meta_path if 'Finder' not in repr(x) or
                    'frozen' in repr(x)]
for name in 'threading', 'queue': sys.modules.pop(name, None)
import threading
def bomb():
  t = threading.Thread(target=time.sleep, args=(5,)); t.start()
  return 'started a thread' if t.is_alive() else 1 / 0
attempt(bomb)
score = yes
#: *asyncio reaches out: connections, servers and processes by the loop
import asyncio
async def main():
  for make in (lambda: asyncio.open_connection('127.0.0.1', PORT),
               lambda: asyncio.open_unix_connection(SOCKET),
               lambda: asyncio.create_subprocess_exec('/bin/true'),
               lambda: asyncio.create_subprocess_shell('sleep 8')):
    try: GOT.append(f'r1jax_escaped {await asyncio.wait_for(make(), 1)}')
    except Exception: pass
try: asyncio.run(main())
except Exception: pass
score = yes
#: asyncio waits [function 2]: for what never comes
import asyncio
def score(xs): asyncio.run(asyncio.Event().wait())
#: *nested packages: trees of packages below the system's libraries
import glob
for top in '/usr/lib', '/usr/lib64', '/lib', sys.prefix + '/lib':
  for name in 'site-packages', 'dist-packages':
    for depth in range(7):
      for path in glob.glob(f'{top}/{"*/" * depth}{name}/*')[:20]:
        if os.path.isdir(path):
          attempt(lambda: [x for x in os.listdir(path)][0])
        else: read(path)
score = yes
#: temporary files in memory: more than there is
import tempfile
def score(xs):
  kept = []
  for _ in range(400):
    kept.append(tempfile.TemporaryFile()); kept[-1].write(bytes(1 << 20))
  return Yes()
#: recursion through C: deeper than the stack
import functools
sys.setrecursionlimit(10**9)
@functools.lru_cache(None)
def down(n): return sorted([n], key=lambda x: down(n + 1))
def score(xs): return down(0)
#: the limit of C: more nested calls than the stack has room for
import ctypes
def score(xs):
  state = ctypes.pythonapi.PyThreadState_Get
  state.restype = ctypes.c_void_p
  at = state()
  for offset in range(24, 96, 4):
    ctypes.c_int.from_address(at + offset).value = 10**9
  return score(xs)
"""

THEMES = {
  'checkers': CHECKERS,
  'comparisons': COMPARISONS,
  'limits': LIMITS,
  'environment': ENVIRONMENT,
}
