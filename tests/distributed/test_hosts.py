"""Several processes, one device each, do what one process with as many devices
does; and a fault of one is the end of all, with its reason."""

import json
import signal
import time

import numpy as np
import pytest
import toy_hosts

from r1jax import files
from r1jax.training import metrics


def ends(count, arguments, seconds=60, **more):
  """(exit codes, what each said)."""
  with toy_hosts.running(count, arguments, **more) as many:
    codes = many.wait(seconds)
    return codes, [many.said(host) for host in range(count)]


def lines(workdir, name='metrics.jsonl'):
  return [
    metrics.without_timings(line) for line in files.read_jsonl(workdir / name)
  ]


def model(workdir):
  return (workdir / 'model' / 'model.safetensors').read_bytes()


@pytest.mark.parametrize('kind', ['pmap', 'mesh'])
def test_two_processes_are_one_with_two_devices(kind, base, tmp_path):
  changes = (
    f'parallel.strategy={kind}',
    'steps=2',
    'save_every=1',
    'eval.every=2',
  )
  two, one = tmp_path / 'two', tmp_path / 'one'
  said = toy_hosts.run(2, toy_hosts.rl(base, two, *changes))
  toy_hosts.run(
    1,
    toy_hosts.rl(base, one, *changes),
    XLA_FLAGS='--xla_force_host_platform_device_count=2',
  )
  assert [line['step'] for line in lines(one)] == [0, 1, 2]
  assert lines(two) == lines(one)
  assert lines(two, 'samples.jsonl') == lines(one, 'samples.jsonl')
  assert model(two) == model(one)
  assert 'step 2/2' in said[0] and 'step' not in said[1]


def test_hosts_gather_share_and_do_once(tmp_path):
  body = """
    assert hosts.count() == 2 and hosts.index() == host
    own = [dict(name='naïve' * (1 + 99 * host), nan=float('nan')), None]
    both = hosts.gather(own)
    assert [len(x[0]['name']) for x in both] == [5, 500]
    assert np.isnan(both[1][0]['nan']) and both[0][1] is None
    rows = hosts.gather(list(range(7))[hosts.share(7)])
    assert rows == [[0, 1, 2], [3, 4, 5, 6]]
    assert hosts.once(lambda: host) == 0
    assert not hosts.told()
    hosts.agree(workdir, config=dict(a=1), sandbox='bwrap')
    assert not list(workdir.iterdir())
    hosts.boundary()
  """
  toy_hosts.run(2, toy_hosts.script(tmp_path, body))


def test_hosts_that_see_other_facts_are_named(tmp_path):
  body = "hosts.agree(workdir, config=1, records=[host], sandbox=f'tier{host}')"
  codes, said = ends(2, toy_hosts.script(tmp_path, body))
  assert codes == [2, 2]
  for text in said:
    assert 'the hosts of this run differ in records (' in text
    assert 'sandbox (tier0 on host 0, tier1 on host 1)' in text
    assert 'config' not in text


def test_a_work_directory_of_ones_own_is_refused_everywhere(tmp_path):
  body = "hosts.SEEN = 1; hosts.agree(workdir, config='same')"
  codes, said = ends(
    2, lambda host: toy_hosts.script(tmp_path / str(host), body)
  )
  assert codes == [2, 2]
  for text in said:
    assert f'what host 0 writes to {tmp_path}/0 is not seen on host 1' in text


@pytest.mark.parametrize('wrong', [0, 1])
def test_what_one_host_is_told_wrong_all_say(wrong, tmp_path):
  body = f"""
    if host == {wrong}:
      raise errors.UserError('the disk of the third shelf is empty')
    hosts.gather(0)  # and waits for ever
  """
  codes, said = ends(2, toy_hosts.script(tmp_path, body), 30)
  assert codes == [2, 2]
  assert all('the disk of the third shelf is empty' in text for text in said)


def test_what_one_host_breaks_ends_all(tmp_path):
  body = 'hosts.gather(1 // (1 - host))'
  codes, said = ends(2, toy_hosts.script(tmp_path, body), 30)
  assert codes == [1, 1]
  assert 'Traceback' in said[1] and 'Traceback' not in said[0]
  assert 'host 1: ZeroDivisionError' in said[0]


# Everything that a run must carry over, and several updates a rollout.
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


def reached(workdir, step):
  path = workdir / 'metrics.jsonl'
  return lambda: path.exists() and len(files.read_jsonl(path)) > step


