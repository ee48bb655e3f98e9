"""The workloads of the benchmarks and their timing, the same for all programs.

Needs numpy and tokenizers alone, which the environments of r1jax and of the
peers have.
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import tokenizers

LR, KL_COEF, CLIP, CLIP_NORM = 1e-6, 0.04, 0.2, 1.0
STORIES = (
  'A baker sets out forty-two rolls before dawn, sells half of them to the '
  'school, and gives three to the postman. In the afternoon the oven is lit '
  'once more and eighteen fresh rolls come out. How many are on the shelf when '
  'the shop closes, and how do you know it?',
  'Two trains leave the harbour at the same hour. The first one covers sixty '
  'kilometres an hour and stops for ten minutes in every town; the other is '
  'slower, but it never stops. After three towns and ninety minutes, which of '
  'them is ahead, and by what distance?',
  'Every child in the choir brings two candles, and every teacher brings five. '
  'Seventy-six candles burn on the night of the concert, and there are exactly '
  'four teachers. Say how many children sing, and then check the number by '
  'counting all of the candles again.',
  'A garden is nine metres long and as wide as the house is high. The fence '
  'around it, gate included, measures thirty metres. The gate alone takes up '
  'one metre and a half. Find the height of the house and explain each step of '
  'the way in a few short sentences.',
)


@dataclasses.dataclass(frozen=True)
class Sizes:
  prompts: int = 4
  group_size: int = 8
  prompt_len: int = 64
  max_new_tokens: int = 128
  reps: int = 3

  @property
  def rows(self) -> int:
    return self.prompts * self.group_size

  @property
  def sampled_tokens(self) -> int:
    """The number of tokens that a rollout samples."""
    return self.rows * self.max_new_tokens

  @property
  def trained_tokens(self) -> int:
    """The number of tokens in the rows of an update."""
    return self.rows * (self.prompt_len + self.max_new_tokens)


QUICK = Sizes(prompts=2, group_size=4, prompt_len=16, max_new_tokens=16, reps=1)


def make_parser(
  description: str, workloads: Sequence[str]
) -> argparse.ArgumentParser:
  """The arguments that all measuring programs share."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument('workload', choices=workloads)
  parser.add_argument('--model', required=True, help='a directory')
  parser.add_argument('--dtype', default='float32')
  parser.add_argument(
    '--micro-batch-size', type=int, default=8, help='rows at one time'
  )
  parser.add_argument('--reps', type=int, help='timed calls')
  for name in ('prompts', 'group-size', 'prompt-len', 'max-new-tokens'):
    parser.add_argument(f'--{name}', type=int)
  parser.add_argument('--quick', action='store_true', help='tiny sizes')
  return parser


def get_sizes(options: argparse.Namespace) -> Sizes:
  sizes = QUICK if options.quick else Sizes()
  names = [field.name for field in dataclasses.fields(Sizes)]
  given = {name: getattr(options, name) for name in names}
  given = {name: value for name, value in given.items() if value}
  return dataclasses.replace(sizes, **given)


def make_prompts(model: str, sizes: Sizes) -> tuple[list[str], np.ndarray]:
  """(texts, ids [prompts, prompt_len]). Each text is encoded as its ids."""
  tokenizer = tokenizers.Tokenizer.from_file(
    str(pathlib.Path(model, 'tokenizer.json'))
  )

  def encode(text):
    return tokenizer.encode(text, add_special_tokens=False).ids

  # A long prompt is a story several times; more prompts than stories start
  # with other letters.
  ids = [
    encode((' '.join([story] * 8))[offset:])[: sizes.prompt_len]
    for offset in range(-(-sizes.prompts // len(STORIES)))
    for story in STORIES
  ][: sizes.prompts]
  texts = [tokenizer.decode(row, skip_special_tokens=False) for row in ids]
  assert [encode(text) for text in texts] == ids
  shape = sizes.prompts, sizes.prompt_len
  return texts, np.array(ids, np.int32).reshape(shape)


def time_calls(
  function: Callable[[], object], reps: int
) -> tuple[float, list[float]]:
  """(seconds of the first call, seconds of each of `reps` more)."""
  seconds = []
  for _ in range(1 + reps):
    began = time.perf_counter()
    function()
    seconds.append(time.perf_counter() - began)
  return seconds[0], seconds[1:]


def report(
  program: str,
  workload: str,
  variant: str,
  tokens: int,
  warmup: float,
  seconds: Sequence[float],
  **more,
) -> None:
  """Prints one result as a line of JSON."""
  peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  line = dict(
    program=program,
    workload=workload,
    variant=variant,
    seconds=[round(x, 4) for x in seconds],
    tokens=tokens,
    tokens_per_s=round(tokens / statistics.median(seconds), 1),
    peak_rss_gib=round(peak_kib / 2**20, 2),
    warmup_s=round(warmup, 2),
  )
  print(json.dumps(line | more), flush=True)
