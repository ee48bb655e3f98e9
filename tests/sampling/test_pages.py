"""With a cache in pages samples are those of whole rows, whatever the pool: they
wait for pages, and start again where these do not suffice."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_deepseek
import toy_model

from r1jax import errors
from r1jax.distributed import device_placement
from r1jax.models.families import llama, qwen3_moe
from r1jax.models.gqa import LayerKind
from r1jax.models.moe import MoeConfig
from r1jax.sampling import decode, decoder, page_table, refill
from r1jax.sampling.decode_state import DecodeState, Slots

CFG = llama.Config(
  vocab_size=28,
  width=12,
  layers=2,
  heads=6,
  kv_heads=2,
  head_dim=4,
  ffn=10,
  kinds=(LayerKind(), LayerKind(window=5)),
  kind_N=(0, 1),
  sinks=True,
)
MOE = qwen3_moe.Config(
  vocab_size=19,
  width=12,
  layers=2,
  heads=4,
  kv_heads=2,
  head_dim=6,
  qk_norm=True,
  kinds=(LayerKind(),),
  dense_ffn=20,
  dense_numbers=(1,),
  moe=MoeConfig(
    experts=6, experts_per_token=2, ffn=10, score='softmax', normalize=True
  ),
)
DEEPSEEK = dataclasses.replace(
  toy_deepseek.CFG, vocab_size=17, layers=2, mtp_layers=1, keep_mtp=True
)
CONFIG = decode.SampleConfig(
  max_new_tokens=13,
  decode_slots=4,
  refill_interval=3,
  kv_windows=1,
  eos_ids=(5, 11),
)
PAGED = dict(cache_tokens=27, page_tokens=3, decode_slots=7)
P, GROUP_SIZE = 6, 3
LENGTH_P = np.array([1, 6, 3, 4, 2, 5])
KEY = jax.random.key(5)


def random_params(cfg):
  if isinstance(cfg, type(DEEPSEEK)):
    return toy_deepseek.random_params(cfg)
  return toy_model.random_params(cfg)


def prompts(cfg=CFG):
  random = np.random.default_rng(2)
  return decode.Prompts(
    tokens_PL=random.integers(0, cfg.vocab_size, (P, 6), np.int32),
    length_P=np.int32(LENGTH_P),
    number_P=np.array([4, 0, 9, 1, 2, 3], np.int32),
    first_member_P=np.zeros(P, np.int32),
    max_new_tokens_P=np.array([13, 9, 13, 13, 1, 12], np.int32),
  )


def sample(cfg, **changes):
  config = dataclasses.replace(CONFIG, **changes)
  rows = decode.sample(
    random_params(cfg), cfg, prompts(cfg), KEY, GROUP_SIZE, config
  )
  return jax.device_get(rows)


def assert_same(rows, whole):
  """All rows are the same; only the counts of steps differ."""
  assert whole.restarted is None
  assert rows.live.sum() >= whole.live.sum()
  for name in ('tokens_BL', 'pos_BL', 'mask_BL', 'finished_B'):
    found, want = getattr(rows, name), getattr(whole, name)
    np.testing.assert_array_equal(found, want)
  np.testing.assert_allclose(rows.logp_BL, whole.logp_BL, rtol=0, atol=1e-6)
  if whole.routing is not None:
    # The last token of a row is not computed.
    is_computed_BL = np.roll(whole.pos_BL, -1, axis=1) > 0
    found, want = (x.routing[is_computed_BL] for x in (rows, whole))
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize(
  'kv_windows', [1, pytest.param(3, marks=pytest.mark.slow)]
)
def test_samples_that_start_again_are_the_same(kv_windows):
  """More slots than there are pages for, on average."""
  whole, rows = sample(CFG), sample(CFG, kv_windows=kv_windows, **PAGED)
  assert_same(rows, whole)
  assert rows.restarted > 0
  assert rows.live == rows.mask_BL.sum() + rows.restarted
  assert 0 < whole.finished_B.sum() < len(whole.finished_B)


@pytest.mark.slow
@pytest.mark.parametrize(
  'model, changes',
  [
    ('llama', dict(scan_layers=False)),
    ('llama', dict(tpu_layout=True)),
    ('llama', dict(tpu_layout=True, scan_layers=False)),
    ('qwen3_moe', dict()),
    ('qwen3_moe', dict(scan_layers=False)),
    ('deepseek', dict()),
    ('deepseek', dict(absorbed=False)),
    ('deepseek', dict(scan_layers=False)),
    ('deepseek', dict(scan_layers=False, absorbed=False)),
  ],
  ids=str,
)
@pytest.mark.parametrize('draft', [False, True])
def test_samples_are_the_same_in_every_form_of_a_model(model, changes, draft):
  if draft and model != 'deepseek':
    pytest.skip('has no module that drafts')
  cfg = dict(llama=CFG, qwen3_moe=MOE, deepseek=DEEPSEEK)[model]
  cfg = dataclasses.replace(cfg, **changes)
  whole = sample(cfg, draft=draft)
  for pool in (20, 200):
    rows = sample(cfg, draft=draft, **PAGED | dict(cache_tokens=pool))
    assert_same(rows, whole)
    assert (rows.restarted > 0) == (pool == 20)


@pytest.mark.slow
@pytest.mark.parametrize(
  'strategy, tensor_parallel', [('pmap', 1), ('mesh', 1), ('mesh', 2)]
)
def test_each_device_has_a_pool(strategy, tensor_parallel, monkeypatch):
  """The loop returns to the host after each segment."""
  monkeypatch.setattr(decoder, 'CALL_SECONDS', 0)
  placement = device_placement.placement(
    device_placement.ParallelConfig(
      strategy=strategy, tensor_parallel=tensor_parallel
    ),
    jax.devices()[: 2 * tensor_parallel],
  )
  params = device_placement.put_state(placement, random_params(CFG))
  key_P2 = np.tile(jax.random.key_data(KEY), (P, 1))

  def run(**changes):
    config = dataclasses.replace(CONFIG, **changes)
    one = decoder.Decoder(placement, CFG, GROUP_SIZE, config)
    return one.run(params, prompts(), key_P2)

  whole, rows = run(), run(kv_windows=3, **PAGED)
  assert_same(rows, whole)
  assert rows.restarted.shape == (2,) and rows.restarted.all()
  with pytest.raises(errors.UserError, match='set it to 18 at least, or to 0'):
    run(cache_tokens=16, page_tokens=3)


def test_a_pool_must_hold_a_row():
  config = dataclasses.replace(CONFIG, **PAGED)
  page_table.check(config, 27)
  page_table.check(CONFIG, 28)
  with pytest.raises(errors.UserError, match='cache_tokens is 27, .* 28 token'):
    page_table.check(config, 28)


def test_a_kernel_needs_whole_tiles():
  cfg = dataclasses.replace(CFG, head_dim=16, attention='splash')
  config = dataclasses.replace(CONFIG, cache_tokens=999, page_tokens=64)
  page_table.check_kernel(CFG, config)
  gpu = dataclasses.replace(cfg, attention='cudnn', scan_layers=False)
  page_table.check_kernel(gpu, config)
  with pytest.raises(errors.UserError, match='must be a multiple of 128'):
    page_table.check_kernel(cfg, config)


@pytest.mark.parametrize('seed', range(3))
def test_pages_have_one_owner_and_every_sample_ends(seed):
  """The rule of refills alone, for samples of random lengths: a live slot has
  pages for its next segment, no page is in two slots, and the longest sample is
  never stopped, so all samples end."""
  random = np.random.default_rng(seed)
  N, B, page = 3 * 12, int(random.integers(1, 12)), int(random.integers(1, 6))
  length_P = random.integers(1, 9, 12)
  limit = 40
  length_N = np.minimum(random.geometric(0.1, N), limit)
  config = decode.SampleConfig(
    max_new_tokens=limit,
    decode_slots=B,
    refill_interval=int(random.integers(1, 8)),
    page_tokens=page,
    cache_tokens=-(-48 // page) * page + int(random.integers(0, 100)),
  )
  rows = prompts().replace(
    length_P=jnp.array(length_P), max_new_tokens_P=jnp.full(12, limit)
  )
  zero_B = np.zeros(B, np.int32)
  slots = Slots(zero_B + N, zero_B > 0, zero_B, zero_B, zero_B, *[None] * 4)
  state = DecodeState(*[None] * 12).replace(
    slots=slots,
    waiting_N=np.ones(N, bool),
    table_BN=page_table.empty(B, config.pages, config.pages_of(48)),
  )

  @jax.jit
  def refilled(state):
    plan = refill.plan(rows, 3, config, state)
    has_sample_B = plan.keep_B | plan.take_B
    table_BN = page_table.assign(
      state.table_BN, plan.keep_B, has_sample_B, plan.pages_B, config.pages
    )
    return plan, table_BN

  ends_N, restarts, segments = np.zeros(N, int), 0, 0
  while state.waiting_N.any() or state.slots.live_B.any():
    plan, table_BN = jax.device_get(refilled(state))
    old = state.slots
    restarts += np.sum(old.live_B & ~plan.keep_B)
    sample_B = np.where(plan.keep_B, old.sample_B, plan.sample_B)
    live_B = plan.keep_B | plan.take_B
    assert live_B.any()
    length_B = length_P[np.where(live_B, sample_B, 0) // 3]
    pos_B = np.where(plan.keep_B, old.pos_B, length_B - 1)
    waiting_N = plan.waiting_N.copy()
    waiting_N[sample_B[plan.take_B]] = False
    # Pages are of one slot, and those of a slot are enough.
    used = table_BN[table_BN < config.pages]
    assert len(set(used)) == len(used)
    steps = refill.segment_tokens(config)
    columns_B = np.minimum(pos_B + 1 + steps, length_B + limit)
    count_B = np.where(live_B, -(-columns_B // page), 0)
    number_1N = np.arange(table_BN.shape[1])[None]
    np.testing.assert_array_equal(
      table_BN < config.pages, number_1N < count_B[:, None]
    )
    # Samples keep the pages that they have.
    kept = plan.keep_B[:, None] & (state.table_BN < config.pages)
    np.testing.assert_array_equal(table_BN[kept], state.table_BN[kept])
    pos_B = pos_B + live_B * steps
    end_B = length_B - 1 + length_N[np.where(live_B, sample_B, 0)]
    ended_B = live_B & (pos_B >= end_B)
    ends_N[sample_B[ended_B]] += 1
    state = state.replace(
      table_BN=table_BN,
      waiting_N=waiting_N,
      slots=old.replace(
        sample_B=sample_B,
        live_B=live_B & ~ended_B,
        pos_B=np.minimum(pos_B, end_B),
        end_B=length_B + limit,
      ),
    )
    segments += 1
    assert segments < 10_000
  assert (ends_N == 1).all()
