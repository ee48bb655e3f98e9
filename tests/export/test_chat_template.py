"""A run's prompts as a chat template."""

import dataclasses
import json
import os
import subprocess

import jinja2
import pytest

from r1jax import errors
from r1jax.checkpoints import tokenization
from r1jax.checkpoints.policy import Policy
from r1jax.data import run_date, templates
from r1jax.data.templates import PromptConfig
from r1jax.export import chat_template
from r1jax.sampling.decode import SampleConfig
from r1jax.serving import source as serving

QUESTIONS = (
  'What is 12 * 7?',
  ' {{ 7 }} {% if %} "quoted" \\n \\boxed{é} \'x\'\n\n# 思考 ',
  '',
)
CHAT = """\
{%- for message in messages %}
<|{{ message['role'] }}|>{{ message['content'] }}<|end|>
{%- endfor %}
{%- if add_generation_prompt %}
<|assistant|>
{% endif %}
"""
DATED = "{{ strftime_now('%d %b %Y') }} {{ messages[0]['content'] }}"


def tokenizer(prefix='', template=None):
  made = tokenization.ByteTokenizer(('<s>', *tokenization.TAGS))
  made.settings = dataclasses.replace(made.settings, chat_template=template)
  made.prefix = prefix
  return made


PROMPTS = {
  'r1_zero': PromptConfig(),
  'r1_zero, prefill': PromptConfig(prefill='<think>\n'),
  'plain': PromptConfig(template='plain', prefill=' '),
  'own': PromptConfig(template='"Q" {question}\n\\n{question} A:\n'),
  'own, opened': PromptConfig(
    template='{question}\n<think>', prefill='<think> so'
  ),
  'tool': PromptConfig(template='{tool} {question} A:', tool='calculator'),
  'chat': PromptConfig(template='chat'),
  'chat, system': PromptConfig(template='chat', system='Be "kind".\n'),
  'chat, prefill': PromptConfig(template='chat', prefill='<think>'),
}


@pytest.mark.parametrize('name', PROMPTS)
@pytest.mark.parametrize('prefix', ['', '<s>'])
def test_the_template_makes_the_prompts_of_training(name, prefix):
  prompt, own = PROMPTS[name], tokenizer(prefix, CHAT)
  template = chat_template.of_run(own, prompt)
  served = tokenization.with_chat_template(own, template)
  assert own.settings.chat_template == CHAT
  for question in QUESTIONS:
    made = templates.make_prompt(own, dict(id='', prompt=question), prompt)
    messages = [dict(role='user', content=question)]
    assert served.chat(messages) == made.full_text


# Prints the prompts that transformers makes of the texts in argv[2].
TRANSFORMERS = """
import json, pathlib, sys
import transformers
found = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
  tokenizer = transformers.AutoTokenizer.from_pretrained(path)
  chats = [[dict(role='user', content=x)] for x in json.loads(sys.argv[2])]
  options = dict(tokenize=False, add_generation_prompt=True)
  found[path.name] = [tokenizer.apply_chat_template(x, **options) for x in chats]
print(json.dumps(found))
"""


@pytest.mark.torch
def test_transformers_makes_the_prompts_of_training(tmp_path):
  want = {}
  for name, prompt in PROMPTS.items():
    own = tokenizer('<s>', CHAT)
    template = chat_template.of_run(own, prompt)
    folder = tmp_path / name
    folder.mkdir()
    tokenization.with_chat_template(own, template).save(folder)
    records = [dict(id='', prompt=question) for question in QUESTIONS]
    made = [templates.make_prompt(own, record, prompt) for record in records]
    want[name] = [one.full_text for one in made]
  python = os.environ['R1JAX_TORCH_PYTHON']
  output = subprocess.run(
    [python, '-c', TRANSFORMERS, str(tmp_path), json.dumps(QUESTIONS)],
    stdout=subprocess.PIPE,
    check=True,
  ).stdout
  assert json.loads(output) == want


def test_later_questions_follow_the_end_token_of_the_answer():
  own = tokenizer()
  prompt = PromptConfig(template='Q: {question} A:', prefill='<think>')
  template = chat_template.of_run(own, prompt)
  served = tokenization.with_chat_template(own, template)
  text = served.chat(
    [
      dict(role='user', content='1'),
      dict(role='assistant', content=' x'),
      dict(role='user', content='2'),
    ]
  )
  assert text == 'Q: 1 A: x<|end|>Q: 2 A:<think>'
  with pytest.raises(errors.UserError, match='without system messages'):
    served.chat([dict(role='system', content='Be kind.')])


def test_later_questions_to_r1_zero_are_those_of_chat():
  own = tokenizer('<s>')
  prompt = PromptConfig(prefill='<think>')
  served = tokenization.with_chat_template(
    own, chat_template.of_run(own, prompt)
  )
  messages = [
    dict(role='user', content='1'),
    dict(role='assistant', content='\n <think>x</think> 7\n'),
    dict(role='user', content='2'),
  ]
  asked = serving.Source('', Policy({}, None, own), prompt, SampleConfig())
  made = serving.make_prompt(asked, messages)
  assert served.chat(messages) == made.full_text
  assert made.full_text.endswith('7\nUser: 2. Assistant:<think>')


def test_a_prompt_without_the_request_for_a_response_has_no_prefill():
  prompt = PromptConfig(template='{question}:', prefill='<think>')
  template = jinja2.Template(chat_template.of_run(tokenizer(), prompt))
  messages = [dict(role='user', content='1')]
  assert template.render(messages=messages) == '1:'
  text = template.render(messages=messages, add_generation_prompt=True)
  assert text == '1:<think>'


def test_the_date_is_that_of_the_run():
  date = '2026-03-05T10:00:00'
  prompt, own = PromptConfig(template='chat'), tokenizer(template=DATED)
  template = chat_template.of_run(own, prompt, date)
  served = tokenization.with_chat_template(own, template)
  with run_date.at(date):
    made = templates.make_prompt(own, dict(id='', prompt='7'), prompt)
  messages = [dict(role='user', content='7')]
  assert served.chat(messages) == made.full_text == '05 Mar 2026 7'


def test_a_function_of_the_users_has_no_template():
  prompt = PromptConfig(template='own.py:prompt')
  assert chat_template.of_run(tokenizer(), prompt) is None


def test_a_limited_tokenizer_keeps_its_limit():
  own = tokenization.LimitedTokenizer(tokenizer(), 258)
  served = tokenization.with_chat_template(own, 'x')
  assert served.vocab_size == 258 and served.chat([]) == 'x'
  assert tokenization.chat_template(own) is None
