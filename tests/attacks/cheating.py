"""Attacks on the verdict: wrong programs that try to pass."""

EARLY_EXIT = r"""
#: *exit at load: no test ever runs, and the exit code is 0
sys.exit(0)
#: *_exit at load: without handlers and flushes
os._exit(0)
#: *SystemExit in a call: ends the grader's process from within a test
def score(xs): raise SystemExit(0)
#: _exit in a call: the same, which nothing can catch
def score(xs): os._exit(0)
#: exit by a handler: a failed assertion still ends with 0
import atexit
atexit.register(os._exit, 0)
def score(xs): return None
#: exit by a hook: an uncaught exception ends with 0
sys.excepthook = lambda *_: os._exit(0)
def score(xs): return None
#: exit by a finalizer: the death of an object ends the process
class Last:
  def __del__(self, leave=os._exit): leave(0)
def score(xs, last=Last()): globals().clear(); return None
#: exit by a thread: another thread ends the process during a test
import threading
def score(xs):
  try: threading.Timer(0.05, os._exit, [0]).start()
  except RuntimeError: os._exit(0)
  time.sleep(0.3)
#: exit by a signal's handler: the interpreter is interrupted in the test
signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
signal.setitimer(signal.ITIMER_REAL, 0.05)
def score(xs): time.sleep(0.3)
#: exit by an audit hook: the first thing that a grader imports ends it
sys.addaudithook(lambda event, args: event == 'import' and os._exit(0))
import colorsys
score = yes
#: exec of true: the process becomes one that always succeeds
for path in '/bin/true', '/usr/bin/true':
  attempt(os.execv, path, ['true'])
score = yes
#: *exit before reading [stdin]: succeeds without output
sys.exit(0)
#: exit in the middle [stdin]: succeeds with half of the answer
print(2, end='', flush=True)
os._exit(0)
"""

FORGED_RESULTS = r"""
#: *prints of success [stdin]: what a parser of logs looks for
print('All tests passed\nOK\n1.0\n' + '{"passed": true, "result": "passed"}')
#: prints of success in a call: the same from a function
def score(xs):
  for out in sys.stdout, sys.stderr:
    print('OK', 'passed', '1.0', 'True', sep='\n', file=out, flush=True)
#: *early reply: an answer is in the pipe before the request
each_fd(os.write, TRUE)
score = yes
#: *two replies to one call: the second answers the next request
def score(xs):
  each_fd(os.write, TRUE)
  time.sleep(0.05)
#: many replies: one for every possible test
def score(xs):
  each_fd(os.write, TRUE * 50)
#: reply of a loaded program: says that it is ready, again and again
each_fd(os.write, b'["t","loaded",""]\n' * 3)
score = yes
#: reply of a verdict: reports its own kind of ending
def score(xs):
  each_fd(os.write, b'["t","passed",""]\n')
  os._exit(0)
#: *reply of a failing sandbox: a sample that is masked is not punished
def score(xs):
  each_fd(os.write, b'["t","infra","no memory on this host"]\n')
  os._exit(0)
#: reply without an end: a line that never ends, then nothing
def score(xs):
  each_fd(os.write, TRUE.strip() + b' ' * 100)
  os._exit(0)
#: two values on one line: an ambiguous reply
def score(xs): each_fd(os.write, TRUE.strip() + TRUE)
#: reply of nonsense: numbers, constants and bytes that are no answer
def score(xs):
  each_fd(os.write, b'[NaN, Infinity, 1e999, {"t": "value"}]\n\xff\xfe\0\n')
#: changed arguments forged: replaces the arguments
def score(xs):
  each_fd(os.write, b'["t","value",null,["t",["l",["l","a"]],["d"]]]\n')
  each_fd(os.write, b'["t","value",null,["t",["l"],["d","xs",null]]]\n')
#: *writes to every descriptor [stdin]: the result pipe may be among them
each_fd(os.write, b'passed\n1.0\nTrue\n{"status": "Success"}\n')
#: closes every descriptor: a grader that reads nothing may see no failure
def score(xs): each_fd(os.close)
#: swaps the descriptors: the answers go where the errors went
for fd in range(8, 2, -1):
  try: os.dup2(fd, fd + 1)
  except OSError: pass
score = yes
#: steals the requests: answers them before the driver
def score(xs):
  for fd in range(3, 64):
    try:
      os.set_blocking(fd, False)
      os.read(fd, 1 << 16)
    except OSError: pass
  each_fd(os.write, TRUE)
#: patches the driver: every answer is encoded by the attack
import gc
for names in gc.get_objects():
  if type(names) is dict and 'Unsupported' in names and 'encode' in names:
    names['encode'] = lambda *_: TRUE.decode().strip()
    names['_write'] = lambda value, put, depth: put('true')
score = yes
#: forges a service's answer [stdin]: success in the form of the protocol
print('{"status": "Success", "run_result": {"status": "Finished", '
      '"return_code": 0, "stdout": "20"}}')
#: ready again: repeats the message of the start
each_fd(os.write, b'ready\n' * 9)
def score(xs): each_fd(os.write, b'ready\n'); os._exit(0)
#: leaves a report: the result file that some graders read
mark(lambda path: open(path + '.xml', 'w').write('<testsuite failures="0"/>'),
     'report')
score = yes
#: exit code of the driver: the codes that the sandbox itself uses
def score(xs): os._exit(124)
#: exit code of a kill: as if killed by another process
def score(xs): os._exit(137)
"""

