"""Phi-4 as a Llama: config.compute.families.Phi3ForCausalLM=FILE.py:phi4. Its
files hold q, k, v as one matrix, and gate, up as another."""

import numpy as np


def phi4(config, tensors):
  assert config.get('sliding_window') is None, 'Phi-3 has another attention'
  q_rows, kv_rows = config['hidden_size'], config['num_key_value_heads']
  kv_rows *= q_rows // config['num_attention_heads']
  for name in list(tensors):
    for parts, cuts in (('qkv', [q_rows, q_rows + kv_rows]), ('gate_up', 2)):
      if f'{parts}_proj' in name:
        split = np.split(tensors.pop(name), cuts)
        for part, array in zip(parts.split('_') if cuts == 2 else parts, split):
          tensors[name.replace(parts, part)] = array
  return config | dict(architectures=['LlamaForCausalLM']), tensors
