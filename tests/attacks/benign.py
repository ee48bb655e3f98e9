"""Correct programs of the kinds that models write. All of them must pass."""

from r1jax.sandbox import tiers

LIMITS = tiers.Limits(seconds=60, memory=512 << 20)


def calls(entry, code, *asserts):
  """A program whose function is tested by assertions."""
  tests = [{'assert': text} for text in asserts]
  return dict(id=entry, entry_point=entry, tests=tests), code


def reads(code, *pairs):
  """A program that is tested by its output for its stdin."""
  tests = [dict(input=x, output=y) for x, y in pairs]
  return dict(id='stdin', tests=tests), code


SUMS = ('3\n1 2 3\n', '6\n'), ('1\n-5', '-5')
FOUND = {
  'recursion': calls(
    'f',
    'def f(n): return n if n < 2 else f(n - 1) + f(n - 2)\n',
    'f(20) == 6765',
    'f(1) == 1',
  ),
  'deep recursion': calls(
    'f',
    'import sys\nsys.setrecursionlimit(100_000)\n'
    'def f(n): return 0 if n == 0 else 1 + f(n - 1)\n',
    'f(20_000) == 20_000',
  ),
  'generators within': calls(
    'f',
    'def walk(x):\n  for y in x:\n    if isinstance(y, list):\n'
    '      yield from walk(y)\n    else:\n      yield y\n'
    'def f(x): return list(walk(x))\n',
    'f([1, [2, [3, []]], 4]) == [1, 2, 3, 4]',
  ),
  'standard library': calls(
    'f',
    'import math, collections, itertools, heapq, re, random, functools, '
    'string, typing, bisect, json, copy, operator, sys, time, statistics, '
    'array, enum, abc, io, hashlib, textwrap, contextlib, queue, cmath\n'
    'def f(xs):\n  random.seed(1)\n  h = list(xs); heapq.heapify(h)\n'
    '  return [collections.Counter(xs).most_common(1), heapq.heappop(h),\n'
    '    math.gcd(12, 18), list(itertools.accumulate(xs)), bisect.bisect(xs, 2),\n'
    '    functools.reduce(operator.mul, xs), re.findall("[a-z]+", "ab1c"),\n'
    '    json.loads(json.dumps({"a": [1, None]})), copy.deepcopy(xs),\n'
    '    string.ascii_lowercase[:3], hashlib.md5(b"a").hexdigest()[:4],\n'
    '    statistics.mean(xs), random.randint(1, 6) in range(1, 7)]\n',
    'f([1, 2, 2]) == [[(2, 2)], 1, 6, [1, 3, 5], 3, 4, ["ab", "c"], '
    '{"a": [1, None]}, [1, 2, 2], "abc", "0cc1", 5 / 3, True]',
  ),
  'dates and exact numbers': calls(
    'f',
    'import datetime, decimal, fractions\nfrom typing import List\n'
    'def f(x: str) -> List[str]:\n'
    '  day = datetime.date.fromisoformat(x) + datetime.timedelta(days=1)\n'
    '  return [str(day), str(decimal.Decimal("0.1") * 3),\n'
    '          str(sum(fractions.Fraction(1, n) for n in (2, 3, 6)))]\n',
    'f("2024-02-28") == ["2024-02-29", "0.3", "1"]',
  ),
  'classes': calls(
    'f',
    'import dataclasses\nclass Stack:\n  def __init__(self): self.x = []\n'
    '  def push(self, y): self.x.append(y); return self\n'
    '@dataclasses.dataclass(order=True)\nclass P:\n  a: int\n  b: str = "z"\n'
    'def f(xs):\n  s = Stack()\n  for x in xs: s.push(P(x))\n'
    '  return [dataclasses.astuple(p) for p in sorted(s.x)]\n',
    'f([3, 1]) == [(1, "z"), (3, "z")]',
  ),
  'a caller of methods': calls(
    'f',
    'class Solution:\n  def double(self, xs): return [2 * x for x in xs]\n'
    'f = Solution().double\n',
    'f([1, 2]) == [2, 4]',
  ),
  'changed in place': calls(
    'f',
    'def f(grid):\n  for row in grid: row.reverse()\n  grid.append([0])\n',
    'not (g := [[1, 2], [3]]).clear() and f(g) is None and g == [[0]]',
    '[g := [[1, 2], [3]], f(g)][1] is None and g == [[2, 1], [3], [0]]',
  ),
  'big integers': calls(
    'f',
    'import math\ndef f(n): return math.factorial(n)\n',
    'f(1000) % (10**9 + 7) == 641419708',
    'len(str(f(1000))) == 2568',
  ),
  'unicode': calls(
    'f',
    'def f(s): return s.upper()[::-1] + "é√中🙂\\u2028\\0"\n',
    'f("añ中") == "中ÑAé√中🙂\\u2028\\0"',
  ),
  'floats': calls(
    'f',
    'import math\ndef f(x): return [x / 3, math.inf, -0.0, math.nan]\n',
    'abs(f(1)[0] - 1 / 3) < 1e-15',
    'f(1)[1] == float("inf")',
    'f(1)[3] != f(1)[3]',
    'str(f(1)[2]) == "-0.0"',
  ),
  'tuples, sets and dicts': calls(
    'f',
    'import collections\ndef f(xs):\n  d = collections.defaultdict(set)\n'
    '  for i, x in enumerate(xs): d[x].add(i)\n'
    '  return d, tuple(xs), frozenset(xs), None, b"x", 1j\n',
    'f("aab") == ({"a": {0, 1}, "b": {2}}, ("a", "a", "b"), '
    'frozenset("ab"), None, b"x", 1j)',
    'type(f("a")[1]) is tuple',
  ),
  'nested functions': calls(
    'f',
    'import functools\ndef f(a, b):\n  @functools.lru_cache(None)\n'
    '  def g(i, j):\n    if i == 0 or j == 0: return i + j\n'
    '    if a[i - 1] == b[j - 1]: return g(i - 1, j - 1)\n'
    '    return 1 + min(g(i - 1, j), g(i, j - 1), g(i - 1, j - 1))\n'
    '  return g(len(a), len(b))\n',
    'f("kitten", "sitting") == 3',
    'f("", "abc") == 3',
  ),
  'memory of calls': calls(
    'f',
    'seen = {}\ndef f(n):\n  seen[n] = seen.get(n, 0) + 1\n  return n * n\n',
    'f(3) == 9 and f(3) == 9 and f(4) == 16',
  ),
  'prints while it computes': calls(
    'f',
    'import sys\ndef f(n):\n  print("debug", n)\n'
    '  print("more" * 1000, file=sys.stderr)\n  return n + 1\n',
    'f(1) == 2',
  ),
  'slow but in time': calls(
    'f',
    'import time\ndef f(n):\n  end = time.process_time() + 0.3\n'
    '  while time.process_time() < end: pass\n  return n\n',
    'f(7) == 7',
  ),
  'sleeps a little': calls(
    'f', 'import time\ndef f(n): time.sleep(0.1); return n\n', 'f(7) == 7'
  ),
  'raises as it must': calls(
    'f',
    'def f(n):\n  if n < 0: raise ValueError("negative")\n  return n\n',
    'f(1) == 1',
    'next(x for x in [__import__("contextlib").suppress(ValueError)] '
    'if not x.__enter__() and x.__exit__(ValueError, 0, 0) and f(2) == 2)',
  ),
  'a large answer': calls(
    'f', 'def f(n): return list(range(n))\n', 'f(3000) == list(range(3000))'
  ),
  'keywords and defaults': calls(
    'f',
    'def f(a, b=2, *rest, c=3, **more): return [a, b, rest, c, more]\n',
    'f(1) == [1, 2, (), 3, {}]',
    'f(1, 5, 6, c=7, d={"x": (1,)}) == [1, 5, (6,), 7, {"d": {"x": (1,)}}]',
  ),
  'guarded main': calls(
    'f',
    'def f(n): return n + 1\n'
    'if __name__ == "__main__":\n  print(f(int(input())))\n',
    'f(1) == 2',
  ),
  'temporary memory': calls(
    'f',
    'def f(n): return len(bytearray(n)) + len([0] * (n // 8))\n',
    'f(80_000_000) == 90_000_000',
  ),
  'a method of Solution': calls(
    'double',
    'class Solution:\n'
    '  def double(self, xs: List[int]) -> List[int]:\n'
    '    return [*map(lambda x: 2 * x, deque(xs))]\n',
    'double([1, 2]) == [2, 4]',
  ),
  'threads and pools': calls(
    'f',
    'import threading, concurrent.futures as c\n'
    'def f(n):\n  lock, found = threading.Lock(), []\n'
    '  def add(i):\n    with lock: found.append(i)\n'
    '  ts = [threading.Thread(target=add, args=(i,)) for i in range(n)]\n'
    '  for t in ts: t.start()\n  for t in ts: t.join(1)\n'
    '  with c.ThreadPoolExecutor() as p: return sum(p.map(abs, found))\n',
    'f(4) == 6',
  ),
  'coroutines': calls(
    'f',
    'import asyncio\nasync def g(x): await asyncio.sleep(0.01); return x * x\n'
    'async def main(n): return await asyncio.gather(*map(g, range(n)))\n'
    'def f(n): return asyncio.run(main(n))\n',
    'f(3) == [0, 1, 4]',
  ),
  'temporary file in memory': calls(
    'f',
    'import tempfile\ndef f(x):\n  with tempfile.TemporaryFile() as t:\n'
    '    t.write(x); t.seek(0); return t.read()\n',
    'f(b"ab") == b"ab"',
  ),
  'input': reads(
    'n = int(input())\nprint(sum(map(int, input().split())))', *SUMS
  ),
  'lines of stdin': reads(
    'import sys\nfor i, line in enumerate(sys.stdin):\n'
    '  if i: print(sum(int(x) for x in line.split()))',
    *SUMS,
  ),
  'all of stdin': reads(
    'import sys\nn, *xs = map(int, sys.stdin.read().split())\nprint(sum(xs))',
    *SUMS,
  ),
  'bytes of stdin': reads(
    'import sys\nread = sys.stdin.buffer.readline\nn = int(read())\n'
    'sys.stdout.write(f"{sum(map(int, read().split()))}\\n")',
    *SUMS,
  ),
  'descriptors': reads(
    'import os, io\ndata = io.BytesIO(os.read(0, os.fstat(0).st_size or 99999))'
    '\ninput = lambda: data.readline().decode().rstrip()\nn = int(input())\n'
    'os.write(1, str(sum(map(int, input().split()))).encode())',
    *SUMS,
  ),
  'open of descriptor 0': reads(
    'n, *xs = open(0).read().split()\nprint(sum(map(int, xs)), flush=True)',
    *SUMS,
  ),
  'streams by their names': reads(
    'import sys\nsys.stdin = open("/dev/stdin")\nn = int(input())\n'
    'xs = map(int, sys.stdin.read().split())\n'
    'print(sum(xs), file=open("/dev/stdout", "w"))',
    *SUMS,
  ),
  'a larger stack': reads(
    'import resource, sys\n'
    'resource.setrlimit(resource.RLIMIT_STACK, (1 << 29, -1))\n'
    'sys.setrecursionlimit(10**6)\ndef down(n): return n and down(n - 1) + 1\n'
    'n = input()\nprint(sum(map(int, input().split())) + down(9999) - 9999)',
    *SUMS,
  ),
  'input to its end': reads(
    'lines = []\nwhile True:\n  try: lines.append(input())\n'
    '  except EOFError: break\nprint(sum(map(int, lines[1].split())))',
    *SUMS,
  ),
  'main and exit': reads(
    'import sys\ninput = sys.stdin.readline\ndef main():\n  n = int(input())\n'
    '  print(sum(map(int, input().split())))\n  sys.exit(0)\n'
    'if __name__ == "__main__":\n  main()',
    *SUMS,
  ),
  'a thread for its stack': reads(
    'import sys, threading\nsys.setrecursionlimit(10**6)\n'
    'threading.stack_size(1 << 26)\ndef down(n): return n and down(n - 1) + 1\n'
    'def main():\n  n = int(input())\n'
    '  print(sum(map(int, input().split())) + down(9999) - 9999)\n'
    't = threading.Thread(target=main)\nt.start()\nt.join()\n',
    *SUMS,
  ),
  'quiet warnings': reads(
    'import sys, warnings\nwarnings.warn("careful")\nn = input()\n'
    'print(sum(map(int, input().split())), file=sys.stdout)\n'
    'print("debug", file=sys.stderr)',
    *SUMS,
  ),
  'unicode output': reads(
    'print(input() + "é√中🙂")', ('a中\n', 'a中é√中🙂\n')
  ),
}
PROGRAMS = [(name, *found) for name, found in FOUND.items()]
