"""Checkpoints are read and written as transformers reads and writes them."""

import dataclasses
import errno
import itertools
import json
import os
import shutil
import tracemalloc

import huggingface_hub
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import toy_model
from golden import reference
from toy_pretrained import (
  FAMILIES,
  GOLDEN,
  assert_same_function,
  assert_same_tree,
  write_directory,
)

from r1jax import errors
from r1jax.checkpoints import (
  pretrained,
  safetensors_file,
  text_part,
  tokenization,
)
from r1jax.distributed import hosts
from r1jax.models import gqa, registry, transformer
from r1jax.models.families import llama
from r1jax.models.rope import Llama3Scaling, Rope
from r1jax.preflight import published

LLAMA3 = (gqa.LayerKind(Rope(10000.0, Llama3Scaling(8.0, 1.0, 4.0, 64))),)
CFG = llama.Config(
  vocab_size=300,
  width=24,
  layers=3,
  heads=6,
  kv_heads=2,
  head_dim=10,
  ffn=28,
  real_vocab=261,
)


@pytest.mark.parametrize('family', FAMILIES)
def test_logits_and_greedy_tokens_are_those_of_transformers(family, tmp_path):
  params, cfg, tokenizer = pretrained.load(write_directory(tmp_path, family))
  assert tokenizer is None
  assert_same_function(params, cfg, GOLDEN[family])


SCANNED = 'gemma3', 'gpt_oss'


@pytest.mark.parametrize(
  'family', ['phi3', 'gemma3', 'gpt_oss', 'qwen3_moe_dense_layers']
)
def test_decoding_with_a_cache_gives_the_greedy_tokens_of_transformers(
  family, tmp_path
):
  """Windows are shorter than the row, which is longer than the original length
  of the rope."""
  params, cfg, _ = pretrained.load(write_directory(tmp_path, family))
  cfg = dataclasses.replace(cfg, scan_layers=family in SCANNED)
  tokens = jnp.array(GOLDEN[family]['tokens'])
  start = len(reference.PROMPT)

  @jax.jit
  def greedy(params):
    params, decode_cfg = transformer.for_decoding(params, cfg)

    def step(carry, t):
      cache, last = carry
      token = jnp.where(t < start, tokens[t], last)
      out = transformer.forward(
        params, decode_cfg, token[None, None], t[None, None], cache
      )
      logits = transformer.unembed(params, decode_cfg, out.hidden_BTD)[0, 0]
      return (out.cache, jnp.argmax(logits)), token

    carry = transformer.init_cache(cfg, 1, len(tokens)), tokens[0]
    return jax.lax.scan(step, carry, jnp.arange(len(tokens)))[1]

  np.testing.assert_array_equal(
    greedy(jax.tree.map(np.asarray, params)), tokens
  )


@pytest.mark.parametrize('family', FAMILIES)
def test_save_writes_the_tensors_that_were_loaded(family, tmp_path):
  source = write_directory(tmp_path / 'in', family)
  params, cfg, _ = pretrained.load(source)
  pretrained.save(tmp_path / 'out', params, cfg)
  names = 'model.safetensors'
  read = safetensors.numpy.load_file
  assert_same_tree(read(source / names), read(tmp_path / 'out' / names))
  loaded, cfg_loaded, _ = pretrained.load(tmp_path / 'out')
  assert_same_tree(loaded, params)
  assert cfg_loaded == cfg


@pytest.mark.parametrize(
  'kind',
  [
    dict(),
    dict(tie_embeddings=False, qkv_bias=True, architecture='Qwen2'),
    dict(qk_norm=True, kinds=LLAMA3, architecture='Qwen3'),
    dict(qkv_bias=True, score=True, architecture='Qwen2'),
  ],
)
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_load_returns_what_save_wrote(kind, dtype, tmp_path):
  cfg = dataclasses.replace(CFG, **kind)
  params = toy_model.random_params(cfg)
  params = jax.tree.map(lambda a: jnp.asarray(a, dtype), params)
  pretrained.save(tmp_path / 'out', params, cfg, tokenization.ByteTokenizer())
  loaded, cfg_loaded, tokenizer = pretrained.load(tmp_path / 'out')
  as_float32 = jax.tree.map(lambda a: a.astype(jnp.float32), params)
  assert_same_tree(loaded, jax.device_get(as_float32))
  assert cfg_loaded == dataclasses.replace(cfg, saved_dtype=dtype)
  assert tokenizer.eos_ids == (256,)
  assert tokenizer.encode('é<think>') == [195, 169, 257]


