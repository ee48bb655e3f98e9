"""launch_tpu.sh retry on a fake pod whose capacity is lost and found again."""

import os
import re
import signal

import pytest
from toy_pod import CREATE, MANY_SECONDS, Pod

RETRY = ['retry', *CREATE, '--', 'rl', '--workdir=/mnt/r1', '--config', 'a b']
GIVEN = ['-m', 'r1jax', *RETRY[len(CREATE) + 2 :]]


@pytest.fixture
def pod(tmp_path):
  pod = Pod(tmp_path)
  yield pod
  pod.end()


def retry(pod, *options, **more):
  return pod.launch(*RETRY[:1], *options, *RETRY[1:], **more)


def test_an_undisturbed_run_is_created_once(pod):
  pod.write('life-1', 'WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')
  done = retry(pod)
  assert done.returncode == 0, done.stderr
  assert 'r1 is done' in done.stderr and 'costs money' in done.stderr
  assert pod.count('created') == 1 and pod.count('deleted') == 0
  assert pod.given() == GIVEN


@pytest.mark.parametrize('code', [0, 2])
def test_give_back_deletes_the_tpu_at_the_end(pod, code):
  pod.write('plays-r1-0', str(code))
  done = retry(pod, '--give-back')
  assert done.returncode == code
  assert pod.count('deleted') == pod.count('created') == 1
  assert pod.verbs()[-1] == 'queued-resources delete'
  assert 'costs money' not in done.stderr


def test_give_back_when_it_gives_up_and_after_stop(pod):
  pod.write('created', '')
  done = retry(pod, '--give-back', '--retries=0')
  assert done.returncode == 1 and 'gives up after 0 retries' in done.stderr
  assert pod.count('deleted') == 1
  pod.write('plays-r1-0', 'waits')
  running = pod.start(RETRY[0], '--give-back', *RETRY[1:])
  pod.until((pod.folder / 'waits-r1-0').exists)
  pod.launch('stop', *CREATE[:3])
  running.communicate(timeout=MANY_SECONDS)
  assert running.returncode == 75 and pod.count('deleted') == 2


def test_a_tpu_that_remains_is_said(pod):
  pod.write('plays-r1-0', '2')
  done = retry(pod)
  assert done.returncode == 2
  assert 'r1 still exists and costs money' in done.stderr
  assert pod.count('created') == 1 and pod.count('deleted') == 0


def test_a_retry_that_is_ended_says_that_the_tpu_remains(pod):
  pod.write('plays-r1-0', 'waits')
  running = pod.start(RETRY[0], '--give-back', *RETRY[1:])
  pod.until((pod.folder / 'waits-r1-0').exists)
  running.terminate()
  _, err = running.communicate(timeout=MANY_SECONDS)
  assert running.returncode == 143 and 'costs money' in err
  assert not pod.count('deleted')


def test_ctrl_c_ends_a_retry_whose_call_hangs(pod):
  pod.write('hangs', '', '', 'describe')
  running = pod.start(*RETRY)
  pod.until(lambda: list(pod.folder.glob('hanging-*')))
  os.killpg(running.pid, signal.SIGINT)
  # A pipe that the call holds would remain open.
  running.wait(timeout=MANY_SECONDS)
  pod.write('impatient')
  assert running.returncode == 130
  assert 'costs money' in running.communicate()[1]


def test_a_connection_that_hangs_does_not_hide_that_the_tpu_is_lost(pod):
  pod.write('hangs', *[''] * 5, 'scp')  # of the setup
  pod.write('life-1', 'ACTIVE', 'ACTIVE', 'SUSPENDED')
  done = retry(pod)
  assert done.returncode == 0, done.stderr
  assert 'r1 is SUSPENDED: no longer waits for its workers' in done.stderr
  assert pod.count('created') == 2 and pod.given() == GIVEN


def test_hanging_calls_are_ended_and_tried_again(pod):
  # The 1st, 4th and 7th call: two states of the TPU, and that of the run.
  pod.write('hangs', 'describe', '', '', 'describe', '', '', 'ssh')
  pod.write('impatient')
  done = retry(pod)
  assert done.returncode == 0, done.stderr
  assert pod.given() == GIVEN and pod.count('created') == 1


@pytest.mark.slow
def test_new_steps_give_a_run_other_machines_again(pod):
  # Two machines gain a step each; the second is the first of the last three.
  pod.write('plays-r1-0', *['1 gains', *['1'] * 10] * 2, *['1'] * 40)
  workdir = str(pod.folder / 'shared')
  done = pod.launch('retry', *CREATE, '--', 'rl', '--workdir', workdir)
  assert done.returncode == 1 and pod.count('created') == 4


def test_after_preemption_failure_and_refusal_the_run_is_started_again(pod):
  pod.write('refusals', '', '', 'RESOURCE_EXHAUSTED: no more capacity')
  pod.write('life-1', 'PROVISIONING', 'FAILED')
  pod.write('life-2', *['ACTIVE'] * 4, 'SUSPENDING', 'SUSPENDED')
  pod.write('life-3', 'BROKEN', 'WAITING_FOR_RESOURCES', 'ACTIVE')
  pod.write('plays-r1-0', 'waits', '0')
  done = retry(pod)
  assert done.returncode == 0, done.stderr
  assert 'no more capacity' in done.stderr
  states = re.findall(r'r1 is ([A-Z_]+)', done.stderr)
  assert states == (
    'ABSENT PROVISIONING FAILED ABSENT ACTIVE SUSPENDING ABSENT '
    'WAITING_FOR_RESOURCES ACTIVE'.split()
  )
  assert pod.count('created') == 3 and pod.count('deleted') == 2
  assert pod.given() == GIVEN * 2
  creates = [call for call in pod.calls if 'create' in call]
  assert all('--labels=run-id=r1' in call for call in creates)


