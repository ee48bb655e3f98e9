"""The code on the page about the Python API runs, from top to bottom."""

import pathlib
import re

import pytest

import r1jax

PAGE = pathlib.Path(r1jax.__file__).parents[1] / 'docs/python_api.md'


def blocks():
  return re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  """(the folder in which the code was run, the names that it defines)."""
  folder, names = tmp_path_factory.mktemp('page'), {'__name__': '__main__'}
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    for number, block in enumerate(blocks()):
      exec(compile(block, f'block {number} of {PAGE.name}', 'exec'), names)
  return folder, names


def test_the_code_of_the_page_writes_what_it_says(page):
  folder, names = page
  for path in ('mine/report.html', 'copy/model.safetensors', 'compare.html'):
    assert (folder / 'runs' / path).exists(), path
  assert len(names['responses']) == 2 and len(names['responses'][0]) == 4
  assert [verdict.value for verdict in names['verdicts']] == [1, 0]
  assert len(names['samples']) == 16
  keys = [setting['grpo.kl_coef'] for setting in names['comparison'].settings]
  assert keys == [0.0, 0.1]


def test_the_page_names_the_whole_api():
  text = PAGE.read_text()
  for name in r1jax.__all__:
    assert f'`{name}' in text, name
