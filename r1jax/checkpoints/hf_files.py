"""Files of a Hugging Face directory apart from its weights, and the hub's
download."""

import json
import pathlib
import re
from typing import Any, NoReturn

import huggingface_hub

from r1jax import errors, experiment_files, files

SINGLE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
PICKLES = '.bin', '.pt', '.pth', '.ckpt'
CONVERT = (
  'can run code when they are read: convert the model to safetensors, by '
  'from_pretrained and save_pretrained of transformers'
)
# Methods by the ends of the names of their tensors.
QUANTIZED = {
  '.qweight': 'GPTQ or AWQ',
  '.qzeros': 'GPTQ or AWQ',
  '.g_idx': 'GPTQ',
  '.absmax': 'bitsandbytes',
  '.quant_map': 'bitsandbytes',
  '.SCB': 'bitsandbytes',
  '.weight_packed': 'compressed-tensors',
  '.weight_scale_2': 'ModelOpt (NVFP4)',
}
DOWNLOADED = ['*.safetensors', '*.json', '*.model', '*.jinja']


def read_config(directory: pathlib.Path) -> dict[str, Any]:
  """config.json of a model's directory. Raises UserError, which says what the
  directory is instead."""
  adapter = directory / 'adapter_config.json'
  if adapter.exists() and not _has_weights(directory):
    base = read_json(adapter).get('base_model_name_or_path')
    raise errors.UserError(
      f'{directory} is an adapter (LoRA) of {base}, not a model: merge it into '
      'that model, for example by merge_and_unload of peft, and name the merged '
      "model's directory"
    )
  path = directory / 'config.json'
  model = directory / 'model'
  if path.exists():
    config = read_json(path)
    if 'architectures' not in config and 'records' in config:
      raise errors.UserError(
        f'{directory} is the work directory of a run, not a model: name {model}'
      )
    _check_quantization(directory, config)
    return config
  ggufs = sorted(x.name for x in directory.glob('*.gguf'))
  if ggufs:
    raise errors.UserError(
      f'{directory} has no config.json, but GGUF files: name one of them, '
      f'{directory / ggufs[0]}'
    )
  if (model / 'config.json').exists():
    raise errors.UserError(
      f'{directory} has no config.json, but {model} has: name that'
    )
  raise errors.UserError(
    f'{directory} has no config.json: name the directory of a model, with '
    'config.json, the weights (*.safetensors) and the tokenizer'
  )


def check_is_gguf(path: pathlib.Path) -> None:
  """Raises UserError if a file is not a GGUF file, which says what it is."""
  files.check_is_no_pointer(path)
  with path.open('rb') as file:
    is_gguf = file.read(4) == b'GGUF'
  suffix = path.suffix.lower()
  if is_gguf or suffix not in ('.safetensors', *PICKLES, '.json', '.model'):
    return
  if suffix in PICKLES:
    raise errors.UserError(f'{path} is a file of PyTorch, which {CONVERT}')
  raise errors.UserError(
    f'{path} is one file of a model: name its directory, which has config.json, '
    'the weights (*.safetensors) and the tokenizer'
  )


def float8_blocks(config: dict[str, Any]) -> tuple[int, int] | None:
  """The rows and columns of float8 weights that have one scale; None for a
  model without float8. `config` is from read_config."""
  table = config.get('quantization_config')
  if table is None or table['quant_method'] != 'fp8':
    return None
  return tuple(table['weight_block_size'])


def _check_quantization(directory, config):
  """Raises UserError if the weights are quantized, unless to blocks of fp8 or to
  MXFP4."""
  table = config.get('quantization_config')
  is_gptq = (directory / 'quantize_config.json').exists()
  if table is None and not is_gptq:
    return
  table = table if isinstance(table, dict) else {}
  method = table.get('quant_method') or ('gptq' if is_gptq else '')
  for bits in 4, 8:
    if method in ('', 'bitsandbytes') and table.get(f'load_in_{bits}bit'):
      method = f'bitsandbytes ({bits} bits)'
  blocks = table.get('weight_block_size')
  if method == 'mxfp4':
    return
  if method == 'fp8':
    sizes = blocks if isinstance(blocks, list) else []
    if len(sizes) == 2 and all(type(x) is int and x > 0 for x in sizes):
      return
    method = f'fp8 with weight_block_size {blocks!r}'
  raise errors.UserError(
    f'{directory}: its weights are quantized by {method or "an unknown method"}'
    ' (quantization_config); r1jax reads float32, float16, bfloat16, mxfp4, and '
    'fp8 with a scale for each block (weight_block_size) there: name the model '
    'that was quantized, or a GGUF file of it'
  )


def quantized_by(tensor: str) -> str:
  """', as in models that were quantized by METHOD' for the name of a tensor of a
  quantized model that r1jax does not read, whose config.json may not say so;
  else ''."""
  for ending, method in QUANTIZED.items():
    if tensor.endswith(ending):
      return f', as in models that were quantized by {method}'
  return ''


def _has_weights(directory):
  return any((directory / name).exists() for name in (SINGLE, INDEX))


def refuse_without_weights(directory: pathlib.Path) -> NoReturn:
  """Raises UserError for a directory without safetensors files that r1jax
  reads, which says what it has."""
  pickles = [x for x in directory.iterdir() if x.suffix.lower() in PICKLES]
  if pickles:
    raise errors.UserError(
      f'{directory} has no {SINGLE}, but files of PyTorch such as '
      f'{min(pickles).name}, which {CONVERT}'
    )
  others = sorted(x.name for x in directory.glob('*.safetensors'))
  there = f' (it has {", ".join(others[:3])})' if others else ''
  raise errors.UserError(
    f'{directory} has no {SINGLE}, and no {INDEX} that names its parts{there}; '
    'r1jax reads no other format there'
  )


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The object in a JSON file."""
  if path.exists():
    files.check_is_no_pointer(path)
  with errors.explained(f'{path} is not readable JSON'):
    value = json.loads(path.read_text(encoding='utf-8'))
  if not isinstance(value, dict):
    raise errors.UserError(f'{path} must hold a JSON object')
  return value


def write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
  """Writes an object as indented JSON."""
  text = json.dumps(value, indent=2, ensure_ascii=False)
  path.write_text(text + '\n', encoding='utf-8')


def download(name: str) -> pathlib.Path:
  """The local directory of the hub's model ORG/NAME: weights and tokenizer."""
  hint = experiment_files.how_to_get(name)
  if hint or not re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', name):
    hint = hint or ': give a directory, a GGUF file, or ORG/NAME'
    raise errors.UserError(f'{name} does not exist{hint}')
  with errors.explained(f'{name} is no local path, and its download failed'):
    directory = huggingface_hub.snapshot_download(
      name, allow_patterns=DOWNLOADED, ignore_patterns=['*/*']
    )
  return pathlib.Path(directory)
