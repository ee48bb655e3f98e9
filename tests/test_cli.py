"""The command line: help, dispatch to stages, errors and exit codes."""

import dataclasses
import errno
import io
import os
import pathlib
import re
import subprocess
import sys
import types

import jax
import pytest

import r1jax
from r1jax import cli, config, errors
from r1jax.distributed import programs
from r1jax.training import live_display


@dataclasses.dataclass(frozen=True)
class Config:
  steps: int = config.option(3, 'how many')


@pytest.fixture
def stage(monkeypatch):
  """A stage named toy that records its calls."""
  module = types.ModuleType('toy_stage', 'A toy. Not real.')
  module.Config, module.calls = Config, []
  module.changes = []

  def run(settings, workdir, change):
    module.calls.append((config.build(Config, settings), workdir))
    module.changes.append(change)

  module.run = run
  monkeypatch.setitem(sys.modules, 'toy_stage', module)
  monkeypatch.setitem(cli.STAGES, 'toy', 'toy_stage')
  monkeypatch.setattr(programs, 'compilation_cache', lambda: None)
  return module


@pytest.fixture
def file(tmp_path):
  path = tmp_path / 'toy.py'
  path.write_text(
    'import ml_collections\n'
    'def get_config():\n'
    '  return ml_collections.ConfigDict(dict(steps=5)).lock()\n'
  )
  return str(path)


def test_help_lists_every_stage_with_its_first_sentence(capsys):
  assert cli.main(['--help']) == 0 == cli.main([])
  text = capsys.readouterr().out
  assert '\n  report ' in text and 'Writes report.html about' in text
  assert all(f'\n  {name}' in text for name in cli.STAGES)
  assert max(map(len, text.splitlines())) <= 80


def test_characters_that_stdout_lacks_are_escaped(monkeypatch):
  written = io.BytesIO()
  stream = io.TextIOWrapper(written, encoding='ascii')
  monkeypatch.setattr(sys, 'stdout', stream)
  assert cli.main(['--help']) == 0
  stream.write('Δ')
  stream.flush()
  assert b'[--config.key=value \\u2026]' in written.getvalue()
  assert written.getvalue().endswith(b'\\u0394')


@pytest.mark.parametrize('arguments', [['--help'], ['report', '--help']])
def test_a_reader_that_ends_is_no_traceback(arguments, monkeypatch, capsys):
  reader, writer = os.pipe()
  os.close(reader)
  with open(writer, 'w', encoding='utf-8') as stream:
    monkeypatch.setattr(sys, 'stdout', stream)
    assert cli.main(arguments) == errors.OUTPUT_CLOSED == 141
    print('more')  # goes nowhere, and so does Python's exit
  assert 'the reader of the output has ended' in capsys.readouterr().err