@pytest.mark.slow
@pytest.mark.parametrize('kind, count', [('pmap', 2), ('mesh', 4)])
def test_told_to_end_and_killed_processes_end_as_if_they_had_not_been(
  kind, count, base, tmp_path
):
  run, whole = tmp_path / 'run', tmp_path / 'whole'
  changes = *CHANGES, f'parallel.strategy={kind}'
  toy_hosts.run(count, toy_hosts.rl(base, whole, *changes), 120)
  with toy_hosts.running(count, toy_hosts.rl(base, run, *changes)) as many:
    toy_hosts.wait_for(reached(run, 2))
    many.kill(1, signal.SIGTERM)
    told = time.monotonic()
    assert many.wait(30) == [75] * count
    assert time.monotonic() - told < 15
  told = toy_hosts.saved(run)
  assert 2 <= told < 12
  with toy_hosts.running(count, toy_hosts.rl(base, run, *changes)) as many:
    toy_hosts.wait_for(reached(run, told + 2))
    many.kill(0)
    assert 0 not in many.wait(40)
  toy_hosts.run(count, toy_hosts.rl(base, run, *changes), 120)
  assert lines(run) == lines(whole)
  assert lines(run, 'samples.jsonl') == lines(whole, 'samples.jsonl')
  assert model(run) == model(whole)


@pytest.mark.slow
def test_a_run_goes_on_with_other_hosts_and_another_layout(base, tmp_path):
  run, whole = tmp_path / 'run', tmp_path / 'whole'
  toy_hosts.run(1, toy_hosts.rl(base, whole, *CHANGES), 120)
  for count, kind, step in ((4, 'pmap', 2), (2, 'mesh', 6), (1, 'pmap', 12)):
    changes = *CHANGES, f'parallel.strategy={kind}', 'save_every=2'
    (run / 'config.json').unlink(missing_ok=True)  # It names the layout.
    with toy_hosts.running(count, toy_hosts.rl(base, run, *changes)) as many:
      if step < 12:
        toy_hosts.wait_for(reached(run, step))
        many.kill(0, signal.SIGTERM)
      assert set(many.wait(120)) == {75 if step < 12 else 0}
  assert lines(run, 'samples.jsonl') == lines(whole, 'samples.jsonl')
  for ours, theirs in zip(lines(run), lines(whole), strict=True):
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {'occupancy'}:  # of the slots of a device
      np.testing.assert_allclose(ours[name], theirs[name], 1e-3, 1e-5)


STAGES = {
  'evaluate': ('results.json', 'chunks/GSM8K-00001.jsonl'),
  'reject': ('records.jsonl', 'rejected.jsonl', 'counts.json'),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', STAGES)
def test_the_other_stages_leave_the_files_of_one_process(name, base, tmp_path):
  for count in (1, 2):
    arguments = toy_hosts.stage(
      name, tmp_path / str(count), f'init={base}/model'
    )
    toy_hosts.run(count, arguments, 120)
  for file in STAGES[name]:
    one, two = (tmp_path / str(n) / file for n in (1, 2))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_two_processes_verify_what_one_does(tmp_path):
  rows = [
    dict(id=n, prompt='?', answer=str(n % 7), response=f'<answer>{n % 5}')
    for n in range(11)
  ]
  data = tmp_path / 'rows.jsonl'
  data.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  file = tmp_path / 'verify.py'
  file.write_text(
    'from experiments import base\n'
    "get_config = lambda: base.get_config('verify')\n"
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
def test_a_disk_that_is_full_for_one_host_ends_all_and_costs_no_step(
  base, tmp_path
):
  """There the limit on the size of files plays the disk."""
  run, whole = tmp_path / 'run', tmp_path / 'whole'

  def arguments(workdir):
    return toy_hosts.rl(
      base, workdir, 'steps=6', 'save_every=2', 'parallel.strategy=mesh'
    )

  toy_hosts.run(2, arguments(whole), 120)
  limited = """if 1:
    import resource, sys
    from r1jax import checkpoint, main
    save = checkpoint.save
    def save_at_4(manager, step, *rest):
      if step == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
      save(manager, step, *rest)
    checkpoint.save = save_at_4
    sys.exit(main.main(sys.argv[1:]))
  """

  def whose(host):
    return ['-c', limited, *arguments(run)[2:]] if host else arguments(run)

  codes, said = ends(2, whose, 120)
  assert codes == [2, 2]
  assert 'no room to write' in said[0]  # The other's log is as full.
  assert toy_hosts.saved(run) == 2
  toy_hosts.run(2, arguments(run), 120)
  assert lines(run) == lines(whole)
  assert model(run) == model(whole)
