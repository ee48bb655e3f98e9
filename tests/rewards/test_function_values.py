"""Functions get the judges' environment, and values that cross the sandbox."""

import dataclasses

import pytest
from toy_sandbox import LIMITS, TIERS, local, tier_of

from r1jax import errors
from r1jax.rewards import verdict, verifiers
from r1jax.rewards.code import unit_tests


@pytest.fixture(params=TIERS)
def tier(request):
  with tier_of(request.param) as tier:
    yield tier


def judge(record, code, tier=None, partial=False, **limits):
  limits = dataclasses.replace(LIMITS, **limits)
  return unit_tests.judge(record, code, tier or local(), limits, partial)


def asserts(*texts, entry_point='f', **options):
  tests = [{'assert': text} for text in texts]
  record = dict(id='r', prompt='?', tests=tests, entry_point=entry_point)
  unit_tests.check_tests(record | options)
  return record | options


def calls(*pairs, **options):
  tests = [dict(args=list(args), result=result) for args, result in pairs]
  record = dict(id='r', prompt='?', tests=tests, entry_point='f') | options
  unit_tests.check_tests(record)
  return record


def test_the_judges_names_need_no_import(tier):
  code = """
class Solution:
  def f(self, xs: List[int], n: Optional[int] = None) -> Dict[str, Any]:
    heap: Deque[int] = deque(xs)
    heapify(rest := list(heap))
    count, group = Counter(xs), defaultdict(list)
    @cache
    def fib(i): return i if i < 2 else fib(i - 1) + fib(i - 2)
    random.seed(1)
    return dict(
      a=math.gcd(12, 18) + gcd(2, 4), b=pow(2, 3, 5), c=bisect_left([1, 2], 2),
      d=heappop(rest), e=list(accumulate(xs)), f=reduce(lambda x, y: x * y, xs),
      g=re.findall('[a-z]', 'a1'), h=string.ascii_lowercase[:2], i=fib(50),
      j=count.most_common(1)[0][0], k=inf > 1, l=itertools.__name__,
      m=collections.OrderedDict(a=1), n=json.loads('[1]'), o=ceil(1.5),
      p=len(sys.argv) >= 0, q=datetime.date(2024, 1, 1).year, r=copy.copy(xs))
"""
  expected = (
    "{'a': 8, 'b': 3, 'c': 1, 'd': 1, 'e': [2, 3, 5], 'f': 4, 'g': ['a'], "
    "'h': 'ab', 'i': 12586269025, 'j': 2, 'k': True, 'l': 'itertools', 'm': "
    "{'a': 1}, 'n': [1], 'o': 2, 'p': True, 'q': 2024, 'r': [2, 1, 2]}"
  )
  assert judge(asserts(f'f([2, 1, 2]) == {expected}'), code, tier).value == 1


def test_a_program_has_these_names_only_if_the_record_says_so():
  record = dict(id='r', prompt='?', tests=[dict(input='9', output='3')])
  code = 'print(math.isqrt(int(input())))'
  assert judge(record, code)[:2] == (0, 'error')
  assert judge(record | dict(imports=True), code).value == 1
  record = asserts('f(9) == 3', imports=False)
  assert judge(record, 'def f(n): return math.isqrt(n)')[:2] == (0, 'error')


def test_humaneval_provides_no_names():
  test = 'def check(candidate):\n  assert candidate(9) == 3\n'
  record = dict(id='r', prompt='?', entry_point='f', test=test)
  code = 'def f(n): return math.isqrt(n)'
  assert judge(record, code)[:2] == (0, 'error')
  assert judge(record | dict(imports=True), code).value == 1


def test_assertions_have_these_names_too():
  record = asserts('math.isclose(f(2), sqrt(2)) and Counter("a")["a"] == 1')
  assert judge(record, 'def f(n): return n ** 0.5').value == 1
  assert judge(record, 'def f(n): return n').value == 0


@pytest.mark.parametrize(
  'entry_point, call, code',
  [
    ('gcd', 'gcd(4, 6) == 2', 'print(gcd(4, 6))'),
    ('add', 'add(1, 2) == 3', 'x = add'),
    ('Counter', 'Counter("aa") == {"a": 2}', 'def other(): Counter()'),
    ('Solution().add', 'Solution().add(1, 2) == 3', 'x = add'),
  ],
)
def test_a_provided_name_is_not_the_function_that_is_tested(
  entry_point, call, code
):
  record = asserts(call, entry_point=entry_point)
  assert judge(record, code).value == 0


def test_a_function_may_be_imported_by_the_program():
  record = asserts('gcd(4, 6) == 2', entry_point='gcd')
  assert judge(record, 'from math import gcd').value == 1


@pytest.mark.parametrize('depth', [900, 15_000])
def test_cached_functions_recurse_deeply(tier, depth):
  code = (
    'class Solution:\n  def f(self, n):\n    @cache\n'
    '    def walk(i): return 0 if i == 0 else 1 + walk(i - 1)\n'
    '    return walk(n)\n'
  )
  if tier.name != 'service':  # whose program is itself within a driver
    assert judge(asserts(f'f({depth}) == {depth}'), code, tier).value == 1


