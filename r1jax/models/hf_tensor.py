"""The tensors of Hugging Face's checkpoints and their places in params."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from r1jax.models.model_config import ModelConfig


class HfTensor(NamedTuple):
  """A tensor of a checkpoint, and its place in params: moveaxis(leaf[index],
  *axes), reshaped to `shape`, where the heads and channels of the leaf may be
  one axis.

  For example the up projection [F, D] of layer 5, in a leaf that has gate and
  up of all layers as [N, D, 2, F]:

    HfTensor('model.layers.5.mlp.up_proj.weight', (F, D), 'gate_up',
             index=np.s_[:, 1], axes=(0, -1), stack='layers', layer=5)

  is params['layers']['gate_up'][5][:, 1] with its first axis moved to the end.
  in_layers sets `stack` and `layer`.
  """

  name: str
  shape: tuple[int, ...]
  leaf: str
  index: Any = ...
  axes: tuple[int, int] = (0, 0)  # moved from, to
  stack: str = ''  # params[stack][leaf][layer]; '': params[leaf]
  layer: int | None = None
  # The tensor's row of each row of the view, if they differ in their order.
  rows: np.ndarray | None = None

  def view(self, params: dict) -> np.ndarray:
    """The view of the tensor's place in params."""
    if self.layer is None:
      return self.part(params[self.leaf])
    return self.part(params[self.stack][self.leaf][self.layer])

  def part(self, array: np.ndarray) -> np.ndarray:
    """The view of the tensor in its leaf, or in the layer of it."""
    return np.moveaxis(array[self.index], *self.axes)

  def read(self, tensor: np.ndarray) -> np.ndarray:
    """The tensor of a file, with its rows in the order of the view."""
    return tensor if self.rows is None else tensor[self.rows]

  def written(self, view: np.ndarray) -> np.ndarray:
    """The tensor for a file, of a view."""
    view = view.reshape(self.shape)
    if self.rows is None:
      return view
    tensor = np.empty_like(view)
    tensor[self.rows] = view
    return tensor


def in_layers(
  tensors: Iterable[HfTensor], layers: Iterable[int], stack: str = 'layers'
) -> Iterator[HfTensor]:
  """The tensors of one layer for each of the model's `layers`, which are those
  of a stack in their order."""
  tensors = list(tensors)
  for position, layer in enumerate(layers):
    for tensor in tensors:
      name = f'model.layers.{layer}.{tensor.name}'
      yield tensor._replace(name=name, stack=stack, layer=position)


def gated_mlp(
  width: int, ffn: int, name: str = 'mlp', leaves=('gate_up', 'down')
) -> list[HfTensor]:
  """The tensors of Layer.gated_mlp."""
  gate_up, down = leaves
  return [
    HfTensor(
      f'{name}.{x}_proj.weight', (ffn, width), gate_up, np.s_[:, n], (0, -1)
    )
    for n, x in enumerate(('gate', 'up'))
  ] + [HfTensor(f'{name}.down_proj.weight', (width, ffn), down, axes=(0, -1))]


def fused_gated_mlp(width: int, ffn: int) -> list[HfTensor]:
  """gated_mlp, where one tensor has the rows of gate, then those of up."""
  name, shape = 'mlp.gate_up_proj.weight', (2 * ffn, width)
  return [
    HfTensor(name, shape, 'gate_up', axes=(0, -1)),
    HfTensor('mlp.down_proj.weight', (width, ffn), 'down', axes=(0, -1)),
  ]


def outer(cfg: ModelConfig) -> Iterator[HfTensor]:
  """The tensors outside of the layers."""
  V, D = cfg.vocab_size, cfg.width
  yield HfTensor('model.embed_tokens.weight', (V, D), 'embed')
  yield HfTensor('model.norm.weight', (D,), 'norm')
  if not cfg.tie_embeddings:
    yield HfTensor('lm_head.weight', (V, D), 'head')
  if cfg.score:
    yield HfTensor('score.weight', (1, D), 'score')
