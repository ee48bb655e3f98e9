"""Each test of a program has limits of its own, and the suite has others."""

import dataclasses
import time

import pytest
from toy_sandbox import LIMITS, TIERS, local, tier_of

from r1jax.rewards import verdict
from r1jax.rewards.code import cases, unit_tests, verifier
from r1jax.sandbox import inside, process, service, tiers, wire

SLEEP = 'import time\ndef f(n): time.sleep(600)'
BURN = (
  'import time\ndef f(n):\n  end = time.process_time() + n\n'
  '  while time.process_time() < end: pass\n  return n\n'
)


@pytest.fixture(params=TIERS[:2])
def here(request):
  with tier_of(request.param) as tier:
    yield tier


def judge(record, code, tier=None, partial=False, **limits):
  limits = dataclasses.replace(LIMITS, **limits)
  return unit_tests.judge(record, code, tier or local(), limits, partial)


def calls(*pairs):
  tests = [dict(args=[x], result=y) for x, y in pairs]
  return dict(id='r', prompt='?', tests=tests, entry_point='f')


def test_tests_do_not_share_their_cpu_time(here):
  record = calls(*[[0.4, 0.4]] * 4)
  assert judge(record, BURN, here, seconds=1, wall=300).value == 1


def test_each_test_has_a_limit_of_cpu_time(here):
  record = calls([0.1, 0.1], [30, 30], [0.1, 0.1])
  verdict = judge(record, BURN, here, seconds=1, wall=300, partial=True)
  assert verdict.kind == 'timeout' and verdict.value == pytest.approx(2 / 3)


def test_a_limit_may_be_a_fraction_of_a_second(here):
  code = 'import time\nwhile time.process_time() < 9: pass'
  limits = dataclasses.replace(LIMITS, seconds=0.3)
  assert tiers.run(here, [code], '', limits).kind == 'timeout'


def test_a_sleeping_program_ends_at_the_wall_limit_of_a_test(here):
  started = time.monotonic()
  assert judge(calls([1, 1]), SLEEP, here, wall=0.5).kind == 'timeout'
  code = 'import time\ntime.sleep(600)'
  record = dict(id='r', tests=[dict(input='', output='')])
  assert judge(record, code, here, wall=0.5).kind == 'timeout'
  assert judge(calls([1, 1]), code, here, wall=0.5).kind == 'timeout'
  assert time.monotonic() - started < 300  # far less than its sleep


def test_waiting_for_a_cpu_is_not_wall_time_of_a_program(here, monkeypatch):
  delays = iter(range(0, 10**9, 100))
  monkeypatch.setattr(process, '_delay', lambda pid: float(next(delays)))
  record = calls([1, 1])
  code = 'import time\ndef f(n): time.sleep(1); return n'
  assert judge(record, code, here, wall=0.2).value == 1
  monkeypatch.setattr(process, '_delay', lambda pid: 0.0)
  assert judge(record, code, here, wall=0.2)[:2] == (0, 'timeout')


def test_a_program_that_sleeps_in_one_test_gets_no_other(here):
  started = time.monotonic()
  record = calls(*[[1, 1]] * 1000)
  verdict = judge(record, SLEEP, here, wall=0.5, partial=True)
  assert verdict[:2] == (0, 'timeout')
  record = dict(id='r', tests=[dict(input='', output='')] * 1000)
  code = 'import time\ntime.sleep(600)'
  verdict = judge(record, code, here, wall=0.5, partial=True)
  assert verdict[:2] == (0, 'timeout')
  assert time.monotonic() - started < 300


def test_the_wall_limit_of_the_suite_ends_all_tests(here):
  code = 'import time\ndef f(n): time.sleep(0.3); return n'
  record = calls(*[[1, 1]] * 1000)
  verdict = judge(record, code, here, suite_wall=1.5, partial=True)
  assert verdict.kind == 'timeout' and verdict.value < 0.1


