"""Reward models learn which response is better, or which are safe."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
import toy
import toy_metrics
import toy_model

from r1jax import errors, files
from r1jax.checkpoints import pretrained, tokenization
from r1jax.data import templates
from r1jax.distributed import device_placement, programs
from r1jax.models.families import llama
from r1jax.reports import metric_texts
from r1jax.rewards import reward_model
from r1jax.stages import reward_model as stage
from r1jax.supervised import reward_model_config, reward_model_rows
from r1jax.training import metrics, train_step

TOKENIZER = tokenization.ByteTokenizer()
CONFIG = dataclasses.replace(
  toy.built('reward_model'), batch_size=4, micro_batch_size=4
)
POINTWISE = dataclasses.replace(CONFIG, kind='pointwise', part='response')


def thought(summary):
  return f'<think>12</think><answer>{summary}</answer>'


def pairs(count):
  """The chosen summary has more ones than the rejected; thinking is equal."""
  random = np.random.default_rng(0)

  def text(ones):
    return ''.join(random.permutation(list('1' * ones + '0' * (6 - ones))))

  for n in range(count):
    less, more = sorted(random.choice(7, 2, replace=False))
    yield dict(
      id=f'pair/{n}',
      prompt=f'{n:03}',
      answer='secret',
      chosen=thought(text(more)),
      rejected=thought(text(less)),
    )


def labelled(count):
  """A response is safe unless a 9 stands in its thinking."""
  random = np.random.default_rng(1)
  for n in range(count):
    thinking = ''.join(random.choice(list('012'), 5))
    safe = bool(random.random() < 0.5)
    if not safe:
      at = random.integers(5)
      thinking = thinking[:at] + '9' + thinking[at + 1 :]
    text = f'<think>{thinking}</think><answer>0</answer>'
    yield dict(id=f'one/{n}', prompt=f'{n:03}', response=text, safe=safe)


def write(path, records):
  path.write_text(''.join(json.dumps(x) + '\n' for x in records))
  return path


@pytest.fixture(scope='session')
def trained(base, tmp_path_factory):
  """(work directory, its overrides) of a reward model of pairs."""
  workdir = tmp_path_factory.mktemp('reward_model')
  path = write(workdir / 'pairs.jsonl', pairs(500))
  changes = f'init={base}/model', f'data={path}'
  toy.run('reward_model', workdir / 'run', *changes)
  return workdir / 'run', changes


def test_a_preference_between_pairs_is_learnt(trained):
  lines = files.read_jsonl(trained[0] / 'metrics.jsonl')
  assert all(map(metric_texts.meaning, lines[-1])), lines[-1]
  assert [line['step'] for line in lines] == list(range(1, 61))
  # A fresh score head gives every response a score of zero.
  assert lines[0]['loss'] == pytest.approx(np.log(2), rel=1e-5)
  assert lines[0]['accuracy'] == 0
  tested = {line['step']: line for line in lines if 'eval/accuracy' in line}
  assert list(tested) == [20, 40, 60]
  assert tested[60]['eval/accuracy'] > 0.9
  assert tested[60]['eval/low'] < tested[60]['eval/accuracy']
  assert tested[60]['eval/brier'] < 0.1
  assert tested[60]['eval/calibration_error'] < 0.15


def test_the_saved_model_gives_the_scores_of_the_run(trained):
  """Its rewards give the accuracy, centre and Brier score of the last line and
  of reward.json."""
  workdir, _ = trained
  config = toy.built('reward_model', *trained[1])
  _, held_out_records = reward_model_config.load_records(config)
  assert len(held_out_records) == 64
  reward = reward_model.RewardModel(
    workdir / 'model',
    config.compute,
    device_placement.placement(config.parallel),
    size=8,
  )
  probability_NG = np.stack(
    [
      reward(held_out_records, [x[key] for x in held_out_records])
      for key in ('chosen', 'rejected')
    ],
    axis=1,
  )
  assert 0 < probability_NG.min() < 0.3 and 0.7 < probability_NG.max() < 1
  logit_NG = np.log(probability_NG / (1 - probability_NG))
  assert abs(logit_NG.mean()) < 1e-3  # the centre is the mean score
  last = files.read_jsonl(workdir / 'metrics.jsonl')[-1]
  metadata = json.loads((workdir / 'model/reward.json').read_text())
  right_N = logit_NG[:, 0] > logit_NG[:, 1]
  assert right_N.mean() == last['eval/accuracy'] == metadata['accuracy']
  wrong_N = 1 / (1 + np.exp(logit_NG[:, 0] - logit_NG[:, 1]))
  np.testing.assert_allclose((wrong_N**2).mean(), metadata['brier'], rtol=1e-3)
  assert metadata['centre'] == last['eval/centre'] != 0
  names = 'kind', 'part', 'template', 'prefill', 'max_len', 'records'
  values = [metadata[name] for name in names]
  assert values == ['pairwise', 'summary', 'plain', '', 32, 64]
  params, cfg, _ = pretrained.load(workdir / 'model')
  assert cfg.score and params['score'].shape == (16,)


def test_labels_of_single_responses_are_learnt(base, tmp_path):
  path = write(tmp_path / 'labelled.jsonl', labelled(400))
  lines = toy.run(
    'reward_model',
    tmp_path / 'run',
    f'init={base}/model',
    f'data={path}',
    'kind=pointwise',
    'part=response',
    'max_len=48',
    'eval_every=0',
  )
  assert [line['step'] for line in lines if 'eval/accuracy' in line] == [60]
  assert lines[0]['loss'] == pytest.approx(np.log(2), rel=1e-5)
  assert lines[-1]['eval/accuracy'] > 0.9 and lines[-1]['eval/centre'] == 0


def test_an_interrupted_run_ends_like_an_uninterrupted_one(
  trained, tmp_path, monkeypatch, capsys
):
  workdir, changes = trained
  write_line = metrics.Writer.write

  def broken(writer, line):
    if line['step'] == 40:
      raise KeyboardInterrupt
    write_line(writer, line)

  with monkeypatch.context() as patch:
    patch.setattr(metrics.Writer, 'write', broken)
    with pytest.raises(KeyboardInterrupt):
      toy.run('reward_model', tmp_path, *changes)
  # The second run finds everything except the model.
  for _ in range(2):
    lines = toy.run('reward_model', tmp_path, *changes)
    whole = files.read_jsonl(workdir / 'metrics.jsonl')
    assert list(map(toy_metrics.without_timings, lines)) == list(
      map(toy_metrics.without_timings, whole)
    )
    for ours in (tmp_path / 'model').iterdir():
      assert ours.read_bytes() == (workdir / 'model' / ours.name).read_bytes()
      ours.unlink()
    (tmp_path / 'model').rmdir()
  capsys.readouterr()
  before = toy.files(workdir)
  toy.run('reward_model', workdir, *changes)
  assert f'{workdir} is finished' in capsys.readouterr().out
  assert toy.files(workdir) == before


CFG = llama.Config(
  vocab_size=264,
  width=16,
  layers=1,
  heads=8,
  kv_heads=4,
  head_dim=6,
  ffn=20,
  score=True,
)


def ragged(config):
  """The rows of four records of different lengths."""
  records = [
    dict(id=str(n), prompt='1' * (n + 1), safe=n % 2 == 0, **texts)
    for n, texts in enumerate(
      dict(chosen=x[::-1] + 'a', rejected=x, response='think' + x)
      for x in ('abc', 'bacacabab', 'c', 'aaccbb')
    )
  ]
  made = [templates.make_prompt(TOKENIZER, x, config.prompt) for x in records]
  return reward_model_rows.encode(TOKENIZER, records, config, made)


def one_update(config, strategy='pmap', devices=1, tensor_parallel=1):
  """(sums, gradients) of one step over four records."""
  placement = device_placement.placement(
    device_placement.ParallelConfig(
      strategy=strategy, tensor_parallel=tensor_parallel
    ),
    jax.devices()[:devices],
  )
  tx = optax.sgd(1.0)
  params = toy_model.random_params(CFG, 0.3, seed=2)
  state = train_step.create_state(placement, params, tx)
  cfg = programs.shard_config(placement, CFG)
  loss_fn = functools.partial(stage.loss, cfg, config.kind)
  state, sums = train_step.update(
    placement,
    train_step.update_programs(placement, loss_fn, tx),
    state,
    reward_model_rows.micro_batches(ragged(config), config),
  )
  state, sums = jax.device_get((state, sums))
  return sums, jax.tree.map(np.subtract, params, state.params)


LAYOUTS = [
  (CONFIG, dict(micro_batch_size=1), dict()),
  (CONFIG, dict(micro_batch_size=2, length_buckets=4), dict(devices=2)),
  (
    CONFIG,
    dict(micro_batch_size=2),
    dict(strategy='mesh', devices=4, tensor_parallel=2),
  ),
  (POINTWISE, dict(micro_batch_size=2, length_buckets=3), dict()),
]


@pytest.fixture(scope='module')
def plain():
  return {config.kind: one_update(config) for config in (CONFIG, POINTWISE)}


@pytest.mark.parametrize('config, changes, devices', LAYOUTS)
def test_the_update_does_not_depend_on_the_layout(
  config, changes, devices, plain
):
  sums, grads = one_update(dataclasses.replace(config, **changes), **devices)
  want, exact = plain[config.kind]
  assert want['weight'] == pytest.approx(1) and want['grad_norm'] > 0.01
  for a, b in zip(*map(jax.tree.leaves, (sums, want)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (grads, exact)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_the_two_responses_of_a_pair_stay_together():
  config = dataclasses.replace(CONFIG, micro_batch_size=2, length_buckets=4)
  rows = ragged(config)
  parts = reward_model_rows.micro_batches(rows, config)
  found = []
  for part in parts:
    assert part['tokens_BGL'].shape[:2] == (2, 2)
    for tokens_GL, pos_GL in zip(part['tokens_BGL'], part['pos_BGL']):
      found.append(tuple(x[p >= 0].tolist() for x, p in zip(tokens_GL, pos_GL)))
  assert sorted(found) == sorted(responses for responses, _ in rows)
  assert [TOKENIZER.decode(x) for x in rows[2][0]] == [
    '111ca<|end|>',
    '111c<|end|>',
  ]


def assert_refused(changes, records, message, tmp_path, init=''):
  path = write(tmp_path / 'data.jsonl', records)
  with pytest.raises(errors.UserError, match=message):
    toy.run(
      'reward_model', tmp_path / 'run', f'data={path}', f'init={init}', *changes
    )
  assert not (tmp_path / 'run').exists()


PAIR = dict(id='x/1', prompt='1', chosen='a', rejected='b')
ONE = dict(id='x/2', prompt='2', response='a', safe=True)
WHOLE = ('kind=pointwise', 'part=response')


@pytest.mark.parametrize(
  'changes, record, message',
  [
    ((), ONE, "has no text 'chosen' .*config.kind=pairwise"),
    ((), PAIR | dict(rejected=None), "x/1 has no text 'rejected'"),
    ((), PAIR | dict(chosen='<think>1'), "no text 'chosen' with a summary"),
    (WHOLE, PAIR, "x/1 has no text 'response' with a response"),
    (WHOLE, ONE | dict(safe='yes'), "'safe': 'yes': it must be true or false"),
    (('held_out=2',), PAIR, 'cannot hold out 2 of 2'),
    (('held_out=0',), PAIR, 'config.held_out is 0; it must be at least 1'),
    (('kind=paired',), PAIR, "config.kind must be one of 'pairwise'"),
    (('part=think',), PAIR, "config.part must be one of 'summary'"),
    (
      ('micro_batch_size=12',),
      PAIR,
      'config.micro_batch_size is 12: it must divide config.batch_size',
    ),
    ((), PAIR, "config.init is '': name the directory"),
  ],
)
def test_records_and_configs_that_do_not_fit_are_refused(
  changes, record, message, tmp_path
):
  records = [record, dict(record, id='y', prompt='3')]
  assert_refused(('held_out=1', *changes), records, message, tmp_path)


def test_a_record_that_is_too_long_is_named(base, tmp_path):
  records = [PAIR | dict(rejected='b' * 31), dict(PAIR, id='y', prompt='2')]
  assert_refused(
    ('held_out=1',),
    records,
    'x/1 has 33 tokens with its rejected',
    tmp_path,
    f'{base}/model',
  )
