"""The content of the files that config keys name is part of a run."""

import dataclasses

import huggingface_hub
import pytest
import toy

from r1jax import cli
from r1jax import config as configs
from r1jax.training import inputs


@dataclasses.dataclass(frozen=True)
class Judge:
  init: str = configs.option('', 'a model', reads='model')


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = configs.option('scratch', 'a model', reads='model')
  data: dict[str, str] = configs.option({}, 'by set', reads='records')
  others: list[str] = configs.option([], 'evaluations', reads='results')
  note: str = configs.option('', 'no file')
  judge: Judge = Judge()


def model(folder, **texts):
  folder.mkdir()
  texts = {'config.json': '{}', 'model.safetensors': 'weights'} | texts
  for name, text in texts.items():
    (folder / name).write_text(text)
  return folder


def difference(old, new):
  return inputs.difference(old._asdict(), new)


def test_a_digest_depends_on_every_byte_and_not_on_the_pieces_path(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(inputs, 'PIECE', 4)
  content, path = bytearray(range(18)), tmp_path / 'a'
  path.write_bytes(content)
  (tmp_path / 'b').write_bytes(content)
  whole = inputs.digest(path)
  assert inputs.digest(tmp_path / 'b') == whole
  found = {whole}
  for n in range(len(content)):
    path.write_bytes(content[:n] + b'\xff' + content[n + 1 :])
    found.add(inputs.digest(path))
  path.write_bytes(content + b'\0')
  assert len(found | {inputs.digest(path)}) == 20
  path.write_bytes(b'')
  assert inputs.digest(path)


def test_every_source_with_files_is_an_input_by_its_key(tmp_path):
  folder, file = model(tmp_path / 'model'), tmp_path / 'a.jsonl'
  file.write_text('{}')
  evaluation = tmp_path / 'evaluation'
  (evaluation / 'chunks').mkdir(parents=True)
  (evaluation / 'results.json').write_text('{}')
  (evaluation / 'chunks' / 'AIME-00000.jsonl').write_text('')
  (evaluation / 'results.html').write_text('')
  config = Config(
    init=str(folder),
    data={'A': str(file), 'B': 'toy:running_sum?count=3'},
    others=[str(evaluation), str(file)],
    note=str(file),
    judge=Judge(str(tmp_path / 'none')),
  )
  found = inputs.read(config)
  assert list(inputs.as_json(found)) == [
    'init',
    'data.A',
    'others.0',
    'others.1',
  ]
  assert list(found['init'].files) == ['config.json', 'model.safetensors']
  assert list(found['data.A'].files) == ['a.jsonl']
  assert list(found['others.0'].files) == [
    'chunks/AIME-00000.jsonl',
    'results.json',
  ]


def test_a_folder_called_scratch_is_no_model(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  model(tmp_path / 'scratch')
  assert not inputs.as_json(inputs.read(Config()))


def test_a_difference_names_the_files(tmp_path):
  folder = model(tmp_path / 'model', **{'tokenizer.json': '{}'})
  config = Config(init=str(folder))
  old = inputs.read(config)['init']
  assert difference(old, old) == ''
  (folder / 'model.safetensors').write_text('weighty')
  (folder / 'tokenizer.json').unlink()
  (folder / 'chat_template.jinja').write_text('')
  (folder / 'notes.txt').write_text('read by nothing')
  new = inputs.read(config)['init']
  assert difference(old, new) == (
    'chat_template.jinja is new, model.safetensors has other content, '
    'tokenizer.json is missing'
  )
  assert difference(old, new._replace(source='another')) == ''


def test_a_model_of_the_hub_has_a_revision_and_its_files_decide(
  tmp_path, monkeypatch
):
  def downloaded(name, local_files_only):
    assert name == 'org/name' and local_files_only
    return str(folder)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', downloaded)
  config, folder = Config(init='org/name'), model(tmp_path / 'a1')
  old = inputs.read(config)['init']
  assert old.revision == 'a1'
  folder = model(tmp_path / 'b2')  # Only its model card is another.
  assert difference(old, inputs.read(config)['init']) == ''
  folder = model(tmp_path / 'c3', **{'config.json': '{"a": 1}'})
  assert difference(old, inputs.read(config)['init']) == (
    'config.json has other content, revision a1 -> c3'
  )


def test_the_revision_is_that_of_the_hubs_cache(tmp_path, monkeypatch):
  monkeypatch.setattr(huggingface_hub.constants, 'HF_HUB_CACHE', str(tmp_path))
  cache, commit = tmp_path / 'models--org--name', 'a1' * 20
  (cache / 'refs').mkdir(parents=True)
  (cache / 'refs' / 'main').write_text(commit)
  (cache / 'snapshots').mkdir()
  model(cache / 'snapshots' / commit)
  found = inputs.of_source('org/name', 'model')
  assert found.revision == commit
  assert list(found.files) == ['config.json', 'model.safetensors']
  assert not inputs.of_source('org/other', 'model').files


# The keys of each stage that name files.
READS = dict(
  sft={'init', 'data', 'data_mix', 'eval.data'},
  rl={
    'init',
    'prompts',
    'prompts_mix',
    'eval.data',
    'reward_models',
    'teacher',
  },
  reject={'init', 'data', 'mix', 'judge.init'},
  reward_model={'init', 'data', 'data_mix', 'eval_data'},
  evaluate={'init', 'data', 'baseline', 'compare_with', 'codeforces'},
  verify={'data', 'responses'},
)


@pytest.mark.parametrize('name', READS)
def test_all_keys_that_name_files_are_marked(name):
  options = list(configs.named_options(toy.stage(name).Config()))
  marked = {key for key, _, metadata in options if metadata.get('reads')}
  assert marked == READS[name]
  for key, _, metadata in options:
    text = metadata.get('help', '')
    words = 'hub name', 'a path', 'jsonl', 'director'
    if any(word in text for word in words):
      assert key in marked, key


def test_each_stage_with_a_config_and_a_work_directory_is_listed():
  assert READS.keys() == cli.STAGES.keys() - {'preflight'}
