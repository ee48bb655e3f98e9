"""What the scripts that run transformers have in common: a checkpoint with
weights that are the same on every machine, its greedy tokens, and the file of
all entries."""

import json
import pathlib

PROMPT = [3, 17, 60, 1, 42, 8, 29]


def write_checkpoint(architecture, config, directory, weights, **options):
  """(the model, float32, of a checkpoint with random weights, its arrays).
  `weights` makes them from {name: shape}; `options` are of from_pretrained."""
  import safetensors.numpy
  import torch
  import transformers

  make = getattr(transformers, f'{architecture}ForCausalLM')
  make(config).save_pretrained(directory)
  # The tensors of the file: those of experts are one in the model.
  path = directory / 'model.safetensors'
  arrays = safetensors.numpy.load_file(path)
  arrays = weights({name: list(a.shape) for name, a in arrays.items()})
  safetensors.numpy.save_file(arrays, path, metadata=dict(format='pt'))
  model = make.from_pretrained(directory, dtype=torch.float32, **options)
  return model.eval(), arrays


def greedy_tokens(model):
  """PROMPT and 64 greedy tokens, as a torch tensor [1, T]."""
  import torch

  return model.generate(
    torch.tensor([PROMPT]),
    do_sample=False,
    max_new_tokens=64,
    min_new_tokens=64,
    pad_token_id=0,
  )


def rounded(logits):
  """A torch tensor as lists of numbers with six digits after the point."""
  return logits.double().numpy().round(6).tolist()


def read_config(directory):
  return json.loads((directory / 'config.json').read_text())


def write_entries(entry_of, names, directory, file):
  """Writes DIRECTORY/FILE with entry_of(name, DIRECTORY) of every name."""
  directory = pathlib.Path(directory)
  entries = {name: entry_of(name, directory) for name in names}
  lines = (f'"{name}": {json.dumps(x)}' for name, x in entries.items())
  text = '{\n' + ',\n'.join(lines) + '\n}\n'
  (directory / file).write_text(text)
