"""Samples responses to prompts, with the thinking in grey."""

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

MAX_TOKENS = 1024  # of a response, by default
USAGE = "MODEL 'PROMPT' ['PROMPT' …] [--group N] [--temperature X] …"
SUMMARY = __doc__ + ' A PROMPT of - is read from the standard input.'


def make_parser():
  parser = options.parser_of('sample', USAGE, SUMMARY)
  options.add_sampling(parser, 1.0, 1.0, str(MAX_TOKENS))
  add = parser.add_argument
  add('prompts', metavar='PROMPT', nargs='+', help='a question; -: from stdin')
  add(
    '--group',
    metavar='N',
    type=options.number(int, 1),
    default=1,
    help='responses to each prompt; default: 1',
  )
  add(
    '--json',
    action='store_true',
    help='a JSON line for each response, with ids and log-probabilities',
  )
  return parser


def run(arguments: Sequence[str]) -> int:
  """Prints `--group` responses to each prompt."""
  chosen = make_parser().parse_args(arguments)
  prompts = [read_prompt(text) for text in chosen.prompts]
  programs.compilation_cache()
  model = source.load(
    chosen.model, chosen.dtype, chosen.template, chosen.prefill
  )
  seed = options.new_seed() if chosen.seed is None else chosen.seed
  prompt = dataclasses.replace(
    model.prompt, stop_strings=(*model.prompt.stop_strings, *chosen.stop)
  )
  sample = dataclasses.replace(
    model.sample,
    max_new_tokens=chosen.max_tokens or default_tokens(model, prompts),
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
  return 0


def read_prompt(text: str) -> str:
  """A prompt of the command line."""
  if text == '-':
    text = sys.stdin.read().removesuffix('\n')
  if not text.strip():
    raise errors.UserError('the prompt is empty: write a question')
  source.check_text(text, 'the prompt')
  return text


def default_tokens(model: Source, prompts: Sequence[str]) -> int:
  """MAX_TOKENS, or what the model has room for beside the longest prompt."""
  tokenizer, longest = model.policy.tokenizer, 0
  for text in prompts:
    made = source.make_prompt(model, [dict(role='user', content=text)])
    longest = max(longest, len(tokenizer.encode(made.full_text)))
  room = model.policy.cfg.max_len - longest - model.prompt.results_len
  return max(1, min(MAX_TOKENS, room))


def show(prompt: str, response: Response, number: int, count: int) -> None:
  """Prints a response under a line about it."""
  colours = terminal.has_colours(sys.stdout)
  painter = terminal.ThinkingPainter(colours)
  end = 'finished' if response.finished else 'cut off'
  head = f'{number} of {count}, {len(response.ids)} tokens, {end}'
  question = ' '.join(terminal.printable(prompt).split())
  if len(question) > 50:
    question = f'{question[:49]}…'
  print(terminal.grey(f'— {question} — {head}', colours))
  text = painter.paint(response.text) + painter.finish()
  print(f'{text.strip()}\n', flush=True)


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
