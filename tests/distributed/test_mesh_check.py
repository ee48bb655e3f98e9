"""What a mesh cannot divide is named in the words of config.json."""

import pytest

from r1jax import errors
from r1jax.distributed import mesh_check
from r1jax.models import registry


def test_all_parameters_that_are_sharded_along_model_have_a_name():
  for name, spec in registry.PARTITION.items():
    assert ('model' in spec) == (name in mesh_check.ALONG_MODEL), name


@pytest.mark.parametrize(
  'name, axis, message',
  [
    (
      'experts_down',
      'model',
      '7 experts, .*: set config.parallel.tensor_parallel',
    ),
    ('sinks', 'model', r'7 heads of keys and values \(num_key_value_heads\)'),
    ('qkv', 'data', r'7 channels \(hidden_size\), which the 2 devices of'),
    ('kv_b', 'data', r'latent of keys \(kv_lora_rank\)'),
  ],
)
def test_sizes_are_named(name, axis, message):
  mesh_check.check_divides(name, 8, axis, 2)
  with pytest.raises(errors.UserError, match=message):
    mesh_check.check_divides(name, 7, axis, 2)
