"""Checkpoints (Hugging Face directories, GGUF files, names on the hub) into
params and back."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from r1jax import errors, files
from r1jax.checkpoints import (
  export,
  gguf_file,
  hf_files,
  safetensors_file,
  text_part,
  tokenization,
  unread,
  user_family,
)
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import hosts, watchdog
from r1jax.models import moe, registry, transformer
from r1jax.models.model_config import ModelConfig

MAX_FILE_BYTES = 5 * 10**9  # of the weights, as transformers writes them
ROWS = 8192  # of an embedding that are compared at one time
# Tokens that a tokenizer may have beyond the embeddings of its model.
MAX_EXTRA_IDS = 8


def load(
  path: str | Path, families: Mapping[str, str] = {}, keep_mtp: bool = False
) -> tuple[dict, ModelConfig, Tokenizer | None]:
  """(params, cfg, tokenizer) as open_model has them; params are float32 numpy
  arrays in host memory."""
  params, cfg, tokenizer = open_model(path, families, keep_mtp)
  return jax.tree.map(np.asarray, params), cfg, tokenizer


def open_model(
  path: str | Path, families: Mapping[str, str] = {}, keep_mtp: bool = False
) -> tuple[dict, ModelConfig, Tokenizer | None]:
  """(params, cfg, tokenizer) of a directory, a GGUF file, or a name ORG/NAME on
  the hub. A directory of one of the architectures `families` is read by the
  user's function.

  The names and shapes of all tensors are checked. The leaves of params are not
  read yet: device_placement.put_state reads what the devices of this process
  hold. With keep_mtp they have the module of multi-token prediction.
  """
  files.check_local(path, 'the model')
  source = Path(path)
  if not source.exists():
    source = hf_files.download(str(path))
  reader: user_family.Reader
  if source.is_dir():
    config = hf_files.read_config(source)
    blocks = hf_files.float8_blocks(config)
    reader = safetensors_file.SafetensorsReader(source, blocks)
    tokenizer = tokenization.load(source)
    config, reader = user_family.translate(families, source, config, reader)
    config, reader = text_part.translate(source, config, reader)
  else:
    hf_files.check_is_gguf(source)
    gguf = gguf_file.GgufReader(source)
    reader = user_family.WholeTensors(gguf)
    config, tokenizer = gguf.config, gguf.tokenizer()
  cfg = registry.model_config(config, source)
  has_mtp = f'model.layers.{cfg.layers}.eh_proj.weight' in reader.shapes
  if has_mtp and not cfg.mtp_layers:  # a config that forgot them
    cfg = dataclasses.replace(cfg, mtp_layers=1)
  if keep_mtp:
    cfg = _with_mtp(source, cfg, has_mtp)
  if cfg.tie_embeddings and not cfg.score and _has_own_head(reader, source):
    cfg = dataclasses.replace(cfg, tie_embeddings=False)
  if tokenizer:
    ids, limit = tokenizer.vocab_size, cfg.vocab_size
    if ids > limit + MAX_EXTRA_IDS:
      raise errors.UserError(
        f'{source}: its tokenizer has {ids} ids, its model only {limit}: they '
        'do not belong together; take the tokenizer of this model'
      )
    if ids > limit:
      tokenizer = tokenization.LimitedTokenizer(tokenizer, limit)
      extra = [tokenizer.decode([i]) for i in range(limit, ids)]
      print(
        f'{source}: the model has no embedding of the last {ids - limit} tokens '
        f'of its tokenizer: {errors.printable(" ".join(extra))}',
        flush=True,
      )
    cfg = dataclasses.replace(cfg, real_vocab=min(ids, limit))
  params = _unread_params(source, reader, cfg)
  saved_dtype = reader.dtype(params['embed'].tensors[0].name)
  cfg = dataclasses.replace(cfg, saved_dtype=saved_dtype)
  return params, cfg, tokenizer


def save_result(
  workdir: Path,
  params: dict,
  cfg: ModelConfig,
  tokenizer: Tokenizer,
  export_dtype: str,
  reward: dict | None = None,
) -> None:
  """Writes the model of a run to workdir/model by save(), in the dtype of
  config.export_dtype; 'auto' is bfloat16 if the run began with a checkpoint in
  bfloat16 or float8, else float32."""
  dtype = export_dtype
  if dtype == 'auto':
    dtype = 'bfloat16' if cfg.saved_dtype == 'bfloat16' else 'float32'
  if dtype != 'float32':
    print(
      f'{workdir / "model"} has weights rounded to {dtype}; the float32 weights '
      f'are in {workdir / "checkpoints"}, and in the model with '
      'config.export_dtype=float32',
      flush=True,
    )
  save(workdir / 'model', params, cfg, tokenizer, reward, dtype)


def _with_mtp(source, cfg, has_mtp):
  if cfg.mtp_layers != 1 or not has_mtp:
    raise errors.UserError(
      f'{source} is not a model with one module of multi-token prediction '
      '(num_nextn_predict_layers): set config.compute.keep_mtp to False'
    )
  return dataclasses.replace(cfg, keep_mtp=True)


def save(
  path: str | Path,
  params: dict,
  cfg: ModelConfig,
  tokenizer: Tokenizer | None = None,
  reward: dict | None = None,
  dtype: str | None = None,
  max_file_bytes: int = 0,
) -> None:
  """Writes a Hugging Face directory atomically. A collective on several hosts,
  which write its files together if they share the directory.

  The params are arrays of the host or of the devices. They are gathered, checked
  and written one by one, so that a host never holds the model; the files have at
  most max_file_bytes, or MAX_FILE_BYTES. `reward` is the content of
  reward.json (see rewards/reward_model.py); dtype is by default that of the
  params. Raises UserError for weights that are not finite, and Terminated after
  SIGTERM.
  """
  files.check_local(path, 'the directory for the model')
  path = Path(path).absolute()
  new = path.with_name(f'.{path.name}.new')
  kind = np.dtype(dtype or params['embed'].dtype)
  params = jax.tree.map(_in_memory, params)
  tensors = {x.name: x for x in registry.family_of(cfg).hf_tensors(cfg)}
  entries = {name: _entry(tensor, kind) for name, tensor in tensors.items()}
  by_file = safetensors_file.shards(entries, max_file_bytes or MAX_FILE_BYTES)
  hosts.run_once(lambda: _make_directory(path, new))
  try:
    export.write_weights(new, params, tensors, by_file)

    def finish():
      safetensors_file.write_index(new, by_file)
      _write_settings(new, cfg, kind, tokenizer, reward)
      new.rename(path)

    hosts.run_once(finish)
  except BaseException:
    if hosts.index() == 0:  # The disk may be full of it.
      shutil.rmtree(new, ignore_errors=True)
    raise


def _entry(tensor, dtype):
  """The shape and dtype of a tensor in a model of `dtype`. Correction biases are
  float32 in all of them: rounded ones would choose other experts."""
  if tensor.leaf == moe.BIAS:
    dtype = np.dtype(np.float32)
  return jax.ShapeDtypeStruct(tensor.shape, dtype)


def _in_memory(leaf):
  return np.asarray(leaf) if isinstance(leaf, unread.UnreadLeaf) else leaf


def _make_directory(path, new):
  if path.is_file() or (path.exists() and any(path.iterdir())):
    raise errors.UserError(f'{path} is not empty: choose another directory')
  shutil.rmtree(new, ignore_errors=True)  # left by a run that was killed here
  new.mkdir(parents=True)


def _write_settings(folder, cfg, dtype, tokenizer, reward):
  """Writes the files of a model apart from its weights."""
  eos_ids = tokenizer.eos_ids if tokenizer else None
  config = registry.config_json(cfg, dtype, eos_ids)
  hf_files.write_json(folder / 'config.json', config)
  if tokenizer:
    tokenizer.save(folder)
    generation = dict(eos_token_id=tokenizer.eos_ids)
    hf_files.write_json(folder / 'generation_config.json', generation)
  if reward:
    hf_files.write_json(folder / 'reward.json', reward)


def _unread_params(source, reader, cfg):
  """The params, after a check of the names and shapes of all tensors."""
  known = {'lm_head.weight'}  # in the files of some tied models too
  for tensor in registry.family_of(cfg).hf_tensors(cfg):
    known.add(tensor.name)
    if tensor.name not in reader.shapes:
      raise errors.UserError(
        f'{source} lacks the tensor {tensor.name}, which its config requires: '
        'take another copy of the model, or correct config.json'
      )
    shape = reader.shapes[tensor.name]
    if shape != tensor.shape:
      raise errors.UserError(
        f'{source}: {tensor.name} has the shape {list(shape)}, but its config '
        f'requires {list(tensor.shape)}: config.json is of another model'
      )
  extra = sorted(reader.shapes.keys() - known)
  skipped = cfg.skipped_tensors
  extra = [
    name
    for name in extra
    if not name.endswith('.inv_freq') and not name.startswith(skipped)
  ]
  if extra:
    raise errors.UserError(
      f'{source} has tensors ({len(extra)}) that are not of its config, e.g. '
      f'{extra[0]}: config.json is of another model, or another kind of it'
    )
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  tensors = registry.family_of(cfg).hf_tensors(cfg)
  return unread.leaves(source, reader, tensors, shapes)


def _has_own_head(reader, source):
  """Whether a checkpoint whose config ties the output head to the embedding has
  another head. Then it is used, as transformers does from version 5 on."""
  names = 'lm_head.weight', 'model.embed_tokens.weight'
  if not reader.shapes.keys() >= set(names):
    return False
  shape = reader.shapes[names[0]]
  if shape == reader.shapes[names[1]]:
    for start in range(0, shape[0], ROWS):
      watchdog.heartbeat()
      index = np.s_[start : start + ROWS, :]
      head, embed = (reader.read_part(x, shape, index) for x in names)
      if not np.array_equal(head, embed):
        break
    else:
      return False
  print(
    f'{source}: lm_head.weight differs from the embedding, so it is used '
    'although config.json has tie_word_embeddings',
    flush=True,
  )
  return True
