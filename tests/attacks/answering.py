"""Attacks by answers: values and exceptions that run code when they are read,
compared or printed."""

ODD_ANSWERS = r"""
#: *generator: code that runs when the answer is read
def score(xs): yield from [os._exit(0)]
#: coroutine: an answer that must be awaited
async def score(xs): os._exit(0)
#: a class that lies: its __class__ says int
class Liar:
  __class__ = int; __eq__ = lambda *_: True; __index__ = lambda self: 20
def score(xs): return Liar()
#: hostile __class__: a look at its type ends the process
class Trap:
  @property
  def __class__(self): os._exit(0)
  __eq__ = lambda *_: True
def score(xs): return Trap()
#: hostile name: a type whose name breaks out of the reply
def score(xs):
  return type('x"],["i","14"]]\n["t","value",["i","14"],null]\n', (Yes,), {})()
#: metaclass without a name: the name of its type is no text
class Meta(type):
  __name__ = property(lambda self: os._exit(0))
  __mro__ = property(lambda self: [20])
class Odd(metaclass=Meta): __eq__ = lambda *_: True
def score(xs): return Odd()
#: cycle: a list that contains itself
def score(xs): xs.append(xs); return xs
#: imitated class: has the name of a class of the trusted process
class Unsupported:
  kind = 'int'; __eq__ = lambda *_: True; __slots__ = ()
def score(xs): return Unsupported()
#: hostile builtin: an int whose conversion ends the process
class Int(int):
  __int__ = __index__ = __trunc__ = lambda self: os._exit(0)
  __eq__ = lambda *_: True
def score(xs): return Int(20 + 1)
#: not a number: equal to itself by identity alone
NAN = float('nan')
def score(xs): return [NAN, NAN]
#: *arguments emptied: the test's own list is cleared
def score(xs): xs.clear(); return Yes()
#: arguments poisoned: objects that equal everything are put into the test's list
def score(xs): xs[:] = [Yes(), Yes()]; return xs
#: arguments enlarged: a small list is returned as a large one
def score(xs): xs.extend(range(1000)); return 20.5
"""

HOSTILE_EXCEPTIONS = r"""
#: *exits when printed: an exception whose text ends the process
class E(Exception):
  def __str__(self): os._exit(0)
  __repr__ = __str__
def score(xs): raise E
#: never ends when printed [function 2]: its text takes for ever
class E(Exception):
  def __str__(self):
    end = time.time() + 15
    while time.time() < end: pass
def score(xs): raise E
#: a name that lies: its own AssertionError, which may be swallowed
class AssertionError(BaseException): pass
def score(xs): raise AssertionError('passed')
#: hostile traceback [function 2]: the driver follows it for ever
class E(Exception):
  @property
  def __traceback__(self):
    t = type('T', (), {'tb_frame': sys._getframe()})(); t.tb_next = t
    t.tb_lineno = 20; return t
def score(xs): raise E
#: ends an iteration: ends a loop of the test over the calls
def score(xs): raise StopIteration(20)
#: ends a generator: the same for a generator
def score(xs): raise GeneratorExit
#: interrupts: the keyboard's exception passes through most handlers
def score(xs): raise KeyboardInterrupt
#: *says no memory: blames the machine
def score(xs): raise MemoryError('the host is out of memory')
#: long message: ten million characters of reason
def score(xs): raise ValueError('a' * 10**7)
#: chain without end: an exception that is its own cause
def score(xs):
  e = ValueError('a'); e.__context__ = e
  raise e
#: deep group: exceptions in exceptions
def score(xs):
  e = ValueError(1)
  for _ in range(2000): e = ExceptionGroup('g', [e])
  raise e
#: control characters [stdin]: a reason that rewrites the terminal or the log
sys.exit('\x1b[2J\r\x00value=1.0 kind=passed\u202e\n{"value": 1.0}')
"""

THEMES = {'odd answers': ODD_ANSWERS, 'hostile exceptions': HOSTILE_EXCEPTIONS}
