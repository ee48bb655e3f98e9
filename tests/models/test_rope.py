"""Rotary embedding has the frequencies of transformers (golden/rope.json,
written by golden/make_rope.py), and its settings survive an export."""

import json
import math
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from golden import make_convert

from r1jax import errors
from r1jax.models import hf_rope, rope
from r1jax.models.hf_config import HfConfig

GOLDEN = json.loads(
  pathlib.Path(make_convert.__file__).with_name('rope.json').read_text()
)
# config.json of R1-0528-Qwen3-8B.
R1_QWEN3 = dict(
  head_dim=128,
  max_position_embeddings=131072,
  rope_theta=1e6,
  rope_scaling=dict(
    rope_type='yarn',
    factor=4.0,
    original_max_position_embeddings=32768,
    attn_factor=0.8782488562869419,
  ),
)


def read(config, **changes):
  hf = HfConfig(config | changes, 'config.json')
  return hf_rope.read(hf, config['head_dim'])


@pytest.mark.parametrize('name', GOLDEN)
def test_frequencies_and_attention_factor_are_those_of_transformers(name):
  entry = GOLDEN[name]
  setting = read(entry['config'])
  channels = entry['config']['head_dim']
  got = setting.frequencies(channels)
  np.testing.assert_allclose(got, entry['frequencies'], rtol=1e-6)
  cos, _ = rope.cos_sin(setting, channels, jnp.zeros((1, 1), jnp.int32))
  np.testing.assert_allclose(cos, np.float32(entry['attention']), rtol=1e-6)


@pytest.mark.parametrize('name', GOLDEN)
def test_written_settings_are_read_as_they_were(name):
  config = GOLDEN[name]['config']
  setting = read(config)
  written = hf_rope.written(setting)
  kept = {k: v for k, v in config.items() if k != 'rope_parameters'}
  assert read(kept | written) == setting
  # transformers 4 and 5 read these; partial_rotary_factor was a key of its own.
  assert 'partial_rotary_factor' not in (written['rope_scaling'] or {})


def test_yarn_of_deepseek_v3_keeps_ten_pairs_and_divides_those_from_23_on():
  """The numbers of DeepSeek-V3: d = 64, theta = 10000, L0 = 4096, factor 40."""
  setting = read(GOLDEN['yarn_deepseek']['config'])
  got = setting.frequencies(64)
  want = {0: 1, 10: 0.0562341, 11: 0.0390069, 16: 0.0055, 22: 1.77828e-4}
  for i, value in (want | {23: 3.3338e-5, 31: 3.3338e-6}).items():
    assert got[i] == pytest.approx(value, rel=1e-5)
  assert setting.scaling.attention == 1


def test_attn_factor_multiplies_the_default_and_is_written_for_transformers():
  """R1-0528-Qwen3-8B has the reciprocal of 0.1 ln(4) + 1: cos and sin are not
  scaled. transformers reads attention_factor alone."""
  setting = read(R1_QWEN3)
  assert setting.scaling.attention == pytest.approx(1, abs=1e-7)
  written = hf_rope.written(setting)['rope_scaling']
  assert written['attention_factor'] == setting.scaling.attention
  assert written['attn_factor'] == R1_QWEN3['rope_scaling']['attn_factor']
  plain = dict(R1_QWEN3['rope_scaling'], attn_factor=None)
  scaling = read(R1_QWEN3, rope_scaling=plain).scaling
  assert scaling.attention == 0.1 * math.log(4) + 1


def test_longrope_is_chosen_by_the_max_length_of_the_model_not_of_a_row():
  config = GOLDEN['longrope_long']['config']
  settings = config['rope_parameters']
  plain = 10000.0 ** (-np.arange(6) / 6)
  for max_len, key in (32, 'short_factor'), (33, 'long_factor'):
    setting = read(config, max_position_embeddings=max_len)
    np.testing.assert_allclose(
      setting.frequencies(16), plain / settings[key], rtol=1e-6
    )
  # As Phi-3 has it: the original length outside of the settings.
  outer = {k: v for k, v in settings.items() if 'original' not in k}
  outer |= dict(rope_type=None, type='su')
  moved = read(
    config, rope_parameters=outer, original_max_position_embeddings=32
  )
  assert moved == read(config)


def test_partial_rotary_embedding_leaves_the_last_channels():
  x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 5, 8)))
  pos_BT = jnp.array([[0, 1, 2], [7, 8, 9]])
  table = rope.cos_sin(rope.Rope(partial=0.75), 8, pos_BT)
  assert table[0].shape == (2, 3, 3)
  out = rope.rotate(x, table)
  np.testing.assert_array_equal(out[..., 6:], x[..., 6:])
  alone = rope.cos_sin(rope.Rope(), 6, pos_BT)
  np.testing.assert_array_equal(out[..., :6], rope.rotate(x[..., :6], alone))


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(partial_rotary_factor=0.7), 'factor 0.7 of 16 channels are 11'),
    (dict(partial_rotary_factor=0.1), 'channels are 1'),
    (dict(partial_rotary_factor=1.5), 'from 2 to 16'),
    (dict(rope_scaling=dict(type='ntk')), "'ntk'; supported are default, lin"),
    (
      dict(rope_scaling=dict(type='yarn', mrope_section=[1])),
      'have mrope_section .*rope type yarn, which does not use it',
    ),
    (dict(rope_scaling=dict(type='linear')), 'has no factor, which'),
    (dict(rope_scaling=dict(type='yarn', factor=-1)), 'factor -1'),
    (
      dict(rope_scaling=dict(type='longrope', long_factor=[1.0] * 8)),
      'no short_factor, which must be a list',
    ),
    (
      dict(rope_scaling=dict(type='longrope', short_factor=[1.0, 'a'])),
      r"short_factor\[1\] 'a'",
    ),
    (
      dict(
        rope_scaling=dict(
          type='longrope', short_factor=[1.0] * 8, long_factor=[1.0] * 6
        )
      ),
      '6 numbers in long_factor, but a head has 8 pairs',
    ),
  ],
)
def test_settings_that_are_not_supported_are_named(changes, message):
  with pytest.raises(errors.UserError, match=message):
    read(dict(head_dim=16, max_position_embeddings=64), **changes)
