"""Tiny random DeepSeek models, computed by transformers: `python -m
golden.make_deepseek DIRECTORY` in tests/, with an interpreter that has torch and
transformers.

Writes DIRECTORY/KIND, checkpoints as transformers writes them, and
deepseek.json: their configs, 64 greedy tokens and some logits. The tests read
the deepseek.json beside this file and need no torch: weights() returns the same
tensors on every machine.
"""

import sys

import numpy as np
from golden import reference

MTP_KIND = 'v3_yarn'  # has a module of multi-token prediction
EVERY = 30  # columns have their logits in the file
SIZES = dict(
  vocab_size=61,
  max_position_embeddings=128,
  hidden_size=32,
  intermediate_size=36,
  moe_intermediate_size=12,
  num_hidden_layers=4,
  num_attention_heads=4,
  num_key_value_heads=4,
  kv_lora_rank=14,
  qk_nope_head_dim=10,
  qk_rope_head_dim=8,
  v_head_dim=6,
  n_routed_experts=16,
  num_experts_per_tok=3,
  rms_norm_eps=1e-4,
  eos_token_id=None,
)
V3 = dict(
  architecture='DeepseekV3',
  first_k_dense_replace=2,
  n_group=4,
  topk_group=2,
  n_shared_experts=1,
  routed_scaling_factor=2.5,
)
V2 = dict(
  architecture='DeepseekV2',
  first_k_dense_replace=1,
  num_hidden_layers=3,
  n_shared_experts=2,
  norm_topk_prob=False,
)


def yarn(**mscales):
  return dict(
    rope_type='yarn',
    rope_theta=500.0,
    factor=4.0,
    original_max_position_embeddings=32,
    beta_fast=8,
    beta_slow=1,
    **mscales,
  )


KINDS = dict(
  v3_yarn=V3
  | dict(q_lora_rank=18, rope_parameters=yarn(mscale=1.0, mscale_all_dim=0.5)),
  v3_halves=V3
  | dict(
    q_lora_rank=None,
    rope_interleave=False,
    rope_parameters=dict(rope_theta=500.0),
  ),
  moonlight=V3
  | dict(
    q_lora_rank=None,
    n_group=1,
    topk_group=1,
    n_shared_experts=2,
    first_k_dense_replace=1,
    routed_scaling_factor=2.446,
    rope_parameters=dict(rope_theta=500.0),
  ),
  v2=V2
  | dict(
    q_lora_rank=18,
    n_group=4,
    topk_group=2,
    topk_method='group_limited_greedy',
    routed_scaling_factor=4.0,
    rope_parameters=yarn(mscale=0.707, mscale_all_dim=0.707),
  ),
  v2_lite=V2
  | dict(
    q_lora_rank=None,
    topk_method='greedy',
    n_group=1,
    topk_group=1,
    rope_parameters=yarn(mscale=0.707, mscale_all_dim=0.707),
  ),
  glm=dict(
    architecture='Glm4MoeLite',
    q_lora_rank=18,
    v_head_dim=14,
    num_hidden_layers=3,
    n_group=1,
    topk_group=1,
    n_shared_experts=1,
    routed_scaling_factor=1.8,
    rope_parameters=dict(rope_theta=500.0),
  ),
)


def weights(shapes):
  """Random float32 arrays of the given shapes, the same on every machine."""
  random = np.random.RandomState(7)
  arrays = {}
  for name in sorted(shapes):
    mean = 1 if 'norm' in name else 0
    noise = random.standard_normal(shapes[name])
    arrays[name] = (mean + 0.2 * noise).astype(np.float32)
  return arrays


def module_shapes(shapes):
  """The tensors of a module of multi-token prediction, from those of layer 3."""
  D, module = SIZES['hidden_size'], {}
  for name in shapes:
    if '.layers.3.' in name:
      module[name.replace('.layers.3.', '.layers.4.')] = shapes[name]
  for name in 'enorm', 'hnorm', 'shared_head.norm':
    module[f'model.layers.4.{name}.weight'] = (D,)
  return module | {'model.layers.4.eh_proj.weight': (D, 2 * D)}


def module_logits(model, main, tokens):
  """The logits of the module whose weights are those of module_shapes, for the
  tokens from the second on."""
  import torch
  from transformers import modeling_layers

  shapes = module_shapes({name: a.shape for name, a in main.items()})
  arrays = {k: torch.from_numpy(a) for k, a in weights(shapes).items()}
  module = modeling_layers.MtpModel(model, 1)
  for name, parameter in module.layers[0].state_dict().items():
    name = name.removeprefix('mtp_block.')
    name = name.replace('post_norm.', 'shared_head.norm.')
    if name.startswith('mlp.experts.'):
      products = ('gate', 'up') if 'gate_up' in name else ('down',)
      value = torch.stack(
        [
          torch.cat(
            [
              arrays[f'model.layers.4.mlp.experts.{e}.{x}_proj.weight']
              for x in products
            ]
          )
          for e in range(SIZES['n_routed_experts'])
        ]
      )
    else:
      value = arrays[f'model.layers.4.{name}']
    parameter.copy_(value)
  hidden = model.model(tokens).last_hidden_state
  position = torch.arange(1, tokens.shape[1])[None]
  own = module.forward_layer(
    0, hidden[:, :-1], position, None, input_ids=tokens[:, 1:]
  )
  return model.lm_head(own)


def entry_of(kind, directory):
  """Writes the kind's checkpoint; returns its entry of deepseek.json."""
  import torch
  import transformers

  sizes = SIZES | KINDS[kind]
  architecture = sizes.pop('architecture')
  config = getattr(transformers, f'{architecture}Config')(**sizes)
  path = directory / kind
  model, arrays = reference.write_checkpoint(
    architecture, config, path, weights
  )
  tokens = reference.greedy_tokens(model)
  with torch.no_grad():
    logits = model(tokens).logits[0, ::EVERY]
    more = {}
    if kind == MTP_KIND:
      own = module_logits(model, arrays, tokens)[0, ::EVERY]
      more = dict(mtp_logits_every=reference.rounded(own))
  return more | dict(
    config=reference.read_config(path),
    tokens=tokens[0].tolist(),
    logits_every=reference.rounded(logits),
  )


if __name__ == '__main__':
  reference.write_entries(entry_of, KINDS, sys.argv[1], 'deepseek.json')