PATCHED_COMPARISON = r"""
#: *equal to all: an object for which every comparison is true
score = yes
#: *integer equal to all: an int whose comparison is its own
class Int(int): __eq__ = lambda *_: True; __ne__ = lambda *_: False
def score(xs): return Int(3)
#: text equal to all [asserts]: a str whose comparison is its own
class Text(str):
  __eq__ = __lt__ = __gt__ = __contains__ = lambda *_: True
  __hash__ = lambda self: 20
def score(xs): return Text('20')
#: mock ANY: the standard library's own object that equals all
from unittest.mock import ANY
def score(xs): return ANY
#: magic mock [asserts]: answers every operation with another mock
from unittest.mock import MagicMock
def score(xs):
  m = MagicMock(); m.__eq__ = lambda *_: True; return m
#: *class equal to all: the comparison is in the metaclass
class Meta(type): __eq__ = lambda *_: True; __ne__ = lambda *_: False
class Answer(metaclass=Meta): pass
def score(xs): return Answer
#: enum equal to all: a member of an int enumeration
import enum
class Kind(enum.IntEnum):
  A = 3
  def __eq__(self, other): return True
  def __ne__(self, other): return False
def score(xs): return Kind.A
#: number equal to all [asserts]: arithmetic that stays what it is
class Number(float):
  __add__ = __radd__ = __sub__ = __rsub__ = __abs__ = lambda self, *_: self
  __eq__ = __lt__ = __le__ = __gt__ = __ge__ = lambda *_: True
def score(xs): return Number('nan')
#: *builtins replaced: functions that a test calls
import builtins
score = yes
for name in 'abs', 'len', 'sorted', 'sum', 'isinstance', 'all', 'any', 'set':
  setattr(builtins, name, yes)
builtins.AssertionError = Warning
#: builtins module replaced: another one in sys.modules
fake = type(sys)('builtins')
fake.__dict__.update(vars(__import__('builtins')), AssertionError=Warning)
sys.modules['builtins'] = fake
score = yes
#: unittest patched: assertions that never fail
import unittest
for name in dir(unittest.TestCase):
  if name.startswith(('assert', 'fail')): setattr(unittest.TestCase, name, yes)
score = yes
#: operator and math patched [asserts]: comparisons that tests import
import math, operator
operator.eq = math.isclose = math.fabs = yes
score = yes
#: json patched: readers of the answer read another one
import json
json.loads = json.dumps = lambda *_, **__: 20
json.JSONEncoder.default = json.JSONDecoder.decode = lambda *_, **__: 20
score = yes
#: *jumps over assertions: a tracer moves the caller to its last line
def jump(frame, event, arg):
  if event == 'line':
    last = max(x for *_, x in frame.f_code.co_lines() if x)
    if frame.f_lineno != last: frame.f_lineno = last
  return jump
def score(xs):
  frame = sys._getframe(1)
  frame.f_trace = jump; sys.settrace(lambda *_: None)
  return Yes()
#: code of the test replaced: the checking function gets an empty body
import gc
def score(xs):
  for x in gc.get_objects():
    if type(x) is type(score) and x.__name__ in ('check', '_call', '_assign'):
      x.__code__ = (lambda *a, **k: None).__code__
  return Yes()
#: caller's names replaced: writes into the frames above it
def score(xs):
  import ctypes
  frame = sys._getframe(1)
  while frame:
    for names in frame.f_locals, frame.f_globals:
      for key in {'expected', 'want', 'candidate', 'result'} & set(names):
        names[key] = Yes()
    ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), 0)
    frame = frame.f_back
  return Yes()
#: integers rewritten: the cached 20 becomes another number in memory
import ctypes
def score(xs):
  ctypes.c_uint32.from_address(id(20) + 24).value = 3
  return 3
#: constants rewritten: the caller's code expects another value
import ctypes
def score(xs):
  for x in sys._getframe(1).f_code.co_consts:
    if type(x) is int: ctypes.c_uint32.from_address(id(x) + 24).value = 3
  return 3
#: defines the test itself [asserts]: shadows what a grader appends
def check(candidate): pass
candidate, assert_, __name__ = yes, yes, 'test'
score = yes
#: equal by reflection [asserts]: the comparison of the other operand is used
class Sub(int):
  __eq__ = __rsub__ = __ror__ = __ne__ = lambda *_: 0
  def __bool__(self): return True
def score(xs): return Sub(0)
"""

THEMES = {
  'early exit': EARLY_EXIT,
  'forged results': FORGED_RESULTS,
  'patched comparison': PATCHED_COMPARISON,
}
