"""Prompts from templates, and responses split into thinking and the rest."""

import dataclasses

import pytest

from r1jax import errors
from r1jax.checkpoints import tokenization
from r1jax.data import templates

TOKENIZER = tokenization.ByteTokenizer()
PROMPT = templates.PromptConfig(template='plain', prefill='<think>', max_len=6)


def test_the_r1_zero_template_is_that_of_the_paper():
  assert templates.render('r1_zero', TOKENIZER, '{x} %s?') == (
    'A conversation between User and Assistant. The user asks a question, and '
    'the Assistant solves it. The assistant first thinks about the reasoning '
    'process in the mind and then provides the user with the answer. The '
    'reasoning process and answer are enclosed within <think> </think> and '
    '<answer> </answer> tags, respectively, i.e., <think> reasoning process '
    'here </think> <answer> answer here </answer>. User: {x} %s?. Assistant:'
  )


def test_a_template_is_a_name_or_a_text_with_question_in_it():
  assert templates.render('plain', TOKENIZER, 'Q') == 'Q'
  assert templates.render('{0} {question}', TOKENIZER, '{q}') == '{0} {q}'
  with pytest.raises(errors.UserError, match="'r1-zero'.*'r1_zero'"):
    templates.render('r1-zero', TOKENIZER, 'Q')


@pytest.mark.parametrize(
  'text, want',
  [
    ('<think>a</think>b', ('a', 'b')),
    (' <think>a </think>\nb', ('a ', '\nb')),
    ('a</think>b', ('a', 'b')),
    ('a</think>b</think>c', ('a</think>b', 'c')),
    ('no tags', ('', 'no tags')),
    ('<think>never closed', ('', '')),
    ('<think>a</think>b<think>c', ('a', '')),
    ('', ('', '')),
  ],
)
def test_thinking_ends_at_the_last_closing_tag(text, want):
  assert templates.think_split(text) == want


def test_a_prompt_is_template_and_prefill_without_an_end_token():
  records = [dict(id='r/0', prompt='12345'), dict(id='r/1', prompt='7')]
  rows = templates.encode_prompts(TOKENIZER, records, PROMPT)
  texts = [TOKENIZER.decode(ids) for ids in rows]
  assert texts == ['12345<think>', '7<think>']
  assert len(rows[1]) == 2  # a tag is one id


@pytest.mark.parametrize(
  'change, record, message',
  [
    (dict(max_len=5), dict(id='a', prompt='12345'), 'record a has 6.*1 to 5'),
    (dict(prefill=''), dict(id='b', prompt=''), 'record b has 0'),
  ],
)
def test_a_prompt_of_invalid_length_is_refused(change, record, message):
  prompt = dataclasses.replace(PROMPT, **change)
  with pytest.raises(errors.UserError, match=message):
    templates.encode_prompts(TOKENIZER, [record], prompt)


# How the chat templates of R1's distilled models and of Qwen3 end a prompt.
HEADER = 'user: {question}\nassistant: '
OPEN = HEADER + '<think>\n'
CLOSED = HEADER + '<think>\n\n</think>\n\n'


@pytest.mark.parametrize(
  'template, prefill, opening',
  [
    (HEADER, '', ''),
    (HEADER, '<think>', '<think>'),
    (HEADER, 'Well: ', 'Well: '),
    (OPEN, '', '<think>\n'),
    (OPEN, '<think>\n', '<think>\n'),
    (OPEN, '<think>', '<think>\n'),
    (OPEN, '<think>Okay', '<think>\nOkay'),
    (OPEN, '<think>\nOkay', '<think>\nOkay'),
    (OPEN, 'Okay', '<think>\nOkay'),
    (OPEN, '<think>\n\n</think>\n\n', '<think>\n\n</think>\n\n'),
    (HEADER + '<think>', '<think>\n', '<think>\n'),
    (CLOSED, '', '<think>\n\n</think>\n\n'),
    (CLOSED, '<think>\n</think>', '<think>\n\n</think>\n\n'),
    ('<think> {question} A: ', '', ''),
  ],
)
def test_a_think_tag_at_the_end_of_the_template_opens_the_response_once(
  template, prefill, opening
):
  prompt = templates.PromptConfig(template=template, prefill=prefill)
  made = templates.make_prompt(TOKENIZER, dict(id='r', prompt='1?'), prompt)
  assert made.opening == opening
  rendered = template.replace('{question}', '1?')
  assert made.full_text.startswith(rendered)
  assert made.text + made.opening == made.full_text
  assert made.full_text.count('<think>') <= max(1, template.count('<think>'))


