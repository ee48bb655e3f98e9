"""Times updates of responses of lognormal lengths, in micro-batches of rows and
of tokens: python -m experiments.benchmarks.padding update --model DIR

The forms alternate in one process. Both have the same number of tokens in a
micro-batch of the longest rows.
"""

import statistics
import time

import numpy as np

from experiments.benchmarks import ours
from r1jax.distributed import programs
from r1jax.sampling import decode

SIGMA, MEAN_SHARE = 1.0, 0.17  # mean / maximum: 700 of 4,096 tokens


def lognormal_rows(run: ours.Run) -> decode.SampledRows:
  """Rows whose responses have a mean of about MEAN_SHARE of the maximum."""
  rows, sizes = run.random_rows(), run.sizes
  longest, random = sizes.max_new_tokens, np.random.default_rng(0)
  middle = np.log(MEAN_SHARE * longest) - SIGMA**2 / 2
  response_B = random.lognormal(middle, SIGMA, sizes.rows)
  length_B = sizes.prompt_len + np.clip(response_B, 1, longest).astype(int)
  is_token_BL = rows.pos_BL < length_B[:, None]
  return rows.replace(
    pos_BL=np.where(is_token_BL, rows.pos_BL, -1),
    mask_BL=rows.mask_BL & is_token_BL,
  )


def main() -> None:
  parser = ours.make_parser()
  parser.add_argument('--length-buckets', type=int, default=4)
  options = parser.parse_args()
  programs.compilation_cache()
  run = ours.Run(options)
  rows = lognormal_rows(run)
  tokens = int((rows.pos_BL >= 0).sum())
  by_rows = run.cutting._replace(length_buckets=options.length_buckets)
  budget = options.micro_batch_size * rows.tokens_BL.shape[1]
  forms = dict(rows=by_rows, tokens=by_rows._replace(tokens=budget))
  seconds: dict[str, list] = {name: [] for name in forms}
  padding = {}
  for call in range(1 + run.sizes.reps):
    for name, run.cutting in forms.items():
      wall, cpu = time.perf_counter(), time.process_time()
      padding[name] = run.update(rows)
      if call:  # the first compiles
        seconds[name].append(
          (time.perf_counter() - wall, time.process_time() - cpu)
        )
  for name, times in seconds.items():
    wall, cpu = map(statistics.median, zip(*times))
    print(
      f'{name}: {tokens} tokens, padding {padding[name]:.3f}, '
      f'{wall:.2f} s ({tokens / wall:.0f} tokens/s), {cpu:.2f} CPU s',
      flush=True,
    )


if __name__ == '__main__':
  main()
