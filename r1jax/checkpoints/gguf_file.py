"""Reads a GGUF file as a Hugging Face directory: the keys of config.json,
tensors by their Hugging Face names, and the tokenizer."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import gguf
import numpy as np

from r1jax import errors
from r1jax.checkpoints import gguf_config, gguf_tokenizer
from r1jax.checkpoints.gguf_config import GgufFile
from r1jax.data.tokenizer_protocol import Tokenizer

NAMES = dict(
  token_embd='model.embed_tokens',
  output_norm='model.norm',
  output='lm_head',
  attn_norm='input_layernorm',
  attn_q='self_attn.q_proj',
  attn_k='self_attn.k_proj',
  attn_v='self_attn.v_proj',
  attn_output='self_attn.o_proj',
  attn_q_norm='self_attn.q_norm',
  attn_k_norm='self_attn.k_norm',
  ffn_norm='post_attention_layernorm',
  ffn_gate='mlp.gate_proj',
  ffn_up='mlp.up_proj',
  ffn_down='mlp.down_proj',
  ffn_gate_inp='mlp.gate',
  attn_q_a='self_attn.q_a_proj',
  attn_q_a_norm='self_attn.q_a_layernorm',
  attn_q_b='self_attn.q_b_proj',
  attn_kv_a_mqa='self_attn.kv_a_proj_with_mqa',
  attn_kv_a_norm='self_attn.kv_a_layernorm',
  attn_kv_b='self_attn.kv_b_proj',
  ffn_gate_shexp='mlp.shared_experts.gate_proj',
  ffn_up_shexp='mlp.shared_experts.up_proj',
  ffn_down_shexp='mlp.shared_experts.down_proj',
)
GEMMA = dict(
  post_attention_norm='post_attention_layernorm',
  ffn_norm='pre_feedforward_layernorm',
  post_ffw_norm='post_feedforward_layernorm',
)
CORRECTION_BIAS = 'exp_probs_b'  # with or without the suffix .bias
EXPERTS = dict(
  ffn_gate_exps='gate_proj', ffn_up_exps='up_proj', ffn_down_exps='down_proj'
)
HEADS = dict(q_proj='num_attention_heads', k_proj='num_key_value_heads')
PART_NAME = re.compile(r'(.*)-(\d{5})-of-(\d{5})\.gguf')


class _Source(NamedTuple):
  """Where the values of a tensor are: in a tensor of the file, of which it is
  one expert's part, or in the two that kv_b is divided into."""

  tensors: tuple[Any, ...]
  expert: int | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    shape = tuple(self.tensors[0].shape[::-1].tolist())
    if len(self.tensors) == 2:
      heads, rank, key = shape
      value = int(self.tensors[1].shape[1])
      return heads * (key + value), rank
    return shape if self.expert is None else shape[1:]


