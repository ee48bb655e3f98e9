"""Several processes with one device each give the results of one process with
as many devices; an error of one host ends all hosts with its reason."""

import json

import jax
import numpy as np
import pytest
import toy
import toy_hosts
import toy_metrics

from r1jax import files


def ends(count, arguments, **more):
  """(exit codes, outputs) of processes."""
  with toy_hosts.running(count, arguments, **more) as processes:
    codes = processes.wait()
    return codes, [processes.output(host) for host in range(count)]


def lines(workdir, name='metrics.jsonl'):
  return list(
    map(toy_metrics.without_timings, files.read_jsonl(workdir / name))
  )


def model(workdir):
  return (workdir / 'model' / 'model.safetensors').read_bytes()


@pytest.mark.parametrize(
  'strategy', ['pmap', pytest.param('mesh', marks=pytest.mark.slow)]
)
def test_two_processes_equal_one_with_two_devices(
  strategy, base, tmp_path, monkeypatch
):
  """The one is the process of this test."""
  changes = (
    f'init={base}/model',
    f'parallel.strategy={strategy}',
    'steps=2',
    'save_every=1',
    'eval.every=2',
  )
  two, one = tmp_path / 'two', tmp_path / 'one'
  outputs = toy_hosts.run(2, toy_hosts.stage('rl', two, *changes))
  devices = jax.devices()[:2]
  monkeypatch.setattr(jax, 'devices', lambda: devices)
  toy.run('rl', one, *changes)
  assert [line['step'] for line in lines(one)] == [0, 1, 2]
  assert lines(two) == lines(one)
  assert lines(two, 'samples.jsonl') == lines(one, 'samples.jsonl')
  assert model(two) == model(one)
  assert 'step 2/2' in outputs[0] and 'step' not in outputs[1]


def test_the_collectives_of_hosts(tmp_path):
  body = """
    assert hosts.count() == 2 and hosts.index() == host
    own = [dict(name='naïve' * (1 + 99 * host), nan=float('nan')), None]
    both = hosts.gather(own)
    assert [len(x[0]['name']) for x in both] == [5, 500]
    assert np.isnan(both[1][0]['nan']) and both[0][1] is None
    rows = hosts.gather(list(range(7))[hosts.own_rows(7)])
    assert rows == [[0, 1, 2], [3, 4, 5, 6]]
    assert hosts.run_once(lambda: host) == 0
    assert not hosts.terminate_requested()
    agreement.check_agreement(workdir, config=dict(a=1), sandbox='bwrap')
    assert not list(workdir.iterdir())
    hosts.raise_if_terminating()
  """
  toy_hosts.run(2, toy_hosts.script(tmp_path, body))


def test_hosts_with_different_facts_are_refused_and_named(tmp_path):
  body = """
    agreement.check_agreement(
      workdir, config=1, records=[host], sandbox=f'tier{host}')
  """
  codes, outputs = ends(2, toy_hosts.script(tmp_path, body))
  assert codes == [2, 2]
  for text in outputs:
    assert 'the hosts of this run differ in records (' in text
    assert 'sandbox (tier0 on host 0, tier1 on host 1)' in text
    assert 'config' not in text


