"""The house: a module knows the floors below it, and nothing else."""

import ast
import pathlib
import re

import pytest

import r1jax

PACKAGE = pathlib.Path(r1jax.__file__).parent
FLOORS = (
  {'checksum', 'errors', 'files', 'losses', 'verdict', 'workers'}
  | {'sandbox.wire', 'sandbox.library', 'rewards.math_bounds'}
  | {'rewards.math_clean', 'rewards.math_units'}
  | {'preflight', 'preflight.cost', 'preflight.flops', 'preflight.hlo'},
  {'code_sets', 'watch', 'preflight.chips', 'preflight.traffic'},
  {'hosts'},
  {'config', 'metrics', 'cpu', 'data', 'estimates', 'checkpoint', 'tools'}
  | {'split', 'rope'}
  | {'sandbox.inside', 'sandbox.kernel', 'sandbox.outcome'}
  | {'rewards.math_numeric', 'rewards.math_tokens'},
  {'gguf_file', 'hf_directory', 'templates', 'rating', 'tables'}
  | {'sandbox.launch', 'rewards.math_parse', 'rewards.math_value'}
  | {'rewards.format', 'rewards.length', 'rewards.code_block'},
  {'sandbox.process', 'sandbox.service', 'rewards.math_symbolic'},
  {'rewards.math_answer', 'rewards.language', 'rewards.repetition', 'sandbox'},
  {'rewards.choice', 'rewards.code_tests'},
  {'report', 'attention', 'dots', 'head', 'rewards', 'tasks', 'tokenizer'},
  {'train', 'model', 'draw'},
  {'sample', 'parallel', 'hf_config', 'fit'},
  {'turns', 'convert', 'rewarded', 'spmd'},
  {'generate', 'policy'},
  {'grpo', 'held_out', 'scores', 'verifiers', 'rewards.preference'},
  {'filters', 'judge', 'rl_config', 'preflight.respond'},
  {'reject_config', 'rl_run', 'preflight.plan', 'preflight.shapes'}
  | {'preflight.sizes'},
  {'preflight.arithmetic'},
  {'preflight.checks', 'preflight.knobs', 'preflight.programs'}
  | {'preflight.report'},
  {'stages', 'stages.sft', 'stages.rl', 'stages.reject', 'stages.evaluate'}
  | {'stages.reward_model', 'stages.verify', 'stages.preflight'},
  {'main'},
  {'__main__'},
)
FLOOR = {name: n for n, names in enumerate(FLOORS) for name in names}
MANY_DEVICES = {'mesh', 'pmap', 'process_index', 'process_count'}


def name_of(path):
  parts = path.relative_to(PACKAGE).with_suffix('').parts
  return '.'.join(part for part in parts if part != '__init__')


PATHS = {name_of(path): path for path in sorted(PACKAGE.rglob('*.py'))}
MODULES = [name for name in PATHS if name]


def imports(name):
  """The modules of r1jax that a module imports, inside functions too."""
  for node in ast.walk(ast.parse(PATHS[name].read_text())):
    if isinstance(node, ast.Import):
      assert not any(x.name.startswith('r1jax') for x in node.names), name
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{name}: relative import'
      inner = f'{node.module}.'.removeprefix('r1jax.')
      if inner != f'{node.module}.':
        for alias in node.names:
          module = inner + alias.name
          yield module if module in PATHS else inner.removesuffix('.')


def test_every_module_has_a_floor_and_every_floor_its_modules():
  assert set(FLOOR) - {'stages'} == set(MODULES) - {'stages'}


@pytest.mark.parametrize('name', MODULES)
def test_modules_import_from_lower_floors_only(name):
  wrong = [x for x in imports(name) if FLOOR[x] >= FLOOR[name]]
  assert not wrong, f'{name} imports {wrong}'


@pytest.mark.parametrize('name', MODULES)
def test_only_the_edge_knows_of_many_devices(name):
  # All processes write a checkpoint together, so its room must tell them apart.
  edge = 'parallel', 'spmd', 'main', 'checkpoint', 'hosts'
  if name in edge or name.startswith('stages'):
    return
  names = set()
  for node in ast.walk(ast.parse(PATHS[name].read_text())):
    if isinstance(node, ast.Name):
      names.add(node.id)
    elif isinstance(node, ast.Attribute):
      names.add(node.attr)
    elif isinstance(node, (ast.arg, ast.keyword)):
      names.add(node.arg)
    elif isinstance(node, ast.alias):
      names.add(node.name)
  assert not names & MANY_DEVICES


@pytest.mark.parametrize('name', MODULES)
def test_files_stay_small_and_say_what_they_are_for(name):
  text = PATHS[name].read_text()
  assert len(text.splitlines()) <= 300
  assert not re.search('utils|common|helpers', name)
  assert ast.get_docstring(ast.parse(text))
