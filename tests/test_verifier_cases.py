"""The table that the verifier of mathematics is measured on, and the measure."""

import collections

from experiments.verifiers import cases, table


def test_the_table_is_large_has_no_case_twice_and_both_sorts_of_each_kind():
  found = cases.cases()
  assert len(found) >= 400
  assert len({case[1:3] for case in found}) > 0.97 * len(found)
  sorts = collections.defaultdict(collections.Counter)
  for kind, _, _, is_equal in found:
    sorts[kind][is_equal] += 1
  del sorts['hostile']
  assert all(min(x[True], x[False]) >= 5 for x in sorts.values())


def test_no_wrong_answer_is_accepted_and_no_right_one_rejected():
  found = cases.cases()
  said, seconds = table.ours(found)
  wrong = [
    case for case, yes in zip(found, said, strict=True) if yes != case[3]
  ]
  assert not wrong
  assert max(seconds) < 30  # wall time; the limit is 2 CPU seconds


def test_the_rates_are_counted_by_kind():
  made = [('a', '', '', True), ('a', '', '', False), ('b', '', '', False)]
  assert table.rows(made, [False, True, False]) == dict(
    a=(2, 1, 1, 1), b=(1, 0, 0, 0), all=(3, 1, 1, 1)
  )