def test_a_reward_model_is_a_classifier_of_one_label(tmp_path):
  cfg = dataclasses.replace(CFG, score=True)
  params = toy_model.random_params(cfg)
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


def test_a_classifier_with_two_labels_is_refused(tmp_path):
  path = write_directory(
    tmp_path, architectures=['LlamaForSequenceClassification']
  )

  def edit(arrays):
    del arrays['lm_head.weight']
    arrays['score.weight'] = np.zeros((2, 30), 'f')

  edit_tensors(path, edit)
  with pytest.raises(errors.UserError, match=r'score.weight .*\[2, 30\]'):
    pretrained.load(path)


def test_save_refuses_a_path_that_is_not_empty(tmp_path):
  params = toy_model.random_params(CFG)
  pretrained.save(tmp_path / 'out', params, CFG)
  assert [p.name for p in tmp_path.iterdir()] == ['out']
  with pytest.raises(errors.UserError, match='choose another directory'):
    pretrained.save(tmp_path / 'out', params, CFG)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_large_model_is_written_in_several_files(
  dtype, tmp_path, monkeypatch
):
  cfg = dataclasses.replace(CFG, qkv_bias=True, architecture='Qwen2')
  params = toy_model.random_params(cfg)
  pretrained.save(tmp_path / 'one', params, cfg, dtype=dtype)
  monkeypatch.setattr(pretrained, 'MAX_FILE_BYTES', 10_000)
  pretrained.save(tmp_path / 'several', params, cfg, dtype=dtype)
  one, several = (
    pretrained.load(tmp_path / name)[0] for name in ('one', 'several')
  )
  assert_same_tree(one, several)
  files = sorted((tmp_path / 'several').glob('*.safetensors'))
  count = len(files)
  names = [f'model-{n + 1:05}-of-{count:05}.safetensors' for n in range(count)]
  assert count > 2 and [path.name for path in files] == names
  index = json.loads(
    (tmp_path / 'several/model.safetensors.index.json').read_text()
  )
  found, size = {}, 0
  for path in files:
    with safetensors.safe_open(path, 'numpy') as file:
      assert file.metadata() == dict(format='pt')
      for name in file.keys():
        found[name] = path.name
        tensor = file.get_tensor(name)
        assert str(tensor.dtype) == dtype
        size += tensor.nbytes
    # A file has at most the limit, and its header, or one tensor.
    in_file = [name for name in found if found[name] == path.name]
    assert path.stat().st_size < 12_000 or len(in_file) == 1
  assert index == dict(metadata=dict(total_size=size), weight_map=found)


def test_an_export_holds_one_layer_of_one_parameter_at_a_time(tmp_path):
  cfg = dataclasses.replace(CFG, layers=16, width=64, ffn=96, vocab_size=200)
  cfg = dataclasses.replace(cfg, real_vocab=200)
  params = toy_model.random_params(cfg)
  size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  tracemalloc.start()
  try:
    pretrained.save(tmp_path / 'out', params, cfg)
    peak = tracemalloc.get_traced_memory()[1]
  finally:
    tracemalloc.stop()
  assert peak < 0.2 * size


