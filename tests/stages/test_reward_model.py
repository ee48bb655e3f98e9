"""Reward models learn which response is the better one, or which are safe."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest
import toy

from r1jax import errors, files
from r1jax.checkpoints import pretrained, tokenization
from r1jax.distributed import device_placement, programs
from r1jax.models import transformer
from r1jax.rewards import reward_model
from r1jax.stages import reward_model
from r1jax.training import metrics, train_step

WORDS = tokenization.ByteTokenizer()
C = dataclasses.replace(
  toy.built('reward_model'), batch_size=4, micro_batch_size=4
)
POINTWISE = dataclasses.replace(C, kind='pointwise', part='response')


def thought(summary):
  return f'<think>12</think><answer>{summary}</answer>'


def pairs(count):
  """The chosen summary has more ones than the rejected; thinking is the same."""
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


def test_a_rule_about_pairs_is_learnt(trained):
  lines = files.read_jsonl(trained[0] / 'metrics.jsonl')
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


def test_the_export_scores_as_the_run_said(trained):
  """Reopened, its rewards give the accuracy, centre and Brier score of the
  last line, and reward.json says the same."""
  workdir, _ = trained
  c = toy.built('reward_model', *trained[1])
  _, held = reward_model.load_records(c)
  assert len(held) == 64
  reward = reward_model.load(
    workdir / 'model',
    c.compute,
    lambda make, cfg: jax.jit(make(cfg)),
    micro_batch_size=8,
  )
  chance_NP = np.stack(
    [reward(held, [x[key] for x in held]) for key in ('chosen', 'rejected')], 1
  )
  assert 0 < chance_NP.min() < 0.3 and 0.7 < chance_NP.max() < 1
  logit_NP = np.log(chance_NP / (1 - chance_NP))
  assert abs(logit_NP.mean()) < 1e-3  # the centre is the mean score
  last = files.read_jsonl(workdir / 'metrics.jsonl')[-1]
  facts = json.loads((workdir / 'model/reward.json').read_text())
  right_N = logit_NP[:, 0] > logit_NP[:, 1]
  assert right_N.mean() == last['eval/accuracy'] == facts['accuracy']
  wrong_N = 1 / (1 + np.exp(logit_NP[:, 0] - logit_NP[:, 1]))
  np.testing.assert_allclose((wrong_N**2).mean(), facts['brier'], rtol=1e-3)
  assert facts['centre'] == last['eval/centre'] != 0
  names = 'kind', 'part', 'template', 'prefill', 'max_len', 'records'
  said = [facts[name] for name in names]
  assert said == ['pairwise', 'summary', 'plain', '', 32, 64]
  params, cfg, _ = pretrained.load(workdir / 'model')
  assert cfg.score and params['score'].shape == (16,)


def test_a_rule_about_single_responses_is_learnt(base, tmp_path):
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


def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(
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
  # The second time all is there but the model, as if killed while writing it.
  for _ in range(2):
    lines = toy.run('reward_model', tmp_path, *changes)
    whole = files.read_jsonl(workdir / 'metrics.jsonl')
    assert list(map(metrics.without_timings, lines)) == list(
      map(metrics.without_timings, whole)
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


CFG = transformer.ModelConfig(
  vocab_size=264,
  width=16,
  layers=1,
  heads=8,
  kv_heads=4,
  head_dim=6,
  ffn=20,
  score=True,
)


def ragged(c):
  """Four records of different lengths, their rows and labels."""
  records = [
    dict(id=str(n), prompt='1' * (n + 1), safe=n % 2 == 0, **texts)
    for n, texts in enumerate(
      dict(chosen=x[::-1] + 'a', rejected=x, response='think' + x)
      for x in ('abc', 'bacacabab', 'c', 'aaccbb')
    )
  ]
  labels = [reward_model.label(x) for x in records]
  return reward_model.encode(WORDS, records, c), labels


def learnt(c, kind='pmap', devices=1, model_axis=1):
  """(sums, gradients) of one step over four records."""
  place = device_placement.placement(
    device_placement.ParallelConfig(kind, model_axis), jax.devices()[:devices]
  )
  tx = optax.sgd(1.0)
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), CFG))
  noise = np.random.default_rng(2).standard_normal
  params = jax.tree.map(lambda a: np.float32(0.3 * noise(a.shape)), shapes)
  state = device_placement.put_state(place, train_step.init_state(params, tx))
  step = train_step.train_step(
    place, reward_model.loss_fn(programs.shard_config(place, CFG), c.kind), tx
  )
  state, sums = step(state, reward_model.batch(*ragged(c), c))
  state, sums = jax.device_get((state, sums))
  return sums, jax.tree.map(np.subtract, params, state.params)


LAYOUTS = [
  (C, dict(micro_batch_size=1), dict()),
  (C, dict(micro_batch_size=2, buckets=4), dict(devices=2)),
  (C, dict(micro_batch_size=2), dict(kind='mesh', devices=4, model_axis=2)),
  (POINTWISE, dict(micro_batch_size=2, buckets=3), dict()),
]


@pytest.fixture(scope='module')
def plain():
  return {c.kind: learnt(c) for c in (C, POINTWISE)}


@pytest.mark.parametrize('c, cut, placed', LAYOUTS)
def test_the_update_does_not_depend_on_the_layout(c, cut, placed, plain):
  sums, grads = learnt(dataclasses.replace(c, **cut), **placed)
  want, exact = plain[c.kind]
  assert want['weight'] == pytest.approx(1) and want['grad_norm'] > 0.01
  for a, b in zip(*map(jax.tree.leaves, (sums, want)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (grads, exact)), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_the_two_responses_of_a_pair_stay_side_by_side():
  c = dataclasses.replace(C, micro_batch_size=2, buckets=4)
  rows, labels = ragged(c)
  parts = reward_model.batch(rows, labels, c)
  found = []
  for part in parts:
    assert part['tokens_BPL'].shape[:2] == (2, 2)
    for tokens_PL, pos_PL in zip(part['tokens_BPL'], part['pos_BPL']):
      found.append(tuple(x[p >= 0].tolist() for x, p in zip(tokens_PL, pos_PL)))
  assert sorted(found) == sorted(rows)
  assert [WORDS.decode(x) for x in rows[2]] == ['111ca<|end|>', '111c<|end|>']


def test_a_calibrated_forecast_has_no_error_and_a_sure_wrong_one_has_all():
  error = reward_model.calibration_error
  right_N = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 1]).astype(bool)
  chance_N = np.array([0.75] * 4 + [1 / 6] * 6)
  assert error(chance_N, right_N) == pytest.approx(0)
  assert error(np.array([0.0, 1.0]), np.array([True, False])) == 1
  off_N = chance_N + np.array([0.04] * 4 + [0.02] * 6)
  assert error(off_N, right_N) == pytest.approx(0.4 * 0.04 + 0.6 * 0.02)


def refused(changes, records, words, tmp_path, init=''):
  path = write(tmp_path / 'data.jsonl', records)
  with pytest.raises(errors.UserError, match=words):
    toy.run(
      'reward_model', tmp_path / 'run', f'data={path}', f'init={init}', *changes
    )
  assert not (tmp_path / 'run').exists()


PAIR = dict(id='x/1', prompt='1', chosen='a', rejected='b')
ONE = dict(id='x/2', prompt='2', response='a', safe=True)
WHOLE = ('kind=pointwise', 'part=response')


@pytest.mark.parametrize(
  'changes, record, words',
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
def test_what_cannot_be_learnt_is_refused(changes, record, words, tmp_path):
  records = [record, dict(record, id='y', prompt='3')]
  refused(('held_out=1', *changes), records, words, tmp_path)


def test_a_record_that_is_too_long_is_named(base, tmp_path):
  records = [PAIR | dict(rejected='b' * 31), dict(PAIR, id='y', prompt='2')]
  refused(
    ('held_out=1',),
    records,
    'x/1 has 33 tokens with its rejected',
    tmp_path,
    f'{base}/model',
  )
