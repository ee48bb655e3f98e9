"""Outputs are compared as the judges of the sets do, or by a checker."""

import dataclasses
import math

import pytest
from toy_sandbox import LIMITS, TIERS, local, tier_of

from r1jax import errors
from r1jax.rewards.code import comparison, unit_tests
from r1jax.sandbox import tiers


@pytest.fixture(params=TIERS)
def tier(request):
  with tier_of(request.param) as tier:
    yield tier


def judge(record, code, tier=None, **limits):
  limits = dataclasses.replace(LIMITS, **limits)
  return unit_tests.judge(record, code, tier or local(), limits)


def record_of(*pairs, **options):
  tests = [dict(input=x, output=y) for x, y in pairs]
  return dict(id='r', prompt='?', tests=tests) | options


@pytest.mark.parametrize(
  'printed, expected, same',
  [
    ('1 2\n', '1 2', True),
    ('\n\n1 2 \n\n', '1 2\n', True),
    ('  1   2', '1 2', True),
    ('1\t2', '1 2', True),
    ('1\r\n2\r\n', '1\n2\n', True),
    ('a b\nc', 'a b \n c', True),
    ('', '\n', True),
    ('1 2', '1\n2', False),
    ('1\n\n2', '1\n2', False),
    ('12', '1 2', False),
    ('1 2 3', '1 2', False),
    ('1', '', False),
    ('2.0', '2', True),
    ('2.50', '2.5', True),
    ('1e3', '1000', True),
    ('.5', '0.50', True),
    ('+3', '3', True),
    ('-0', '0', True),
    ('x 2.0', 'x 2', True),
    ('0.1 0.20', '0.10 0.2', True),
    ('0.30000000000000004', '0.3', False),
    ('50000000000000001', '50000000000000000', False),
    ('1_000', '1000', False),
    ('\uff13', '3', False),
    ('nan', 'NaN', False),
    ('nan', 'nan', True),
    ('inf', 'Infinity', False),
    ('1e999999999', '1e999999998', False),
    ('0x10', '16', False),
    ('110', '0110', False),  # of a string of digits, each counts
    ('0110', '0110', True),
    ('00', '0', False),
    ('0.50', '00.5', True),
    ('YES', 'yes', False),
    ('abc', 'abd', False),
    ('\ufffd', '\ufffd', True),
  ],
)
def test_lines_are_stripped_and_numbers_compared_as_decimals(
  printed, expected, same
):
  assert comparison.same_output(printed, expected) is same


@pytest.mark.parametrize(
  'printed, expected, same',
  [
    ('0.333333', '0.333333333333', True),
    ('0.3334', '0.333333333333', False),
    ('1000000.5', '1000000', True),
    ('1000002.5', '1000000', False),
    ('1000001', '1000000', False),  # integers are exact
    ('2.9999999', '3', True),
    ('3', '2.9999999', True),
    ('1e-9', '0.0', True),
    ('-1e-9', '0', True),
    ('inf', '1.0', False),
    ('nan', '1.0', False),
    ('1e999999999', '1.5', False),
    ('1.0 2.0', '1.0', False),
    ('x', '1.0', False),
  ],
)
def test_a_tolerance_is_of_numbers_that_are_not_integers(
  printed, expected, same
):
  assert comparison.same_output(printed, expected, 1e-6) is same


def test_case_counts_unless_the_record_says_otherwise():
  assert comparison.same_output('Yes\nnO', 'YES\nNO', ignore_case=True)
  assert not comparison.same_output('Yes', 'NO', ignore_case=True)


def test_bytes_that_are_no_text_equal_no_text(tier):
  record = record_of(('', '\ufffd'))
  code = 'import sys\nsys.stdout.buffer.write(b"\\xff")'
  if tier.name != 'service':  # whose replies are text
    assert judge(record, code, tier)[:2] == (0, 'wrong')


@pytest.mark.parametrize(
  'answer, expected, tolerance, same',
  [
    ((1, 2), [1, 2], 0.0, True),
    ([(1, 2)], [[1, 2]], 0.0, True),
    ([1, 2], [1, 2, 3], 0.0, False),
    (0.1 + 0.2, 0.3, 0.0, False),
    ([0.1 + 0.2], [0.3], 1e-9, True),
    (1000001, 1000000, 1e-5, False),
    (math.nan, math.nan, 1e-5, False),
    (math.nan, 1.0, 1e-5, False),
    ({1, 2}, [1, 2], 0.0, False),
    ('1', 1, 0.0, False),
    (None, [], 0.0, False),
  ],
)
def test_a_tuple_is_as_good_as_a_list(answer, expected, tolerance, same):
  assert comparison.same_answer(answer, expected, tolerance) is same


def test_records_set_tolerance_and_case(tier):
  record = record_of(('1 3', '0.3333333333'))
  code = 'a, b = map(int, input().split())\nprint(f"{a / b:.5f}")'
  assert judge(record, code, tier)[:2] == (0, 'wrong')
  assert judge(record | dict(tolerance=1e-4), code, tier).value == 1
  record = record_of(('', 'YES'))
  assert judge(record, 'print("Yes")', tier).value == 0
  assert judge(record | dict(ignore_case=True), 'print("Yes")', tier).value == 1


