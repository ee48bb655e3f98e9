"""Bad input ends with exit code 2 and a message of one line that says what to
change. No file is left that would prevent the corrected command."""

import json
import shutil
from pathlib import Path

import jax
import pytest
import toy

from r1jax import cli
from r1jax.distributed import programs


@pytest.fixture
def command(base, tmp_path, monkeypatch, capsys):
  """command(stage, *arguments) -> (exit code, its error), in tmp_path/run."""
  monkeypatch.setattr(programs, 'compilation_cache', lambda: None)

  def run(stage, *arguments):
    init = [f'--config.init={base}/model'] if stage == 'rl' else []
    code = cli.main(
      [
        stage,
        '--config',
        str(toy.HERE / f'toy_{stage}.py'),
        '--workdir',
        str(tmp_path / 'run'),
        *init,
        *arguments,
      ]
    )
    return code, capsys.readouterr().err

  return run


def assert_refused(answer, parts, workdir):
  """`parts` of the message are separated by |."""
  code, message = answer
  assert code == 2, message
  first, *listed = message.splitlines()
  assert first.startswith('r1jax: ')
  assert all(line.startswith('  ') for line in listed)  # records
  assert 'Traceback' not in message
  for part in parts.split('|'):
    assert part in message, message
  assert not workdir.exists()


BOTH = {
  'misspelt=1': 'unknown key config.misspelt',
  'optim.lrr=1e-3': (
    'unknown key config.optim.lrr: did you mean config.optim.lr?'
  ),
  'steps=many': 'config.steps must be like',
  'init=': "config.init is '': name the directory",
  'init=/nowhere/model': '/nowhere/model does not exist: give a directory',
  'prompt.template=r1_zro': "did you mean 'r1_zero'?",
  'prompt.max_len=2': 'config.prompt.max_len|allows 1 to 2|raise',
  'prompt.stop_strings=</answer>': 'config.prompt.stop_strings must be like ()',
  'micro_batch_size=0': 'config.micro_batch_size is 0; it must be at least 1',
  'length_buckets=0': 'config.length_buckets is 0; it must be at least 1',
  'seed=-1': 'config.seed is -1; it must be at least 0',
  'keep=0': 'config.keep is 0; it must be at least 1',
  'save_every=0': 'config.save_every is 0; it must be at least 1',
  'compute.head_chunk=0': 'config.compute.head_chunk is 0',
  'compute.remat=fulll': (
    "config.compute.remat must be one of 'none', 'full', 'dots'"
  ),
  'optim.schedule=cosin': "optim.schedule must be one of 'constant', 'cosine'",
  'optim.patience=0': 'config.optim.patience is 0; it must be at least 1',
  'parallel.strategy=pmpa': "must be one of 'pmap', 'mesh'",
  'parallel.tensor_parallel=3': 'must divide the 4 devices',
}


@pytest.mark.parametrize('stage', ['sft', 'rl'])
@pytest.mark.parametrize('change', BOTH)
def test_both_stages_refuse(change, stage, command, tmp_path):
  answer = command(stage, f'--config.{change}')
  assert_refused(answer, BOTH[change], tmp_path / 'run')


SOURCES = {
  '': 'no records are given: set config.prompts (rl) or config.data',
  '/nowhere.jsonl': 'there is no data file /nowhere.jsonl',
  'toy:running_sum': 'how many records|count=1000',
  'toy:sums?count=9': 'the toy tasks are toy:running_sum',
}


@pytest.mark.parametrize('stage, key', [('sft', 'data'), ('rl', 'prompts')])
@pytest.mark.parametrize('source', SOURCES)
def test_a_source_without_records_is_refused(
  source, stage, key, command, tmp_path
):
  answer = command(stage, f'--config.{key}={source}')
  assert_refused(answer, SOURCES[source], tmp_path / 'run')


