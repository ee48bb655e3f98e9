"""The fixed workloads and how they are timed, the same for every program here;
it needs numpy and tokenizers, which ours and the peers' environments have."""

import argparse
import dataclasses
import json
import pathlib
import resource
import statistics
import time

import numpy as np
import tokenizers

LR, BETA, CLIP, CLIP_NORM = 1e-6, 0.04, 0.2, 1.0
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
  group: int = 8
  prompt: int = 64  # tokens
  new: int = 128
  reps: int = 3

  @property
  def rows(self):
    return self.prompts * self.group

  @property
  def drawn(self):
    """The tokens that count in a rollout."""
    return self.rows * self.new

  @property
  def trained(self):
    """The tokens that count in an update."""
    return self.rows * (self.prompt + self.new)


QUICK = Sizes(prompts=2, group=4, prompt=16, new=16, reps=1)


def arguments(description, workloads):
  """The command line that the measuring programs share."""
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument('workload', choices=workloads)
  parser.add_argument('--model', required=True, help='a directory')
  parser.add_argument('--dtype', default='float32')
  parser.add_argument('--micro', type=int, default=8, help='rows at one time')
  parser.add_argument('--reps', type=int, help='timed runs')
  parser.add_argument('--quick', action='store_true', help='tiny sizes')
  return parser


def sizes(options):
  s = QUICK if options.quick else Sizes()
  return dataclasses.replace(s, reps=options.reps or s.reps)


def prompts(model, s):
  """(texts, ids [prompts, s.prompt]): each text is encoded as its ids."""
  words = tokenizers.Tokenizer.from_file(
    str(pathlib.Path(model, 'tokenizer.json'))
  )

  def encode(text):
    return words.encode(text, add_special_tokens=False).ids

  ids = [encode(f'{x} {x}')[: s.prompt] for x in STORIES[: s.prompts]]
  texts = [words.decode(row, skip_special_tokens=False) for row in ids]
  assert [encode(text) for text in texts] == ids
  return texts, np.array(ids, np.int32).reshape(s.prompts, s.prompt)


def timed(run, reps):
  """(seconds of the first call, seconds of each of `reps` more)."""
  seconds = []
  for _ in range(1 + reps):
    began = time.perf_counter()
    run()
    seconds.append(time.perf_counter() - began)
  return seconds[0], seconds[1:]


def report(who, workload, variant, tokens, warmup, seconds, **more):
  """Prints one result as a line of JSON."""
  line = dict(
    who=who,
    workload=workload,
    variant=variant,
    seconds=[round(x, 4) for x in seconds],
    tokens=tokens,
    tokens_per_s=round(tokens / statistics.median(seconds), 1),
    peak_rss_gib=round(
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
    ),
    warmup_s=round(warmup, 2),
  )
  print(json.dumps(line | more), flush=True)
