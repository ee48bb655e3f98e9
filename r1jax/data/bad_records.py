"""Records that cannot be used: all are named before a stage begins, or they are
left out and counted."""

import contextlib
from collections.abc import Iterator

from r1jax import errors

SHOWN = 20  # of the records that cannot be used; of the others the names
KEY = 'config.skip_bad_records'
LONG_KEY = 'config.drop_too_long'


class TooLong(errors.UserError):
  """A record that has more tokens than a config allows."""


class BadRecords:
  """Collects one sentence about each record that cannot be used. `key` is the
  config key by which a user leaves such records out, '' if there is none. With
  drop_too_long those that are too long are left out and counted in any case.
  """

  def __init__(
    self, skip: bool = False, key: str = KEY, drop_too_long: bool = False
  ) -> None:
    self.skip, self.key, self.drop_too_long = skip, key, drop_too_long
    self.too_long: list[str] = []  # names of those that are left out
    self.has_too_long = False  # among `found`
    self.found: list[tuple[str, str]] = []  # (name, sentence)
    # 'FILE line N' by id, and 'FILE line' by ID for the ids ID/N.
    self.places: dict[str, str] = {}

  @contextlib.contextmanager
  def noted(self, name: str) -> Iterator[None]:
    """Notes the UserError that this context raises about a record, `name` being
    its id or place."""
    try:
      yield
    except TooLong as error:
      if self.drop_too_long:
        self.too_long.append(errors.printable(name))
      else:
        self.has_too_long = True
        self.note(name, str(error))
    except errors.UserError as error:
      self.note(name, str(error))

  def note(self, name: str, sentence: str) -> None:
    """Notes a sentence about the record `name`."""
    self.found.append((errors.printable(name), errors.printable(sentence)))

  def finish(self, kept: int, source: str) -> None:
    """Raises UserError with all sentences, or prints them if these records are
    left out. `kept` is the number of good records, `source` their origin."""
    found, self.found = self.found, []
    self._report_too_long(kept + len(found), source)
    if not found:
      return
    total = kept + len(found)
    shown = self._listed(found)
    if self.skip:
      line = f'left out {len(found):,} of {total:,} records of {source}:'
      print('\n'.join([line, *shown]), flush=True)
      if not kept:
        raise errors.UserError(f'no record of {source} can be used')
      return
    hint = f'{self.key}=True leaves such records out'
    if self.has_too_long:
      hint += f', {LONG_KEY}=True only those that are too long'
    if not self.key or not kept:
      hint = ''
    if len({sentence for _, sentence in found}) == 1 and not hint:
      is_one = len(found) == 1
      raise errors.UserError(shown[0].strip() if is_one else found[0][1])
    if len(found) == 1:
      (line,) = shown
      raise errors.UserError(f'{line.strip()} (1 of {total:,} records; {hint})')
    line = f'{len(found):,} of {total:,} records of {source} cannot be used'
    line += f' ({hint}):' if hint else ':'
    raise errors.UserError('\n'.join([line, *shown]))

  def _report_too_long(self, others, source):
    """Prints how many records are left out since they are too long."""
    names, self.too_long = self.too_long, []
    if not names:
      return
    total = len(names) + others
    more = ', …' if len(names) > SHOWN else ''
    print(
      f'left out {len(names):,} of {total:,} records of {source}, which are too '
      f'long ({", ".join(names[:SHOWN])}{more})',
      flush=True,
    )
    if not others:
      raise errors.UserError(
        f'all records of {source} are too long: raise the max. length'
      )

  def _listed(self, found):
    """Lines with the first sentences, each with the records that share it and
    the place of the first, and with the names of the other records."""
    names: dict[str, list[str]] = {}
    for name, sentence in found:
      names.setdefault(sentence, []).append(name)
    lines = []
    for sentence, shared in list(names.items())[:SHOWN]:
      more = []
      if len(shared) > 1:
        more.append(f'{len(shared):,} records: {", ".join(shared)}')
      elif shared[0] not in sentence:
        more.append(shared[0])
      place = self._place(shared[0])
      if place and place not in sentence:
        more.append(f'the first in {place}' if len(shared) > 1 else place)
      lines.append(f'  {sentence}' + (f' ({"; ".join(more)})' if more else ''))
    rest = [name for shared in list(names.values())[SHOWN:] for name in shared]
    if rest:
      lines.append(f'  and {len(rest):,} more: {", ".join(rest)}')
    return lines

  def _place(self, name):
    """The file and line of a record, '' if they are not known."""
    if name in self.places:
      return errors.printable(self.places[name])
    stem, _, number = name.rpartition('/')
    place = self.places.get(stem)
    return errors.printable(f'{place} {number}') if place else ''
