"""What a record says about its tests: code, names, limits."""

import dataclasses
import functools
import re

from r1jax.rewards.verdict import Record
from r1jax.sandbox import environment
from r1jax.sandbox.tiers import Limits

# 'NAME', or a method as 'Solution().NAME' or 'Solution.NAME'.
ENTRY_POINT = re.compile(r'(?:([^\W\d]\w*)(?:\(\))?\.)?([^\W\d]\w*)')
INTERPRETER = 64 << 20  # bytes of Python itself, beside a record's memory_limit


def reads_stdin(record: Record) -> bool:
  """Whether the tests are inputs and outputs of a program."""
  return 'test' not in record and 'output' in record['tests'][0]


def entry_point(record: Record) -> tuple[str, str]:
  """(class or '', function) of the record's entry point."""
  found = ENTRY_POINT.fullmatch(record['entry_point'])
  assert found
  return found[1] or '', found[2]


def head(record: Record) -> str:
  """The code before the response's: the prefix, or a prompt that is Python."""
  if 'prefix' in record:
    return record['prefix']
  prompt = record.get('prompt', '')
  if 'test' in record and isinstance(prompt, str) and compiled(prompt):
    return prompt
  return ''


def assertion(test: dict) -> str:
  """The statement of a test {'assert': …}."""
  text = test['assert'].strip()
  return text if text.startswith('assert ') else f'assert ({text})'


def given(record: Record) -> dict:
  """The names that the program gets without imports, as the judges of sets of
  functions provide them; that of HumanEval does not."""
  is_program, owner, name = reads_stdin(record), '', ''
  if not is_program:
    owner, name = entry_point(record)
  is_default = not is_program and ('tests' in record or owner != '')
  if not record.get('imports', is_default):
    return {}
  return environment.provided([owner, name])


def limits_of(record: Record, limits: Limits) -> Limits:
  """The limits with the record's own of a test, time_limit in seconds and
  memory_limit in MiB, to which that of Python itself is added; and with those
  of all tests, if they are 0: LiveCodeBench's of CPU time, twice it of wall
  time."""
  if 'time_limit' in record:
    seconds = record['time_limit']
    wall = limits.wall and max(limits.wall, 2 * seconds + 5)
    limits = dataclasses.replace(limits, seconds=seconds, wall=wall)
  if 'memory_limit' in record:
    memory = int(record['memory_limit'] * (1 << 20)) + INTERPRETER
    limits = dataclasses.replace(limits, memory=memory)
  total = (limits.seconds + 1) * count(record) + 5
  total = limits.suite_seconds or total
  wall = limits.suite_wall or 2 * total
  return dataclasses.replace(limits, suite_seconds=total, suite_wall=wall)


def count(record: Record) -> int:
  """The number of tests. HumanEval's check is one test."""
  return 1 if 'test' in record else len(record['tests'])


@functools.lru_cache(1024)
def compiled(text):
  """The compiled text; None if it is not Python."""
  try:
    # optimize=0 keeps the assertions under python -O.
    return compile(text, 'test', 'exec', dont_inherit=True, optimize=0)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None
