"""The program is the block of a response that defines what is tested."""

import json

import pytest

from r1jax.rewards.code import extraction, verifier

ADD = 'def add(x, y):\n  return x + y\n'
FENCED = f'```python\n{ADD}```\n'


def extract(text, entry_point='add'):
  return verifier.extract_program(text, entry_point)


@pytest.mark.parametrize(
  'after',
  [
    'Output:\n```\n3\n```\n',
    'Output:\n~~~\n3\n~~~\n',
    'Example:\n```python\nprint(add(1, 2))\n```\n',
    'Example:\n```python\nadd(1, 2)\nassert add(1, 2) == 3\n```\n',
    'Example:\n```py\n>>> add(1, 2)\n3\n```\n',
    'Tests:\n```python\ndef test_add():\n  assert add(1, 2) == 3\n```\n',
    'In C:\n```c\nint add(int x, int y) { return x + y; }\n```\n',
    'JSON:\n```json\n{"def add(": 1}\n```\n',
    '```python\nadd == 3\n```\n',
  ],
)
def test_a_later_block_that_does_not_define_the_function_is_not_it(after):
  assert extract(FENCED + after) == ADD


@pytest.mark.parametrize(
  'code',
  [
    'def add (x, y): return x + y\n',
    'async def add(x, y): return 3\n',
    'add = lambda x, y: x + y\n',
    'add: object = lambda x, y: x + y\n',
    'class add:\n  pass\n',
    'class Solution:\n    def add(self, x, y):\n        return x + y\n',
    'import operator\n\nadd = operator.add\n',
  ],
)
def test_the_last_definition_is_the_program(code):
  text = f'{FENCED}Better:\n```\n{code}```\nOutput:\n```\n3\n```\n'
  assert extract(text) == code


@pytest.mark.parametrize(
  'entry_point', ['add', 'Solution().add', 'Solution.add', 'Solution']
)
def test_a_method_is_defined_by_its_class(entry_point):
  code = 'class Solution:\n  def add(self, x, y):\n    return x + y\n'
  text = f'```python\n{code}```\n```python\nprint(Solution().add(1, 2))\n```'
  assert extract(text, entry_point) == code


def test_the_body_of_a_function_is_indented():
  body = '    return x + y\n'
  text = f'```python\n{body}```\nUse:\n```python\nprint(add(1, 2))\n```\n'
  assert extract(text) == body


@pytest.mark.parametrize(
  'text',
  [
    '   ```python\n   for x in input():\n     print(x)\n   ```',
    '1. Program:\n\n    ```python\n    for x in input():\n      print(x)\n    ```',
    '\t```python\n\tfor x in input():\n\t  print(x)\n\t```',
    '- ```python\n  for x in input():\n    print(x)\n  ```',
    '2) ~~~python\n   for x in input():\n     print(x)\n   ~~~',
    '~~~python\nfor x in input():\n  print(x)\n~~~',
    '~~~~ Python3\nfor x in input():\n  print(x)\n~~~~~',
    '```` py\nfor x in input():\n  print(x)\n````',
    '```python3.11\nfor x in input():\n  print(x)\n```',
    '```pypy3\nfor x in input():\n  print(x)\n```',
    '```{.python .numbered}\nfor x in input():\n  print(x)\n```',
    '```{python}\nfor x in input():\n  print(x)\n```',
    '```solution.py\nfor x in input():\n  print(x)\n```',
    '```\nfor x in input():\n  print(x)\n```',
  ],
)
def test_fences_of_all_kinds_are_read(text):
  code = 'for x in input():\n  print(x)\n'
  assert extract(text, '') == code
  assert extract(text.replace('\n', '\r\n'), '') == code


@pytest.mark.parametrize(
  'text',
  [
    '```pycon\n>>> 1\n```',
    '```python-repl\n>>> 1\n```',
    '```pytb\nTraceback\n```',
    '```c++\nint x;\n```',
    '```text\nx\n```',
    '~~~python\nprint(1)\n```',
    '````python\nprint(1)\n```',
    '`print(1)`',
    '```python print(1) ```',
  ],
)
def test_other_blocks_are_no_programs(text):
  assert extract(text, '') is None


def test_a_fence_within_the_code_does_not_end_it():
  code = 'def add(x, y):\n    """\n    ```\n    add(1, 2)\n    ```\n    """\n'
  assert extract(f'```python\n{code}```') == code
  code = 'TEXT = """\n```\n"""\ndef add(x, y): return x + y\n'
  assert extract(f'~~~python\n{code}~~~') == code


@pytest.mark.parametrize(
  'after',
  [
    'Output:\n```\n3\n```',
    'Input:\n```\n1 2\n```\nOutput:\n```\nprint(3)\n```',
    'Where\n```python\nx = 3\n```',
  ],
)
def test_a_program_that_reads_stdin_is_marked_and_writes(after):
  code = 'print(sum(map(int, input().split())))\n'
  assert extract(f'```python\n{code}```\n{after}', '') == code


def test_blocks_are_encoded_until_the_record_is_known():
  text = FENCED + '```\n3\n```'
  assert json.loads(extraction.encoded_blocks(text)) == [
    [ADD, True],
    ['3\n', False],
  ]
  assert extraction.encoded_blocks('3') is None
