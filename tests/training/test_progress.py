"""Progress is lines in a file, one line in a terminal, one output in a notebook;
other output stays readable."""

import io
import json
import sys
import types

import pytest

from r1jax.distributed import hosts
from r1jax.training import live_display, progress
from r1jax.training.progress import Progress, progress_parts

ERASE = live_display.ERASE_TO_END


class FakeTerminal(io.StringIO):
  def isatty(self):
    return True


class FakeClock:
  """Stands in for the module `time`; tests set `now`."""

  def __init__(self):
    self.now = 1000.0

  def monotonic(self):
    return self.now


class FakeNotebook:
  """Stands in for the modules IPython and IPython.display. `outputs` are the
  HTML texts that were shown, in their order, by display handle."""

  def __init__(self, monkeypatch):
    self.outputs = []
    kernel_shell = type('ZMQInteractiveShell', (), {})
    subclass = type('Shell', (kernel_shell,), {})  # Colab has one
    ipython = types.SimpleNamespace(get_ipython=subclass)
    ipython_display = types.SimpleNamespace(HTML=str, display=self.display)
    monkeypatch.setitem(sys.modules, 'IPython', ipython)
    monkeypatch.setitem(sys.modules, 'IPython.display', ipython_display)

  def display(self, html, display_id):
    assert display_id is True
    shown = [html]
    self.outputs.append(shown)
    return types.SimpleNamespace(update=shown.append)


@pytest.fixture
def clock(monkeypatch):
  clock = FakeClock()
  monkeypatch.setattr(progress, 'time', clock)
  return clock


def use_terminal(monkeypatch):
  """A terminal of 40 columns as stdout and stderr. It is no fixture, since
  pytest replaces both between fixtures and tests."""
  terminal = FakeTerminal()
  monkeypatch.setattr(sys, 'stdout', terminal)
  monkeypatch.setattr(sys, 'stderr', terminal)
  monkeypatch.setenv('COLUMNS', '40')
  monkeypatch.setenv('TERM', 'xterm')
  return terminal


def rows(text):
  """The rows that a terminal shows after this text."""
  shown = ['']
  for part in text.replace('\n', '\r\n').split('\r'):
    if part.startswith('\n'):
      shown.append('')
      part = part[1:]
    if ERASE in part:
      part, shown[-1] = part.replace(ERASE, ''), ''
    shown[-1] = part + shown[-1][len(part) :]
  return shown


def test_a_line_has_the_time_left_and_the_known_metrics():
  numbers = dict(step=30, reward=1.0625, kl=3.0, length=14, truncated=0.125)
  numbers |= {
    'reward/accuracy': 0.5,
    'sampling_logp_difference': 2e-7,
    'tokens_per_s': 12e3,
  }
  line = '  '.join(progress_parts(30, 200, numbers, 3700.4))
  assert line == (
    'step  30/200  1:01:40 left  reward 1.062  accuracy 0.500  length 14.0'
    '  truncated 12.5%  Δlogp 2.0e-07  12,000 tokens/s'
  )
  assert progress_parts(7, 9, {}, unit='prompts') == ['prompts 7/9']


def test_the_time_left_counts_the_steps_since_the_resume(clock, capsys):
  bar = Progress(200, first_step=100)
  clock.now += 600
  bar.show(110, {})
  assert capsys.readouterr().out == 'step 110/200  1:30:00 left\n'


def printed_steps(capsys):
  lines = capsys.readouterr().out.splitlines()
  return [int(line.split('/')[0].removeprefix('step')) for line in lines]


@pytest.mark.parametrize('log_every, between', [(0, 2), (7, 7), (50, 50)])
def test_without_a_terminal_lines_are_printed_every_few_steps(
  log_every, between, capsys
):
  bar = Progress(43, log_every=log_every)
  for step in range(1, 44):
    bar.show(step, dict(loss=1 / step))
  bar.close()
  expected = {1, 43, *range(between, 44, between)}
  assert printed_steps(capsys) == sorted(expected)


def test_evaluated_steps_and_the_first_after_a_resume_are_printed(capsys):
  bar = Progress(2000, first_step=20, log_every=1000)
  for step in range(24, 60, 4):  # rollouts of four updates
    bar.show(step, {'eval/pass1': 0.5} if step % 16 == 0 else {})
  assert printed_steps(capsys) == [24, 32, 48]


