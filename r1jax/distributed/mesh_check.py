"""Refuses a mesh whose devices do not divide a model's parameters."""

from r1jax import errors

# What is sharded along a mesh axis, with its key in config.json, by the names of
# parameters. Of latent attention, which also has 'out', kv_b is checked first.
HEADS = 'attention heads (num_attention_heads)'
KEY_HEADS = 'heads of keys and values (num_key_value_heads)'
CHANNELS = 'feed-forward channels (intermediate_size)'
SHARED_CHANNELS = 'channels of shared experts (moe_intermediate_size)'
EXPERTS = 'experts'
VOCABULARY = 'ids in its vocabulary (vocab_size)'
ALONG_MODEL = dict(
  q=HEADS,
  q_b=HEADS,
  kv_b=HEADS,
  out=KEY_HEADS,
  qkv=KEY_HEADS,
  qkv_bias=KEY_HEADS,
  q_norm_heads=KEY_HEADS,
  k_norm_heads=KEY_HEADS,
  sinks=KEY_HEADS,
  gate_up=CHANNELS,
  down=CHANNELS,
  shared_gate_up=SHARED_CHANNELS,
  shared_down=SHARED_CHANNELS,
  experts_gate_up=EXPERTS,
  experts_down=EXPERTS,
  experts_gate_up_bias=EXPERTS,
  experts_down_bias=EXPERTS,
  embed=VOCABULARY,
  head=VOCABULARY,
)
ALONG_DATA = dict(
  q_b='channels in the latent of queries (q_lora_rank)',
  kv_b='channels in the latent of keys (kv_lora_rank)',
)
WIDTH = 'channels (hidden_size)'


def check_divides(name: str, size: int, mesh_axis: str, devices: int) -> None:
  """Raises UserError if the devices of a mesh axis do not divide the axis of
  parameter `name` that is sharded along it and has this size."""
  if size % devices == 0:
    return
  if mesh_axis == 'model':
    what = ALONG_MODEL[name]
    change = (
      f'set config.parallel.tensor_parallel to a number that divides {size}'
    )
  else:
    what = ALONG_DATA[name] if name in ALONG_DATA else WIDTH
    change = (
      'change the number of devices or config.parallel.tensor_parallel, so that '
      f'the devices over tensor_parallel divide {size}'
    )
  raise errors.UserError(
    f'the model has {size} {what}, which the {devices} devices of the mesh axis '
    f"'{mesh_axis}' do not divide: {change}"
  )
