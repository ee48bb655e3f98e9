"""Comparisons of runs, whose files are written by hand."""

import json
import re
import sys
import urllib.parse

import numpy as np
import pytest

from r1jax import config as configs
from r1jax import errors
from r1jax.ablation import (
  compare,
  compare_command,
  comparison,
  setting_charts,
)
from r1jax.stages import rl, sft

T_2 = 4.302653  # Student's t for 2 degrees of freedom, 97.5 %


@pytest.fixture
def write(tmp_path):
  """Writes the files of a run: its config and a metric's values by step."""

  def write(name, values, metric='reward', finished=True, changes=(), **config):
    folder = tmp_path / name
    folder.mkdir()
    config = dict(seed=0, optim=dict(lr=0.1), steps=4) | config
    content = dict(config=config, changes=list(changes))
    (folder / 'config.json').write_text(json.dumps(content))
    lines = [
      json.dumps({'step': n, metric: value, 'length': 3.0}) + '\n'
      for n, value in enumerate(values, 1)
    ]
    (folder / 'metrics.jsonl').write_text(''.join(lines))
    if finished:
      (folder / 'model').mkdir()
    return folder

  return write


@pytest.fixture
def six(write):
  """Two settings with the seeds 0, 1, 2; the last values are those of the
  tests. Means: 0.2 and 0.4."""
  runs = []
  for kl, last in ((0.0, [0.1, 0.2, 0.3]), (0.5, [0.2, 0.4, 0.6])):
    for seed, value in enumerate(last):
      name = f'{kl}-{seed}'
      runs.append(write(name, [0, 0, 0, value], seed=seed, grpo=dict(kl=kl)))
  return runs


def test_the_table_has_means_spreads_and_paired_differences(six):
  base, other = compare.compare(six).settings
  assert base['grpo.kl'] == 0.0 and other['grpo.kl'] == 0.5
  assert base['seeds'] == other['seeds'] == 3
  margin = T_2 * 0.1 / 3**0.5
  expected = dict(mean=0.2, std=0.1, low=0.2 - margin, high=0.2 + margin)
  for name, value in expected.items():
    assert base[name] == pytest.approx(value, rel=1e-5)
    assert other[name] == pytest.approx(2 * value, rel=1e-5)
  # The differences of the pairs are 0.1, 0.2, 0.3.
  assert other['pairs'] == 3
  assert other['difference'] == pytest.approx(0.2)
  assert other['difference_low'] == pytest.approx(0.2 - margin, rel=1e-5)
  assert other['difference_high'] == pytest.approx(0.2 + margin, rel=1e-5)
  assert base['difference'] is None and base['pairs'] == 0


def test_only_runs_with_the_same_seed_are_paired(six):
  _, other = compare.compare([six[1], six[2], *six[3:]]).settings
  assert other['seeds'] == 3 and other['pairs'] == 2
  assert other['difference'] == pytest.approx((0.2 + 0.3) / 2)


def test_settings_without_a_common_seed_have_no_difference(six):
  found = compare.compare([six[0], six[4]])
  assert found.settings[1]['difference'] is None
  assert 'no seed in common' in ' '.join(found.notes)


def test_one_seed_has_no_interval(six):
  base, other = compare.compare([six[0], six[3]]).settings
  assert base['mean'] == 0.1 and base['std'] is None and base['low'] is None
  assert other['difference'] == pytest.approx(0.1)
  assert other['difference_low'] is None


def test_the_baseline_can_be_chosen_by_its_value(six):
  found = compare.compare(six, by='config.grpo.kl', baseline=0.5)
  assert found.settings[0]['difference'] == pytest.approx(-0.2)
  assert found.settings[1]['difference'] is None
  with pytest.raises(errors.UserError, match='grpo.kl=0.0; grpo.kl=0.5'):
    compare.compare(six, baseline=0.7)