def test_numpy_can_be_imported_if_it_is_installed(tier):
  code = (
    'import numpy as np\nimport numpy.linalg\n'
    'def f(n): return (np.eye(n) @ np.full((n, n), 2.0)).sum().item()\n'
  )
  if tier.name != 'service':
    assert (
      judge(asserts('f(30) == 1800'), code, tier, memory=1 << 30).value == 1
    )


METHOD = 'class Solution:\n  def f(self, x): return x + 1\n'


@pytest.mark.parametrize(
  'entry_point, text',
  [
    ('f', 'f(1) == 2'),
    ('f', 'candidate(1) == 2'),
    ('f', 'Solution().f(1) == 2'),
    ('Solution().f', 'Solution().f(1) == 2'),
    ('Solution().f', 'candidate(x=1) == 2'),
    ('Solution.f', 'f(1) == 2'),
    ('Solution', 'Solution().f(1) == 2'),
  ],
)
def test_a_method_of_solution_is_called(tier, entry_point, text):
  record = asserts(text, entry_point=entry_point)
  assert judge(record, METHOD, tier).value == 1
  assert judge(record, METHOD.replace('+', '-'), tier).value == 0


def test_the_method_is_preferred_to_a_helper_of_the_same_name():
  code = 'def f(x): return 0\n' + METHOD
  assert judge(asserts('f(1) == 2'), code).value == 1


def test_every_call_has_its_own_object():
  code = (
    'class Solution:\n  def __init__(self): self.n = 0\n'
    '  def f(self): self.n += 1; return self.n\n'
  )
  assert judge(asserts('f() == 1', 'f() == 1'), code).value == 1


def test_leetcode_checks_are_read():
  record = dict(
    id='r',
    prompt='from typing import *\nimport math\n',
    entry_point='Solution().f',
    test='def check(candidate):\n    assert candidate(x = 1) == 2\n',
  )
  unit_tests.check_tests(record)
  assert judge(record, METHOD).value == 1


def test_results_are_compared_as_livecodebench_does(tier):
  record = calls(([[1, 2]], [2, 1]), ([[]], []))
  assert judge(record, 'def f(xs): return tuple(xs[::-1])', tier).value == 1
  assert judge(record, 'def f(xs): return xs', tier)[:2] == (0, 'wrong')
  code = 'def f(xs): return [x + 1e-9 for x in xs[::-1]]'
  assert judge(record, code).value == 0
  assert judge(record | dict(tolerance=1e-6), code).value == 1


@pytest.mark.parametrize(
  'tests',
  [
    [dict(args=[1])],
    [dict(args=1, result=1)],
    [dict(args=[1], result=1), {'assert': 'f(1)'}],
    [dict(result=1)],
  ],
)
def test_incomplete_calls_are_an_error(tests):
  record = dict(id='r', tests=tests, entry_point='f')
  with pytest.raises(errors.UserError, match='must all be'):
    unit_tests.check_tests(record)


@pytest.mark.parametrize(
  'code, kind',
  [
    ('def f(x):\n  yield x', 'generator'),
    ('import collections\ndef f(x): return collections.deque([x])', 'deque'),
    ('import fractions\ndef f(x): return fractions.Fraction(x)', 'Fraction'),
    ('import decimal\ndef f(x): return [decimal.Decimal(x)]', 'Decimal'),
    ('def f(x): return {"a": range(x)}', 'range'),
    ('async def f(x): return x', 'coroutine'),
    ('def f(x): return map(str, [x])', 'map'),
    ('class f:\n  def __init__(self, x): self.x = x', 'f'),
    ('class Node: pass\ndef f(x): return Node()', 'Node'),
    ('import numpy as np\ndef f(x): return np.array([x])', 'ndarray'),
  ],
)
def test_values_that_do_not_cross_are_named(code, kind):
  value, found, reason = judge(asserts('f(1) == [1]'), code, memory=1 << 30)
  assert (value, found) == (0, 'wrong')
  assert f'an object of the type {kind}, which cannot leave' in reason


@pytest.mark.parametrize(
  'before, text',
  [
    ('', 'f(lambda x: x) == 1'),
    ('', 'f(x for x in [1]) == 1'),
    ('', 'f([lambda: 0]) == 1'),
    ('', 'f(key=lambda x: x) == 1'),
    ('', 'f(range(3)) == 3'),
    ('', 'f(iter([1])) == 1'),
    ('', 'f(len) == 1'),
    ('', 'f({"a": object()}) == 1'),
    ('', 'f(map(str, [1])) == 1'),
    ('from collections import deque\n', 'f(deque([1])) == 1'),
    ('import collections\n', 'f([collections.deque()]) == 1'),
    ('from fractions import Fraction\n', 'f(Fraction(1, 2)) == 1'),
    ('from collections import *\n', 'f(deque([1])) == 1'),
    ('import collections as c\n', 'f(c.deque([1])) == 1'),
    ('from collections import deque as d\n', 'f(d([1])) == 1'),
    ('import decimal\n', 'f(decimal.Decimal("1")) == 1'),
    ('class Node:\n  pass\n', 'f(Node()) == 1'),
    ('def key(x): return x\n', 'f([1], key) == 1'),
    ('', 'Solution().f(lambda: 0) == 1'),
    ('', 'candidate(lambda: 0) == 1'),
  ],
)
def test_arguments_that_cannot_cross_are_refused_at_the_start(before, text):
  with pytest.raises(errors.UserError, match='cannot be sent to the sandbox'):
    asserts(text, prefix=before)