def test_limits_of_all_tests_are_livecodebenchs_by_default():
  record = calls([1, 1], [2, 2])
  found = cases.limits_of(record, tiers.Limits(seconds=6))
  assert (found.suite_seconds, found.suite_wall) == (19, 38)
  found = cases.limits_of(record | dict(time_limit=1), tiers.Limits(seconds=6))
  assert (found.seconds, found.suite_seconds) == (1, 9)
  given = tiers.Limits(seconds=6, suite_seconds=3, suite_wall=4)
  assert cases.limits_of(record, given) == given


def test_the_cpu_limit_of_the_suite_ends_all_tests(here):
  record = calls(*[[0.2, 0.2]] * 20)
  verdict = judge(record, BURN, here, suite_seconds=1, partial=True)
  assert verdict.kind == 'timeout' and 0 < verdict.value < 0.5
  record = dict(id='r', tests=[dict(input='', output='')] * 20)
  code = 'import time\nwhile time.process_time() < 0.2: pass'
  verdict = judge(record, code, here, suite_seconds=1, partial=True)
  assert verdict.kind == 'timeout' and 0 < verdict.value < 0.5


def test_encoding_an_answer_is_not_time_of_the_test(here):
  code = 'def f(n): return [[str(i)] for i in range(n)]'
  limits = dataclasses.replace(LIMITS, seconds=60, output=64 << 20)
  with tiers.open_program(here, [code], limits) as program:
    stages, channel = [], program.channel
    begin = channel._begin

    def record_stage(wall):
      stages.append(wall)
      begin(wall)

    channel._begin = record_stage
    assert len(program.call('f', [20_000])) == 20_000
  # Before the call, during it, and after it.
  assert len(stages) == 3


def test_a_forged_end_of_a_call_is_an_error(here):
  line = wire.encode(inside.RETURNED, 1000)
  code = (
    'import os\ndef f(n):\n  for fd in range(3, 64):\n'
    f'    try: os.write(fd, {line!r}.encode() + b"\\n")\n'
    '    except OSError: pass\n  return n'
  )
  assert judge(calls([1, 1]), code, here)[:2] == (0, 'error')


def test_the_output_limit_is_a_limit_of_a_test(here):
  record = calls([1, 1])
  code = 'def f(n): return "a" * 10**5'
  assert judge(record, code, here, output=1000)[:2] == (0, 'output')
  assert judge(record, code, here, output=1 << 20)[:2] == (0, 'wrong')


def test_the_config_sets_all_limits(monkeypatch):
  local()  # or skip
  seen = []
  monkeypatch.setattr(
    verdict.workers, 'Pool', lambda *args: seen.append(args) or None
  )
  config = verdict.VerifyConfig(
    workers=3,
    program_seconds=1.0,
    program_wall_seconds=2.0,
    program_memory=64,
    program_output=2,
    suite_seconds=3.0,
    suite_wall_seconds=4.0,
  )
  programs = verifier.ProgramVerifier(config, [calls([1, 1])])
  _, limits, _ = programs.settings
  assert tiers.Limits(**limits) == tiers.Limits(
    seconds=1.0,
    wall=2.0,
    memory=64 << 20,
    output=2 << 20,
    suite_seconds=3.0,
    suite_wall=4.0,
  )
  ((count, _, _, wall, _),) = seen
  assert count == 3 and 4 < wall < 400


def test_a_service_that_drips_is_an_infra_error(monkeypatch):
  class Response:
    def __enter__(self):
      return self

    def __exit__(self, *_):
      pass

    def read1(self, size):
      clock[0] += 1
      return b' '

  clock = [0.0]
  monkeypatch.setattr(service.time, 'monotonic', lambda: clock[0])
  monkeypatch.setattr(
    service.urllib.request, 'urlopen', lambda *_, timeout: Response()
  )
  found = service.run('http://x', '', '', tiers.Limits(seconds=1))
  assert found.kind == 'infra' and 'more than' in found.detail


def test_a_job_has_a_wall_limit_of_its_own():
  with verdict.workers.Pool(1, 60.0, 512 << 20, 1.0) as pool:
    (result,) = pool.map('time:sleep', [[600]])
  assert result.failure == 'timeout'
