"""The one block of code that a response answers with."""

import re

LANGUAGES = '', 'python', 'python3', 'py'
FENCE = re.compile(r' {0,3}```+ *([\w+-]*)[^`]*\Z')


def extract(text):
  """The last Python block after the thinking, or None.

  Inside the last <answer> where there are such tags; a block that is not
  closed counts for nothing.
  """
  _, _, rest = text.rpartition('</think>')
  if '<think>' in rest:
    return None
  if '<answer>' in rest:
    rest, _, after = rest.rpartition('</answer>')
    _, opened, rest = rest.rpartition('<answer>')
    if not opened or '<answer>' in after:
      return None
  found, block, language = None, None, ''
  for line in rest.replace('\r\n', '\n').split('\n'):
    fence = FENCE.match(line)
    if block is None:
      if fence:
        block, language = [], fence[1].lower()
    elif fence and not line.strip(' `'):
      if language in LANGUAGES:
        found = '\n'.join(block) + '\n'
      block = None
    else:
      block.append(line)
  return found
