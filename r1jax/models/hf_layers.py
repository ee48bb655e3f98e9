"""The kinds of layers in config.json: windows, and layers without position
embedding."""

from collections.abc import Callable, Sequence
from typing import Any

from r1jax.models.gqa import GqaConfig, LayerKind
from r1jax.models.hf_config import FULL, SLIDING, HfConfig
from r1jax.models.rope import Rope

ONE_WINDOW = 'Mistral', 'Phi3'  # all layers have the window, if there is one
QWEN = 'Qwen2', 'Qwen3'
MAX_LAYERS = 10_000


def read(hf: HfConfig, rope: Rope) -> list[LayerKind]:
  """The kind of each layer, or that of all layers, of an architecture in
  llama.ARCHITECTURES. Raises UserError."""
  return READERS[hf.architecture](hf, rope)


def _no_window(hf, rope):
  hf.check_full_attention()
  return [LayerKind(rope)]


def _one_window(hf, rope):
  hf.check(layer_types=None)
  return [LayerKind(rope, window(hf))]


def _qwen(hf, rope):
  layers = count(hf)
  size = window(hf) if hf.flag('use_sliding_window') else 0
  full = hf.count('max_window_layers', 28) if size else layers
  default = [SLIDING if n >= full else FULL for n in range(layers)]
  types = layer_types(hf, default)
  return [LayerKind(rope, window_of(hf, name, size)) for name in types]


def periodic(
  hf: HfConfig, period: int, full: Rope, local: Rope
) -> list[LayerKind]:
  """The kind of each layer where every `period`-th, or those that layer_types
  names, have no window and the rope `full`, the others sliding_window and the
  rope `local`. Raises UserError."""
  size = window(hf)
  default = []
  for n in range(count(hf)):
    default.append(SLIDING if (n + 1) % period else FULL)
  kinds = []
  for name in layer_types(hf, default):
    rope = full if name == FULL else local
    kinds.append(LayerKind(rope, window_of(hf, name, size)))
  return kinds


def count(hf: HfConfig) -> int:
  """num_hidden_layers, of a model in which they have kinds."""
  layers = hf.number('num_hidden_layers')
  if layers > MAX_LAYERS:
    hf.refuse('num_hidden_layers', f'but r1jax reads at most {MAX_LAYERS}')
  return layers


def _smollm3(hf, rope):
  layers = count(hf)
  size = window(hf) if hf.flag('use_sliding_window') else 0
  interval = hf.number('no_rope_layer_interval', 4)
  has_rope = hf.values.get('no_rope_layers')  # 1 where a layer has rope
  if has_rope is None:
    has_rope = [(n + 1) % interval != 0 for n in range(layers)]
  if not isinstance(has_rope, list) or len(has_rope) < layers:
    hf.refuse('no_rope_layers', f'which must be a list of {layers} numbers')
  if not any(has_rope[:layers]):
    hf.refuse('no_rope_layers', 'but r1jax needs a layer with rope')
  default = [
    SLIDING if size and not has_rope[n] else FULL for n in range(layers)
  ]
  kinds = []
  for has, name in zip(has_rope, layer_types(hf, default)):
    kinds.append(LayerKind(rope if has else None, window_of(hf, name, size)))
  return kinds


READERS: dict[str, Callable[[HfConfig, Rope], list[LayerKind]]] = dict(
  Llama=_no_window,
  Mistral=_one_window,
  Phi3=_one_window,
  Qwen2=_qwen,
  Qwen3=_qwen,
  SmolLM3=_smollm3,
)


def window(hf: HfConfig) -> int:
  """sliding_window, 0 if it is null."""
  if hf.values.get('sliding_window') is None:
    return 0
  return hf.number('sliding_window')


def layer_types(hf: HfConfig, default: Sequence[str]) -> list[str]:
  """layer_types, a name for each layer. Raises UserError."""
  types = hf.values.get('layer_types')
  types = list(default) if types is None else types
  if not isinstance(types, list) or len(types) != len(default):
    hf.refuse('layer_types', f'but the model has {len(default)} layers')
  for name in types:
    if name not in (FULL, SLIDING):
      hf.refuse('layer_types', f'but r1jax reads {FULL} and {SLIDING}')
  return types


def window_of(hf: HfConfig, name: str, size: int) -> int:
  """The window of a layer of a type, if layers with one have `size`."""
  if name == FULL:
    return 0
  if not size:
    hf.refuse('sliding_window', f'but there are layers of {SLIDING}')
  return size


def written(cfg: GqaConfig, architecture: str) -> dict[str, Any]:
  """The keys of config.json for an architecture."""
  kinds = cfg.layer_kinds
  size = max(kind.window for kind in kinds)
  keys: dict[str, Any] = {}
  if architecture in ONE_WINDOW:
    return dict(sliding_window=size or None)
  if architecture == 'SmolLM3':
    keys = dict(
      no_rope_layers=[int(kind.rope is not None) for kind in kinds],
      use_sliding_window=False,
    )
  if not size:
    return keys
  keys |= dict(use_sliding_window=True, sliding_window=size)
  if architecture in QWEN:
    # For versions of transformers that do not know layer_types.
    first = [n for n, kind in enumerate(kinds) if kind.window][0]
    keys['max_window_layers'] = first
  return keys | dict(layer_types=types_of(kinds))


def types_of(kinds: Sequence[LayerKind]) -> list[str]:
  return [SLIDING if kind.window else FULL for kind in kinds]


def ropes(kinds: Sequence[LayerKind]) -> tuple[Rope, Rope]:
  """The position embeddings of the layers without a window, and with one; of
  the other layers if there are none."""
  full = [kind.rope for kind in kinds if not kind.window]
  local = [kind.rope for kind in kinds if kind.window]
  first, second = (full + local)[0], (local + full)[0]
  assert first is not None and second is not None
  return first, second
