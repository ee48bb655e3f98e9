"""Refuses a mesh whose devices do not divide a model's parameters."""

from collections.abc import Mapping, Sequence

from jax.sharding import PartitionSpec as P

from r1jax import errors
from r1jax.models import shared_heads

# What is sharded along a mesh axis, with its key in config.json, by the names of
# parameters. Of latent attention, which also has 'out', kv_b is checked first.
HEADS = 'attention heads (num_attention_heads)'
KEY_HEADS = 'heads of keys and values (num_key_value_heads)'
KEY_NORM = 'k_norm_heads'
HEAD_CHANNELS = 'channels of a head (head_dim)'
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


def check_divides(
  name: str, shape: Sequence[int], spec: P, mesh_shape: Mapping[str, int]
) -> None:
  """Raises UserError if a mesh, whose axes have these sizes, does not divide
  parameter `name` of this shape as `spec` says."""
  if name == KEY_NORM:
    return  # 'out' of the same model is divided alike
  for size, mesh_axis in zip(shape, spec):
    devices = mesh_shape[mesh_axis] if mesh_axis else 1
    if size % devices:
      what, change = _words(name, shape, spec, mesh_axis, size)
      raise errors.UserError(
        f'the model has {what}, which the {devices} devices of the mesh axis '
        f"'{mesh_axis}' do not divide: {change}"
      )


def _words(name, shape, spec, mesh_axis, size):
  """(what is not divided, what to change)."""
  if mesh_axis != 'model':
    what = ALONG_DATA[name] if name in ALONG_DATA else WIDTH
    return f'{size} {what}', (
      'change the number of devices or config.parallel.tensor_parallel, so that '
      f'the devices over tensor_parallel divide {size}'
    )
  change = 'set config.parallel.tensor_parallel to'
  if ALONG_MODEL[name] != KEY_HEADS:
    what = f'{size} {ALONG_MODEL[name]}'
    return what, f'{change} a number that divides {size}'
  if spec == shared_heads.LEAVES[name].spec:
    what = f'{size} {HEAD_CHANNELS} and fewer heads of keys than devices'
    return what, f'{change} a number that divides {size}'
  return _words_of_heads(*shared_heads.heads(name, shape), change)


def _words_of_heads(key_heads, queries, change):
  heads = key_heads * queries
  possible = [
    str(n)
    for n in range(1, heads + 1)
    if key_heads % n == 0 or shared_heads.are_shared(key_heads, queries, n)
  ]
  what = f'{heads} {HEADS} and {key_heads} {KEY_HEADS}'
  return what, f'{change} one of {", ".join(possible)}'
