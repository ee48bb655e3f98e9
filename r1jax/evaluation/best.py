"""Which checkpoint is the best: config.eval.best names a held-out metric."""

import difflib
from collections.abc import Collection, Mapping

from r1jax import errors


def check(name: str, names: Collection[str], key: str = 'eval.best') -> None:
  """Raises UserError if config.KEY, whose value is `name`, is none of the
  held-out metrics `names`, each of which may have '-' before it."""
  if name.removeprefix('-') in names:
    return
  near = difflib.get_close_matches(name.removeprefix('-'), names, 1, cutoff=0)
  raise errors.UserError(
    f'config.{key} is {name!r}, which is no held-out metric of this run: did '
    f"you mean {near[0]!r}? There are {', '.join(names)}, each with '-' before "
    'it if the lowest is the best'
  )


def score(name: str, line: Mapping[str, float]) -> float:
  """By what the checkpoint of an evaluation is compared, higher is better; NaN
  if nothing was judged. `line` has the held-out metrics by name."""
  value = float(line[name.removeprefix('-')])
  return -value if name.startswith('-') else value