def test_the_baseline_of_several_keys_is_a_tuple(write):
  runs = [
    write(f'{a}{b}', [a, a + b], x=a, y=b) for a in (1, 2) for b in (3, 5)
  ]
  found = compare.compare(runs, by=['x', 'y'], baseline=(2, 3))
  assert [row['difference'] for row in found.settings] == [-1, 1, None, 2]
  with pytest.raises(errors.UserError, match='the values 2 of x, y'):
    compare.compare(runs, by=['x', 'y'], baseline=2)


def test_a_training_metric_is_averaged_over_the_last_tenth(write):
  run = write('a', range(1, 31))
  found = compare.compare([run])
  assert found.value == 'reward, mean of 3 steps from 28 to 30'
  assert found.runs[0]['value'] == 29
  assert found.settings[0]['mean'] == 29 and found.keys == ()


def test_a_held_out_metric_is_taken_at_the_last_step(write):
  found = compare.compare([write('a', range(1, 31), 'eval/pass1')])
  assert found.value == 'eval/pass1 at step 30'
  assert found.runs[0]['value'] == 30


def test_the_default_metric_is_one_that_all_runs_have(write):
  runs = [write('a', [1, 2], 'eval/pass1'), write('b', [1, 2], 'loss')]
  for run in runs:
    with open(run / 'metrics.jsonl', 'a') as file:
      file.write('{"step": 3, "loss": 0.5}\n')
  assert compare.compare(runs).value == 'loss at step 3'


def test_an_unknown_metric_is_answered_with_those_there_are(six):
  with pytest.raises(errors.UserError, match='choose one of length, reward'):
    compare.compare(six, metric='rewards')


def test_runs_without_a_default_metric_are_refused(write):
  with pytest.raises(errors.UserError, match='that they have: kl, length'):
    compare.compare([write('a', [1], 'kl')])


def test_no_runs_are_refused(tmp_path):
  with pytest.raises(errors.UserError, match='the list is empty'):
    compare.compare([])
  with pytest.raises(errors.UserError, match='none has no config.json'):
    compare.compare([tmp_path / 'none'])


@pytest.mark.parametrize(
  'runs, sentence',
  [
    ('runs/a', "the runs are 'runs/a': give a list"),
    (None, 'the runs are None: give a list'),
    (['runs/a', 3], 'run 1 of the list is int 3: give a work directory'),
  ],
)
def test_what_is_no_list_of_runs_is_refused(runs, sentence):
  with pytest.raises(errors.UserError, match=sentence):
    compare.compare(runs)


def test_an_unknown_key_is_answered_with_the_nearest(six):
  with pytest.raises(errors.UserError, match='did you mean grpo.kl?'):
    compare.compare(six, by='grpo.kll')


def test_runs_of_different_stages_are_refused(write):
  runs = []
  for name, stage in (('zero', rl), ('base', sft)):
    values = configs.defaults(stage.Config).to_dict()
    runs.append(write(name, [1, 1], **values))
  with pytest.raises(errors.UserError, match='zero is a run of rl, and .*base'):
    compare.compare(runs)


def test_missing_and_unfinished_runs_are_left_out_with_a_note(six, write):
  unfinished = write('killed', [1, 1], finished=False, grpo=dict(kl=0.5))
  missing = six[0].parent / 'none'
  found = compare.compare([*six, unfinished, missing])
  assert found.settings == compare.compare(six).settings
  assert set(found.left_out) == {unfinished, missing}
  notes = ' '.join(found.notes)
  assert 'killed is not finished (its last step: 2): left out' in notes
  assert 'none has no config.json of a run: left out' in notes


def test_runs_of_different_length_are_compared_at_common_steps(write):
  runs = [
    write('short', [1, 2], finished=False, x=0),
    write('long', [3, 5, 100], finished=False, x=1),
  ]
  found = compare.compare(runs)
  assert [row['mean'] for row in found.settings] == [2, 5]
  notes = ' '.join(found.notes)
  assert 'short has reward up to step 2' in notes
  assert 'long up to step 3' in notes and 'No run is finished' in notes


def test_values_that_are_not_finite_do_not_count(write):
  runs = [
    write('a', [1, None, float('nan'), 4], x=0),
    write('b', [5, 6, 7, 9], x=1),
  ]
  found = compare.compare(runs)
  assert [row['mean'] for row in found.settings] == [4, 9]
  assert '2 steps that they have in common' in ' '.join(found.notes)