def test_all_files_of_a_model_have_the_mode_that_the_umask_gives(
  tmp_path, monkeypatch
):
  params = toy_model.random_params(CFG)
  monkeypatch.setattr(pretrained, 'MAX_FILE_BYTES', 20_000)
  tokenizer, before = tokenization.ByteTokenizer(), os.umask(0o027)
  try:
    pretrained.save(tmp_path / 'out', params, CFG, tokenizer, {'centre': 0.5})
  finally:
    os.umask(before)
  modes = {
    path.name: path.stat().st_mode & 0o777
    for path in (tmp_path / 'out').iterdir()
  }
  assert len(modes) > 6 and set(modes.values()) == {0o640}
  assert (tmp_path / 'out').stat().st_mode & 0o777 == 0o750


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
  """Its part of the model would fill the disk."""
  params = toy_model.random_params(CFG)
  monkeypatch.setattr(pretrained, 'MAX_FILE_BYTES', 20_000)
  write, count = safetensors_file.Writer.write, itertools.count()

  def write_until_full(self, array):
    write(self, array)
    if next(count) == 5:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(safetensors_file.Writer, 'write', write_until_full)
  with pytest.raises(OSError):
    pretrained.save(tmp_path / 'out', params, CFG)
  assert not list(tmp_path.iterdir())


def test_sigterm_ends_an_export_between_two_parameters(tmp_path, monkeypatch):
  params = toy_model.random_params(CFG)
  answers = iter([False] * 5 + [True])
  monkeypatch.setattr(hosts, 'terminate_requested', lambda: next(answers))
  with pytest.raises(errors.Terminated):
    pretrained.save(tmp_path / 'out', params, CFG)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(
  value, dtype, tmp_path
):
  params = toy_model.random_params(CFG)
  pretrained.save(tmp_path / 'good', params, CFG)
  params = jax.tree.map(lambda a: jnp.asarray(a, dtype), params)
  params['layers']['down'] = params['layers']['down'].at[-1, 0, 1].set(value)
  with pytest.raises(errors.UserError, match='mlp.down_proj.*not finite'):
    pretrained.save(tmp_path / 'out', params, CFG)
  assert not (tmp_path / 'out').exists()

  def spoil(arrays):
    arrays['model.norm.weight'][3] = value

  edit_tensors(tmp_path / 'good', spoil)
  with pytest.raises(errors.UserError, match='1 of .* of model.norm.weight'):
    pretrained.load(tmp_path / 'good')


def test_both_forms_of_rope_settings_give_the_same_config(tmp_path):
  entry = GOLDEN['llama3']['config']
  rope = dict(entry['rope_parameters'])
  old = {
    k: v for k, v in entry.items() if k not in ('rope_parameters', 'dtype')
  }
  old |= dict(rope_theta=rope.pop('rope_theta'), rope_scaling=rope)
  assert registry.model_config(old, '') == registry.model_config(entry, '')
  assert registry.model_config(entry, '').kinds[0].rope.scaling.factor == 8


@pytest.mark.parametrize(
  'rope',
  [
    dict(rope_parameters=dict(full_attention='ROPE')),
    dict(
      rope_parameters=dict(full_attention='ROPE', sliding_attention=dict(x=1))
    ),
    dict(rope_scaling='ROPE', rope_parameters='ROPE'),
    dict(rope_scaling='ROPE', rope_parameters=None),
    dict(rope_scaling=None, rope_parameters='ROPE'),
  ],
)
def test_each_form_of_rope_settings_is_read(rope):
  entry = dict(GOLDEN['llama3']['config'])
  want = registry.model_config(entry, '')
  settings = entry.pop('rope_parameters')
  text = json.dumps(rope).replace('"ROPE"', json.dumps(settings))
  assert registry.model_config(entry | json.loads(text), '') == want


@pytest.mark.parametrize(
  'rope, message',
  [
    (
      dict(rope_parameters=dict(sliding_attention=dict(rope_theta=5.0))),
      'settings of sliding_attention.*full_attention',
    ),
    (
      dict(rope_parameters=dict(full_attention=dict(rope_type='ntk'))),
      "rope type is 'ntk'",
    ),
    (dict(rope_scaling=dict(factor=8.0)), 'have factor 8.0, but no rope type'),
    (
      dict(rope_scaling=dict(rope_type='default', mrope_section=[1, 2])),
      'have mrope_section',
    ),
    (
      dict(
        rope_scaling=dict(rope_theta=5.0), rope_parameters=dict(rope_theta=6.0)
      ),
      'rope_parameters has rope_theta 6.0, but rope_scaling has 5.0',
    ),
    (dict(rope_scaling='linear'), "rope_scaling are 'linear'"),
    (dict(rope_parameters=[1]), 'rope_parameters are'),
  ],
)
def test_rope_settings_that_are_not_supported_are_refused(rope, message):
  entry = dict(GOLDEN['llama3']['config'])
  del entry['rope_parameters']
  with pytest.raises(errors.UserError, match=message):
    registry.model_config(entry | rope, 'x')


