"""The memory of the host, of this process and of its devices."""

import contextlib
from pathlib import Path

import jax

GIB = 2**30


def read() -> dict[str, float]:
  """{'system/...': GiB or share} of what this machine tells."""
  found = _process() | _host()
  statistics = [_statistics(device) for device in jax.local_devices()]
  for name, key in dict(
    device_memory_gib='bytes_in_use', device_memory_peak_gib='peak_bytes_in_use'
  ).items():
    values = [x[key] for x in statistics if key in x]
    if values:  # of the device with most
      found[f'system/{name}'] = max(values) / GIB
  return found


def _process():
  """Of /proc, which only Linux has."""
  with contextlib.suppress(OSError, ValueError, KeyError):
    fields = _fields('/proc/self/status')
    return {'system/process_memory_gib': fields['VmRSS'] / GIB}
  return {}


def _host():
  with contextlib.suppress(OSError, ValueError, KeyError):
    fields = _fields('/proc/meminfo')
    used = 1 - fields['MemAvailable'] / fields['MemTotal']
    return {'system/host_memory_used': used}
  return {}


def _fields(path):
  """The sizes in a file of /proc, in bytes, by name."""
  found = {}
  for line in Path(path).read_text().splitlines():
    words = line.split()
    if len(words) == 3 and words[2] == 'kB':
      found[words[0].rstrip(':')] = int(words[1]) * 1024
  return found


def _statistics(device):
  with contextlib.suppress(Exception):  # of backends that count no memory
    return device.memory_stats() or {}
  return {}
