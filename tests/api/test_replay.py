"""Rollouts recomputed after a run equal those that the run learned from."""

import json
import shutil

import jax
import numpy as np
import pytest
import toy
import toy_model
import toy_sampling

import r1jax
from r1jax import files
from r1jax.api import recomputed_tokens, replay, report_command, run_samples
from r1jax.checkpoints import pretrained
from r1jax.data import tasks
from r1jax.rl import rl_run
from r1jax.stages import rl


def sampled_twice(directory, step):
  """A rollout of four equal responses, whose second token is a tool's."""
  mask = np.array([True, False, True])
  numbers = np.array([1.5, 0.0, 0.5])
  sample = run_samples.Sample(
    record=dict(id='q', prompt='?', answer='4'),
    text='arb',
    reward=1.0,
    rewards={},
    finished=True,
    start=1,
    ids=np.array([1, 2, 3]),
    tokens=['a', 'r', 'b'],
    mask=mask,
    logprobs=-numbers,
    advantages=mask * 0.25,
    ratios=numbers,
    entropies=numbers,
  )
  empty_BL = np.zeros((4, 4))
  return run_samples.RunSamples(step, [sample] * 4, *[empty_BL] * 6)


SHORT = 'eval.every=0', 'save_every=1', 'keep=1'


def recorded_run(workdir, *changes):
  """Runs rl; returns {last step of a rollout: what its update saw}: the batch,
  and the parameters before and after."""
  seen, update = {}, rl.update

  def recording(run, state, batch, step, rollout):
    before = jax.device_get(rl_run.policy_params(run, state))
    state, lines = update(run, state, batch, step, rollout)
    after = jax.device_get(rl_run.policy_params(run, state))
    seen[lines[-1]['step']] = dict(batch=batch, before=before, after=after)
    return state, lines

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(rl, 'update', recording)
    toy.run('rl', workdir, *SHORT, *changes)
  return seen


def check(workdir, step, seen, cfg):
  """The recomputed samples of a step against the recorded update."""
  before = toy.files(workdir)
  samples = r1jax.open_run(workdir).samples(step)
  assert toy.files(workdir) == before  # nothing is written
  batch = seen['batch']
  mask_BL = samples.mask_BL
  for ours_BL, name in (
    (samples.tokens_BL, 'tokens_BL'),
    (samples.logp_BL, 'sampler_BL'),
    (samples.adv_BL, 'adv_BL'),
  ):
    np.testing.assert_array_equal(ours_BL, batch[name], name)
  (old_BL, entropy_BL), (new_BL, _) = (
    toy_model.logprobs(params, cfg, batch['tokens_BL'], batch['pos_BL'])
    for params in (seen['before'], seen['after'])
  )
  np.testing.assert_allclose(
    samples.entropy_BL, np.where(mask_BL, entropy_BL, 0), atol=1e-4
  )
  ratio_BL = np.where(mask_BL, np.exp(new_BL - old_BL), 0)
  np.testing.assert_allclose(samples.ratio_BL, ratio_BL, atol=1e-4)
  assert abs(samples.ratio_BL[mask_BL] - 1).max() > 1e-4
  return samples


@pytest.fixture(scope='module')
def long(base, tmp_path_factory):
  """Three rollouts of two epochs of two mini-batches, with a reference that is
  refreshed; the only checkpoint left is that of step 12."""
  workdir = tmp_path_factory.mktemp('long')
  seen = recorded_run(
    workdir,
    f'init={base}/model',
    'steps=12',
    'grpo.minibatches=2',
    'grpo.epochs=2',
    'micro_batch_size=4',
    'grpo.old_logprobs=trainer',
    'grpo.kl_coef=0.1',
    'grpo.ref_every=4',
    'optim.schedule=cosine',
    'optim.warmup=3',
    'log_samples=5',
  )
  return workdir, seen


def test_a_rollout_is_recomputed_from_the_first_step(base, long):
  workdir, seen = long
  _, cfg, _ = pretrained.load(base / 'model')
  check(workdir, 3, seen[4], cfg)  # the third update of the first rollout


def test_a_rollout_is_recomputed_over_the_updates_before_it(base, long, capsys):
  workdir, seen = long
  _, cfg, _ = pretrained.load(base / 'model')
  samples = check(workdir, 12, seen[12], cfg)
  assert 'recomputed step 12/12' in capsys.readouterr().out
  logged = files.read_jsonl(workdir / 'samples.jsonl')[-5:]
  texts = [sample.text for sample in samples][:15:3]
  assert texts == [line['response'] for line in logged]
  groups = files.read_jsonl(workdir / 'groups.jsonl')[-2:]
  assert [line['step'] for line in groups] == [12, 12]
  found = recomputed_tokens.group_lines(samples, 4)
  by_id = {line['id']: line for line in found}
  for group in groups:
    for ours, theirs in zip(by_id[group['id']]['samples'], group['samples']):
      assert {name: ours[name] for name in theirs} == theirs
      assert len(ours['tokens']) == len(ours['ratio'])


