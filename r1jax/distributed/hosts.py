"""Gather, barrier and run-once for runs of several processes, one a host.

All hosts run the same program on the same data. A collective must be called by
all hosts, from their main threads, in the same order.
"""

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax import errors, files
from r1jax.distributed import signals, watchdog

T = TypeVar('T')

HEARTBEAT = 60.0  # seconds after which jax regards a silent host as lost
STUCK = 1800.0  # seconds without progress, see watchdog.py


@contextlib.contextmanager
def connected(workdir: str | Path) -> Iterator[None]:
  """Connects to the hosts of R1JAX_HOSTS and starts the watchdog. An error on
  one host ends all with its exit code, but all raise errors.Terminated."""
  files.check_local(workdir, 'the work directory')
  workdir, several = Path(workdir), _initialize()
  # In a notebook the user interrupts a cell, and the process has other state.
  stuck = _seconds('R1JAX_STUCK', 0.0 if signals.in_notebook() else STUCK)
  several_hosts = (index(), count(), _store()) if several else ()
  guard = watchdog.Watchdog(workdir, stuck, *several_hosts)
  if os.environ.get('R1JAX_STUCK'):
    guard.call_seconds = 0.0
  if not several:
    with watchdog.watching(guard):
      yield
    return
  with contextlib.ExitStack() as stack:
    stack.enter_context(watchdog.watching(guard))
    if index() > 0:  # All hosts would print the same.
      devnull = stack.enter_context(open(os.devnull, 'w', encoding='utf-8'))
      stack.enter_context(contextlib.redirect_stdout(devnull))
    try:
      yield
    except errors.Terminated:
      raise
    except BaseException as error:
      guard.follow()
      code, sentence = errors.exit_status(error)
      watchdog.print_error(sentence or traceback.format_exc())
      guard.fail(code, sentence or f'{type(error).__name__}: {error}')


def _initialize():
  """Initializes jax.distributed if R1JAX_HOSTS is set; whether it is set."""
  hosts = os.environ.get('R1JAX_HOSTS', '')
  if not hosts:
    return False
  seconds = int(_seconds('R1JAX_HEARTBEAT', HEARTBEAT))
  if hosts == 'auto':
    jax.distributed.initialize(heartbeat_timeout_seconds=seconds)
    return True
  address = os.environ.get('R1JAX_COORDINATOR', '')
  host = os.environ.get('R1JAX_HOST', '')
  if not (hosts.isdigit() and host.isdigit() and int(host) < int(hosts)):
    raise errors.UserError(
      f'R1JAX_HOSTS is {hosts!r} and R1JAX_HOST {host!r}: they must be the '
      "number of processes and this one's index from 0, or R1JAX_HOSTS=auto"
    )
  if ':' not in address:
    raise errors.UserError(
      f'R1JAX_COORDINATOR is {address!r}: it must be HOST:PORT of process 0'
    )
  if os.environ.get('JAX_PLATFORMS') == 'cpu':
    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  jax.distributed.initialize(
    address, int(hosts), int(host), heartbeat_timeout_seconds=seconds
  )
  return True


def _store():
  """The key-value store of jax.distributed, which any thread may use."""
  from jax._src import distributed

  return distributed.global_state.client


def _seconds(variable, default):
  with errors.explained(f'{variable} must be a number of seconds', ValueError):
    return float(os.environ.get(variable) or default)


def count() -> int:
  """The number of hosts."""
  return jax.process_count()


def index() -> int:
  """The index of this host, from 0 to count() - 1."""
  return jax.process_index()


def own_rows(rows: int) -> slice:
  """The slice of `rows` rows that belongs to this host."""
  return slice(rows * index() // count(), rows * (index() + 1) // count())


def gather(value: T) -> list[T]:
  """[value of host 0, value of host 1, ...]; values are JSON. A collective."""
  watchdog.heartbeat()
  if count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.int32(text.size))
  # Widths are powers of 2, so that few programs are compiled.
  width = 1 << (int(sizes.max()) - 1).bit_length()
  padded = np.pad(text, (0, width - text.size))
  texts = multihost_utils.process_allgather(padded)
  watchdog.heartbeat()
  return [json.loads(bytes(row[:n])) for row, n in zip(texts, sizes)]


