"""Verdicts on responses in Python."""

import threading

import pytest

import r1jax

SUM = dict(prompt='1/2 + 1/4', answer='3/4')


def test_each_response_gets_a_verdict_with_its_reason():
  texts = [r'\boxed{0.75}', '<answer>1</answer>', 'three quarters']
  verdicts = r1jax.verify([SUM] * 3, texts)
  assert [verdict.value for verdict in verdicts] == [1, 0, 0]
  assert [x.kind for x in verdicts] == ['equal', 'unequal', 'no answer']
  assert all(verdict.reason for verdict in verdicts)


def test_partial_credit_is_the_share_of_the_tests_that_pass():
  record = dict(
    prompt='the square of a number',
    entry_point='f',
    tests=[{'assert': 'f(1) == 1'}, {'assert': 'f(3) == 9'}],
  )
  program = '```python\ndef f(x):\n  return x\n```'
  (whole,) = r1jax.verify([record], [program])
  (part,) = r1jax.verify([record], [program], partial=True)
  assert (whole.value, part.value) == (0, 0.5)


def test_no_process_or_thread_remains():
  before = threading.active_count()
  r1jax.verify([SUM], ['<answer>0.5 + 0.25</answer>'])
  assert threading.active_count() == before


@pytest.mark.parametrize(
  'records, responses, sentence',
  [
    ([SUM, SUM], ['1'], 'there are 2 records and 1 responses'),
    ([SUM], '1', "the responses must be a list, not str '1'"),
    (SUM, ['1'], 'the records must be a list, not dict'),
    (None, ['1'], 'the records must be a list, not NoneType'),
    ([SUM, None], ['1', '1'], 'record 1 is NoneType None: it must be a dict'),
    ([SUM, SUM], ['1', None], 'response 1 is NoneType None: it must be a text'),
    ([SUM], [1], 'response 0 is int 1: it must be a text'),
    ([dict(prompt='1')], ['1'], 'record 0 has no answer'),
    ([dict(answer='1')], ['1'], "record 0 has no key 'prompt'"),
  ],
)
def test_what_cannot_be_verified_is_refused(records, responses, sentence):
  with pytest.raises(r1jax.UserError, match=sentence):
    r1jax.verify(records, responses)
