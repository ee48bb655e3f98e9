"""Multi-token prediction (DeepSeek-V3, arXiv:2412.19437, 2.2): a module with one
more layer, which predicts the token after the next one."""

from collections.abc import Iterator

import jax.numpy as jnp
from jax import Array
from jax.sharding import PartitionSpec as P

from r1jax.models import linear
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.layer import Layer
from r1jax.models.model_config import ModelConfig

PARTITION = dict(eh_proj=P(None, 'data', None))
# Tensors of a module that repeat the model's embedding and head.
REPEATED = 'embed_tokens.', 'shared_head.head.'


def inputs(
  cfg: ModelConfig, layer: Layer, embedded_BTD: Array, hidden_BTD: Array
) -> Array:
  """x_BTD = W [norm(e_{t+1}); norm(h_t)] for the embeddings of the next tokens
  and the model's hidden states, after its last norm."""
  D, dtype = cfg.width, embedded_BTD.dtype
  parts = layer.norm('enorm', embedded_BTD), layer.norm('hnorm', hidden_BTD)
  w_proj = layer.weight('eh_proj', (2 * D, D), (2 * D) ** -0.5)
  x_BTD = linear.linear(cfg.cpu_layout, jnp.concatenate(parts, axis=-1), w_proj)
  return x_BTD.astype(dtype)


def hf_tensors(width: int) -> Iterator[HfTensor]:
  """The tensors of a module, beside those of its layer."""
  yield HfTensor('enorm.weight', (width,), 'enorm')
  yield HfTensor('hnorm.weight', (width,), 'hnorm')
  shape = width, 2 * width
  yield HfTensor('eh_proj.weight', shape, 'eh_proj', axes=(0, -1))
  yield HfTensor('shared_head.norm.weight', (width,), 'mtp_norm')
