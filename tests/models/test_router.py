"""The router chooses and weighs as those of transformers (golden/router.json,
written by golden/make_router.py)."""

import json
import os
import pathlib
import subprocess

import jax
import numpy as np
import pytest
from golden import make_router

from r1jax.models import layer, model_config, moe

GOLDEN = json.loads(
  pathlib.Path(make_router.__file__).with_name('router.json').read_text()
)
ROWS = 100_000
V3 = moe.MoeConfig(
  experts=256,
  experts_per_token=8,
  ffn=1,
  score='sigmoid',
  normalize=True,
  scale=2.5,
  groups=8,
  top_groups=4,
  correction_bias=True,
)
KINDS = dict(
  deepseek_v3=V3,
  deepseek_v3_ties=V3,
  deepseek_v2=moe.MoeConfig(
    experts=160,
    experts_per_token=6,
    ffn=1,
    score='softmax',
    normalize=False,
    scale=16.0,
    groups=8,
    top_groups=3,
    group_score='max',
  ),
  qwen3_moe=moe.MoeConfig(
    experts=128, experts_per_token=8, ffn=1, score='softmax', normalize=True
  ),
)


class Router(layer.Layer):
  moe: moe.MoeConfig

  @layer.nn.compact
  def __call__(self, h_TD):
    return moe.scores(self.cfg, self.moe, self, h_TD)


def route(case, rows):
  """(ids in ascending order, their weights, scores + bias of all experts)."""
  kind = KINDS[case]
  h_TD, router_ED, bias_E = make_router.inputs(case, rows)
  cfg = model_config.ModelConfig(
    vocab_size=2, width=make_router.WIDTH, layers=1
  )
  if not kind.correction_bias:
    bias_E = np.zeros_like(bias_E)

  @jax.jit
  def run(h_TD):
    params = dict(router=router_ED.T)
    score_TE = Router(cfg, kind).apply(dict(params=params), h_TD)
    id_TE = moe.choose(kind, score_TE, bias_E)
    return id_TE, moe.weights(kind, score_TE, id_TE), score_TE + bias_E[None]

  id_TE, weight_TE, choice_TE = jax.device_get(run(h_TD))
  order = np.argsort(id_TE, axis=1)
  ids = np.take_along_axis(id_TE, order, axis=1)
  return ids, np.take_along_axis(weight_TE, order, axis=1), choice_TE


@pytest.mark.parametrize('case', GOLDEN)
def test_the_experts_and_weights_are_those_of_transformers(case):
  ids, weights, _ = route(case, 12)
  np.testing.assert_array_equal(ids, GOLDEN[case]['ids'])
  np.testing.assert_allclose(
    weights, GOLDEN[case]['weights'], rtol=1e-6, atol=1e-6
  )


def has_equal_groups(kind, choice_TE):
  """Whether the last group that is kept has the score of the first that is not."""
  if kind.groups == 1:
    return np.zeros(len(choice_TE), bool)
  best = np.sort(choice_TE.reshape(len(choice_TE), kind.groups, -1), axis=2)
  count = 2 if kind.group_score == 'top2' else 1
  group = np.sort(best[:, :, -count:].sum(axis=2), axis=1)[:, ::-1]
  return group[:, kind.top_groups - 1] - group[:, kind.top_groups] < 1e-6


@pytest.fixture(scope='module')
def theirs(tmp_path_factory):
  if 'R1JAX_TORCH_PYTHON' not in os.environ:
    pytest.skip('R1JAX_TORCH_PYTHON is not set')
  path = tmp_path_factory.mktemp('router')
  command = os.environ['R1JAX_TORCH_PYTHON'], make_router.__file__, path
  subprocess.run([*map(str, command), str(ROWS)], check=True)
  return np.load(path / 'router.npz')


@pytest.mark.torch
@pytest.mark.parametrize('case', KINDS)
def test_many_rows_choose_the_same_experts_up_to_ties(case, theirs):
  ids, weights, choice_TE = route(case, ROWS)
  want_ids, want_weights = theirs[f'{case}/ids'], theirs[f'{case}/weights']
  same = (ids == want_ids).all(axis=1)
  difference = np.abs(weights - want_weights)[same].max()
  print(f'{case}: {(~same).sum()} of {ROWS} sets differ, weights {difference}')
  assert difference <= 1e-6 * KINDS[case].scale
  # Where the sets differ, either groups are equal, or the scores of what only
  # one of the sets has.
  for t in np.flatnonzero(~same & ~has_equal_groups(KINDS[case], choice_TE)):
    only_ours = np.sort(choice_TE[t, np.setdiff1d(ids[t], want_ids[t])])
    only_theirs = np.sort(choice_TE[t, np.setdiff1d(want_ids[t], ids[t])])
    np.testing.assert_allclose(only_ours, only_theirs, rtol=0, atol=1e-6)
  if 'ties' not in case:
    assert (~same).mean() < 1e-4
