"""Talks to a model in the terminal, in several turns, with the thinking in
grey."""

import contextlib
import pathlib
import signal
import sys
import termios
import time
from collections.abc import Iterator, Sequence

from r1jax import errors
from r1jax.data import templates
from r1jax.data.chats import Message
from r1jax.distributed import programs, signals
from r1jax.serving import options, source, terminal
from r1jax.serving.engine import Engine
from r1jax.serving.request import Request
from r1jax.serving.source import Source
from r1jax.training import memory_errors

USAGE = 'MODEL [--system TEXT] [--max-tokens N] …'
KEYS = """\
Ctrl-C stops an answer, Ctrl-D ends. /new begins another conversation."""
ALONE = """\
The template of this model has no earlier turns: each question stands alone."""
DROPPED = '(no room for the whole conversation: its oldest turns are left out)'
HISTORY = pathlib.Path('~/.cache/r1jax/chat_history').expanduser()
MAX_HISTORY = 1000  # lines


class Chat:
  """A conversation with a model."""

  def __init__(self, source: Source, engine: Engine, chosen) -> None:
    self.source, self.engine, self.chosen = source, engine, chosen
    self.seed = options.new_seed() if chosen.seed is None else chosen.seed
    self.colours = terminal.has_colours(sys.stdout)
    self.is_reading = False  # a line of the terminal
    self.is_stopped = False  # by Ctrl-C, during an answer
    self.turn = 0
    self.begin()

  def begin(self) -> None:
    """Forgets the turns so far."""
    self.messages: list[Message] = []
    if self.chosen.system:
      self.messages.append(dict(role='system', content=self.chosen.system))

  def answer(self, question: str) -> None:
    """Prints the answer to a question, while it arrives, and remembers it."""
    message = dict(role='user', content=question)
    prompt, ids = self._fitting(message)
    room = self.engine.max_len - len(ids)
    request = Request(
      prompt=tuple(ids),
      max_tokens=min(self.chosen.max_tokens or room, room),
      temperature=self.chosen.temperature,
      top_p=self.chosen.top_p,
      top_k=self.chosen.top_k,
      seed=self.seed,
      number=self.turn,
      stop=(*self.source.stop, *self.chosen.stop),
    )
    self.turn += 1
    painter = terminal.ThinkingPainter(self.colours)
    _write(painter.paint(prompt.opening))
    text, count, finish, began = prompt.opening, 0, '', time.monotonic()
    for update in self.engine.stream(request):
      text, count = text + update.text, count + len(update.tokens)
      finish = update.finish
      _write(painter.paint(update.text))
      if self.is_stopped:
        break
    _write(f'{painter.finish()}\n')
    self._close(text, count, finish, time.monotonic() - began)
    if self.source.holds_turns:
      self.messages += [message, dict(role='assistant', content=text)]

  def _close(self, text, count, finish, seconds):
    """Prints how an answer ended."""
    if finish == 'error':
      raise errors.UserError(
        'the model samples tokens whose log-probabilities are not finite: its '
        'weights are damaged, or too large for --dtype'
      )
    notes = [f'{count} tokens, {count / max(seconds, 1e-9):.1f} a second']
    if self.is_stopped:
      notes.append('stopped')
    elif finish == 'length':
      notes.append('cut off at the most tokens, see --max-tokens and --max-len')
    if sys.stdout.isatty():
      _write(terminal.grey(f'({"; ".join(notes)})', self.colours) + '\n\n')

  def _fitting(self, message):
    """(the prompt, its ids) of the conversation with one more message. Its
    oldest turns are left out if there is no room for them."""
    tokenizer, is_dropped = self.source.policy.tokenizer, False
    while True:
      prompt = source.make_prompt(
        self.source, [*map(_without_thinking, self.messages), message]
      )
      ids = tokenizer.encode(prompt.full_text)
      has_system = bool(self.chosen.system)
      if len(ids) < self.engine.max_len or not self.messages[has_system:]:
        break
      del self.messages[has_system : has_system + 2]
      is_dropped = True
    if len(ids) >= self.engine.max_len:
      raise errors.UserError(
        f'the question has {len(ids)} tokens, but there is room for '
        f'{self.engine.max_len}, with the answer: shorten it, or raise --max-len'
      )
    if is_dropped:
      _write(terminal.grey(f'{DROPPED}\n', self.colours))
    return prompt, ids


