"""Requests share the slots of an engine; each gets the tokens that it would get
alone, which are those of the decode loop of training."""

import dataclasses
import functools
import math
import time

import jax
import numpy as np
import pytest
import toy_model
import toy_sampling

from r1jax.api.model import Model
from r1jax.checkpoints.policy import Policy
from r1jax.sampling import token_sampling
from r1jax.serving import engine as engines
from r1jax.serving.engine import Engine
from r1jax.serving.request import Request

TOKENIZER = toy_sampling.TOKENIZER
SLOTS, MAX_LEN = 3, 40


@functools.cache
def policy():
  """A random model whose table has more ids than its tokenizer."""
  ids = TOKENIZER.vocab_size
  cfg = dataclasses.replace(
    toy_sampling.CFG, vocab_size=ids + 3, real_vocab=ids, max_len=64
  )
  params = toy_model.random_params(cfg)
  params['embed'] *= 2  # so that the distributions are less uniform
  return Policy(params, cfg, TOKENIZER)


@pytest.fixture(scope='module')
def shared():
  return Engine(
    policy(), TOKENIZER.eos_ids, SLOTS, MAX_LEN, max_waiting=20, segment=3
  )


@pytest.fixture
def engine(shared):
  yield shared
  counts = shared.counts()
  assert (counts.running, counts.waiting) == (0, 0)


def ask(text='12+7=', **options):
  options = dict(max_tokens=9, seed=5) | options
  return Request(prompt=tuple(TOKENIZER.encode(text)), **options)


def answers(engine, requests):
  """The updates of each request, which are in the engine at the same time."""
  updates = [[] for _ in requests]
  tickets = engine.submit(requests, [part.append for part in updates])
  while not all(part and part[-1].finish for part in updates):
    engine.run_once()
  assert len(tickets) == len(requests)
  return updates


def ids_of(updates):
  return [token.id for update in updates for token in update.tokens]


def text_of(updates):
  return ''.join(update.text for update in updates)


REQUESTS = [
  ask(),
  ask('3', seed=1, temperature=0.7),
  ask('a longer question than those: ', max_tokens=4, top_p=0.5),
  ask(member=2),
  ask(number=1, top_k=3),
  ask('x', temperature=0, max_tokens=17),
  ask('y', max_tokens=1),
]


def test_a_response_does_not_depend_on_the_other_requests(engine):
  together = answers(engine, REQUESTS)
  for request, updates in zip(REQUESTS, together, strict=True):
    alone = answers(engine, [request])[0]
    assert ids_of(alone) == ids_of(updates)
    logps = [token.logp for update in updates for token in update.tokens]
    assert logps == [token.logp for update in alone for token in update.tokens]


def test_the_tokens_are_those_of_generate(engine):
  model = Model(policy())
  prompts = ['12+7=', '3']
  for number, group in enumerate(
    model.generate(prompts, group=2, max_new_tokens=9, seed=5)
  ):
    requests = [ask(prompts[number], number=number, member=n) for n in range(2)]
    for want, got in zip(group, answers(engine, requests), strict=True):
      assert ids_of(got) == want.ids
      assert text_of(got) == want.text
      logps = [token.logp for update in got for token in update.tokens]
      np.testing.assert_allclose(logps, want.logprobs, atol=1e-5)
      assert (got[-1].finish == 'stop') == want.finished


def test_a_tiny_temperature_is_greedy(engine):
  tiny, greedy = answers(
    engine, [ask(temperature=1e-40), ask(temperature=0, seed=8)]
  )
  assert tiny == greedy


def test_a_cancelled_request_frees_its_slot_for_those_that_wait(engine):
  long = ask('endless', max_tokens=30, seed=3)
  updates = [[] for _ in range(SLOTS + 1)]
  tickets = engine.submit(
    [long] * (SLOTS + 1), [part.append for part in updates]
  )
  engine.run_once()
  assert engine.counts()[:2] == (SLOTS, 1) and not updates[SLOTS]
  engine.cancel(tickets[:SLOTS])
  engine.run_once()
  assert engine.counts()[:2] == (1, 0)
  assert [part[-1].finish for part in updates[:SLOTS]] == ['cancelled'] * SLOTS
  engine.cancel(tickets)
  engine.run_once()


