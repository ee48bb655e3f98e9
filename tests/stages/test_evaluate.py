"""An evaluation scores its samples, and continues after an interruption."""

import itertools
import json
import re
import shutil

import numpy as np
import pytest
import toy
import toy_hosts

from r1jax import cli, errors, files
from r1jax.distributed import programs
from r1jax.evaluation import scores, statistics, tables
from r1jax.rewards import verifiers
from r1jax.rewards.math import grading
from r1jax.sandbox import tiers
from r1jax.stages import evaluate, report
from r1jax.training import starts, work_lock

VERDICTS = (
  '{"contest": 1, "problem": "A", "rating": 1500, "verdicts": [true, false]}\n'
  '{"contest": 2, "problem": "A", "rating": 1500, "verdicts": [false, true]}\n'
)


def run(base, workdir, *changes):
  settings = toy.settings('evaluate', f'init={base}/model', *changes)
  evaluate.run(settings, workdir)
  return json.loads((workdir / 'results.json').read_text())


@pytest.fixture(scope='module')
def aime(tmp_path_factory):
  """Five problems in a file of the shape of AIME's."""
  path = tmp_path_factory.mktemp('data') / 'aime.jsonl'
  rows = [dict(problem=f'{n}24', answer=(n + 6) % 10) for n in range(1, 6)]
  path.write_text('\n'.join(map(json.dumps, rows)))
  return path


@pytest.fixture(scope='module')
def whole(base, aime, tmp_path_factory):
  """(workdir, results, changes) of an uninterrupted evaluation of two sets."""
  workdir = tmp_path_factory.mktemp('whole') / 'ours'
  changes = [f'data.AIME 2024={aime}']
  return workdir, run(base, workdir, *changes), changes


def test_every_sample_is_in_a_file_with_its_rewards(whole):
  workdir, _, _ = whole
  lines = scores.read_lines(workdir, 'GSM8K')
  ids = [f'running_sum/1000/{n}' for n in range(7)]
  assert [line['id'] for line in lines] == [x for x in ids for _ in range(4)]
  texts = [line['response'] for line in lines]
  np.testing.assert_array_equal(
    [line['accuracy'] for line in lines], grading.accuracy(lines, texts)
  )
  for line in lines:
    assert line['answer'] == str(sum(map(int, line['prompt'])) % 10)
    assert line['extracted'] == grading.extract(line['response'])
    assert line['format'] in (0, 1) and 0 < line['length'] <= 10
    assert line['finished'] or line['length'] == 10
  assert len(set(texts[:4])) > 1  # a fresh key for every sample


def test_the_scores_are_those_of_the_samples(whole):
  workdir, results, _ = whole
  lines = scores.read_lines(workdir, 'GSM8K')
  x = results['sets']['GSM8K']

  def mean(key):
    return np.mean([line[key] for line in lines])

  assert (x['problems'], x['samples'], x['majority_k']) == (7, 4, 3)
  assert x['pass1'] == pytest.approx(mean('accuracy')) and 0 < x['pass1'] < 1
  assert 0 <= x['interval'][0] < x['pass1'] < x['interval'][1] <= 1
  rows = np.array(lines, object).reshape(7, 4)
  either = [
    any(line['accuracy'] for line in pair)
    for row in rows
    for pair in itertools.combinations(row, 2)
  ]
  assert x['pass_k'] == {'2': pytest.approx(np.mean(either))}
  low, high = x['pass_k_interval']['2']
  assert low < x['pass_k']['2'] < high
  votes = statistics.cons_at_k(
    [[line['vote'] for line in row] for row in rows],
    [[line['accuracy'] for line in row] for row in rows],
    3,
  )
  assert x['majority'] == pytest.approx(votes.mean())
  assert x['majority_problems'] == 7
  assert x['majority_interval'] == list(statistics.interval(votes))
  for row in rows:
    for line in row:
      voted = None if line['vote'] is None else row[line['vote']]
      assert (voted is None) == (line['extracted'] is None)
      assert voted is None or voted['accuracy'] == line['accuracy']
  assert x['truncated'] == pytest.approx(1 - mean('finished'))
  assert x['format'] == pytest.approx(mean('format'))
  assert x['language'] == pytest.approx(mean('language'))
  assert x['length'] == pytest.approx(mean('length'))


