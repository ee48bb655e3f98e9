"""Routers of transformers: `python make_router.py DIRECTORY ROWS`, with an
interpreter that has torch and transformers.

Writes DIRECTORY/router.npz: for each case the ids of each row's experts, in
ascending order, and their weights. router.json beside this file has them of 12
rows. The inputs are those of inputs() on every machine.
"""

import json
import pathlib
import sys

import numpy as np

WIDTH = 24
V3 = dict(
  kind='deepseek_v3.DeepseekV3TopkRouter',
  num_local_experts=256,
  num_experts_per_tok=8,
  n_group=8,
  topk_group=4,
  norm_topk_prob=True,
  routed_scaling_factor=2.5,
)
CASES = dict(
  deepseek_v3=V3,
  deepseek_v3_ties=V3,
  deepseek_v2=dict(
    kind='deepseek_v2.DeepseekV2TopkRouter',
    num_experts=160,
    num_experts_per_tok=6,
    n_group=8,
    topk_group=3,
    topk_method='group_limited_greedy',
    routed_scaling_factor=16.0,
  ),
  qwen3_moe=dict(
    kind='qwen3_moe.Qwen3MoeTopKRouter',
    num_experts=128,
    num_experts_per_tok=8,
    norm_topk_prob=True,
  ),
)


def experts(case):
  sizes = CASES[case]
  names = 'num_experts', 'num_local_experts'
  return next(sizes[name] for name in names if name in sizes)


def inputs(case, rows):
  """(h_TD, router_ED, bias_E) float32. In the case of ties the products are
  small integers, and there are pairs of experts with equal weights."""
  random, E = np.random.RandomState(3), experts(case)
  router = 0.4 * random.standard_normal((E, WIDTH))
  bias = 0.1 * random.standard_normal(E)
  h = random.standard_normal((rows, WIDTH))
  if case == 'deepseek_v3_ties':
    h, router, bias = np.round(h), np.round(router), np.round(8 * bias) / 8
  return tuple(np.float32(a) for a in (h, router, bias))


def reference(case, rows):
  """(id_TE, weight_TE), in the order of the ids."""
  import importlib

  import torch
  import transformers

  sizes = dict(CASES[case])
  family, router = sizes.pop('kind').split('.')
  config_kind = router.replace('TopkRouter', 'Config')
  config_kind = config_kind.replace('TopKRouter', 'Config')
  config = getattr(transformers, config_kind)(
    hidden_size=WIDTH, num_attention_heads=4, **sizes
  )
  module = f'transformers.models.{family}.modeling_{family}'
  gate = getattr(importlib.import_module(module), router)(config)
  h, weight, bias = (torch.from_numpy(a) for a in inputs(case, rows))
  gate.weight.data = weight
  if hasattr(gate, 'e_score_correction_bias'):
    gate.e_score_correction_bias = bias
  with torch.no_grad():
    _, weights, ids = (a.numpy() for a in gate(h))
  order = np.argsort(ids, axis=1)
  return tuple(np.take_along_axis(a, order, axis=1) for a in (ids, weights))


def main(directory, rows):
  directory, arrays, entries = pathlib.Path(directory), {}, {}
  for case in CASES:
    ids, weights = reference(case, int(rows))
    arrays[f'{case}/ids'], arrays[f'{case}/weights'] = ids, weights
    if case != 'deepseek_v3_ties':
      first = ids[:12].tolist(), weights[:12].astype(float).round(7).tolist()
      entries[case] = dict(zip(('ids', 'weights'), first))
  np.savez(directory / 'router.npz', **arrays)
  lines = (f'"{case}": {json.dumps(e)}' for case, e in entries.items())
  text = '{\n' + ',\n'.join(lines) + '\n}\n'
  (directory / 'router.json').write_text(text)


if __name__ == '__main__':
  main(*sys.argv[1:])
