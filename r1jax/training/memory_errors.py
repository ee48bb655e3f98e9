"""Memory that did not suffice, as a sentence: which part of a run was too
large, how large it was, and the config keys that make it smaller."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from r1jax import config as configs
from r1jax import errors

# The keys that make a part smaller, those with the most effect first.
KEYS = {
  'rollout': """sample.cache_tokens sample.decode_slots sample.max_new_tokens
    prompt.max_len
    judge.sample.decode_slots judge.sample.max_new_tokens compute.dtype
    parallel.strategy""",
  'evaluation': """sample.cache_tokens sample.decode_slots
    eval.prompts_per_chunk micro_batch_size
    sample.max_new_tokens parallel.strategy""",
  'old log-probabilities': """tokens_per_micro_batch micro_batch_size
    compute.head_chunk sample.max_new_tokens compute.dtype""",
  "reference's log-probabilities": """tokens_per_micro_batch micro_batch_size
    compute.head_chunk sample.max_new_tokens grpo.kl_coef
    parallel.strategy""",
  'rewards': 'micro_batch_size sample.max_new_tokens',
  'update': """tokens_per_micro_batch micro_batch_size compute.remat
    compute.head_chunk max_len sample.max_new_tokens compute.dtype
    parallel.strategy""",
  'loading of the model': 'parallel.strategy grpo.kl_coef init',
}
# What to do with a key that is not a number; numbers are lowered. Nothing is
# said of a key that has this value already.
VALUES = {
  'compute.remat': 'full',
  'compute.dtype': 'bfloat16',
  'parallel.strategy': 'mesh',
  'grpo.kl_coef': 0.0,
}
MEANINGS = {
  'grpo.kl_coef': 'no reference',
  'parallel.strategy': 'parameters divided among the devices',
  'compute.remat': 'recomputes activations',
}
BYTES = re.compile(r'allocat(?:e|ing) (\d+)(?![\d.]| ?[KMGT])')
SIZE = re.compile(r'[Aa]llocate ([\d.]+ ?[KMGT]i?B?)')
HBM = re.compile(r'Used ([\d.]+[KMGT]) of ([\d.]+[KMGT]) hbm')


@contextlib.contextmanager
def explained(part: str, config: Any) -> Iterator[None]:
  """Raises memory errors of the body as errors.OutOfMemory. `part` is one of
  KEYS, `config` the frozen config of a stage."""
  try:
    yield
  except Exception as error:
    if not errors.is_out_of_memory(error):
      raise
    raise errors.OutOfMemory(
      f'out of memory in the {part}: {size(error)}. To make it smaller: '
      f'{advice(part, config)}. The same command with these keys goes on from '
      'the last checkpoint, if there is one'
    ) from error


@contextlib.contextmanager
def advised(advice: str) -> Iterator[None]:
  """Raises memory errors of the body as errors.OutOfMemory, with advice for a
  command that has no config."""
  try:
    yield
  except Exception as error:
    if not errors.is_out_of_memory(error):
      raise
    raise errors.OutOfMemory(
      f'out of memory: {size(error)}. To need less: {advice}, a smaller model, '
      'or a device with more memory'
    ) from error


def size(error: BaseException) -> str:
  """What an error says about the memory that was asked for."""
  text = str(error)
  if found := BYTES.search(text):
    return f'{_readable(int(found[1]))} could not be allocated{_limit()}'
  if found := HBM.search(text):
    return f'the program needs {found[1]} of {found[2]} on a device'
  if found := SIZE.search(text):
    return f'{found[1]} could not be allocated{_limit()}'
  return ' '.join(text.split())[:200] or type(error).__name__


def advice(part: str, config: Any) -> str:
  """The keys of KEYS that a config has, with their values."""
  import jax  # which this process has imported; the command line has not

  options = {name: value for name, value, _ in configs.named_options(config)}
  found, devices = [], jax.device_count()
  for name in KEYS[part].split():
    is_useless = name == 'parallel.strategy' and devices == 1
    if name not in options or is_useless:
      continue
    value = options[name]
    if name == 'init':
      found.append(f'a smaller model as config.init ({value})')
    elif name in VALUES:
      if value != VALUES[name]:
        meaning = f', {MEANINGS[name]}' if name in MEANINGS else ''
        found.append(f'config.{name}={VALUES[name]} (now {value}{meaning})')
    elif value > 1:
      found.append(f'lower config.{name} (now {value})')
  found.append('more devices, or devices with more memory')
  return ', '.join(found[:-1]) + f', or {found[-1]}'


def _limit():
  """The memory of a device of this process, if its backend knows it."""
  import jax

  with contextlib.suppress(Exception):
    statistics = jax.local_devices()[0].memory_stats()
    if statistics:
      return f' on a device of {_readable(statistics["bytes_limit"])}'
  return ''


def _readable(count):
  units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB']
  while count >= 1024 and len(units) > 1:
    count, units = count / 1024, units[1:]
  return f'{count:.4g} {units[0]}'
