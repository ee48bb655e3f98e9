"""Attacks on resources: memory, floods, time, and values that need much of them
when they are read."""

BOMBS = r"""
#: *memory at once: 400 MiB in one piece
def score(xs): return len(bytearray(400 << 20)) and Yes()
#: memory by pieces [stdin]: 400 MiB in pieces of one
kept = [bytearray(b'a' * (1 << 20)) for _ in range(400)]
#: memory mapped: pages outside the heap
import mmap
def score(xs):
  kept = [mmap.mmap(-1, 100 << 20) for _ in range(4)]
  for m in kept: m[::4096] = b'a' * len(m[::4096])
  return Yes()
#: *recursion: without the interpreter's guard
sys.setrecursionlimit(10**6)
def score(xs, n=0): return score(xs, n + 1) if n < 10**6 else 20
#: recursion in C: a deep list is printed, compared and freed
def score(xs):
  x = []
  for _ in range(200_000): x = [x]
  sys.setrecursionlimit(10**6)
  return repr(x) == x
#: no memory in the driver: none is left to write the answer
kept = []
def score(xs):
  try:
    while len(kept) < 400: kept.append(bytearray(b'a' * (1 << 20)))
  except MemoryError: pass
  try:
    while len(kept) < 10**4: kept.append(bytearray(4096))
  except MemoryError: pass
  return [0] * 10_000
#: compressed bomb: a few bytes that become 300 million
import zlib
packer = zlib.compressobj(9)
SMALL = b''.join(packer.compress(bytes(1 << 20)) for _ in range(300))
SMALL += packer.flush()
def score(xs): return len(zlib.decompress(SMALL)) and Yes()
#: compiler bomb: source that takes the compiler's memory
exec(compile('score = yes\nx = ' + '-' * 3000 + '1\n' + 'y = (1,) * (4 * 10**7)', '',
     'exec'))
#: descriptors: opens files until none is left
kept = []
for _ in range(2000):
  try: kept.append(os.open('/dev/null', os.O_RDWR))
  except OSError: break
score = yes
#: pipes: buffers of the kernel, full of bytes
kept = []
for _ in range(500):
  try:
    kept.append(os.pipe2(os.O_NONBLOCK)); os.write(kept[-1][1], bytes(1 << 16))
  except OSError: break
score = yes
"""

FLOODS = r"""
#: *stdout [stdin]: eight million bytes
for _ in range(8000): print('a' * 1000)
#: stderr [stdin]: eight million bytes, then a good end
for _ in range(8000): print('a' * 1000, file=sys.stderr)
#: lines [stdin]: a million empty ones
for _ in range(10): sys.stdout.write('\n' * 100_000)
#: *reply pipe: a reply of eight million bytes
def score(xs):
  for _ in range(8000): each_fd(os.write, b'a' * 1000)
#: every descriptor at load: before a request
for _ in range(4000): each_fd(os.write, b'\n' * 1000)
score = yes
#: *huge answer: a text of 50 million characters
def score(xs): return 'a' * (50 << 20)
#: many small answers: a list of a million numbers
def score(xs): return list(range(10**6))
#: *deep answer: lists nested deeper than any reader
def score(xs):
  x = []
  for _ in range(100_000): x = [x]
  return x
#: shared answer: a small object whose text is 2 to the 60 long
def score(xs):
  x = [1]
  for _ in range(60): x = [x, x]
  return x
#: shared arguments: the same for the arguments
def score(xs):
  for _ in range(60): xs[:] = [list(xs), xs[:]]
  for _ in range(60): xs[:] = [xs[:]] * 2
  return 20.5
#: deep reply: brackets without end
def score(xs): each_fd(os.write, b'[' * 60_000 + b'\n')
#: *colliding reply: a set in which all hashes are equal
def score(xs):
  one = (1 << 61) - 1
  items = ','.join(f'["i","{one * i:x}"]' for i in range(1, 35_000))
  text = f'["t","value",["s",{items}],null]\n'.encode()
  def write(fd, text):
    while text: text = text[os.write(fd, text):]
  each_fd(write, text)
#: half colliding reply: with as many keys that do not collide
def score(xs):
  one = (1 << 61) - 1
  keys = [one * i for i in range(1, 17_000)] + [*range(17_200)]
  items = ','.join(f'["i","{key:x}"],null' for key in keys)
  text = f'["t","value",["d",{items}],null]\n'.encode()
  def write(fd, text):
    while text: text = text[os.write(fd, text):]
  each_fd(write, text)
#: colliding answer: the same by an object
class Set(set): pass
def score(xs):
  one, found = (1 << 61) - 1, set()
  for i in range(1, 3000): found.add(one * i)
  return found
#: drip [function 2]: single bytes, never an answer
def score(xs):
  for _ in range(200): each_fd(os.write, b' '); time.sleep(0.1)
#: reads nothing [function 2]: the request fills the pipe
import threading
def score(xs): os.close(0); signal.pause()
"""

