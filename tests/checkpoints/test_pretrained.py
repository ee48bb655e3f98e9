"""Checkpoints in and out; golden/convert.json has what transformers made of
the same weights (see golden/make_convert.py)."""

import dataclasses
import json
import pathlib
import shutil

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from golden import make_convert

from r1jax import errors
from r1jax.checkpoints import pretrained, tokenization
from r1jax.models import hf_config, rope, transformer

GOLDEN = json.loads(
  pathlib.Path(make_convert.__file__).with_name('convert.json').read_text()
)
FAMILIES = tuple(GOLDEN)
CFG = transformer.ModelConfig(
  vocab_size=300,
  width=24,
  layers=3,
  heads=6,
  kv_heads=2,
  head_dim=10,
  ffn=28,
  real_vocab=261,
)


def write_directory(path, family='llama3', **changes):
  """The golden checkpoint as files; `changes` go into its config.json."""
  entry = GOLDEN[family]
  path.mkdir(exist_ok=True)
  write_config(path, entry['config'] | changes)
  arrays = make_convert.weights(entry['shapes'])
  safetensors.numpy.save_file(arrays, path / 'model.safetensors')
  return path


def write_config(path, config):
  (path / 'config.json').write_text(json.dumps(config))


def all_logits(params, cfg, tokens):
  tokens_BT = jnp.array([tokens])
  pos_BT = jnp.arange(len(tokens))[None]

  @jax.jit
  def logits(params):
    hidden_BTD, _ = transformer.forward(params, cfg, tokens_BT, pos_BT)
    return transformer.unembed(params, cfg, hidden_BTD)[0]

  return np.asarray(logits(params))


