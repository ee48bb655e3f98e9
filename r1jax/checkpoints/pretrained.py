"""Checkpoints of Llama, Qwen2 and Qwen3 (Hugging Face directories, GGUF files,
names on the hub) into params and back."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import safetensors.numpy

from r1jax import errors
from r1jax.checkpoints import gguf_file, hf_files, tokenization
from r1jax.models import hf_config, transformer

DTYPES = ('float32', 'bfloat16', 'float16')
WRITTEN = {
  'config.json',
  'generation_config.json',
  'model.safetensors',
  'reward.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
}


def load(path, dtype='float32'):
  """(params, cfg, tokenizer) of a directory, a GGUF file or a name ORG/NAME.

  params are numpy arrays of `dtype` in host memory: whoever uses them places
  them. The tokenizer is None where the checkpoint has none.
  """
  if dtype not in DTYPES:
    raise errors.UserError(
      f'{dtype!r} is no dtype of weights: take one of {", ".join(DTYPES)}'
    )
  source = pathlib.Path(path)
  if not source.exists():
    source = hf_files.download(str(path))
  if source.is_dir():
    config = hf_files.read_json(source / 'config.json')
    tensors, tok = hf_files.tensors(source), tokenization.load(source)
  else:
    config, tensors, words = gguf_file.read(source)
    tok = words and tokenization.HFTokenizer(
      words[0], tokenization.Settings(**words[1])
    )
  cfg = hf_config.model_config(config, source)
  if tok and tok.vocab_size > cfg.vocab_size:
    raise errors.UserError(
      f'{source}: its tokenizer has {tok.vocab_size} ids, its model only '
      f'{cfg.vocab_size}'
    )
  if tok:
    cfg = dataclasses.replace(cfg, real_vocab=tok.vocab_size)
  return _read_params(source, tensors, cfg, dtype), cfg, tok


def save(path, params, cfg, tok=None, reward=None):
  """Write a directory that transformers opens, beside `path`, then rename.

  `reward` is what reward.json holds, which says what a score means.
  """
  path = pathlib.Path(path).absolute()
  if path.exists() and (
    not path.is_dir() or {p.name for p in path.iterdir()} - WRITTEN
  ):
    raise errors.UserError(
      f'{path} holds more than an exported model: choose another directory'
    )
  new, old = (path.with_name(f'.{path.name}.{end}') for end in ('new', 'old'))
  for rest in (new, old):
    shutil.rmtree(rest, ignore_errors=True)
  new.mkdir(parents=True)
  params = jax.tree.map(np.asarray, params)

  def write(name, value):
    (new / name).write_text(json.dumps(value, indent=2) + '\n')

  write('config.json', hf_config.config_json(cfg, params['embed'].dtype, tok))
  arrays = {
    name: np.ascontiguousarray(view(params)).reshape(shape)
    for name, shape, view in tensors_of(cfg)
  }
  safetensors.numpy.save_file(
    arrays, new / 'model.safetensors', metadata=dict(format='pt')
  )
  if tok:
    tok.save(new)
    write('generation_config.json', dict(eos_token_id=list(tok.eos_ids)))
  if reward:
    write('reward.json', reward)
  if path.exists():
    os.rename(path, old)
  os.rename(new, path)
  shutil.rmtree(old, ignore_errors=True)


def tensors_of(cfg):
  """(name, shape, view) of each Hugging Face tensor: view(params) is the part
  of params it fills, its axes in order but heads and channels apart."""
  D, C, F, V = cfg.width, cfg.head_dim, cfg.ffn, cfg.vocab_size
  G, HC, KC = cfg.heads // cfg.kv_heads, cfg.heads * C, cfg.kv_heads * C
  same, first_last, last_first = (0, 0), (0, -1), (-1, 0)
  q, k, v = np.s_[:, :, :G], np.s_[:, :, G], np.s_[:, :, G + 1]
  rows = [
    ('input_layernorm.weight', (D,), 'norm1', ..., same),
    ('self_attn.q_proj.weight', (HC, D), 'qkv', q, first_last),
    ('self_attn.k_proj.weight', (KC, D), 'qkv', k, first_last),
    ('self_attn.v_proj.weight', (KC, D), 'qkv', v, first_last),
    ('self_attn.o_proj.weight', (D, HC), 'out', ..., last_first),
    ('post_attention_layernorm.weight', (D,), 'norm2', ..., same),
    ('mlp.gate_proj.weight', (F, D), 'gate_up', np.s_[:, 0], first_last),
    ('mlp.up_proj.weight', (F, D), 'gate_up', np.s_[:, 1], first_last),
    ('mlp.down_proj.weight', (D, F), 'down', ..., first_last),
  ]
  if cfg.qkv_bias:
    rows += [
      ('self_attn.q_proj.bias', (HC,), 'qkv_bias', q[1:], same),
      ('self_attn.k_proj.bias', (KC,), 'qkv_bias', k[1:], same),
      ('self_attn.v_proj.bias', (KC,), 'qkv_bias', v[1:], same),
    ]
  if cfg.qk_norm:
    rows += [
      ('self_attn.q_norm.weight', (C,), 'q_norm', ..., same),
      ('self_attn.k_norm.weight', (C,), 'k_norm', ..., same),
    ]
  yield 'model.embed_tokens.weight', (V, D), lambda p: p['embed']
  yield 'model.norm.weight', (D,), lambda p: p['norm']
  if not cfg.tie_embeddings:
    yield 'lm_head.weight', (V, D), lambda p: p['head']
  if cfg.score:
    yield 'score.weight', (1, D), lambda p: p['score']
  for n in range(cfg.layers):
    for name, shape, *where in rows:
      view = functools.partial(_layer_view, n, *where)
      yield f'model.layers.{n}.{name}', shape, view


def _layer_view(n, leaf, part, axes, params):
  return np.moveaxis(params['layers'][leaf][n][part], *axes)


def _read_params(source, tensors, cfg, dtype):
  """Check every tensor's name and shape, then read them one by one."""
  known = {'lm_head.weight'}  # some store a tied head all the same
  for name, shape, _ in tensors_of(cfg):
    known.add(name)
    if name not in tensors:
      raise errors.UserError(f'{source} lacks the tensor {name}')
    if tensors[name][0] != shape:
      raise errors.UserError(
        f'{source}: {name} has the shape {list(tensors[name][0])}, but its '
        f'config asks for {list(shape)}'
      )
  frequencies = {name for name in tensors if name.endswith('.inv_freq')}
  unknown = sorted(tensors.keys() - known - frequencies)
  if unknown:
    raise errors.UserError(
      f'{source} has {len(unknown)} tensors that its config does not explain, '
      f'the first is {unknown[0]}'
    )
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  params = jax.tree.map(lambda a: np.empty(a.shape, dtype), shapes)
  for name, _, view in tensors_of(cfg):
    out = view(params)
    out[...] = tensors[name][1]().reshape(out.shape)
  return params
