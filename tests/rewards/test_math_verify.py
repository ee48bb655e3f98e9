"""math-verify in place of the package's own comparison, by config."""

import importlib.util
import pathlib

import pytest

import r1jax
from r1jax import config, errors
from r1jax.data.bad_records import BadRecords
from r1jax.rewards import math_verify, registry, verdict, verifiers

CONFIG = verdict.VerifyConfig(
  workers=2, seconds=100.0, math_verifier='math_verify'
)
needs_package = pytest.mark.skipif(
  not importlib.util.find_spec('math_verify'), reason='needs math-verify'
)


def record(n, gold, **keys):
  return dict(id=f'q{n}', prompt='?', answer=gold) | keys


@pytest.mark.skipif(
  bool(importlib.util.find_spec('math_verify')), reason='math-verify is here'
)
def test_a_missing_package_is_named():
  with pytest.raises(errors.UserError, match='pip install math-verify==0.9.0'):
    verifiers.Verifiers(CONFIG)


def test_the_requirement_is_an_extra_of_the_package():
  folder = pathlib.Path(r1jax.__file__).parents[1]
  text = (folder / 'setup.py').read_text()
  assert f"'math-verify': ['{math_verify.REQUIREMENT}']" in text


def test_an_unknown_verifier_is_refused():
  settings = config.defaults(verdict.VerifyConfig)
  settings.math_verifier = 'sympy'
  with pytest.raises(errors.UserError, match='one of .r1jax., .math_verify'):
    config.build(verdict.VerifyConfig, settings)


def test_only_mathematics_is_judged_by_another_verifier():
  own, peers = (
    registry.verifiers_of(x) for x in (verdict.VerifyConfig(), CONFIG)
  )
  assert own[:-1] == peers[:-1] == list(registry.VERIFIERS)
  assert peers[-1] is math_verify.MathVerifyVerifier


@pytest.mark.parametrize(
  'text, answer',
  [
    (r'<think>\boxed{1}</think>It is $\boxed{2}$', r'\boxed{2}'),
    (r'\boxed{1} and \boxed{\frac{1}{2}}', r'\boxed{\frac{1}{2}}'),
    (r'\boxed{\boxed{2}}', r'\boxed{2}'),
    ('a' * 3_000 + ' $1$\n' + 'b' * 1_990 + ' $2$', 'b' * 1_990 + ' $2$'),
    ('a' * 3_000, 'a' * 2_000),
    ('<think>1</think><answer> 2 </answer>', r'\boxed{2}'),
    ('<think>1</think><answer>It is $2$</answer>', 'It is $2$'),
    ('<think>1</think>The final answer is $2$', 'The final answer is $2$'),
    ('<think>$2$', None),
    ('', None),
  ],
)
def test_what_math_verify_gets(text, answer):
  assert math_verify.extract(text) == answer


def test_many_boxes_in_boxes_end_no_run():
  text = r'\boxed{' * 1_500 + '2' + '}' * 1_500
  assert math_verify.extract(text).startswith(r'\boxed{')


@needs_package
def test_answers_are_judged_as_math_verify_judges_them(tmp_path):
  mark = tmp_path / 'mark'
  program = f'__import__("pathlib").Path("{mark}").touch()'
  cases = [
    (r'\boxed{4}', '4', 1),
    (r'\boxed{5}', '4', 0),
    (r'\boxed{\sqrt{12}}', r'2\sqrt{3}', 1),
    ('<think>4</think><answer>0.5</answer>', r'\frac{1}{2}', 1),
    ('<think>4</think>The final answer is $4$.', '4', 1),
    (r'<think>\boxed{4}</think>5', '4', 0),
    ('no answer', '4', 0),
    (program, '4', 0),
    (rf'\boxed{{{program}}}', '4', 0),
  ]
  records = [record(n, gold) for n, (_, gold, _) in enumerate(cases)]
  with verifiers.Verifiers(CONFIG, records) as opened:
    found = opened.verdicts(records, [text for text, _, _ in cases])
  assert [x.value for x in found] == [value for _, _, value in cases]
  assert 'by math-verify' in found[0].reason and not mark.exists()


@needs_package
def test_golds_that_math_verify_cannot_read_are_all_named():
  golds = ['4', '?!', '$$', '5']
  records = [record(n, gold) for n, gold in enumerate(golds)]
  unread = [x for x in golds if not math_verify.can_read(x)]
  assert unread != golds
  if not unread:
    pytest.skip('it reads all of them')
  records.append(dict(id='none', prompt='?'))
  with pytest.raises(errors.UserError, match='cannot be read by') as caught:
    registry.check_rewards({'accuracy': 1.0}, records, verify=CONFIG)
  assert 'record none has no answer' in str(caught.value)
  bad = BadRecords(skip=True)
  kept = registry.check_rewards(
    {'accuracy': 1.0}, records, bad=bad, verify=CONFIG
  )
  assert [x['answer'] for x in kept] == [x for x in golds if x not in unread]
  assert len(bad.found) == len(unread) + 1


@needs_package
def test_golds_are_checked_by_the_verifier_of_the_config():
  records = [record(0, '(1, 2')]
  with pytest.raises(errors.UserError, match='cannot be read'):
    registry.check_rewards({'accuracy': 1.0}, records)
  found = registry.check_rewards({'accuracy': 1.0}, records, verify=CONFIG)
  assert found == records


@needs_package
def test_a_slow_answer_has_the_limits_of_the_workers():
  limited = verdict.VerifyConfig(
    workers=1, seconds=0.5, math_verifier='math_verify'
  )
  text = r'\boxed{' + '^{9'.join(['9'] * 40) + '}' * 39 + '}'
  with verifiers.Verifiers(limited) as opened:
    (found,) = opened.verdicts([record(0, '4')], [text])
  assert found.value == 0
