"""Refuses a mesh whose devices do not divide a model's parameters."""

from r1jax import errors

# What is sharded along 'model', by the names of parameters. Of latent attention,
# which also has 'out', kv_b is checked first.
HEADS = dict.fromkeys(('q', 'q_b', 'kv_b'), 'attention heads')
KEY_HEADS = dict.fromkeys(
  ('out', 'qkv', 'qkv_bias', 'q_norm_heads', 'k_norm_heads'),
  'heads of keys and values',
)
CHANNELS = dict.fromkeys(
  ('gate_up', 'down', 'shared_gate_up', 'shared_down'), 'feed-forward channels'
)
EXPERTS = dict.fromkeys(('experts_gate_up', 'experts_down'), 'experts')
VOCABULARY = dict.fromkeys(('embed', 'head'), 'ids in its vocabulary')
ALONG_MODEL = HEADS | KEY_HEADS | CHANNELS | EXPERTS | VOCABULARY


def check_divides(name: str, size: int, mesh_axis: str, devices: int) -> None:
  """Raises UserError if the devices of a mesh axis do not divide the axis of
  parameter `name` that is sharded along it and has this size."""
  if size % devices == 0:
    return
  if mesh_axis == 'model' and name in ALONG_MODEL:
    what = f'{size} {ALONG_MODEL[name]}'
    change = (
      f'set config.parallel.tensor_parallel to a number that divides {size}'
    )
  else:
    what = f'a matrix with {size} rows or columns'
    change = (
      'change the number of devices or config.parallel.tensor_parallel, so that '
      f'the devices over tensor_parallel divide {size}'
    )
  raise errors.UserError(
    f'the model has {what} (parameter {name}), which the {devices} devices of '
    f"the mesh's axis '{mesh_axis}' do not divide: {change}"
  )
