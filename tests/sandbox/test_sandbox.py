"""A program in a sandbox can compute and do nothing else."""

import dataclasses
import os
import pathlib
import platform
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from toy_sandbox import FOUND, LIMITS, SHORT, TIERS, local, service, tier_of

from r1jax import errors
from r1jax.sandbox import kernel, tiers, wire


@pytest.fixture(params=TIERS)
def tier(request):
  with tier_of(request.param) as tier:
    yield tier


@pytest.fixture(params=TIERS[:2])
def here(request):
  with tier_of(request.param) as tier:
    yield tier


def run(tier, code, stdin='', **limits):
  return tiers.run(tier, [code], stdin, dataclasses.replace(LIMITS, **limits))


def kind(tier, code):
  return run(tier, code).kind


def printed(tier, code, stdin=''):
  outcome = run(tier, code, stdin)
  assert outcome.kind == 'passed', outcome
  return outcome.stdout.decode().strip()


def opened(tier, *code, **limits):
  limits = dataclasses.replace(LIMITS, **limits)
  return tiers.open_program(tier, list(code), limits)


def test_a_program_reads_stdin_and_writes_stdout(tier):
  code = 'import sys\nprint(input()[::-1])\nprint(len(sys.stdin.read()))'
  stdin = 'héllo\n' + 'x' * 200_000
  expected = tiers.Outcome('passed', 'olléh\n200000\n'.encode(), '')
  assert run(tier, code, stdin) == expected


def test_the_standard_library_can_be_imported(tier):
  code = (
    'import typing, re, random, math, collections, heapq, hashlib, datetime, '
    'decimal, fractions, itertools, json, zoneinfo, zlib, bz2, string, bisect, '
    'dataclasses, statistics, functools, time, threading, copy, unittest\n'
    '@dataclasses.dataclass\nclass A:\n  x: "int"\n'
    'print(A(1).x, len(random.sample(range(9), 3)))\n'
    'print(zoneinfo.ZoneInfo("UTC").key)'
  )
  assert printed(tier, code) == '1 3\nUTC'


def test_output_at_exit_is_part_of_stdout(tier):
  assert printed(tier, 'import atexit\natexit.register(print, 7)') == '7'


def test_the_order_of_a_set_is_equal_in_every_run(here):
  code = 'print({str(i) for i in range(50)})'
  assert printed(here, code) == printed(here, code)


def test_texts_share_a_namespace_but_not_future_imports(tier):
  parts = [
    'x = 20\ndef f(): return 1',
    'from __future__ import annotations\ndef g() -> nothing: return x + 22',
  ]
  with opened(tier, *parts) as program:
    assert program.call('g', []) == 42


@pytest.mark.parametrize(
  'code, expected',
  [
    ('print(1)', 'passed'),
    ('import sys; sys.exit()', 'passed'),
    ('exit()', 'passed'),
    ('import sys; sys.exit(3)', 'error'),
    ('1 / 0', 'error'),
    ('raise KeyboardInterrupt', 'error'),
    ('def f(): f()\nf()', 'error'),
    ('import ctypes; ctypes.string_at(0)', 'error'),
    ('def f(:', 'compile'),
    ('a\0b', 'compile'),
    ('"\ud800"', 'compile'),
    ('(' * 10_000, 'compile'),
    ('x = [0] * 10**9', 'memory'),
    ('x = []\nwhile True: x.append(bytearray(10**6))', 'memory'),
    ('while True: print("a" * 1000)', 'output'),
  ],
)
def test_kinds_of_endings_are_distinguished(here, code, expected):
  assert kind(here, code) == expected


def test_a_computing_program_ends_at_its_limit_of_cpu_time(here):
  assert run(here, 'while True: pass', seconds=SHORT).kind == 'timeout'


