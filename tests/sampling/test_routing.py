"""The decode loop returns the experts that each token chose; updates replay
them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import gqa, moe, token_logprobs, transformer
from r1jax.models.families import qwen3_moe
from r1jax.rl import grpo_config
from r1jax.sampling import decode, tool_calls

CFG = qwen3_moe.Config(
  vocab_size=19,
  width=12,
  layers=3,
  heads=4,
  kv_heads=2,
  head_dim=6,
  qk_norm=True,
  kinds=(gqa.LayerKind(),),
  dense_ffn=20,
  dense_numbers=(1,),
  sinks=True,
  head_chunk=8,
  cpu_layout=True,
  moe=moe.MoeConfig(
    experts=6, experts_per_token=2, ffn=10, score='softmax', normalize=True
  ),
)
SAMPLE = decode.SampleConfig(
  max_new_tokens=7,
  decode_slots=3,
  refill_interval=2,
  kv_windows=1,
  eos_ids=(5,),
)
PROMPTS = decode.Prompts(
  tokens_PL=np.array([[3, 1, 4, 1], [2, 7, 0, 0]], np.int32),
  length_P=np.array([4, 2], np.int32),
  number_P=np.arange(2, dtype=np.int32),
  first_member_P=np.zeros(2, np.int32),
  max_new_tokens_P=np.array([7, 6], np.int32),
)


@functools.cache
def params():
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), CFG))
  noise = np.random.default_rng(1).standard_normal
  return jax.tree.map(lambda a: np.float32(0.4 * noise(a.shape)), shapes)


@functools.cache
def sample(scan_layers):
  cfg = dataclasses.replace(CFG, scan_layers=scan_layers)
  key = jax.random.key(7)
  return jax.device_get(decode.sample(params(), cfg, PROMPTS, key, 3, SAMPLE))


def computed(rows):
  """The tokens that the sampler computes: all but the last of each row."""
  length_B1 = (rows.pos_BL >= 0).sum(axis=1, keepdims=True)
  return np.arange(rows.pos_BL.shape[1])[None] < length_B1 - 1


@pytest.mark.parametrize(
  'scan_layers', [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_the_sampler_returns_the_experts_that_the_trainer_chooses(scan_layers):
  rows = sample(scan_layers)
  assert rows.routing.dtype == np.uint8
  assert rows.routing.shape == (6, 11, 2, 2)
  out = jax.jit(transformer.forward, static_argnums=1)(
    params(), CFG, rows.tokens_BL, rows.pos_BL
  )
  want = np.moveaxis(out.routing, 0, 2)
  here = computed(rows)
  np.testing.assert_array_equal(rows.routing[here], want[here])
  assert (rows.routing[..., 0] != rows.routing[..., 1]).all()


def test_the_replayed_experts_of_an_unchanged_policy_change_nothing():
  rows = sample(False)
  logp = jax.jit(token_logprobs.logprobs, static_argnums=(1, 4))
  args = params(), CFG, rows.tokens_BL, rows.pos_BL, 1.0
  routing = jnp.moveaxis(rows.routing, 2, 0)
  replayed = logp(*args, routing)[0] * rows.mask_BL
  np.testing.assert_allclose(replayed, logp(*args)[0] * rows.mask_BL, atol=1e-6)
  np.testing.assert_allclose(replayed, rows.logp_BL, atol=2e-6)
  other = logp(*args, (routing + 1) % 6)[0] * rows.mask_BL
  assert np.abs(other - rows.logp_BL).max() > 0.01


def test_flips_are_the_layers_whose_experts_differ_in_any_order():
  routing = jnp.array([[[[0, 1], [2, 3], [4, 5]]], [[[0, 1], [2, 3], [4, 5]]]])
  other = routing.at[0, 0, 1].set([2, 5]).at[1, 0, 0].set([1, 0])
  other = other.at[:, 0, 2].set(0)
  flips_BT = moe.flips(routing, other, jnp.array([[0, 1, 2]]))
  assert flips_BT.tolist() == [[0, 0.5, 0]]


@pytest.mark.parametrize(
  'dtype, replay, want',
  [
    ('float32', 'auto', False),
    ('bfloat16', 'auto', True),
    ('bfloat16', 'off', False),
    ('float32', 'on', True),
  ],
)
def test_routing_is_replayed_by_config_and_dtype(dtype, replay, want):
  config = grpo_config.GrpoConfig(router_replay=replay)
  cfg = dataclasses.replace(CFG, dtype=dtype)
  assert grpo_config.replays_routing(config, cfg) == want


def test_a_continued_row_keeps_the_experts_of_its_earlier_tokens():
  rows = sample(False)
  old = tool_calls.with_width(rows, 13)
  assert (old.routing[:, 11:] == [0, 1]).all()
  new = old.replace(routing=5 - old.routing)
  answer_B = np.arange(6) % 2 == 0
  joined = tool_calls.join(old, new, answer_B)
  kept_BL = computed(old) | ~answer_B[:, None]
  np.testing.assert_array_equal(joined.routing[kept_BL], old.routing[kept_BL])
  np.testing.assert_array_equal(joined.routing[~kept_BL], new.routing[~kept_BL])
