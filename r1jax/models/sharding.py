"""One model on many devices: what each of them does in the place of the whole.

Every device runs the same function on its own parts, inside a program with the
named axes 'data' and 'model': rows and a part of every weight (FSDP) lie along
the first, heads, feed-forward channels and vocabulary along the second. The
function is differentiated on each device, and what it differentiates is the sum
over all devices of the scalars that they return. So every operation here has
its true transpose: that of a sum is a sum, that of a gather a scattered sum.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class NoSharding:
  """One device has it all: nothing is to be done."""

  model = 1

  def whole(self):
    return self

  def along(self, tokens):
    return self

  def weight(self, name, w, dtype):
    return w.astype(dtype)

  def gradient(self, name, g):
    return g

  def lookup(self, table_VD, tokens_BT, dtype):
    return table_VD[tokens_BT].astype(dtype)

  def enter(self, x_BTD):
    return x_BTD

  def leave(self, x_BTD):
    return x_BTD

  def sum(self, x):
    return x

  def most(self, x):
    return x

  def first_id(self, ids):
    return 0

  def all_ids(self, x):
    return x


@dataclasses.dataclass(frozen=True)
class FsdpTensorParallel:
  """`model` devices share the heads. `cut` names the weights that are cut along
  'data' too, with the axis, counted from the last. With `tokens`, what lies
  between the layers is cut along its tokens over 'model'."""

  model: int
  cut: tuple[tuple[str, int], ...]
  tokens: bool = False

  def whole(self):
    """The sharding of weights that were gathered over 'data' before."""
    return dataclasses.replace(self, cut=())

  def along(self, tokens):
    """The sharding for rows of so many tokens; they are cut where that goes up."""
    cut = self.model > 1 and tokens > 1 and tokens % self.model == 0
    return dataclasses.replace(self, tokens=cut)

  def weight(self, name, w, dtype):
    """This device's heads, channels or ids of a weight, whole along 'data'."""
    axis = dict(self.cut).get(name)
    return w.astype(dtype) if axis is None else _gather(axis, str(dtype), w)

  def gradient(self, name, g):
    """The part of a weight's gradient that this device keeps, summed in
    float32 over the rows of all."""
    axis = dict(self.cut).get(name)
    return g if axis is None else _scatter(axis, g)

  def lookup(self, table_VD, tokens_BT, dtype):
    """table[tokens], cut along the tokens where the rows are.

    The table stays where it is: every device looks its columns up for the rows
    of all, and they change hands.
    """
    far = 'embed' in dict(self.cut)
    if far:
      tokens_BT = jax.lax.all_gather(tokens_BT, 'data', tiled=True)
    id_BT = tokens_BT - self.first_id(table_VD.shape[0])
    mine_BT = (id_BT >= 0) & (id_BT < table_VD.shape[0])
    x_BTD = table_VD[jnp.where(mine_BT, id_BT, 0)].astype(dtype)
    x_BTD = jnp.where(mine_BT[..., None], x_BTD, 0)
    if far:
      x_BTD = jax.lax.all_to_all(x_BTD, 'data', 0, 2, tiled=True)
    return self.leave(x_BTD)

  def enter(self, x_BTD):
    """All tokens, before a product with a part of the heads or channels."""
    if not self.tokens:
      return x_BTD
    return jax.lax.all_gather(x_BTD, 'model', axis=1, tiled=True)

  def leave(self, x_BTD):
    """The sum of what the parts of the heads or channels have found."""
    if self.model == 1:
      return x_BTD
    if not self.tokens:
      return _sum(x_BTD)
    return jax.lax.psum_scatter(x_BTD, 'model', scatter_dimension=1, tiled=True)

  def sum(self, x):
    return x if self.model == 1 else _sum(x)

  def most(self, x):
    return x if self.model == 1 else jax.lax.pmax(x, 'model')

  def first_id(self, ids):
    """The first id of the vocabulary that lies here, with `ids` a device."""
    return 0 if self.model == 1 else jax.lax.axis_index('model') * ids

  def all_ids(self, x):
    """[..., ids here] as [..., ids]."""
    if self.model == 1:
      return x
    return jax.lax.all_gather(x, 'model', axis=x.ndim - 1, tiled=True)


@jax.custom_vjp
def _sum(x):
  return jax.lax.psum(x, 'model')


_sum.defvjp(lambda x: (_sum(x), None), lambda _, g: (jax.lax.psum(g, 'model'),))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gather(axis, dtype, w):
  """The parts along 'data' side by side; they travel in `dtype`. The axis of
  the parts goes first, where side by side is one after the other in memory."""
  parts = jnp.moveaxis(w.astype(dtype), axis, 0)
  whole = jax.lax.all_gather(parts, 'data', tiled=True)
  return jnp.moveaxis(whole, 0, axis)


def _scatter(axis, g):
  g = jnp.moveaxis(g.astype(jnp.float32), axis, 0)
  return jnp.moveaxis(jax.lax.psum_scatter(g, 'data', tiled=True), 0, axis)


_gather.defvjp(
  lambda axis, dtype, w: (_gather(axis, dtype, w), None),
  lambda axis, dtype, _, g: (_scatter(axis, g),),
)
