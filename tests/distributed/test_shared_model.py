"""Several hosts read and write one model: each its own part of it."""

import json

import pytest
import safetensors.numpy
import toy_hosts

BEGIN = """
  import jax
  from r1jax.checkpoints import pretrained, safetensors_file
  from r1jax.distributed import device_placement
  from r1jax.models import transformer
  from r1jax.models.families import llama

  cfg = llama.Config(vocab_size=70, width=24, layers=3, heads=6, kv_heads=2,
                     head_dim=10, ffn=28)
  pretrained.MAX_FILE_BYTES = 8000
  whole = jax.device_get(transformer.init(jax.random.key(0), cfg))
  parallel = device_placement.ParallelConfig('mesh', tensor_parallel=TP)
  placement = device_placement.placement(parallel)
"""

READ_AND_WRITE = """
  opened, read = [], []

  class Writer(safetensors_file.Writer):
    def __init__(self, path, *args):
      opened.append(path.name)
      super().__init__(path, *args)

  class Reader(safetensors_file.SafetensorsReader):
    def read_part(self, *args):
      part = super().read_part(*args)
      read.append(part.size)
      return part

  safetensors_file.Writer = Writer
  safetensors_file.SafetensorsReader = Reader
  pretrained.save(workdir / 'first', whole, cfg)
  params, cfg, _ = pretrained.open_model(workdir / 'first')
  params = device_placement.put_state(placement, params)
  norms = sum(x.size for x in params['layers'].values() if x.ndim == 2)
  norms += params['norm'].size
  size = sum(x.size for x in jax.tree.leaves(params))
  assert sum(read) == (size - norms) // 2 + norms
  pretrained.save(workdir / 'second', params, cfg)
  own = len(opened)
  agreement.that_see = lambda folder: [0]
  pretrained.save(workdir / 'alone', params, cfg)
  print(json.dumps([own, len(opened) - own]), file=sys.stderr)
"""

DISK_FULL = """
  write = safetensors_file.Writer.write

  def fail(self, array):
    if host == 1:
      raise OSError(28, os.strerror(28))
    write(self, array)

  safetensors_file.Writer.write = fail
  params = device_placement.put_state(placement, whole)
  pretrained.save(workdir / 'out', params, cfg)
"""


def script(tmp_path, body, tensor_parallel=1):
  begin = BEGIN.replace('TP', str(tensor_parallel))
  return toy_hosts.script(tmp_path, begin + body)


def test_each_host_reads_its_shards_and_writes_its_files(tmp_path):
  outputs = toy_hosts.run(2, script(tmp_path, READ_AND_WRITE))
  names = [
    {path.name for path in (tmp_path / name).iterdir()}
    for name in ('first', 'second', 'alone')
  ]
  assert names[0] == names[1] == names[2]
  for name in names[0]:
    contents = [(tmp_path / x / name).read_bytes() for x in ('first', 'second')]
    assert (
      contents[0] == contents[1] == (tmp_path / 'alone' / name).read_bytes()
    )
  files = [name for name in names[0] if name.endswith('.safetensors')]
  assert len(files) > 5
  counts = [json.loads(text.splitlines()[-1]) for text in outputs]
  # Twice all files together, then all of them on host 0.
  assert counts[0][0] + counts[1][0] == 2 * len(files)
  assert abs(counts[0][0] - counts[1][0]) <= 2
  assert [count[1] for count in counts] == [len(files), 0]
  assert safetensors.numpy.load_file(tmp_path / 'alone' / files[0])


@pytest.mark.slow
def test_a_full_disk_of_one_host_ends_all_and_leaves_nothing(tmp_path):
  arguments = script(tmp_path, DISK_FULL, tensor_parallel=2)
  with toy_hosts.running(2, arguments) as processes:
    codes = processes.wait()
    outputs = [processes.output(host) for host in range(2)]
  assert codes[0] == codes[1] != 0, outputs
  assert all('free space' in text for text in outputs)
  assert not list(tmp_path.iterdir())


NAN = """
  path = workdir / 'model'
  whole['embed'] = np.array(whole['embed'])
  whole['embed'][5, 23] = -3.0
  pretrained.save(path, whole, cfg)
  if host == 0:
    file = min(path.glob('*.safetensors'))
    data = file.read_bytes()
    wanted = np.float32(-3.0).tobytes()
    assert data.count(wanted) == 1
    file.write_bytes(data.replace(wanted, np.float32(np.nan).tobytes()))
  hosts.gather(0)
  params, cfg, _ = pretrained.open_model(path)
  device_placement.put_state(placement, params)
"""


@pytest.mark.slow
def test_weights_that_are_not_finite_on_one_host_end_all(tmp_path):
  with toy_hosts.running(2, script(tmp_path, NAN)) as processes:
    codes = processes.wait()
    outputs = [processes.output(host) for host in range(2)]
  assert codes == [2, 2], outputs
  for text in outputs:
    assert '1 of 840 numbers of model.embed_tokens.weight are not' in text
