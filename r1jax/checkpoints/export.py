"""Writes the weights of a model as safetensors files, several hosts at a time."""

import contextlib
import functools
import itertools
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from r1jax import errors
from r1jax.checkpoints import safetensors_file, unread
from r1jax.checkpoints.safetensors_file import Entries
from r1jax.distributed import agreement, hosts, watchdog
from r1jax.models.hf_tensor import HfTensor

# For each axis of a leaf the (start, end) of a slice; None: one number.
Index = tuple[tuple[int, int] | None, ...]


def write_weights(
  folder: Path,
  params: dict,
  tensors: Mapping[str, HfTensor],
  by_file: Mapping[str, Entries],
) -> None:
  """Writes the tensors to the files of `by_file`. A collective.

  Each of the hosts that see the folder of host 0 writes a file at the same time
  as the others; if no other host sees it, host 0 writes all. Tensors are
  gathered one by one, so that neither a host nor a device holds the model.
  """
  writers, names = agreement.that_see(folder), list(by_file)
  for start in range(0, len(names), len(writers)):
    group = names[start : start + len(writers)]
    file_of_host = dict(zip(writers, group))
    kept = _write_files(folder, params, tensors, by_file, file_of_host)
    _raise_on_all(kept, folder)
  hosts.run_once(lambda: _wait_for_files(folder, names))


def _write_files(folder, params, tensors, by_file, file_of_host):
  """Writes one file for each writing host. Returns the errors of this host,
  which takes part in the collectives until the others are done."""
  kept, writer, own = [], None, file_of_host.get(hosts.index())
  with _keeping(kept):
    if own:
      writer = safetensors_file.Writer(folder / own, by_file[own])
  names = [list(by_file[name]) for name in file_of_host.values()]
  for row in itertools.zip_longest(*names):
    hosts.raise_if_terminating()
    array, name = None, ''
    for (host, file), other in zip(file_of_host.items(), row):
      if other is None:
        continue
      dtype = by_file[file][other].dtype
      part = _gathered(params, tensors[other], dtype, host)
      if host == hosts.index():
        array, name = part, other
    if writer is None or array is None or kept:
      continue
    with _keeping(kept):
      array = tensors[name].written(array)
      unread.check_finite(array, f'the model for {folder}', name)
      writer.write(array)
  with _keeping(kept):
    if writer:
      writer.close()
  return kept


@contextlib.contextmanager
def _keeping(kept):
  """Keeps an error of this context, if other hosts wait for this one."""
  try:
    yield
  except (OSError, errors.UserError) as error:
    if hosts.count() == 1:
      raise
    kept.append(error)


def _raise_on_all(kept, folder):
  """Raises the error of a host on all hosts, and removes the folder, of which
  the disk may be full. A collective."""
  own = None
  for error in kept[:1]:
    own = [0, str(error), '']
    if isinstance(error, OSError):
      own = [error.errno, error.strerror, error.filename]
  for found in hosts.gather(own):
    if not found:
      continue
    hosts.run_once(lambda: shutil.rmtree(folder, ignore_errors=True))
    if found[0]:
      raise OSError(*found)
    raise errors.UserError(found[1])


def _gathered(params, tensor, dtype, host):
  """The array of a tensor on one host, with the shape that it has in its leaf;
  anything on the others. A collective if the hosts share the leaf."""
  watchdog.heartbeat()
  tree = params[tensor.stack] if tensor.stack else params
  leaf, is_own = tree[tensor.leaf], host == hosts.index()
  if not isinstance(leaf, jax.Array):
    if not is_own:
      return None
    part = tensor.part(leaf if tensor.layer is None else leaf[tensor.layer])
    return np.ascontiguousarray(part, dtype)
  if leaf.is_fully_replicated:
    if not is_own:
      return None
    leaf = leaf.addressable_data(0)
  index, numbers = _device_index(tensor, leaf.shape)
  if leaf.is_fully_replicated:
    part = _take(leaf, numbers, index, (None,) * leaf.ndim, dtype)
  else:
    sharding = leaf.sharding
    spec = tuple(sharding.spec) + (None,) * (leaf.ndim - len(sharding.spec))
    part = _take_sharded(leaf, numbers, index, spec, dtype, sharding.mesh)
  if not is_own:
    return None
  part = np.asarray(part.addressable_data(0))
  return np.ascontiguousarray(np.moveaxis(part, *tensor.axes))


def _device_index(tensor, shape):
  """(Index, the numbers for its Nones) of a tensor in its leaf."""
  places = [] if tensor.layer is None else [tensor.layer]
  places += unread.full_index(tensor.index, len(shape) - len(places))
  index: list[tuple[int, int] | None] = []
  numbers = []
  for place, size in zip(places, shape):
    if isinstance(place, slice):
      index.append(place.indices(size)[:2])
    else:
      index.append(None)
      numbers.append(place % size)
  return tuple(index), np.array(numbers, np.int32)


def _take_part(leaf, numbers, index, names, dtype):
  """leaf[index] as `dtype`. `names` has the mesh axis of each axis of the leaf:
  of an axis with a number only one device has the part."""
  owned, axes, numbers = True, [], list(numbers)
  for axis, (place, name) in enumerate(zip(index, names)):
    if place is not None:
      continue
    number, size = numbers.pop(0), leaf.shape[axis]
    if name:
      number -= jax.lax.axis_index(name) * size
      owned &= (number >= 0) & (number < size)
      axes.append(name)
    number = jnp.clip(number, 0, size - 1)
    leaf = jax.lax.dynamic_index_in_dim(leaf, number, axis)
  leaf = leaf.astype(dtype)
  if axes:
    leaf = jax.lax.psum(jnp.where(owned, leaf, 0), axes)
  for axis, (place, name) in enumerate(zip(index, names)):
    if place is None:
      continue
    if name:
      leaf = jax.lax.all_gather(leaf, name, axis=axis, tiled=True)
    leaf = jax.lax.slice_in_dim(leaf, *place, axis=axis)
  return leaf.squeeze(
    tuple(n for n, place in enumerate(index) if place is None)
  )


_take = jax.jit(_take_part, static_argnums=(2, 3, 4))


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _take_sharded(leaf, numbers, index, names, dtype, mesh):
  """_take_part of a leaf that is sharded over a mesh, on all its devices."""

  def on_device(leaf, numbers):
    return _take_part(leaf, numbers, index, names, dtype)

  return jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(P(*names), P()),
    out_specs=P(),
    check_vma=False,
  )(leaf, numbers)


def _wait_for_files(folder, names):
  """Waits until host 0 sees the files of the other hosts."""
  end = time.monotonic() + agreement.SHARED_DISK_SECONDS
  missing = names
  while missing := [name for name in missing if not (folder / name).exists()]:
    if time.monotonic() > end:
      raise OSError(f'{folder} lacks {", ".join(missing)} of other hosts')
    time.sleep(0.2)