def test_other_keys_that_differ_are_in_the_notes(write):
  runs = [
    write('a', [1], x=0),
    write(
      'b',
      [2],
      x=1,
      optim=dict(lr=0.3),
      changes=[dict(step=1, key='steps', old=3, new=4)],
    ),
  ]
  notes = ' '.join(compare.compare(runs, by='x').notes)
  assert 'The runs also differ in optim.lr: 0.1, 0.3.' in notes
  assert 'another steps from step 1 on: 3, then 4' in notes


def test_runs_that_differ_in_the_seed_alone_are_one_setting(write):
  runs = [write(f'{n}', [n], seed=n) for n in (2, 4)]
  found = compare.compare(runs)
  assert found.settings[0]['mean'] == 3 and found.settings[0]['seeds'] == 2


def test_several_runs_of_a_seed_count_as_one(write):
  runs = [write('a', [1], x=0), write('b', [3], x=0, y=1), write('c', [7], x=1)]
  found = compare.compare(runs, by='x')
  assert [row['mean'] for row in found.settings] == [2, 7]
  assert [row['seeds'] for row in found.settings] == [1, 1]
  assert 'several runs with the same seed' in ' '.join(found.notes)


def test_a_section_can_be_the_compared_key(write):
  runs = [
    write('a', [1], rewards=dict(accuracy=1.0)),
    write('b', [2], rewards={'accuracy': 1.0, 'my.py:short': 0.1}),
  ]
  found = compare.compare(runs, by='rewards')
  assert found.settings[1]['rewards'] == {'accuracy': 1.0, 'my.py:short': 0.1}
  assert 'also differ' not in ' '.join(found.notes)


def test_a_run_can_be_an_object_with_a_workdir(six):
  class Run:
    def __init__(self, workdir):
      self.workdir = workdir

  found = compare.compare([Run(folder) for folder in six])
  assert found.settings == compare.compare(list(map(str, six))).settings


def test_the_figure_has_a_curve_and_a_band_for_each_setting(six):
  (axes,) = compare.compare(six).figure.axes
  lines = {line.get_label(): line.get_ydata() for line in axes.lines}
  np.testing.assert_allclose(lines['grpo.kl=0.0'], [0, 0, 0, 0.2])
  np.testing.assert_allclose(lines['grpo.kl=0.5'], [0, 0, 0, 0.4])
  bands = [band.get_paths()[0].vertices for band in axes.collections]
  assert len(bands) == 2
  margin = T_2 * 0.1 / 3**0.5
  assert bands[0][:, 1].max() == pytest.approx(0.2 + margin, rel=1e-5)


def test_wide_intervals_do_not_hide_the_means():
  values_ST = np.array([[0.0, 1.0], [0.0, 2.0]])  # the margin is 12.7 / 2
  picture = comparison.draw('reward', np.array([1, 2]), {'a': values_ST})
  assert picture.axes[0].get_ylim() == (-2.0, 4.0)


def test_the_page_has_the_table_the_figure_and_links(six, write, tmp_path):
  left_out = write('<killed>', [1], finished=False)
  page = tmp_path / 'pages' / 'page.html'
  found = compare.compare([*six, left_out])
  found.save(page)
  text = page.read_text()
  assert '<td>0.5</td><td>3</td><td>0.4</td><td>0.2</td>' in text
  assert '+0.2 [-0.04841, 0.4484]' in text
  assert text.count('<svg') == 2  # reward and length
  links = re.findall('href="(.*?)"', text)
  assert len(links) == 14 and '../0.5-2' in links
  for link in map(urllib.parse.unquote, links):
    assert (page.parent / link).exists()
  assert '<killed>' not in text
  assert 'data:image/png;base64,' in found._repr_html_()