def test_the_pause_before_a_creation_grows(pod):
  pod.write('refusals', *['RESOURCE_EXHAUSTED'] * 8)
  done = retry(pod, '--retries=8')
  assert done.returncode == 1 and 'r1 gives up after 8 retries' in done.stderr
  pauses = [int(x) for x in pod.read('laptop/sleeps').split()]
  usual = [10, 20, 40, 80, 120]
  assert [x for x in pauses if x not in usual] == [15, 30, 60, 240, 480, 600]


def test_an_invalid_request_is_not_repeated(pod):
  pod.write('refusals', 'INVALID_ARGUMENT: there is no v9-8')
  done = retry(pod)
  assert done.returncode == 2 and 'there is no v9-8' in done.stderr
  assert len([call for call in pod.calls if 'create' in call]) == 1


def test_without_an_account_nothing_is_created(pod):
  pod.write('created', '')
  pod.write('life-1', 'BROKEN: you do not have an active account')
  done = retry(pod)
  assert done.returncode == 1 and 'an active account' in done.stderr
  assert len(pod.calls) == 1


@pytest.mark.parametrize('state', ['PREEMPTED', 'TERMINATED', 'ABSENT'])
def test_a_lost_node_of_an_active_request_is_replaced(pod, state):
  pod.write('node-r1-1', *['READY'] * 3, *[state] * 1, 'READY')
  for place in ('r1-0-0', 'r1-1-0'):
    pod.write(f'plays-{place}', 'waits', '0')
  done = retry(pod, '--slices=2')
  assert done.returncode == 0, done.stderr
  assert 'r1: gone' in done.stderr
  assert pod.count('created') == 2 and pod.count('deleted') == 1


def test_temporary_failures_of_ssh_are_tolerated(pod):
  pod.write('sshs', '', '', 'fails', 'works', 'fails')
  done = retry(pod)
  assert done.returncode == 0, done.stderr
  assert pod.count('created') == 1 and pod.given() == GIVEN


def test_workers_that_never_answer_are_replaced(pod):
  pod.write('sshs', *['fails'] * 10)
  done = retry(pod)
  assert done.returncode == 0, done.stderr
  assert pod.count('created') == 2 and pod.count('deleted') == 1


@pytest.mark.parametrize('state', ['ABSENT', 'PROVISIONING', 'ACTIVE'])
def test_a_killed_retry_continues_from_any_state(pod, state):
  if state != 'ABSENT':
    pod.write('created', '')
    pod.write('life-1', state, 'ACTIVE')
  pod.write('plays-r1-0', 'waits')
  first = pod.start(*RETRY)
  pod.until((pod.folder / 'waits-r1-0').exists)
  first.kill()
  first.communicate()
  second = pod.start(*RETRY)
  before = pod.count('laptop/sleeps')
  pod.until(lambda: pod.count('laptop/sleeps') > before + 3)
  second.kill()
  second.communicate()
  assert pod.given() == GIVEN and pod.count('created') == 1
  pod.launch('stop', *CREATE[:3])
  done = retry(pod)
  assert done.returncode == 75 and 'r1 was stopped' in done.stderr


def test_a_user_error_ends_it_with_the_log(pod):
  pod.write('plays-r1-0', '2')
  done = retry(pod)
  assert done.returncode == 2
  assert 'r1 ended with 2; the end of its log' in done.stderr
  assert 'process r1-0 speaks' in done.stderr


def test_a_terminated_run_is_started_again(pod):
  pod.write('plays-r1-0', 'waits', '0')
  running = pod.start(*RETRY)
  pod.until((pod.folder / 'waits-r1-0').exists)
  pid = pod.folder / 'home/r1-0/runs/r1/pid'
  os.kill(int(pid.read_text()), signal.SIGTERM)
  running.communicate(timeout=MANY_SECONDS)
  assert running.returncode == 0 and pod.count('created') == 1
  assert pod.given() == GIVEN * 2


def test_a_run_that_fails_on_three_machines_ends(pod):
  pod.write('plays-r1-0', *['1'] * 40)
  done = retry(pod, '--give-back')
  assert done.returncode == 1
  assert pod.count('created') == pod.count('deleted') == 3
  assert 'r1 ended with 1; the end of its log' in done.stderr
  assert len(pod.given()) == len(GIVEN) * 30


def test_when_one_worker_fails_the_others_are_stopped(pod):
  pod.write('plays-r1-0', *['1'] * 10, '0')
  pod.write('plays-r1-1', 'waits', '0')
  done = retry(pod, workers=2)
  assert done.returncode == 0, done.stderr
  assert 'r1: mixed' in done.stderr and 'r1: failed' in done.stderr
  assert pod.count('created') == 2


def test_after_a_reboot_of_a_worker_all_restart_on_the_same_machines(pod):
  for place in ('r1-0', 'r1-1'):
    pod.write(f'plays-{place}', 'waits', '0')
  running = pod.start(*RETRY, workers=2)
  pod.until(lambda: all(pod.read(f'waits-r1-{i}') for i in (0, 1)))
  session = pod.folder / 'home/r1-0/session'
  os.killpg(int(session.read_text()), signal.SIGKILL)
  running.communicate(timeout=MANY_SECONDS)
  assert running.returncode == 0 and pod.count('created') == 1
  assert pod.given('r1-0') == pod.given('r1-1') == GIVEN * 2