def test_the_same_command_again_reports_the_result_and_changes_nothing(
  base, whole, capsys
):
  workdir, results, changes = whole
  before = toy.files(workdir)
  assert run(base, workdir, *changes) == results
  assert 'is finished: the result is' in capsys.readouterr().out
  assert toy.files(workdir) == before


def test_samples_depend_neither_on_chunks_nor_on_the_other_sets(
  base, whole, tmp_path
):
  one = run(base, tmp_path, 'prompts_per_chunk=7')
  workdir, results, _ = whole
  assert one['sets']['GSM8K'] == results['sets']['GSM8K']

  def read(folder):
    return scores.read_lines(folder, 'GSM8K')

  assert read(tmp_path) == read(workdir)
  assert len(list((tmp_path / 'chunks').iterdir())) == 1


def test_a_limit_drops_problems_and_changes_no_sample(base, whole, tmp_path):
  run(base, tmp_path, 'limit=4')
  every = scores.read_lines(whole[0], 'GSM8K')
  some = scores.read_lines(tmp_path, 'GSM8K')
  assert len(some) == 16 and [x for x in every if x in some] == some


def same_files(ours, theirs):
  def names(folder):
    return {
      path.relative_to(folder): content
      for path, content in toy.files(folder).items()
      # What a process leaves that is started and killed.
      if path.name not in (starts.FILE, work_lock.FILE)
    }

  return names(ours) == names(theirs)


def test_an_interrupted_evaluation_ends_like_an_uninterrupted_one(
  base, whole, tmp_path, monkeypatch
):
  """Interrupted at several of its eight files: five chunks, three tables."""
  finished, _, changes = whole
  write, left = files.write_text, [0]

  def broken(path, text):
    if not left[0]:
      path.parent.mkdir(exist_ok=True)
      path.with_name(path.name + '.tmp').write_text(text[:7])
      raise KeyboardInterrupt
    left[0] -= 1
    write(path, text)

  workdir = tmp_path / 'ours'
  with monkeypatch.context() as patch:
    patch.setattr(files, 'write_text', broken)
    for count in (0, 2, 3, 1):
      left[0] = count
      with pytest.raises(KeyboardInterrupt):
        run(base, workdir, *changes)
      assert not (workdir / 'results.json').exists()
  run(base, workdir, *changes)
  for path in list(workdir.rglob('*.tmp')):
    assert len(path.read_text()) <= 7  # what `broken` left
    path.unlink()
  assert same_files(workdir, finished)


def test_a_killed_evaluation_continues_after_its_last_chunk(
  base, whole, tmp_path
):
  finished, _, changes = whole
  workdir = tmp_path / 'ours'
  arguments = toy_hosts.stage(
    'evaluate', workdir, f'init={base}/model', *changes
  )
  with toy_hosts.paused(1, arguments, 1, tmp_path / 'pause') as process:
    process.kill(0)
  assert len(list(workdir.glob('chunks/*.jsonl'))) == 1
  assert not (workdir / 'results.json').exists()
  run(base, workdir, *changes)
  assert same_files(workdir, finished)


def test_the_baseline_is_subtracted_problem_by_problem(
  base, aime, whole, tmp_path
):
  again = tmp_path / 'again'
  data = json.dumps({'AIME 2024': str(aime)})
  x = run(base, again, f'data={data}', 'seed=7', f'baseline={whole[0]}')
  accuracy = []
  for folder in (again, whole[0]):
    lines = scores.read_lines(folder, 'AIME 2024')
    accuracy.append([line['accuracy'] for line in lines])
  ours_P, theirs_P = np.reshape(accuracy, (2, 5, 4)).mean(axis=2)
  mean, interval = statistics.paired_difference(ours_P, theirs_P)
  assert x['paired']['AIME 2024'] == dict(
    baseline='ours',
    difference=mean,
    interval=list(interval),
    p=statistics.paired_p_value(ours_P, theirs_P),
  )
  assert mean == pytest.approx(np.mean(ours_P) - np.mean(theirs_P))
  assert (ours_P != theirs_P).any()
  table = (again / 'results.md').read_text()
  assert f'| again | AIME 2024 | ours | {100 * mean:.1f} [' in table


