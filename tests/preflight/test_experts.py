"""Preflight's formulas for mixtures of experts, by numbers computed by hand."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest
import toy_deepseek
from toy_preflight import SMALL, costs_by_name, make_plan, traced_flops

from r1jax.models import expert_rounds, grouped
from r1jax.models.families import qwen3_moe
from r1jax.models.moe import MoeConfig
from r1jax.preflight import (
  chips,
  experts,
  host_memory,
  layers,
  plan,
  report,
  shapes,
)
from r1jax.preflight.compiler import flops

QWEN = qwen3_moe.Config(
  vocab_size=60,
  width=24,
  layers=3,
  heads=4,
  kv_heads=2,
  head_dim=4,
  dense_ffn=20,
  head_chunk=31,
  moe=MoeConfig(
    experts=6, experts_per_token=2, ffn=8, score='softmax', normalize=True
  ),
)
DEEPSEEK = dataclasses.replace(toy_deepseek.CFG, head_chunk=31)


def plan_of(cfg, imbalance=1.5, **changes):
  """The Plan of a tiny model on two devices of 'model'."""
  made = make_plan('cpu:4', **SMALL | changes)
  cfg = dataclasses.replace(cfg, remat=made.config.compute.remat)
  return dataclasses.replace(made, cfg=cfg, expert_imbalance=imbalance)


def load_of(made):
  """The Load of a micro-batch."""
  tokens = made.micro_batch_rows * made.row_len
  return experts.load(made, tokens, made.row_len)


@pytest.fixture
def small_rounds(monkeypatch):
  monkeypatch.setattr(expert_rounds, 'TILE', 8)
  monkeypatch.setattr(expert_rounds, 'SENT_TILE', 1)


def test_rows_of_the_busiest_device_are_the_mean_times_the_imbalance():
  # 2 experts a token, 3 of 6 on a device: on average one of them.
  load = load_of(plan_of(QWEN))
  assert load == experts.Load(rows=2, used=1.5)
  assert load.filled == 0.75
  assert load_of(plan_of(QWEN, imbalance=3.0)).used == 2
  whole = make_plan(
    'cpu:4', **SMALL | dict(parallel__tensor_parallel=1, micro_batch_size=4)
  )
  assert load_of(dataclasses.replace(whole, cfg=QWEN)).filled == 1


def test_rounds_have_room_for_somewhat_more_rows_than_the_mean(small_rounds):
  # 64 tokens: 1.25 rows of each, 96 on the busiest device.
  load = load_of(plan_of(QWEN))
  want = experts.Load(rows=1.25, used=1.5, rounds=2, in_rounds=True)
  assert load == want and load.filled == 0.6
  assert load_of(plan_of(QWEN, imbalance=1.0)).rounds == 1
  # A decode step is in one round.
  assert not experts.load(plan_of(QWEN), tokens=64, length=1).in_rounds


def test_rows_of_a_pair_of_devices_vary_around_the_mean(small_rounds):
  # Each of two devices has 32 tokens and sends 32 rows to each; there is room for
  # 64. The busiest receives 48 on average and at most 48 + (2 * 48 ln 2)^(1/2).
  load = experts.exchanged_load(plan_of(QWEN), tokens=64)
  assert (load.rows, load.rounds, load.is_exchanged) == (2, 1, True)
  load = experts.exchanged_load(plan_of(QWEN, imbalance=1.9), tokens=64)
  assert load.rounds == 2


def test_channels_are_those_of_the_rows():
  made = plan_of(QWEN)
  load = load_of(made)
  assert experts.used_channels(made, load) == 1.5 * 8
  assert experts.buffer_channels(made, load) == 2 * 8
  assert experts.decode_channels(made) == 1.5 * 8
  tpu = dataclasses.replace(QWEN, tpu_layout=True)
  assert experts.decode_channels(plan_of(tpu)) == 3 * 8
  # One of three layers is dense with 20 channels; the shared expert has 24.
  others = (20 / 3 + 24 * 2 / 3) / 2
  made = plan_of(DEEPSEEK)
  used = experts.used_channels(made, load_of(made))
  assert used == pytest.approx(others + 1.5 * 12 * 2 / 3)


def test_a_dense_model_has_its_part_of_the_channels():
  made = make_plan()
  load = load_of(made)
  assert load.filled == 1
  for channels in experts.used_channels, experts.buffer_channels:
    assert channels(made, load) == 18944 / 4
  assert experts.decode_channels(made) == 18944 / 4
  assert experts.row_bytes(made, load) == 0


def test_buffers_do_not_depend_on_the_load(small_rounds):
  needs = []
  for imbalance in 1.0, 1.9:
    costs = costs_by_name(plan_of(QWEN, imbalance))
    needs.append([cost.need for cost in costs.values()])
  assert needs[0] == needs[1]
  # 1.25 rows of inputs and of float32 outputs, and the sum of the token.
  made = plan_of(QWEN)
  assert experts.row_bytes(made, load_of(made)) == 24 * (1.25 * (4 + 4) + 4)


@pytest.mark.parametrize(
  'cfg, remat', [(QWEN, 'dots'), (DEEPSEEK, 'full')], ids=['qwen', 'deepseek']
)
def test_the_formulas_flops_equal_those_of_the_traced_programs(cfg, remat):
  made = plan_of(cfg, compute__remat=remat)
  traced, formula = traced_flops(made), costs_by_name(made)
  assert traced == pytest.approx({n: formula[n].flops for n in traced})


@pytest.mark.parametrize(
  'cfg, remat', [(QWEN, 'none'), (DEEPSEEK, 'full')], ids=['qwen', 'deepseek']
)
def test_the_flops_of_rounds_equal_those_of_the_traced_programs(
  cfg, remat, small_rounds, monkeypatch
):
  """The rows of DEEPSEEK are exchanged."""
  is_exchanged = cfg is DEEPSEEK
  monkeypatch.setattr(expert_rounds, 'is_exchanged', lambda *_: is_exchanged)
  made = plan_of(cfg, compute__remat=remat)
  load = load_of(made)
  assert load.in_rounds and load.is_exchanged == is_exchanged
  traced, formula = traced_flops(made), costs_by_name(made)
  assert traced == pytest.approx({n: formula[n].flops for n in traced})


def test_imbalance_adds_to_the_time_of_experts_alone():
  balanced, busy = [costs_by_name(plan_of(QWEN, x)) for x in (1.0, 1.5)]
  tokens = 4 // 2 * 32
  rows = 0.5 * 3 * 2 * 24 * 8 * 3  # more FLOPs of a token in three layers
  more = busy['score'].flops - balanced['score'].flops
  assert more == tokens * rows


def test_rows_that_belong_to_no_expert_are_not_counted():
  x, sizes = jnp.zeros((512, 256)), jnp.zeros(4, jnp.int32)
  w = jnp.zeros((4, 256, 128))

  def loss(form):
    return lambda x, w: grouped.dot(form, x, w, sizes).sum()

  for form in 'gmm', 'ragged':
    # Forward, dx and dw.
    for filled in 1.0, 0.25:
      jaxpr = jax.make_jaxpr(jax.grad(loss(form), argnums=(0, 1)))(x, w)
      found = flops.count(jaxpr, filled=filled)
      assert found.total == filled * 3 * 2 * 512 * 256 * 128, form


def test_what_is_sent_if_tokens_are_gathered_and_if_rows_are_exchanged():
  # All tokens; there and back; half of them to the other device.
  gathered, exchanged = experts.dispatch(plan_of(QWEN), tokens=64)
  assert gathered == 2 * (64 * 24 * 4) * 3 / 2
  # 2 rows of a token, in one round.
  assert exchanged == 2 * gathered
  # Two of the three layers have experts. The shared expert has 24 channels.
  gathered, exchanged = experts.dispatch(plan_of(DEEPSEEK), tokens=64)
  assert gathered == pytest.approx(2 * (64 * 16 * 4) * 2 / 2)
  weights = 2 * 3 * 16 * 24 * 4 / 2
  assert exchanged == pytest.approx(2 * gathered + weights)


def test_rows_are_exchanged_where_that_sends_less():
  moe = DEEPSEEK.moe
  many = dataclasses.replace(
    moe, experts=256, experts_per_token=8, shared_ffn=2048
  )
  # 8 rows of a token among 64 devices, with room for twice as many.
  assert expert_rounds.is_exchanged(many, own_tokens=256, devices=64)
  # The weights of the shared expert are more than a few tokens.
  assert not expert_rounds.is_exchanged(many, own_tokens=64, devices=64)
  assert not expert_rounds.is_exchanged(many, own_tokens=2048, devices=8)


def test_the_experts_of_sampled_tokens_are_in_the_memory_of_hosts_and_devices():
  made = plan_of(QWEN)
  assert layers.routing_bytes(made) == 3 * 2  # uint8
  many = dataclasses.replace(QWEN.moe, experts=300)
  many = dataclasses.replace(QWEN, moe=many)
  assert layers.routing_bytes(plan_of(many)) == 3 * 2 * 2  # uint16
  assert layers.routing_bytes(plan_of(DEEPSEEK)) == 2 * 2
  assert layers.routing_bytes(make_plan()) == 0
  rows, length = 4 * 2, 32
  token = 2 * (13 + 6) + 5 * 4
  state = 12 * shapes.num_parameters(QWEN)  # parameters and optimiser
  run = host_memory.needs(made)['run'] - host_memory.PROCESS
  assert state / 4 < run - rows * length * token < 2 * state
  samples = costs_by_name(made)['decode'].parts['samples']
  assert samples == made.samples * length * (13 + 6)


@pytest.mark.parametrize(
  'init, total, active',
  [
    ('Qwen/Qwen3-30B-A3B', 30.5, 3.35),
    ('openai/gpt-oss-20b', 20.9, 4.19),
    ('openai/gpt-oss-120b', 116.8, 5.71),
    ('deepseek-ai/DeepSeek-R1', 671.0, 37.55),
  ],
)
def test_flops_count_active_parameters_and_memory_all(init, total, active):
  """Qwen3-30B-A3B has 3.3 B active parameters, as published; 2048 * (2 * 4096 +
  2 * 512) + 8 * 3 * 2048 * 768 + 2048 * 128 of each layer and two tables. Those
  of gpt-oss are published without the embedding: 3.61 B and 5.13 B."""
  made = make_plan(init=init)
  made = dataclasses.replace(made, expert_imbalance=1.0)
  cfg, layer = made.cfg, made.cfg.layer_sizes
  tables = 2 * cfg.vocab_size * cfg.width
  used = cfg.layers * (layer.weights + layer.replicated)
  assert round((used + tables) / 1e9, 2) == active
  products, _ = layers.forward_flops(made, 10, 4096)
  shared = used - cfg.layers * layer.replicated
  assert products == pytest.approx(2 * 10 * (used - shared * 3 / 4))
  parameters = costs_by_name(made)['train'].parts['parameters']
  count = shapes.num_parameters(cfg)
  assert round(count / 1e9, 1) == total
  # The routers are on every device, and the biases of gpt-oss on more than one.
  routers = layer.expert_layers * cfg.layers * cfg.width * cfg.num_experts
  sharded = (count - routers) / 256
  assert parameters == pytest.approx(4 * (sharded + routers), rel=0.03)


def test_a_report_has_the_experts_and_what_is_sent_for_them():
  made = make_plan(init='Qwen/Qwen3-30B-A3B')
  lines = report.lines(made, list(costs_by_name(made).values()), [])
  text = ' '.join(' '.join(lines).split())
  assert '8 of 128 a token, 32 on a chip; its buffers have 2.5 rows' in text
  assert '2 are used on average and 4 on the busiest chip' in text
  assert '(--expert-imbalance=2), 2 rounds there' in text
  assert f'--expert-imbalance={plan.EXPERT_IMBALANCE:g}' in text
  # 4,096 tokens of 2,048 bfloat16 channels, 48 layers, there and back.
  sent = f'{2 * 4096 * 2048 * 2 * 48 * 3 / 4 / chips.GIB:.3f} GiB by all-gather'
  assert sent in text
  assert max(map(len, lines)) <= 100
  dense = make_plan()
  lines = report.lines(dense, list(costs_by_name(dense).values()), [])
  assert 'experts' not in ' '.join(lines)


def test_a_decode_step_with_a_draft_computes_two_tokens_and_the_module():
  cfg = dataclasses.replace(
    DEEPSEEK, layers=2, dense_layers=0, mtp_layers=1, keep_mtp=True
  )
  made = plan_of(cfg, sample__draft=True)
  traced, formula = traced_flops(made), costs_by_name(made)
  for name in 'prefill', 'decode':
    assert traced[name] == pytest.approx(formula[name].flops)
  without = plan_of(cfg)
  plain = costs_by_name(without)
  # The caches of two layers, and of the module.
  caches = [x['decode'].parts['cache'] for x in (formula, plain)]
  assert caches[0] == caches[1] * 3 / 2
  module = sum(
    leaf.size for leaf in jax.tree.leaves(shapes.parameters(cfg)['mtp'])
  )
  weights = [x['decode'].parts['rollout weights'] for x in (formula, plain)]
  assert 4 * module / 2 < weights[0] - weights[1] < 4 * module
  assert made.calls()['decode'] == math.ceil(
    4 * 24 / (1 + plan.DRAFT_ACCEPTANCE) / 2
  )
  text = ' '.join(' '.join(report._describe_run(made)).split())
  assert 'it samples 1.85 tokens' in text


def test_packed_rows_have_a_prompt_once():
  # Two responses of 24 tokens to a prompt of 8.
  made, whole = plan_of(QWEN), plan_of(QWEN, grpo__share_prompts='off')
  assert (made.packed_share, whole.packed_share) == (56 / 64, 1)
  assert plan_of(QWEN, grpo__mtp_coef=0.1).packed_share == 1
  # Long responses: they are not worth it.
  longer = dict(sample__max_new_tokens=72)
  assert plan_of(QWEN, **longer).packed_share == 1
  longer |= dict(grpo__share_prompts='on')
  assert plan_of(QWEN, **longer).packed_share == 152 / 160
  times = []
  for x in made, whole:
    seconds = report._rollout_time(x, list(costs_by_name(x).values()))
    times.append(seconds['overlapped'])
  assert times[0]['train'] == times[1]['train'] * 56 / 64
  assert times[0]['decode'] == times[1]['decode']