# The ends of the chat templates of DeepSeek-R1-Distill-Qwen and of Qwen3, and of
# one that always closes the thinking.
CHATS = {
  """{% for m in messages %}<｜User｜>{{ m['content'] }}{% endfor %}{% if \
add_generation_prompt %}{{'<｜Assistant｜><think>\\n'}}{% endif %}""": '<think>\n',
  """{%- for m in messages %}
  {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n' }}
  {%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\n\n</think>\n\n' }}
  {%- endif %}
{%- endif %}""": '',
  """{{ messages[0].content }}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}
{%- endif %}""": '<think>\n\n</think>\n\n',
}


@pytest.mark.parametrize('chat, opening', CHATS.items())
def test_a_chat_template_may_open_the_thinking(chat, opening):
  settings = dataclasses.replace(TOKENIZER.settings, chat_template=chat)
  tokenizer = tokenization.HFTokenizer(TOKENIZER.backend, settings)
  prompt = templates.PromptConfig(template='chat')
  record = dict(id='r', prompt='What does <think> mean?')
  made = templates.make_prompt(tokenizer, record, prompt)
  assert made.opening == opening
  message = dict(role='user', content=record['prompt'])
  assert made.full_text == tokenizer.chat([message])


def test_a_response_saved_without_the_prefill_has_its_tag_once():
  opening, text = '<think>\nLet me', '<think>\nSo 5</think>'
  assert templates.with_opening(text, opening) == text


def test_a_closed_thinking_and_a_prefill_that_opens_one_are_refused():
  prompt = templates.PromptConfig(template=CLOSED, prefill='<think>')
  with pytest.raises(errors.UserError, match='leave the prefill out'):
    templates.make_prompt(TOKENIZER, dict(id='r', prompt='1?'), prompt)


@pytest.mark.parametrize(
  'opening, text, rest',
  [
    ('<think>\n', '<think>\na</think>b', 'a</think>b'),
    ('<think>\n', '<think>a</think>b', 'a</think>b'),
    ('<think>', '<think>\na</think>b', '\na</think>b'),
    ('<think>\n', 'a</think>b', 'a</think>b'),
    ('<think>\n\n</think>\n\n', '<think></think>b', 'b'),
    ('<think>\n\n</think>\n\n', 'b', 'b'),
    ('', '<think>a', '<think>a'),
    ('', 'a', 'a'),
  ],
)
def test_an_opening_is_removed_and_added_once(opening, text, rest):
  assert templates.without_opening(text, opening) == rest
  whole = templates.with_opening(text, opening)
  assert templates.with_opening(whole, opening) == whole
  assert whole.endswith(rest)
  assert whole.startswith(opening.strip()[:7])


def test_earlier_turns_precede_the_question_in_a_chat():
  template = (
    '{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}'
  )
  tokenizer = tokenization.HFTokenizer(
    TOKENIZER.backend,
    dataclasses.replace(TOKENIZER.settings, chat_template=template),
  )
  turns = [
    dict(role='user', content='1?'),
    dict(role='assistant', content='2'),
  ]
  record = dict(id='r', prompt='and 2?', answer='4', turns=turns)
  ids = templates.encode_prompts(
    tokenizer, [record], templates.PromptConfig(template='chat')
  )[0]
  assert tokenizer.decode(ids) == 'u:1?;a:2;u:and 2?;'
  with pytest.raises(errors.UserError, match='template=chat'):
    templates.render('plain', tokenizer, 'x', turns)


@pytest.mark.parametrize(
  'turns', ['x', [1], [dict(role='critic', content='x')]]
)
def test_invalid_turns_are_refused_with_their_record(turns):
  with pytest.raises(errors.UserError, match='turns of record r/1 must be'):
    templates.earlier_turns(dict(id='r/1', turns=turns))
