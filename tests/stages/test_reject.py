"""From a policy's samples to a file that sft reads: what is kept, what is not
and why, and that neither a kill nor the chunks show in it."""

import collections
import json
import os
import signal
import subprocess
import sys
import time
import types

import jax
import numpy as np
import pytest
import toy

from r1jax import cli, errors, files
from r1jax.data import record_files
from r1jax.rejection import llm_judge
from r1jax.rewards.math import grading
from r1jax.sampling import generate
from r1jax.stages import reject

FILES = 'records.jsonl', 'rejected.jsonl', 'counts.json'


def run(base, workdir, *changes):
  reject.run(toy.settings('reject', f'init={base}/model', *changes), workdir)
  return read(workdir)


def read(workdir):
  records, rejected = (files.read_jsonl(workdir / name) for name in FILES[:2])
  return records, rejected, json.loads((workdir / FILES[2]).read_text())


def contents(workdir):
  return [(workdir / name).read_bytes() for name in FILES]


def save(path, records):
  path.write_text(''.join(json.dumps(x) + '\n' for x in records))
  return path


@pytest.fixture(scope='module')
def whole(base, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('whole')
  run(base, workdir)
  return workdir


def test_what_is_kept_is_right_and_different_and_sft_reads_it(whole, base):
  kept, rejected, counts = read(whole)
  assert len(kept) + len(rejected) == counts['samples'] == 352
  assert 0 < len(kept) == counts['kept'] < 352
  assert record_files.read(whole / 'records.jsonl') == kept
  ids = [x['id'] for x in kept + rejected]
  assert len(set(ids)) == 352
  for x in kept:
    assert list(x) == ['id', 'prompt', 'answer', 'response', 'domain']
    assert grading.accuracy([x], [x['response']]) == 1
  pairs = {(x['prompt'], x['response']) for x in kept}
  assert len(pairs) == len(kept)
  per_prompt = collections.Counter(x['prompt'] for x in kept)
  assert max(per_prompt.values()) == 2


def test_the_counts_are_those_of_the_files(whole):
  kept, rejected, counts = read(whole)
  reasons = collections.Counter(x['reason'] for x in rejected)
  assert counts['reasons'] == reasons
  assert {'accuracy', 'duplicate'} <= set(reasons)
  assert counts['domains'] == dict(
    reasoning=dict(samples=352, kept=len(kept), mixed=0)
  )
  accepted = counts['accepted_per_prompt']
  assert list(accepted) == [f'{n}/16' for n in range(17)]
  assert sum(accepted.values()) == 22
  again = reasons['duplicate'] + reasons['enough of its prompt']
  assert sum(int(n[:-3]) * x for n, x in accepted.items()) == len(kept) + again


def test_a_finished_stage_says_so_and_changes_nothing(whole, base, capsys):
  before = toy.files(whole)
  run(base, whole)
  assert 'is finished: see' in capsys.readouterr().out
  assert toy.files(whole) == before


def test_the_size_of_a_chunk_does_not_show(whole, base, tmp_path):
  run(base, tmp_path, 'prompts_per_chunk=11')
  assert contents(tmp_path) == contents(whole)


def test_the_order_is_drawn_by_the_seed(whole):
  order = [x['id'] for x in read(whole)[0]]
  numbers = [int(name.split('/')[2]) for name in order]
  assert numbers != sorted(numbers)


def test_a_run_that_breaks_goes_on_at_the_next_chunk(
  whole, base, tmp_path, monkeypatch, capsys
):
  one_chunk, seen = reject.one_chunk, []

  def broken(r, start):
    seen.append(start)
    if seen == [0, 8]:
      raise KeyboardInterrupt
    return one_chunk(r, start)

  monkeypatch.setattr(reject, 'one_chunk', broken)
  with pytest.raises(KeyboardInterrupt):
    run(base, tmp_path)
  assert not (tmp_path / 'records.jsonl').exists()
  (tmp_path / 'chunks' / '00001.tmp').write_text('{"number"')
  capsys.readouterr()
  run(base, tmp_path)
  said = capsys.readouterr().out
  assert seen == [0, 8, 8, 16]
  assert 'going on from prompt 8 of' in said
  assert 'prompts 16/22' in said and '22/22' in said and ' left ' in said
  assert 'tokens/s' in said and ' accepted ' in said
  assert contents(tmp_path) == contents(whole)


@pytest.mark.slow
def test_kills_at_any_moment_do_not_show(base, tmp_path, whole):
  command = [
    sys.executable,
    '-m',
    'r1jax',
    'reject',
    '--config',
    toy.HERE / 'toy_reject.py',
    '--workdir',
    tmp_path / 'run',
    f'--config.init={base}/model',
  ]
  env = os.environ | dict(R1JAX_CACHE=str(tmp_path / 'cache'))

  def start():
    return subprocess.Popen(
      command,
      cwd=toy.HERE.parent,
      env=env,
      start_new_session=True,
      stdout=subprocess.DEVNULL,
    )

  chunks = tmp_path / 'run' / 'chunks'
  for wanted in (1, 2, 3):
    process = start()
    while process.poll() is None and len(list(chunks.glob('*.jsonl'))) < wanted:
      time.sleep(0.002)
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
    process.wait()
  assert start().wait(timeout=120) == 0
  assert contents(tmp_path / 'run') == contents(whole)


class Canned:
  """A Generator's place is taken by texts: policy[prompt] has its k samples,
  and judge(question, number) replies."""

  def __init__(self, policy, judge=None):
    self.policy, self.judge, self.asked = policy, llm_judge, []

  def __call__(self, map_rows, shards, cfg, words, prompt, sc, reward, width):
    def generator(
      params, records, numbers, key, group, temperature, max_new_tokens
    ):
      if group == 4:
        texts = [text for x in records for text in self.policy[x['prompt']]]
      else:
        self.asked += [x['prompt'] for x in records]
        texts = [self.judge(x['prompt'], n) for x, n in zip(records, numbers)]
      rows = [x for x in records for _ in range(group)]
      rollout = types.SimpleNamespace(
        mask_BL=np.ones((len(texts), 5), bool),
        finished_B=np.array([text != 'cut' for text in texts]),
      )
      return generate.Samples(rows, texts, rollout, reward(rows, texts))

    return generator


LONG = ' '.join(map(str, range(100)))


def think(text, answer='5'):
  return f'<think>{text}</think><answer>{answer}</answer>'


POLICY = {
  'how?': [think('we see'), think('we see', 6), 'cut', 'no form \\boxed{5}'],
  'why?': [
    think('we 先算总数'),
    think('word ' * 300),
    think('```x```'),
    think('ab' * 50),
  ],
  'who?': [think('1'), think('2'), think('2'), think('3')],
  'eh?': [think('1'), think('x', 'y'), think('4'), 'no form 5'],
}
DOMAINS = dict(zip(POLICY, ['math', 'math', 'code', 'logic']))


@pytest.fixture
def records(tmp_path):
  return [
    dict(id=f'r/{n}', prompt=prompt, answer='5', domain=DOMAINS[prompt])
    for n, prompt in enumerate(POLICY)
  ]


@pytest.fixture
def canned(base, tmp_path, records, monkeypatch):
  """run(*changes, judge=…) -> what the canned texts become, in tmp_path/run."""

  def play(*changes, judge=None, policy=POLICY):
    stub = Canned(policy, llm_judge)
    with monkeypatch.context() as patch:
      patch.setattr(generate, 'Generator', stub)
      path = save(tmp_path / 'r.jsonl', records)
      found = run(base, tmp_path / 'run', f'data={path}', 'samples=4', *changes)
    play.asked = stub.asked
    return *found[:1], {x['id']: x['reason'] for x in found[1]}, found[2]

  return play


def test_every_reason_is_told_with_its_sample(canned):
  kept, why, counts = canned('per_domain={"math":9,"code":1,"logic":9}')
  assert why == {
    'r/0/1': 'accuracy',
    'r/0/2': 'truncated',
    'r/0/3': 'format',
    'r/1/0': 'mixed languages',
    'r/1/1': 'long paragraph',
    'r/1/2': 'code block',
    'r/1/3': 'repetition',
    'r/2/1': 'enough of its domain',
    'r/2/2': 'duplicate',
    'r/2/3': 'enough of its prompt',
    'r/3/1': 'accuracy',
    'r/3/3': 'accuracy',
  }
  assert {x['id']: x['response'] for x in kept} == {
    'r/0/0': think('we see'),
    'r/2/0': think('1'),
    'r/3/0': think('1'),
    'r/3/2': think('4'),
  }
  assert counts['accepted_per_prompt'] == {
    '0/4': 1,
    '1/4': 1,
    '2/4': 1,
    '3/4': 0,
    '4/4': 1,
  }
  assert counts['domains']['code'] == dict(samples=4, kept=1, mixed=0)


def test_what_is_needed_is_the_configs(canned):
  kept, why, _ = canned('min_rewards={"language":0.9}', 'per_prompt=9')
  assert {x['id'] for x in kept} == {'r/0/0', 'r/0/1'}
  assert why['r/1/0'] == why['r/2/0'] == 'language'


def test_other_records_are_mixed_in(canned, tmp_path):
  path = save(
    tmp_path / 'mix.jsonl',
    [
      dict(id=f'm/{n}', prompt=f'Write {n}.', response='Well.', other=1)
      for n in range(9)
    ]
    + [
      dict(id='m/9', prompt='Hi', answer='Ho', response='Ho', domain='general')
    ],
  )
  kept, _, counts = canned(f'mix={path}')
  drawn = [x for x in kept if x['id'].startswith('m/')]
  assert (
    len(drawn) == counts['mixed'] == 10 and len(kept) == counts['kept'] + 10
  )
  assert counts['domains']['general'] == dict(samples=0, kept=0, mixed=10)
  plain = next(x for x in drawn if x['id'] == 'm/3')
  assert list(plain) == ['id', 'prompt', 'response', 'domain']
  assert [x['id'] for x in kept[:10]] != [x['id'] for x in drawn]


def test_fewer_of_the_others_are_drawn_by_the_seed(canned, tmp_path):
  rows = [dict(id=f'm/{n}', prompt='?', response='!') for n in range(50)]
  path = save(tmp_path / 'mix.jsonl', rows)
  kept, _, _ = canned(f'mix={path}', 'mix_count=20')
  drawn = {x['id'] for x in kept if x['id'].startswith('m/')}
  assert len(drawn) == 20 and drawn != {f'm/{n}' for n in range(20)}


@pytest.fixture
def judged(canned, base):
  """The same with a judge for the domain logic, three tries each."""
  return lambda reply, *changes, policy=POLICY: canned(
    'judge.domains=("logic",)',
    f'judge.init={base}/model',
    'per_prompt=4',
    *changes,
    judge=reply,
    policy=policy,
  )


def test_the_judge_has_the_word_on_its_records_and_on_no_others(
  judged, canned, records
):
  records[0]['judge'] = True

  def reply(question, number):
    answer = question.split("student's answer\n")[1].split('\n=====')[0]
    word = 'correct' if answer == '<answer>y</answer>' else 'incorrect'
    return f'So {{"analysis": "\\boxed{{}}", "correctness": "{word}"}}.'

  kept, why, _ = judged(reply)
  assert {x['id'] for x in kept} == {'r/2/0', 'r/2/1', 'r/2/3', 'r/3/1'}
  assert why['r/0/0'] == why['r/0/1'] == why['r/3/0'] == 'incorrect'
  assert why['r/3/3'] == 'format' and why['r/2/2'] == 'duplicate'
  assert len(canned.asked) == 8  # five, with some twice to fill two calls
  assert not any('<think>' in x or 'who?' in x for x in canned.asked)
  assert any('question\neh?' in x and 'answer\n5\n' in x for x in canned.asked)


def test_the_judge_is_asked_again_until_it_says_something(judged, canned):
  tries = collections.Counter()

  def reply(question, number):
    tries[number] += 1
    enough = tries[number] == {12: 1, 13: 3, 14: 99}[number]
    return '{"correctness": "Correct"}' if enough else 'Hm.'

  kept, why, _ = judged(reply, 'prompts_per_chunk=1')
  assert {'r/3/0', 'r/3/1'} <= {x['id'] for x in kept}
  assert why['r/3/2'] == 'no verdict'
  assert tries == {12: 1, 13: 3, 14: 3}


def test_a_judge_that_never_answers_ends_the_run_and_loses_nothing(
  judged, tmp_path
):
  for _ in range(2):
    with pytest.raises(errors.UserError, match='the judge never answered'):
      judged(lambda question, number: 'I cannot say.')
    workdir = tmp_path / 'run'
    assert len(files.read_jsonl(workdir / 'chunks' / '00000.jsonl')) == 16
    assert not (workdir / 'records.jsonl').exists()
    reasons = json.loads((workdir / 'counts.json').read_text())['reasons']
    assert reasons['no verdict'] == 3


def test_an_answer_too_long_for_the_judge_is_rejected(judged):
  size = len(llm_judge.ASK) + 30
  kept, why, _ = judged(
    lambda question, number: '{"correctness": "correct"}',
    f'judge.prompt.max_len={size}',
    policy=POLICY
    | {'eh?': [think('1', x) for x in ('a', LONG, 'b', LONG + '.')]},
  )
  assert why['r/3/1'] == why['r/3/3'] == 'too long for the judge'
  assert {'r/3/0', 'r/3/2'} <= {x['id'] for x in kept}


VERDICTS = [
  ('{"analysis": "same", "correctness": "correct"}', 'correct'),
  ('{"analysis": "no", "correctness": "incorrect"}', 'incorrect'),
  ('```json\n{"correctness": " Correct "}\n```', 'correct'),
  (
    '<think>{"correctness": "correct"}</think>{"correctness": "INCORRECT"}',
    'incorrect',
  ),
  ('{"correctness": "incorrect"} no: {"correctness": "correct"}', 'correct'),
  (
    '{"analysis": "\\frac{1}{2} is \\(x\\)", "correctness": "correct"}',
    'correct',
  ),
  (
    '{"analysis": "\\\\(x\\\\) \\underline{x} \\u4e2d", "correctness": "correct"}',
    'correct',
  ),
  ('{"analysis": "two\nlines", "correctness": "correct"}', 'correct'),
  (
    '{"analysis": {"correctness": "correct"}, "correctness": "incorrect"}',
    'incorrect',
  ),
  (
    '{"analysis": "he says {\\"correctness\\": \\"correct\\"}", "correctness": '
    '"incorrect"}',
    'incorrect',
  ),
  ('{a} {"correctness": "correct"} {b', 'correct'),
  ('{"correctness": "correct"} {"analysis": "but"}', 'no verdict'),
  ('{"correctness": "not correct"}', 'no verdict'),
  ('{"correctness": true}', 'no verdict'),
  ('{"correctness": ["correct"]}', 'no verdict'),
  ('{"verdict": "correct"}', 'no verdict'),
  ('{"correctness": "correct"', 'no verdict'),
  ('correct', 'no verdict'),
  ('["correctness", "correct"]', 'no verdict'),
  ('<think>{"correctness": "correct"}', 'no verdict'),
  ('', 'no verdict'),
  ('{"a":' * 50_000, 'no verdict'),
  ('[' * 50_000, 'no verdict'),
  ('{"' * 50_000, 'no verdict'),
  ('{' * 50_000 + '"correctness": "correct"}', 'correct'),
]


@pytest.mark.parametrize('text, word', VERDICTS)
def test_a_verdict_is_the_last_json_object_of_the_reply(text, word):
  began = time.process_time()
  assert llm_judge.verdict(text) == word
  assert time.process_time() - began < 1


def test_a_question_is_filled_in_once():
  record = dict(id='r', prompt='Is {answer} it?', answer='{question}')
  asked = llm_judge.question(
    llm_judge.JudgeConfig(), record, '<think>a</think> {b} '
  )
  want = llm_judge.ASK.replace('{question}', 'Is {answer} it?', 1)
  want = want.replace('{reference}', '{question}', 1)
  assert asked['prompt'] == '{b}'.join(want.rsplit('{answer}', 1))


def test_a_model_that_judges_itself_is_really_asked(base, tmp_path, capsys):
  """The toy knows no JSON: it draws its replies, and none is a verdict."""
  rows = [
    dict(id=f'j/{n}', prompt=f'12{n}', answer=str(3 + n), judge=True)
    for n in range(2)
  ]
  path = save(tmp_path / 'r.jsonl', rows)
  with pytest.raises(errors.UserError, match='the judge never answered'):
    run(
      base,
      tmp_path / 'run',
      f'data={path}',
      f'judge.init={base}/model',
      'judge.question_template={question}={reference}={answer}',
      'judge.prompt.max_len=40',
      'judge.sample.max_new_tokens=8',
      'judge.sample.decode_slots=4',
    )
  assert 'no verdict' in capsys.readouterr().out


REFUSED = {
  'init=': "config.init is '': name the directory",
  'data=': 'there is no data file',
  'samples=0': 'config.samples is 0; it must be at least 1',
  'prompts_per_chunk=0': 'config.prompts_per_chunk is 0',
  'per_prompt=0': 'config.per_prompt is 0',
  'min_rewards={}': 'name at least one reward',
  'min_rewards.acuracy=1.0': "did you mean 'accuracy'?",
  'sample.temperature=0.0': 'draws the same 16 times: set it above 0',
  'sample.top_p=0.0': 'config.sample.top_p is 0.0: it must be above 0',
  'judge.sample.top_p=1.1': 'config.judge.sample.top_p is 1.1',
  'prompt.stop_strings=("",)': 'has an empty entry',
  'prompt.max_len=2': 'config.prompt.max_len allows 1 to 2',
  'per_domain={"math":5}': "the domain 'reasoning', which config.per_domain",
  'per_domain={"reasoning":5,"maths":5}': "names 'maths', but no record",
  'per_domain={"reasoning":0}': 'config.per_domain.reasoning is 0',
  'mix_count=3': 'config.mix_count is 3, but config.mix names no records',
  'mix=/nowhere': 'there is no data file /nowhere',
  'judge.domains=("general",)': "names 'general', but no record",
  'judge.domains=("reasoning",)': 'config.judge.init names no model',
  'judge.question_template=Is {answer} right?': 'config.judge.question_template lacks {question}',
  'judge.max_attempts=0': 'config.judge.max_attempts is 0',
  'filters.window=0': 'config.filters.window is 0',
}


def refused(tmp_path, capsys, *arguments):
  code = cli.main(
    [
      'reject',
      '--config',
      str(toy.HERE / 'toy_reject.py'),
      '--workdir',
      str(tmp_path / 'run'),
      *arguments,
    ]
  )
  said = capsys.readouterr().err
  assert code == 2 and said.startswith('r1jax: ') and said.count('\n') == 1
  assert not (tmp_path / 'run').exists()
  return said


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
  monkeypatch.setattr(cli, 'compilation_cache', lambda: None)


@pytest.mark.parametrize('change', REFUSED)
def test_reject_refuses(change, base, tmp_path, capsys):
  init = f'--config.init={base}/model'
  said = refused(tmp_path, capsys, init, f'--config.{change}')
  assert REFUSED[change] in said


RECORDS = [
  (dict(prompt='1', answer='1', judge='no'), "'judge': 'no': make it true"),
  (dict(prompt='1', judge=True), 'r/1 has no answer for the judge'),
  (dict(prompt='1', answer='1' * 99, judge=True), 'no room for an answer'),
  (dict(prompt='1', answer='\\boxed{'), 'gold'),
  (dict(prompt='1', answer='1', domain=None), 'has the domain None'),
  (dict(prompt='1', answer='1', language='de'), "has the language 'de'"),
]


@pytest.mark.parametrize('record, words', RECORDS)
def test_records_that_cannot_be_sampled_are_refused(
  record, words, base, tmp_path, capsys
):
  path = save(tmp_path / 'r.jsonl', [record | dict(id='r/1')])
  said = refused(
    tmp_path,
    capsys,
    f'--config.init={base}/model',
    f'--config.data={path}',
    f'--config.judge.init={base}/model',
    '--config.judge.prompt.max_len=40',
    '--config.judge.question_template={question}={reference}={answer}',
  )
  assert words in said


@pytest.mark.parametrize(
  'row, words',
  [
    (dict(id='m', prompt='?'), 'record m of'),
    (dict(id='running_sum/0/3/1', prompt='?', response='!'), 'is also that of'),
  ],
)
def test_records_that_cannot_be_mixed_in_are_refused(
  row, words, base, tmp_path, capsys
):
  path = save(tmp_path / 'mix.jsonl', [row])
  init = f'--config.init={base}/model'
  said = refused(tmp_path, capsys, init, f'--config.mix={path}')
  assert words in said
  row = dict(id='m', prompt='?', response='!')
  save(path, [row])
  said = refused(
    tmp_path, capsys, init, f'--config.mix={path}', '--config.mix_count=2'
  )
  assert 'has 1 records: ask for fewer' in said


def test_a_run_that_keeps_nothing_says_what_to_change(canned, tmp_path):
  with pytest.raises(errors.UserError, match='none of the 16 samples was kept'):
    canned('filters.window=1', 'filters.repeated=0.0')
  assert len(files.read_jsonl(tmp_path / 'run' / 'rejected.jsonl')) == 16
  assert not (tmp_path / 'run' / 'records.jsonl').exists()


@pytest.mark.parametrize('kind, devices', [('pmap', 1), ('mesh', 4)])
def test_one_device_is_four_and_pmap_is_the_mesh(
  kind, devices, whole, base, tmp_path, monkeypatch
):
  few = jax.devices()[:devices]
  monkeypatch.setattr(jax, 'devices', lambda: few)
  run(base, tmp_path, f'parallel.strategy={kind}')
  assert contents(tmp_path) == contents(whole)
