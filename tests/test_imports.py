"""Which package may import which. A package is named after those that it may
import, so there are no circles."""

import ast
import pathlib

import pytest

import r1jax

PACKAGE = pathlib.Path(r1jax.__file__).parent
BASE = {
  'errors',
  'user_code',
  'files',
  'experiment_files',
  'config',
}
MODELS = BASE | {'models', 'data', 'checkpoints', 'distributed'}
MAY_IMPORT = {
  'errors': set(),
  'files': {'errors'},
  'experiment_files': set(),
  'user_code': {'errors', 'files', 'experiment_files'},
  'config': {
    'errors',
    'user_code',
    'files',
    'experiment_files',
  },
  'command_errors': {'errors', 'config'},
  'losses': set(),
  'reports': {'errors', 'files'},
  'sandbox': {'errors'},
  'models': BASE,
  'data': BASE,
  'distributed': BASE | {'models'},
  'checkpoints': BASE | {'models', 'data', 'distributed'},
  'sampling': MODELS,
  'training': BASE | {'models', 'data', 'distributed'},
  'rewards': MODELS | {'sandbox'},
  'evaluation': MODELS | {'sampling', 'rewards', 'losses', 'reports'},
  'rejection': MODELS | {'sampling', 'rewards'},
  'rl': MODELS
  | {'sampling', 'rewards', 'evaluation', 'training', 'losses', 'reports'},
  'supervised': MODELS | {'sampling', 'rewards', 'evaluation', 'training'},
  'preflight': MODELS | {'sampling', 'rewards', 'training', 'rl'},
  'stages': MODELS
  | {'sampling', 'rewards', 'evaluation', 'training', 'losses'}
  | {'rejection', 'rl', 'supervised', 'preflight', 'reports'},
  'ablation': BASE
  | {'command_errors'}
  | {'distributed', 'evaluation', 'training', 'stages', 'reports'},
  'cli': BASE
  | {'command_errors', 'distributed', 'training', 'stages', 'ablation'},
  '__main__': {'cli', 'distributed'},
  'api': MODELS
  | {'sampling', 'rewards', 'evaluation', 'training', 'rl', 'stages'}
  | {'rejection', 'cli', 'command_errors', 'reports'},
  'serving': MODELS
  | {'sampling', 'training', 'stages', 'api', 'command_errors'},
  'export': MODELS
  | {'supervised', 'evaluation', 'training', 'stages', 'api', 'serving'}
  | {'command_errors'},
}


def package_of(path: pathlib.Path) -> str:
  return path.relative_to(PACKAGE).with_suffix('').parts[0]


def imported_packages(path: pathlib.Path) -> set[str]:
  """The packages of r1jax that a file imports, inside functions too."""
  names = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path}: relative import'
      names += [f'{node.module}.{alias.name}' for alias in node.names]
  parts = [name.split('.') for name in names]
  return {part[1] for part in parts if part[0] == 'r1jax' and len(part) > 1}


def test_each_package_is_named_after_those_that_it_may_import():
  earlier = set()
  for package, allowed in MAY_IMPORT.items():
    assert allowed <= earlier, package
    earlier.add(package)


def test_every_package_has_its_rule():
  found = {package_of(path) for path in PACKAGE.rglob('*.py')}
  assert found - {'__init__'} == set(MAY_IMPORT)


@pytest.mark.parametrize('package', MAY_IMPORT)
def test_a_package_imports_only_what_its_rule_allows(package):
  for path in PACKAGE.rglob('*.py'):
    if package_of(path) == package:
      wrong = imported_packages(path) - MAY_IMPORT[package] - {package}
      assert not wrong, f'{path.relative_to(PACKAGE)} imports {wrong}'
