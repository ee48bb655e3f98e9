"""DeepSeek-R1 in JAX: GRPO, rejection sampling, reward models, distillation.

The Python API is documented in docs/python_api.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from r1jax.ablation.compare import compare
  from r1jax.ablation.sweep import sweep
  from r1jax.api.configure import configure
  from r1jax.api.model import load
  from r1jax.api.runs import open_run, run
  from r1jax.api.verify import verify
  from r1jax.errors import UserError
  from r1jax.rewards.user_rewards import per_sample

__version__ = '0.2.0'

__all__ = [
  'UserError',
  '__version__',
  'compare',
  'configure',
  'load',
  'open_run',
  'per_sample',
  'run',
  'sweep',
  'verify',
]

# Imported at their first use: the command line's help and worker processes
# import this package, and jax takes seconds to import.
_MODULES = dict(
  UserError='errors',
  compare='ablation.compare',
  configure='api.configure',
  load='api.model',
  open_run='api.runs',
  per_sample='rewards.user_rewards',
  run='api.runs',
  sweep='ablation.sweep',
  verify='api.verify',
)


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(f'r1jax.{_MODULES[name]}'), name)


def __dir__() -> list[str]:
  return list(__all__)