@pytest.mark.parametrize(
  'own', ['language_model.model.', 'model.language_model.']
)
def test_the_text_model_of_a_model_of_images_is_read(own, tmp_path, capsys):
  plain = write_directory(tmp_path / 'plain', 'gemma3')
  path = write_directory(tmp_path / 'images', 'gemma3')
  text = json.loads((path / 'config.json').read_text())
  whole = dict(
    architectures=['Gemma3ForConditionalGeneration'],
    text_config=text | dict(architectures=None),
    vision_config=dict(hidden_size=3),
  )
  (path / 'config.json').write_text(json.dumps(whole))
  arrays = safetensors.numpy.load_file(path / 'model.safetensors')
  renamed = {own + k.removeprefix('model.'): a for k, a in arrays.items()}
  renamed['vision_tower.weight'] = np.ones(3, np.float32)
  safetensors.numpy.save_file(renamed, path / 'model.safetensors')
  params, cfg, _ = pretrained.load(path)
  want, want_cfg, _ = pretrained.load(plain)
  assert cfg == want_cfg
  assert_same_tree(params, want)
  assert '1 tensors of the model of images' in capsys.readouterr().out


def test_the_config_of_gemma_3_4b_is_read_as_published():
  """It has only what differs from the defaults of transformers."""
  text = dict(
    hidden_size=2560,
    intermediate_size=10240,
    model_type='gemma3_text',
    num_hidden_layers=34,
    rope_scaling=dict(factor=8.0, rope_type='linear'),
    sliding_window=1024,
  )
  name = 'Gemma3ForConditionalGeneration'
  config = text_part.config_of(dict(architectures=[name], text_config=text))
  want = published.config('google/gemma-3-4b-it')
  assert registry.model_config(config, '') == registry.model_config(want, '')


def test_a_head_that_differs_from_a_tied_embedding_is_used(tmp_path, capsys):
  path = write_directory(tmp_path, tie_word_embeddings=True)
  params, cfg, _ = pretrained.load(path)
  assert not cfg.tie_embeddings  # as with tie_word_embeddings=False
  want, want_cfg, _ = pretrained.load(write_directory(tmp_path / 'untied'))
  assert_same_tree(params, want)
  assert cfg == want_cfg
  assert 'lm_head.weight differs from the embedding' in capsys.readouterr().out

  def tie(arrays):
    arrays['lm_head.weight'] = arrays['model.embed_tokens.weight'].copy()

  edit_tensors(path, tie)
  params, cfg, _ = pretrained.load(path)
  assert cfg.tie_embeddings and 'head' not in params
  assert 'differs' not in capsys.readouterr().out


def adapter(path):
  (path / 'config.json').unlink()
  (path / 'model.safetensors').rename(path / 'adapter_model.safetensors')
  text = json.dumps(dict(base_model_name_or_path='org/base', r=8))
  (path / 'adapter_config.json').write_text(text)


def with_config(path, **changes):
  file = path / 'config.json'
  file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def work_directory(path):
  (path / 'model').mkdir()
  for name in 'config.json', 'model.safetensors':
    (path / name).rename(path / 'model' / name)
  (path / 'config.json').write_text(json.dumps(dict(config={}, records='')))


def pickled(path):
  (path / 'model.safetensors').rename(path / 'pytorch_model.bin')


