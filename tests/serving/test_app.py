"""The HTTP application, through sockets."""

import contextlib
import json
import time

import pytest
import toy_server

from r1jax import errors
from r1jax.serving import request_body, serve, source
from r1jax.serving.engine import Engine

CHAT, COMPLETION = '/v1/chat/completions', '/v1/completions'
KEY = 'a-key'
SLOTS, MAX_LEN, QUEUE = 2, 48, 6


@pytest.fixture(scope='module')
def model(base):
  return source.load(str(base), 'float32', None, None)


@pytest.fixture(scope='module')
def running(model):
  engine = Engine(model.policy, model.eos_ids, SLOTS, MAX_LEN, QUEUE, segment=3)
  with toy_server.serving(model, engine, KEY) as server:
    yield server


@pytest.fixture
def server(running):
  yield running
  wait_until(lambda: running.engine.counts()[:2] == (0, 0))


def wait_until(is_true):
  deadline = time.monotonic() + 60
  while not is_true():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def user(text):
  return [dict(role='user', content=text)]


def chat(server, text='12+7', **fields):
  fields = dict(seed=3, max_tokens=9) | fields
  return server.post(CHAT, messages=user(text), **fields)


def test_a_chat_has_openais_form(server):
  answer = chat(server, n=2)
  assert answer['object'] == 'chat.completion' and answer['model'] == 'toy'
  assert answer['id'].startswith('chatcmpl-') and answer['created'] > 1e9
  assert [x['index'] for x in answer['choices']] == [0, 1]
  for choice in answer['choices']:
    assert choice['message']['role'] == 'assistant'
    assert choice['finish_reason'] in ('stop', 'length')
    assert choice['logprobs'] is None
  usage = answer['usage']
  assert usage['prompt_tokens'] == 4
  assert usage['total_tokens'] == 4 + usage['completion_tokens']


def test_the_same_seed_gives_the_same_response(server):
  texts = [chat(server)['choices'][0]['message']['content'] for _ in range(2)]
  assert texts[0] == texts[1]
  other = chat(server, n=2)['choices']
  assert other[0]['message']['content'] == texts[0]


def test_a_stream_is_the_response_in_parts(server):
  fields = dict(
    seed=3,
    max_tokens=9,
    n=2,
    logprobs=True,
    top_logprobs=2,
    return_token_ids=True,
  )
  whole = server.post(CHAT, messages=user('12+7'), **fields)
  events = server.events(
    CHAT,
    messages=user('12+7'),
    stream_options=dict(include_usage=True),
    **fields,
  )
  assert events[-1]['choices'] == [] and events[-1]['usage'] == whole['usage']
  assert events[0]['prompt_token_ids'] == whole['prompt_token_ids']
  assert events[0]['choices'][0]['delta']['role'] == 'assistant'
  for n, want in enumerate(whole['choices']):
    parts = [x['choices'][0] for x in events[:-1]]
    parts = [part for part in parts if part['index'] == n]
    text = ''.join(part['delta']['content'] for part in parts)
    ids, logprobs = [], []
    for part in parts:
      ids += part['token_ids']
      logprobs += part['logprobs']['content']
    assert text == want['message']['content']
    assert ids == want['token_ids'] and logprobs == want['logprobs']['content']
    assert parts[-1]['finish_reason'] == want['finish_reason']
    assert len(logprobs[0]['top_logprobs']) == 2


def test_completions_take_texts_and_ids(server):
  texts = server.post(COMPLETION, prompt=['12', '3'], seed=1, max_tokens=4)
  ids = server.post(
    COMPLETION, prompt=[list(b'12'), list(b'3')], seed=1, max_tokens=4
  )
  assert texts['choices'] == ids['choices'] and len(ids['choices']) == 2
  assert texts['object'] == 'text_completion'
  one = server.post(COMPLETION, prompt=list(b'12'), seed=1, max_tokens=4)
  assert one['choices'][0]['text'] == texts['choices'][0]['text']


def test_echo_has_the_log_probabilities_of_the_prompt(server):
  answer = server.post(
    COMPLETION, prompt='12+7=', max_tokens=0, echo=True, logprobs=1
  )
  (choice,) = answer['choices']
  assert choice['text'] == '12+7=' and choice['finish_reason'] == 'length'
  logprobs = choice['logprobs']
  assert logprobs['tokens'] == list('12+7=')
  assert logprobs['text_offset'] == [0, 1, 2, 3, 4]
  assert logprobs['token_logprobs'][0] is logprobs['top_logprobs'][0] is None
  for text, logp, top in list(zip(*list(logprobs.values())[:3]))[1:]:
    assert top[text] == logp and max(top.values()) >= logp
  both = server.post(
    COMPLETION, prompt='12+7=', max_tokens=2, echo=True, logprobs=1, seed=1
  )
  more = both['choices'][0]['logprobs']
  assert len(more['tokens']) == 7
  assert more['token_logprobs'][:5] == logprobs['token_logprobs']
  plain = server.post(COMPLETION, prompt='12+7=', max_tokens=2, seed=1)
  assert both['choices'][0]['text'] == '12+7=' + plain['choices'][0]['text']