TIME = r"""
#: *loops [function 1]: without end
def score(xs):
  end = time.time() + 8
  while time.time() < end: pass
#: sleeps [function 2]: without CPU time
def score(xs): time.sleep(8)
#: sleeps at load [function 2]: the same with all descriptors closed
each_fd(os.close)
time.sleep(8)
#: loops in C [function 2]: where no signal handler runs
import itertools
def score(xs): return sum(itertools.repeat(1, 2 * 10**9))
#: backtracks [function 2]: a pattern that takes 2 to the 28 steps
def score(xs): return re.match('(a+)+$', 'a' * 28 + 'b') or Yes()
#: alarm games [function 2]: handlers that delay the end
def again(*_): signal.setitimer(signal.ITIMER_REAL, 0.001)
signal.signal(signal.SIGALRM, again)
signal.signal(signal.SIGXCPU, again)
END = time.time() + 8
again()
def score(xs):
  while time.time() < END: pass
#: patched clock [function 2]: time stands still in its process
NOW = time.time()
time.monotonic = time.perf_counter = time.process_time = lambda: NOW
def score(xs): time.sleep(8)
#: waits for itself [function 2]: a lock that is never released
import threading
def score(xs):
  lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=8)
#: late answers [function 2]: each call is short, all together exceed the limit
def score(xs): time.sleep(1.5); return Yes()
#: waits for input [function 2]: reads after the end
os.dup2(os.pipe()[0], 0)
sys.stdin.read()
"""

HUGE_VALUES = r"""
#: *power [function 1]: ten to the ten millionth, written out
sys.set_int_max_str_digits(0)
def score(xs): return str(10**10**7)
#: *huge integer: a number of three million bits
def score(xs): return 1 << 3_000_000
#: tower of powers [function 2]: larger than any memory
def score(xs): return 9**9**9**2 and Yes()
#: digits [stdin]: more than Python converts
print('2' + '0' * 50_000)
#: exponents: short to write, long to compute
import decimal
def score(xs): return decimal.Decimal('20E+999999999999999999')
#: fractions: a denominator as large as an integer can be
import fractions
def score(xs): return fractions.Fraction(20, 1 << 1_000_000)
#: formats: a width of 400 megabytes
def score(xs): return '%*d' % (4 * 10**8, 20)
#: *pickle as an answer: its readers execute it
class Bomb:
  def __reduce__(self): return open, (FOLDERS[0] + '/r1jax_mark_pickle', 'w')
  __eq__ = lambda *_: True
def score(xs): return Bomb()
#: *pickle on the wire: the bytes themselves, to every descriptor
import pickle
class Bomb:
  def __reduce__(self): return open, (FOLDERS[0] + '/r1jax_mark_wire', 'w')
def score(xs):
  for protocol in 0, 2, 5: each_fd(os.write, pickle.dumps(Bomb(), protocol))
  each_fd(os.write, b'\n')
#: pickle printed [stdin]: for a grader that unpickles the output
import pickle
class Bomb:
  def __reduce__(self): return open, (FOLDERS[0] + '/r1jax_mark_stdout', 'w')
sys.stdout.buffer.write(pickle.dumps(Bomb()))
#: copying: an object that runs code when it is copied
class Bomb:
  def __deepcopy__(self, memo): os._exit(0)
  __copy__ = __reduce_ex__ = __getstate__ = __deepcopy__
  __eq__ = lambda *_: True
def score(xs): return Bomb()
#: marshal: code objects, which crash their readers
import marshal
def score(xs):
  each_fd(os.write, marshal.dumps(score.__code__)[:-9] + b'\n')
#: text to evaluate: an answer for a grader that calls eval
def score(xs):
  return f'open({FOLDERS[0] + "/r1jax_mark_eval"!r}, "w") and 20'
#: representation: equal if texts are compared
class Shown:
  def __repr__(self): return '20'
  __str__ = __format__ = __repr__
def score(xs): return Shown()
#: tags in an answer: data that looks like the wire format
def score(xs): return ['i', '14', ['?', 'int'], {'t': 'value'}, '["i","14"]']
#: lone surrogates [stdin]: bytes that are not UTF-8
sys.stdout.buffer.write(b'\xff\xfe20\xed\xa0\x80\0')
"""

THEMES = {
  'bombs': BOMBS,
  'floods': FLOODS,
  'time': TIME,
  'huge values': HUGE_VALUES,
}
