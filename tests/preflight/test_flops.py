"""FLOPs of traced programs."""

import jax
import jax.numpy as jnp
import pytest

from r1jax.models import attention, transformer
from r1jax.preflight.compiler import flops

B, T, K, G, C = 2, 256, 2, 3, 128
ONE = B * K * G * T**2 * C  # a product of attention, of which half is hidden


def counted(fn, *shapes):
  return flops.count(jax.make_jaxpr(fn)(*shapes))


def array(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def test_a_product_is_two_flops_a_multiplication_and_loops_count():
  x, w = array(3, 5), array(7, 5, 5)
  once = counted(lambda x, w: x @ w[0], x, w)

  def scan(x, w):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  assert once.total == 2 * 3 * 5 * 5
  assert counted(scan, x, w).total == 7 * once.total


def test_recomputation_counts():
  x, w = array(3, 5), array(5, 5)

  def f(w, x):
    return jnp.sin(jnp.sin(x @ w) @ w).sum()

  again = jax.checkpoint(f, policy=jax.checkpoint_policies.nothing_saveable)
  plain = counted(jax.grad(f), w, x).total
  # Backward: dx of the second, dw of both; again: the first alone.
  assert plain == 5 * 2 * 3 * 5 * 5
  assert counted(jax.grad(again), w, x).total == plain + 2 * 2 * 3 * 5 * 5


def test_the_largest_branch_counts():
  x = array(4, 4)

  def f(n, x):
    return jax.lax.switch(n, [lambda x: x, lambda x: x @ x @ x], x)

  assert counted(f, array(dtype=jnp.int32), x).total == 4 * 4**3


def test_a_loop_of_unknown_length_stands_by_itself():
  x = array(4, 4)

  def f(n, x):
    return jax.lax.while_loop(
      lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] @ c[1]), (0, x)
    )

  found = counted(f, array(dtype=jnp.int32), x)
  assert found.total == 0 and [x.total for x in found.loops] == [2 * 4**3]


def test_every_device_of_a_shard_map_counts():
  grid = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  spec = jax.sharding.PartitionSpec('data')
  f = jax.shard_map(lambda x: x @ x.T, mesh=grid, in_specs=spec, out_specs=spec)
  assert counted(f, array(8, 5)).total == 4 * 2 * 2 * 2 * 5


@pytest.mark.parametrize('long, backward', [(10**9, 5), (0, 7)])
def test_splash_has_two_products_forward_and_five_or_seven_backward(
  monkeypatch, long, backward
):
  """dk, dv and dq in one kernel, or with the scores made twice."""
  monkeypatch.setattr(attention, 'LONG', long)
  attention._kernel.cache_clear()
  q = array(B, T, K, G, C, dtype=jnp.bfloat16)
  k = array(B, K, T, C, dtype=jnp.bfloat16)

  def f(q, k, v):
    return (
      attention.splash(q, k, v, *[jnp.zeros((B, T), jnp.int32)] * 2)
      .astype(jnp.float32)
      .sum()
    )

  assert counted(f, q, k, k).kernels == 2 * ONE
  gradient = jax.grad(f, argnums=(0, 1, 2))
  assert counted(gradient, q, k, k).kernels == (2 + backward) * ONE
  attention._kernel.cache_clear()


def test_a_model_multiplies_each_weight_once_a_token():
  cfg = transformer.ModelConfig(
    vocab_size=13, width=8, layers=3, heads=4, kv_heads=2, head_dim=2, ffn=10
  )
  params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  ids = array(2, 7, dtype=jnp.int32)

  def f(p, tokens, pos):
    return transformer.logprobs(p, cfg, tokens, pos)

  matrices = 8 * (8 + 2 * 4 + 8) + 3 * 8 * 10
  attend = 2 * 2 * 2 * 7 * 7 * 8
  head = 2 * 2 * 6 * 8 * 13
  expected = 3 * (2 * 2 * 7 * matrices + attend) + head
  assert counted(f, params, ids, ids).total == expected
