"""Rejection sampling keeps correct, readable and different responses, gives a
reason for the others, and depends neither on kills nor on chunks."""

import collections
import json
import types

import jax
import numpy as np
import pytest
import toy
import toy_hosts

from r1jax import cli, errors, files
from r1jax.data import record_files
from r1jax.distributed import programs
from r1jax.rejection import llm_judge
from r1jax.rewards.math import grading
from r1jax.sampling import generate, loading
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


def test_kept_samples_are_correct_and_different_and_in_the_format_of_sft(
  whole, base
):
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


def test_the_same_command_again_reports_the_result_and_changes_nothing(
  whole, base, capsys
):
  before = toy.files(whole)
  run(base, whole)
  assert 'is finished: the result is' in capsys.readouterr().out
  assert toy.files(whole) == before


def test_the_size_of_a_chunk_does_not_change_the_result(whole, base, tmp_path):
  run(base, tmp_path, 'prompts_per_chunk=11')
  assert contents(tmp_path) == contents(whole)


def test_the_order_is_random(whole):
  order = [x['id'] for x in read(whole)[0]]
  numbers = [int(name.split('/')[2]) for name in order]
  assert numbers != sorted(numbers)


def test_an_interrupted_run_continues_at_the_next_chunk(
  whole, base, tmp_path, monkeypatch, capsys
):
  sample_chunk, starts = reject.sample_chunk, []

  def broken(run, start):
    starts.append(start)
    if starts == [0, 8]:
      raise KeyboardInterrupt
    return sample_chunk(run, start)

  monkeypatch.setattr(reject, 'sample_chunk', broken)
  with pytest.raises(KeyboardInterrupt):
    run(base, tmp_path)
  assert not (tmp_path / 'records.jsonl').exists()
  (tmp_path / 'chunks' / '00001.tmp').write_text('{"number"')
  capsys.readouterr()
  run(base, tmp_path)
  output = capsys.readouterr().out
  assert starts == [0, 8, 8, 16]
  assert 'continues from prompt 8 of' in output
  assert 'prompts 16/22' in output and '22/22' in output
  assert ' left ' in output and 'tokens/s' in output and ' accepted ' in output
  assert contents(tmp_path) == contents(whole)


@pytest.mark.slow
def test_kills_after_each_chunk_do_not_change_the_result(base, tmp_path, whole):
  workdir = tmp_path / 'run'
  arguments = toy_hosts.stage('reject', workdir, f'init={base}/model')
  for prompts in (8, 16, 22):
    folder = tmp_path / f'pause-{prompts}'
    with toy_hosts.paused(1, arguments, prompts, folder) as process:
      process.kill(0)
  assert not (workdir / 'records.jsonl').exists()
  toy_hosts.run(1, arguments)
  assert contents(workdir) == contents(whole)


class FixedTexts:
  """Takes the place of loading.make_sampler: its samplers have fixed texts.

  policy[prompt] are the samples of a prompt; judge(question, number) is a reply
  of the LLM judge. `questions` are those that it was asked.
  """

  def __init__(self, policy, judge):
    self.policy, self.judge, self.questions = policy, judge, []

  def __call__(self, config, placement, model, prompt_width):
    return types.SimpleNamespace(sample=self.sample, tokenizer=model.tokenizer)

  def sample(self, params, records, numbers, key, group_size, num_prompts=0):
    texts = []
    for record, number in zip(records, numbers):
      if group_size == 4:
        texts += self.policy[record['prompt']]
      else:
        self.questions.append(record['prompt'])
        texts.append(self.judge(record['prompt'], number))
    rows = types.SimpleNamespace(
      mask_BL=np.ones((len(texts), 5), bool),
      finished_B=np.array([text != 'cut' for text in texts]),
    )
    repeated = [record for record in records for _ in range(group_size)]
    return generate.Samples(records=repeated, texts=texts, rows=rows)


LONG = ' '.join(map(str, range(100)))


def think(text, answer='5'):
  return f'<think>{text}</think><answer>{answer}</answer>'


