"""Domains with rewards of their own, sampled from a step on, and a teacher in
place of the reference."""

import json

import jax
import numpy as np
import pytest
import toy
import toy_model

from r1jax import errors, files
from r1jax.checkpoints import policy, pretrained
from r1jax.data import tasks
from r1jax.rewards import reward_model, verifiers
from r1jax.rl import rl_records
from r1jax.stages import rl

SHORT = ('eval.every=2', 'eval.samples=2', 'steps=4', 'save_every=2')


@pytest.fixture(scope='module')
def base(base):
  return base / 'model'


@pytest.fixture
def records(tmp_path):
  """Sums, and prompts of a domain that has no answers."""
  rows = tasks.load_records('toy:running_sum?count=24&digits=3', 5)
  rows = [dict(row, domain='math') for row in rows]
  rows += [
    dict(id=f'g/{n}', prompt=f'{n:03}', domain='general-helpful')
    for n in range(500, 516)
  ]
  path = tmp_path / 'records.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return path


def short_is_good(seen):
  def load(path, compute, placement, micro_batch_size):
    def reward(records, texts):
      seen.append([record['domain'] for record in records])
      return np.array([1 / (1 + len(text)) for text in texts], np.float32)

    return reward

  return load


DOMAINS = {'general-helpful': dict(helpful=2.0, format=0.5)}


def changes(base, records, *more):
  return (
    f'init={base}',
    f'prompts={records}',
    *SHORT,
    f'by_domain={DOMAINS}',
    "reward_models={'helpful': 'somewhere'}",
    'eval.held_out=12',
    *more,
  )


def test_a_domain_joins_at_its_step_with_the_rewards_of_its_model(
  base, records, tmp_path, monkeypatch
):
  seen = []
  monkeypatch.setattr(reward_model, 'RewardModel', short_is_good(seen))
  lines = toy.run(
    'rl', tmp_path / 'run', *changes(base, records, 'domains_from=2')
  )
  assert {domain for part in seen for domain in part} == {'general-helpful'}
  samples = files.read_jsonl(tmp_path / 'run' / 'samples.jsonl')
  early = [x['id'] for x in samples if x['step'] <= 2]
  late = [x['id'] for x in samples if x['step'] > 2]
  assert early and not any(name.startswith('g/') for name in early)
  assert any(name.startswith('g/') for name in late)
  for x in samples:
    want = (
      {'helpful', 'format'} if x['id'][0] == 'g' else {'accuracy', 'format'}
    )
    assert set(x['rewards']) == want
  # The held-out accuracy is that of the sums alone.
  assert all(x['eval/pass1'] is not None for x in lines if 'eval/pass1' in x)
  assert all(0 < x['eval/reward/helpful'] < 1 for x in lines[::2])


def test_domains_alone_may_have_accuracy_and_no_problem_need_be_judged(
  base, records, tmp_path, monkeypatch, capsys
):
  """Rewards of all records are the format; the verifier loses all sums."""
  change = changes(base, records)
  change = [x for x in change if not x.startswith(('by_', 'reward_mod'))]
  change += ['steps=2', 'save_every=1', 'log_samples=0']
  domains = {'math': dict(accuracy=1.0), 'general-helpful': dict(format=1.0)}
  lost = toy.settings('rl', *change, f'by_domain={domains}')
  lost.rewards = dict(format=1.0)

  def losing(self, records, texts):
    return np.ma.masked_all(len(texts), np.float32)

  with monkeypatch.context() as patch:
    patch.setattr(verifiers.Verifiers, 'accuracy', losing)
    rl.run(lost, tmp_path / 'lost')
  assert 'base: no held-out problem was judged, ' in capsys.readouterr().out
  for line in files.read_jsonl(tmp_path / 'lost/metrics.jsonl'):
    if 'eval/pass1' in line:
      assert line['eval/pass1'] is None and line['eval/problems'] == 0
  rl.run(lost, tmp_path / 'judged')
  evaluated = files.read_jsonl(tmp_path / 'judged/metrics.jsonl')[-1]
  assert evaluated['step'] == 2 and 0 < evaluated['eval/problems'] < 12
  assert (
    evaluated['eval/low'] <= evaluated['eval/pass1'] <= evaluated['eval/high']
  )


