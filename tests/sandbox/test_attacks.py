"""No attack is rewarded or leaves a trace, and honest programs pass."""

import collections
import os
import socket
import subprocess
import sys

import pytest
from attacks import arena, benign, programs
from toy_sandbox import FOUND, LIMITS, TIERS, tier_of

from r1jax.rewards import verdict
from r1jax.rewards.code import unit_tests
from r1jax.sandbox import tiers, workers

MAX_SECONDS = 600  # of wall time, in which every attack must be judged
# Themes that deceive a grader which runs the tests in the program's own process
# and trusts its exit code.
NAIVE = 'early exit', 'patched comparison', 'odd answers'
# The service's attacks take as long and are among the slow tests.
QUICK_TIERS = [
  pytest.param(x, marks=pytest.mark.slow if x == 'service' else ())
  for x in TIERS
]
JUDGE = 'r1jax.rewards.code.unit_tests:judge_json'


@pytest.fixture(params=TIERS)
def prepared(request, tmp_path, monkeypatch):
  with (
    tier_of(request.param) as tier,
    arena.Arena(tier, tmp_path).prepared(monkeypatch) as prepared,
  ):
    yield prepared


def check(prepared, attacks):
  """Asserts that the attacks, run together, are not rewarded and do nothing."""
  wrong = [
    f'{attack.name}: {verdict}, {seconds:.1f} s'
    for attack, verdict, seconds in prepared.judge(attacks)
    if verdict.value != 0 or seconds > MAX_SECONDS
  ]
  assert not wrong + prepared.damage()


def test_the_suite_is_large_and_its_names_differ():
  names = collections.Counter(attack.name for attack in programs.ALL)
  assert len(names) == len(programs.ALL) >= 150
  for attacks in programs.THEMES.values():
    assert any(attack.quick for attack in attacks)
  assert len(benign.PROGRAMS) >= 15


@pytest.mark.skipif(
  'CI' not in os.environ or sys.platform != 'linux', reason='holds for CI only'
)
def test_continuous_integration_has_the_landlock_tier():
  tier, reason = FOUND['landlock']
  assert tier, reason


@pytest.mark.parametrize('prepared', TIERS[1:2], indirect=True)
def test_damage_is_detected(prepared, monkeypatch):
  assert not prepared.damage()
  monkeypatch.setattr(arena, 'GRACE', 0)
  folder = prepared.secret.parent
  (folder / 'r1jax_mark_seen').touch()
  prepared.secret.write_text('changed')
  prepared.outputs += [prepared.tokens[0], 'r1jax_escaped']
  sleeper = 'import time; print(flush=True); time.sleep(600)'
  with (
    socket.create_connection(prepared.listeners[0].getsockname()),
    subprocess.Popen(
      [sys.executable, '-c', sleeper, prepared.argument], stdout=subprocess.PIPE
    ) as child,
  ):
    child.stdout.readline()
    damage = prepared.damage()
    child.kill()
  for part in (
    'was read',
    'r1jax_escaped',
    'was left',
    f'{child.pid} is alive',
    'was reached',
    'secret was',
    'descriptors was',
  ):
    assert sum(part in sentence for sentence in damage) == 1, part
  assert not list(folder.glob('r1jax_mark_*'))


@pytest.mark.parametrize('prepared', QUICK_TIERS, indirect=True)
def test_quick_attacks_get_nothing_and_leave_nothing(prepared):
  check(prepared, [attack for attack in programs.ALL if attack.quick])


@pytest.mark.slow
@pytest.mark.parametrize('theme', programs.THEMES)
def test_attacks_get_nothing_and_leave_nothing(prepared, theme):
  check(prepared, programs.THEMES[theme])


def test_honest_programs_pass(prepared):
  verdicts = {
    name: unit_tests.judge(record, code, prepared.tier, benign.LIMITS)
    for name, record, code in benign.PROGRAMS
  }
  assert not {name: x for name, x in verdicts.items() if x.value != 1}
  assert not prepared.damage()


@pytest.mark.parametrize('prepared', QUICK_TIERS, indirect=True)
def test_a_worker_survives_the_attacks_that_it_scores(prepared):
  # The attacks with another limit only use up their time.
  seconds = programs.SECONDS
  attacks = [x for x in programs.ALL if x.quick and x.seconds == seconds]
  limits = dict(seconds=seconds, memory=256 << 20)
  jobs = []
  for attack in attacks:
    record, code = prepared.records[attack.shape], prepared.source(attack)
    jobs.append([record, code, prepared.tier, limits, True])
  with workers.Pool(2, 60.0, 1 << 30) as pool:
    results = pool.map(JUDGE, jobs)
    assert not [
      (attack.name, result)
      for attack, result in zip(attacks, results, strict=True)
      if result.failure or result.value[0] != 0
    ]
    assert not pool.counts['died']
  assert not prepared.damage()


@pytest.mark.parametrize('answer', ['10**12', '"a" * 10**5', '1 << 10**6'])
def test_a_test_that_needs_too_much_ends_within_its_limits(prepared, answer):
  # The answer is small; computing with it in the test is not.
  record = dict(
    id='grow',
    entry_point='score',
    tests=[
      {'assert': 'len([0] * score(1)) + sum(range(score(1))) == 1'},
      {'assert': '(score(1) * 10**4).__mul__(10**4) == 1'},
    ],
  )
  limits = dict(seconds=LIMITS.seconds, memory=256 << 20)
  job = [record, f'def score(n): return {answer}', prepared.tier, limits, True]
  with workers.Pool(1, 1.0, 512 << 20) as pool:
    (result,) = pool.map(JUDGE, [job])
  assert result.failure in verdict.ANSWER_FAILURES or result.value[0] == 0


@pytest.mark.parametrize('theme', NAIVE)
@pytest.mark.parametrize('prepared', TIERS[:2], indirect=True)
def test_the_attacks_deceive_a_grader_that_trusts_the_exit_code(
  prepared, theme
):
  passed = []
  for attack in programs.THEMES[theme]:
    code = prepared.source(attack)
    if attack.shape != 'stdin':
      test = prepared.function['test'] + '\ncheck(score)\n'
      code = arena.PROMPT + code + '\n' + test
    if tiers.run(prepared.tier, [code], '', LIMITS).kind == 'passed':
      passed.append(attack.name)
  assert len(passed) >= len(programs.THEMES[theme]) / 3, passed
