"""Writes a model as a GGUF file, which llama.cpp and r1jax open."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import gguf
import jax
import ml_dtypes
import numpy as np

from r1jax import errors, files
from r1jax.checkpoints import (
  gguf_config,
  gguf_file,
  gguf_metadata,
  gguf_vocabulary,
  unread,
)
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import watchdog
from r1jax.models import registry
from r1jax.models.hf_tensor import HfTensor
from r1jax.models.model_config import ModelConfig

Dtype = Literal['float32', 'bfloat16', 'float16']


class Kind(NamedTuple):
  """How the numbers of a tensor are stored."""

  dtype: Any  # of numpy
  ggml: gguf.GGMLQuantizationType
  file: gguf.LlamaFileType


KINDS: dict[str, Kind] = dict(
  float32=Kind(
    np.float32, gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32
  ),
  float16=Kind(
    np.float16, gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16
  ),
  bfloat16=Kind(
    ml_dtypes.bfloat16,
    gguf.GGMLQuantizationType.BF16,
    gguf.LlamaFileType.MOSTLY_BF16,
  ),
)
EXPERT = re.compile(r'mlp\.experts\.\d+\.(\w+)')


class GgufTensor(NamedTuple):
  """A tensor of a file, made of one of Hugging Face's, or of one for each
  expert."""

  name: str
  parts: list[HfTensor]
  shape: tuple[int, ...]
  kind: Kind


def save(
  path: Path,
  params: dict,
  cfg: ModelConfig,
  tokenizer: Tokenizer | None,
  dtype: Dtype,
  part_bytes: int = 0,
  more: Mapping[str, Any] = {},
) -> None:
  """Writes the file, or with part_bytes parts of at most as many bytes, named
  NAME-00001-of-00003.gguf. `more` is added to its metadata. Vectors and routers
  are float32 in all files. Raises UserError for models and tokenizers that a
  file cannot hold, and for weights that are not finite."""
  metadata = {**gguf_metadata.metadata(cfg), **more}
  if tokenizer:
    metadata |= gguf_vocabulary.metadata(tokenizer, cfg.vocab_size)
  metadata['general.file_type'] = int(KINDS[dtype].file)
  metadata['general.quantization_version'] = gguf.GGML_QUANT_VERSION
  arch = metadata.pop('general.architecture')
  writer = gguf.GGUFWriter(path, arch, split_max_size=part_bytes)
  for key, value in metadata.items():
    _add(writer, key, value)
  factors = gguf_metadata.rope_factors(cfg)
  if factors is not None:
    writer.add_tensor_info(
      gguf_config.ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes
    )
  tensors = _tensors(cfg, arch, KINDS[dtype])
  for tensor in tensors:
    size = int(np.prod(tensor.shape)) * np.dtype(tensor.kind.dtype).itemsize
    writer.add_tensor_info(
      tensor.name, tensor.shape, np.dtype(np.uint16), size, tensor.kind.ggml
    )
  params = jax.tree.map(np.asarray, params)
  with files.named(path):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
      writer.write_tensor_data(factors)
    for tensor in tensors:
      watchdog.heartbeat()
      array = _array(params, tensor, arch, cfg)
      unread.check_finite(array, f'the model for {path}', tensor.name)
      writer.write_tensor_data(array)
    writer.close()


def _add(writer, key, value):
  """Adds an entry of the metadata, of the type of its value."""
  kinds = {
    bool: gguf.GGUFValueType.BOOL,
    int: gguf.GGUFValueType.UINT32,
    float: gguf.GGUFValueType.FLOAT32,
    str: gguf.GGUFValueType.STRING,
  }
  if isinstance(value, list):
    writer.add_array(key, value)
  else:
    writer.add_key_value(key, value, kinds[type(value)])


def _tensors(cfg, arch, kind):
  """The tensors of a file, in the order of the layers."""
  parts: dict[str, list[HfTensor]] = {}
  for tensor in registry.family_of(cfg).hf_tensors(cfg):
    parts.setdefault(_name(tensor.name, arch), []).append(tensor)
  tensors = []
  for name, own in parts.items():
    is_stack = '_exps.' in name
    shape = (len(own), *own[0].shape) if is_stack else own[0].shape
    is_float32 = len(own[0].shape) == 1 or 'ffn_gate_inp' in name
    tensors.append(
      GgufTensor(name, own, shape, KINDS['float32'] if is_float32 else kind)
    )
  return tensors


def _name(name, arch):
  """The name in llama.cpp of a tensor of Hugging Face."""
  names = gguf_file.NAMES | (
    gguf_file.GEMMA if arch.startswith('gemma') else {}
  )
  by_hf = {hf: own for own, hf in names.items()}
  by_hf |= {hf: own for own, hf in gguf_file.EXPERTS.items()}
  match = re.fullmatch(r'(model\.layers\.\d+\.)?(.*)\.(\w+)', name)
  assert match, name
  layer, kind, suffix = match.groups('')
  expert = EXPERT.fullmatch(kind)
  kind = by_hf[expert[1] if expert else kind]
  return f'{layer.replace("model.layers", "blk")}{kind}.{suffix}'


def _array(params, tensor, arch, cfg):
  """The numbers of a tensor of the file."""
  arrays = [part.written(part.view(params)) for part in tensor.parts]
  array = np.stack(arrays) if '_exps.' in tensor.name else arrays[0]
  if arch.startswith('gemma') and tensor.name.endswith('norm.weight'):
    array = array + np.float32(1)
  if arch == 'llama':
    array = _permuted(array, tensor.name, cfg)
  # A number beyond float16 becomes infinite, which is then refused.
  with np.errstate(over='ignore'):
    return np.ascontiguousarray(array, tensor.kind.dtype)


def _permuted(array, name, cfg):
  """The rows of queries and keys as files of the llama architecture have them:
  the two of a rotary pair are neighbours."""
  heads = {'attn_q': cfg.heads, 'attn_k': cfg.kv_heads}
  kind = name.split('.')[-2]
  if kind not in heads:
    return array
  halves = array.reshape(heads[kind], 2, -1, *array.shape[1:])
  return halves.swapaxes(1, 2).reshape(array.shape)


def paths(path: Path) -> list[Path]:
  """The files that save() has written to `path`, of which the first is the one
  to open."""
  if path.exists():
    return [path]
  found = sorted(path.parent.glob(f'{path.stem}-*-of-*{path.suffix}'))
  if not found:
    raise errors.UserError(f'there is no GGUF file {path}')
  return found
