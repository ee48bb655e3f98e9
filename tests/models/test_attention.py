"""Attention over given keys and values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import attention

B, K, S, C = 2, 3, 7, 4


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('queries, group', [(1, 1), (1, 2), (5, 1)])
def test_cpu_layout_attends_as_the_plain_form(dtype, queries, group):
  keys = jax.random.split(jax.random.key(0), 4)
  shape_BTKGC = B, queries, K, group, C
  q_BTKGC = jax.random.normal(keys[0], shape_BTKGC).astype(dtype)
  kv = [jax.random.normal(k, (B, K, S, C)).astype(dtype) for k in keys[1:3]]
  visible_BTS = jax.random.bernoulli(keys[3], 0.7, (B, queries, S))
  visible_BTS = visible_BTS.at[..., 0].set(True)
  sink_KG = jnp.linspace(-1, 1, K * group).reshape(K, group)

  def attend(cpu_layout):
    form = attention.Form(C**-0.5, cpu_layout=cpu_layout)
    return attention.attend(form, q_BTKGC, tuple(kv), visible_BTS, sink_KG)

  plain, on_cpu = attend(False), attend(True)
  assert on_cpu.shape == shape_BTKGC
  # Sums in another order; probabilities are rounded to the dtype.
  tolerance = 1e-6 if dtype == 'float32' else 0.02
  np.testing.assert_allclose(on_cpu, plain, atol=tolerance)