def test_hosts_with_different_user_code_or_changes_are_refused(tmp_path):
  """Each host has its own mine.py. Host 1 alone accepts changed code."""
  body = """
    import dataclasses
    from r1jax import config
    from r1jax.training import run_directory

    @dataclasses.dataclass(frozen=True)
    class Config:
      reward: str = config.option('mine.py:parity', 'the reward', is_code=True)

    folder = workdir / str(host)
    folder.mkdir(parents=True)
    os.chdir(folder)
    (folder / 'mine.py').write_text(f'def parity(): return {host}')
    directory = run_directory.open_directory(
      workdir / 'run',
      Config,
      config.defaults(Config),
      run_directory.Change(accept_code=host == 1),
    )
    run_directory.claim(directory, 'model', [])
  """
  codes, outputs = ends(2, toy_hosts.script(tmp_path, body))
  assert codes == [2, 2]
  for text in outputs:
    assert 'the hosts of this run differ in change (' in text
    assert 'user_code (' in text and 'records' not in text
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_hosts_with_different_weights_are_refused_and_share_one_lock(tmp_path):
  """Each host has its own model under one path."""
  body = """
    import dataclasses
    from r1jax import config
    from r1jax.training import run_directory

    @dataclasses.dataclass(frozen=True)
    class Config:
      init: str = config.option('model', 'a model', reads='model')
      data: str = config.option('data.jsonl', 'records', reads='records')

    folder = workdir / str(host)
    (folder / 'model').mkdir(parents=True)
    os.chdir(folder)
    (folder / 'model' / 'config.json').write_text('{}')
    (folder / 'model' / 'model.safetensors').write_text(f'weights {host}')
    (folder / 'data.jsonl').write_text('{}')
    run = workdir / 'run'
    with run_directory.occupied(run):
      print(len(list(run.glob('*.lock'))), 'lock', file=sys.stderr)
      directory = run_directory.open_directory(
        run, Config, config.defaults(Config), run_directory.Change()
      )
      run_directory.claim(directory, 'result', [])
  """
  codes, outputs = ends(2, toy_hosts.script(tmp_path, body))
  assert codes == [2, 2]
  for text in outputs:
    assert '1 lock' in text
    assert (
      'the hosts of this run differ in the content of config.init (' in text
    )
    assert 'config.data' not in text


def test_a_work_directory_that_hosts_do_not_share_is_refused(tmp_path):
  body = """
    agreement.SHARED_DISK_SECONDS = 1
    agreement.check_agreement(workdir, config='same')
  """
  codes, outputs = ends(
    2, lambda host: toy_hosts.script(tmp_path / str(host), body)
  )
  assert codes == [2, 2]
  for text in outputs:
    assert f'host 1 cannot see what host 0 writes to {tmp_path}/0' in text


@pytest.mark.parametrize('wrong', [0, 1])
def test_all_hosts_print_the_user_error_of_one(wrong, tmp_path):
  body = f"""
    if host == {wrong}:
      raise errors.UserError('the data is empty')
    hosts.gather(0)  # waits for ever without the error
  """
  codes, outputs = ends(2, toy_hosts.script(tmp_path, body))
  assert codes == [2, 2]
  assert all('the data is empty' in text for text in outputs)


def test_an_error_on_one_host_ends_all(tmp_path):
  body = 'hosts.gather(1 // (1 - host))'
  codes, outputs = ends(2, toy_hosts.script(tmp_path, body))
  assert codes == [1, 1]
  assert 'Traceback' in outputs[1] and 'Traceback' not in outputs[0]
  assert 'host 1: ZeroDivisionError' in outputs[0]


# All the state that a resume must restore, and several updates a rollout.
CHANGES = (
  'steps=12',
  'save_every=6',
  'eval.every=5',
  'micro_batch_size=8',
  'grpo.minibatches=2',
  'grpo.old_logprobs=trainer',
  'grpo.kl_coef=0.1',
  'grpo.ref_every=3',
  'grpo.epochs=1',
  'grpo.dynamic_sampling_rounds=3',
  'optim.schedule=cosine',
  'optim.warmup=2',
)


@pytest.mark.slow
@pytest.mark.parametrize('strategy, count', [('pmap', 2), ('mesh', 4)])
def test_a_run_after_sigterm_and_kill_equals_an_undisturbed_one(
  strategy, count, base, tmp_path
):
  run, expected = tmp_path / 'run', tmp_path / 'expected'
  changes = *CHANGES, f'parallel.strategy={strategy}'
  toy_hosts.run(count, toy_hosts.rl(base, expected, *changes))
  arguments, folder = toy_hosts.rl(base, run, *changes), tmp_path / 'pause'
  with toy_hosts.paused(count, arguments, 2, folder) as processes:
    toy_hosts.terminate_paused(processes, 1, folder)
    assert processes.wait() == [75] * count
  step = toy_hosts.saved(run)
  assert 2 <= step < 12
  folder = tmp_path / 'again'
  with toy_hosts.paused(
    count, arguments, step + 2, folder, R1JAX_HEARTBEAT='10'
  ) as processes:
    processes.kill(0)
    assert 0 not in processes.wait()
  toy_hosts.run(count, arguments)
  assert lines(run) == lines(expected)
  assert lines(run, 'samples.jsonl') == lines(expected, 'samples.jsonl')
  assert model(run) == model(expected)


