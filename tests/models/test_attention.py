"""Attention over given keys and values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import attention

B, K, S, C = 2, 3, 7, 4


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('group', [1, 2])
@pytest.mark.parametrize('is_past', [False, True])
def test_cpu_layout_attends_as_the_plain_form(dtype, group, is_past):
  keys = iter(jax.random.split(jax.random.key(0), 6))

  def normal(*shape):
    return jax.random.normal(next(keys), shape).astype(dtype)

  q_BTKGC = normal(B, 1, K, group, C)
  cached, new = ((normal(B, K, s, C), normal(B, K, s, C)) for s in (S, 1))
  visible_BTS = jnp.arange(S)[None, None] < jnp.array([3, 5])[:, None, None]
  sink_KG = jnp.linspace(-1, 1, K * group).reshape(K, group)

  def attend(cpu_layout):
    form = attention.Form(C**-0.5, cpu_layout=cpu_layout)
    if is_past:
      args = q_BTKGC, new, cached, visible_BTS, sink_KG
      return attention.attend_past(form, *args)
    return attention.attend(form, q_BTKGC, cached, visible_BTS, sink_KG)

  plain, on_cpu = attend(False), attend(True)
  assert on_cpu.shape == q_BTKGC.shape
  # Sums in another order; probabilities are rounded to the dtype.
  tolerance = 1e-6 if dtype == 'float32' else 0.02
  np.testing.assert_allclose(on_cpu, plain, atol=tolerance)