def test_an_evaluation_minus_itself_is_zero(base, whole, tmp_path):
  x = run(base, tmp_path, f'baseline={whole[0]}')['paired']['GSM8K']
  assert (x['difference'], x['p']) == (0, 1)
  # Seven problems do not show that there are none on which the two differ.
  low, high = x['interval']
  assert (
    high == pytest.approx(-low) == pytest.approx(1 - 0.025 ** (1 / 7), 0.03)
  )


def test_the_tables_have_our_row_above_the_papers(whole):
  workdir, results, _ = whole
  table = (workdir / 'results.md').read_text()
  x = results['sets']['AIME 2024']
  (ours,) = [line for line in table.splitlines() if '| ours | ' in line][:1]
  assert f'{100 * x["pass1"]:.1f} [{100 * x["interval"][0]:.1f}, ' in ours
  assert ours.endswith('] of 3 |')
  assert '| DeepSeek-R1 (paper) | 79.8 | 86.7 |  |  |' in table
  assert '| DeepSeekMath-7B-RL (paper) |  |  | 88.2 |' in table
  assert 'ours: ' in table and 'temperature 0.6, top-p 0.95' in table
  page = (workdir / 'results.html').read_text()
  assert '<td>79.8</td>' in page and 'src=' not in page and 'href=' not in page
  assert '&lt;think&gt;' in page and '<think>' not in page


def test_the_report_of_an_evaluation_has_the_samples_of_its_problems(
  whole, tmp_path
):
  workdir, results, _ = whole
  folder = tmp_path / 'copy'
  shutil.copytree(workdir, folder)
  text = report.write(folder).read_text()
  assert '<h2>Scores</h2>' in text and '<td>79.8</td>' in text
  shown = json.loads(re.search('id="data">(.*)</script>', text)[1])['groups']
  for name, facts in results['sets'].items():
    own = [x for x in shown if x['run'] == name]
    assert len(own) == facts['problems'] and own[0]['gold'] is not None


def test_finished_evaluations_are_compared_without_a_model(
  whole, tmp_path, capsys
):
  workdir, results, _ = whole
  verdicts = tmp_path / 'verdicts.jsonl'
  verdicts.write_text(VERDICTS)
  settings = toy.settings(
    'evaluate', 'init=', f'compare_with=["{workdir}"]', f'codeforces={verdicts}'
  )
  settings.data = {}
  evaluate.run(settings, tmp_path / 'both')
  table = (tmp_path / 'both/results.md').read_text()
  assert table in capsys.readouterr().out
  assert '| both | 1500 |' in table and '| ours |  |' in table
  assert 'percentile 83.0 | 2 | 2 | 2 |' in table
  assert '| DeepSeek-R1 (paper) | 2029 |' in table
  found = json.loads((tmp_path / 'both/results.json').read_text())
  assert found['codeforces']['rating'] == pytest.approx(1500)
  again = scores.read_all([workdir, tmp_path / 'both', tmp_path / 'both'])
  labels = [label for label, _ in again]
  assert labels == ['ours', *[str(tmp_path / 'both')] * 2]
  assert again[0][1] == results


def test_results_of_an_earlier_version_are_shown(whole, tmp_path):
  results = json.loads((whole[0] / 'results.json').read_text())
  for x in results['sets'].values():
    del x['pass_k_interval'], x['majority_problems']
  (tmp_path / 'results.json').write_text(json.dumps(results))
  table = tables.markdown(scores.read_all([str(tmp_path)]))
  share = f'{100 * results["sets"]["GSM8K"]["pass_k"]["2"]:.1f}'
  assert f'| {share} |' in table and '] of 3 |' in table
  assert f'| {share} [' in (whole[0] / 'results.md').read_text()


@pytest.mark.parametrize(
  'name, paper_name',
  [
    ('AIME24', 'AIME 2024'),
    ('aime_2024', 'AIME 2024'),
    ('MATH-500', 'MATH-500'),
    ('math500', 'MATH-500'),
    ('gsm8k', 'GSM8K'),
    ('GPQA Diamond', 'GPQA'),
    ('AIME25', 'AIME25'),
  ],
)
def test_sets_have_the_papers_names(name, paper_name):
  assert tables.paper_name(name) == paper_name


