"""The tables that were written without knowledge of the code: no error beside
those that experiments/LOG.md names."""

import pytest

from experiments.verifiers import blind_tables


def errors_of(name):
  """(false rejects, false accepts) of a table, as rows."""
  cases = list(blind_tables.TABLES[name]())
  rejects = [case.row for case in cases if case.is_false_reject]
  return rejects, [case.row for case in cases if case.is_false_accept]


def test_mathematics():
  """A gold with three decimals may be a rounded number: 1/3 is 0.333."""
  rejects, accepts = errors_of('mathematics')
  assert {row['kind'] for row in rejects} <= {
    'chinese_sentence',
    'equation_curve',
  }
  assert len(rejects) <= 2
  assert [row['gold'] for row in accepts] == ['0.333', '0.333']


def test_choices_languages_and_formats():
  """The thinking may be empty."""
  rejects, accepts = errors_of('texts')
  assert not rejects
  assert {row['task'] for row in accepts} == {'format'} and len(accepts) == 3
  assert all('thought' in row['why'] for row in accepts)


@pytest.mark.slow
def test_programs():
  """Temporary files with a name are refused."""
  rejects, accepts = errors_of('programs')
  assert {row['kind'] for row in rejects} == {'tempfile'} and not accepts