def raise_on_all(problem: Exception | None) -> None:
  """Raises UserError on all hosts if one of them has a problem, or Outage if
  trouble that may be temporary has caused it. A collective."""
  is_temporary = problem is not None and errors.temporary_cause(problem)
  for text, is_outage in gather([str(problem or ''), bool(is_temporary)]):
    if is_outage:
      raise errors.Outage(text)
    if text:
      raise errors.UserError(text)


def run_once(fn: Callable[[], T]) -> T:
  """The result of fn(), JSON, which host 0 alone calls. A collective."""
  result: Any = fn() if index() == 0 else None
  return gather(result)[0]


class Barrier:
  """A barrier between one thread of each host, for orbax's barrier_sync_fn. If
  a thread arrives while it handles an exception, this and all later calls raise
  OSError with its text on all hosts."""

  def __init__(self, name: str):
    self.name, self.calls, self.error = name, 0, ''

  def __call__(self, key: str, timeout_ms: int) -> None:
    if self.error:
      raise OSError(self.error)
    store, prefix = _store(), f'r1jax/{self.name}'
    # Orbax's writer thread calls this in a `finally`, after errors too.
    in_main_thread = threading.current_thread() is threading.main_thread()
    error = None if in_main_thread else sys.exc_info()[1]
    call, pause = self.calls, 0.01
    self.calls += 1
    folder, end = f'{prefix}/{call}/', time.monotonic() + timeout_ms / 1000
    store.key_value_set(f'{folder}{index()}', str(error or ''))
    arrived: list[tuple[str, str]] = []
    while len(arrived) < count():
      time.sleep(pause)
      arrived, pause = store.key_value_dir_get(folder), min(2 * pause, 0.5)
      if time.monotonic() > end:
        raise TimeoutError(f'{len(arrived)} of {count()} hosts reached {key}')
    if index() == 0:
      store.key_value_delete(f'{prefix}/{call - 2}/')
    for host_key, text in arrived:
      if text:
        self.error = f'host {host_key.rpartition("/")[2]}: {text}'
        raise OSError(self.error)


def terminate_requested() -> bool:
  """Whether any host has received SIGTERM. A collective."""
  watchdog.heartbeat()
  requested = watchdog.terminate_requested()
  if count() > 1:
    requested = multihost_utils.process_allgather(np.array(requested)).any()
  return bool(requested)


def raise_if_terminating() -> None:
  """Raises errors.Terminated if terminate_requested(). A collective."""
  if terminate_requested():
    raise errors.Terminated


def to_global(leaf: Any) -> Any:
  """Turns a jax.Array that every host holds completely into one global
  replicated array. Other leaves are returned as they are."""
  if not _is_own(leaf):
    return leaf
  assert leaf.is_fully_replicated, 'the hosts have different parts'
  parts = {part.device: part.data for part in leaf.addressable_shards}
  for device in jax.local_devices():
    if device not in parts:
      parts[device] = jax.device_put(leaf.addressable_data(0), device)
  sharding = NamedSharding(Mesh(np.array(jax.devices()), ('all',)), P())
  return jax.make_array_from_single_device_arrays(
    leaf.shape, sharding, [parts[device] for device in jax.local_devices()]
  )


def to_local(leaf: Any, like: Any) -> Any:
  """The inverse of to_global: an array on those devices that `like` is on."""
  if not _is_own(like):
    return leaf
  parts = {part.device: part.data for part in leaf.addressable_shards}
  own = [parts[part.device] for part in like.addressable_shards]
  shape, sharding = leaf.shape, like.sharding
  return jax.make_array_from_single_device_arrays(shape, sharding, own)


def _is_own(leaf):
  """Whether each of several hosts has a jax.Array of its own."""
  several = count() > 1 and isinstance(leaf, jax.Array)
  return several and leaf.is_fully_addressable