def test_such_arguments_in_a_check_are_refused_too():
  test = 'def check(candidate):\n  assert candidate(lambda x: x, 1) == 1\n'
  record = dict(id='r', prompt='?', entry_point='f', test=test)
  with pytest.raises(errors.UserError, match='lambda x: x'):
    unit_tests.check_tests(record)


NODES = """class Node:
  def __init__(self, x): self.x = x
def node(xs): return Node(xs)
def plain(xs): return [xs]
"""


@pytest.mark.parametrize(
  'text',
  [
    'f(node([1])) == 1',
    '[x := node(1), f(x)][1] == 1',
  ],
)
def test_arguments_that_helpers_of_the_record_make_are_looked_at(text):
  asserts(text.replace('node', 'plain'), prefix=NODES)
  with pytest.raises(errors.UserError, match='object of the type Node, which'):
    asserts(text, prefix=NODES)


def test_all_assertions_of_a_check_are_looked_at():
  test = (
    'def check(candidate):\n  assert candidate(root = plain(1)) == 1\n'
    '  assert candidate(root = node(1)) == 1\n'
  )
  record = dict(id='r', prompt=NODES, entry_point='Solution().f', test=test)
  with pytest.raises(errors.UserError, match='object of the type Node, which'):
    unit_tests.check_tests(record)
  unit_tests.check_tests(record | dict(test=test.replace('node', 'plain')))


def test_plain_arguments_are_accepted():
  asserts('f(list(range(3)), sum(x for x in [1])) == 1')
  asserts('f(sorted([2], key=lambda x: -x)) == 1')
  asserts('f(collections.Counter("a")) == 1', prefix='import collections\n')
  asserts('f(*[[1]], **{"a": (1, {2})}) == 1')
  asserts('all(f(n) == n for n in range(9))')
  asserts('f(float("inf"), complex(1, 2), bytes(3), str(4), -5) == 1')
  asserts('f(P(1, 2)) == 1', prefix='class P(NamedTuple):\n  x: int\n')


def test_exceptions_keep_their_names():
  code = (
    'class NoMoney(Exception): pass\nclass Empty(KeyError): pass\n'
    'def f(x):\n  raise (NoMoney if x else Empty)("why")\n'
  )
  value, kind, reason = judge(asserts('f(1) == 1'), code)
  assert (value, kind) == (0, 'error') and 'NoMoney: ' in reason
  test = (
    'def name(candidate, x):\n  try: candidate(x)\n'
    '  except Exception as error: return type(error).__name__\n'
    'def check(candidate):\n  assert name(candidate, 1) == "NoMoney"\n'
    '  assert name(candidate, 0) == "Empty"\n'
    '  try: candidate(0)\n  except KeyError: return\n  assert False\n'
  )
  record = dict(id='r', prompt='?', entry_point='f', test=test)
  assert judge(record, code).value == 1


def test_a_test_catches_the_exceptions_of_the_prefix():
  prefix = 'class NoMoney(Exception): pass\n'
  test = (
    'def check(candidate):\n  try: candidate(1)\n'
    '  except NoMoney as error: assert "why" in str(error)\n'
    '  else: assert False\n'
  )
  record = dict(id='r', prompt='?', entry_point='f', test=test, prefix=prefix)
  assert judge(record, 'def f(x): raise NoMoney("why")').value == 1
  assert judge(record, 'def f(x): raise ValueError("why")').value == 0
  assert judge(record, 'def f(x): return 1').value == 0


def test_a_large_answer_is_not_too_long(tier):
  record = asserts('f(100_000) == list(range(100_000))')
  limits = unit_tests.Limits().output
  code = 'def f(n): return list(range(n))'
  if tier.name != 'service':  # the one of the tests has a small limit
    assert judge(record, code, tier, output=limits).value == 1


def test_verifiers_choose_the_block_by_the_record():
  local()  # or skip
  records = [
    asserts('f(1) == 2') | dict(id='function'),
    dict(id='stdin', prompt='?', tests=[dict(input='1', output='2')]),
  ]
  text = (
    'First\n\n   ```python\n   def f(x):\n     return x + 1\n   ```\n'
    'then\n```python\nprint(int(input()) + 1)\n```\nOutput:\n```\n2\n```\n'
  )
  config = verdict.VerifyConfig(workers=1, program_seconds=60.0)
  with verifiers.Verifiers(config, records) as opened:
    found = opened.verdicts(records, [text, text])
  assert [x.value for x in found] == [1, 1]
