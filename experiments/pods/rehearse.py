"""Runs preflight on the configs for pods, and collects the reports in one page.

`make pods` runs this. A run that breaks off is on the page with its error. The
page is written after each run.
"""

import pathlib
import subprocess
import sys

from r1jax import files

HEAD = """\
# What the pods' runs need

Made by `make pods`: every block is the output of the command in its first line,
with the TPU compiler (libtpu 0.0.42.1, unless the block states its versions) on
a machine without a TPU. Nothing here ran on a TPU: bytes, FLOPs and collectives
are the compiler's, seconds are those of the roofline model. The checks of the
tokenizer and of samples need the models, which were not on this machine.
"""
PODS = 'v5e:16x16', 'v5p:4x8x8', 'v6e:16x16'
MODELS = 'qwen2_5_1_5b', 'qwen2_5_7b', 'llama_3_1_8b', 'qwen2_5_32b'
EXTRA_RUNS = (
  ('deepseek_r1', 'v5p:8x8x8', '--length=700', '--config.eval.every=0'),
  ('qwen3_30b_a3b', 'v6e:8x8', '--config.eval.every=0'),
  (  # two chips share a key head
    'qwen3_30b_a3b',
    'v5e:16x16',
    '--config.eval.every=0',
    '--config.parallel.tensor_parallel=8',
  ),
  ('gemma_3_1b', 'v5e:2x4', '--config.eval.every=0'),
  (
    'gemma_3_1b',
    'v5e:1x1',
    '--config.eval.every=0',
    '--config.micro_batch_size=4',
    '--config.optim.moments_dtype=bfloat16',
    '--config.optim.second_moment=factored',
  ),
  ('gemma_3_1b', 'v6e:1x1', '--config.eval.every=0'),
  ('qwen2_5_1_5b_small', 'v5e:2x4', '--config.eval.every=0'),
  ('qwen2_5_1_5b_small', 'v6e:1x1', '--config.eval.every=0'),
  ('qwen2_5_0_5b', 'v5e:2x4'),
  ('qwen2_5_7b', 'v5e:16x16', '--slices=2', '--config.grpo.minibatches=2'),
  ('qwen2_5_32b_long', 'v5p:8x8x8'),
  (
    'qwen2_5_32b_long',
    'v5p:8x8x8',
    '--config.sample.max_new_tokens=64512',
    '--config.sample.decode_slots=8',
  ),
  ('qwen2_5_32b_long', 'v5p:8x8x8', '--length=6144'),
)


def main(page: str) -> None:
  """Writes the reports to the file `page`."""
  runs = [(model, pod) for model in MODELS for pod in PODS]
  parts = [HEAD]
  for model, pod, *arguments in [*runs, *EXTRA_RUNS]:
    title = ' '.join([f'{model} on {pod}', *arguments])
    report = run_preflight(model, pod, arguments)
    parts.append(f'## {title}\n```\n{report}\n```\n')
    files.write_text(pathlib.Path(page), '\n'.join(parts))


def run_preflight(model: str, pod: str, arguments: list[str]) -> str:
  """The command and its output."""
  config = f'experiments/pods/{model}.py'
  command = ['-m', 'r1jax', 'preflight', '--config', config]
  command += ['--topology', pod, *arguments]
  print(*command, flush=True)
  process = subprocess.run(
    [sys.executable, *command], capture_output=True, text=True
  )
  output = process.stdout
  if 'Checks:' not in output:  # It broke off.
    output += process.stderr.splitlines()[-1]
  return f'$ python {" ".join(command)}\n{output.strip()}'


if __name__ == '__main__':
  main(sys.argv[1])
