"""The files that a run reads, by the config keys that name them, with digests
of their content.

Every file is digested whole: of a model its weights, tokenizer and configs, of
records their files, of an evaluation its results and samples. That costs less
than loading: a model is read once more, by several threads, often from the page
cache. Records of hf://, toy:, gym: and of the user's functions have no file;
their content has a digest of its own (see run_directory.py).
"""

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import huggingface_hub

from r1jax import config as configs
from r1jax.data.sources import hub, source_rows
from r1jax.distributed import watchdog

PIECE = 4 << 20  # bytes that a thread reads at one time
THREADS = 8
# The files of a folder that are read, and those of a model on the hub.
PATTERNS = dict(
  model=('*.safetensors', '*.json', '*.model', '*.jinja'),
  results=('results.json', 'chunks/*.jsonl'),
)


class Input(NamedTuple):
  """What a config key names, and the content of its files."""

  source: str  # the value of the key
  kind: str  # model, records, or results
  files: dict[str, str]  # digests by the path in the folder
  revision: str = ''  # the commit of a model or a dataset on the hub


def read(options: Any) -> dict[str, Input]:
  """The inputs of a stage's config by dotted key, an entry of a dict or a list
  by `key.entry`. A source without files, such as toy:NAME, has none here."""
  found = {}
  read_once = functools.cache(of_source)  # Two keys may name the same model.
  for name, value, metadata in configs.named_options(options):
    if metadata.get('reads'):
      for key, source in _sources(name, value):
        found[key] = read_once(source, metadata['reads'])
  return found


def of_source(source: str, kind: str) -> Input:
  """The input that a path or the name of a model on the hub stands for."""
  if kind == 'records':
    return _of_records(source)
  path, revision = Path(source), ''
  if kind == 'model' and source and not path.exists():
    path = _hub_folder(source)
    revision = path.name
  # 'scratch' names no model, even if there is such a folder.
  if source in ('', 'scratch') or not path.exists():
    return Input(source, kind, {})
  paths = [path]
  if path.is_dir():
    paths = [x for pattern in PATTERNS[kind] for x in path.glob(pattern)]
  files = {}
  for file in sorted(paths):
    name = file.name if file == path else str(file.relative_to(path))
    files[name] = digest(file)
  return Input(source, kind, files, revision)


def _of_records(source):
  """The input that a source of records stands for, see data/tasks.py. A commit
  of the hub is recorded; whether its records are others, their digest tells."""
  parsed = source_rows.parse(source)
  if parsed.is_of_hub:
    return Input(source, 'records', {}, hub.revision(source, parsed.settings))
  place, files = Path(parsed.place), {}
  if source and (place.exists() or source_rows.is_pattern(parsed.place)):
    for path in source_rows.files_of(parsed):
      is_inside = place in path.parents
      name = str(path.relative_to(place)) if is_inside else path.name
      files[name] = digest(path)
  return Input(source, 'records', files)


def as_json(inputs: Mapping[str, Input]) -> dict[str, dict]:
  """The inputs that have files or are of the hub, as in config.json."""
  return {
    key: x._asdict() for key, x in inputs.items() if x.files or x.revision
  }


def difference(old: Mapping, new: Input) -> str:
  """What changed since config.json has recorded an input; '' if nothing, or if
  the key names another source now."""
  before, after = old['files'], new.files
  if old['source'] != new.source or before == after:
    return ''
  parts = []
  for name in sorted(before.keys() | after.keys()):
    if name not in after:
      parts.append(f'{name} is missing')
    elif name not in before:
      parts.append(f'{name} is new')
    elif before[name] != after[name]:
      parts.append(f'{name} has other content')
  if len(parts) > 3:
    parts[3:] = [f'{len(parts) - 3} other files too']
  if old.get('revision') != new.revision:
    parts.append(f'revision {old.get("revision")} -> {new.revision}')
  return ', '.join(parts)


def digest(path: Path) -> str:
  """The digest of a file's content."""
  starts = range(0, path.stat().st_size, PIECE)
  with open(path, 'rb') as file, ThreadPoolExecutor(THREADS) as executor:
    piece = functools.partial(_piece_digest, file.fileno())
    whole = hashlib.sha256(b''.join(executor.map(piece, starts)))
  watchdog.heartbeat()
  return whole.hexdigest()[:16]


def _piece_digest(descriptor, start):
  return hashlib.sha256(os.pread(descriptor, PIECE, start)).digest()


def _sources(name, value) -> Iterator[tuple[str, str]]:
  """(key, source) of the sources in the value of an option."""
  if isinstance(value, str):
    yield name, value
  elif isinstance(value, dict):
    for key, entry in value.items():  # Of a mixture the keys are sources.
      yield f'{name}.{key}', entry if isinstance(entry, str) else key
  else:
    yield from ((f'{name}.{n}', source) for n, source in enumerate(value))


def _hub_folder(name):
  """The folder of a model that was loaded from the hub; a path that does not
  exist if there is none."""
  try:
    folder = huggingface_hub.snapshot_download(name, local_files_only=True)
  except (OSError, ValueError):  # not in the cache, or no name of the hub
    return Path(name)
  return Path(folder)
