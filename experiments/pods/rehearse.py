"""Rehearses the pods' configs, one after the other, into one page.

`make pods` runs this; every part of the page is what the command above it
prints. A part that fails is written down as it failed. The page is written anew
after each part, with those that are to come left out.
"""

import pathlib
import subprocess
import sys

from r1jax import files

HEAD = """\
# What the pods' runs take

Made by `make pods`: every table is what the command above it prints, by the
compiler of TPUs (libtpu 0.0.42.1) on a machine without a TPU. Nothing here ran
on a TPU: bytes, FLOPs and collectives are the compiler's, seconds are rooflines.
The share of dead groups and the tokenizer's checks need the model itself, which
was not there.
"""
PODS = 'v5e:16x16', 'v5p:4x8x8', 'v6e:16x16'
MODELS = 'qwen2_5_1_5b', 'qwen2_5_7b', 'llama_3_1_8b', 'qwen2_5_32b'
RUNS = [
  *((model, pod) for model in MODELS for pod in PODS),
  ('qwen2_5_7b', 'v5e:16x16', '--slices=2', '--config.grpo.minibatches=2'),
  ('qwen2_5_32b_long', 'v5p:8x8x8'),
  (
    'qwen2_5_32b_long',
    'v5p:8x8x8',
    '--config.sample.max_new_tokens=64512',
    '--config.sample.decode_slots=8',
  ),
]


def main(page):
  parts = [HEAD]
  for model, pod, *more in RUNS:
    command = [
      '-m',
      'r1jax',
      'preflight',
      '--config',
      f'experiments/pods/{model}.py',
      '--topology',
      pod,
      *more,
    ]
    print(*command, flush=True)
    done = subprocess.run(
      [sys.executable, *command], capture_output=True, text=True
    )
    said = done.stdout
    if 'What wastes' not in said:  # It broke off.
      said += done.stderr.splitlines()[-1]
    title = f'{model} on {pod} {" ".join(more)}'.strip()
    shown = f'$ python {" ".join(command)}\n{said.strip()}'
    parts.append(f'## {title}\n```\n{shown}\n```\n')
    files.write_text(pathlib.Path(page), '\n'.join(parts))


if __name__ == '__main__':
  main(sys.argv[1])
