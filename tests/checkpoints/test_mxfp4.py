"""The experts of gpt-oss are read from 4-bit blocks, each part as that of the
whole."""

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import toy_mxfp4
from toy_pretrained import assert_same_tree

from r1jax import errors
from r1jax.checkpoints import mxfp4, pretrained
from r1jax.distributed import device_placement
from r1jax.models import transformer


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """(a directory, the tensors that its experts stand for)."""
  path = tmp_path_factory.mktemp('mxfp4') / 'model'
  params = transformer.init(jax.random.key(0), toy_mxfp4.CFG)
  return path, toy_mxfp4.write_directory(path, jax.device_get(params))


def test_a_byte_has_two_numbers_the_low_one_first():
  blocks = np.zeros((1, 1, 1, 16), np.uint8)
  blocks[0, 0, 0, :2] = 0x72, 0xF9
  scales = np.array([[[128]]], np.uint8)
  index = (slice(None),) * 3
  found = mxfp4.read_part(blocks, scales, (1, 32, 1), index)
  assert found.dtype == ml_dtypes.bfloat16
  want = [2.0, 12.0, -1.0, -12.0] + [0.0] * 28
  np.testing.assert_array_equal(found[0, :, 0].astype('f'), want)


def test_experts_in_mxfp4_are_read_as_what_they_stand_for(written, tmp_path):
  path, meant = written
  params, cfg, _ = pretrained.load(path)
  assert cfg.saved_dtype == 'float32'  # of the other tensors
  pretrained.save(tmp_path / 'out', params, cfg)
  saved = safetensors.numpy.load_file(tmp_path / 'out' / 'model.safetensors')
  assert len(meant) == 4
  for name, want in meant.items():
    np.testing.assert_array_equal(saved[name], want)
  reloaded, _, _ = pretrained.load(tmp_path / 'out')
  assert_same_tree(reloaded, params)


def test_any_part_of_experts_in_mxfp4_is_read(written):
  path, _ = written
  whole, _, _ = pretrained.load(path)
  params, _, _ = pretrained.open_model(path)
  mesh = device_placement.placement(
    device_placement.ParallelConfig(strategy='mesh', tensor_parallel=2),
    jax.devices()[:4],
  )
  placed = device_placement.put_state(mesh, params['layers'])
  assert_same_tree(placed, whole['layers'])
  random = np.random.default_rng(0)
  for name in 'experts_gate_up', 'experts_down':
    leaf, want = params['layers'][name], whole['layers'][name]
    for _ in range(5):
      ends = [np.sort(random.choice(n + 1, 2, False)) for n in want.shape]
      index = tuple(slice(start, end) for start, end in ends)
      np.testing.assert_array_equal(leaf.read(index), want[index])


def test_experts_without_their_scales_are_a_user_error(tmp_path):
  params = jax.device_get(transformer.init(jax.random.key(0), toy_mxfp4.CFG))
  path = tmp_path / 'model'
  toy_mxfp4.write_directory(path, params, without=['down_proj_scales'])
  with pytest.raises(errors.UserError, match='down_proj_scales are in none'):
    pretrained.open_model(path)


def test_blocks_of_another_size_are_a_user_error():
  with pytest.raises(errors.UserError, match=r'experts, rows, blocks, 16'):
    mxfp4.shape('experts_blocks', (4, 6, 2, 8), (4, 6, 2))
