"""The report shows the files of a run on one page without external files."""

import json
import re

import numpy as np
import pytest
from matplotlib import image

from r1jax import config, errors, files
from r1jax.models import moe
from r1jax.stages import report
from r1jax.training import metrics


def sample(step, response):
  return dict(
    step=step,
    id=f'q{step}',
    prompt='Is 1 < 2 & true?',
    response=response,
    reward=1.25,
    rewards=dict(accuracy=1.0, format=0.25),
    finished=step > 0,
    length=9,
  )


def write_report(workdir):
  report.run(config.defaults(report.Config), workdir)
  return (workdir / 'report.html').read_text()


@pytest.fixture
def run(tmp_path):
  """The work directory of a run of five steps; one number is NaN."""
  workdir = tmp_path / 'zero'
  writer = metrics.Writer(workdir)
  for step in range(5):
    line = {'step': step, 'reward': step / 4, 'reward/format': 0.5, 'kl': 0.125}
    line['grad_norm'] = float('nan') if step == 2 else 1.0
    if step % 4 == 0:
      line |= {'eval/pass1': 0.5, 'eval/low': 0.25, 'eval/high': 0.75}
    writer.write(line)
    writer.samples([sample(step, f'<script>{step}</script>')] * 9)
  writer.close()
  changed = {'grpo.group_size': [16, 8], 'init': ['', '<model>']}
  (workdir / 'config.json').write_text(
    json.dumps(dict(changed=changed, config={}))
  )
  return workdir


def test_the_page_is_one_file_with_curves_numbers_config_and_samples(run):
  text = write_report(run)
  assert 'src="data:image/png;base64,' in text
  assert not re.search(r'(src|href)="(?!data:)', text)
  assert '<td>reward</td><td>0</td><td>1</td>' in text
  assert '<td>eval/pass1</td><td>0.5</td><td>0.5</td>' in text
  assert '<td>grpo.group_size</td><td>16</td><td>8</td>' in text
  assert '&quot;&lt;model&gt;&quot;' in text


def test_samples_of_first_middle_and_last_step_are_escaped(run):
  text = write_report(run)
  assert re.findall('<h3>Step (.)', text) == ['0', '2', '4']
  assert '<script' not in text
  assert text.count('&lt;script&gt;4&lt;/script&gt;') == report.SAMPLES
  assert 'Is 1 &lt; 2 &amp; true?' in text
  assert 'q0: reward 1.25 (accuracy 1, format 0.25), 9 tokens, trunc' in text


def test_a_panel_is_drawn_for_metrics_that_were_written(run):
  lines = files.read_jsonl(run / 'metrics.jsonl')
  one, four = run / 'one.png', run / 'four.png'
  report.draw([{'step': 0, 'kl': 0.5}], one)
  report.draw(lines, four)
  assert image.imread(four).shape[0] == 2 * image.imread(one).shape[0]


def test_the_panels_of_routers_are_those_of_runs_with_experts(run):
  lines = files.read_jsonl(run / 'metrics.jsonl')
  load_NE = np.array([[6, 2, 0, 4], [3, 3, 3, 3]])
  load = moe.load_metrics({moe.LOAD: load_NE})
  assert load == {'router/max_load': 1.5, 'router/dead_experts': 0.125}
  with_experts = [line | load | {'router/flips': 0.01} for line in lines]
  added = set(report.panels(with_experts)) - set(report.panels(lines))
  assert added == {
    'Load of the busiest expert',
    'Experts without tokens',
    'Experts, sampler against trainer',
  }
  report.draw(with_experts, run / 'experts.png')


def test_smoothing_keeps_constants_and_lines_and_ignores_nan():
  values = np.full(60, 0.5)
  values[7] = np.nan
  np.testing.assert_allclose(report.smooth(values), 0.5)
  line = np.arange(60.0)
  np.testing.assert_allclose(report.smooth(line)[3:-3], line[3:-3])


def test_a_run_without_samples_has_a_page(tmp_path):
  writer = metrics.Writer(tmp_path)
  writer.write(dict(step=1, loss=2.0))
  writer.close()
  assert 'Samples' not in write_report(tmp_path)


def test_a_directory_without_steps_is_refused(tmp_path):
  with pytest.raises(errors.UserError, match='no steps in .*metrics.jsonl'):
    write_report(tmp_path)