def test_held_out_records_without_accuracy_are_refused(base, records):
  domains = {'math': dict(format=1.0), 'general-helpful': dict(format=1.0)}
  bad = toy.built('rl', *changes(base, records, f'by_domain={domains}'))
  with pytest.raises(errors.UserError, match='record has the reward accur'):
    rl_records.load_records(bad)


def test_unknown_domains_and_rewards_are_refused(base, records):
  c = toy.built('rl', *changes(base, records))
  rl_records.load_records(c)
  bad = toy.built(
    'rl', *changes(base, records, "by_domain={'x': {'format': 1.}}")
  )
  with pytest.raises(errors.UserError, match="'general-helpful', which has no"):
    rl_records.load_records(bad)
  bad = toy.built('rl', *changes(base, records, "by_domain={'math': {}}"))
  with pytest.raises(errors.UserError, match='at least one reward'):
    rl_records.load_records(bad)
  everything = {'general-helpful': dict(format=1.0), 'math': dict(format=1.0)}
  bad = toy.built(
    'rl', *changes(base, records, f'by_domain={everything}', 'domains_from=2')
  )
  with pytest.raises(errors.UserError, match='none for the steps before'):
    rl_records.load_records(bad)


def kl_to_teacher(params, cfg, teacher, tokenizer):
  """Mean KL(student || teacher) of the next token after the toy's prompts."""
  ids = np.array(
    [tokenizer.encode(f'{n:03}<think>') for n in range(0, 900, 31)]
  )
  pos = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
  logp = [
    jax.nn.log_softmax(toy_model.logits(p, cfg, ids, pos))
    for p in (params, teacher)
  ]
  return float((np.exp(logp[0]) * (logp[0] - logp[1])).sum(-1).mean())


def test_a_teachers_policy_is_distilled_into_the_student(base, tmp_path):
  toy.run('sft', tmp_path / 'teacher', 'seed=1')
  teacher, cfg, tokenizer = pretrained.load(tmp_path / 'teacher' / 'model')
  toy.run(
    'rl',
    tmp_path / 'run',
    f'init={base}',
    'steps=40',
    'eval.every=0',
    f'teacher={tmp_path}/teacher/model',
    'grpo.kl_coef=1.',
    'grpo.kl_estimator=k3_unbiased',
    'rewards.accuracy=0.',
    'rewards.format=0.',
    'optim.lr=3e-3',
    'save_every=100',
    'grpo.loss_agg=token_mean',
  )
  before, after = (
    kl_to_teacher(pretrained.load(path)[0], cfg, teacher, tokenizer)
    for path in (base, tmp_path / 'run' / 'model')
  )
  assert after < 0.7 * before
  kl = [x['kl'] for x in files.read_jsonl(tmp_path / 'run' / 'metrics.jsonl')]
  assert np.mean(kl[-5:]) < 0.7 * np.mean(kl[:5])


def test_a_teacher_needs_a_kl_and_the_same_tokenizer(base, tmp_path):
  with pytest.raises(
    errors.UserError, match='set kl_coef=1 and kl_estimator=k3_unbiased'
  ):
    toy.run('rl', tmp_path / 'run', f'init={base}', f'teacher={base}')
  scratch = policy.ScratchConfig(width=24, layers=1, extra_tokens=('one',))
  other = tmp_path / 'other'
  pretrained.save(
    other, *policy.load('scratch', policy.ComputeConfig(), scratch, 0)
  )
  with pytest.raises(errors.UserError, match='different tokenizers'):
    toy.run(
      'rl',
      tmp_path / 'run',
      f'init={base}',
      f'teacher={other}',
      'grpo.kl_coef=1.',
      *SHORT,
    )
  assert not (tmp_path / 'run').exists()