def test_a_stop_string_ends_the_text(server):
  text = chat(server)['choices'][0]['message']['content']
  answer = chat(server, stop=[text[2:4]])['choices'][0]
  assert answer['message']['content'] == text[: text.index(text[2:4])]
  assert answer['finish_reason'] == 'stop'


@pytest.mark.parametrize(
  'path, fields, sentence',
  [
    (CHAT, dict(), "'messages' must be"),
    (CHAT, dict(messages=[]), "'messages' must be"),
    (CHAT, dict(messages=[dict(role='me', content='x')]), 'expected system'),
    (CHAT, dict(messages=user('x') * 2), "template 'plain' cannot hold turns"),
    (CHAT, dict(messages=user('x') * 2), 'or start with --template chat'),
    (CHAT, dict(messages=user('\ud800')), 'the body is not UTF-8 text'),
    (CHAT, {'\ud800': 1}, 'the body is not UTF-8 text'),
    (CHAT, dict(messages=user(' ')), 'must be of the user, and not blank'),
    (CHAT, dict(messages=user('x'), temperature='hot'), 'temperature must be'),
    (CHAT, dict(messages=user('x'), temperature=-1), 'a number from 0 to'),
    (CHAT, dict(messages=user('x'), top_p=0), 'top_p must be a number from'),
    (CHAT, dict(messages=user('x'), n=0), 'n must be an integer from 1'),
    (CHAT, dict(messages=user('x'), n=7), 'asks for 7 responses at once'),
    (CHAT, dict(messages=user('x'), max_tokens=True), 'max_tokens must be an'),
    (
      CHAT,
      dict(messages=user('x'), max_tokens=48),
      'has 1 tokens and the resp',
    ),
    (CHAT, dict(messages=user('x' * 48)), 'has 48 tokens and the response'),
    (CHAT, dict(messages=user('x' * 9999)), 'has 9999 characters, but the'),
    (CHAT, dict(messages=user('x'), seed=-1), 'seed must be an integer'),
    (CHAT, dict(messages=user('x'), stop=['']), 'stop must be a text, or'),
    (CHAT, dict(messages=user('x'), top_logprobs=2), 'needs logprobs: true'),
    (CHAT, dict(messages=user('x'), temprature=1), 'did you mean temperature'),
    (CHAT, dict(messages=user('x'), tools=[{}]), 'tools is [{}], which r1jax'),
    (CHAT, dict(messages=user('x'), stream_options={}), 'with stream: true'),
    (
      CHAT,
      dict(messages=user('x'), stream=True, stream_options={'x': 1}),
      'stream_options must be',
    ),
    (COMPLETION, dict(), 'prompt must be a text, a list of ids'),
    (COMPLETION, dict(prompt=''), 'the prompt has no tokens'),
    (COMPLETION, dict(prompt=['a', 3]), 'prompt must be a text'),
    (COMPLETION, dict(prompt=[3, 999]), 'has the id 999: the model has'),
    (COMPLETION, dict(prompt='x', max_tokens=0), 'max_tokens must be an'),
  ],
)
def test_a_bad_field_is_named_with_the_status_400(
  server, path, fields, sentence
):
  status, found = server.refused(path, **fields)
  assert status == 400 and sentence in found


@pytest.mark.parametrize(
  'content, sentence',
  [
    (b'{"a"', 'the body is not JSON'),
    (b'[1]', 'must be a JSON object'),
    (b'{"temperature": NaN}', 'NaN is not a number'),
    (b'[' * 100_000, 'the body is not JSON'),
  ],
)
def test_a_body_that_is_no_object_is_refused(server, content, sentence):
  status, _, answer = server.call('POST', CHAT, content)
  assert status == 400 and sentence in answer['error']['message']


def test_a_wrong_path_method_or_kind_is_refused(server):
  assert server.call('GET', '/v1/nothing')[0] == 404
  assert server.call('GET', CHAT)[0] == 405
  status, _, answer = server.call(
    'POST', CHAT, dict(a=1), Content_Type='text/plain'
  )
  assert status == 415 and 'Content-Type' in answer['error']['message']
  assert server.refused(CHAT, model='another')[0] == 404
  assert server.call('GET', '/v1/models/another')[0] == 404


@pytest.mark.parametrize(
  'path, headers, want',
  [
    (CHAT, {}, 413),
    (CHAT, dict(Content_Type='text/plain'), 415),
    (CHAT, dict(Authorization='wrong'), 401),
    ('/nothing', {}, 404),
    ('/health', {}, 405),
  ],
)
def test_a_client_can_send_a_large_body_before_it_reads_the_refusal(
  server, monkeypatch, path, headers, want
):
  monkeypatch.setattr(request_body, 'MAX_BODY', 2**20)
  body = json.dumps(dict(messages=user('x' * 2**23))).encode()
  status, _, answer = server.call('POST', path, body, **headers)
  assert status == want and answer['error']['message']
  with contextlib.closing(server.connection()) as connection:
    for _ in range(2):  # The connection can go on.
      response = toy_server.send(connection, 'POST', path, body, KEY, headers)
      assert response.status == want and response.read()


