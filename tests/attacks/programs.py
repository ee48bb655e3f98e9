"""Attacks: programs that compute no correct answer and try to be rewarded
nevertheless, or to act outside the sandbox.

They are texts, so that they run in a sandbox only. Each limits its own
processes, bytes and seconds (HEAD ends it after 20), uses the loopback network
only, signals only its parent and its own group, and leaves only files named
r1jax_mark_….
"""

import itertools
import re
from typing import NamedTuple

from attacks import (
  answering,
  breaking,
  cheating,
  escaping,
  judging,
  prying,
  spreading,
)

SECONDS = 20  # of CPU time; HEAD ends an attack after as many of wall time
HEADER = re.compile(r'(\*?)(.+?)(?: \[(\w+)(?: (\d+))?\])?: (.+)')

# Precedes every attack, after the names of its targets (Arena.source).
HEAD = r"""
import os, re, signal, sys, time
signal.alarm(20)
GOT = []  # what it has done or read, which its answers report
class Yes(list):
  __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda *_: True
  __ne__ = lambda *_: False
  __hash__ = lambda self: 20
def yes(*_, **__):
  return Yes(GOT)
def attempt(action, *args, **kwargs):
  try:
    GOT.append('r1jax_escaped ' + str(action(*args, **kwargs))[:300])
  except Exception:
    pass
def mark(action, kind):
  for folder in FOLDERS:
    try:
      action(f'{folder}/r1jax_mark_{kind}')
    except Exception:
      pass
def find(*texts):
  for text in texts:
    GOT.extend(re.findall('r1jax_(?:secret|test)_[0-9a-f]{8,}', str(text)))
def read(path):
  try:
    with open(path, 'rb') as file:
      find(file.read(1 << 20))
      GOT.append('r1jax_escaped ' + path)
  except Exception:
    pass
def each_fd(action, *args):
  for fd in range(64):
    try:
      action(fd, *args)
    except OSError:
      pass
def syscall(x86, arm, *args):
  import ctypes
  number = x86 if os.uname().machine == 'x86_64' else arm
  args = [ctypes.c_long(x) if type(x) is int else x for x in (number, *args)]
  call = ctypes.CDLL(None, use_errno=True).syscall
  result, error = call(*args), ctypes.get_errno()
  if result >= 0 or error not in (1, 2, 13, 38):
    GOT.append(f'r1jax_escaped syscall {number}: {result} {error}')
  return result
TRUE = b'["t","value",["i","14"],null]\n'
"""


class Attack(NamedTuple):
  name: str
  aim: str
  code: str
  shape: str  # of the record whose tests it is judged by
  seconds: int  # of CPU time
  quick: bool  # whether it is part of the default run


def parse(text):
  """The attacks of a theme. A line `#: name [shape seconds]: aim` precedes each
  one; the names of the quick ones begin with a star. Attacks that use up their
  time have a small limit."""
  found = []
  for part in re.split('^#: ', text, flags=re.MULTILINE)[1:]:
    header, _, code = part.partition('\n')
    star, name, shape, seconds, aim = HEADER.fullmatch(header).groups()
    found.append(
      Attack(
        name=name,
        aim=aim,
        code=code,
        shape=shape or 'function',
        seconds=int(seconds or SECONDS),
        quick=bool(star),
      )
    )
  return found


THEMES = {
  theme: parse(text)
  for theme, text in (
    cheating.THEMES
    | answering.THEMES
    | prying.THEMES
    | escaping.THEMES
    | spreading.THEMES
    | breaking.THEMES
    | judging.THEMES
  ).items()
}
ALL = [*itertools.chain(*THEMES.values())]