# Two numbers of the given sum.
CHECKER = """import sys
def main():
  wanted = int(open(sys.argv[1]).read())
  with open(sys.argv[2]) as file: assert file.read().split()
  got = open(sys.argv[3]).read().split()
  if len(got) != 2: print('two numbers'); print(0); return
  print(int(sum(map(int, got)) == wanted))
main()
"""
SUM = record_of(('7\n', '3 4\n'), ('5', '0 5'), checker=CHECKER)


@pytest.mark.parametrize(
  'code, value',
  [
    ('print(1, int(input()) - 1)', 1),
    ('print(int(input()))\nprint(0)', 1),
    ('print(3, 4)', 0),
    ('print(1)', 0),
    ('print("x", "y")', 0),  # the checker fails
    ('pass', 0),
    ('print("1\\n" * 100)', 0),
    ('import os, sys; os.write(1, b"\\xff 1")', 0),
  ],
)
def test_a_checker_decides(tier, code, value):
  verdict = judge(SUM, code, tier)
  assert verdict.value == value
  assert verdict.kind == ('passed' if value else 'wrong')


@pytest.mark.parametrize(
  'checker, value',
  [
    ('print(1)', 1),
    ('print("1.0")', 1), ('print("ok"); print(1)', 0),
    ('print(0.5)', 0),
    ('print("nan")', 0),
    ('print("correct")', 0),
    ('pass', 0),
    ('print(1); raise SystemExit(1)', 0),
    ('print(1); 1 / 0', 0),
    ('print(open("input.txt", "rb").read().decode().strip())', 1),
    ('import pathlib, os, sys\nassert os.path.isfile(sys.argv[3])\n'
     'print(pathlib.Path(sys.argv[3]).read_text().count("1"))', 1),
    ('import sys\nfor x in sys.argv[1:]:\n  for line in open(x, "r"): pass\n'
     'print(len(sys.argv) - 3)', 1),
  ],
)  # fmt: skip
def test_only_a_printed_score_of_a_checker_that_ends_well_counts(
  checker, value
):
  record = record_of(('1', '1'), checker=checker)
  assert judge(record, 'print(1)').value == value


def test_a_checker_that_the_sandbox_does_not_run_masks_the_sample(monkeypatch):
  run = tiers.run

  def fail_with_files(tier, code, stdin, limits, given, *rest):
    if 'files' in given:
      return tiers.Outcome('infra', b'', 'broken')
    return run(tier, code, stdin, limits, given, *rest)

  monkeypatch.setattr(tiers, 'run', fail_with_files)
  verdict = judge(SUM, 'print(1, int(input()) - 1)')
  assert math.isnan(verdict.value) and verdict.kind == 'infra'


def test_the_program_does_not_see_the_expected_output():
  code = 'import sys\nfor x in ("input.txt", "correct_output.txt"): open(x)'
  assert judge(SUM, code)[:2] == (0, 'error')


@pytest.mark.parametrize(
  'options, message',
  [
    (dict(checker='print('), 'checker of record r is not a Python'),
    (dict(checker=3), 'checker of record r is not a Python'),
    (dict(time_limit=0), 'time_limit of record r must be'),
    (dict(time_limit='2'), 'time_limit of record r must be'),
    (dict(memory_limit=-1), 'memory_limit of record r must be'),
    (dict(memory_limit=math.inf), 'memory_limit of record r must be'),
    (dict(tolerance=-1e-6), 'tolerance of record r must be'),
    (dict(tolerance=True), 'tolerance of record r must be'),
    (dict(ignore_case=1), 'ignore_case of record r must be true or false'),
    (dict(imports='typing'), 'imports of record r must be true or false'),
  ],
)
def test_invalid_options_are_an_error(options, message):
  with pytest.raises(errors.UserError, match=message):
    unit_tests.check_tests(SUM | options)


def test_a_checker_of_a_function_is_an_error():
  record = dict(id='r', tests=[{'assert': 'f(1) == 1'}], entry_point='f')
  with pytest.raises(errors.UserError, match='checker'):
    unit_tests.check_tests(record | dict(checker=CHECKER))


def test_the_limits_of_a_record_count():
  burn = 'import time\nwhile time.process_time() < 4: pass\nprint(1)'
  record = record_of(('', '1'))
  fast = record | dict(time_limit=0.5)
  verdict = judge(fast, burn)
  assert verdict[:2] == (0, 'timeout')
  hold = 'x = bytearray(200 << 20)\nprint(1)'
  assert judge(record, hold, memory=1 << 30).value == 1
  small = record | dict(memory_limit=64)
  assert judge(small, hold, memory=1 << 30)[:2] == (0, 'memory')
  large = record | dict(memory_limit=256)
  assert judge(large, hold, memory=128 << 20).value == 1
