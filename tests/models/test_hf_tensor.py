"""Places of checkpoint tensors in params."""

import numpy as np

from r1jax.models.hf_tensor import HfTensor


def test_rows_are_taken_in_another_order_and_written_back_in_their_own():
  leaf_DHC = np.zeros((5, 2, 3))
  tensor = HfTensor(
    'q', (6, 5), 'q', axes=(0, -1), rows=np.array([0, 2, 1, 3, 5, 4])
  )
  file = np.random.default_rng(0).standard_normal((6, 5))
  view = tensor.part(leaf_DHC)
  view[...] = tensor.read(file).reshape(view.shape)
  np.testing.assert_array_equal(leaf_DHC[:, 1, 2], file[4])
  np.testing.assert_array_equal(tensor.written(view), file)