def test_kinds_of_endings_are_distinguished_at_a_service():
  with service() as url:
    tier = tiers.Tier('service', url)
    assert kind(tier, 'import sys; sys.exit(3)') == 'error'
    assert kind(tier, 'def f(:') == 'compile'
    assert kind(tier, 'x = [0] * 10**9') == 'memory'
    assert run(tier, 'while True: pass', seconds=SHORT).kind == 'timeout'


def test_signal_handlers_do_not_delay_the_end(here):
  code = 'import signal\nfor n in 14, 15, 24: signal.signal(n, lambda *_: 0)\n'
  code += 'while True: pass'
  assert run(here, code, seconds=SHORT).kind == 'timeout'


def test_a_sleeping_program_ends_at_its_limit_of_wall_time(here):
  code = 'import os, time\nfor fd in 0, 1, 2: os.close(fd)\ntime.sleep(600)'
  # It would pass at the end of its sleep.
  assert run(here, code, wall=3).kind == 'timeout'


def descendants(pid):
  """The processes that a process has started, and theirs."""
  path = f'/proc/{pid}/task/{pid}/children'
  found = []
  for child in map(int, pathlib.Path(path).read_text().split()):
    found += [child, *descendants(child)]
  return found


def is_running(pid):
  try:
    stat = pathlib.Path(f'/proc/{pid}/stat').read_text()
  except OSError:
    return False
  return stat.rpartition(')')[2].split()[0] != 'Z'


def all_end(pids):
  """Whether all of them end within minutes."""
  deadline = time.monotonic() + 300
  while any(map(is_running, pids)) and time.monotonic() < deadline:
    time.sleep(0.01)
  return pids and not any(map(is_running, pids))


def pids_of(program):
  """The processes of a program."""
  pid = program.channel.child.pid
  return [pid, *descendants(pid)]


def test_no_process_outlives_its_program(here):
  sleeper = 'import time\ndef f(): time.sleep(9999)'
  with opened(here, sleeper, wall=1) as program:
    pids = pids_of(program)
    with pytest.raises(tiers.Stopped, match='timeout'):
      program.call('f', [])
    assert all_end(pids)
  with opened(here, sleeper) as program:
    pids = pids_of(program)
  assert all_end(pids)


def test_no_process_outlives_its_parent(here):
  code = (
    'import time\nfrom r1jax.sandbox import tiers\n'
    f'tier, limits = tiers.Tier(*{tuple(here)}), tiers.Limits(seconds=60)\n'
    'with tiers.open_program(tier, ["x = 1"], limits):\n'
    '  print(flush=True)\n  time.sleep(9999)'
  )
  parent = subprocess.Popen(
    [sys.executable, '-c', code], stdout=subprocess.PIPE
  )
  with parent:
    assert parent.stdout.readline()
    pids = descendants(parent.pid)
    parent.kill()
  assert all_end(pids)


@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM])
def test_a_sandbox_killed_by_another_process_is_an_infra_error(here, number):
  code = 'import time\ndef f(): time.sleep(600)'
  with opened(here, code) as program:
    pid = program.channel.child.pid
    threading.Timer(0.3, os.kill, (pid, number)).start()
    with pytest.raises(tiers.Stopped, match='infra'):
      program.call('f', [])


def test_many_threads_can_run_programs(here):
  def run_echo(n):
    return printed(here, 'print(input())', str(n))

  with ThreadPoolExecutor(8) as threads:
    assert list(threads.map(run_echo, range(24))) == [str(n) for n in range(24)]