def test_a_request_that_waits_can_be_cancelled(engine):
  updates = []
  tickets = engine.submit([ask()], [updates.append])
  engine.cancel(tickets)
  engine.run_once()
  assert [update.finish for update in updates] == ['cancelled']


def test_a_request_that_is_late_ends(engine):
  updates = []
  (ticket,) = engine.submit([ask(max_tokens=30)], [updates.append])
  engine.run_once()
  ticket.deadline = time.monotonic() - 1
  engine.run_once()
  assert updates[-1].finish == 'timeout'


def test_a_full_queue_takes_all_requests_of_a_call_or_none(engine):
  updates = []
  tickets = engine.submit([ask()] * 19, [updates.append] * 19)
  with pytest.raises(engines.QueueFull):
    engine.submit([ask()] * 2, [updates.append] * 2)
  assert engine.counts().waiting == 19
  engine.cancel(tickets)
  engine.run_once()


def test_a_response_ends_before_a_stop_string_that_spans_tokens(engine):
  whole = answers(engine, [ask(max_tokens=20)])[0]
  text = text_of(whole)
  stop = text[5:8]
  stopped = answers(engine, [ask(max_tokens=20, stop=('#!#', stop))])[0]
  assert text_of(stopped) == text[: text.index(stop)]
  assert stopped[-1].finish == 'stop'
  count = len(ids_of(stopped))
  assert ids_of(stopped) == ids_of(whole)[:count]
  assert stop in TOKENIZER.decode(ids_of(stopped))


def test_leaving_the_loop_over_a_stream_frees_its_slot(engine):
  for update in engine.stream(ask(max_tokens=30)):
    assert update.tokens
    break


def test_most_probable_tokens_are_those_of_the_distribution(engine):
  request = ask(top_logprobs=4, temperature=0, max_tokens=3)
  for update in answers(engine, [request, ask()])[0]:
    for token in update.tokens:
      ids, logps = zip(*token.top, strict=True)
      assert len(ids) == 4 and ids[0] == token.id
      assert logps[0] == pytest.approx(token.logp, abs=1e-5)
      assert list(logps) == sorted(logps, reverse=True)


def test_prompt_logprobs_are_those_of_the_trainer(engine):
  request = ask('a prompt', max_tokens=0, prompt_logprobs=True, top_logprobs=20)
  (update,) = answers(engine, [request])[0]
  first, *rest = update.prompt
  assert first.logp is None and not first.top
  want = Model(policy()).logprobs([request.prompt])[0, 1:]
  np.testing.assert_allclose([token.logp for token in rest], want, atol=1e-5)
  assert [first.id, *[token.id for token in rest]] == list(request.prompt)
  for token in rest:
    logps = dict(token.top)
    assert max(logps) < TOKENIZER.vocab_size
    if token.id in logps:
      assert logps[token.id] == pytest.approx(token.logp, abs=1e-5)


def test_weights_that_are_not_finite_end_a_request_with_an_error():
  params, cfg, tokenizer = policy()
  params = jax.tree.map(lambda leaf: leaf * math.nan, params)
  engine = Engine(
    Policy(params, cfg, tokenizer), tokenizer.eos_ids, SLOTS, MAX_LEN, segment=3
  )
  assert answers(engine, [ask()])[0][-1].finish == 'error'


def test_rows_are_sampled_as_by_the_sampler_of_their_own_options():
  options = [(1.0, 1.0, 0), (0.0, 1.0, 0), (2.0, 0.6, 0), (0.5, 0.9, 4)]
  logits_BV = jax.random.normal(jax.random.key(1), (4, 37)) * 3
  key_B = jax.random.split(jax.random.key(2), 4)
  token_B, logp_B = token_sampling.sample_token_by_row(
    logits_BV, key_B, *(np.array(x, type(x[0])) for x in zip(*options))
  )
  for n, (temperature, top_p, top_k) in enumerate(options):
    row = slice(n, n + 1)
    token_1, logp_1 = token_sampling.sample_token(
      logits_BV[row], key_B[row], temperature, top_p, top_k
    )
    assert token_B[n] == token_1[0]
    np.testing.assert_allclose(logp_B[n], logp_1[0], atol=1e-5)
