"""Four CPU devices for all tests; implicit rank promotion is an error."""

import os
import pathlib
import signal

os.environ['JAX_PLATFORMS'] = os.environ.get('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = (
  os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=4'
)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update(
  'jax_compilation_cache_dir',
  os.environ.get('R1JAX_CACHE')
  or str(pathlib.Path.home() / '.cache/r1jax/xla'),
)
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.1)

# A background job of a shell inherits SIGINT as ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Linux allows a process 65,530 mappings, of which compiled programs take some.
MAX_MAPPINGS = 30_000


@pytest.fixture(scope='module', autouse=True)
def few_mappings():
  """Drops compiled programs between modules before the process runs out of
  mappings, which would end it in the compiler."""
  yield
  file = pathlib.Path('/proc/self/maps')
  if file.exists() and file.read_text().count('\n') > MAX_MAPPINGS:
    jax.clear_caches()


@pytest.fixture(scope='session')
def base(tmp_path_factory):
  """The work directory of an sft run: the model that other tests start from."""
  import toy

  workdir = tmp_path_factory.mktemp('base')
  toy.run('sft', workdir)
  return workdir
