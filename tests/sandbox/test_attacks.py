"""No attack is paid, none leaves a mark, and honest programs still pass."""

import collections
import os
import socket
import subprocess
import sys

import pytest
from attacks import arena, benign, programs
from toy_sandbox import FOUND, TIERS, tier_of

from r1jax.rewards import verifiers
from r1jax.rewards.code import unit_tests
from r1jax.sandbox import tiers, workers

SECONDS = 40  # by the clock, in which any attack is judged
# What a grader falls for that runs the tests in the program's own process and
# looks at its exit code.
NAIVE = 'early exit', 'patched comparison', 'odd answers'


@pytest.fixture(params=TIERS)
def planted(request, tmp_path, monkeypatch):
  with (
    tier_of(request.param) as tier,
    arena.Arena(tier, tmp_path).planted(monkeypatch) as planted,
  ):
    yield planted


def check(planted, attacks):
  """Runs attacks together and demands that they got nothing and did nothing."""
  wrong = [
    f'{attack.name}: {verdict}, {seconds:.1f} s'
    for attack, verdict, seconds in planted.judged(attacks)
    if verdict.value != 0 or seconds > SECONDS
  ]
  assert not wrong + planted.harm()


def test_the_suite_is_large_and_its_names_differ():
  names = collections.Counter(attack.name for attack in programs.ALL)
  assert len(names) == len(programs.ALL) >= 84
  assert all(any(x.quick for x in y) for y in programs.THEMES.values())
  assert len(benign.PROGRAMS) >= 15


@pytest.mark.skipif(
  'CI' not in os.environ or sys.platform != 'linux', reason='said of CI alone'
)
def test_continuous_integration_has_the_landlock_tier():
  assert FOUND['landlock'][0], FOUND['landlock'][1]


@pytest.mark.parametrize('planted', TIERS[1:2], indirect=True)
def test_what_an_attack_might_do_is_seen(planted):
  assert not planted.harm()
  beside = planted.secret.parent
  (beside / 'r1jax_mark_seen').touch()
  planted.secret.write_text('changed')
  planted.said += [planted.tokens[0], 'r1jax_escaped']
  sleeper = 'import time; print(flush=True); time.sleep(60)'
  with (
    socket.create_connection(planted.listeners[0].getsockname()),
    subprocess.Popen(
      [sys.executable, '-c', sleeper, planted.argument], stdout=subprocess.PIPE
    ) as child,
  ):
    child.stdout.readline()
    harm = planted.harm()
    child.kill()
  assert [
    sum(words in sentence for sentence in harm)
    for words in (
      'was told',
      'r1jax_escaped',
      'was left',
      f'{child.pid} goes on',
      'was reached',
      'secret was',
      'descriptors was',
    )
  ] == [1] * 7
  assert not list(beside.glob('r1jax_mark_*'))


def test_the_quick_attacks_get_nothing_and_leave_nothing(planted):
  check(planted, [attack for attack in programs.ALL if attack.quick])


@pytest.mark.slow
@pytest.mark.parametrize('theme', programs.THEMES)
def test_attacks_get_nothing_and_leave_nothing(planted, theme):
  check(planted, programs.THEMES[theme])


def test_honest_programs_pass(planted):
  results = [
    (name, unit_tests.judge(record, code, planted.tier, benign.LIMITS))
    for name, record, code in benign.PROGRAMS
  ]
  assert not [x for x in results if x[1].value != 1]
  assert not planted.harm()


def jobs(planted, attacks):
  """What the workers of a run are asked for each attack."""
  limits = dict(seconds=1.0, memory=256 << 20)
  return [
    [planted.records[x.shape], planted.source(x), planted.tier, limits, True]
    for x in attacks
  ]


def test_a_worker_outlives_what_it_judges(planted):
  attacks = [x for x in programs.ALL if x.quick and x.seconds == 1]
  with workers.Pool(2, 30.0, 1 << 30) as pool:
    asked = jobs(planted, attacks)
    answers = pool.map('r1jax.rewards.code.unit_tests:judged', asked)
    assert not [
      (attack.name, answer)
      for attack, answer in zip(attacks, answers, strict=True)
      if answer.failure or answer.value[0] != 0
    ]
    assert not pool.counts['died']
  assert not planted.harm()


@pytest.mark.parametrize('answer', ['10**12', '"a" * 10**5', '1 << 10**6'])
def test_a_test_that_explodes_ends_within_its_limits(planted, answer):
  # The answer is plain, and it is the test that makes too much of it.
  record = dict(
    id='grow',
    entry_point='score',
    tests=[
      {'assert': 'len([0] * score(1)) + sum(range(score(1))) == 1'},
      {'assert': '(score(1) * 10**4).__mul__(10**4) == 1'},
    ],
  )
  limits = dict(seconds=1.0, memory=256 << 20)
  job = [record, f'def score(n): return {answer}', planted.tier, limits, True]
  with workers.Pool(1, 1.0, 512 << 20) as pool:
    (found,) = pool.map('r1jax.rewards.code.unit_tests:judged', [job])
  assert found.failure in verifiers.UNDECIDED or found.value[0] == 0


@pytest.mark.parametrize('theme', NAIVE)
@pytest.mark.parametrize('planted', TIERS[:2], indirect=True)
def test_a_grader_that_trusts_the_exit_code_falls_for_the_attacks(
  planted, theme
):
  fooled = []
  for attack in programs.THEMES[theme]:
    code = planted.source(attack)
    if attack.shape != 'stdin':
      test = planted.function['test'] + '\ncheck(score)\n'
      code = arena.PROMPT + code + '\n' + test
    limits = tiers.Limits(1, 256 << 20)
    if tiers.run(planted.tier, code, '', limits).kind == 'passed':
      fooled.append(attack.name)
  assert len(fooled) >= len(programs.THEMES[theme]) / 3, fooled