# Programs that must fail.
DENIED = {
  'socket': 'import socket; socket.socket()',
  'pair of sockets': 'import socket; socket.socketpair()',
  'fork': 'import os\nif os.fork() == 0: os._exit(0)',
  'exec': 'import os; os.execv("/bin/true", ["true"])',
  'child': 'import subprocess; subprocess.run(["/bin/true"])',
  'thread': 'import _thread; _thread.start_new_thread(print, ())',
  'limits lowered': 'import resource as r\nr.setrlimit(r.RLIMIT_CPU, (1, 1))',
  'signal to the parent': 'import os; os.kill(os.getppid(), 0)',
  'signal to the group': 'import os; os.killpg(0, 0)',
  'limits of the parent': 'import os, resource\n'
  'resource.prlimit(os.getppid(), resource.RLIMIT_CORE)',
  'limits raised': 'import resource as r\nr.setrlimit(r.RLIMIT_AS, (-1, -1))',
  'user': 'import os; os.setuid(12345)',
  'session': 'import os; os.setsid()',
  'priority': 'import os; os.nice(1)',
  'mode': 'import os, sys; os.chmod(sys.__spec__ or os.__file__, 0o600)',
  'folder': 'import os; os.mkdir("/tmp/r1jax_mark_folder")',
  'link': 'import os; os.symlink("/", "/tmp/r1jax_mark_link")',
  'memory file': 'import os; os.memfd_create("x")',
  'processes': 'import os; os.listdir("/proc")',
  'password file': 'open("/etc/passwd")',
  'device': 'open("/dev/mem", "rb")',
  'home': 'import os; os.listdir(os.path.expanduser("~"))',
  'write to its own library': 'import os; open(os.__file__, "a")',
  'cut off its own library': 'import os; os.open(os.__file__, os.O_TRUNC)',
  'system call': 'import ctypes\ncall = ctypes.CDLL(None).syscall\n'
  'assert call(NUMBER, 0, 0, 0, 0) >= 0',
}


@pytest.mark.parametrize('name', DENIED)
def test_only_computing_is_allowed(here, name):
  number = kernel.numbers(kernel.CALLS)['prctl']
  assert kind(here, DENIED[name].replace('NUMBER', str(number))) == 'error'