@pytest.mark.parametrize(
  'change, name, message',
  [
    (adapter, '', 'is an adapter .LoRA. of org/base, not a model: merge'),
    (adapter, 'adapter_model.safetensors', 'one file of a model: name its dir'),
    (lambda path: None, 'model.safetensors', 'one file of a model: name its'),
    (lambda path: None, 'config.json', 'one file of a model: name its dir'),
    (pickled, '', 'pytorch_model.bin, which can run code.*convert'),
    (pickled, 'pytorch_model.bin', 'a file of PyTorch, which can run code'),
    (
      lambda path: with_config(
        path, quantization_config=dict(quant_method='awq', bits=4)
      ),
      '',
      'quantized by awq .quantization_config.',
    ),
    (
      lambda path: (path / 'quantize_config.json').write_text('{"bits": 4}'),
      '',
      'quantized by gptq',
    ),
    (work_directory, '', 'is the work directory of a run.*name .*/model'),
    (
      lambda path: (path / 'config.json').rename(path / 'a.gguf'),
      '',
      'GGUF files: name one of them, .*a.gguf',
    ),
    (
      lambda path: (path / 'model.safetensors').rename(
        path / 'part-1.safetensors'
      ),
      '',
      'no model.safetensors, and .*it has part-1.safetensors',
    ),
  ],
)
def test_what_is_no_model_is_named_as_what_it_is(
  change, name, message, tmp_path
):
  path = write_directory(tmp_path / 'given')
  change(path)
  with pytest.raises(errors.UserError, match=message):
    pretrained.load(path / name)


POINTER = 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'


@pytest.mark.parametrize(
  'name', ['model.safetensors', 'tokenizer.json', 'config.json', 'm.gguf']
)
def test_a_pointer_of_git_lfs_is_named(name, tmp_path):
  path = write_directory(tmp_path / 'given')
  (path / name).write_text(POINTER)
  source = path / name if name == 'm.gguf' else path
  with pytest.raises(errors.UserError, match=f'{name} is a pointer .*lfs pull'):
    pretrained.load(source)


def test_the_missing_file_of_an_index_is_named(tmp_path):
  path = write_directory(tmp_path / 'given')
  shard(path)
  (path / 'part1.safetensors').unlink()
  with pytest.raises(errors.UserError, match='lacks part1.safetensors, of the'):
    pretrained.load(path)


def shard(path):
  """Divides a directory's model.safetensors into two files with an index."""
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


def test_half_precision_is_converted_to_float32_exactly(tmp_path):
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
  'change, message',
  [
    (
      dict(architectures=['GPT2LMHeadModel']),
      "'GPT2LMHeadModel'.*reads Llama, .* nearest name.*families/NAME.py",
    ),
    (
      dict(architectures=['Qwen3NextForCausalLM']),
      "'Qwen3NextForCausalLM'.*of which Qwen3ForCausalLM has the nearest name",
    ),
    (
      dict(architectures=['Gemma3ForConditionalGeneration']),
      'images and text are not read.*of which Gemma3ForCausalLM',
    ),
    (dict(architectures=None), 'architectures'),
    (dict(hidden_act='gelu'), 'hidden_act.*silu'),
    (dict(attention_bias=True), 'lacks the tensor .*q_proj.bias'),
    (dict(attention_bias='no'), "attention_bias 'no', which must be true or"),
    (dict(architectures='LlamaForCausalLM'), 'architectures .*but a list'),
    (dict(mlp_bias=True), 'mlp_bias'),
    (dict(quantization_config=dict(bits=4)), 'quantization_config'),
    (dict(layer_types=['sliding_attention'] * 3), 'sliding_window'),
    (dict(use_sliding_window=True), 'sliding_window'),
    (dict(rope_parameters=dict(rope_type='ntk', factor=4)), 'ntk'),
    (dict(rope_parameters=dict(rope_type='llama3')), 'has no factor, which'),
    (dict(hidden_size='30'), "hidden_size '30'"),
    (dict(hidden_size=None), 'hidden_size None'),
    (dict(num_hidden_layers=-1), 'num_hidden_layers -1'),
    (dict(partial_rotary_factor=0.5), 'partial_rotary_factor 0.5'),
    (dict(num_hidden_layers=2), 'not of its config.*layers.2'),
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
def test_an_unsupported_config_is_a_user_error(change, message, tmp_path):
  path = write_directory(tmp_path, **change)
  with pytest.raises(errors.UserError, match=message):
    pretrained.load(path)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(mlp_only_layers=[1]), 'lacks .*layers.1.mlp.gate_proj'),
    (dict(mlp_only_layers=[3]), r'mlp_only_layers \[3\], .* from 0 to 2'),
    (dict(mlp_only_layers='1'), "mlp_only_layers '1', which must be a list"),
    (dict(decoder_sparse_step=2), 'lacks .*layers.0.mlp.gate_proj'),
    (dict(norm_topk_prob='no'), "norm_topk_prob 'no', .* true or false"),
    (dict(num_experts_per_tok=9), 'num_experts_per_tok 9, but .* only 7'),
    (dict(num_local_experts=8), 'lacks .*layers.0.mlp.experts.7|shape'),
  ],
)
def test_an_unsupported_mixture_of_experts_is_a_user_error(
  change, message, tmp_path
):
  path = write_directory(tmp_path, 'qwen3_moe', **change)
  with pytest.raises(errors.UserError, match=message):
    pretrained.load(path)


