"""FLOPs of matrix products, counted in a traced program. Loops count as often
as they run, recomputation included; the compiler counts each loop once."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from r1jax.models import expert_rounds

# The jitted functions of the kernels of models/grouped.py.
MEGABLOX = ('gmm', 'tgmm')


@dataclasses.dataclass
class Flops:
  """FLOPs of one call, over all devices."""

  products: float = 0.0
  kernels: float = 0.0  # of Pallas kernels, by their formulas
  # Kernels without a formula by name; they count as 0.
  unknown: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter
  )
  # One run of the body of each loop of unknown length; not in the sums above.
  loops: list[Flops] = dataclasses.field(default_factory=list)

  @property
  def total(self) -> float:
    return self.products + self.kernels

  def add(self, other: Flops, times: float = 1) -> None:
    self.products += times * other.products
    self.kernels += times * other.kernels
    self.unknown += other.unknown
    for loop in other.loops:
      scaled = Flops()
      scaled.add(loop, times)
      self.loops.append(scaled)


def visible_keys(length: int, windows: Sequence[int]) -> float:
  """The mean number of keys that a query of a row attends to, over layers with
  these windows: half of the row without a window (0). The sum over queries is
  L w - w^2 / 2 for w = min(window, L)."""
  widths = [min(window or length, length) for window in windows]
  return sum(w - w * w / (2 * length) for w in widths) / len(widths)


def count(
  jaxpr: Any,
  windows: Sequence[int] = (0,),
  filled: float = 1.0,
  rounds: float = 1,
) -> Flops:
  """The Flops of a jaxpr, open or closed. `windows` are those of the layers.
  `filled` is the share of the rows of grouped products (models/grouped.py) that
  belong to a group: the others are skipped. `rounds` are those of
  models/expert_rounds.py."""
  found, options = Flops(), (windows, filled, rounds)
  for eqn in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
    name, params = eqn.primitive.name, eqn.params
    if name == 'dot_general':
      (axes, _), _ = params['dimension_numbers']
      contracted = math.prod(eqn.invars[0].aval.shape[axis] for axis in axes)
      results = math.prod(eqn.outvars[0].aval.shape)
      found.products += 2 * results * contracted
    elif name == 'pallas_call':
      _add_kernel(found, eqn, windows)
    elif name == 'ragged_dot_general':
      channels = eqn.outvars[0].aval.shape[-1]
      found.products += filled * 2 * eqn.invars[0].aval.size * channels
    elif name == 'while':
      body = count(params['body_jaxpr'], *options)
      if expert_rounds.SCOPE in str(eqn.source_info.name_stack):
        found.add(body, rounds)
      else:
        found.loops.append(body)
    elif name == 'cond':
      branches = [count(x, *options) for x in params['branches']]
      found.add(max(branches, key=lambda branch: branch.total))
    else:
      times: float = 1
      if name == 'scan':
        times = params['length']
      elif name == 'shard_map':
        times = params['mesh'].size
      elif name in ('jit', 'pjit') and params['name'] in MEGABLOX:
        times = filled
      for inner in _inner_jaxprs(eqn):
        found.add(count(inner, *options), times)
  return found


def _inner_jaxprs(eqn):
  """The jaxprs that an equation calls. For a function with custom derivatives
  this is the function: where a gradient was taken, the trace has its rule."""
  for value in eqn.params.values():
    for x in value if isinstance(value, (tuple, list)) else (value,):
      if hasattr(getattr(x, 'jaxpr', x), 'eqns'):
        yield x


def _add_kernel(found, eqn, windows):
  """Adds a Pallas kernel: splash by its products, others by their cost.

  A product of splash attention is [L, C] x [C, L] or similar: 2 L^2 C a head,
  without the masked part. There are two forward; backward five in one kernel,
  or four for dk and dv and three for dq.
  """
  name, estimate = str(eqn.params['name']), eqn.params['cost_estimate']
  if name.startswith('splash_m'):
    query = next(v.aval for v in eqn.invars if v.aval.dtype.kind not in 'iu')
    *rows_heads, tokens, channels = query.shape
    # The fused kernel returns partial dq, with an axis of key blocks.
    is_fused = max(v.aval.ndim for v in eqn.outvars) > query.ndim
    products = 5 if is_fused else 4
    if '_fwd' in name:
      products = 2
    elif '_dq' in name:
      products = 3
    pairs = tokens * visible_keys(tokens, windows)
    found.kernels += products * math.prod(rows_heads) * 2 * pairs * channels
  elif estimate is not None:
    found.kernels += estimate.flops
  else:
    found.unknown[name] += 1