def assert_same_tree(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
    assert x.dtype == y.dtype
    np.testing.assert_array_equal(x, y)


def assert_same_function(params, cfg, entry):
  """Logits within 1e-4, and each greedy token is the most likely one."""
  logits_TV = all_logits(params, cfg, entry['tokens'])
  np.testing.assert_allclose(
    logits_TV[::10], entry['logits_every_10'], rtol=0, atol=1e-4
  )
  start = len(make_convert.PROMPT)
  greedy = logits_TV[start - 1 : -1].argmax(axis=1)
  np.testing.assert_array_equal(greedy, entry['tokens'][start:])


@pytest.mark.parametrize('family', FAMILIES)
def test_logits_and_greedy_tokens_are_those_of_transformers(family, tmp_path):
  params, cfg, words = pretrained.load(write_directory(tmp_path, family))
  assert words is None
  assert_same_function(params, cfg, GOLDEN[family])


@pytest.mark.parametrize('family', FAMILIES)
def test_a_saved_checkpoint_has_the_tensors_and_config_it_came_from(
  family, tmp_path
):
  source = write_directory(tmp_path / 'in', family)
  params, cfg, _ = pretrained.load(source)
  pretrained.save(tmp_path / 'out', params, cfg)
  names = 'model.safetensors'
  read = safetensors.numpy.load_file
  assert_same_tree(read(source / names), read(tmp_path / 'out' / names))
  again, cfg_again, _ = pretrained.load(tmp_path / 'out')
  assert_same_tree(again, params)
  assert cfg_again == cfg


@pytest.mark.parametrize(
  'kind',
  [
    dict(),
    dict(tie_embeddings=False, qkv_bias=True),
    dict(qk_norm=True, rope_scaling=rope.Scaling(8.0, 1.0, 4.0, 64)),
    dict(qkv_bias=True, score=True),
  ],
)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_load_gives_back_what_save_was_given(kind, dtype, tmp_path):
  cfg = dataclasses.replace(CFG, **kind)
  params = transformer.init(jax.random.key(0), cfg)
  params = jax.tree.map(lambda a: a.astype(dtype), params)
  pretrained.save(tmp_path / 'out', params, cfg, tokenization.ByteTokenizer())
  again, cfg_again, words = pretrained.load(tmp_path / 'out', dtype)
  assert_same_tree(again, jax.device_get(params))
  assert cfg_again == cfg
  assert words.eos_ids == (256,)
  assert words.encode('é<think>') == [195, 169, 257]


def test_a_reward_model_is_a_classifier_of_one_label(tmp_path):
  cfg = dataclasses.replace(CFG, score=True)
  params = jax.device_get(transformer.init(jax.random.key(0), cfg))
  params |= dict(score=np.arange(24, dtype=np.float32))
  pretrained.save(tmp_path / 'out', params, cfg, reward=dict(centre=0.5))
  config = json.loads((tmp_path / 'out/config.json').read_text())
  assert config['architectures'] == ['LlamaForSequenceClassification']
  assert config['model_type'] == 'llama' and len(config['id2label']) == 1
  assert json.loads((tmp_path / 'out/reward.json').read_text()) == dict(
    centre=0.5
  )
  tensors = safetensors.numpy.load_file(tmp_path / 'out/model.safetensors')
  np.testing.assert_array_equal(tensors['score.weight'], [params['score']])
  pretrained.save(tmp_path / 'out', params, cfg)  # It may replace such a model.
  assert not (tmp_path / 'out/reward.json').exists()


def test_a_classifier_of_two_labels_is_no_reward_model(tmp_path):
  path = write_directory(
    tmp_path, architectures=['LlamaForSequenceClassification']
  )

  def edit(a):
    return (a.pop('lm_head.weight'), a.update(two))

  two = {'score.weight': np.zeros((2, 30), 'f')}
  edit_tensors(path, edit)
  with pytest.raises(errors.UserError, match=r'score.weight .*\[2, 30\]'):
    pretrained.load(path)


def test_save_replaces_an_export_and_nothing_else(tmp_path):
  params = jax.device_get(transformer.init(jax.random.key(0), CFG))
  pretrained.save(tmp_path / 'out', params, CFG)
  pretrained.save(tmp_path / 'out', params, CFG, tokenization.ByteTokenizer())
  assert pretrained.load(tmp_path / 'out')[2] is not None
  assert [p.name for p in tmp_path.iterdir()] == ['out']
  (tmp_path / 'out/metrics.jsonl').touch()
  with pytest.raises(errors.UserError, match='another directory'):
    pretrained.save(tmp_path / 'out', params, CFG)
  assert (tmp_path / 'out/metrics.jsonl').exists()


def test_both_dialects_of_config_json_say_the_same(tmp_path):
  entry = GOLDEN['llama3']['config']
  rope = dict(entry['rope_parameters'])
  old = {
    k: v for k, v in entry.items() if k not in ('rope_parameters', 'dtype')
  }
  old |= dict(rope_theta=rope.pop('rope_theta'), rope_scaling=rope)
  assert hf_config.model_config(old, '') == hf_config.model_config(entry, '')
  assert hf_config.model_config(entry, '').rope_scaling.factor == 8


def shard(path):
  """Cut a directory's model.safetensors in two, with an index."""
  arrays = safetensors.numpy.load_file(path / 'model.safetensors')
  (path / 'model.safetensors').unlink()
  files = {name: f'part{i % 2}.safetensors' for i, name in enumerate(arrays)}
  for file in set(files.values()):
    part = {name: a for name, a in arrays.items() if files[name] == file}
    safetensors.numpy.save_file(part, path / file)
  write_index(path, files)
  return files


def write_index(path, files):
  text = json.dumps(dict(weight_map=files))
  (path / 'model.safetensors.index.json').write_text(text)


def test_shards_are_read_like_one_file(tmp_path):
  whole = write_directory(tmp_path / 'whole')
  parts = write_directory(tmp_path / 'parts')
  shard(parts)
  assert_same_tree(pretrained.load(whole)[0], pretrained.load(parts)[0])


def test_half_precision_is_widened_exactly(tmp_path):
  path = write_directory(tmp_path)
  arrays = safetensors.numpy.load_file(path / 'model.safetensors')
  for dtype in (np.float16, jnp.bfloat16):
    low = {name: a.astype(dtype) for name, a in arrays.items()}
    safetensors.numpy.save_file(low, path / 'model.safetensors')
    embed = pretrained.load(path)[0]['embed']
    assert embed.dtype == np.float32
    want = low['model.embed_tokens.weight'].astype(np.float32)
    np.testing.assert_array_equal(embed, want)


@pytest.mark.parametrize(
  'change, sentence',
  [
    (
      dict(architectures=['GPT2LMHeadModel']),
      'architectures.*LlamaForCausalLM',
    ),
    (dict(architectures=None), 'architectures'),
    (dict(hidden_act='gelu'), 'hidden_act.*silu'),
    (dict(attention_bias=True), 'attention_bias'),
    (dict(mlp_bias=True), 'mlp_bias'),
    (dict(quantization_config=dict(bits=4)), 'quantization_config'),
    (dict(layer_types=['sliding_attention'] * 3), 'sliding_window'),
    (dict(use_sliding_window=True), 'sliding_window'),
    (dict(rope_parameters=dict(rope_type='yarn', factor=4)), 'yarn'),
    (dict(rope_parameters=dict(rope_type='llama3')), 'factor None'),
    (dict(hidden_size='30'), "hidden_size '30'"),
    (dict(hidden_size=None), 'hidden_size None'),
    (dict(num_hidden_layers=-1), 'num_hidden_layers -1'),
    (dict(num_hidden_layers=2), 'does not explain.*layers.2'),
    (dict(num_hidden_layers=10**12), 'lacks the tensor model.layers.3'),
    (dict(num_key_value_heads=4), 'does not divide 6'),
    (dict(head_dim=7), 'even'),
    (
      dict(vocab_size=10**12),
      r'embed_tokens.*\[61, 30\].*\[1000000000000, 30\]',
    ),
    (
      dict(tie_word_embeddings=False, architectures=['Qwen3ForCausalLM']),
      'q_norm',
    ),
  ],
)
def test_a_config_that_cannot_be_read_gets_a_sentence(
  change, sentence, tmp_path
):
  path = write_directory(tmp_path, **change)
  with pytest.raises(errors.UserError, match=sentence):
    pretrained.load(path)


def edit_tensors(path, edit):
  arrays = safetensors.numpy.load_file(path / 'model.safetensors')
  edit(arrays)
  safetensors.numpy.save_file(arrays, path / 'model.safetensors')


def cut(path, name):
  data = (path / name).read_bytes()
  (path / name).write_bytes(data[: len(data) - 9])


def index_to(path, file):
  files = shard(path)
  write_index(path, files | {'lm_head.weight': file})


def link_out(path):
  files = shard(path)
  target = path.parent / 'elsewhere.safetensors'
  shutil.move(path / 'part1.safetensors', target)
  (path / 'part1.safetensors').symlink_to(target)
  write_index(path, files)


BREAKAGES = [
  (lambda p: (p / 'config.json').unlink(), 'config.json is not readable'),
  (lambda p: (p / 'config.json').write_text('{"a": '), 'config.json.*JSON'),
  (lambda p: (p / 'config.json').write_text('[' * 10**5), 'config.json.*JSON'),
  (lambda p: (p / 'config.json').write_text('[]'), 'must hold a JSON object'),
  (lambda p: (p / 'model.safetensors').unlink(), 'no model.safetensors'),
  (lambda p: cut(p, 'model.safetensors'), 'not a whole safetensors file'),
  (
    lambda p: edit_tensors(p, lambda a: a.pop('model.norm.weight')),
    'lacks the tensor model.norm.weight',
  ),
  (
    lambda p: edit_tensors(p, lambda a: a.update(extra=np.zeros(3))),
    'extra is of type F64',
  ),
  (
    lambda p: edit_tensors(p, lambda a: a.update(extra=np.zeros(3, 'f'))),
    'does not explain.*extra',
  ),
  (
    lambda p: edit_tensors(
      p, lambda a: a.update({'lm_head.weight': a['lm_head.weight'].T.copy()})
    ),
    r'lm_head.weight has the shape \[30, 61\].*\[61, 30\]',
  ),
  (lambda p: index_to(p, '/etc/passwd'), '/etc/passwd.*outside'),
  (lambda p: index_to(p, '../part0.safetensors'), 'outside'),
  (lambda p: index_to(p, 'absent.safetensors'), 'absent.safetensors'),
  (link_out, 'part1.safetensors.*outside'),
  (lambda p: (p / 'tokenizer.json').write_text('{}'), 'tokenizer.json'),
  (lambda p: tokenization.ByteTokenizer().save(p), '261 ids.*only 61'),
]


@pytest.mark.parametrize('damage, sentence', BREAKAGES)
def test_a_damaged_directory_gets_a_sentence(damage, sentence, tmp_path):
  path = write_directory(tmp_path / 'model')
  damage(path)
  with pytest.raises(errors.UserError, match=sentence):
    pretrained.load(path)


def test_the_hubs_cache_may_link_to_its_blobs(tmp_path, monkeypatch):
  snapshot = tmp_path / 'models--org--name/snapshots/c0ffee'
  snapshot.mkdir(parents=True)
  write_directory(snapshot)
  shard(snapshot)
  blob = tmp_path / 'models--org--name/blobs/beef'
  blob.parent.mkdir()
  shutil.move(snapshot / 'part0.safetensors', blob)
  (snapshot / 'part0.safetensors').symlink_to(blob)
  monkeypatch.setattr(
    huggingface_hub, 'snapshot_download', lambda name, **kw: str(snapshot)
  )
  assert_same_tree(
    pretrained.load('org/name')[0],
    pretrained.load(write_directory(tmp_path / 'plain'))[0],
  )


def test_a_failed_download_and_a_missing_path_get_a_sentence(monkeypatch):
  def fail(name, **kw):
    raise OSError('no route to host')

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
  with pytest.raises(errors.UserError, match='org/name.*no route to host'):
    pretrained.load('org/name')
  with pytest.raises(errors.UserError, match='/no/such/path does not exist'):
    pretrained.load('/no/such/path')
