"""Compares two Values by exact rules, and says whether numbers are in final
form."""

import re

from r1jax.rewards.math import (
  cleaning,
  left_sides,
  numbers,
  phrases,
  splitting,
  units,
  values,
)
from r1jax.rewards.math.values import LIST, SET, TUPLE, Value

UNORDERED = r'\cup', 'and', 'or', 'cases'
EXACT = re.compile(r'\\?(?:sqrt|pi(?![a-z]))')


def has_final_form(a: Value, gold: Value) -> bool:
  """Whether all numbers of an answer that stand for final numbers of the gold
  are in final form."""
  if gold.kind == 'number':
    if not gold.is_final or gold.left == left_sides.EXPRESSION:
      return True
    if a.kind != 'text':
      return a.is_final
    return _ends_in_number(a) or values.may_be_rounded(gold) and _is_exact(a)
  kinds = {a.kind, gold.kind}
  is_named_list = kinds == {TUPLE, LIST} and values.is_named(a, gold)
  if kinds in ({TUPLE}, {'matrix'}, {':'}) or is_named_list:
    pairs = zip(a.parts, gold.parts)
    return all(has_final_form(part, other) for part, other in pairs)
  if kinds <= {SET, LIST}:
    if all(part.kind == 'number' and part.is_final for part in gold.parts):
      return all(has_final_form(part, gold.parts[0]) for part in a.parts)
  return True


def _ends_in_number(value):
  """Whether a text is a chain whose value, its last side or the one before the
  approximation, is a number: 2 + 3 = 5."""
  sides = splitting.split_sides(value.raw)
  if len(sides) < 2 or values.INEQUALITY.search(value.raw):
    return False
  if not value.name and left_sides.unknowns(value.raw):
    return False
  last = -2 if splitting.split(value.raw, r'\approx')[1:] else -1
  number = numbers.read(cleaning.tight(sides[last]))
  return number is not None and number.is_final


def _is_exact(value):
  r"""Whether a text may be the exact value of a rounded gold, as \sqrt2."""
  return EXACT.search(value.raw) is not None and '=' not in value.raw


def are_equal(a: Value, gold: Value) -> bool:
  if not units.are_compatible(a.unit, gold.unit):
    return False
  is_named = a.name and gold.name
  if is_named and not values.is_same_name(a.name, gold.name):
    golds = values.sort_by_name(gold)
    a = values.sort_by_name(a)
    return a.name == golds.name and are_equal(a, golds)
  if gold.left == left_sides.EXPRESSION and not a.name:
    return False
  kinds = {a.kind, gold.kind}
  if 'time' in kinds:
    return _are_same_time(a, gold)
  is_set = len(kinds) == 1 and a.kind in UNORDERED
  if kinds <= {SET, LIST} or is_set:
    return _are_same_set(a, gold)
  is_named_list = kinds == {TUPLE, LIST} and values.is_named(a, gold)
  if a.kind != gold.kind and not is_named_list:
    return False
  if units.is_percent(a.unit) != units.is_percent(gold.unit):
    return a.kind == 'number' and _is_same_share(a, gold)
  if a.kind == 'number':
    error = abs(a.number - gold.number)
    is_near = 2 * error * 10**gold.decimals <= 1
    return error == 0 or values.may_be_rounded(gold) and is_near
  if a.kind == 'text':
    return a.text == gold.text
  if not values.have_same_names(a, gold):
    return False
  same_size = len(a.parts) == len(gold.parts)
  return same_size and all(map(are_equal, a.parts, gold.parts))


def _is_same_share(a, gold):
  """Whether a percentage equals a number; above 1 the sign may be missing."""
  shares = []
  for value in (a, gold):
    is_percent = units.is_percent(value.unit)
    shares.append(value.number / 100 if is_percent else value.number)
  if shares[0] == shares[1]:
    return True
  return a.number == gold.number and abs(gold.number) > 1


def _are_same_set(a, gold):
  """Whether each entry has its equal. A set in braces has no entry twice."""
  parts, golds = _entries(a), _entries(gold)
  if len(parts) != len(golds):
    return False
  for part in golds:
    match = next((x for x in parts if are_equal(x, part)), None)
    if match is None:
      return False
    parts.remove(match)
  return True


def _entries(value):
  entries: list[Value] = []
  for part in value.parts:
    if value.kind == SET and any(are_equal(part, x) for x in entries):
      continue
    entries.append(part)
  return entries


def _are_same_time(a, gold):
  times = []
  for value in (a, gold):
    clock, _, half = value.text.partition(' ')
    if value.kind != 'time' and not phrases.CLOCK.fullmatch(clock):
      return False
    times.append((clock, half))
  return phrases.are_same_time(*times)


def is_numeric(value):
  """Whether the value consists of numbers only, so that exact rules suffice."""
  if value.left == left_sides.EXPRESSION:
    return False
  if value.kind in ('number', 'text', 'time'):
    return value.kind != 'text'
  if value.kind in (r'\cup', r'\cap', r'\setminus'):
    return False
  return all(map(is_numeric, value.parts))
