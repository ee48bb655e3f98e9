"""The kinds of layers are those of transformers, and survive an export."""

import numpy as np
import pytest
import toy_pretrained

from r1jax import errors
from r1jax.models import hf_config, registry

SLIDING, FULL = hf_config.SLIDING, hf_config.FULL


def read(family, **changes):
  config = toy_pretrained.GOLDEN[family]['config'] | changes
  return registry.model_config(config, 'config.json')


def windows(cfg):
  return [kind.window for kind in cfg.layer_kinds]


@pytest.mark.parametrize(
  'family, changes, want',
  [
    ('mistral', {}, [9, 9, 9]),
    ('mistral', dict(sliding_window=None), [0, 0, 0]),
    ('qwen2_window', {}, [0, 11, 11]),
    ('qwen2_window', dict(layer_types=None, max_window_layers=2), [0, 0, 11]),
    ('qwen2_window', dict(layer_types=[SLIDING, FULL, SLIDING]), [11, 0, 11]),
    ('qwen2', dict(use_sliding_window=False, sliding_window=5), [0, 0, 0]),
    ('gemma2', dict(layer_types=None), [7, 0, 7]),
    ('gemma3', dict(layer_types=None, sliding_window_pattern=6), [7, 7, 7]),
    ('gemma3', dict(layer_types=None, sliding_window_pattern=2), [7, 0, 7]),
    ('olmo3', dict(layer_types=None), [7, 7, 7]),
  ],
)
def test_windows_are_read_and_written(family, changes, want):
  cfg = read(family, **changes)
  assert windows(cfg) == want
  written = registry.config_json(cfg, np.dtype('float32'))
  assert registry.model_config(written, '') == cfg


def test_layers_without_rope_are_every_fourth_or_those_of_a_list():
  def has_rope(**changes):
    kinds = read('smollm3', layer_types=None, **changes).layer_kinds
    return [kind.rope is not None for kind in kinds]

  assert has_rope() == [True, False, True]
  assert has_rope(no_rope_layers=None) == [True, True, True]
  interval = dict(no_rope_layers=None, no_rope_layer_interval=2)
  assert has_rope(**interval) == [True, False, True]
  assert windows(
    read('smollm3', layer_types=None, use_sliding_window=True, sliding_window=6)
  ) == [0, 6, 0]


@pytest.mark.parametrize(
  'family, changes, message',
  [
    ('qwen2', dict(layer_types=[FULL]), 'but the model has 3 layers'),
    ('qwen2', dict(layer_types='full'), 'but the model has 3 layers'),
    ('qwen2', dict(layer_types=['chunked'] * 3), 'r1jax reads full_attention'),
    ('qwen2', dict(layer_types=[SLIDING] * 3), 'there are layers of sliding'),
    ('qwen2', dict(num_hidden_layers=10**9), 'reads at most 10000'),
    ('mistral', dict(layer_types=[FULL] * 3), 'layer_types'),
    ('mistral', dict(sliding_window=-3), 'sliding_window -3'),
    ('qwen3_moe', dict(num_experts=6.0), 'num_experts 6.0, .* an integer'),
    ('smollm3', dict(no_rope_layers=[1]), 'must be a list of 3 numbers'),
    ('smollm3', dict(no_rope_layers=[0] * 3), 'needs a layer with rope'),
    ('gemma2', dict(hidden_activation='gelu'), "hidden_activation 'gelu'"),
    ('gemma2', dict(attention_bias=True), 'attention_bias'),
    ('gemma3', dict(attn_logit_softcapping=5.0), 'attn_logit_softcapping'),
    ('gemma3', dict(use_bidirectional_attention=True), 'bidirectional'),
    (
      'gemma3',
      dict(
        rope_parameters=dict(
          full_attention={}, sliding_attention=dict(type='linear', factor=2.0)
        )
      ),
      'does not scale sliding_attention',
    ),
    (
      'olmo3',
      dict(
        rope_parameters=dict(
          full_attention=dict(rope_theta=5.0),
          sliding_attention=dict(rope_theta=6.0),
        )
      ),
      'needs one rope_theta',
    ),
  ],
)
def test_layers_that_are_not_supported_are_named(family, changes, message):
  with pytest.raises(errors.UserError, match=message):
    read(family, **changes)
