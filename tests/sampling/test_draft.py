"""Speculative sampling: the tokens of a step have the distribution of plain
decoding, whatever the module of multi-token prediction drafts."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_deepseek
import toy_model
import toy_sampling

from r1jax import errors
from r1jax.data.templates import PromptConfig
from r1jax.models import attention, transformer
from r1jax.sampling import decode, draft, token_sampling

CFG = dataclasses.replace(
  toy_deepseek.CFG,
  vocab_size=5,
  layers=1,
  dense_layers=0,
  mtp_layers=1,
  keep_mtp=True,
  scan_layers=False,
)
CONFIG = decode.SampleConfig(
  max_new_tokens=9,
  decode_slots=64,
  refill_interval=5,
  kv_windows=1,
  draft=True,
)
LENGTH_P = np.array([4, 1, 6, 2])
GROUP_SIZE = 3
B = len(LENGTH_P) * GROUP_SIZE
PROMPTS = decode.Prompts(
  tokens_PL=np.random.default_rng(3).integers(0, 5, (4, 6), np.int32),
  length_P=np.int32(LENGTH_P),
  number_P=np.array([3, 0, 8, 1], np.int32),
  first_member_P=np.zeros(4, np.int32),
  max_new_tokens_P=np.array([9, 8, 99, 1], np.int32),
)
KEY = jax.random.key(11)


@functools.cache
def params():
  return toy_deepseek.random_params(CFG)


@functools.cache
def uniform_params():
  """All tokens are equally probable, for the model and for the module, so that
  each draft is accepted."""
  mtp = params()['mtp']
  mtp = mtp | dict(mtp_norm=0 * mtp['mtp_norm'])
  return params() | dict(norm=0 * params()['norm'], mtp=mtp)


def sample(weights, model=(), **changes):
  """SampledRows on the host, with changes of CONFIG and, as a dict, of CFG."""
  cfg = dataclasses.replace(CFG, **dict(model))
  config = dataclasses.replace(CONFIG, **changes)
  rows = decode.sample(weights, cfg, PROMPTS, KEY, GROUP_SIZE, config)
  return jax.device_get(rows)


@functools.cache
def endless():
  """Rows without end tokens, some of whose drafts are accepted."""
  rows = sample(params())
  assert not rows.finished_B.any()
  assert B * 2 < rows.live < rows.mask_BL.sum() - B
  return rows


def sampled_ids(rows):
  """The sampled ids of every row."""
  return [ids[mask].tolist() for ids, mask in zip(rows.tokens_BL, rows.mask_BL)]


def assert_same(a, b):
  assert sampled_ids(a) == sampled_ids(b)
  np.testing.assert_allclose(
    a.logp_BL[a.mask_BL], b.logp_BL[b.mask_BL], rtol=0, atol=1e-5
  )


@jax.jit
def full_forward(weights, tokens_BL, pos_BL):
  """(logits_BLV, those of the module, the chosen experts) of the trainer."""
  cfg = dataclasses.replace(CFG, scan_layers=True)
  out = transformer.forward(weights, cfg, tokens_BL, pos_BL)
  next_BL, hidden = transformer.next_tokens(tokens_BL), out.hidden_BTD
  module = transformer.mtp_forward(weights, cfg, next_BL, pos_BL, hidden)
  logits_BLV, module_BLV = (
    transformer.unembed(weights, cfg, x.hidden_BTD) for x in (out, module)
  )
  return logits_BLV, module_BLV, out.routing


def test_tokens_have_the_log_probabilities_and_experts_of_the_trainer():
  rows = endless()
  logits_BLV, _, routing = full_forward(params(), rows.tokens_BL, rows.pos_BL)
  logp_BLV = jax.nn.log_softmax(logits_BLV)[:, :-1]
  logp_BL = np.take_along_axis(logp_BLV, rows.tokens_BL[:, 1:, None], 2)[..., 0]
  error = np.abs(logp_BL - rows.logp_BL[:, 1:])[rows.mask_BL[:, 1:]]
  assert error.max() <= 1e-5
  length_B1 = (rows.pos_BL >= 0).sum(axis=1, keepdims=True)
  computed_BL = np.arange(rows.pos_BL.shape[1])[None] < length_B1 - 1
  want = np.moveaxis(routing, 0, 2)
  np.testing.assert_array_equal(rows.routing[computed_BL], want[computed_BL])


def test_rows_have_the_lengths_of_their_limits():
  lengths = endless().mask_BL.sum(axis=1).reshape(-1, GROUP_SIZE)
  np.testing.assert_array_equal(lengths.T, [[9, 8, 9, 1]] * GROUP_SIZE)


FORMS = [
  dict(),
  dict(scan_layers=True),
  dict(absorbed=False),
  dict(scan_layers=True, absorbed=False),
  dict(dtype='bfloat16', cpu_layout=True),
]


@pytest.mark.parametrize(
  'form',
  [pytest.param(form, marks=pytest.mark.slow) for form in FORMS],
  ids=str,
)
def test_greedy_tokens_are_those_of_plain_decoding(form):
  config = dict(model=form, temperature=0.0)
  rows, plain = (
    sample(params(), **config),
    sample(params(), draft=False, **config),
  )
  assert rows.live < plain.live == plain.mask_BL.sum()
  if form.get('dtype'):
    assert np.mean(rows.tokens_BL == plain.tokens_BL) > 0.9
  else:
    assert_same(rows, plain)


@functools.cache
def greedy():
  return sample(params(), temperature=0.0)


def test_greedy_tokens_are_the_argmax_of_the_full_forward():
  rows = greedy()
  logits_BLV, _, _ = full_forward(params(), rows.tokens_BL, rows.pos_BL)
  argmax_BL, mask_BL = np.argmax(logits_BLV, axis=-1), rows.mask_BL
  np.testing.assert_array_equal(
    argmax_BL[:, :-1][mask_BL[:, 1:]], rows.tokens_BL[mask_BL]
  )


def test_a_step_has_two_tokens_if_the_full_forward_of_the_module_is_right():
  rows = greedy()
  _, module_BLV, _ = full_forward(params(), rows.tokens_BL, rows.pos_BL)
  draft_BL = np.argmax(module_BLV, axis=-1)[:, :-2]
  draft_BL = np.pad(draft_BL, ((0, 0), (2, 0)))
  steps = 0
  for tokens, mask, drafts in zip(rows.tokens_BL, rows.mask_BL, draft_BL):
    (sampled,) = np.nonzero(mask)
    t, end = sampled[0], sampled[-1] + 1
    while t < end:
      steps += 1
      # After a prompt of one token the draft is arbitrary, and here wrong.
      t += 1 + (t > 1 and drafts[t] == tokens[t])
  assert steps == rows.live
  assert B < steps < rows.mask_BL.sum()


def truncate(ids, eos_ids, stop):
  """(ids up to the first end token or stop sequence, whether one ends it)."""
  for n, token in enumerate(ids):
    head = ids[: n + 1]
    if token in eos_ids or head[-len(stop) :] == list(stop):
      return head, True
  return ids, False


EOS_IDS, STOP = (2,), (3, 4)


def rows_with_ends(weights):
  """Rows of another layout that end early: (rows, [(ids, whether they ended)]
  of the whole rows, truncated)."""
  rows = sample(
    weights,
    model=dict(scan_layers=True),
    decode_slots=2,
    refill_interval=2,
    kv_windows=2,
    eos_ids=EOS_IDS,
    stop_token_sequences=(STOP,),
  )
  whole = sampled_ids(sample(weights))
  return rows, [truncate(ids, EOS_IDS, STOP) for ids in whole]


def test_rows_end_and_do_not_depend_on_slots_refills_windows_or_layout():
  rows, want = rows_with_ends(params())
  assert sampled_ids(rows) == [ids for ids, _ in want]
  np.testing.assert_array_equal(rows.finished_B, [ended for _, ended in want])
  logp_BL = endless().logp_BL * rows.mask_BL
  np.testing.assert_allclose(rows.logp_BL, logp_BL, rtol=0, atol=1e-5)


def test_both_tokens_of_a_step_may_end_a_row():
  """All drafts are accepted, so a row of an even length ends with the second
  token of a step. What would follow is dropped."""
  rows, want = rows_with_ends(uniform_params())
  assert sampled_ids(rows) == [ids for ids, _ in want]
  np.testing.assert_array_equal(rows.finished_B, [ended for _, ended in want])
  ends = {(ids[-1] in EOS_IDS, len(ids) % 2) for ids, ended in want if ended}
  assert ends == set(itertools.product([True, False], [0, 1]))
  assert rows.live == sum(-(-len(ids) // 2) for ids, _ in want)
  assert not rows.tokens_BL[rows.pos_BL < 0].any()


def chi_square(count_N, prob_N):
  """(statistic, its bound) of counts whose expectations are prob_N times their
  sum. Outcomes that are expected less than 5 times are one."""
  want_N = prob_N * count_N.sum()
  rare_N = want_N < 5
  count = np.append(count_N[~rare_N], count_N[rare_N].sum())
  want = np.append(want_N[~rare_N], want_N[rare_N].sum())
  assert not count[want == 0].any()
  count, want = count[want > 0], want[want > 0]
  degrees = len(want) - 1
  # Six standard deviations above the mean.
  bound = degrees + 6 * np.sqrt(2 * degrees)
  return np.sum((count - want) ** 2 / want), bound


def test_verified_tokens_have_the_distribution_of_the_model():
  p_V = np.array([0.05, 0.3, 0, 0.25, 0.4, 0], np.float32)
  q_V = np.array([0.5, 0.1, 0.2, 0.15, 0, 0.05], np.float32)
  N = 8_000
  p_BV, q_BV = (jnp.tile(prob_V, (N, 1)) for prob_V in (p_V, q_V))
  uniform_5B = token_sampling.uniform(jax.random.split(KEY, N), 5)
  draft_B = jax.jit(token_sampling.invert)(q_BV, uniform_5B[:2])
  token_B, is_accepted_B = jax.jit(draft.verify)(
    p_BV, q_BV, draft_B, uniform_5B[2:]
  )
  np.testing.assert_array_equal(token_B[is_accepted_B], draft_B[is_accepted_B])
  statistic, bound = chi_square(np.bincount(token_B, minlength=6), p_V)
  assert statistic < bound
  accepted = np.minimum(p_V, q_V).sum()
  assert abs(is_accepted_B.mean() - accepted) < 6 * (0.25 / N) ** 0.5


TRUNCATION = dict(temperature=1.3, top_p=0.9, top_k=4)
WHOLE = dict(temperature=0.8, top_p=1.0, top_k=0)


@pytest.mark.parametrize(
  'truncation',
  [TRUNCATION, pytest.param(WHOLE, marks=pytest.mark.slow)],
  ids=str,
)
def test_sequences_have_the_distribution_of_the_model(truncation):
  """Of three tokens, against the exact probabilities of all sequences."""
  count, N, start = 3, 8_000, 4
  prompts = jax.tree.map(lambda a: a[:1], PROMPTS)
  config = dataclasses.replace(
    CONFIG, max_new_tokens=count, decode_slots=N, **truncation
  )
  rows = decode.sample(params(), CFG, prompts, KEY, N, config)
  assert 0.2 < rows.mask_BL.sum() / rows.live - 1 < 0.6

  every = np.array(list(itertools.product(range(5), repeat=count)))
  prompt = np.broadcast_to(PROMPTS.tokens_PL[:1, :start], (len(every), start))
  tokens_BL = np.concatenate([prompt, every], axis=1)
  pos_BL = np.broadcast_to(np.arange(tokens_BL.shape[1]), tokens_BL.shape)
  cfg = dataclasses.replace(CFG, scan_layers=True)
  logits_BLV = toy_model.logits(params(), cfg, tokens_BL, pos_BL)
  logits = jnp.array(logits_BLV[:, start - 1 : -1].reshape(-1, 5))
  prob = token_sampling.probabilities(logits, **truncation)
  prob = np.asarray(prob).reshape(-1, count, 5)
  prob_N = np.take_along_axis(prob, every[:, :, None], axis=2).prod(axis=(1, 2))
  assert abs(prob_N.sum() - 1) < 1e-4

  digits = np.asarray(rows.tokens_BL)[:, start : start + count]
  number = digits @ 5 ** np.arange(count)[::-1]
  statistic, bound = chi_square(np.bincount(number, minlength=125), prob_N)
  assert statistic < bound


def test_a_model_without_the_module_cannot_draft():
  with pytest.raises(errors.UserError, match='set config.compute.keep_mtp'):
    toy_sampling.sampler(PromptConfig(), CONFIG)


@pytest.mark.parametrize(
  'form', [dict(), dict(tpu_layout=True), dict(cpu_layout=True)], ids=str
)
def test_two_keys_are_written_to_their_columns(form):
  cfg = dataclasses.replace(CFG, **form)
  cache = jnp.zeros((2, 3, 7, 4), 'bfloat16')
  new = jnp.arange(1, 49, dtype='bfloat16').reshape(2, 3, 2, 4)
  out = attention.write(cfg, cache, new, jnp.array([1, 5]))
  np.testing.assert_array_equal(out[0, :, 1:3], new[0])
  np.testing.assert_array_equal(out[1, :, 5:], new[1])
  assert np.count_nonzero(out) == new.size