DEEP = """
import sys, threading
def depth(n): return 0 if n == 0 else 1 + depth(n - 1)
def main():
  sys.setrecursionlimit(10**6)
  print(depth(int(input())))
threading.stack_size(1 << 27)
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""


def test_a_thread_with_a_larger_stack_runs_in_the_main_thread(here):
  assert printed(here, DEEP, '30000') == '30000'


def test_seccomp_denies_calls_that_affect_other_processes(here):
  # ptrace, process_vm_readv, pidfd_open, unshare, bpf, io_uring_setup,
  # userfaultfd, keyctl, perf_event_open, setns, mount, shmget, tgkill.
  numbers = dict(
    x86_64=(101, 310, 434, 272, 321, 425, 323, 250, 298, 308, 165, 29, 234),
    aarch64=(117, 270, 434, 97, 280, 425, 282, 219, 241, 268, 40, 194, 131),
  )[platform.machine()]
  code = (
    'import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n'
    f'for n in {numbers}:\n'
    '  print(libc.syscall(n, 0, 0, 0, 0, 0, 0), ctypes.get_errno())'
  )
  assert set(printed(here, code).splitlines()) == {'-1 1'}


def test_secrets_cannot_be_read(here, tmp_path, monkeypatch):
  (tmp_path / 'secret').write_text('secret')
  monkeypatch.setenv('R1JAX_SECRET', 'secret')
  assert kind(here, f'open({str(tmp_path / "secret")!r})') == 'error'
  assert kind(here, f'open({__file__!r})') == 'error'
  assert printed(here, 'import os; print(len(os.environ))') == '0'
  found = printed(
    here, 'import sys; print([x for x in sys.modules if "r1" in x])'
  )
  assert found == '[]'


def test_installed_packages_cannot_be_read(here):
  code = (
    'import glob, sysconfig\n'
    'for name in glob.glob(sysconfig.get_paths()["purelib"] + "/*/*.py"):\n'
    '  try: print(len(open(name).read()))\n'
    '  except OSError: pass'
  )
  assert printed(here, code) == ''


def test_no_file_can_be_written(here, tmp_path):
  for path in (tmp_path / 'mark', '/tmp/r1jax_mark_file', '/r1jax_mark_file'):
    kind(here, f'open({str(path)!r}, "w").write("mark")')
    assert not os.path.exists(path)


def test_calls_return_values_and_change_arguments(tier):
  code = (
    'def f(x, pair, *, k):\n  x["a"].append(k)\n  pair[0].clear()\n'
    '  return {1: (2.5, {k})}'
  )
  inner, pair = [1], ([2], 3)
  with opened(tier, code) as program:
    assert program.call('f', [{'a': inner}, pair], {'k': 9}) == {1: (2.5, {9})}
  assert inner == [1, 9] and pair == ([], 3)


def test_calls_raise_what_the_function_raises(tier):
  code = (
    'def f(x):\n  if x: raise ValueError("no")\n  raise StopIteration\n'
    'class Mine(Exception): pass\ndef g(): raise Mine\ndef h(): exit()'
  )
  with opened(tier, code) as program:
    with pytest.raises(ValueError, match='no'):
      program.call('f', [1])
    for call in ('f', [0]), ('g', []), ('h', []):  # not what ends a loop
      with pytest.raises(RuntimeError):
        program.call(*call)


def test_answers_are_plain_values_of_builtin_types(tier):
  code = (
    'class Equal(int):\n  __eq__ = __ne__ = lambda *_: True\n'
    'class Other:\n  __eq__ = __ne__ = lambda *_: True\n'
    'def f(): return Equal(3)\ndef g(): return [Other()]'
  )
  with opened(tier, code) as program:
    assert type(program.call('f', [])) is int
    (answer,) = program.call('g', [])
    assert type(answer) is wire.Unsupported and not answer == 1


def test_a_call_of_an_undefined_function_is_an_error(tier):
  with opened(tier, 'x = 1') as program:
    with pytest.raises(tiers.Stopped, match='error: there is no'):
      program.call('f', [])


@pytest.mark.parametrize(
  'code, expected',
  [
    ('def f(:', 'compile'),
    ('1 / 0', 'error'),
    ('import os; os._exit(0)', 'error'),
    ('import os; os._exit(137)', 'error'),
    ('def f(): import os; os._exit(0)', 'error'),
    ('def f(): return "a" * 10**6', 'output'),
    ('def f(): return [0] * 10**9', MemoryError),
    (
      'import os\nwhile True:\n  for fd in range(3, 9):\n    try: '
      'os.write(fd, b"a" * 1000)\n    except OSError: pass',
      'output',
    ),
  ],
)
def test_kinds_of_endings_of_a_called_program(here, code, expected):
  with pytest.raises((tiers.Stopped, MemoryError)) as raised:
    with opened(here, code) as program:
      program.call('f', [])
  assert expected in (getattr(raised.value, 'kind', None), raised.type)


def test_a_call_that_computes_ends_at_the_limit_of_cpu_time(here):
  code = 'def f():\n  while True: pass'
  with opened(here, code, seconds=SHORT) as program:
    with pytest.raises(tiers.Stopped, match='timeout'):
      program.call('f', [])


def test_a_program_that_has_ended_cannot_be_called(here):
  with opened(here, 'import os\ndef f(): os._exit(0)') as program:
    for _ in range(2):
      with pytest.raises(tiers.Stopped):
        program.call('f', [])


FORGED = """
import os, sys
def reply(text):
  for fd in range(3, 64):
    try: os.write(fd, text.encode() + b'\\n')
    except OSError: pass
