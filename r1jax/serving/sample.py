"""Samples responses to prompts, with the thinking in grey."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from r1jax import errors
from r1jax.api.model import Model, Response
from r1jax.data import run_date
from r1jax.distributed import programs
from r1jax.serving import options, source, terminal
from r1jax.serving.source import Source
from r1jax.training import memory_errors

MAX_TOKENS = 1024  # of a response, by default
USAGE = "MODEL 'PROMPT' ['PROMPT' …] [--group N] [--max-tokens N] …"
SUMMARY = f"""{__doc__}

A PROMPT of - is read from the standard input; one that begins with - stands
after --."""


def make_parser():
  parser = options.parser_of('sample', USAGE, SUMMARY)
  options.add_sampling(parser, 1.0, 1.0, str(MAX_TOKENS))
  parser.add_argument(
    'prompts', metavar='PROMPT', nargs='+', help='a question; -: from stdin'
  )
  parser.add_number('--group', 1, 'responses to each prompt', 1)
  parser.add_argument(
    '--json',
    action='store_true',
    help='a JSON line for each response, with ids and log-probabilities',
  )
  return parser


def run(arguments: Sequence[str]) -> int:
  """Prints `--group` responses to each prompt."""
  chosen = make_parser().parse(arguments)
  prompts = [read_prompt(text) for text in chosen.prompts]
  programs.compilation_cache()
  advice = 'lower --group or --max-tokens, --dtype bfloat16'
  with memory_errors.advised(advice):
    show_samples(chosen, prompts)
  return 0


def show_samples(chosen: argparse.Namespace, prompts: Sequence[str]) -> None:
  """Samples and prints the responses."""
  model = source.load(
    chosen.model, chosen.dtype, chosen.template, chosen.prefill
  )
  seed = options.new_seed() if chosen.seed is None else chosen.seed
  prompt = dataclasses.replace(
    model.prompt, stop_strings=(*model.prompt.stop_strings, *chosen.stop)
  )
  sample = dataclasses.replace(
    model.sample,
    max_new_tokens=response_tokens(model, prompts, chosen.max_tokens),
    temperature=chosen.temperature,
    top_p=chosen.top_p,
    top_k=chosen.top_k,
  )
  with run_date.at(model.date):
    groups = Model(model.policy).sample(
      prompts, chosen.group, seed, prompt, sample
    )
  for text, group in zip(prompts, groups, strict=True):
    for number, response in enumerate(group, start=1):
      if chosen.json:
        print(json_line(text, response, seed), flush=True)
      else:
        show(text, response, number, len(group))
  if chosen.seed is None and not chosen.json and sys.stdout.isatty():
    print(f'The same again: --seed {seed}', flush=True)


def read_prompt(text: str) -> str:
  """A prompt of the command line."""
  if text == '-':
    text = sys.stdin.read().removesuffix('\n')
  if not text.strip():
    raise errors.UserError('the prompt is empty: write a question')
  source.check_text(text, 'the prompt')
  return text


def response_tokens(
  model: Source, prompts: Sequence[str], max_tokens: int | None
) -> int:
  """The max. tokens of a response: max_tokens, which is that of --max-tokens, or
  MAX_TOKENS if there is room for them. Raises UserError for a prompt whose
  response has no room."""
  tokenizer, max_len = model.policy.tokenizer, model.policy.cfg.max_len
  found = max_tokens or MAX_TOKENS
  for text in prompts:
    made = source.make_prompt(model, [dict(role='user', content=text)])
    length = len(tokenizer.encode(made.full_text))
    room = max_len - length - model.prompt.results_len
    if room < (max_tokens or 1):
      hint = ', or lower --max-tokens' if room > 0 else ''
      raise errors.UserError(
        f'the prompt {shortened(text)!r} has {length} tokens, which leaves '
        f'{max(room, 0)} of the {max_len} positions of the model for a '
        f'response: shorten it{hint}'
      )
    found = min(found, room)
  return found


def show(prompt: str, response: Response, number: int, count: int) -> None:
  """Prints a response under a line about it."""
  colours = terminal.has_colours(sys.stdout)
  painter = terminal.ThinkingPainter(colours)
  end = 'finished' if response.finished else 'cut off'
  head = f'{number} of {count}, {len(response.ids)} tokens, {end}'
  print(terminal.grey(f'— {shortened(prompt)} — {head}', colours))
  text = painter.paint(response.text) + painter.finish()
  print(f'{text.strip()}\n', flush=True)


def shortened(prompt: str) -> str:
  """The beginning of a prompt, on one line."""
  text = ' '.join(terminal.printable(prompt).split())
  return f'{text[:49]}…' if len(text) > 50 else text


def json_line(prompt: str, response: Response, seed: int) -> str:
  return json.dumps(
    dict(
      prompt=prompt,
      text=response.text,
      ids=response.ids,
      logprobs=[round(float(x), 6) for x in response.logprobs],
      finished=response.finished,
      seed=seed,
    ),
    ensure_ascii=False,
  )
