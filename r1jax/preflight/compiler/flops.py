"""FLOPs of matrix products, counted in a traced program: loops as often as they
run, recomputation included. The compiler's own count takes each loop once."""

import collections
import dataclasses
import math


@dataclasses.dataclass
class Flops:
  """Over all devices."""

  products: float = 0.0
  kernels: float = 0.0  # of Pallas kernels, by their formulas
  unknown: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )  # kernels without a formula, counted as nothing
  # A call of the body of each loop whose length depends on data; not above.
  loops: list = dataclasses.field(default_factory=list)

  @property
  def total(self):
    return self.products + self.kernels

  def add(self, other, times=1):
    self.products += times * other.products
    self.kernels += times * other.kernels
    self.unknown += other.unknown
    self.loops += [Flops().add(loop, times) for loop in other.loops]
    return self


def count(jaxpr):
  """The Flops of a jaxpr."""
  jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  found = Flops()
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name == 'dot_general':
      found.products += product(eqn)
    elif name == 'conv_general_dilated':
      found.unknown[name] += 1  # No model here has one.
    elif name == 'pallas_call':
      kernel(eqn, found)
    elif name == 'while':
      found.loops.append(count(eqn.params['body_jaxpr']))
    elif name == 'cond':
      branches = [count(b) for b in eqn.params['branches']]
      found.add(max(branches, key=lambda f: f.total))
    else:
      times = eqn.params['length'] if name == 'scan' else 1
      if name == 'shard_map':
        times = eqn.params['mesh'].size
      for inner in inside(eqn):
        found.add(count(inner), times)
  return found


def inside(eqn):
  """The jaxprs that an equation calls; of a custom rule the function itself,
  for where a gradient was taken its rule stands there already."""
  for value in eqn.params.values():
    for one in value if isinstance(value, (tuple, list)) else (value,):
      if hasattr(getattr(one, 'jaxpr', one), 'eqns'):
        yield one


def product(eqn):
  """2 · out · contracted."""
  (left, _), _ = eqn.params['dimension_numbers']
  contracted = math.prod(eqn.invars[0].aval.shape[axis] for axis in left)
  return 2 * math.prod(eqn.outvars[0].aval.shape) * contracted


def kernel(eqn, found):
  """Splash attention by its products: each of [L, C] x [C, L] or alike is
  2 L² C a head, of which a causal mask leaves half. Forward has two of them;
  backward five when fused, or four for dk and dv and three for dq."""
  name, estimate = str(eqn.params['name']), eqn.params['cost_estimate']
  if name.startswith('splash_m'):
    q = next(v.aval for v in eqn.invars if v.aval.dtype.kind not in 'iu')
    *rows_heads, tokens, channels = q.shape
    one = math.prod(rows_heads) * tokens**2 * channels
    if '_fwd' in name:
      products = 2
    elif '_dq' in name:
      products = 3
    else:
      parts = [v.aval.ndim for v in eqn.outvars]
      products = 5 if max(parts) > q.ndim else 4  # dq's parts lie a block each
    found.kernels += products * one
  elif estimate is not None:
    found.kernels += estimate.flops
  else:
    found.unknown[name] += 1
