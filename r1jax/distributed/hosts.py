"""The processes of a run, one on each host: the same program on the same data.
What one of them alone sees or does is made known to all of them here."""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import sys
import threading
import time
import traceback
import uuid

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from r1jax import errors
from r1jax.distributed import watchdog

HEARTBEAT = 60.0  # seconds without a sign of life of a host
STUCK = 1800.0  # seconds without progress on several hosts
SEEN = 20.0  # seconds in which a file must appear on all hosts
PACKAGE = pathlib.Path(__file__).parent


@contextlib.contextmanager
def connected(workdir, ending):
  """This process is one of those that R1JAX_HOSTS says, and is watched.

  ending(error) is (exit code, sentence or None). Where one host fails, all end
  with its code; where all were told to end, each does so by itself.
  """
  several = _connect()
  stuck = _number('R1JAX_STUCK', STUCK if several else 0.0)
  if not several:
    with watchdog.watching(watchdog.Watchdog(workdir, stuck)):
      yield
    return
  guard = watchdog.Watchdog(workdir, stuck, index(), count(), _service())
  with contextlib.ExitStack() as stack:
    stack.enter_context(watchdog.watching(guard))
    if index():
      # One host speaks for all, who would say the same.
      silence = stack.enter_context(open(os.devnull, 'w'))
      stack.enter_context(contextlib.redirect_stdout(silence))
    try:
      yield
    except errors.Terminated:
      raise
    except BaseException as error:
      code, sentence = ending(error)
      watchdog.print_error(sentence or traceback.format_exc())
      guard.fail(code, sentence or f'{type(error).__name__}: {error}')


