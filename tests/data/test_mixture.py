"""Mixtures of sources: shares of positions, and the records they take."""

import json

import numpy as np
import pytest

from r1jax import config as configs
from r1jax import errors
from r1jax.data import mixture, record_files
from r1jax.stages import rl
from r1jax.training import inputs


def records_of(**sizes):
  return [
    dict(id=f'{name}/{n}', prompt=f'{name} {n}', mixture=name)
    for name, size in sizes.items()
    for n in range(size)
  ]


WEIGHTS = dict(a=0.7, b=0.3, c=0.0)


def indices(records, weights, *position):
  groups = mixture.groups(records, weights)
  return mixture.indices(groups, weights, *position)


def test_of_each_thousand_positions_a_source_has_its_share():
  records = records_of(a=30, b=50)
  for start in (0, 3000):
    index = indices(records, WEIGHTS, 5, start, 1000)
    assert (index < 30).sum() == 700


def test_a_mixture_is_read_anywhere_and_all_records_of_a_source_as_often():
  records = records_of(a=7, b=11)
  whole = indices(records, WEIGHTS, 5, 0, 3000)
  for start, count in [(0, 4), (997, 10), (2995, 5)]:
    part = indices(records, WEIGHTS, 5, start, count)
    np.testing.assert_array_equal(part, whole[start : start + count])
  counts = np.bincount(whole)
  assert np.ptp(counts[:7]) <= 1 and np.ptp(counts[7:]) <= 1
  other = indices(records, WEIGHTS, 6, 0, 3000)
  assert (other != whole).any()


def test_a_source_is_in_each_rollout_about_as_its_weight_says():
  index = indices(records_of(a=90, b=90), WEIGHTS, 0, 0, 1000)
  share = (index.reshape(10, 100) < 90).mean(axis=1)
  assert (abs(share - 0.7) < 0.15).all() and np.ptp(share) > 0


def test_without_weights_the_stream_is_that_of_one_source():
  records = [dict(id=str(n), prompt=str(n)) for n in range(13)]
  np.testing.assert_array_equal(
    indices(records, {}, 3, 5, 20),
    record_files.prompt_indices(3, 5, 20, 13),
  )


def test_the_order_in_which_a_config_names_the_sources_changes_nothing(
  tmp_path,
):
  names = [write(tmp_path / x / 'x.jsonl', *ROWS) for x in 'ab']
  weights = dict(zip(names, (0.7, 0.3)))
  turned = dict(reversed(weights.items()))
  records = mixture.load_records('', weights, 0)
  assert mixture.load_records('', turned, 0) == records
  np.testing.assert_array_equal(
    indices(records, weights, 5, 0, 1000), indices(records, turned, 5, 0, 1000)
  )


def test_a_small_weight_still_has_a_share_and_absent_sources_none():
  weights = dict(a=1.0, b=1e-9, c=5.0)
  index = indices(records_of(a=3, b=2), weights, 0, 0, 1000)
  assert (index >= 3).sum() == 1
  groups = mixture.groups(records_of(a=3, b=2), weights)
  parts = list(mixture.parts(groups, weights, 0, 0, 1000))
  assert sum(len(part.place_N) for part in parts) == 1000


ROWS = [dict(prompt=f'p {n}', answer=n) for n in range(9)]


def write(path, *rows):
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_sources_have_columns_of_their_own_and_ids_that_differ(tmp_path):
  a = write(tmp_path / 'a' / 'x.jsonl', dict(question='q', final=1))
  b = write(tmp_path / 'b' / 'x.jsonl', dict(prompt='r', answer=2))
  weights = {f'{a}?prompt=question&answer=final': 2.0, b: 1.0, 'absent': 0.0}
  assert mixture.load_records('', weights, 0) == [
    dict(id='x/1', prompt='q', answer='1', mixture=list(weights)[0]),
    dict(id='x/1@1', prompt='r', answer='2', mixture=b),
  ]


@pytest.mark.parametrize(
  'source, weights, message',
  [
    (
      '',
      dict(a=-0.5),
      'the weight of a in the mixture is -0.5: it must be 0 or',
    ),
    ('', dict(a=0.0, b=0.0), 'weights of a, b in the mixture are all 0'),
    ('x', dict(a=1.0), 'records x and a mixture of a: set one of them'),
  ],
)
def test_weights_that_are_no_shares_are_refused(source, weights, message):
  with pytest.raises(errors.UserError, match=message):
    mixture.load_records(source, weights, 0)


def test_the_files_of_a_mixture_are_inputs_of_a_run(tmp_path):
  a = write(tmp_path / 'x.jsonl', dict(a='q', b=1))
  source = f'{a}?prompt=a'
  config = configs.override(
    configs.defaults(rl.Config),
    [f'--config.prompts_mix={{{source!r}: 1, "toy:product?count=3": 2.5}}'],
  )
  found = inputs.read(configs.build(rl.Config, config))
  key = f'prompts_mix.{source}'
  assert list(found[key].files) == ['x.jsonl'] and found[key].source == source
