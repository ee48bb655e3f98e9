"""A server and its real clients: the openai package, lm-evaluation-harness, a
hundred connections at a time, Chromium."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import toy

import r1jax
from r1jax import files
from r1jax.data import tasks

pytestmark = pytest.mark.users

# An environment with the libraries, see `make test-users`.
PYTHON = os.environ.get('R1JAX_USERS_PYTHON', sys.executable)
HERE = pathlib.Path(__file__).parent
KEY = 'secret'
OFFLINE = dict(HF_HUB_OFFLINE='1', HF_DATASETS_OFFLINE='1')
LOAD_SECONDS = int(os.environ.get('R1JAX_LOAD_SECONDS', '20'))
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: prompt
"""
GENERATE = """\
output_type: generate_until
doc_to_target: "{{answer}}"
generation_kwargs:
  {until: ["<|end|>"], max_gen_toks: 24, temperature: 0.0, do_sample: false}
filter_list:
  - name: answer
    filter:
      - {function: regex, regex_pattern: "<answer>(.*)</answer>"}
      - {function: take_first}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
CHOOSE = """\
output_type: multiple_choice
doc_to_choice: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
doc_to_target: "{{answer | int}}"
target_delimiter: "<answer>"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


@contextlib.contextmanager
def serving(model, *options, key=''):
  """(the process, the port) of r1jax serve, which ends well after SIGTERM."""
  process = subprocess.Popen(
    [sys.executable, '-m', 'r1jax', 'serve', model, '--port', '0', '--name']
    + ['toy', '--max-len', '64', *options],
    stdout=subprocess.PIPE,
    text=True,
    env=dict(os.environ, R1JAX_API_KEY=key, XLA_FLAGS=toy.ONE_DEVICE),
  )
  try:
    lines = [process.stdout.readline(), process.stdout.readline()]
    (port,) = re.findall(r'page: http://127.0.0.1:(\d+)/ ', ''.join(lines))
    yield process, port
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == 'ended\n'
    assert process.wait(60) == 0
  finally:
    process.kill()
    process.wait()


