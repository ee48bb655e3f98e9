"""Modules that need threads, sockets or files work without them in a program,
or say at once that they do not."""

import dataclasses
import os

import pytest
from toy_sandbox import LIMITS, TIERS, tier_of

from r1jax.sandbox import library, tiers


@pytest.fixture(params=TIERS)
def tier(request):
  with tier_of(request.param) as tier:
    yield tier


@pytest.fixture(params=TIERS[:2])
def here(request):
  with tier_of(request.param) as tier:
    yield tier


def run(tier, code, **limits):
  limits = dataclasses.replace(LIMITS, **limits)
  return tiers.run(tier, [code], '', limits)


WORKING = {
  'thread': """
import threading
found = []
threads = [threading.Thread(target=found.append, args=(i,)) for i in range(3)]
for t in threads: t.start()
for t in threads: t.join()
print(found)
""",
  'lock': """
import threading
lock, total = threading.Lock(), 0
def add():
  global total
  with lock: total += 1
for _ in range(3):
  t = threading.Thread(target=add); t.start(); t.join()
print([0, total - 2, 2])
""",
  'events in order': """
import threading
ready = threading.Event()
first = threading.Thread(target=ready.set)
first.start()
ready.wait()
cond = threading.Condition()
with cond: cond.notify_all()
print([0, 1, 2])
""",
  'producer first': """
import queue, threading
q = queue.Queue()
def produce():
  for i in range(3): q.put(i)
found = []
def consume():
  for _ in range(3): found.append(q.get()); q.task_done()
for f in produce, consume:
  t = threading.Thread(target=f, daemon=True); t.start()
q.join()
print(found)
""",
  'pool': """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(max_workers=4) as pool:
  jobs = [pool.submit(abs, -i) for i in range(3)]
  done = [x.result() for x in concurrent.futures.as_completed(jobs)]
  assert isinstance(pool.submit(int, 'x').exception(), ValueError)
  print(list(pool.map(abs, sorted(done))))
""",
  'asyncio': """
import asyncio
async def work(i, q):
  await asyncio.sleep(0.01 * i)
  await q.put(i)
async def main():
  q, lock = asyncio.Queue(), asyncio.Lock()
  async with lock:
    await asyncio.gather(*[work(i, q) for i in range(3)])
  assert await asyncio.to_thread(abs, -1) == 1
  try: await asyncio.wait_for(asyncio.sleep(9), 0.01)
  except asyncio.TimeoutError: pass
  print([await q.get() for _ in range(3)])
asyncio.run(main())
""",
  'temporary file': """
import tempfile
with tempfile.TemporaryFile('w+') as file:
  file.write('[0, 1, 2]'); file.seek(0); text = file.read()
with tempfile.SpooledTemporaryFile(max_size=4) as file:
  file.write(text.encode()); file.seek(0)
  print(file.read().decode())
""",
}
REFUSED = {
  'consumer first': """
import queue, threading
q = queue.Queue()
threading.Thread(target=q.get).start()
""",
  'empty queue': 'import queue\nqueue.SimpleQueue().get()',
  'event': 'import threading\nthreading.Event().wait()',
  'lock twice': """
import threading
lock = threading.Lock()
lock.acquire(); lock.acquire()
""",
  'barrier': """
import threading
b = threading.Barrier(2)
for _ in range(2): threading.Thread(target=b.wait).start()
""",
  'future': """
import concurrent.futures
concurrent.futures.Future().result()
""",
  'thread pool': 'from multiprocessing.pool import ThreadPool\nThreadPool(2)',
  'process': """
import multiprocessing
multiprocessing.Process(target=print).start()
""",
  'process pool': 'import multiprocessing\nmultiprocessing.Pool(2)',
  'process executor': """
import concurrent.futures
concurrent.futures.ProcessPoolExecutor(2).submit(abs, 1)
""",
  'process queue': 'import multiprocessing\nmultiprocessing.Queue()',
  'named file': 'import tempfile\ntempfile.NamedTemporaryFile()',
  'temporary folder': 'import tempfile\ntempfile.TemporaryDirectory()',
  'temporary name': 'import tempfile\ntempfile.mkstemp()',
}


@pytest.mark.parametrize('name', WORKING)
def test_what_needs_no_second_thread_works(tier, name):
  found = run(tier, WORKING[name])
  assert found == tiers.Outcome('passed', b'[0, 1, 2]\n', '')


@pytest.mark.parametrize('name', REFUSED)
def test_what_would_wait_for_ever_is_refused_with_a_sentence(here, name):
  # Without the refusal it would end at the limit of wall time.
  kind, _, detail = run(here, REFUSED[name])
  assert kind == 'error'
  assert 'sandboxed program' in detail


def test_the_folder_of_temporary_files_is_alike_in_all_tiers(here):
  code = 'import tempfile\nprint(tempfile.gettempdir())\nopen("/tmp/a", "w")'
  kind, stdout, detail = run(here, code)
  assert (kind, stdout) == ('error', b'/tmp\n')
  assert 'Error' in detail


def test_numpy_is_the_only_package_that_is_shown(here):
  code = (
    'import numpy\nfound = []\n'
    'for name in "pytest", "jax", "scipy", "numpy.random", "pip":\n'
    '  try: __import__(name); found.append(name)\n'
    '  except ImportError: pass\nprint(found)'
  )
  assert run(here, code, memory=1 << 30).stdout == b"['numpy.random']\n"


def test_folders_of_packages_are_hidden_at_any_depth(tmp_path):
  for name in (
    'a/b/python3/dist-packages/x',
    'c/site-packages',
    'd/e',
    'python3.9/site-packages',
    'pythonlib',
  ):
    (tmp_path / name).mkdir(parents=True)
  (tmp_path / 'a/b/lib.so').touch()
  (tmp_path / 'link').symlink_to(tmp_path / 'a')
  found = sorted(
    os.path.relpath(x, tmp_path) for x in library._installed_below(tmp_path)
  )
  assert found == ['a/b/python3', 'c/site-packages', 'python3.9']
  shown = {
    os.path.relpath(x, tmp_path) for x in library._without_installed(tmp_path)
  }
  assert shown == {'a/b/lib.so', 'd', 'pythonlib'}


def test_no_other_packages_are_below_what_is_shown():
  shown, hidden = library.mounts()
  for folder in shown:
    if os.path.isdir(folder) and not os.path.islink(folder):
      assert set(library._installed_below(folder)) <= set(hidden)
  for folder in library.landlock_paths()[0]:
    if os.path.isdir(folder) and folder not in library.package_folders():
      assert not library._installed_below(folder)


def test_paths_of_the_host_do_not_exist_in_bubblewrap(tmp_path):
  # Landlock cannot hide that a path exists, nor its size and times.
  code = f'import os\nprint(os.path.exists({str(tmp_path)!r}))'
  with tier_of('bwrap') as tier:
    assert run(tier, code).stdout == b'False\n'
