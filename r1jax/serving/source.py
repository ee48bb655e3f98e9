"""The model that a command talks to, and how it is asked."""

import dataclasses

from r1jax import errors, user_code
from r1jax.api import work_directory
from r1jax.api.work_directory import Dtype
from r1jax.checkpoints.policy import Policy
from r1jax.data import run_date, templates
from r1jax.data.chats import Message
from r1jax.data.templates import Prompt, PromptConfig
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.sampling import generate
from r1jax.sampling.decode import SampleConfig
from r1jax.stages import rl

NO_CHAT = (
  'has no chat template that works, so prompts have the form of R1-Zero; '
  '--template sets another'
)
NEXT_TURN = '\nUser: {question}. Assistant:'  # of R1-Zero's, after a response


@dataclasses.dataclass(frozen=True)
class Source:
  """A model, and how it is asked: as in its run, or by its chat template."""

  name: str
  policy: Policy
  prompt: PromptConfig
  sample: SampleConfig
  date: str = ''  # that chat templates see, see data/run_date.py

  @property
  def stop(self) -> tuple[str, ...]:
    """The texts that end every response."""
    sequences = self.sample.stop_token_sequences
    texts = [self.policy.tokenizer.decode(ids) for ids in sequences]
    return *self.prompt.stop_strings, *texts

  @property
  def holds_turns(self) -> bool:
    """Whether a prompt can have earlier turns."""
    return self.prompt.template in ('chat', 'r1_zero')

  @property
  def eos_ids(self) -> tuple[int, ...]:
    return self.sample.eos_ids or tuple(self.policy.tokenizer.eos_ids)


def load(
  name: str, dtype: Dtype, template: str | None, prefill: str | None
) -> Source:
  """The model of a directory, a GGUF file, a hub name, a run, RUN@STEP,
  RUN@best or RUN@last. A run brings its template, prefill and stop strings; a
  template or a prefill that is given replaces them."""
  directory, step = work_directory.find(name)
  policy = work_directory.load(name, dtype)
  sample, date = SampleConfig(), ''
  if directory is None:
    prompt = PromptConfig(template=template or _own_template(name, policy))
  else:
    config, date = work_directory.config_at(directory, step), ''
    prompt, date = config.prompt, directory.record.date
    if directory.stage is rl:
      sample = config.sample
  if template is not None:
    system = prompt.system if template == 'chat' else ''
    prompt = dataclasses.replace(prompt, template=template, system=system)
  if prefill is not None:
    prompt = dataclasses.replace(prompt, prefill=prefill)
  generate.check(prompt, sample)
  source = Source(name, policy, prompt, sample, date)
  make_prompt(source, [dict(role='user', content='1 + 1?')])  # or UserError
  return source


def make_prompt(source: Source, messages: list[Message]) -> Prompt:
  """The prompt of a conversation that ends with the user's message. Earlier
  turns need a template that holds them."""
  for message in messages:
    check_text(message['content'], f'the message of the {message["role"]}')
  *turns, last = messages
  if last['role'] != 'user' or not last['content'].strip():
    raise errors.UserError(
      'the last of the messages must be of the user, and not blank'
    )
  prompt, question = source.prompt, last['content']
  roles = {turn['role'] for turn in turns}
  record = dict(id='conversation', prompt=question, turns=turns)
  with run_date.at(source.date):
    is_plain = roles <= {'user', 'assistant'}
    if prompt.template == 'r1_zero' and turns and is_plain:
      text = _r1_zero_text(source.policy.tokenizer, turns, question)
      return Prompt(text=text, opening=prompt.prefill)
    is_own = user_code.is_name(prompt.template)
    if turns and prompt.template != 'chat' and not is_own:
      raise errors.UserError(
        f'the prompt template {prompt.template!r} cannot hold turns, such as a '
        'system message: leave them out, or start with --template chat'
      )
    return templates.make_prompt(source.policy.tokenizer, record, prompt)


def check_text(text: str, what: str) -> None:
  """Raises UserError for what could not be read as UTF-8."""
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise errors.UserError(
      f'{what} is not UTF-8 text: see its character {error.start + 1}'
    ) from error


def _own_template(name, policy):
  """chat, or r1_zero for a model without a chat template."""
  try:
    policy.tokenizer.chat([dict(role='user', content='1 + 1?')])
  except errors.UserError:
    print(f'{name} {NO_CHAT}', flush=True)
    return 'r1_zero'
  return 'chat'


def _r1_zero_text(tokenizer: Tokenizer, turns: list[Message], question: str):
  """R1-Zero's template, continued after each response."""
  text = ''
  for message in [*turns, dict(role='user', content=question)]:
    if message['role'] == 'assistant':
      text += f' {message["content"].strip()}'
      continue
    template = NEXT_TURN if text else templates.TEMPLATES['r1_zero']
    text += template.replace('{question}', message['content'])
  return templates.with_prefix(tokenizer, text)