POLICY = {
  'how?': [think('we see'), think('we see', 6), 'cut', 'no form \\boxed{5}'],
  'why?': [
    think('we 先算总数'),
    think('the sum of all of these ' * 45),
    think('```x```'),
    think('the sum of all of these is seven ' * 9),
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
def run_fixed(base, tmp_path, records, monkeypatch):
  """run_fixed(*changes, judge=…) -> (kept, reasons by id, counts) of a run in
  tmp_path/run with fixed texts. run_fixed.questions are those of the judge."""

  def run_once(*changes, judge=None, policy=POLICY):
    texts = FixedTexts(policy, judge)
    path = save(tmp_path / 'r.jsonl', records)
    with monkeypatch.context() as patch:
      patch.setattr(loading, 'make_sampler', texts)
      kept, rejected, counts = run(
        base, tmp_path / 'run', f'data={path}', 'samples=4', *changes
      )
    run_once.questions = texts.questions
    return kept, {x['id']: x['reason'] for x in rejected}, counts

  return run_once


def test_every_rejected_sample_has_its_reason(run_fixed):
  kept, why, counts = run_fixed('per_domain={"math":9,"code":1,"logic":9}')
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


def test_min_rewards_decide_which_rewards_are_needed(run_fixed):
  kept, why, _ = run_fixed('min_rewards={"language":0.9}', 'per_prompt=9')
  assert {x['id'] for x in kept} == {'r/0/0', 'r/0/1'}
  assert why['r/1/0'] == why['r/2/0'] == 'language'


def test_records_of_another_file_are_mixed_in(run_fixed, tmp_path):
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
  kept, _, counts = run_fixed(f'mix={path}')
  mixed = [x for x in kept if x['id'].startswith('m/')]
  assert (
    len(mixed) == counts['mixed'] == 10 and len(kept) == counts['kept'] + 10
  )
  assert counts['domains']['general'] == dict(samples=0, kept=0, mixed=10)
  plain = next(x for x in mixed if x['id'] == 'm/3')
  assert list(plain) == ['id', 'prompt', 'response', 'domain']
  assert [x['id'] for x in kept[:10]] != [x['id'] for x in mixed]


def test_mix_count_records_are_chosen_at_random(run_fixed, tmp_path):
  rows = [dict(id=f'm/{n}', prompt='?', response='!') for n in range(50)]
  path = save(tmp_path / 'mix.jsonl', rows)
  kept, _, _ = run_fixed(f'mix={path}', 'mix_count=20')
  mixed = {x['id'] for x in kept if x['id'].startswith('m/')}
  assert len(mixed) == 20 and mixed != {f'm/{n}' for n in range(20)}


@pytest.fixture
def run_judged(run_fixed, base):
  """run_fixed with an LLM judge for the domain logic, three attempts each."""

  def run_once(reply, *changes, policy=POLICY):
    return run_fixed(
      'judge.domains=("logic",)',
      f'judge.init={base}/model',
      'per_prompt=4',
      *changes,
      judge=reply,
      policy=policy,
    )

  return run_once


def test_the_llm_judge_decides_on_its_records_and_on_no_others(
  run_judged, run_fixed, records
):
  records[0]['judge'] = True

  def reply(question, number):
    answer = question.split("student's answer\n")[1].split('\n=====')[0]
    word = 'correct' if answer == '<answer>y</answer>' else 'incorrect'
    return f'So {{"analysis": "\\boxed{{}}", "correctness": "{word}"}}.'

  kept, why, _ = run_judged(reply)
  assert {x['id'] for x in kept} == {'r/2/0', 'r/2/1', 'r/2/3', 'r/3/1'}
  assert why['r/0/0'] == why['r/0/1'] == why['r/3/0'] == 'incorrect'
  assert why['r/3/3'] == 'format' and why['r/2/2'] == 'duplicate'
  assert (
    len(run_fixed.questions) == 8
  )  # five, with some twice to fill two calls
  assert not any('<think>' in x or 'who?' in x for x in run_fixed.questions)
  assert any(
    'question\neh?' in x and 'answer\n5\n' in x for x in run_fixed.questions
  )


def test_the_llm_judge_is_asked_again_until_it_gives_a_verdict(
  run_judged, run_fixed
):
  tries = collections.Counter()

  def reply(question, number):
    tries[number] += 1
    enough = tries[number] == {12: 1, 13: 3, 14: 99}[number]
    return '{"correctness": "Correct"}' if enough else 'Hm.'

  kept, why, _ = run_judged(reply, 'prompts_per_chunk=1')
  assert {'r/3/0', 'r/3/1'} <= {x['id'] for x in kept}
  assert why['r/3/2'] == 'no verdict'
  assert tries == {12: 1, 13: 3, 14: 3}


def test_without_any_verdict_the_run_ends_and_keeps_its_samples(
  run_judged, tmp_path
):
  for _ in range(2):
    with pytest.raises(errors.UserError, match='the LLM judge gave no verdict'):
      run_judged(lambda question, number: 'I cannot say.')
    workdir = tmp_path / 'run'
    assert len(files.read_jsonl(workdir / 'chunks' / '00000.jsonl')) == 16
    assert not (workdir / 'records.jsonl').exists()
    reasons = json.loads((workdir / 'counts.json').read_text())['reasons']
    assert reasons['no verdict'] == 3


def test_an_answer_that_is_too_long_for_the_judge_is_rejected(run_judged):
  size = len(llm_judge.QUESTION_TEMPLATE) + 30
  kept, why, _ = run_judged(
    lambda question, number: '{"correctness": "correct"}',
    f'judge.prompt.max_len={size}',
    policy=POLICY
    | {'eh?': [think('1', x) for x in ('a', LONG, 'b', LONG + '.')]},
  )
  assert why['r/3/1'] == why['r/3/3'] == 'too long for the judge'
  assert {'r/3/0', 'r/3/2'} <= {x['id'] for x in kept}


def test_a_policy_can_be_its_own_llm_judge(base, tmp_path, capsys):
  """The toy policy does not write JSON, so no reply has a verdict."""
  rows = [
    dict(id=f'j/{n}', prompt=f'12{n}', answer=str(3 + n), judge=True)
    for n in range(2)
  ]
  path = save(tmp_path / 'r.jsonl', rows)
  with pytest.raises(errors.UserError, match='the LLM judge gave no verdict'):
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
  'data=': 'no records are given',
  'samples=0': 'config.samples is 0; it must be at least 1',
  'prompts_per_chunk=0': 'config.prompts_per_chunk is 0',
  'per_prompt=0': 'config.per_prompt is 0',
  'min_rewards={}': 'name at least one reward',
  'min_rewards.acuracy=1.0': "did you mean 'accuracy'?",
  'sample.temperature=0.0': 'all samples of a prompt are equal: set it above 0',
  'sample.top_p=0.0': 'config.sample.top_p is 0.0; it must be at least 1e-06',
  'judge.sample.top_p=1.1': 'config.judge.sample.top_p is 1.1',
  'prompt.stop_strings=("",)': 'has an empty entry',
  'prompt.max_len=2': 'allows 1 to 2',
  'per_domain={"math":5}': "the domain 'reasoning', which config.per_domain",
  'per_domain={"reasoning":5,"maths":5}': "names 'maths', but no record",
  'per_domain={"reasoning":0}': 'config.per_domain.reasoning is 0',
  'mix_count=3': 'config.mix_count is 3, but config.mix names no records',
  'mix=/nowhere': 'there is no data file /nowhere',
  'judge.domains=("general",)': "names 'general', but no record",
  'judge.domains=("reasoning",)': 'config.judge.init names no model',
  'judge.question_template=Is {answer} right?': (
    'config.judge.question_template lacks {question}'
  ),
  'judge.max_attempts=0': 'config.judge.max_attempts is 0',
  'filters.window=0': 'config.filters.window is 0',
}


def refusal(tmp_path, capsys, *arguments):
  """The message of a command that is refused."""
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
  message = capsys.readouterr().err
  assert code == 2
  first, *listed = message.splitlines()
  assert first.startswith('r1jax: ')
  assert all(line.startswith('  ') for line in listed)  # records
  assert not (tmp_path / 'run').exists()
  return message


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
  monkeypatch.setattr(programs, 'compilation_cache', lambda: None)


@pytest.mark.parametrize('change', REFUSED)
def test_reject_refuses(change, base, tmp_path, capsys):
  init = f'--config.init={base}/model'
  message = refusal(tmp_path, capsys, init, f'--config.{change}')
  assert REFUSED[change] in message


RECORDS = [
  (dict(prompt='1', answer='1', judge='no'), "'judge': 'no': make it true"),
  (dict(prompt='1', judge=True), 'r/1 has no answer for the LLM judge'),
  (dict(prompt='1', answer='1' * 99, judge=True), 'even without an answer'),
  (dict(prompt='1', answer='\\boxed{'), 'gold'),
  (dict(prompt='1', answer='1', domain=5), 'has the domain 5'),
  (dict(prompt='1', answer='1', language='ru'), "has the language 'ru'"),
]


@pytest.mark.parametrize('record, text', RECORDS)
def test_records_that_cannot_be_sampled_are_refused(
  record, text, base, tmp_path, capsys
):
  path = save(tmp_path / 'r.jsonl', [record | dict(id='r/1')])
  message = refusal(
    tmp_path,
    capsys,
    f'--config.init={base}/model',
    f'--config.data={path}',
    f'--config.judge.init={base}/model',
    '--config.judge.prompt.max_len=40',
    '--config.judge.question_template={question}={reference}={answer}',
  )
  assert text in message


@pytest.mark.parametrize(
  'row, text',
  [
    (dict(id='m', prompt='?'), 'record m of'),
    (dict(id='running_sum/0/3/1', prompt='?', response='!'), 'is also that of'),
  ],
)
def test_records_that_cannot_be_mixed_in_are_refused(
  row, text, base, tmp_path, capsys
):
  path = save(tmp_path / 'mix.jsonl', [row])
  init = f'--config.init={base}/model'
  message = refusal(tmp_path, capsys, init, f'--config.mix={path}')
  assert text in message
  row = dict(id='m', prompt='?', response='!')
  save(path, [row])
  message = refusal(
    tmp_path, capsys, init, f'--config.mix={path}', '--config.mix_count=2'
  )
  assert 'only 1 records: lower it' in message


def test_a_run_that_keeps_nothing_names_the_keys_to_change(run_fixed, tmp_path):
  with pytest.raises(errors.UserError, match='none of the 16 samples was kept'):
    run_fixed('filters.window=1', 'filters.repeated=0.0')
  assert len(files.read_jsonl(tmp_path / 'run' / 'rejected.jsonl')) == 16
  assert not (tmp_path / 'run' / 'records.jsonl').exists()


@pytest.mark.parametrize('strategy, devices', [('pmap', 1), ('mesh', 4)])
def test_neither_devices_nor_strategy_change_the_result(
  strategy, devices, whole, base, tmp_path, monkeypatch
):
  few = jax.devices()[:devices]
  monkeypatch.setattr(jax, 'devices', lambda: few)
  run(base, tmp_path, f'parallel.strategy={strategy}')
  assert contents(tmp_path) == contents(whole)
