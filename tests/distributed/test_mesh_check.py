"""What a mesh cannot divide is named in the words of config.json."""

import pytest

from r1jax import errors
from r1jax.distributed import mesh_check
from r1jax.models import registry


def test_all_parameters_that_are_sharded_along_model_have_a_name():
  for name, spec in registry.PARTITION.items():
    assert ('model' in spec) == (name in mesh_check.ALONG_MODEL), name


@pytest.mark.parametrize(
  'name, shape, message',
  [
    (
      'experts_down',
      (3, 7, 8, 8),
      '7 experts, .*: set config.parallel.tensor_parallel',
    ),
    (
      'qkv',
      (3, 7, 2, 6, 8),
      r'7 channels \(hidden_size\), which the 2 devices of',
    ),
    ('kv_b', (3, 7, 8, 8), r'latent of keys \(kv_lora_rank\)'),
    (
      'sinks',
      (3, 6, 2),
      r'12 attention heads \(num_attention_heads\) and 6 heads of keys and '
      r'values \(num_key_value_heads\), .* one of 1, 2, 3, 6, 12$',
    ),
    ('out', (3, 1, 8, 6, 8), r'6 channels of a head \(head_dim\)'),
  ],
)
def test_sizes_are_named(name, shape, message):
  axes = dict(data=2, model=4)
  divided = tuple(8 * size for size in shape)
  mesh_check.check_divides(name, divided, registry.PARTITION[name], axes)
  spec = registry.partition(name, shape, axes['model'])
  with pytest.raises(errors.UserError, match=message):
    mesh_check.check_divides(name, shape, spec, axes)