def test_the_line_of_a_terminal_is_rewritten_and_ends_with_a_newline(
  clock, monkeypatch
):
  terminal = use_terminal(monkeypatch)
  bar = Progress(9)
  for step in 1, 2:
    clock.now += 1
    bar.show(step, dict(reward=10.0 ** (3 - step)))
  bar.close()
  first, second = (
    f'\r{line}{ERASE}'
    for line in (
      'step 1/9  0:00:08 left  reward 100.000',
      'step 2/9  0:00:07 left  reward 10.000',
    )
  )
  assert terminal.getvalue() == f'\rstep 0/9{ERASE}{first}{second}\n'
  assert sys.stdout is sys.stderr is terminal


def test_a_fast_run_draws_seldom_but_always_its_last_step(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  bar = Progress(1000)
  for step in range(1, 1001):
    clock.now += 1 / 64
    bar.show(step, dict(loss=1.5))
  bar.close()
  assert terminal.getvalue().count('\r') == 1 + 1000 // 32 + 1
  assert rows(terminal.getvalue()) == [
    'step 1000/1000  0:00:00 left',  # 'loss 1.5000' would end in column 41
    '',
  ]


def test_a_wide_character_counts_as_two_columns():
  assert live_display.cut('of 数学 1', 7) == 'of 数学'
  assert live_display.cut('of 数学 1', 6) == 'of 数'
  assert live_display.cut('of 数学 1', 99) == 'of 数学 1'
  assert live_display.width('数') == 2 and live_display.width('e\u0301') == 1


@pytest.mark.parametrize(
  'columns, line',
  [
    (3, 'ste'),
    (8, 'step 1/9'),
    (19, 'step 1/9  loss 0.5'),  # the time does not fit, the loss does
    (30, 'step 1/9  1:00:00 left'),
    (300, 'step 1/9  1:00:00 left  loss 0.5'),
  ],
)
def test_a_line_has_the_parts_that_fit(columns, line):
  parts = ['step 1/9', '1:00:00 left', 'loss 0.5']
  assert live_display.fit(parts, columns) == line


def test_a_line_fits_at_every_width(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  bar = Progress(9)
  numbers = dict(reward=1.0, loss=2.0, sampling_logp_difference=1e-7)
  for columns in 300, 20, 80, 2:  # the window is resized
    monkeypatch.setenv('COLUMNS', str(columns))
    clock.now += 1
    bar.show(1, numbers, 'of 数学')
    drawn = terminal.getvalue().rpartition('\r')[2].removesuffix(ERASE)
    assert live_display.width(drawn) < columns
  bar.close()


def test_a_terminal_without_unicode_gets_escapes(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  terminal_type = type('Ascii', (FakeTerminal,), dict(encoding='ascii'))
  monkeypatch.setattr(sys, 'stdout', terminal_type())
  display = live_display.TerminalLine(sys.stdout)
  display.draw(['step 1/9', 'Δlogp 1'], 0.5)
  text = display.stream.getvalue()
  display.close()
  assert text == f'\rstep 1/9  \\u0394logp 1{ERASE}' and not terminal.getvalue()


def test_the_width_is_that_of_the_terminal():
  import fcntl
  import pty
  import struct
  import termios

  primary, secondary = pty.openpty()
  with open(secondary, 'w') as stream, open(primary):
    for columns in 123, 20:
      size = struct.pack('HHHH', 24, columns, 0, 0)
      fcntl.ioctl(secondary, termios.TIOCSWINSZ, size)
      assert live_display.columns(stream) == columns


def test_the_part_that_is_being_done_stands_behind_the_step(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  bar = Progress(9)
  clock.now += 1
  bar.show(1, dict(reward=1.0, loss=2.0))
  clock.now += 1
  bar.show_part(64, 256, 'held-out problem')
  bar.close()
  drawn = rows(terminal.getvalue().rsplit('\r', 2)[1])
  assert drawn == ['step 1/9  held-out problem 64/256']


def test_other_output_stands_on_lines_of_its_own(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  bar = Progress(9)
  for step in 1, 2, 3:
    clock.now += 1
    bar.show(step, {})
    if step == 1:
      print('held out: accuracy 0.5')
      print('record x/1 was not verified', file=sys.stderr)
    if step == 2:
      print('no newline', end='')
  print('terminated', file=sys.stderr)
  bar.close()
  assert rows(terminal.getvalue()) == [
    'step 1/9  0:00:08 left',
    'held out: accuracy 0.5',
    'record x/1 was not verified',
    'step 2/9  0:00:07 left',
    'no newline',
    'step 3/9  0:00:06 left',
    'terminated',
    '',
  ]


def test_an_exception_leaves_the_cursor_on_a_new_line(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  with pytest.raises(ValueError):
    bar = Progress(9)
    try:
      clock.now += 0.1
      bar.show(1, {})
      raise ValueError
    finally:
      bar.close()
  print('r1jax: the error')
  assert rows(terminal.getvalue()) == [
    'step 1/9  0:00:01 left',
    'r1jax: the error',
    '',
  ]


def test_stderr_in_a_file_does_not_end_the_line(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  errors = io.StringIO()
  monkeypatch.setattr(sys, 'stderr', errors)
  bar = Progress(9)
  print('a warning', file=sys.stderr)
  bar.close()
  assert errors.getvalue() == 'a warning\n'
  assert '\n' not in terminal.getvalue()[:-1]


def test_a_dumb_terminal_has_lines(clock, monkeypatch):
  terminal = use_terminal(monkeypatch)
  monkeypatch.setenv('TERM', 'dumb')
  Progress(2).show(1, {})
  assert terminal.getvalue() == 'step 1/2  0:00:00 left\n'


def write_metrics(path, *lines):
  with open(path, 'a') as file:
    file.writelines(json.dumps(line) + '\n' for line in lines)


def test_a_notebook_has_one_output_with_the_newest_state(
  clock, monkeypatch, tmp_path, capsys
):
  notebook, path = FakeNotebook(monkeypatch), tmp_path / 'metrics.jsonl'
  bar = Progress(40, first_step=10, metrics_file=path)
  (outputs,) = notebook.outputs
  assert 'value="0.2500"' in outputs[-1] and 'step 10/40' in outputs[-1]
  for step in range(11, 41):
    clock.now += 0.1
    bar.show(step, {'eval/pass1': 0.25} if step == 20 else dict(loss=0.5))
  bar.close()
  assert len(notebook.outputs) == 1 and len(outputs) <= 9
  assert 'value="1.0000"' in outputs[-1] and 'step 40/40' in outputs[-1]
  assert 'pass@1 0.250  loss 0.5000' in outputs[-1]  # of the last evaluation
  assert capsys.readouterr().out == ''


def test_the_curves_of_a_notebook_are_those_of_the_metrics_file(
  clock, monkeypatch, tmp_path
):
  notebook, path = FakeNotebook(monkeypatch), tmp_path / 'metrics.jsonl'
  write_metrics(path, {'step': 0, 'eval/pass1': 0.125})
  bar = Progress(9, metrics_file=path)
  write_metrics(path, dict(step=1, reward=2.0, loss=0.1))
  write_metrics(path, dict(step=2, reward=None, loss=0.2))
  write_metrics(path, {'step': 3, 'reward': 3.0, 'eval/pass1': 0.5})
  bar.show(3, {})
  bar.close()
  html = notebook.outputs[0][-1]
  assert html.count('<polyline') == 2  # of pass@1 and of the reward
  assert 'held-out pass@1 0.5<' in html and 'reward 3<' in html
  assert html.count('points="0.0,80.0 340.0,0.0"') == 2
  assert 'step 0<' in html and 'step 1<' in html and html.count('step 3<') == 2


@pytest.mark.parametrize('count', [1, 2, 5000])
def test_a_curve_has_few_points(count):
  points = [(step, 7.0) for step in range(count)]
  svg = live_display.curve('<x>', points)
  assert svg.count(',') <= live_display.POINTS + 1
  assert '&lt;x&gt; 7<' in svg and f'step {count - 1}<' in svg


def test_a_note_is_text_in_a_notebook(monkeypatch):
  notebook = FakeNotebook(monkeypatch)
  bar = Progress(9)
  bar.show(1, {}, 'of a<b')
  bar.close()
  assert 'of a&lt;b</pre>' in notebook.outputs[0][-1]


def test_only_host_0_shows_progress(monkeypatch):
  terminal = use_terminal(monkeypatch)
  notebook = FakeNotebook(monkeypatch)
  monkeypatch.setattr(hosts, 'index', lambda: 1)
  bar = Progress(1)
  bar.show(1, {})
  bar.close()
  assert terminal.getvalue() == '' and not notebook.outputs


def test_the_ipython_of_a_terminal_is_no_notebook(monkeypatch):
  shell = type('TerminalInteractiveShell', (), {})
  ipython = types.SimpleNamespace(get_ipython=shell)
  monkeypatch.setitem(sys.modules, 'IPython', ipython)
  assert not live_display.in_notebook()
  monkeypatch.setitem(
    sys.modules, 'IPython', types.SimpleNamespace(get_ipython=lambda: None)
  )
  assert not live_display.in_notebook()
  monkeypatch.delitem(sys.modules, 'IPython')
  assert not live_display.in_notebook()
