"""Reads and writes Hugging Face's config.json. The values of a family are read
and written by its file in families/."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from r1jax import errors

FULL, SLIDING = 'full_attention', 'sliding_attention'  # types of layers
POLICY, REWARD_MODEL = 'ForCausalLM', 'ForSequenceClassification'


@dataclasses.dataclass(frozen=True)
class HfConfig:
  """The values of a config.json. Its methods raise UserError for values that
  are not supported; `source` is the file's path, for errors."""

  values: Mapping[str, Any]
  source: object

  @property
  def architecture(self) -> str:
    """E.g. 'Llama'; '' if the config names none."""
    names = self.values.get('architectures')
    name = names[0] if isinstance(names, list) and names else ''
    for suffix in POLICY, REWARD_MODEL:
      if isinstance(name, str) and name.endswith(suffix):
        return name.removesuffix(suffix)
    return ''

  def with_defaults(self, values: Mapping[str, Any]) -> 'HfConfig':
    """The config with values for the keys that it lacks."""
    return dataclasses.replace(self, values={**values, **self.values})

  @property
  def is_reward_model(self) -> bool:
    return self.values['architectures'][0].endswith(REWARD_MODEL)

  def sizes(self) -> dict[str, Any]:
    """The fields of ModelConfig that a config.json has."""
    return dict(
      vocab_size=self.number('vocab_size'),
      width=self.number('hidden_size'),
      layers=self.number('num_hidden_layers'),
      max_len=self.number('max_position_embeddings', 2048),
      norm_eps=self.number('rms_norm_eps', 1e-6, float),
      # Reward models have no output head, so this key is ignored.
      tie_embeddings=self.flag('tie_word_embeddings') or self.is_reward_model,
      score=self.is_reward_model,
    )

  def attention_sizes(self) -> dict[str, Any]:
    """heads, kv_heads and head_dim of grouped-query attention."""
    heads = self.number('num_attention_heads')
    kv_heads = self.number('num_key_value_heads', heads)
    default = self.number('hidden_size') // heads
    head_dim = self.number('head_dim', default)
    if heads % kv_heads:
      why = f'which does not divide {heads} heads'
      self.refuse('num_key_value_heads', why)
    if head_dim % 2:
      self.refuse('head_dim', 'but rotary embedding needs it even')
    return dict(heads=heads, kv_heads=kv_heads, head_dim=head_dim)

  def expert_counts(self, key: str) -> tuple[int, int]:
    """(experts, experts of a token) of a mixture of experts. `key` has the number
    of experts, or num_local_experts, as transformers 5 writes it."""
    experts = self.number(key if key in self.values else 'num_local_experts')
    chosen = self.number('num_experts_per_tok')
    if chosen > experts:
      why = f'but the model has only {experts} experts'
      self.refuse('num_experts_per_tok', why)
    return experts, chosen

  def number(self, key: str, default: Any = None, kind: type = int) -> Any:
    """An int above 0, or for kind=float any number above 0."""
    return number(self.values, self.source, key, default, kind)

  def count(self, key: str, default: int = 0) -> int:
    """An int from 0 on."""
    value = self.values.get(key)
    if value is None:
      return default
    return 0 if value == 0 else self.number(key)

  def flag(self, key: str, default: bool = False) -> bool:
    value = self.values.get(key)
    if value is None:
      return default
    if not isinstance(value, bool):
      self.refuse(key, 'which must be true or false')
    return value

  def check(self, **supported: Any) -> None:
    """Raises UserError if a key has another value than the supported one."""
    for key, value in supported.items():
      if self.values.get(key) not in (None, value):
        self.refuse(key, f'but only {value!r} is supported')

  def check_full_attention(self) -> None:
    """Raises UserError if a layer attends within a window."""
    sliding = self.flag('use_sliding_window')
    if self.values.get('layer_types'):
      sliding = set(self.values['layer_types']) != {FULL}
    if sliding:
      self.refuse('sliding_window', 'but only full attention is supported')

  def refuse(self, key: str, why: str) -> NoReturn:
    refuse(self.values, self.source, key, why)


def number(
  table: Mapping[str, Any],
  source: object,
  key: str,
  default: Any = None,
  kind: type = int,
) -> Any:
  """table[key] as an int above 0, or for kind=float any number above 0."""
  value = default if table.get(key) is None else table[key]
  is_number = isinstance(value, (int, kind)) and not isinstance(value, bool)
  if not is_number or not 0 < value < math.inf:
    what = 'an integer' if kind is int else 'a number'
    refuse(table, source, key, f'which must be {what} above 0')
  return kind(value)


def refuse(
  table: Mapping[str, Any], source: object, key: str, why: str
) -> NoReturn:
  found = f'has {key} {table[key]!r}' if key in table else f'has no {key}'
  raise errors.UserError(f'{source}: the config {found}, {why}')
