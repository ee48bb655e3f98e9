"""The real packages datasets and huggingface_hub, with a hub of this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.users

# An environment with the libraries, see `make test-users`.
PYTHON = os.environ.get('R1JAX_USERS_PYTHON', sys.executable)
HUB = Path(__file__).parent / 'toy_hub.py'
READER = """
import json, sys
from r1jax import errors
from r1jax.data import tasks
from r1jax.training import inputs

for source in sys.argv[1:]:
  try:
    records = tasks.load_records(source, 0)
    revision = inputs.of_source(source, 'records').revision
    found = len(records), dict(records[0]), revision
  except errors.UserError as error:
    found = str(error)
  print('FOUND', json.dumps(found))
"""


@pytest.fixture
def address():
  with subprocess.Popen([PYTHON, HUB], stdout=subprocess.PIPE) as process:
    yield process.stdout.readline().decode().strip()
    process.kill()


def read(address, folder, *sources):
  """What a process finds at sources: (count, first record, commit), or an
  error."""
  root = str(Path(__file__).parents[2])
  environment = os.environ | dict(
    HF_ENDPOINT=address, HF_HOME=str(folder), PYTHONPATH=root
  )
  done = subprocess.run(
    [PYTHON, '-c', READER, *sources],
    env=environment,
    capture_output=True,
    check=True,
    text=True,
  )
  lines = [x for x in done.stdout.splitlines() if x.startswith('FOUND')]
  return [json.loads(line.removeprefix('FOUND')) for line in lines]


def test_a_dataset_is_read_with_its_commit(address, tmp_path):
  whole, streamed = read(
    address,
    tmp_path,
    'hf://owner/sums?config=main&split=train',
    'hf://owner/sums?config=main&split=test&limit=2',
  )
  first = dict(id='sums/train/1', prompt='train 0', answer='0')
  assert whole == [40, first, 'a1' * 20]
  first = dict(id='sums/test/1', prompt='test 0', answer='0')
  assert streamed == [2, first, 'a1' * 20]


def test_what_does_not_exist_is_a_sentence_with_what_does(address, tmp_path):
  wrong = {
    'hf://owner/sums?split=train': "among the available configs: ['main', 'oth",
    'hf://owner/sums?config=maim&split=train': "'maim' not found",
    'hf://owner/sums?config=main': 'its splits are train, test',
    'hf://owner/sums?config=main&split=tset': "has no split 'tset'; its splits",
    'hf://owner/absent?split=train': 'there is no such dataset, or it needs a',
    'hf://owner/sums?config=main&split=test&answer=x': (
      "no column 'x', which is to be its 'answer'; its columns are question, a"
    ),
  }
  for found, part in zip(read(address, tmp_path, *wrong), wrong.values()):
    assert part in found


def test_a_hub_that_is_not_there_is_tried_again_and_is_a_sentence(tmp_path):
  (found,) = read('http://127.0.0.1:9', tmp_path, 'hf://owner/sums?split=x')
  assert 'the hub cannot be reached, also not in further tries' in found
