"""chat and sample: a model in the terminal."""

import io
import json
import os
import pty
import shutil
import signal
import types

import pytest

import r1jax
from r1jax import cli, errors
from r1jax.serving import chat as chats
from r1jax.serving import sample, source
from r1jax.serving.engine import Engine
from r1jax.serving.request import Update

CHAT_TEMPLATE = (
  '{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[a]<think>'
)


@pytest.fixture(scope='module')
def loaded(base):
  return source.load(str(base), 'float32', None, None)


def run(*arguments):
  assert cli.run(arguments[0], arguments[1:]) == 0


def test_sample_prints_what_generate_returns(base, capsys):
  options = ['--group', '2', '--seed', '3', '--max-tokens', '9']
  run('sample', str(base), '1+2', '345', *options, '--json')
  lines = [json.loads(x) for x in capsys.readouterr().out.splitlines()]
  want = r1jax.open_run(base).generate(
    ['1+2', '345'], group=2, max_new_tokens=9, seed=3
  )
  assert [line['prompt'] for line in lines] == ['1+2', '1+2', '345', '345']
  for line, response in zip(lines, [*want[0], *want[1]], strict=True):
    assert (line['text'], line['ids']) == (response.text, response.ids)


def test_sample_shows_each_response_under_a_line(base, capsys):
  run('sample', str(base), '1+2', '--temperature', '0', '--max-tokens', '3')
  head, _, *_ = capsys.readouterr().out.splitlines()
  assert head == '— 1+2 — 1 of 1, 3 tokens, cut off'


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    (['sample', 'BASE', ' '], 'the prompt is empty'),
    (['sample', 'BASE', 'x\udcff'], 'the prompt is not UTF-8 text'),
    (['sample', 'BASE@17', 'x'], 'no such checkpoint; there are the steps'),
    (['sample', 'BASE', 'x', '--stop', ''], 'an empty text would end every'),
    (['sample', 'nowhere', 'x'], 'nowhere does not exist'),
    (['sample', 'BASE', 'x', '--template', 'chat'], 'has no chat template'),
    (['chat', 'BASE', '--system', 'x'], "template 'plain' cannot hold turns"),
  ],
)
def test_wrong_arguments_are_explained(base, arguments, sentence, monkeypatch):
  monkeypatch.setattr('sys.stdin', io.StringIO('a question\n'))
  with pytest.raises(errors.UserError, match=sentence):
    run(*[text.replace('BASE', str(base)) for text in arguments])


