"""The experiments that come with r1jax: where they are, and the commands that
make the files which their configs name."""

import difflib
import pathlib

# Commands that fetch or make files which the experiments name, by the beginning
# of a path. Those of make need a checkout of r1jax.
MADE_BY = {
  'models/smollm2/hf': 'make models/smollm2/hf',
  'models/smollm2': 'make models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  'runs/demo/base': (
    'python -m r1jax sft --config experiments/demo_base.py '
    '--workdir runs/demo/base'
  ),
  'runs/demo_moe/base': (
    'python -m r1jax sft --config experiments/demo_moe_base.py '
    '--workdir runs/demo_moe/base'
  ),
  'runs/calculator/base': (
    'python -m r1jax sft --config experiments/calculator_base.py '
    '--workdir runs/calculator/base'
  ),
  'runs/code/base': (
    'python -m r1jax sft --config experiments/code_base.py '
    '--workdir runs/code/base'
  ),
  'runs/mini_r1': 'make mini-r1',
  'runs/word_problems': 'make word-problems DATA=DIR',
}


def how_to_get(path: str | pathlib.Path) -> str:
  """The end of an error about a file that does not exist: the command that
  fetches or makes it, or the run that has not written it yet; '' for others."""
  path = pathlib.Path(path)
  run = path.parent
  if path.name == 'model' and (run / 'config.json').exists():
    return (
      f': the run in {run} is not finished, and writes its model at the end; '
      'repeat its command'
    )
  for beginning, command in MADE_BY.items():
    if path.is_relative_to(beginning):
      return f': `{command}` makes it'
  return ''


def near(path: pathlib.Path, pattern: str = '*') -> str:
  """The end of an error about a file that does not exist: the one in its folder
  that is likely meant, or of the experiments that has its name; '' if none."""
  names = [other.name for other in find(path.parent).glob(pattern)]
  found = difflib.get_close_matches(path.name, names, 1)
  own = pathlib.Path('experiments') / path.name
  if not found and not find(own).is_file():
    return ''
  return f': did you mean {path.with_name(found[0]) if found else own}?'


def root() -> pathlib.Path:
  """The folder with the folder `experiments` that comes with r1jax: in a
  checkout its root, in a wheel r1jax/shipped."""
  package = pathlib.Path(__file__).resolve().parent
  shipped = package / 'shipped'
  return shipped if shipped.is_dir() else package.parent


def find(path: str | pathlib.Path) -> pathlib.Path:
  """The path itself; a relative one in experiments/ that does not exist is that
  of the file that comes with r1jax, if there is one."""
  path = pathlib.Path(path)
  if path.parts[:1] == ('experiments',) and not path.exists():
    shipped = root() / path
    return shipped if shipped.exists() else path
  return path