SFT = {
  'batch_size=24': (
    'config.micro_batch_size is 32: it must divide config.batch_size (24)'
  ),
  'micro_batch_size=2': 'a multiple of the 4 data shards',
  'max_len=10': 'record running_sum/0/0 has 11 tokens|config.max_len allows 10',
  'compute.dtype=f16': (
    "config.compute.dtype must be one of 'float32', 'bfloat16'"
  ),
  'scratch.width=18': 'config.scratch.width is 18',
}


@pytest.mark.parametrize('change', SFT)
def test_sft_refuses(change, command, tmp_path):
  answer = command('sft', f'--config.{change}')
  assert_refused(answer, SFT[change], tmp_path / 'run')


RL = {
  'init=scratch': "config.init is 'scratch': name the directory",
  'grpo.objective=nonsense': 'it can be grpo, sequence, gspo, cispo',
  'grpo.kl_estimator=k1': "is 'k1'; it can be k3, k3_unbiased, k3_sequence, or your own",
  'grpo.group_size=1': 'set config.grpo.group_size higher|advantage_std=none',
  'grpo.prompts_per_step=6': (
    '4 devices share the rows|config.grpo.prompts_per_step (6)'
  ),
  'grpo.minibatches=3': 'must divide the 4 prompts|never split',
  'grpo.epochs=3': 'config.steps is 4: it must be a multiple of the 3 updates',
  'grpo.epochs=0': 'config.grpo.epochs is 0; it must be at least 1',
  'grpo.tis_cap=2.': 'set config.grpo.old_logprobs=trainer',
  'grpo.overlong_buffer=11': 'exceed the 10 tokens that a response may have',
  'compute.dtype=bfloat16': 'in bfloat16|set config.grpo.old_logprobs=trainer',
  'micro_batch_size=6': '4 devices share the rows|config.micro_batch_size (6)',
  'micro_batch_size=12': (
    'config.micro_batch_size is 12: it must divide the 16 rows'
  ),
  'sample.top_p=0.9': (
    'config.sample.top_p and top_k change|set them to 1 and 0'
  ),
  'sample.top_k=5': 'config.sample.top_p and top_k change|set them to 1 and 0',
  'sample.temperature=0.': 'config.sample.temperature must be above 0',
  'sample.refill_interval=0': 'config.sample.refill_interval is 0',
  'prompt.stop_strings=("",)': (
    'config.prompt.stop_strings|empty entry|leave it out'
  ),
  'max_new_tokens_schedule=((4,20),(2,30))': (
    'config.max_new_tokens_schedule is|steps must rise'
  ),
  'max_new_tokens_schedule=(4,20)': (
    'config.max_new_tokens_schedule[0] must be tuple[int, int]'
  ),
  'eval.held_out=64': 'cannot hold out 64 of 63|hold out fewer',
  'eval.held_out=0': 'set config.eval.held_out or config.eval.data',
  'prompts=https://h/x.jsonl': (
    'config.prompts is https://h/x.jsonl, but|download it first'
  ),
  'prompts=~/x.jsonl': f'where a shell expands it: write {Path.home()}/x.jsonl',
  'init=~/models/x': 'config.init is ~/models/x, but ~ stands for the home',
  'prompts=https://huggingface.co/datasets/o/d/tree/main': (
    'config.prompts is https|so this one is hf://o/d?split=train'
  ),
  'init=https://huggingface.co/o/m': 'named OWNER/NAME|this one is o/m',
  'prompts_mix={x:1}': 'config.prompts_mix cannot be read: {x:1} is no dict',
  'eval.data=http://h/x': 'config.eval.data is http://h/x, but|download it',
  'init=https://h/model': 'config.init is https://h/model, but|download it',
  'prompts=gs://b/x.jsonl': 'config.prompts is gs://b/x.jsonl, but|copy',
  'rewards.gs://b/r.py:f=1.0': 'gs://b/r.py:f, but|copy what it reads',
  'rewards.https://h/r.py:f=1.0': 'https://h/r.py:f, but|download it first',
  'grpo.objective=https://h/o.py:f': 'is https://h/o.py:f, but|download it',
  'eval.data=/nowhere': 'there is no data file /nowhere',
  'rewards.acuracy=1.0': "no reward 'acuracy'; did you mean 'accuracy'?",
  'eval.best=eval/reward/brief': "config.eval.best is 'eval/reward/brief'",
}


