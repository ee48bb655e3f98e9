"""What an error about an unknown key of a config says: the key that is likely
meant, and the new names of old keys."""

import difflib
import itertools
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from r1jax import errors

# Old key and new key, for the error about an unknown key. An entry also matches
# within a longer key: prompt.stop covers judge.prompt.stop.
RENAMED = dict(
  pair.split(':')
  for pair in """
  micro:micro_batch_size buckets:length_buckets longer:max_new_tokens_schedule
  batch:batch_size against:baseline beside:compare_with cons:majority_k
  k:samples need:min_rewards questions:prompts_per_chunk
  grpo.questions:grpo.prompts_per_step grpo.group:grpo.group_size
  grpo.weights:grpo.loss_agg grpo.scale:grpo.advantage_std
  grpo.beta:grpo.kl_coef grpo.kl:grpo.kl_estimator grpo.old:grpo.old_logprobs
  grpo.importance_cap:grpo.tis_cap grpo.overlong_cache:grpo.overlong_buffer
  grpo.late:grpo.max_staleness grpo.dynamic_tries:grpo.dynamic_sampling_rounds
  sample.max_new:sample.max_new_tokens sample.slots:sample.decode_slots
  sample.refill_every:sample.refill_interval sample.windows:sample.kv_windows
  sample.ends:sample.eos_ids sample.stops:sample.stop_token_sequences
  prompt.stop:prompt.stop_strings judge.ask:judge.question_template
  judge.tries:judge.max_attempts scratch.words:scratch.extra_tokens
  parallel.kind:parallel.strategy parallel.model:parallel.tensor_parallel
  parallel.rollout:parallel.rollout_devices
  """.split()
)


class UnknownKey(errors.UserError):
  """A config has no such key. `key` is dotted, without 'config.'."""

  def __init__(self, name: str, names: Sequence[str]) -> None:
    super().__init__(f'unknown key {name}{hint(name, names)}')
    self.key = name.removeprefix('config.')


def hint(name: str, names: Sequence[str]) -> str:
  """The end of an error about an unknown key: the key that is likely meant."""
  new = _new_name(name)
  if any(f'{key}.'.startswith(f'{new}.') for key in names):
    return f': it is now {new}'
  last = name.split('.')[-1]
  near = [key for key in names if key.split('.')[-1] == last]
  near = near or difflib.get_close_matches(name, names, 1)
  return f': did you mean {near[0]}?' if near else ''


def _new_name(name):
  """The new name of an old dotted key or of the old section that holds it; ''
  for other keys."""
  parts = name.split('.')
  for start, end in itertools.combinations(range(len(parts) + 1), 2):
    old = '.'.join(parts[start:end])
    if old in RENAMED:
      return '.'.join([*parts[:start], RENAMED[old]])
  return ''


def file_error(path: Path, error: Exception) -> str:
  """One sentence with the file, the line and what failed there."""
  stack = traceback.extract_tb(error.__traceback__)
  frames = [frame for frame in stack if frame.filename == str(path)]
  where = f'{path}, line {frames[-1].lineno}' if frames else str(path)
  text = ' '.join(str(error).split())
  unknown = re.search(r'Key "(.+?)" does not exist', text)
  if not unknown:
    return f'{where}: {type(error).__name__}: {text}'
  line, key = (frames[-1].line if frames else '') or '', unknown[1]
  dotted = re.search(rf'[\w.]*\b{re.escape(key)}\b', line)
  name = dotted[0] if dotted else key
  near = re.search(r'Did you mean "(.+?)"', text)
  hint = f': did you mean {near[1]}?' if near else ''
  if _new_name(name):
    hint = f': it is now {_new_name(name)}'
  return f'{where}: unknown key {name}{hint}'