def run_client(*arguments, **variables):
  """The output of a program in the users' environment."""
  done = subprocess.run(
    [PYTHON, *map(str, arguments)],
    capture_output=True,
    text=True,
    env=dict(os.environ, **variables),
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


@pytest.fixture(scope='module')
def problems(tmp_path_factory):
  """A file of problems."""
  records = tasks.load_records('toy:running_sum?count=60&digits=3', 1000)
  path = tmp_path_factory.mktemp('problems') / 'problems.jsonl'
  keys = 'id', 'prompt', 'answer'
  files.write_jsonl(path, [{key: x[key] for key in keys} for x in records])
  return path


def test_the_openai_package_works(base):
  with serving(base, key=KEY) as (_, port):
    url = f'http://127.0.0.1:{port}/v1'
    got = json.loads(run_client(HERE / 'openai_client.py', url, KEY))
  ((want,),) = r1jax.open_run(base).generate(['123'], max_new_tokens=12, seed=5)
  assert got['models'] == ['toy']
  texts = got['text'], got['streamed'], got['completion']
  assert set(texts) == {want.text} and got['ids'] == want.ids
  for logprobs in got['logprobs'], got['token_logprobs']:
    np.testing.assert_allclose(logprobs, want.logprobs, atol=1e-4)
  assert got['usage'] == got['stream_usage'] == len(want.ids)
  assert [tuple(x[:2]) for x in got['errors']] == [
    ('BadRequestError', 400),
    ('BadRequestError', 400),
    ('NotFoundError', 404),
    ('AuthenticationError', 401),
  ]
  assert got['parallel'][1::2] == [None] * 10
  for seed in range(0, 20, 2):
    ((alone,),) = r1jax.open_run(base).generate(
      ['123'], max_new_tokens=12, seed=seed
    )
    assert got['parallel'][seed] == alone.text


def lm_eval(folder, port, name, text, problems, model):
  """What lm-evaluation-harness finds of each problem, by its id."""
  (folder / f'{name}.yaml').write_text(
    TASK.format(name=name, data=problems) + text
  )
  url = f'http://127.0.0.1:{port}/v1/completions'
  options = f'model=toy,base_url={url},num_concurrent=8,tokenizer={model}'
  run_client(
    *['-m', 'lm_eval', '--model', 'local-completions', '--model_args', options],
    *['--tasks', name, '--include_path', folder, '--log_samples'],
    *['--output_path', folder / 'out'],
    HF_HOME=str(folder / 'hf'),
    **OFFLINE,
  )
  (path,) = folder.glob(f'out/**/samples_{name}_*.jsonl')
  return {line['doc']['id']: line for line in files.read_jsonl(path)}


def test_lm_eval_finds_what_evaluate_finds(base, problems, tmp_path):
  model = base / 'model'
  with serving(base) as (_, port):
    found = lm_eval(tmp_path, port, 'sums', GENERATE, problems, model)
    chosen = lm_eval(tmp_path, port, 'choices', CHOOSE, problems, model)
  settings = toy.settings(
    'evaluate',
    f'init={model}',
    f"data={{'sums': '{problems}'}}",
    'samples=1',
    'pass_k=()',
    'majority_k=0',
    'prompts_per_chunk=60',
    'sample.temperature=0.0',
    'sample.max_new_tokens=24',
  )
  toy.stage('evaluate').run(settings, tmp_path / 'evaluation')
  (path,) = (tmp_path / 'evaluation/chunks').glob('*.jsonl')
  own = {line['id']: line for line in files.read_jsonl(path)}
  assert found.keys() == own.keys() and len(own) == 60
  for i, line in own.items():
    assert found[i]['resps'][0][0] == line['response']
    assert found[i]['exact_match'] == line['accuracy']
  scores = [line['accuracy'] for line in own.values()]
  assert 0 < np.mean(scores) < 1
  loaded = r1jax.load(model)
  for line in chosen.values():
    prompt = line['doc']['prompt']
    rows = [loaded.tokenizer.encode(f'{prompt}<answer>{n}') for n in range(10)]
    want = loaded.logprobs(rows)[:, len(prompt) :].sum(axis=1)
    logps = [float(answer[0]) for answer in line['filtered_resps']]
    np.testing.assert_allclose(logps, want, atol=1e-4)


def test_a_hundred_clients_lose_and_mix_up_nothing(base):
  with serving(base, '--slots', '16') as (process, port):
    got = json.loads(
      run_client(HERE / 'load_client.py', port, 100, LOAD_SECONDS, process.pid)
    )
  counts, memories = got['counts'], got['memories']
  assert set(counts) == {'right', 'left'} and counts['right'] > 100
  assert got['different'] > 10
  half = memories[len(memories) // 2 :]
  assert max(half) - half[0] < 20, memories  # MiB


def test_a_person_can_talk_to_the_model_on_its_page(base, chromium, tmp_path):
  with serving(base, key=KEY) as (_, port):
    url = f'http://127.0.0.1:{port}/'
    looks = json.loads(
      run_client(HERE / 'try_page.py', chromium, url, KEY, tmp_path)
    )
  ((want,),) = r1jax.open_run(base).generate(['123'], max_new_tokens=12, seed=5)
  assert len(looks) == len(list(tmp_path.glob('*.png'))) == 4
  for seen in looks:
    assert seen['model'] == 'toy' and 'key is missing' in seen['without_key']
    shown = f'{seen["thinking"]}{seen["answer"]}'
    assert shown == re.sub('</?think>', '', want.text)
    assert seen['note'].startswith(f'{len(want.ids)} tokens')
    assert seen['stopped'] == 'stopped' and seen['turns'] == 0
    assert seen['asked'] == '<img src=x onerror=alert(1)>'
    assert not seen['complaints'] and not seen['elsewhere']
    assert seen['overflow'] <= 0
  backgrounds = {seen['scheme']: seen['background'] for seen in looks}
  assert backgrounds['light'] != backgrounds['dark']
