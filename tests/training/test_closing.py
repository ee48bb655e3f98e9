"""The closing lines of a stage: what it reached, its duration, where the result
is, what to do next."""

import json
import time

import pytest

from r1jax.training import closing


def evaluated(step, pass1, width=0.125):
  return {
    'step': step,
    'reward': 1.0,
    'eval/pass1': pass1,
    'eval/low': pass1 - width,
    'eval/high': pass1 + width,
    'eval/problems': 64,
  }


def test_pass1_stands_before_and_after_with_its_intervals():
  lines = [evaluated(0, 0.25), dict(step=1, reward=2.0), evaluated(9, 0.5)]
  assert closing.result_line(lines, []) == (
    'pass@1 0.250 [0.125, 0.375] -> 0.500 [0.375, 0.625] (steps 0 and 9), '
    '64 held-out problems'
  )


def test_a_better_step_before_the_last_is_named():
  lines = [evaluated(0, 0.25), evaluated(5, 0.75), evaluated(9, 0.5)]
  line = closing.result_line(lines, ['5', '9'])
  assert line.endswith('; best 0.750 at step 5')
  line = closing.result_line(lines, ['9'])
  assert line.endswith(
    'problems; 0.750 at step 5, of which there is no checkpoint '
    '(config.save_every)'
  )
  lines.insert(1, evaluated(3, 0.625))
  line = closing.result_line(lines, ['3', '9'])
  assert '; best 0.625 at step 3; 0.750 at step 5, of which' in line


def test_the_value_before_the_first_step_is_of_no_checkpoint():
  lines = [evaluated(0, 0.75), evaluated(5, 0.375), evaluated(9, 0.5)]
  line = closing.result_line(lines, ['5', '9'])
  assert line.startswith('pass@1 0.750 [') and line.endswith('problems')


def test_the_metric_of_the_best_checkpoint_is_shown_if_it_is_chosen():
  lengths = 3.0, 1.0, 5.0
  lines = [
    evaluated(n, 0.5) | {'eval/length': x} for n, x in enumerate(lengths)
  ]
  text = 'eval/length 3.000 -> 5.000 (steps 0 and 2)'
  assert closing.result_line(lines, ['1'], 'eval/length') == text
  line = closing.result_line(lines, ['1'], '-eval/length')
  assert line == f'{text}; best 1.000 at step 1'
  line = closing.result_line(lines, [], 'eval/pass1')
  assert line.startswith('pass@1 0.500 [0.375')


def test_one_evaluation_has_no_before():
  assert closing.result_line([evaluated(9, 0.5)], []) == (
    'pass@1 0.500 [0.375, 0.625] at step 9, 64 held-out problems'
  )


def test_a_reward_has_its_interval_where_there_is_no_pass1():
  lines = []
  for step, reward in (0, -1.0), (9, 1.5):
    line = {'step': step, 'eval/reward': reward, 'eval/problems': 32}
    line |= {'eval/reward_low': reward - 0.5, 'eval/reward_high': None}
    lines.append(line)
  lines[1]['eval/reward_high'] = 2.0
  assert closing.result_line(lines, []) == (
    'held-out reward -1.000 -> 1.500 [1.000, 2.000] (steps 0 and 9), '
    '32 held-out problems'
  )


def test_without_an_evaluation_the_loss_or_the_reward_is_shown():
  lines = [dict(step=n, loss=1 / n, reward=None) for n in (1, 2, 4)]
  assert closing.result_line(lines, []) == (
    'loss 1.0000 -> 0.2500 (steps 1 and 4)'
  )
  assert closing.result_line([dict(step=1, seconds=3)], []) == ''
  assert closing.result_line([], []) == ''


@pytest.mark.parametrize(
  'seconds, text',
  [(0.2, '0 s'), (59.4, '59 s'), (185, '3:05 min'), (7384, '2:03:04 h')],
)
def test_durations_are_short(seconds, text):
  assert closing.duration(seconds) == text


@pytest.mark.parametrize('first, did', [(0, '9 steps'), (4, 'steps 5 to 9')])
def test_training_ends_with_few_lines(first, did, tmp_path, capsys):
  workdir = tmp_path / 'a run'
  workdir.mkdir()
  rows = [evaluated(0, 0.25), evaluated(9, 0.5)]
  text = ''.join(json.dumps(row) + '\n' for row in rows)
  (workdir / 'metrics.jsonl').write_text(text)
  began = time.monotonic() - 185
  chat = closing.command('chat', workdir / 'model')
  closing.show_training(workdir, began, first, {chat: 'talk'})
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 4 and lines[0].startswith('pass@1 0.250')
  assert lines[1] == f'{did} in 3:05 min; the model is {workdir}/model'
  assert lines[2] == (
    f"next: python -m r1jax report --workdir '{workdir}'  curves and samples "
    'on a page'
  )
  assert lines[3].split() == (
    f"python -m r1jax chat '{workdir}/model' talk".split()
  )