REFUSED = {
  'init=': "config.init is '': name the directory",
  'samples=2': 'config.majority_k is 3|1 to config.samples=2',
  'pass_k=(0,)': 'config.pass_k is 0',
  'pass_k=(2,5)': 'config.pass_k is 5',
  'prompts_per_chunk=0': 'config.prompts_per_chunk is 0; it must be at least 1',
  'format=formt': "no reward 'formt'; did you mean 'format'?",
  'sample.temperature=0.': 'set config.samples=1',
  'sample.top_p=0.': 'config.sample.top_p is 0.0|it must be',
  'sample.top_p=1.5': 'config.sample.top_p is 1.5|it must be|at most 1',
  'sample.max_new_tokens=99999': (
    'the model has|lower config.prompt.max_len or config.sample.max_new_tokens'
  ),
  'prompt.stop_strings=("",)': 'config.prompt.stop_strings|empty entry',
  'data.../up=x': 'unknown key',
  'data.a/b=x': "config.data: name the set 'a/b' by letters",
  'data.X=/nowhere.jsonl': 'there is no data file /nowhere.jsonl',
  'data.X=gym:nonsense?count=1': 'reasoning-gym',
  'baseline=/nowhere': '/nowhere has no results.json',
  'compare_with=["/nowhere"]': '/nowhere has no results.json',
  'codeforces=/nowhere': 'there is no data file /nowhere',
  'parallel.strategy=pmpa': "must be one of 'pmap', 'mesh'",
}


