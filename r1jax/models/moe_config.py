"""The config of mixtures of experts."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array


@dataclasses.dataclass(frozen=True)
class Activation:
  """What an expert computes of its gate and up projections."""

  alpha: float = 1.0
  limit: float = 0.0  # of both projections; 0: none
  up_offset: float = 0.0

  def __call__(self, gate: Array, up: Array) -> Array:
    """g sigmoid(alpha g) (u + up_offset), of the gate g up to the limit, and u
    from -limit to limit; by default silu(g) u."""
    if self.limit:
      gate = jnp.minimum(gate, self.limit)
      up = jnp.clip(up, -self.limit, self.limit)
    if self == Activation():
      return jax.nn.silu(gate) * up
    return gate * jax.nn.sigmoid(self.alpha * gate) * (up + self.up_offset)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoeConfig:
  experts: int
  experts_per_token: int
  ffn: int  # channels of an expert
  score: Literal['sigmoid', 'softmax']
  normalize: bool  # the weights of a token's experts are divided by their sum
  scale: float = 1.0  # of the weights
  groups: int = 1  # of neighbouring experts
  top_groups: int = 1  # groups from which a token's experts come
  group_score: Literal['top2', 'max'] = 'top2'  # sum of the two best, or best
  correction_bias: bool = False  # is added to the scores that choose
  shared_ffn: int = 0  # channels of the shared experts together; 0: none
  linear_bias: bool = False  # of the router and of the experts' matrices
  activation: Activation = Activation()

  @property
  def ffn_of_token(self) -> int:
    """Channels of all experts that a token uses."""
    return self.experts_per_token * self.ffn + self.shared_ffn