@pytest.mark.parametrize(
  'workdir', ['gs://bucket/run', 's3://bucket/run', 'https://host/run']
)
def test_a_bucket_is_no_work_directory(
  stage, file, workdir, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  assert cli.main(['toy', '--config', file, '--workdir', workdir]) == 2
  assert f'the work directory is {workdir}, but' in capsys.readouterr().err
  assert not stage.calls and sorted(os.listdir()) == ['toy.py']


def test_a_broken_pipe_to_another_process_is_not_the_output(stage, file):
  def run(settings, workdir, change):
    raise BrokenPipeError

  stage.run = run
  with pytest.raises(BrokenPipeError):
    cli.main(['toy', '--config', file, '--workdir', 'w'])


def test_help_does_not_import_jax():
  code = (
    'import sys; from r1jax import cli; cli.main(["--help"]);'
    'assert not {"jax", "matplotlib"} & sys.modules.keys()'
  )
  subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


def test_help_of_a_stage_lists_its_keys(capsys, stage):
  with pytest.raises(SystemExit) as exit:
    cli.main(['toy', '--help'])
  assert exit.value.code == 0
  text = capsys.readouterr().out
  assert 'A toy.' in text and '--config.steps  3  how many' in text
  assert 'toy --config FILE --workdir DIR [--config.key=value …]' in text


def test_overrides_are_applied_to_the_config_file(stage, file):
  assert cli.main(['toy', '--config', file, '--workdir', 'w']) == 0
  arguments = ['toy', f'--config={file}', '--config.steps=7', '--workdir=w']
  assert cli.main(arguments) == 0
  assert stage.calls == [(Config(5), 'w'), (Config(7), 'w')]


def test_the_key_of_a_change_may_have_spaces_around_it(stage, file):
  arguments = ['toy', '--config', file, '--workdir', 'w']
  assert cli.main([*arguments, '--change', ' config.steps = 90']) == 0
  assert stage.changes[0].values == {'steps': 90}


@pytest.mark.parametrize(
  'arguments, sentence',
  [
    (['toi'], 'there is no stage or command toi: did you mean toy?'),
    (['zzzzz'], 'there is no stage or command zzzzz: see --help'),
    (['--config', 'x.py'], 'command --config: it stands first, as in r1jax rl'),
    (['toy', '--workdir=w'], 'toy needs --config FILE, a Python file'),
    (['toy', '--config=FILE'], 'toy needs --workdir DIR'),
    (
      ['toy', '--workdir=w', '--config=FILE', '--config.stepz=1'],
      'unknown key config.stepz: did you mean config.steps?',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--config.steps'],
      '--config.steps has no value: write --config.steps=VALUE',
    ),
    (
      ['toy', '--config.steps', '--workdir=w', '--config=FILE'],
      '--config.steps has no value: write --config.steps=VALUE',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--config.steps', '1', '2'],
      'cannot read the argument 2: write --config.key=value',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--steps=7'],
      'the argument --steps=7: a key of the config is set by --config.steps=7',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--stps=7'],
      'cannot read the argument --stps=7: did you mean --config.steps=7?',
    ),
    (
      ['toy', '--work-dir=w', '--config=FILE'],
      'cannot read the argument --work-dir=w: did you mean --workdir=w?',
    ),
    (
      ['toy', 'FILE', '--workdir=w'],
      'toy.py: a config file is given by --config',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--dry-run'],
      'toy has no dry run. preflight predicts',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--', '--dry-run'],
      'toy has no dry run. preflight predicts',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--config.grpo.kl_coef=0'],
      'unknown key config.grpo.kl_coef: it is a key of rl, not of toy',
    ),
    (
      ['toy', '--workdir=w', '--config=FILE', '--config.rewards.format=1'],
      'unknown key config.rewards.format: it is a key of rl and verify, not',
    ),
    (
      ['toy', '--workdir=w', '--config=RL'],
      'is a config of the stage rl (it has best), not of toy: python -m r1jax',
    ),
    (['toy', '--workdir=w', '--config=none.py'], 'no config file none.py'),
    (['report', '--workdir=w'], 'there are no steps in w/metrics.jsonl'),
  ],
)
def test_user_errors_are_one_line_and_exit_2(
  capsys, stage, file, arguments, sentence
):
  rl = str(pathlib.Path(__file__).parent / 'toy_rl.py')
  arguments = [x.replace('FILE', file).replace('RL', rl) for x in arguments]
  assert cli.main(arguments) == 2
  out, err = capsys.readouterr()
  assert out == '' and err.startswith('r1jax: ') and err.count('\n') == 1
  assert sentence in err
  assert not stage.calls


@pytest.mark.parametrize('value', ['7', '-7'])
def test_a_value_may_follow_its_key(stage, file, value):
  arguments = ['toy', '--config.steps', value, '--config', file]
  assert cli.main([*arguments, '--workdir', 'w']) == 0
  assert stage.calls == [(Config(int(value)), 'w')]


def test_the_version_is_that_of_the_package(capsys):
  assert cli.main(['--version']) == 0 == cli.main(['-V'])
  line = f'r1jax {r1jax.__version__} (jax {jax.__version__}, Python '
  assert capsys.readouterr().out.count(line) == 2


def test_the_console_script_is_python_m(tmp_path):
  setup = pathlib.Path(r1jax.__file__).parents[1] / 'setup.py'
  module, name = re.search(
    r"'r1jax=([\w.]+):(\w+)'", setup.read_text()
  ).groups()
  code = f'import sys; from {module} import {name}; sys.exit({name}())'
  command = [sys.executable, '-c', code, 'rll']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 2 and 'did you mean rl?' in done.stderr


@pytest.mark.parametrize(
  'saved, sentence',
  [
    ([], 'nothing was saved yet, so the same command begins again'),
    (
      ['checkpoints/20', 'checkpoints/8', 'checkpoints/30.tmp'],
      'the same command continues from the checkpoint of step 20',
    ),
    (['chunks/0.jsonl', 'chunks/1.jsonl'], '2 chunks are saved, and the same'),
  ],
)
def test_an_interrupted_command_says_what_is_saved(
  capsys, stage, file, tmp_path, saved, sentence
):
  def interrupt(settings, workdir, change):
    for name in saved:
      path = tmp_path / name
      path.parent.mkdir(exist_ok=True)
      path.touch()
    raise KeyboardInterrupt

  stage.run = interrupt
  arguments = ['toy', '--config', file, '--workdir', str(tmp_path)]
  assert cli.main(arguments) == errors.INTERRUPTED
  assert f'r1jax: interrupted; {sentence}' in capsys.readouterr().err


def test_expected_errors_have_a_sentence_and_an_exit_code(
  capsys, stage, file, monkeypatch
):
  for error, code, sentence in (
    (errors.UserError('the data is empty'), 2, 'the data is empty'),
    (KeyboardInterrupt(), 130, 'the same command begins again'),
    (errors.Terminated(), 75, 'the same command resumes the run'),
    (OSError(errno.ENOSPC, 'No space', '/w/x'), 2, 'no space to write /w/x'),
  ):

    def fail(settings, workdir, change, error=error):
      raise error

    monkeypatch.setattr(stage, 'run', fail)
    assert cli.main(['toy', '--config', file, '--workdir', 'w']) == code
    assert sentence in capsys.readouterr().err


def test_other_errors_keep_their_traceback(stage, file, monkeypatch):
  monkeypatch.setattr(stage, 'run', lambda *_: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    cli.main(['toy', '--config', file, '--workdir', 'w'])


def test_python_m_exits_with_the_code_of_main():
  command = [sys.executable, '-m', 'r1jax', 'rll']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 2 and 'did you mean rl?' in done.stderr


@pytest.mark.parametrize('closed', ['0', '1', '2', '012'])
def test_a_command_runs_without_stdin_stdout_or_stderr(closed, tmp_path):
  config = tmp_path / 'config.py'
  config.write_text(
    'import os, sys\n'
    'numbers = [os.fstat(n).st_mode and os.get_inheritable(n) for n in range(3)]\n'
    'streams = [sys.stdin, sys.stdout, sys.stderr]\n'
    'is_open = all(x and x.fileno() >= 0 for x in streams)\n'
    f'open({str(tmp_path / "seen")!r}, "w").write(str([*numbers, is_open]))\n'
  )
  redirections = ' '.join(f'{n}>&-' for n in closed)
  line = f'"$0" -m r1jax sft --config "$1" --workdir w {redirections}'
  command = ['sh', '-c', line, sys.executable, config]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 2
  assert ('no get_config' in done.stderr) == ('2' not in closed)
  assert (tmp_path / 'seen').read_text() == str([True] * 4)


def test_a_process_without_streams_can_run_a_stage(stage, file, monkeypatch):
  for name in ('stdin', 'stdout', 'stderr'):
    monkeypatch.setattr(sys, name, None)
  assert cli.main(['toy', '--config', file, '--workdir', 'w']) == 0
  assert live_display.find(None) is None


def test_a_full_output_is_named():
  command = [sys.executable, '-m', 'r1jax', '--help']
  with open('/dev/full', 'w') as full:
    done = subprocess.run(
      command, stdout=full, stderr=subprocess.PIPE, text=True
    )
  assert done.returncode == 2
  assert done.stderr.startswith('r1jax: no space to write stdout')
  assert done.stderr.count('\n') == 1


def test_the_compilation_cache_is_in_the_folder_of_the_environment(monkeypatch):
  name = 'jax_compilation_cache_dir'
  before = getattr(jax.config, name)
  seconds = jax.config.jax_persistent_cache_min_compile_time_secs
  try:
    monkeypatch.setenv('R1JAX_CACHE', '/somewhere/xla')
    jax.config.update(name, None)
    programs.compilation_cache()
    assert getattr(jax.config, name) == '/somewhere/xla'
    monkeypatch.delenv('R1JAX_CACHE')
    programs.compilation_cache()
    assert getattr(jax.config, name) == '/somewhere/xla'
    jax.config.update(name, None)
    programs.compilation_cache()
    assert getattr(jax.config, name) == os.path.expanduser('~/.cache/r1jax/xla')
  finally:
    jax.config.update(name, before)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', seconds)