@pytest.mark.parametrize('change', REFUSED)
def test_a_wrong_config_is_refused_in_one_line(
  change, base, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(programs, 'compilation_cache', lambda: None)
  code = cli.main(
    [
      'evaluate',
      '--config',
      str(toy.HERE / 'toy_evaluate.py'),
      '--workdir',
      str(tmp_path / 'run'),
      f'--config.init={base}/model',
      f'--config.{change}',
    ]
  )
  message = capsys.readouterr().err
  assert code == 2
  assert message.startswith('r1jax: ') and message.count('\n') == 1
  for part in REFUSED[change].split('|'):
    assert part in message
  assert not (tmp_path / 'run').exists()


def test_prompts_that_are_too_long_are_refused(base, tmp_path):
  with pytest.raises(errors.UserError, match='config.prompt.max_len allows 1'):
    run(base, tmp_path / 'run', 'prompt.max_len=2')
  assert not (tmp_path / 'run').exists()


def test_prompts_that_are_too_long_are_left_out_of_the_baseline_too(
  base, tmp_path
):
  path = tmp_path / 'own.jsonl'
  answers = [2], ['a'], 4
  rows = [
    dict(id=f'{n}', prompt='1' * n, answer=x, scorer=f'{tmp_path}/own.py:f')
    for n, x in zip((2, 3, 9), answers)
  ]
  path.write_text('\n'.join(map(json.dumps, rows)))
  (tmp_path / 'own.py').write_text('def f(record, answer): return 0')
  data = json.dumps(dict(Own=str(path)))
  changes = f'data={data}', 'prompt.max_len=6', 'skip_bad_records=True'
  run(base, tmp_path / 'first', *changes)
  found = run(
    base, tmp_path / 'ours', *changes, f'baseline={tmp_path / "first"}'
  )
  assert found['sets']['Own']['problems'] == 2
  assert found['paired']['Own']['difference'] == 0


def test_nothing_to_evaluate_is_refused(tmp_path):
  settings = toy.settings('evaluate')
  settings.data = {}
  with pytest.raises(errors.UserError, match='nothing to evaluate: set'):
    evaluate.run(settings, tmp_path / 'run')
  settings.baseline = 'runs/other'
  settings.codeforces = 'verdicts.jsonl'
  with pytest.raises(errors.UserError, match='config.baseline is subtracted'):
    evaluate.run(settings, tmp_path / 'run')


def test_a_baseline_of_other_problems_is_refused(base, whole, tmp_path):
  with pytest.raises(errors.UserError, match='other problems in the set') as e:
    run(base, tmp_path / 'run', f'baseline={whole[0]}', 'limit=4')
  assert "'GSM8K'" in str(e.value) and '(3 in all)' in str(e.value)
  with pytest.raises(errors.UserError, match='such as running_sum/0/0'):
    run(base, tmp_path / 'run', f'baseline={whole[0]}', 'seed=0')
  assert not (tmp_path / 'run').exists()


def test_a_file_that_evaluate_did_not_write_is_refused(tmp_path):
  (tmp_path / 'results.json').write_text('{"sets": 1}')
  with pytest.raises(
    errors.UserError, match='was not written by the evaluate stage'
  ):
    scores.read_all([tmp_path])


def test_a_failed_verifier_ends_the_evaluation_and_keeps_the_chunks(
  base, tmp_path, monkeypatch
):
  accuracy, calls = verifiers.Verifiers.accuracy, []

  def failing(self, records, texts):
    calls.append(len(texts))
    value_N = accuracy(self, records, texts)
    return np.ma.masked_equal(np.arange(len(texts)), len(calls)) * value_N

  with monkeypatch.context() as patch:
    patch.setattr(verifiers.Verifiers, 'accuracy', failing)
    with pytest.raises(errors.UserError, match='1 samples of the set GSM8K'):
      run(base, tmp_path / 'ours')
  assert not (tmp_path / 'ours' / 'results.json').exists()
  assert run(base, tmp_path / 'ours')['sets']['GSM8K']['problems'] == 7


@pytest.mark.skipif(
  not any(tier for _, tier, _ in tiers.probe()),
  reason='no sandbox tier works on this machine',
)
def test_every_kind_of_record_has_scores_votes_and_a_baseline(
  base, tmp_path, capsys
):
  own = tmp_path / 'own.py'
  own.write_text('def even(record, answer):\n  return answer in set("2468")\n')
  scorer, tests = f'{own}:even', [dict(input='1', output='1')]
  rows = [
    dict(id='sum', prompt='11', answer='2'),
    dict(id='choice', prompt='12', answer='B', choices=['1', '2']),
    dict(id='scorer', prompt='13', scorer=scorer),
    dict(id='scorer with a gold', prompt='14', answer='4', scorer=scorer),
    dict(id='program', prompt='15', tests=tests),
  ]
  mixed, programs = tmp_path / 'mixed.jsonl', tmp_path / 'programs.jsonl'
  mixed.write_text('\n'.join(map(json.dumps, rows)))
  programs.write_text(json.dumps(rows[-1]))
  data = json.dumps(dict(Mixed=str(mixed), Programs=str(programs)))
  changes = f'data={data}', 'prompts_per_chunk=2', 'pass_k=(1, 4)'
  first = run(base, tmp_path / 'first', *changes)
  assert 'programs run in the sandbox tier' in capsys.readouterr().out
  found = run(
    base, tmp_path / 'ours', *changes, f'baseline={tmp_path / "first"}'
  )
  assert found['sets'] == first['sets']
  x = found['sets']['Mixed']
  assert (x['problems'], x['majority_k'], x['majority_problems']) == (5, 3, 4)
  x = found['sets']['Programs']
  assert (x['problems'], x['majority_k'], x['majority_problems']) == (1, 1, 0)
  for name in ('Mixed', 'Programs'):
    assert found['paired'][name]['difference'] == 0
  table = (tmp_path / 'ours/results.md').read_text()
  assert 'of 3, 4 problems' in table
  for line in scores.read_lines(tmp_path / 'ours', 'Mixed'):
    is_program = line['id'] == 'program'
    assert line['can_vote'] != is_program
    assert not is_program or line['vote'] is line['extracted'] is None


def test_chunks_without_votes_are_those_of_an_earlier_version():
  with pytest.raises(errors.UserError, match='an earlier version'):
    scores.score([dict(accuracy=1.0, answer='1')], 1, (), 1)


def test_the_closing_line_has_pass1_and_the_difference_from_the_baseline():
  sets = {'a': dict(pass1=0.5, interval=[0.25, 0.75])}
  pair = dict(baseline='base', difference=0.125, interval=[-0.25, 0.5])
  line = toy.stage('evaluate').result_line(dict(sets=sets, paired=dict(a=pair)))
  assert line == (
    'pass@1: a 0.500 [0.250, 0.750] (+0.125 [-0.250, +0.500] from base)'
  )
