"""r1jax export: the files of a run's step, its card, and what is refused."""

import concurrent.futures
import json
import re
import time

import jax
import numpy as np
import pytest
import toy_export

from r1jax import errors
from r1jax.checkpoints import hf_files, pretrained
from r1jax.export import command, folder, model_card, source


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A finished run whose best step is 2."""
  return toy_export.write_run(
    tmp_path_factory.mktemp('export'),
    'eval.temperature=0.6',
    'prompt.template=r1_zero',
    'prompt.max_len=512',
    'prompt.prefill="<think>"',
    'prompt.stop_strings=("</answer>",)',
  )


def assert_weights_of(path, seed, dtype=np.float32):
  found, _, _ = pretrained.load(path)
  want = toy_export.scratch(seed).params
  for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
    np.testing.assert_array_equal(a, b.astype(dtype).astype(np.float32))


def test_the_best_step_is_written_as_a_directory_of_hugging_face(run, capsys):
  assert command.run([str(run), '--step', 'best', '--dtype', 'bfloat16']) == 0
  path = run / 'export/hf-step-2'
  assert str(path) in capsys.readouterr().out
  assert_weights_of(path, 2, jax.numpy.bfloat16)
  settings = json.loads((path / 'generation_config.json').read_text())
  assert settings == dict(
    eos_token_id=[256],
    max_new_tokens=10,
    do_sample=True,
    temperature=0.6,
    top_k=0,
    top_p=1.0,
    stop_strings=['</answer>'],
  )
  _, _, tokenizer = pretrained.load(path)
  text = tokenizer.chat([dict(role='user', content='1 + 1?')])
  assert text.startswith('A conversation between User and Assistant.')
  assert text.endswith('User: 1 + 1?. Assistant:<think>')


def test_the_result_in_a_run_is_exported_as_that_of_the_run(run):
  by_model, by_run = source.read(f'{run}/model', ''), source.read(str(run), '')
  assert by_model.config == by_run.config


def test_the_card_has_data_recipe_figures_and_software(run):
  text = model_card.text(source.read(str(run), 'best'), 'zero', 'bfloat16')
  assert text.startswith('---\nlibrary_name: transformers\n')
  front = text.split('---\n')[1]
  assert 'base_model' not in front  # a path of this machine is no name
  assert f'Trained from `{run.parent}/base` by reinforcement learning' in text
  assert '2 updates, before the end of the run, as bfloat16' in text
  assert '| prompts | `toy:running_sum?count=64&digits=3` |' in text
  assert '| rewards and weights | `{"accuracy": 1.0, "format": 0.2}` |' in text
  assert '| 0 | 0.125 [0.050, 0.250] | 0.500 | 11 |' in text
  assert '| 2 | 0.750 [0.500, 0.875] | 0.500 | 11 |' in text
  assert '| 4 |' not in text and 'truncated |' not in text
  assert 'chosen among 2 by `eval/pass1`' in text
  assert '| `grpo.group_size` | `16` | `4` |' in text
  assert toy_export.COMMIT in text and 'jax 1.2.3' in text
  assert 'secret' not in text and 'tokenizer=tokenizer' in text


def test_names_of_the_hub_are_in_the_front_matter():
  policy = toy_export.scratch()
  front = model_card.front_matter(source.Source('Qwen/Qwen2.5-0.5B', policy))
  assert 'base_model: "Qwen/Qwen2.5-0.5B"' in front.splitlines()


def test_texts_cannot_break_a_table_or_a_block():
  assert model_card._code('a|b\nc') == '`a\\|b c`'
  assert model_card._code('a `` b') == '``` a `` b ```'
  assert model_card._fenced('```\nx').startswith('````\n')


def test_the_result_of_a_run_is_its_last_step_without_rounding(run):
  command.run([str(run), '--format', 'gguf', '--output', f'{run}-gguf'])
  path = run.with_name('zero-gguf')
  names = [file.name for file in sorted(path.iterdir())]
  assert names == ['README.md', 'r1jax_export.json', 'zero-step-4-F32.gguf']
  assert_weights_of(path / names[2], 4)
  facts = json.loads((path / folder.MARK).read_text())
  assert (facts['step'], facts['format'], facts['dtype']) == (
    4,
    'gguf',
    'float32',
  )
  assert facts['held_out']['eval/pass1'] == 0.5
  _, _, tokenizer = pretrained.load(path / names[2])
  prompt = tokenizer.chat([dict(role='user', content='1 + 1?')])
  assert prompt.endswith('User: 1 + 1?. Assistant:<think>')


def test_the_end_tokens_of_the_run_are_those_of_the_model(tmp_path):
  run = toy_export.write_run(
    tmp_path, 'sample.eos_ids=(10,)', 'sample.stop_token_sequences=((65,66),)'
  )
  for kind in ('hf', 'gguf'):
    command.run([str(run), '--format', kind])
  path = run / 'export/hf'
  settings = json.loads((path / 'generation_config.json').read_text())
  assert settings['eos_token_id'] == [10]
  assert settings['stop_strings'] == ['AB']
  _, _, tokenizer = pretrained.load(run / 'export/gguf/zero-step-4-F32.gguf')
  assert tokenizer.eos_ids == (10,)


def test_files_have_at_most_the_size_that_is_asked_for(run):
  output = f'{run}-shards'
  command.run([f'{run}@last', '--output', output, '--shard-size', '10KB'])
  path = run.with_name('zero-shards')
  assert (path / hf_files.INDEX).exists()
  assert len(list(path.glob('*.safetensors'))) > 1
  assert_weights_of(path, 4)


def test_an_export_is_replaced_as_a_whole(run, tmp_path, monkeypatch):
  output = tmp_path / 'out'
  command.run([str(run), '--step', '2', '--output', str(output)])
  before = {x.name: x.read_bytes() for x in output.iterdir()}

  def fail(*arguments):
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(model_card, 'text', fail)
    with pytest.raises(OSError):
      command.run([str(run), '--output', str(output)])
  assert {x.name: x.read_bytes() for x in output.iterdir()} == before
  command.run([str(run), '--output', str(output), '--format', 'gguf'])
  assert len(list(output.iterdir())) == 3
  assert list(tmp_path.iterdir()) == [output]


def test_exports_at_once_follow_one_another(run, tmp_path, monkeypatch):
  found, write_hf, inside = source.read(str(run), 'last'), folder._write_hf, []

  def write_alone(*arguments):
    inside.append(arguments)
    time.sleep(0.05)
    assert len(inside) == 1
    write_hf(*arguments)
    inside.pop()

  monkeypatch.setattr(folder, '_write_hf', write_alone)
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    arguments = found, tmp_path / 'out', 'hf', 'float32', 10**9
    exports = [pool.submit(folder.write, *arguments) for _ in range(2)]
    for export in exports:
      assert tmp_path / 'out/model.safetensors' in export.result()
  assert_weights_of(tmp_path / 'out', 4)


def test_a_kill_between_the_two_renames_loses_nothing(run, tmp_path):
  output, old = tmp_path / 'out', tmp_path / '.out.old'
  command.run([str(run), '--step', '2', '--output', str(output)])
  output.rename(old)
  found = source.read(str(run), 'last')
  with pytest.raises(TypeError):
    folder.write(found, output, 'hf', 'no dtype', 0)
  assert (output / folder.MARK).exists() and not old.exists()


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['RUN', '--step', '3'], 'there are the steps 2, 4, and the names best'),
    (['RUN@2', '--step', 'best'], 'leave one out'),
    (['RUN/../base'], 'say where to write by --output DIR'),
    (['RUN/../base', '--step', '2'], 'is not the work directory of a run'),
    (['RUN', '--output', 'RUN'], 'not the output of an earlier export'),
    (['RUN', '--output', 'RUN/config.json'], 'is a file'),
    (['RUN', '--output', 'gs://bucket/x'], 'folders of this machine'),
    (['RUN', '--shard-size', '5'], 'number with its unit, such as 500MB'),
    (['RUN', '--shard-size', '0GB'], 'number with its unit, such as 500MB'),
    (['RUN/nowhere'], 'does not exist'),
  ],
)
def test_what_cannot_be_exported_is_refused(arguments, message, run):
  before = {x for x in run.rglob('*') if 'export' not in x.parts[-2:]}
  with pytest.raises(errors.UserError, match=re.escape(message)):
    command.run([text.replace('RUN', str(run)) for text in arguments])
  after = {x for x in run.rglob('*') if 'export' not in x.parts[-2:]}
  assert after == before


def test_an_unfinished_run_asks_for_a_step(tmp_path):
  run = toy_export.write_run(tmp_path, is_finished=False)
  with pytest.raises(
    errors.UserError, match='--step best, --step last, .* 2, 4'
  ):
    command.run([str(run)])
  command.run([str(run), '--step', 'last'])
  assert_weights_of(run / 'export/hf-step-4', 4)
  text = (run / 'export/hf-step-4/README.md').read_text()
  assert '4 updates, before the end of the run' in text


def test_a_template_that_is_a_function_is_said_to_be_left_out(tmp_path, capsys):
  (tmp_path / 'own.py').write_text('def prompt(record):\n  return "x"\n')
  name = f'{tmp_path}/own.py:prompt'
  run = toy_export.write_run(tmp_path, f'prompt.template={name}')
  command.run([str(run)])
  assert 'cannot be written as a chat template' in capsys.readouterr().out
  _, _, tokenizer = pretrained.load(run / 'export/hf')
  assert tokenizer.settings.chat_template is None
