"""A tool's answers between the model's own tokens, and turns before a prompt."""

import json

import numpy as np
import pytest

from r1jax import errors
from r1jax.checkpoints import tokenization
from r1jax.data import templates
from r1jax.sampling import decode, generate, tool_calls

WORDS = tokenization.ByteTokenizer(
  (*tokenization.TAGS, '<calc>', '</calc>', '<result>', '</result>')
)
C = templates.PromptConfig(tool='calculator', calls=2, result_len=8)
TOOL = tool_calls.find_tool(C, WORDS)
PROMPT, MAX_NEW = WORDS.encode('6*7='), 12


def drawn(rows, texts, width, finished=True):
  """The Rollout of texts drawn after rows of ids."""
  B = len(rows)
  tokens_BL, mask_BL = (
    np.zeros((B, width), np.int32),
    np.zeros((B, width), bool),
  )
  pos_BL = np.full((B, width), -1)
  for b, (row, text) in enumerate(zip(rows, texts)):
    ids = WORDS.encode(text)
    end = len(row) + len(ids)
    tokens_BL[b, :end], pos_BL[b, :end] = row + ids, np.arange(end)
    mask_BL[b, len(row) : end] = True
  return decode.SampledRows(
    tokens_BL,
    pos_BL,
    -1.0 * mask_BL,
    mask_BL,
    np.full(B, finished),
    np.array([1]),
    np.array([B]),
  )


def play(first, *later):
  """The rollout, and what each later draw was asked for."""
  asked, later = [], list(later)

  def draw(group, width, rows, *arrays):
    asked.append((group, rows, *map(np.ndarray.tolist, arrays)))
    return drawn(rows, later.pop(0), width + MAX_NEW)

  rows = [PROMPT] * len(first)
  rollout = drawn(rows, first, len(PROMPT) + MAX_NEW)
  out = tool_calls.answer_calls(
    C, TOOL, WORDS, draw, rollout, np.array([5, 3]), MAX_NEW
  )
  assert not later
  return out, asked


def text(out, b):
  return WORDS.decode(out.tokens_BL[b][out.pos_BL[b] >= 0])


def own(out, b):
  return WORDS.decode(out.tokens_BL[b][out.mask_BL[b]])


def test_a_call_is_answered_and_the_row_goes_on():
  out, asked = play(
    ['<calc>6*7</calc>', '1', '2', '3'], ['<answer>42', 'x', 'y', 'z']
  )
  assert text(out, 0) == '6*7=<calc>6*7</calc><result>42</result><answer>42'
  assert [text(out, b) for b in (1, 2, 3)] == ['6*7=1', '6*7=2', '6*7=3']
  assert out.finished_B.all() and len(asked) == 1
  group, rows, numbers, members, rooms = asked[0]
  assert (group, numbers, members) == (1, [5, 5, 3, 3], [0, 1, 0, 1])
  assert rooms == [MAX_NEW - 5, 1, 1, 1]  # the call cost five tokens
  assert WORDS.decode(rows[0]) == '6*7=<calc>6*7</calc><result>42</result>'


def test_a_result_is_context_and_not_the_policys_own():
  out, _ = play(['<calc>6*7</calc>', '1'], ['<answer>42', 'x'])
  assert own(out, 0) == '<calc>6*7</calc><answer>42'
  assert (out.logp_BL[0] == -1.0 * out.mask_BL[0]).all()
  real = (out.pos_BL[0] >= 0).sum()
  assert out.pos_BL[0][:real].tolist() == list(range(real))
  assert (out.pos_BL[0][real:] == -1).all()


def test_calls_are_counted_and_the_last_one_unanswered_is_no_end():
  out, asked = play(
    ['<calc></calc>', 'a'], ['<calc></calc>', 'x'], ['<calc></calc>', 'x']
  )
  error = '<result>error</result>'
  assert text(out, 0) == '6*7=' + f'<calc></calc>{error}' * 2 + '<calc></calc>'
  assert out.finished_B.tolist() == [False, True] and len(asked) == C.calls


def test_a_call_with_no_room_left_is_no_end():
  out, asked = play(['<calc>1+1+1</calc>1111</calc>', 'b'])
  assert out.mask_BL[0].sum() == MAX_NEW and not asked
  assert out.finished_B.tolist() == [False, True]


def test_a_result_too_long_is_an_error():
  out, _ = play(['<calc>9999*9999</calc>', 'b'], ['', ''])
  assert '<result>error</result>' in text(out, 0)


def test_a_tool_must_be_known_and_its_failure_must_fit():
  with pytest.raises(errors.UserError, match='it can be calculator'):
    tool_calls.find_tool(templates.PromptConfig(tool='calculater'), WORDS)
  with pytest.raises(errors.UserError, match='alone has 7 tokens'):
    tool_calls.find_tool(
      templates.PromptConfig(tool='calculator', result_len=6), WORDS
    )


def test_earlier_turns_come_before_the_question():
  template = (
    '{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}'
  )
  chat = tokenization.HFTokenizer(
    WORDS.backend, tokenization.Settings(WORDS.settings.names, (), template)
  )
  record = dict(
    id='r',
    prompt='and 2?',
    answer='4',
    turns=[
      dict(role='user', content='1?'),
      dict(role='assistant', content='2'),
    ],
  )
  c = templates.PromptConfig(template='chat')
  ids = templates.encode_prompts(chat, [record], c)[0]
  assert chat.decode(ids) == 'u:1?;a:2;u:and 2?;'
  with pytest.raises(errors.UserError, match='template=chat'):
    templates.render('plain', chat, 'x', record['turns'])


@pytest.mark.parametrize('bad', ['x', [1], [dict(role='tool', content='x')]])
def test_turns_that_are_no_chat_are_refused_with_their_record(bad):
  with pytest.raises(errors.UserError, match='turns of record r/1 must be'):
    templates.earlier_turns(json.loads(json.dumps(dict(id='r/1', turns=bad))))


def test_a_generator_with_a_tool_stops_at_its_calls():
  made = generate.Generator(
    None, 1, None, WORDS, C, decode.SampleConfig(), None, 6
  )
  assert made.sc.stops == (tuple(WORDS.encode('</calc>')),)