def test_recomputed_tokens_replace_those_of_their_step(
  long, tmp_path, monkeypatch
):
  workdir = tmp_path / 'run'
  shutil.copytree(long[0], workdir)
  monkeypatch.setattr(replay, 'samples_of', sampled_twice)
  path = workdir / recomputed_tokens.FILE
  for step in (8, 4, 8):
    recomputed_tokens.add(workdir, step)
  lines = files.read_jsonl(path)
  assert [line['step'] for line in lines] == [4, 8]
  first, tool = (
    lines[0]['samples'][0]['tokens'],
    lines[0]['samples'][0]['ratio'],
  )
  assert first == ['a', 'r', 'b'] and tool == [1.5, None, 0.5]
  assert report_command.run(['--workdir', str(workdir)]) == 0
  assert '"ratio":[1.5,null,0.5]' in (workdir / 'report.html').read_text()


def test_a_rollout_is_recomputed_from_the_checkpoint_before_it(
  base, tmp_path, capsys
):
  """With dynamic sampling, whose position in the prompts depends on rewards,
  and with a teacher."""
  seen = recorded_run(
    tmp_path,
    f'init={base}/model',
    'steps=3',
    'keep=2',
    'grpo.dynamic_sampling_rounds=2',
    'grpo.kl_coef=0.5',
    'grpo.kl_estimator=k3_unbiased',
    f'teacher={base}/model',
  )
  _, cfg, _ = pretrained.load(base / 'model')
  capsys.readouterr()
  check(tmp_path, 3, seen[3], cfg)
  assert capsys.readouterr().out.count('recomputed step') == 1


@pytest.mark.slow
def test_domains_and_tools_are_recomputed(tmp_path):
  ids = toy_sampling.TOKENIZER.vocab_size
  cfg = toy_sampling.CFG
  assert cfg.vocab_size == ids
  params = toy_model.random_params(cfg)
  pretrained.save(tmp_path / 'init', params, cfg, toy_sampling.TOKENIZER)
  rows = tasks.load_records('toy:running_sum?count=12&digits=3', 5)
  rows += [
    dict(id=f'g/{n}', prompt=f'{n:03}', domain='general') for n in range(24)
  ]
  code = tmp_path / 'own.py'
  code.write_text(
    'def short(records, texts):\n  return [-len(x) / 9 for x in texts]\n'
  )
  path = tmp_path / 'records.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  seen = recorded_run(
    tmp_path / 'run',
    f'init={tmp_path}/init',
    f'prompts={path}',
    'steps=2',
    'domains_from=1',
    f"by_domain={{'general': {{'{code}:short': 1.0}}}}",
    f"rewards={{'{code}:short': -1.0}}",
    'prompt.tool=calculator',
    'prompt.result_len=20',
    'prompt.calls=1',
    'sample.max_new_tokens=40',
    'micro_batch_size=16',
  )
  samples = check(tmp_path / 'run', 2, seen[2], cfg)
  domains = {sample.record.get('domain') for sample in samples}
  assert domains == {None, 'general'}
  calls = [sample for sample in samples if not sample.mask.all()]
  assert calls
  for sample in calls:
    assert '<result>' in sample.text
    for numbers in (sample.logprobs, sample.ratios, sample.entropies):
      assert not numbers[~sample.mask].any()


@pytest.mark.slow
def test_an_earlier_config_is_in_force_before_a_change(base, tmp_path):
  changes = f'init={base}/model', 'steps=4', 'optim.lr=1e-2'
  seen = recorded_run(tmp_path, *changes)
  config = toy.settings('rl', *SHORT, *changes)
  r1jax.run(config, tmp_path, change={'steps': 6, 'optim.lr': 1e-5})
  _, cfg, _ = pretrained.load(base / 'model')
  check(tmp_path, 4, seen[4], cfg)
  run = r1jax.open_run(tmp_path)
  assert run.config.optim.lr == 1e-5
  late = run.samples(6)
  assert abs(late.ratio_BL[late.mask_BL] - 1).max() < 1e-2


@pytest.mark.parametrize('step', [0, 13, -1])
def test_the_error_about_a_step_names_the_steps_there_are(long, step):
  with pytest.raises(r1jax.UserError, match=f'no step {step}: .* has 1 to 12'):
    r1jax.open_run(long[0]).samples(step)


def test_samples_that_differ_from_the_log_are_refused(long, tmp_path):
  workdir = tmp_path / 'copy'
  for path, content in toy.files(long[0]).items():
    new = workdir / path.relative_to(long[0])
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_bytes(content)
  lines = files.read_jsonl(workdir / 'samples.jsonl')
  lines[0]['response'] += '!'
  files.write_jsonl(workdir / 'samples.jsonl', lines)
  with pytest.raises(r1jax.UserError, match='the run was made on another mach'):
    r1jax.open_run(workdir).samples(1)


def test_runs_without_rollouts_or_with_stale_ones_are_refused(base, tmp_path):
  with pytest.raises(r1jax.UserError, match='not a run of rl'):
    r1jax.open_run(base).samples(1)
  toy.run(
    'rl',
    tmp_path,
    f'init={base}/model',
    *SHORT,
    'steps=2',
    'grpo.max_staleness=1',
  )
  with pytest.raises(
    r1jax.UserError, match='max_staleness=1: its rollouts cann'
  ):
    r1jax.open_run(tmp_path).samples(1)
