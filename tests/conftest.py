"""Four CPU devices for all tests; implicit rank promotion is an error; how
programs are compiled and cached."""

import fcntl
import os
import pathlib
import shutil
import signal

os.environ['JAX_PLATFORMS'] = os.environ.get('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=4'
)
FEW_OPTIMISATIONS = 'JAX_DISABLE_MOST_OPTIMIZATIONS'
os.environ[FEW_OPTIMISATIONS] = 'True'
# All programs are cached, for the tests and for the processes that they start.
os.environ['JAX_COMPILATION_CACHE_DIR'] = os.environ.get('R1JAX_CACHE') or str(
  pathlib.Path.home() / '.cache/r1jax/xla'
)
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')

# A background job of a shell inherits SIGINT as ignored, one of nohup SIGHUP.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Linux allows a process 65,530 mappings, of which compiled programs take some.
MAX_MAPPINGS = 30_000


def pytest_addoption(parser):
  parser.addoption(
    '--one-of-each',
    action='store_true',
    help='run every test function once, with the first of its parameters',
  )


def pytest_collection_modifyitems(config, items):
  if not config.getoption('--one-of-each'):
    return
  first = {}
  for item in items:
    function = item.nodeid.partition('[')[0]
    first.setdefault(function, item)
  kept = set(first.values())
  rest = [item for item in items if item not in kept]
  config.hook.pytest_deselected(items=rest)
  items[:] = [item for item in items if item in kept]


@pytest.fixture(scope='module', autouse=True)
def few_mappings():
  """Drops compiled programs between modules before the process runs out of
  mappings, which would end it in the compiler."""
  yield
  file = pathlib.Path('/proc/self/maps')
  if file.exists() and file.read_text().count('\n') > MAX_MAPPINGS:
    jax.clear_caches()


# Programs are compiled without the optimisations of LLVM, which take most of the
# compiler's time and do not change what the tests state; XLA's own passes run.
# This module computes long enough to gain by them.
OPTIMISED = ('test_token_sampling',)


def optimise(is_on):
  """Sets whether XLA optimises the programs of this process, and of those that
  it starts."""
  os.environ[FEW_OPTIMISATIONS] = str(not is_on)
  jax.config.update(FEW_OPTIMISATIONS.lower(), not is_on)
  jax.clear_caches()


@pytest.fixture(scope='module', autouse=True)
def optimised_programs(request):
  """Optimises the programs of the modules in OPTIMISED. Fixtures of the session,
  which are made before, have few optimisations wherever they are made."""
  if request.path.stem not in OPTIMISED:
    yield
    return
  optimise(True)
  yield
  optimise(False)


@pytest.fixture(scope='session')
def base(tmp_path_factory):
  """The work directory of an sft run: the model that other tests start from.
  One worker of xdist makes it, and each has a copy."""
  import toy

  folder = tmp_path_factory.getbasetemp()
  if 'PYTEST_XDIST_WORKER' in os.environ:
    folder = folder.parent
  made = folder / 'base'
  with open(folder / 'base.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (made / 'model').exists():
      toy.run('sft', made)
    workdir = tmp_path_factory.mktemp('own') / 'base'
    shutil.copytree(made, workdir)
  return workdir
