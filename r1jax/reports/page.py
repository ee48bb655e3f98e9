"""The page around its parts: style, script, light and dark."""

import base64
import functools
import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from r1jax.reports import elements

TEMPLATES = Path(__file__).parent / 'templates'


def render(
  title: object,
  parts: Iterable[object],
  subtitle: object = '',
  data: Mapping[str, Any] | None = None,
) -> str:
  """A document of parts (text or Markup). `data` is what its script reads: the
  numbers of charts and the samples. Nothing is loaded from elsewhere; the
  policy of the page (CSP) allows its own script alone."""
  script = (TEMPLATES / 'page.js').read_text(encoding='utf-8')
  digest = hashlib.sha256(f'\n{script}'.encode()).digest()
  return (
    _environment()
    .get_template('page.html')
    .render(
      title=elements.visible(title),
      subtitle=elements.escape(subtitle),
      parts=elements.join(parts),
      style=Markup((TEMPLATES / 'page.css').read_text(encoding='utf-8')),
      script=Markup(script),
      script_hash='sha256-' + base64.b64encode(digest).decode(),
      data=finite(data or {}),
    )
  )


def finite(value: Any) -> Any:
  """A value of JSON, with None for numbers that are not finite and the visible
  form of texts."""
  if isinstance(value, str):
    return elements.visible(value)
  if isinstance(value, float):
    return value if math.isfinite(value) else None
  if isinstance(value, Mapping):
    return {elements.visible(key): finite(x) for key, x in value.items()}
  if isinstance(value, list | tuple):
    return [finite(x) for x in value]
  return value


@functools.cache
def _environment():
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
  )
  # tojson also escapes <, >, & and '.
  environment.policies['json.dumps_kwargs'] = dict(
    allow_nan=False, separators=(',', ':')
  )
  return environment
