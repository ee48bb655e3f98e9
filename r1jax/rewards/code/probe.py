"""Runs a test with a function that only looks at its arguments, in a worker."""

import ast

from r1jax.rewards.code import cases
from r1jax.sandbox import outcome, wire, workers

SECONDS, MEMORY = 10.0, 1 << 30  # of the worker
ADDRESS = f'{__name__}:foreign_argument'


def problem(code: str, head: str, names: set[str]) -> str:
  """The type of an argument that cannot be sent to the sandbox; '' if the test
  passes none or does not end in time."""
  with workers.Pool(1, SECONDS, MEMORY) as pool:
    (result,) = pool.map(ADDRESS, [[code, head, sorted(names)]])
  return '' if result.failure else str(result.value)


def foreign_argument(code: str, head: str, names: list[str]) -> str:
  """`problem` for a worker, which the test may stop or keep busy."""
  found: list[str] = []

  def call(*args, **kwargs):
    text = wire.encode((args, kwargs), outcome.MAX_REQUEST)
    found.extend(outcome.UNSUPPORTED.findall(text))
    raise _Called

  tree = ast.fix_missing_locations(_Trying().visit(ast.parse(code)))
  spaces: dict = {'__name__': 'test'}
  try:
    exec(cases.compiled(head) or '', spaces)
    spaces |= dict.fromkeys(names, call)
    exec(compile(tree, 'test', 'exec', dont_inherit=True, optimize=0), spaces)
    if 'check' in spaces:
      spaces['check'](call)
  except Exception:
    pass  # What follows is not looked at.
  return found[0] if found else ''


class _Called(Exception):
  """Ends an assertion, since there is no result."""


class _Trying(ast.NodeTransformer):
  """Lets the next assertion run if one fails."""

  def visit_Assert(self, node):
    handler = ast.ExceptHandler(
      type=ast.Name(id='Exception', ctx=ast.Load()),
      name=None,
      body=[ast.Pass()],
    )
    return ast.Try(
      body=[ast.Expr(node.test)], handlers=[handler], orelse=[], finalbody=[]
    )