@pytest.mark.parametrize(
  'options, sentence',
  [
    ('--top-p 1.5', "--top-p: '1.5' is not a number from 1e-06 to 1"),
    ('--temperature nan', "--temperature: 'nan' is not a number of at least 0"),
    ('--seed -1', "'-1' is not an integer from 0 to 4294967295"),
    ('--group 1.5', "'1.5' is not an integer of at least 1"),
    ('--group', 'expected one argument; see .* sample --help'),
    ('--gruop 2', 'cannot read the argument --gruop: did you mean --group'),
  ],
)
def test_options_that_cannot_be_read_are_explained(options, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    run('sample', 'nowhere', 'x', *options.split())


def test_prompts_may_stand_between_options():
  options = sample.make_parser().parse(
    ['m', 'one', '--group', '2', 'two', '--', '-3+4?']
  )
  assert options.prompts == ['one', 'two', '-3+4?'] and options.group == 2


def test_a_prompt_without_room_for_a_response_is_named(base, loaded):
  count = loaded.policy.cfg.max_len
  wrong = f"'x+…' has {count} tokens, which leaves 0 .* shorten it$"
  with pytest.raises(errors.UserError, match=wrong):
    run('sample', str(base), '1', 'x' * count)
  with pytest.raises(errors.UserError, match='leaves .* or lower --max-tokens'):
    run('sample', str(base), '12', '--max-tokens', str(count - 1))
  wrong = 'prompt 0, of 3 tokens, with a response of'
  with pytest.raises(errors.UserError, match=wrong):
    r1jax.open_run(base).generate(['123'], max_new_tokens=count - 2)


def test_chat_answers_each_line_of_a_pipe(base, monkeypatch, capsys):
  monkeypatch.setattr('sys.stdin', io.StringIO('123\n\n/new\n45\n'))
  run('chat', str(base), '--seed', '4', '--max-tokens', '8', '--max-len', '48')
  out = capsys.readouterr().out
  assert len(out.splitlines()) == 2 and '\x1b' not in out


def chat_of(loaded, template, updates, **options):
  """A Chat whose engine gives the updates, and the prompts that it got."""
  tokenizer, prompts = loaded.policy.tokenizer, []

  def stream(request):
    prompts.append(tokenizer.decode(request.prompt))
    yield from updates

  chosen = types.SimpleNamespace(
    seed=1,
    system=None,
    max_tokens=None,
    temperature=1.0,
    top_p=1.0,
    top_k=0,
    stop=[],
  )
  vars(chosen).update(options)
  prompt = source.PromptConfig(template=template)
  model = source.dataclasses.replace(loaded, prompt=prompt)
  engine = types.SimpleNamespace(stream=stream, max_len=1000)
  return chats.Chat(model, engine, chosen), prompts


def test_r1_zeros_template_goes_on_after_each_response(loaded, capsys):
  chat, prompts = chat_of(
    loaded, 'r1_zero', [Update(' <think>x</think> 3. ', [], 'stop')]
  )
  chat.answer('1+2?')
  chat.answer('And 4?')
  assert prompts[0].endswith('tags, respectively, i.e., <think> reasoning '
    'process here </think> <answer> answer here </answer>. User: 1+2?. '
    'Assistant:')  # fmt: skip
  assert prompts[1] == f'{prompts[0]} 3.\nUser: And 4?. Assistant:'


def test_the_oldest_turns_leave_when_there_is_no_room(loaded, capsys):
  chat, prompts = chat_of(loaded, 'r1_zero', [Update('an answer', [], 'stop')])
  chat.answer('one')
  chat.engine.max_len = len(loaded.policy.tokenizer.encode(prompts[0])) + 10
  chat.answer('two')
  assert 'User: one' not in prompts[1] and 'User: two' in prompts[1]
  assert 'oldest turns are left out' in capsys.readouterr().out
  with pytest.raises(errors.UserError, match='the question has'):
    chat.answer('x' * 2000)


def test_ctrl_c_stops_an_answer(loaded, capsys):
  updates = [Update('some', []), Update(' more', [], 'length')]
  chat, _ = chat_of(loaded, 'r1_zero', updates)
  chat.is_stopped = True
  chat.answer('a question')
  assert capsys.readouterr().out == 'some\n'
  assert chat.messages[-1]['content'] == 'some'


def test_ctrl_c_is_an_exception_while_a_line_is_read_alone(loaded, monkeypatch):
  chat, _ = chat_of(loaded, 'plain', [])
  ends = [os.fdopen(file) for file in pty.openpty()]
  with ends[0], ends[1]:
    monkeypatch.setattr('sys.stdin', ends[1])
    with chats._interruptible(chat):
      signal.raise_signal(signal.SIGINT)
      assert chat.is_stopped
      chat.is_reading = True
      with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_run_brings_its_template(loaded, base):
  assert loaded.prompt.template == 'plain' and not loaded.holds_turns
  result = source.load(str(base / 'model'), 'float32', None, None)
  assert result.prompt == loaded.prompt


def test_a_model_without_a_chat_template_is_asked_as_r1_zero(base, tmp_path):
  copy = shutil.copytree(base / 'model', tmp_path / 'model')
  model = source.load(str(copy), 'float32', None, '<think>')
  assert model.prompt.template == 'r1_zero'
  assert model.prompt.prefill == '<think>'


def test_the_opening_of_a_chat_template_is_part_of_the_answer(loaded, capsys):
  tokenizer = loaded.policy.tokenizer
  settings = source.dataclasses.replace(
    tokenizer.settings, chat_template=CHAT_TEMPLATE
  )
  before, tokenizer.settings = tokenizer.settings, settings
  try:
    chat, prompts = chat_of(
      loaded, 'chat', [Update('x</think>3', [], 'stop')], system='be short'
    )
    chat.answer('1+2?')
    chat.answer('again')
  finally:
    tokenizer.settings = before
  first = '[system]be short[user]1+2?'
  assert prompts[0] == f'{first}[a]<think>'
  assert prompts[1] == f'{first}[assistant]3[user]again[a]<think>'
  assert capsys.readouterr().out == '<think>x</think>3\n' * 2


def test_an_engine_without_room_for_the_model_is_shorter(loaded):
  engine = Engine(loaded.policy, loaded.eos_ids, 1, 48)
  assert engine.max_len == 48 and engine.cache_bytes > 0