@pytest.mark.slow
def test_a_run_resumes_with_other_hosts_and_another_strategy(base, tmp_path):
  run, expected = tmp_path / 'run', tmp_path / 'expected'
  toy_hosts.run(1, toy_hosts.rl(base, expected, *CHANGES))
  for count, strategy, step in (
    (4, 'pmap', 2),
    (2, 'mesh', 6),
    (1, 'pmap', 12),
  ):
    changes = *CHANGES, f'parallel.strategy={strategy}', 'save_every=2'
    arguments = toy_hosts.rl(base, run, *changes)
    if step == 12:
      toy_hosts.run(count, arguments)
      break
    folder = tmp_path / str(step)
    with toy_hosts.paused(count, arguments, step, folder) as processes:
      toy_hosts.terminate_paused(processes, 0, folder)
      assert set(processes.wait()) == {75}
  assert lines(run, 'samples.jsonl') == lines(expected, 'samples.jsonl')
  for ours, theirs in zip(lines(run), lines(expected), strict=True):
    assert ours.keys() == theirs.keys()
    # Of a device's slots, and of the rows that it packs.
    for name in ours.keys() - {'occupancy', 'padding'}:
      np.testing.assert_allclose(ours[name], theirs[name], 1e-3, 1e-5)


STAGES = {
  'evaluate': ('results.json', 'chunks/GSM8K-00001.jsonl'),
  'reject': ('records.jsonl', 'rejected.jsonl', 'counts.json'),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', STAGES)
def test_two_processes_write_the_files_of_one(name, base, tmp_path):
  for count in (1, 2):
    arguments = toy_hosts.stage(
      name, tmp_path / str(count), f'init={base}/model'
    )
    toy_hosts.run(count, arguments)
  for file in STAGES[name]:
    one, two = (tmp_path / str(n) / file for n in (1, 2))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_two_processes_verify_as_one(tmp_path):
  rows = [
    dict(id=n, prompt='?', answer=str(n % 7), response=f'<answer>{n % 5}')
    for n in range(11)
  ]
  data = tmp_path / 'rows.jsonl'
  data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  file = tmp_path / 'verify.py'
  file.write_text(
    'from experiments import base\n'
    'def get_config():\n'
    "  return base.get_config('verify')\n"
  )
  for count in (1, 2):
    toy_hosts.run(
      count,
      ['-m', 'r1jax', 'verify', '--config', file]
      + ['--workdir', tmp_path / str(count), f'--config.data={data}']
      + ['--config.chunk=4', '--config.verify.workers=1'],
    )
  one, two = (tmp_path / str(n) / 'verdicts.jsonl' for n in (1, 2))
  assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_a_full_disk_on_one_host_ends_all_and_loses_no_saved_step(
  base, tmp_path
):
  """A limit on the size of files simulates a full disk."""
  run, expected = tmp_path / 'run', tmp_path / 'expected'

  def arguments(workdir):
    return toy_hosts.rl(
      base, workdir, 'steps=6', 'save_every=2', 'parallel.strategy=mesh'
    )

  toy_hosts.run(2, arguments(expected))
  limited = """if 1:
    import resource, sys
    from r1jax import cli
    from r1jax.training import checkpoint
    save = checkpoint.save
    def save_at_4(manager, step, *rest):
      if step == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
      save(manager, step, *rest)
    checkpoint.save = save_at_4
    sys.exit(cli.main(sys.argv[1:]))
  """

  def arguments_of(host):
    if host == 0:
      return arguments(run)
    return ['-c', limited, *arguments(run)[2:]]

  codes, outputs = ends(2, arguments_of)
  assert codes == [2, 2]
  assert (
    'no space to write' in outputs[0]
  )  # The limit applies to the log of host 1, too.
  assert toy_hosts.saved(run) == 2
  toy_hosts.run(2, arguments(run))
  assert lines(run) == lines(expected)
  assert model(run) == model(expected)