def _connect():
  """Whether there are several processes; they have found each other then."""
  hosts = os.environ.get('R1JAX_HOSTS', '')
  if not hosts:
    return False
  seconds = int(_number('R1JAX_HEARTBEAT', HEARTBEAT))
  if hosts == 'auto':
    jax.distributed.initialize(heartbeat_timeout_seconds=seconds)
    return True
  address, host = (
    os.environ.get(name, '') for name in ('R1JAX_COORDINATOR', 'R1JAX_HOST')
  )
  if not (hosts.isdigit() and host.isdigit() and int(host) < int(hosts)):
    raise errors.UserError(
      f'R1JAX_HOSTS is {hosts!r} and R1JAX_HOST {host!r}: they must be the '
      "number of processes and this one's, from 0 on, or R1JAX_HOSTS=auto"
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


def _service():
  """The key-value store that all hosts share, for any thread."""
  from jax._src import distributed  # There is no public way.

  return distributed.global_state.client


def _number(name, default):
  text = os.environ.get(name, '')
  try:
    return float(text) if text else default
  except ValueError:
    raise errors.UserError(f'{name} is {text!r}: it must be seconds') from None


def count():
  return jax.process_count()


def index():
  return jax.process_index()


def own_rows(rows):
  """The slice of so many rows that is this host's."""

  def first(host):
    return rows * host // count()

  return slice(first(index()), first(index() + 1))


def gather(value):
  """[value of host 0, of host 1, …]; values are plain JSON. All hosts call
  this, from their main threads, in one order."""
  watchdog.heartbeat()
  if count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size_H = multihost_utils.process_allgather(np.int32(text.size))
  width = 1 << (int(size_H.max()) - 1).bit_length()  # few shapes, few programs
  text_HW = multihost_utils.process_allgather(
    np.pad(text, (0, width - text.size))
  )
  watchdog.heartbeat()
  return [json.loads(bytes(row[:n])) for row, n in zip(text_HW, size_H)]


def run_once(fn):
  """fn() of host 0, which all wait for and are told: plain JSON."""
  return gather(fn() if index() == 0 else None)[0]


def barrier(name):
  """wait(key, timeout_ms) for a thread of every host, in one order: until all
  have come. Where a thread comes to it in a `finally`, because something went
  wrong there, it raises that on all hosts, now and from then on."""
  turns, faults, service = itertools.count(), [], _service()

  def wait(key, timeout_ms):
    if faults:
      raise OSError(faults[0])
    turn = next(turns)
    thread = threading.current_thread() is not threading.main_thread()
    fault = sys.exc_info()[1] if thread else None
    place, end = f'r1jax/{name}/{turn}/', time.monotonic() + timeout_ms / 1000
    service.key_value_set(f'{place}{index()}', str(fault or ''))
    said, pause = [], 0.01
    while len(said) < count():
      time.sleep(pause)
      said, pause = service.key_value_dir_get(place), min(2 * pause, 0.5)
      if time.monotonic() > end:
        raise TimeoutError(f'{len(said)} of {count()} hosts came to {key}')
    faults.extend(f'host {key.rpartition("/")[2]}: {x}' for key, x in said if x)
    if index() == 0:
      service.key_value_delete(f'r1jax/{name}/{turn - 2}/')
    if faults:
      raise OSError(faults[0])

  return wait


def terminate_requested():
  """Whether one of the hosts was told to end; all ask together, between two
  programs of the devices."""
  watchdog.heartbeat()
  if count() == 1:
    return watchdog.terminate_requested()
  return bool(
    multihost_utils.process_allgather(
      np.array(watchdog.terminate_requested())
    ).any()
  )


def raise_if_terminating():
  """Raises ToldToEnd on all hosts once one of them was told to end."""
  if terminate_requested():
    raise errors.Terminated


def to_global(leaf):
  """A host's own jax array, the same on all hosts, as one that they share."""
  if count() == 1 or not isinstance(leaf, jax.Array):
    return leaf
  if not leaf.is_fully_addressable:
    return leaf
  assert leaf.is_fully_replicated, 'the hosts have different parts'
  here = {part.device: part.data for part in leaf.addressable_shards}
  some = leaf.addressable_data(0)
  parts = [
    here[d] if d in here else jax.device_put(some, d)
    for d in jax.local_devices()
  ]
  everywhere = NamedSharding(Mesh(np.array(jax.devices()), ('all',)), P())
  return jax.make_array_from_single_device_arrays(leaf.shape, everywhere, parts)


def to_local(leaf, like):
  """A shared array as this host's own, where `like` is."""
  if count() == 1 or not isinstance(like, jax.Array):
    return leaf
  if not like.is_fully_addressable:
    return leaf
  here = {part.device: part.data for part in leaf.addressable_shards}
  parts = [here[shard.device] for shard in like.addressable_shards]
  return jax.make_array_from_single_device_arrays(
    leaf.shape, like.sharding, parts
  )


def check_agreement(workdir, **facts):
  """Refuses hosts that do not see the same facts (text, JSON or dataclasses),
  code and work directory."""
  if count() == 1:
    return
  facts = {name: _digest(x) for name, x in facts.items()}
  facts |= dict(code=_code(), jax=jax.__version__)
  said, faults = gather(facts), []
  for name in facts:
    seen = collections.defaultdict(list)
    for host, theirs in enumerate(said):
      seen[theirs[name]].append(host)
    if len(seen) > 1:
      shown = [f'{x} on {_hosts(many)}' for x, many in seen.items()]
      faults.append(f'{name} ({", ".join(shown)})')
  if faults:
    raise errors.UserError(
      f'the hosts of this run differ in {"; ".join(faults)}: give all of them '
      'the same command, files, software and sandbox'
    )
  _check_shared(pathlib.Path(workdir))


def _digest(x):
  if isinstance(x, str):
    return x
  text = json.dumps(x, sort_keys=True, default=dataclasses.asdict)
  return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _code():
  sources = sorted(PACKAGE.rglob('*.py'))
  return _digest([[path.name, path.read_text()] for path in sources])


def _check_shared(workdir):
  """Refuses a work directory that is not one and the same for all."""

  def write():
    path = workdir / f'.seen-by-all-{uuid.uuid4().hex}'
    try:
      workdir.mkdir(parents=True, exist_ok=True)
      path.touch()
    except OSError as error:
      raise errors.UserError(
        f'cannot write to the work directory {workdir}: {error.strerror}'
      ) from error
    return [str(workdir), path.name]

  place, name = run_once(write)
  path, end = workdir / name, time.monotonic() + SEEN
  while not path.exists() and time.monotonic() < end:
    time.sleep(0.2)
  blind = [host for host, seen in enumerate(gather(path.exists())) if not seen]
  run_once(path.unlink)
  if blind:
    raise errors.UserError(
      f'what host 0 writes to {place} is not seen on {_hosts(blind)}: give a '
      '--workdir on a disk or bucket that all hosts share'
    )


def _hosts(many):
  return f'host{"s" * (len(many) > 1)} {", ".join(map(str, many))}'