class GgufReader:
  """The model in a GGUF file, or in the parts beside the first one. Arrays are
  read by `read`, not before."""

  def __init__(self, path: pathlib.Path):
    metadata, tensors = _read(path)
    count = metadata.get('split.count', 1)
    for part in _other_parts(path, count):
      tensors |= _read(part)[1]
    total = metadata.get('split.tensors.count', len(tensors))
    if len(tensors) != total:
      raise errors.UserError(
        f'{path} and its other parts have {len(tensors)} tensors, but its '
        f'metadata says {total}: the parts are not of one model'
      )
    self.path, self._metadata = path, metadata
    file = GgufFile(path, metadata, tensors)
    self.config = gguf_config.config(file)  # the keys of config.json
    tensors.pop(gguf_config.ROPE_FACTORS, None)
    self._sources = _sources(file.arch, tensors)
    self.shapes = {name: x.shape for name, x in self._sources.items()}

  def read(self, name: str) -> np.ndarray:
    """The array of a tensor, dequantized to float32."""
    source, arch = self._sources[name], self._metadata['general.architecture']
    arrays = []
    for tensor in source.tensors:
      data = (
        tensor.data if source.expert is None else tensor.data[source.expert]
      )
      with errors.explained(f'{self.path}, {name}', NotImplementedError):
        arrays.append(gguf.dequantize(data, tensor.tensor_type))
    if len(arrays) == 2:
      k_b, v_b = arrays
      joined = np.concatenate([k_b.swapaxes(1, 2), v_b], axis=1)
      return joined.reshape(source.shape)
    if arch.startswith('gemma') and name.endswith('norm.weight'):
      return arrays[0] - 1  # The file has 1 + w.
    if arch == 'llama':
      return self._unpermuted(name, arrays[0])
    return arrays[0]

  def _unpermuted(self, name, array):
    """The two of a rotary pair are neighbours in the file; Hugging Face has the
    first of all pairs before the second."""
    key = HEADS.get(name.split('.')[-2])
    if key is None:
      return array
    pairs = array.reshape(self.config[key], -1, 2, *array.shape[1:])
    return pairs.swapaxes(1, 2).reshape(array.shape)

  def tokenizer(self) -> Tokenizer | None:
    """The tokenizer; None if the file has none."""
    return gguf_tokenizer.read(self.path, self._metadata)


def _read(path):
  """(metadata, tensors by name) of one file."""
  with errors.explained(f'{path} is not a complete GGUF file'):
    reader = gguf.GGUFReader(path)
    metadata = {key: f.contents() for key, f in reader.fields.items()}
    return metadata, {tensor.name: tensor for tensor in reader.tensors}


def _other_parts(path, count):
  """The paths of the other parts of a model, of which `path` is the first."""
  if count <= 1:
    return []
  match = PART_NAME.fullmatch(path.name)
  if not match or int(match[3]) != count:
    raise errors.UserError(
      f'{path} is one of {count} parts: they must have the names '
      f'NAME-00001-of-{count:05}.gguf and so on'
    )
  if int(match[2]) != 1:
    first = path.with_name(f'{match[1]}-00001-of-{match[3]}.gguf')
    raise errors.UserError(
      f'{path} is one of {count} parts: name the first one, {first}'
    )
  names = [f'{match[1]}-{n:05}-of-{match[3]}.gguf' for n in range(2, count + 1)]
  paths = [path.with_name(name) for name in names]
  for part in paths:
    if not part.exists():
      raise errors.UserError(
        f'{path} is one of {count} parts, of which {part.name} is missing there'
      )
  return paths


def _sources(arch: str, tensors: Mapping[str, Any]) -> dict[str, _Source]:
  """The tensors of Hugging Face's checkpoint by name."""
  names = NAMES | (GEMMA if arch.startswith('gemma') else {})
  sources = {}
  for full_name, tensor in tensors.items():
    # blk.N.NAME.weight, or NAME.weight outside of the layers.
    match = re.fullmatch(r'(blk\.\d+\.)?(.*?)(\.\w+)?', full_name)
    assert match
    layer, kind, suffix = match.groups('')
    prefix = layer.replace('blk', 'model.layers')
    if kind in EXPERTS:
      for expert in range(int(tensor.shape[-1])):
        name = f'{prefix}mlp.experts.{expert}.{EXPERTS[kind]}{suffix}'
        sources[name] = _Source((tensor,), expert)
    elif kind == CORRECTION_BIAS:
      name = f'{prefix}mlp.gate.e_score_correction_bias'
      sources[name] = _Source((tensor,))
    elif kind == 'attn_k_b':
      other = tensors.get(f'{layer}attn_v_b{suffix}')
      if other is None:
        raise errors.UserError(f'{full_name} has no attn_v_b beside it')
      sources[f'{prefix}{NAMES["attn_kv_b"]}{suffix}'] = _Source(
        (tensor, other)
      )
    elif kind != 'attn_v_b':
      sources[prefix + names.get(kind, kind) + suffix] = _Source((tensor,))
  return sources