def make_parser():
  parser = options.parser_of('chat', USAGE, f'{__doc__}\n{KEYS}')
  options.add_sampling(parser, 0.6, 0.95, 'what --max-len has room for')
  options.add_max_len(parser, default=4096)
  parser.add_argument('--system', metavar='TEXT', help='a system message')
  return parser


def run(arguments: Sequence[str]) -> int:
  """Answers one line of the standard input after another."""
  chosen = make_parser().parse(arguments)
  programs.compilation_cache()
  with memory_errors.advised('lower --max-len, --dtype bfloat16'):
    model = source.load(
      chosen.model, chosen.dtype, chosen.template, chosen.prefill
    )
    engine = Engine(
      model.policy, model.eos_ids, num_slots=1, max_len=chosen.max_len
    )
    chat = Chat(model, engine, chosen)
    if _is_terminal():
      talk(chat)
    else:
      answer_lines(chat)
  return 0


def answer_lines(chat: Chat) -> None:
  """Answers the lines of the standard input, which is no terminal."""
  with errors.explained('the standard input is no text', UnicodeDecodeError):
    for line in sys.stdin:
      _take(chat, line.removesuffix('\n'))


def talk(chat: Chat) -> None:
  """Answers the lines that are written in the terminal, up to Ctrl-D."""
  print(KEYS, flush=True)
  if not chat.source.holds_turns:
    print(ALONE, flush=True)
  with _interruptible(chat), _history():
    while (question := _read(chat)) is not None:
      chat.is_stopped = False
      try:
        _take(chat, question)
      except errors.UserError as error:
        print(error, flush=True)


def _take(chat, line):
  """Answers a line, or does what it says."""
  if line.strip() == '/new':
    chat.begin()
  elif line.strip():
    chat.answer(line)


def _without_thinking(message):
  """A turn as later prompts have it: an answer without its thinking."""
  if message['role'] != 'assistant':
    return message
  _, answer = templates.think_split(message['content'])
  return message | dict(content=answer.strip() or message['content'])


def _read(chat) -> str | None:
  """The next line of the terminal, '' after Ctrl-C; None at its end."""
  try:
    chat.is_reading = True
    line = input('> ')
    chat.is_reading = False
    return line
  except EOFError:  # Ctrl-D
    chat.is_reading = False
    print()
    return None
  except KeyboardInterrupt:
    print()
    return ''


@contextlib.contextmanager
def _interruptible(chat: Chat) -> Iterator[None]:
  """Within this context Ctrl-C stops an answer, or drops the line that is being
  written. Not by an exception during an answer: it could be lost in a callback
  of jax. SIGTERM and SIGHUP end the process."""
  settings = termios.tcgetattr(sys.stdin)

  def interrupt(number, frame):
    if chat.is_reading:
      chat.is_reading = False
      raise KeyboardInterrupt
    if chat.is_stopped:  # and the answer has not ended since
      signals.end_at_once(number)
    chat.is_stopped = True

  def end(number):
    if number != signal.SIGINT:
      with contextlib.suppress(termios.error):  # the terminal may be gone
        termios.tcsetattr(sys.stdin, termios.TCSANOW, settings)
      signals.end_at_once(number)

  with signals.received(end, interrupt):
    yield


@contextlib.contextmanager
def _history() -> Iterator[None]:
  """Within this context input() edits lines, of which the last are kept."""
  try:
    import readline
  except ImportError:  # on some systems Python has none
    yield
    return
  with contextlib.suppress(OSError):
    readline.read_history_file(HISTORY)
  readline.set_history_length(MAX_HISTORY)
  try:
    yield
  finally:
    with contextlib.suppress(OSError):
      HISTORY.parent.mkdir(parents=True, exist_ok=True)
      readline.write_history_file(HISTORY)


def _is_terminal():
  return sys.stdin.isatty() and sys.stdout.isatty()


def _write(text):
  print(text, end='', flush=True)
