"""Whether the hosts of a run agree: the same facts, code and work directory."""

import collections
import dataclasses
import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from r1jax import errors, files
from r1jax.distributed import hosts

SHARED_DISK_SECONDS = 20.0  # in which a new file must appear on all hosts
DIGEST_SIZE = 6  # bytes
PACKAGE = Path(__file__).parents[1]


def check_agreement(workdir: Path, **facts: Any) -> None:
  """Raises UserError unless all hosts have the same facts (text, JSON or
  dataclasses), r1jax, jax and work directory. A collective."""
  if hosts.count() == 1:
    return
  digests = {name: digest(fact) for name, fact in facts.items()}
  digests |= dict(code=source_digest(), jax=jax.__version__)
  by_host, differing = hosts.gather(digests), []
  # Where configs differ, hosts may have different facts.
  names: dict[str, None] = {}
  for theirs in by_host:
    names |= dict.fromkeys(theirs)
  for name in names:
    hosts_with = collections.defaultdict(list)
    for host, theirs in enumerate(by_host):
      hosts_with[theirs.get(name, 'absent')].append(host)
    if len(hosts_with) > 1:
      texts = [f'{x} on {_name(some)}' for x, some in hosts_with.items()]
      differing.append(f'{name} ({", ".join(texts)})')
  if differing:
    raise errors.UserError(
      f'the hosts of this run differ in {"; ".join(differing)}: give all of '
      'them the same command, files, software and sandbox'
    )
  _check_shared(workdir)


def source_digest() -> str:
  """The digest of the source of r1jax."""
  sources = sorted(PACKAGE.rglob('*.py'))
  return digest([[path.name, path.read_text('utf-8')] for path in sources])


def digest(fact: Any) -> str:
  """A text as it is; a digest of JSON and dataclasses."""
  if isinstance(fact, str):
    return fact
  text = json.dumps(fact, sort_keys=True, default=_as_json)
  return hashlib.blake2b(text.encode(), digest_size=DIGEST_SIZE).hexdigest()


def digest_of_records(records: Iterable[Mapping[str, Any]]) -> str:
  """The digest of a list of records, which need not be in memory."""
  whole = hashlib.blake2b(digest_size=DIGEST_SIZE)
  between = b'['
  for record in records:
    text = json.dumps(record, sort_keys=True, default=_as_json)
    whole.update(between + text.encode())
    between = b', '
  whole.update(b']' if between == b', ' else b'[]')
  return whole.hexdigest()


def _as_json(value):
  if isinstance(value, Mapping):
    return dict(value)
  is_dataclass = dataclasses.is_dataclass(value)
  return dataclasses.asdict(value) if is_dataclass else repr(value)


def that_see(folder: Path) -> list[int]:
  """The hosts that see what host 0 writes to a folder. A collective."""
  if hosts.count() == 1:
    return [0]
  probe = folder / hosts.run_once(lambda: f'.shared-{uuid.uuid4().hex}')
  end = time.monotonic() + SHARED_DISK_SECONDS
  hosts.run_once(lambda: files.write_text(probe, ''))
  while not probe.exists() and time.monotonic() < end:
    time.sleep(0.2)
  exists = hosts.gather(probe.exists())
  hosts.run_once(probe.unlink)
  return [host for host, seen in enumerate(exists) if seen]


def _check_shared(workdir):
  """Raises UserError unless the hosts see one and the same work directory."""
  folder = hosts.run_once(lambda: str(workdir))
  problem = f'cannot write to the work directory {workdir}'
  with errors.explained(problem, OSError):
    seen = that_see(workdir)
  missing = [host for host in range(hosts.count()) if host not in seen]
  if missing:
    raise errors.UserError(
      f'{_name(missing)} cannot see what host 0 writes to {folder}: give a '
      '--workdir on a disk or bucket that all hosts share'
    )


def _name(numbers):
  plural = 's' if len(numbers) > 1 else ''
  return f'host{plural} {", ".join(map(str, numbers))}'