@pytest.mark.parametrize('key', ['Bearer another', 'a-key', 'Bearer é', ''])
def test_a_wrong_key_is_refused(server, key):
  for method, path in [('POST', CHAT), ('GET', '/v1/models')]:
    status, headers, answer = server.call(method, path, Authorization=key)
    assert status == 401 and headers['WWW-Authenticate'] == 'Bearer'
    assert answer['error']['code'] == 'invalid_api_key'


def test_the_model_is_listed(server):
  listed = server.call('GET', '/v1/models')[2]['data']
  assert [x['id'] for x in listed] == ['toy']
  assert server.call('GET', '/v1/models/toy')[2] == listed[0]
  assert listed[0]['max_model_len'] == MAX_LEN


@contextlib.contextmanager
def held(server, count):
  """Within this context the engine does nothing, and `count` clients wait."""
  stream = dict(messages=user('1'), stream=True)
  connections = [server.connection() for _ in range(count)]
  with server.engine._changed:
    server.engine._rows, rows = [None] * 0, server.engine._rows
  try:
    for connection in connections:
      toy_server.send(connection, 'POST', CHAT, stream, KEY, {})
    yield connections
  finally:
    for connection in connections:
      connection.close()
    with server.engine._changed:
      server.engine._rows = rows


def test_a_full_queue_has_the_status_429(server):
  with held(server, QUEUE):
    status, headers, answer = server.call(
      'POST', CHAT, dict(messages=user('2'))
    )
    assert status == 429 and headers['Retry-After'] == '1'
    assert answer['error']['type'] == 'rate_limit_error'


@pytest.mark.parametrize('stream', [True, False])
def test_a_client_that_goes_away_frees_its_slot(server, stream, monkeypatch):
  ended = []
  finish = server.engine._finish

  def note(ticket, update):
    ended.append(update.finish)
    finish(ticket, update)

  monkeypatch.setattr(server.engine, '_finish', note)
  # Never ends by itself, but for the length.
  monkeypatch.setattr(server.engine, 'segment', 1)
  run_once = server.engine.run_once
  monkeypatch.setattr(
    server.engine, 'run_once', lambda: (time.sleep(0.05), run_once())
  )
  connection = server.connection()
  body = json.dumps(dict(messages=user('1'), stream=stream, max_tokens=40))
  connection.request(
    'POST',
    CHAT,
    body,
    {'Content-Type': 'application/json', 'Authorization': f'Bearer {KEY}'},
  )
  wait_until(lambda: server.engine.counts().running == 1)
  connection.close()
  wait_until(lambda: server.engine.counts().running == 0)
  assert ended == ['cancelled']


def test_a_late_request_has_the_status_504(server, monkeypatch):
  monkeypatch.setattr(server.engine, 'timeout', -1.0)
  assert server.refused(CHAT, messages=user('1'))[0] == 504


def test_the_page_needs_nothing_from_elsewhere(server):
  with contextlib.closing(server.connection()) as connection:
    response = toy_server.send(connection, 'GET', '/', None, '', {})
    page = response.read().decode()
  assert response.status == 200 and 'http' not in page.lower()
  assert "default-src 'none'" in response.headers['Content-Security-Policy']


def test_without_a_key_only_names_of_this_machine_are_answered(model):
  class Idle(Engine):
    def __init__(self):
      self.max_len, self.max_waiting, self.vocab_size = MAX_LEN, 1, 5
      self.counts, self.run_once = lambda: (0, 0), lambda: None
      self.wait, self.stop, self.cancel_all = time.sleep, print, print

  with toy_server.serving(model, Idle()) as server:
    good = 'localhost', 'localhost:80', '127.0.0.1:8000', '[::1]:8000', '[::1]'
    for host in good:
      assert server.call('GET', '/v1/models', Host=host)[0] == 200
    for host in 'evil.org', '127.0.0.1.evil.org:80', 'localhost:x', '10.0.0.1':
      assert server.call('GET', '/v1/models', Host=host)[0] == 403


@pytest.mark.parametrize('host', ['0.0.0.0', '::', '10.0.0.1', 'example.org'])
def test_others_need_a_key(host):
  with pytest.raises(errors.UserError, match='can be reached from other'):
    serve.check_key(host, '')
  serve.check_key(host, 'secret')
  for own in 'localhost', '127.0.0.1', '::1':
    serve.check_key(own, '')
  with pytest.raises(errors.UserError, match='without spaces'):
    serve.check_key(host, 'a key')


def test_a_port_in_use_is_explained():
  first = serve.listen('127.0.0.1', 0)
  first.listen()
  with first, pytest.raises(errors.UserError, match='choose another --port'):
    serve.listen('127.0.0.1', first.getsockname()[1])
