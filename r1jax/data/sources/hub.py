"""Datasets of the Hugging Face hub, by the package datasets:
hf://OWNER/NAME?config=…&split=…&revision=…&limit=…"""

import contextlib
import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from r1jax import errors, files
from r1jax.data.sources import arrow_file

PREFIX = files.HUB
SETTINGS = 'config', 'split', 'revision', 'limit'
COMMIT = re.compile('[0-9a-f]{40}')
NAME = re.compile(r'[\w.-]+(/[\w.-]+)?')


def rows(source: str, settings: Mapping[str, str]) -> Iterator[dict]:
  """The rows of a split. With the setting `limit` the first ones are streamed,
  so that no more is downloaded. Raises UserError for a name, a config or a
  split that does not exist, or if the hub cannot be reached."""
  builder = _builder(source, settings)
  split, limit = settings.get('split', ''), settings.get('limit')
  found = builder.info.splits or builder.config.data_files or ()
  splits = list(map(str, found))
  base = split.partition('[')[0]  # of a slice such as train[:10%]
  if splits and '+' not in base:
    split = arrow_file.choose_split(source, splits, base) + split[len(base) :]
  # A part of a split, or a sum of several, cannot be streamed.
  is_whole = not set(split) & set('[+')
  dataset = _load(source, builder, split, bool(limit) and is_whole)
  features = dataset.features or {}
  names = {k: x.names for k, x in features.items() if 'names' in dir(x)}
  tables = dataset.with_format('arrow').iter(arrow_file.BATCH)
  found = arrow_file.plain_rows(tables, names)
  with _reachable(source):  # Streaming downloads here.
    yield from itertools.islice(found, int(limit) if limit else None)


def revision(source: str, settings: Mapping[str, str]) -> str:
  """The commit of a dataset on the hub; '' if it is not known."""
  builder = _builder(source, settings)
  files = itertools.chain(*(builder.config.data_files or {}).values())
  for text in [str(builder.hash), *files]:
    if found := COMMIT.search(text):
      return found[0]
  return ''


def _builder(source, settings):
  name = source.removeprefix(PREFIX).partition('?')[0]
  return _cached_builder(
    source, name, settings.get('config'), settings.get('revision')
  )


@functools.cache  # An input is read, and its revision is recorded.
def _cached_builder(source, name, config, revision):
  """What `datasets` knows about a config of a dataset."""
  datasets = _package(source)
  name = name.removeprefix('datasets/')
  if not NAME.fullmatch(name) and not Path(name).is_absolute():
    raise errors.UserError(
      f'{source}: a dataset of the hub is named hf://OWNER/NAME?split=…, '
      'without a path to one of its files'
    )
  try:
    with _reachable(source):
      return datasets.load_dataset_builder(name, config, revision=revision)
  except datasets.exceptions.DatasetNotFoundError as error:
    raise errors.UserError(
      f'{source}: there is no such dataset, or it needs a login '
      f'(`hf auth login`, or HF_TOKEN): {error}'
    ) from None
  except RuntimeError as error:  # It is a program, which is not run.
    raise errors.UserError(f'{source} cannot be read: {error}') from None
  except errors.UserError:
    raise
  except ValueError as error:  # No config, or one that does not exist.
    raise errors.UserError(
      f'{source}: choose a config, config=NAME: {" ".join(str(error).split())}'
    ) from None


def _load(source, builder, split, is_streamed):
  """The split of a builder, downloaded or streamed."""
  with _reachable(source):
    _read_in_parts(builder)
    if not is_streamed:
      builder.download_and_prepare()
      arrow_file.package(source).default_memory_pool().release_unused()
    problem = f'{source}: there is no such split'
    with errors.explained(problem, ValueError):
      if is_streamed:
        return builder.as_streaming_dataset(split)
      return builder.as_dataset(split)


def _read_in_parts(builder):
  """Lets `datasets` read parquet files without keeping them in memory."""
  from datasets.packaged_modules.parquet import parquet
  from pyarrow import dataset

  if isinstance(builder.config, parquet.ParquetConfig):
    builder.config.fragment_scan_options = dataset.ParquetFragmentScanOptions(
      pre_buffer=False,
      use_buffered_stream=True,
      buffer_size=arrow_file.PIECE,
    )


@contextlib.contextmanager
def _reachable(source: str) -> Iterator[None]:
  """Raises UserError if the hub cannot be reached in this context. The package
  huggingface_hub has tried it again for half a minute."""
  from datasets import exceptions
  from huggingface_hub import errors as hub_errors
  from pyarrow import ArrowException

  kinds = ConnectionError, TimeoutError, hub_errors.HfHubHTTPError
  try:
    yield
  except exceptions.DatasetNotFoundError:
    raise
  except (
    exceptions.DatasetsError,
    ArrowException,
  ) as error:  # Its files do not fit together.
    raise errors.UserError(
      f'{source} cannot be read: {error.__cause__ or error}'
    ) from error
  except kinds as error:
    problem = ' '.join(f'{type(error).__name__}: {error}'.split())
    raise errors.UserError(
      f'{source}: the hub cannot be reached, also not in further tries: is the '
      'network up, and HF_ENDPOINT right if it is set? Without a network, '
      f'download the files and name their path ({problem})'
    ) from None


def _package(source: str) -> Any:
  try:
    import datasets
  except ModuleNotFoundError:
    raise errors.UserError(
      f'{source} needs the package datasets, which is not installed: '
      f'{arrow_file.EXTRA}'
    ) from None
  return datasets
