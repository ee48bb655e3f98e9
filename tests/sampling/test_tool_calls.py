"""A tool's results are appended between the tokens that the model samples."""

import dataclasses
import time

import jax
import numpy as np
import pytest
import toy_sampling
from toy_sampling import TOKENIZER, Response

from r1jax import errors, user_code
from r1jax.data import templates
from r1jax.distributed import watchdog
from r1jax.sampling import decode, tool_calls

PROMPT = templates.PromptConfig(
  template='plain', tool='calculator', calls=2, result_len=8
)
MAX_NEW_TOKENS = 12
CONFIG = decode.SampleConfig(max_new_tokens=MAX_NEW_TOKENS)
ERROR = '<result>error</result>'


def sample(monkeypatch, *texts, prompt=PROMPT):
  """The rows of two samples of each prompt '6*7=', whose parts have the given
  texts, and the prompts of each call of the decode loop."""
  fake = toy_sampling.fake_decode(
    monkeypatch,
    *[[Response(text, eos=False) for text in part] for part in texts],
  )
  count = len(texts[0]) // 2
  records = [dict(id=str(n), prompt='6*7=') for n in range(count)]
  samples = toy_sampling.sampler(prompt, CONFIG).sample(
    {}, records, np.array([5, 3])[:count], jax.random.key(0), 2
  )
  assert len(fake.calls) == len(texts)
  return samples.rows, [prompts for prompts, _ in fake.calls]


def row_text(rows, n):
  return TOKENIZER.decode(rows.tokens_BL[n][rows.pos_BL[n] >= 0])


def sampled_text(rows, n):
  return TOKENIZER.decode(rows.tokens_BL[n][rows.mask_BL[n]])


def test_a_call_gets_its_result_and_the_row_continues(monkeypatch):
  rows, (_, prompts) = sample(
    monkeypatch,
    ['<calc>6*7</calc>', '1', '2', '3'],
    ['<answer>42', 'x', 'y', 'z'],
  )
  assert row_text(rows, 0) == (
    '6*7=<calc>6*7</calc><result>42</result><answer>42'
  )
  assert [row_text(rows, n) for n in (1, 2, 3)] == ['6*7=1', '6*7=2', '6*7=3']
  assert rows.finished_B.all()
  assert prompts.number_P.tolist() == [5, 5, 3, 3]
  assert prompts.first_member_P.tolist() == [0, 1, 0, 1]
  # The call has five tokens. Rows without a call sample one token.
  assert prompts.max_new_tokens_P.tolist() == [MAX_NEW_TOKENS - 5, 1, 1, 1]
  ids = prompts.tokens_PL[0, : prompts.length_P[0]]
  assert TOKENIZER.decode(ids) == '6*7=<calc>6*7</calc><result>42</result>'


def test_the_tokens_of_a_result_are_not_sampled_tokens(monkeypatch):
  rows, _ = sample(monkeypatch, ['<calc>6*7</calc>', '1'], ['<answer>42', 'x'])
  assert sampled_text(rows, 0) == '<calc>6*7</calc><answer>42'
  np.testing.assert_array_equal(rows.logp_BL[0], -1.0 * rows.mask_BL[0])
  length = (rows.pos_BL[0] >= 0).sum()
  assert rows.pos_BL[0][:length].tolist() == list(range(length))
  assert (rows.pos_BL[0][length:] == -1).all()


def test_a_row_that_ends_with_one_call_too_many_is_not_finished(monkeypatch):
  rows, _ = sample(
    monkeypatch,
    ['<calc></calc>', 'a'],
    ['<calc></calc>', 'x'],
    ['<calc></calc>', 'x'],
  )
  assert row_text(rows, 0) == (
    '6*7=' + f'<calc></calc>{ERROR}' * PROMPT.calls + '<calc></calc>'
  )
  assert rows.finished_B.tolist() == [False, True]


def test_a_call_with_no_tokens_left_is_not_finished(monkeypatch):
  rows, _ = sample(monkeypatch, ['<calc>1+1+1</calc>1111</calc>', 'b'])
  assert rows.mask_BL[0].sum() == MAX_NEW_TOKENS
  assert rows.finished_B.tolist() == [False, True]


def test_a_result_that_is_too_long_is_an_error(monkeypatch):
  rows, _ = sample(monkeypatch, ['<calc>9999*9999</calc>', 'b'], ['', ''])
  assert ERROR in row_text(rows, 0)


def sample_with(monkeypatch, tool):
  """Samples responses of which one calls a tool, which has the name `calc`."""
  tool.__name__ = 'calc'
  prompt = dataclasses.replace(PROMPT, tool=user_code.name_of(tool))
  parts = ['<calc>6*7</calc>', 'x'], ['<answer>42', 'y']
  return sample(monkeypatch, *parts, prompt=prompt)


def test_a_users_tool_has_the_time_of_a_users_reward(monkeypatch, tmp_path):
  guard, seen = watchdog.Watchdog(tmp_path, 12), []
  monkeypatch.setattr(watchdog, '_active', guard)

  def tool(arguments, record):
    seen.extend(guard.expected_until.values())
    return '42'

  sample_with(monkeypatch, tool)
  assert len(seen) == 1 and seen[0] > time.monotonic() + 3600
  assert not guard.expected_until


@pytest.mark.parametrize(
  'error, code', [(TimeoutError('no answer'), 75), (ValueError('bad'), 2)]
)
def test_a_tool_whose_network_fails_ends_a_run_to_be_tried_again(
  monkeypatch, error, code
):
  def tool(arguments, record):
    raise error

  with pytest.raises((errors.Outage, errors.UserError)) as found:
    sample_with(monkeypatch, tool)
  assert errors.exit_status(found.value)[0] == code
  assert 'the tool calc failed for the arguments' in str(found.value)


def test_a_tool_must_be_known_and_a_failed_call_must_fit():
  with pytest.raises(errors.UserError, match='it can be calculator'):
    tool_calls.check(templates.PromptConfig(tool='calculater'), TOKENIZER)
  prompt = templates.PromptConfig(tool='calculator', result_len=6)
  with pytest.raises(errors.UserError, match='has 7 tokens: raise it'):
    tool_calls.check(prompt, TOKENIZER)


def test_a_sampler_with_a_tool_stops_at_its_calls():
  sampler = toy_sampling.sampler(PROMPT, CONFIG)
  stops = sampler.sample_config.stop_token_sequences
  assert stops == (tuple(TOKENIZER.encode('</calc>')),)


def test_a_response_splits_into_the_models_text_and_results():
  response = 'a<calc>1</calc><result>1</result>b<result>2</result>'
  assert tool_calls.split_results(PROMPT, response) == [
    ('a<calc>1</calc>', True),
    ('<result>1</result>', False),
    ('b', True),
    ('<result>2</result>', False),
  ]
  assert tool_calls.split_results(templates.PromptConfig(), response) == [
    (response, True)
  ]