"""
TRUE = '["t","value",true,null]'


def wait_for_reply(program):
  """Waits until the program has sent something after its last reply."""
  channel = program.channel
  if not channel.stdout:
    assert select.select([channel.child.stdout], [], [], 300)[0]


@pytest.mark.parametrize(
  'code',
  [
    # A reply without a request, two to one request, malformed ones, none.
    f'reply({TRUE!r})\ndef f(): return False',
    f'def f():\n  reply({TRUE!r})\n  return False',
    'def f():\n  reply("nonsense")',
    'def f():\n  reply("[" * 50000)',
    'def f():\n  reply(\'["t","value",null,["t",["l","a"],"b"]]\')',
    'def f():\n  reply(\'["t","infra","please"]\')',
    'def f():\n  reply(\'["t"]\')',
    'def f():\n  reply(\'["t","value"]\')',
    'def f():\n  reply("\\xff")',
    'def f():\n  for fd in range(3, 64):\n    try: os.close(fd)\n'
    '    except OSError: pass',
  ],
)
def test_forged_replies_are_errors_or_plain_answers(here, code):
  with pytest.raises(tiers.Stopped) as raised:
    with opened(here, FORGED + code) as program:
      for _ in range(2):
        assert program.call('f', []) in (True, False)
        wait_for_reply(program)
  assert raised.value.kind == 'error'


def test_a_test_that_sends_an_unsupported_object_is_an_infra_error(here):
  with opened(here, 'def f(x): return f') as program:
    other = program.call('f', [1])
    with pytest.raises(TypeError):  # an object of the program
      program.call('f', [other])
    with pytest.raises(tiers.Stopped, match='infra'):
      program.call('f', [lambda: 0])


def test_a_small_limit_of_memory_is_no_infra_error(here):
  assert run(here, 'x = [0] * 10**7', memory=16 << 20).kind == 'memory'


def test_a_tier_that_cannot_start_is_an_infra_error():
  for path in '/nowhere/bwrap', '/bin/false':
    tier = tiers.Tier('bwrap', path)
    assert kind(tier, 'print(1)') == 'infra'
    with pytest.raises(tiers.Stopped, match='infra'):
      with opened(tier, 'x = 1'):
        pass


@pytest.mark.parametrize(
  'response',
  [
    {'status': 'SandboxError', 'message': 'full', 'run_result': None},
    {'status': 'Success'},
    ['nothing'],
    {'status': 'Success', 'run_result': {'status': 'Finished'}},
  ],
)
def test_a_service_that_fails_is_an_infra_error(response):
  with service(response) as url:
    tier = tiers.Tier('service', url)
    assert kind(tier, 'print(1)') == 'infra'
    with pytest.raises(tiers.Stopped, match='infra'):
      with opened(tier, 'def f(): return 1') as program:
        program.call('f', [])


def test_a_service_that_cannot_be_reached_is_an_infra_error():
  assert kind(tiers.Tier('service', 'http://127.0.0.1:9'), 'x') == 'infra'


def test_a_tier_is_used_only_if_it_denies_what_it_must(monkeypatch):
  first = local()
  assert tiers.find() == first
  harmful = tiers.CANARY.replace("['R1JAX_CANARY']", '')
  monkeypatch.setattr(tiers, 'CANARY', harmful)
  with pytest.raises(errors.UserError, match='succeeded in: environment.*apt'):
    tiers.find()
  monkeypatch.setattr(tiers, 'CANARY', 'print(41)')
  with pytest.raises(errors.UserError, match='computed 41'):
    tiers.find()


def test_a_service_that_is_out_of_reach_may_be_tried_again(monkeypatch):
  monkeypatch.setattr(tiers, '_missing', lambda tier: 'not here')
  with pytest.raises(errors.UserError, match='cannot be run safely') as raised:
    tiers.find('http://127.0.0.1:9')
  assert errors.exit_status(raised.value)[0] == 75


def test_a_service_is_used_only_if_no_local_tier_works(monkeypatch):
  result = dict(status='Finished', return_code=0, stdout='42\n', stderr='')
  with service(dict(status='Success', run_result=result)) as url:
    *_, last = tiers.probe(url)
    assert last == ('service', tiers.Tier('service', url), '')
    if any(tier for tier, _ in FOUND.values()):
      assert tiers.find(url).name != 'service'
    monkeypatch.setattr(platform, 'machine', lambda: 'riscv64')
    assert tiers.find(url).name == 'service'
    with pytest.raises(errors.UserError, match='riscv64.*service is not set'):
      tiers.find()
