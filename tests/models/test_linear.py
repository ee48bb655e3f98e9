"""Products do not depend on the form in which a backend computes them."""

import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import linear


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_row_alone_has_the_product_that_it_has_among_others(dtype):
  random = np.random.default_rng(0)
  x_BTD = jnp.array(random.normal(size=(3, 2, 5)), dtype)
  w_DKF = jnp.array(random.normal(size=(5, 4, 7)), dtype)
  want = linear.linear(True, x_BTD, w_DKF)
  alone = linear.linear(True, x_BTD[1:2, :1], w_DKF)
  assert alone.shape == (1, 1, 4, 7)
  np.testing.assert_allclose(alone, want[1:2, :1], rtol=1e-5, atol=1e-5)


def test_only_a_single_row_of_bfloat16_is_computed_twice():
  row = jnp.ones((1, 1, 5), jnp.bfloat16)
  assert linear.single_row_twice(row).shape == (2, 1, 5)
  for x in (row.astype(jnp.float32), jnp.ones((1, 2, 5), jnp.bfloat16)):
    assert linear.single_row_twice(x) is x


@pytest.mark.parametrize('rows', [1, 3, linear.FEW_ROWS + 1])
def test_weights_with_the_outputs_first_have_the_same_product(rows):
  random = np.random.default_rng(0)
  for dtype, atol in (('float32', 1e-5), ('bfloat16', 0.1)):
    x_BTD = jnp.array(random.normal(size=(rows, 1, 5)), dtype)
    w_DKF = jnp.array(random.normal(size=(5, 4, 7)), dtype)
    got = linear.outputs_first(x_BTD, jnp.moveaxis(w_DKF, 0, -1))
    assert (got.shape, got.dtype) == ((rows, 1, 4, 7), jnp.float32)
    want = linear.linear(False, x_BTD, w_DKF)
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)
