"""The families of models. A family is one file of families/ with the names of
`Family`; adding one adds a line here."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

from r1jax import errors
from r1jax.models import hf_config, shared_heads
from r1jax.models.families import (
  deepseek,
  gemma,
  gpt_oss,
  llama,
  olmo2,
  qwen3_moe,
)
from r1jax.models.hf_config import HfConfig
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.model_config import ModelConfig
from r1jax.models.stack import Cache, Output


class Family(Protocol):
  """What the file of a family has."""

  @property
  def ARCHITECTURES(self) -> Mapping[str, Any]:
    """By name without 'ForCausalLM'."""
    ...

  @property
  def PARTITION(self) -> Mapping[str, PartitionSpec]:
    """By the name of a leaf of params."""
    ...

  @property
  def STACKS(self) -> tuple[str, ...]:
    """The keys of params whose leaves are stacked layers."""
    ...

  @property
  def Config(self) -> type[ModelConfig]: ...

  def config_from_hf(self, hf: HfConfig) -> Any: ...
  def config_to_hf(self, cfg: Any) -> dict[str, Any]: ...
  def hf_tensors(self, cfg: Any) -> Iterator[HfTensor]: ...
  def init(self, key: Array, cfg: Any) -> dict: ...
  def init_cache(self, cfg: Any, rows: int, length: int) -> Cache: ...
  def forward(
    self,
    params: dict,
    cfg: Any,
    tokens_BT: Array,
    pos_BT: Array,
    past: Cache = None,
    routing: Array | None = None,
  ) -> Output: ...


class MtpFamily(Family, Protocol):
  """What the file of a family with modules of multi-token prediction has."""

  def init_mtp_cache(self, cfg: Any, rows: int, length: int) -> Cache: ...
  def mtp_forward(
    self,
    params: dict,
    cfg: Any,
    next_BT: Array,
    pos_BT: Array,
    hidden_BTD: Array,
    past: Cache = None,
  ) -> Output: ...


FAMILIES: tuple[Family, ...] = (
  llama,
  gemma,
  olmo2,
  qwen3_moe,
  gpt_oss,
  deepseek,
)
BY_ARCHITECTURE: dict[str, Family] = {
  name: family for family in FAMILIES for name in family.ARCHITECTURES
}
BY_CONFIG: dict[type, Family] = {family.Config: family for family in FAMILIES}
MTP_BY_CONFIG: dict[type, MtpFamily] = {deepseek.Config: deepseek}
# The optimiser's moments have the names of the parameters.
PARTITION: dict[str, PartitionSpec] = {
  leaf: spec for family in FAMILIES for leaf, spec in family.PARTITION.items()
}


def partition(
  name: str, shape: tuple[int, ...], tensor_parallel: int
) -> PartitionSpec:
  """How a mesh with so many devices along 'model' shards the leaf `name` of
  parameters, or of an optimiser's state that has its shape. Others are
  replicated."""
  spec = PARTITION.get(name, PartitionSpec())
  if len(spec) > len(shape):  # state of a factored optimiser
    return PartitionSpec()
  if name in shared_heads.LEAVES:
    heads = shared_heads.heads(name, shape)
    if shared_heads.are_shared(*heads, tensor_parallel):
      return shared_heads.LEAVES[name].spec
  return spec


def family_of(cfg: ModelConfig) -> Family:
  """The Family of a config."""
  return BY_CONFIG[type(cfg)]


def mtp_family_of(cfg: ModelConfig) -> MtpFamily:
  """The MtpFamily of a config with mtp_layers."""
  return MTP_BY_CONFIG[type(cfg)]


def architectures() -> list[str]:
  """The names of the architectures that r1jax reads, as in config.json."""
  suffixes = hf_config.POLICY, hf_config.REWARD_MODEL
  return [name + suffix for suffix in suffixes for name in BY_ARCHITECTURE]


def model_config(values: Mapping[str, Any], source: object) -> ModelConfig:
  """The config of a config.json; UserError for values that r1jax does not
  support. `source` is its path, for errors."""
  hf = HfConfig(values, source)
  if hf.architecture not in BY_ARCHITECTURE:
    raise errors.UserError(_unknown(hf))
  return BY_ARCHITECTURE[hf.architecture].config_from_hf(hf)


def _unknown(hf):
  """A sentence about an architecture that is not read."""
  named = hf.values.get('architectures')
  name = str(named[0]) if isinstance(named, list) and named else ''
  if not name:
    return (
      f'{hf.source}: the config has the architectures {named!r}, but a list with '
      'a name such as LlamaForCausalLM is needed: take config.json from where '
      'the weights are from'
    )
  base, _, task = name.partition('For')
  near = difflib.get_close_matches(base, BY_ARCHITECTURE, 1, cutoff=0)[0]
  is_text = task not in ('ConditionalGeneration', 'ImageTextToText')
  images = '' if is_text else ' (models of images and text are not read)'
  return (
    f'{hf.source}: the config has architectures {named!r}, which r1jax does not '
    f'read{images}; it reads {", ".join(BY_ARCHITECTURE)}, each with '
    f'{hf_config.POLICY} or {hf_config.REWARD_MODEL}, of which '
    f'{near}{hf_config.POLICY} has the nearest name. If {name} is a renamed or '
    'modified one, name a function in config.compute.families that turns its '
    'config and tensors into those of a known one; for a new one write '
    'r1jax/models/families/NAME.py (see Family in r1jax/models/registry.py)'
  )


def config_json(
  cfg: ModelConfig, dtype: np.dtype, eos_ids: Sequence[int] | None = None
) -> dict[str, Any]:
  """The config.json of a model with weights of `dtype`, readable by all
  versions of transformers."""
  own = family_of(cfg).config_to_hf(cfg)
  suffix = hf_config.REWARD_MODEL if cfg.score else hf_config.POLICY
  config = dict(
    architectures=[own.pop('architecture') + suffix],
    vocab_size=cfg.vocab_size,
    hidden_size=cfg.width,
    num_hidden_layers=cfg.layers,
    max_position_embeddings=cfg.max_len,
    rms_norm_eps=cfg.norm_eps,
    **own,
    tie_word_embeddings=cfg.tie_embeddings,
    torch_dtype=str(dtype),
    bos_token_id=None,
    eos_token_id=None if eos_ids is None else list(eos_ids),
  )
  if cfg.score:
    # Without these transformers makes a classifier with two labels.
    config |= dict(id2label={'0': 'score'}, label2id=dict(score=0))
  return config