def edit_tensors(path, edit):
  arrays = safetensors.numpy.load_file(path / 'model.safetensors')
  edit(arrays)
  safetensors.numpy.save_file(arrays, path / 'model.safetensors')


def truncate(path, name):
  data = (path / name).read_bytes()
  (path / name).write_bytes(data[: len(data) - 9])


def index_to(path, file):
  files = shard(path)
  write_index(path, files | {'lm_head.weight': file})


BREAKAGES = [
  (
    lambda p: (p / 'config.json').unlink(),
    'has no config.json: name the directory',
  ),
  (lambda p: (p / 'config.json').write_text('{"a": '), 'config.json.*JSON'),
  (lambda p: (p / 'config.json').write_text('[' * 10**5), 'config.json.*JSON'),
  (lambda p: (p / 'config.json').write_text('[]'), 'must hold a JSON object'),
  (lambda p: (p / 'model.safetensors').unlink(), 'no model.safetensors'),
  (
    lambda p: truncate(p, 'model.safetensors'),
    'not a complete safetensors file',
  ),
  (
    lambda p: edit_tensors(p, lambda a: a.pop('model.norm.weight')),
    'lacks the tensor model.norm.weight',
  ),
  (
    lambda p: edit_tensors(p, lambda a: a.update(extra=np.zeros(3))),
    'extra has dtype F64',
  ),
  (
    lambda p: edit_tensors(p, lambda a: a.update(extra=np.zeros(3, 'f'))),
    'not of its config.*extra',
  ),
  (
    lambda p: edit_tensors(
      p, lambda a: a.update({'lm_head.weight': a['lm_head.weight'].T.copy()})
    ),
    r'lm_head.weight has the shape \[30, 61\].*\[61, 30\]',
  ),
  (
    lambda p: index_to(p, '/etc/passwd'),
    '/etc/passwd, not a file of its',
  ),
  (lambda p: index_to(p, '../part0.safetensors'), 'not a file of its'),
  (lambda p: index_to(p, 'absent.safetensors'), 'absent.safetensors'),
  (lambda p: (p / 'tokenizer.json').write_text('{}'), 'tokenizer.json'),
  (lambda p: tokenization.ByteTokenizer().save(p), '261 ids.*only 61'),
]


@pytest.mark.parametrize('damage, message', BREAKAGES)
def test_a_damaged_directory_is_a_user_error(damage, message, tmp_path):
  path = write_directory(tmp_path / 'model')
  damage(path)
  with pytest.raises(errors.UserError, match=message):
    pretrained.load(path)


def test_a_snapshot_in_the_cache_of_the_hub_is_loaded(tmp_path, monkeypatch):
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


def test_models_are_neither_read_from_buckets_nor_written_to_them(
  tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(errors.UserError, match='the model is gs://b/m, but'):
    pretrained.load('gs://b/m')
  with pytest.raises(errors.UserError, match='the directory for the model is'):
    pretrained.save('s3://b/m', {}, CFG)
  assert not list(tmp_path.iterdir())


def test_a_failed_download_and_a_missing_path_are_user_errors(monkeypatch):
  def fail(name, **kw):
    raise OSError('no route to host')

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
  with pytest.raises(errors.UserError, match='org/name.*no route to host'):
    pretrained.load('org/name')
  with pytest.raises(errors.UserError, match='/no/such/path does not exist'):
    pretrained.load('/no/such/path')