def test_a_chart_has_the_mean_and_the_interval_of_each_setting(six):
  ((reward, length),) = (compare.compare(six).charts.values(),)
  first, second = reward[0].series
  assert first.label == 'grpo.kl=0.0' and second.label == 'grpo.kl=0.5'
  np.testing.assert_allclose(second.values, [0, 0, 0, 0.4])
  margin = T_2 * 0.2 / 3**0.5
  np.testing.assert_allclose(second.high, [0, 0, 0, 0.4 + margin], rtol=1e-5)
  assert length[0].title == 'Response length'


def test_a_setting_with_one_seed_has_no_interval(write):
  runs = [write('a', [1, 2], x=0), write('b', [3, 4], x=1)]
  charts = compare.compare(runs).charts['Results']
  assert [x.low for x in charts[0].series] == [None, None]


def test_a_metric_of_one_setting_has_a_chart(write):
  a, b = write('a', [1, 2], x=0), write('b', [3, 4], x=1)
  with open(b / 'metrics.jsonl', 'a') as file:
    file.write('{"step": 3, "kl": 0.5}\n')
  charts = compare.compare([a, b], metric='reward').charts['Update']
  assert [x.label for x in charts[0].series] == ['x=1']


def test_runs_without_a_common_step_have_no_mean(write):
  write('a', [1, 2], seed=0)
  write('b', [3, 4], seed=1)
  folders = [write('c', [], seed=0), write('d', [], seed=1)]
  for n, folder in enumerate(folders):
    (folder / 'metrics.jsonl').write_text(f'{{"step": {n}, "kl": 1.0}}\n')
  loaded = [compare.load_all([folder])[0][0] for folder in folders]
  (setting,) = compare.group(loaded, [])
  assert setting_charts.setting_series(setting, 'kl') is None


def test_the_samples_of_all_runs_are_on_the_page(six, tmp_path):
  logged = dict(step=1, id='q', prompt='?', response='</script>', reward=1.0)
  logged |= dict(rewards={}, finished=True, length=2)
  for folder in six:
    (folder / 'samples.jsonl').write_text(json.dumps(logged) + '\n')
  compare.compare(six).save(tmp_path / 'page.html')
  text = (tmp_path / 'page.html').read_text()
  assert text.count('</script>') == 2
  data = json.loads(re.search('id="data">(.*)</script>', text)[1])
  assert [x['run'] for x in data['groups']] == [
    f'grpo.kl={kl}, seed {seed}' for kl in ('0.0', '0.5') for seed in range(3)
  ]


def test_the_command_compares_runs_by_a_key(six, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  arguments = ['--by', 'grpo.kl', *map(str, six), '--baseline', '0.5']
  assert compare_command.run(arguments) == 0
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == 'reward at step 4' and lines[-1] == 'compare.html'
  assert '-0.2 [-0.4484, 0.04841]' in lines[2]
  assert (tmp_path / 'compare.html').exists()


def test_the_command_takes_the_folder_of_a_sweep(six, tmp_path):
  assert compare_command.work_directories([str(tmp_path)]) == sorted(six)
  assert compare_command.work_directories([str(six[0])]) == [six[0]]
  missing = tmp_path / 'none'
  assert compare_command.work_directories([str(missing)]) == [missing]


def test_the_command_does_not_write_into_a_folder(six, tmp_path):
  with pytest.raises(errors.UserError, match='--out is .*, a folder'):
    compare_command.run([str(six[0]), '--out', str(tmp_path)])
  with pytest.raises(errors.UserError, match='the page is gs://b'):
    compare_command.run([str(six[0]), '--out', 'gs://b/c.html'])


def test_as_text_a_comparison_is_its_table_and_notes(six):
  found = compare.compare(six)
  value, head, first, second, *notes = str(found).splitlines()
  assert value == found.value == 'reward at step 4'
  assert head.split()[:3] == ['grpo.kl', 'seeds', 'mean']
  assert first.split()[:3] == ['0.0', '3', '0.2']
  assert second.endswith('+0.2 [-0.04841, 0.4484]    3')
  assert notes == found.notes


def test_the_table_is_a_list_without_pandas(six, monkeypatch):
  monkeypatch.setitem(sys.modules, 'pandas', None)
  found = compare.compare(six)
  assert found.table is found.settings