@pytest.mark.parametrize('change', RL)
def test_rl_refuses(change, command, tmp_path):
  answer = command('rl', f'--config.{change}')
  assert_refused(answer, RL[change], tmp_path / 'run')


def test_an_unknown_stage_or_config_file_is_refused(command, tmp_path, capsys):
  arguments = ['--config', 'nowhere.py', '--workdir', str(tmp_path / 'run')]
  for stage, parts in (
    ('rll', 'no stage or command rll: did you mean rl?'),
    ('rl', 'there is no config file nowhere.py'),
  ):
    code = cli.main([stage, *arguments])
    answer = code, capsys.readouterr().err
    assert_refused(answer, parts, tmp_path / 'run')


FILES = {
  '': 'has no records: it is empty',
  '{"prompt": "1", "answer": "1"}\n{"prompt"': 'line 2 is not JSON',
  '{"prompt": "1"}': 'record records/1 has no answer',
  '{"prompt": "1", "answer": "\\\\boxed{"}': 'records/1|gold',
  '{"prompt": "123456789", "answer": "1"}': (
    'has 9 tokens|max_len allows 1 to 8'
  ),
}


@pytest.mark.parametrize('text', FILES)
def test_data_that_cannot_be_read_is_refused_by_name(text, command, tmp_path):
  (tmp_path / 'records.jsonl').write_text(text)
  answer = command(
    'rl',
    f'--config.prompts={tmp_path}/records.jsonl',
    '--config.eval.held_out=0',
    '--config.eval.every=0',
  )
  assert_refused(answer, FILES[text], tmp_path / 'run')
  assert 'record' in answer[1]


def test_a_tokenizer_of_another_vocabulary_is_refused(command, base, tmp_path):
  path = shutil.copytree(base / 'model', tmp_path / 'model') / 'config.json'
  settings = json.loads(path.read_text()) | dict(vocab_size=100)
  path.write_text(json.dumps(settings))
  answer = command('rl', f'--config.init={tmp_path}/model')
  parts = 'its tokenizer has 261 ids, its model only 100'
  assert_refused(answer, parts, tmp_path / 'run')


def test_a_mesh_that_does_not_divide_the_parameters_is_refused(
  command, tmp_path, monkeypatch
):
  three = jax.devices()[:3]
  monkeypatch.setattr(jax, 'devices', lambda: three)
  answer = command(
    'sft',
    '--config.parallel.strategy=mesh',
    '--config.batch_size=36',
    '--config.micro_batch_size=36',
  )
  assert_refused(answer, 'which the 3 devices|do not divide', tmp_path / 'run')


def test_a_work_directory_of_another_config_stays_as_it_is(
  base, capsys, monkeypatch
):
  monkeypatch.setattr(programs, 'compilation_cache', lambda: None)
  before = toy.files(base)
  arguments = [
    'sft',
    '--config',
    str(toy.HERE / 'toy_sft.py'),
    '--workdir',
    str(base),
    '--config.batch_size=64',
    '--config.optim.lr=2e-3',
  ]
  assert cli.main(arguments) == 2
  message = capsys.readouterr().err
  assert message.count('\n') == 1 and 'belongs to another config' in message
  assert 'batch_size: 32 -> 64 (it cannot change: the position' in message
  assert '; optim.lr: 0.01 -> 0.002; use another --workdir or set' in message
  assert toy.files(base) == before


def test_a_work_directory_that_is_a_file_is_refused(command, tmp_path):
  (tmp_path / 'run').write_text('mine')
  code, message = command('sft')
  assert code == 2 and 'cannot write to the work directory' in message
  assert (tmp_path / 'run').read_text() == 'mine'
