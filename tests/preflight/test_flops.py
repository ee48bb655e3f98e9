"""FLOPs of traced programs, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from toy_preflight import make_plan

from r1jax.models import attention, token_logprobs, tpu_attention, transformer
from r1jax.models.families import llama
from r1jax.preflight import layers
from r1jax.preflight.compiler import flops

B, T, K, G, C = 2, 256, 2, 3, 128
ONE = B * K * G * T**2 * C  # FLOPs of a causal product of attention


def count_flops(fn, *shapes):
  return flops.count(jax.make_jaxpr(fn)(*shapes))


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def test_a_product_has_two_flops_a_multiplication_and_loops_multiply_it():
  x, w = array(3, 5), array(7, 5, 5)
  once = count_flops(lambda x, w: x @ w[0], x, w)

  def scan(x, w):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  assert once.total == 2 * 3 * 5 * 5
  assert count_flops(scan, x, w).total == 7 * once.total


def test_recomputation_is_counted():
  x, w = array(3, 5), array(5, 5)

  def f(w, x):
    return jnp.sin(jnp.sin(x @ w) @ w).sum()

  again = jax.checkpoint(f, policy=jax.checkpoint_policies.nothing_saveable)
  plain = count_flops(jax.grad(f), w, x).total
  # The backward pass has dx of the second product and dw of both. Remat
  # computes the forward products again.
  assert plain == 5 * 2 * 3 * 5 * 5
  assert count_flops(jax.grad(again), w, x).total == plain + 2 * 2 * 3 * 5 * 5


def test_the_largest_branch_is_counted():
  x = array(4, 4)

  def f(n, x):
    return jax.lax.switch(n, [lambda x: x, lambda x: x @ x @ x], x)

  assert count_flops(f, array(dtype=jnp.int32), x).total == 4 * 4**3


def test_a_loop_of_unknown_length_is_counted_apart():
  x = array(4, 4)

  def f(n, x):
    return jax.lax.while_loop(
      lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] @ c[1]), (0, x)
    )

  found = count_flops(f, array(dtype=jnp.int32), x)
  assert found.total == 0 and [x.total for x in found.loops] == [2 * 4**3]


def test_shard_map_counts_every_device():
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spec = jax.sharding.PartitionSpec('data')
  f = jax.shard_map(lambda x: x @ x.T, mesh=mesh, in_specs=spec, out_specs=spec)
  assert count_flops(f, array(8, 5)).total == 4 * 2 * 2 * 2 * 5


@pytest.mark.parametrize('limit, backward', [(10**9, 5), (0, 7)])
def test_splash_has_two_products_forward_and_five_or_seven_backward(
  monkeypatch, limit, backward
):
  """The backward pass is one kernel for dk, dv and dq, or two that both compute
  the scores."""
  monkeypatch.setattr(tpu_attention, 'FUSED_BACKWARD_LIMIT', limit)
  tpu_attention._splash_kernel.cache_clear()
  q = array(B, T, K, G, C, dtype=jnp.bfloat16)
  k = array(B, K, T, C, dtype=jnp.bfloat16)

  def f(q, k, v):
    form = attention.Form(C**-0.5)
    out = tpu_attention.splash(form, q, (k, v), jnp.zeros((B, T), jnp.int32))
    return out.astype(jnp.float32).sum()

  assert count_flops(f, q, k, k).kernels == 2 * ONE
  part = flops.visible_keys(T, (64,)) / (T / 2)
  local = flops.count(jax.make_jaxpr(f)(q, k, k), windows=(64,))
  assert local.kernels == part * 2 * ONE and part == 0.4375
  gradient = jax.grad(f, argnums=(0, 1, 2))
  assert count_flops(gradient, q, k, k).kernels == (2 + backward) * ONE
  tpu_attention._splash_kernel.cache_clear()


def test_keys_outside_of_a_window_are_not_counted():
  # Of 8 queries with windows of 4 keys: 1 + 2 + 3 + 5 * 4, where the diagonal
  # counts half.
  assert flops.visible_keys(8, (4,)) * 8 == 1 + 2 + 3 + 5 * 4 - 4 / 2
  assert flops.visible_keys(8, (0,)) == flops.visible_keys(8, (20,)) == 4
  assert flops.visible_keys(8, (0, 4)) == (4 + 3) / 2


def test_attention_of_layers_with_windows_has_fewer_flops():
  made = make_plan(init='google/gemma-3-1b-it', parallel__tensor_parallel=1)
  assert made.cfg.attention == 'splash'
  windows = made.cfg.layer_sizes.windows
  assert (windows.count(512), windows.count(0)) == (22, 4)
  _, attend = layers.forward_flops(made, tokens=10, length=4096)
  keys = 4 * 4096 / 2 + 22 * (512 - 512**2 / (2 * 4096))
  assert attend == pytest.approx(2 * 10 * keys * (4 * 256 * 2))
  # einsum computes all products and masks them.
  plain = make_plan(
    init='google/gemma-3-1b-it',
    compute__attention='einsum',
    parallel__tensor_parallel=1,
  )
  _, attend = layers.forward_flops(plain, tokens=10, length=4096)
  assert attend == 2 * 10 * 26 * 4096 * (4 * 256 * 2)


def test_a_model_multiplies_each_weight_once_a_token():
  cfg = llama.Config(
    vocab_size=13, width=8, layers=3, heads=4, kv_heads=2, head_dim=2, ffn=10
  )
  params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  ids = array(2, 7, dtype=jnp.int32)

  def f(p, tokens, pos):
    return token_logprobs.logprobs(p, cfg, tokens, pos)

  matrices = 8 * (8 + 2 * 4 + 8) + 3 * 8 * 10
  attend = 2 * 2 * 2 * 7 * 7 * 8
  head = 2 * 2 * 6 * 8 * 13
  expected = 3 * (2 * 2 * 7 * matrices + attend) + head
  assert count_flops(f, params, ids, ids).total == expected
