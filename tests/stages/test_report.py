"""The report shows the files of a work directory on one page."""

import json
import re

import pytest
from matplotlib import image

from r1jax import errors
from r1jax.reports import figures, run_metrics
from r1jax.stages import report
from r1jax.training import metrics

START = dict(
  step=0,
  time='2026-11-28 05:24:49',
  host='vm',
  commit='77605c51852f2a0c67fe6a81d10c4c9e9f426b77',
  has_changes=True,
  python='3.12.1',
  devices='1 cpu',
  processes=1,
  packages=dict(r1jax='0.1.0', jax='0.12.0'),
)


def sample(response, reward=1.25):
  parts = dict(accuracy=1.0, format=0.25)
  return dict(
    response=response, reward=reward, rewards=parts, finished=True, length=9
  )


def write_report(workdir):
  return report.write(workdir).read_text()


def data_of(text):
  return json.loads(
    re.search('<script type="application/json" id="data">(.*)</script>', text)[
      1
    ]
  )


@pytest.fixture
def run(tmp_path):
  """The work directory of a run of five steps; one number is NaN."""
  workdir = tmp_path / 'zero'
  writer = metrics.Writer(workdir)
  for step in range(5):
    line = {'step': step, 'reward': step / 4, 'reward/format': 0.5, 'kl': 0.125}
    line['grad_norm'] = float('nan') if step == 2 else 1.0
    line |= {'seconds': 2.0, 'skipped': 0}
    if step % 4 == 0:
      line |= {'eval/pass1': 0.5, 'eval/low': 0.25, 'eval/high': 0.75}
    writer.write(line)
    about = dict(step=step, id=f'q{step}', prompt='Is 1 < 2 & true?')
    writer.samples([about | sample(f'<script>{step}</script>')])
  writer.close()
  changed = {'grpo.group_size': [16, 8], 'init': ['', '<model>']}
  config = dict(init='<model>', prompts='toy:sum', steps=9, grpo={})
  (workdir / 'config.json').write_text(
    json.dumps(dict(changed=changed, config=config))
  )
  (workdir / 'starts.jsonl').write_text(json.dumps(START) + '\n')
  return workdir


def test_the_page_says_what_was_run_on_what_for_how_long(run):
  text = write_report(run)
  for part in (
    '<dd>&lt;model&gt;</dd>',
    '<dd>toy:sum</dd>',
    'commit 77605c51852f with changes',
    '<dd>1 cpu, host vm</dd>',
    '2026-11-28 05:24:49',
    '10 s in steps',
    'Python 3.12.1, r1jax 0.1.0, jax 0.12.0',
    '<td>grpo.group_size</td><td>16</td><td>8</td>',
    'reinforcement learning (GRPO)',
    '<b>0.500 → 0.500</b>',
    '4 of 9</b><small>not finished',
    'Left out, since always 0: skipped.',
  ):
    assert part in text, part


def test_every_chart_has_its_numbers(run):
  text = write_report(run)
  charts = data_of(text)['charts']
  assert re.findall('data-chart="(.*?)"', text) == [
    str(n) for n in range(len(charts))
  ]
  assert text.count('<svg') == len(charts) == 5
  (grad_norm,) = [x for x in charts if x['series'][0]['label'] == 'grad_norm']
  assert grad_norm['series'][0]['y'] == [1.0, 1.0, None, 1.0, 1.0]
  assert 'How far the policy is from the reference policy.' in text


def test_samples_are_data_and_cannot_end_the_script(run):
  text = write_report(run)
  assert text.count('<script') == 2 and 'id="groups"' in text
  groups = data_of(text)['groups']
  assert [x['title'] for x in groups] == [f'step {n}' for n in range(5)]
  assert groups[4]['responses'][0]['text'] == '<script>4</script>'
  assert groups[4]['prompt'] == 'Is 1 < 2 & true?'


def test_whole_groups_take_the_place_of_samples(run):
  about = dict(id='g', prompt='?', answer='4')
  members = [
    dict(sample('a'), advantage=1.0),
    dict(sample('b'), advantage=-1.0),
  ]
  writer = metrics.Writer(run)
  writer.groups([dict(about, step=n, samples=members) for n in (1, 3)])
  groups = data_of(write_report(run))['groups']
  assert [x['title'] for x in groups] == ['step 1', 'step 3']
  assert groups[0]['gold'] == '4' and len(groups[0]['responses']) == 2


def test_recomputed_tokens_take_the_place_of_the_groups_of_their_step(run):
  text = write_report(run)
  assert '--tokens STEP' in text
  about = dict(id='g', prompt='?', answer='4')
  tokens = dict(tokens=['a'], ratio=[1.5], entropy=[0.5], logprob=[-1.0])
  lines = [dict(about, step=3, samples=[dict(sample('a'), **tokens)])]
  metrics.Writer(run).groups([dict(about, step=n, samples=[]) for n in (1, 3)])
  (run / 'tokens.jsonl').write_text(json.dumps(lines[0]) + '\n')
  text = write_report(run)
  groups = data_of(text)['groups']
  assert [len(x['responses']) for x in groups] == [0, 1]
  assert groups[1]['responses'][0]['ratio'] == [1.5]
  assert '--tokens STEP' not in text


def test_a_panel_is_drawn_for_metrics_that_were_written(run):
  found, one, four = report.read_curves(run), run / 'one.png', run / 'four.png'
  figures.draw(run_metrics.read([{'step': 0, 'kl': 0.5}]), one)
  figures.draw(found, four)
  assert image.imread(four).shape[0] == 2 * image.imread(one).shape[0]


def test_a_run_without_samples_and_config_has_a_page(tmp_path):
  writer = metrics.Writer(tmp_path)
  writer.write(dict(step=1, loss=2.0))
  writer.samples([])
  writer.close()
  text = write_report(tmp_path)
  assert 'Samples' not in text and 'id="groups"' not in text
  assert 'smoothed' not in text.partition('<main>')[2].partition('<script')[0]


def test_samples_of_another_program_are_refused(run):
  (run / 'groups.jsonl').write_text('{"step": 1, "text": "?"}\n')
  with pytest.raises(errors.UserError, match='not what a run has written'):
    report.write(run)


def test_a_directory_without_steps_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='no steps in .*metrics.jsonl'):
    report.write(tmp_path)
