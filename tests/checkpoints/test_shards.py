"""Each process reads from a checkpoint only what its devices hold."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import toy_deepseek
from toy_pretrained import FAMILIES, assert_same_tree, write_directory

from r1jax import errors
from r1jax.checkpoints import pretrained, safetensors_file, tokenization
from r1jax.distributed import device_placement
from r1jax.models import token_logprobs, transformer
from r1jax.models.families import llama

CFG = llama.Config(
  vocab_size=264,
  width=24,
  layers=3,
  heads=8,
  kv_heads=2,
  head_dim=12,
  ffn=28,
  tie_embeddings=False,
  qk_norm=True,
  architecture='Qwen3',
)


OPTIONS = [
  dict(),
  dict(strategy='mesh'),
  dict(strategy='mesh', tensor_parallel=2),
  dict(strategy='mesh', tensor_parallel=4),  # two devices share a key head
]


def placement(**options):
  config = device_placement.ParallelConfig(**options)
  return device_placement.placement(config, jax.devices()[:4])


def write(path, family):
  """The golden checkpoint of a family, or of a kind of DeepSeek."""
  if family in toy_deepseek.KINDS:
    return toy_deepseek.write_directory(path, family)
  return write_directory(path, family)


@pytest.mark.parametrize('family', (*FAMILIES, *toy_deepseek.KINDS))
def test_any_part_of_a_leaf_is_that_part_of_the_whole_leaf(family, tmp_path):
  path, random = write(tmp_path, family), np.random.default_rng(0)
  whole, _, _ = pretrained.load(path)
  params, _, _ = pretrained.open_model(path)
  for leaf, want in zip(jax.tree.leaves(params), jax.tree.leaves(whole)):
    assert (leaf.shape, leaf.dtype) == (want.shape, want.dtype)
    for _ in range(4):
      ends = [np.sort(random.choice(n + 1, 2, False)) for n in want.shape]
      index = tuple(slice(start, end) for start, end in ends)
      np.testing.assert_array_equal(leaf.read(index), want[index])


@pytest.mark.parametrize('options', OPTIONS)
def test_devices_read_the_shards_of_the_parameters(options, tmp_path):
  whole = jax.device_get(transformer.init(jax.random.key(0), CFG))
  pretrained.save(tmp_path / 'model', whole, CFG)
  params, _, _ = pretrained.open_model(tmp_path / 'model')
  placed = device_placement.put_state(placement(**options), params)
  assert_same_tree(placed, whole)
  like = device_placement.put_state(placement(**options), whole)
  assert jax.tree.all(
    jax.tree.map(lambda a, b: a.sharding == b.sharding, placed, like)
  )


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('options', OPTIONS)
def test_an_export_from_devices_is_that_from_the_host(options, dtype, tmp_path):
  whole = jax.device_get(transformer.init(jax.random.key(0), CFG))
  placed = device_placement.put_state(placement(**options), whole)
  for name, params in dict(host=whole, devices=placed).items():
    pretrained.save(tmp_path / name, params, CFG, dtype=dtype)
  files = [tmp_path / x / 'model.safetensors' for x in ('host', 'devices')]
  assert files[0].read_bytes() == files[1].read_bytes()


def test_a_replica_of_several_devices_is_read_once(tmp_path, monkeypatch):
  params, _, _ = pretrained.open_model(write_directory(tmp_path))
  read_part, names = safetensors_file.SafetensorsReader.read_part, []

  def counted(self, name, shape, index):
    names.append(name)
    return read_part(self, name, shape, index)

  reader = safetensors_file.SafetensorsReader
  monkeypatch.setattr(reader, 'read_part', counted)
  device_placement.put_state(placement(), params)
  assert len(names) == len(set(names)) > 20


def test_tensors_of_other_layers_and_shards_are_not_read(tmp_path):
  path = write_directory(tmp_path)
  params, _, _ = pretrained.open_model(path)
  file, leaf = path / 'model.safetensors', params['layers']['down']
  tensors = safetensors.numpy.load_file(file)
  for name, tensor in tensors.items():
    tensor[...] = np.nan
    if name == 'model.layers.1.mlp.down_proj.weight':
      tensor[:3] = 1.0  # [D, F], as the leaf's [F, D]
  safetensors.numpy.save_file(tensors, file)
  params, _, _ = pretrained.open_model(path)
  leaf = params['layers']['down']
  part = leaf.read((slice(1, 2), slice(None), slice(0, 3)))
  np.testing.assert_array_equal(part, np.ones_like(part))
  with pytest.raises(errors.UserError, match='layers.1.mlp.down.*not finite'):
    leaf.read((slice(1, 2), slice(None), slice(0, 4)))


def test_a_model_that_is_not_trained_computes_the_same_in_half_the_memory(
  tmp_path,
):
  path = write_directory(tmp_path, 'qwen2')
  params, cfg, _ = pretrained.open_model(path)
  compute = dict(dtype='bfloat16', cpu_layout=True)
  cfg = cfg.__class__(**{**vars(cfg), **compute})
  frozen = transformer.frozen(params, cfg)
  one = device_placement.placement(
    device_placement.ParallelConfig(), jax.devices()[:1]
  )
  tokens_BL = jnp.array([[5, 1, 9, 7], [2, 2, 8, 3]])
  pos_BL = jnp.array([[0, 1, 2, 3], [0, 1, 2, -1]])

  @jax.jit
  def logprobs(params):
    return token_logprobs.logprobs(params, cfg, tokens_BL, pos_BL)

  results = [
    logprobs(device_placement.put_state(one, tree)) for tree in (params, frozen)
  ]
  assert_same_tree(*results)
  dtypes = {name: str(leaf.dtype) for name, leaf in frozen['layers'].items()}
  assert dtypes.pop('qkv') == dtypes.pop('down') == 'bfloat16'
  assert dtypes['norm1'] == dtypes['qkv_bias'] == 'float32'
  assert frozen['embed'].dtype == jnp.bfloat16
  assert frozen['norm'].dtype == jnp.float32


BLOCKS = (16, 10)  # divide neither [60, 30] nor [30, 44]


def quantize(path, scale_dtype=np.float32, without='', **changes):
  """Turns the matrices of the layers of a directory into float8; returns what
  they stand for."""
  file, blocks = path / 'model.safetensors', BLOCKS
  tensors, meant = safetensors.numpy.load_file(file), {}
  for name, tensor in list(tensors.items()):
    if 'proj' not in name or tensor.ndim != 2:
      meant[name] = tensor
      continue
    counts = [-(-n // block) for n, block in zip(tensor.shape, blocks)]
    scale = 2.0 ** np.random.default_rng(0).integers(-4, 4, counts)
    if scale_dtype == np.float32:
      scale *= 1.7
    scale = scale.astype(scale_dtype)
    wide = np.repeat(np.repeat(scale, blocks[0], 0), blocks[1], 1)
    wide = wide[: tensor.shape[0], : tensor.shape[1]].astype('f')
    float8 = (tensor / wide).astype(ml_dtypes.float8_e4m3fn)
    tensors[name], tensors[name + '_scale_inv'] = float8, scale
    meant[name] = float8.astype('f') * wide
  tensors.pop(without, None)
  safetensors.numpy.save_file(tensors, file)
  table = dict(quant_method='fp8', fmt='e4m3', weight_block_size=list(blocks))
  config = json.loads((path / 'config.json').read_text())
  config |= dict(quantization_config=table | changes)
  (path / 'config.json').write_text(json.dumps(config))
  return meant


@pytest.mark.parametrize('family', ['llama3', 'v3_yarn'])
@pytest.mark.parametrize('scale_dtype', ['f', ml_dtypes.float8_e8m0fnu])
def test_float8_weights_are_read_with_the_scale_of_their_block(
  scale_dtype, family, tmp_path
):
  meant = quantize(write(tmp_path / 'a', family), scale_dtype=scale_dtype)
  path = write(tmp_path / 'b', family)
  safetensors.numpy.save_file(meant, path / 'model.safetensors')
  want, cfg, _ = pretrained.load(path)
  found, found_cfg, _ = pretrained.load(tmp_path / 'a')
  assert_same_tree(found, want)
  assert found_cfg == cfg
  params, _, _ = pretrained.open_model(tmp_path / 'a')
  mesh = placement(strategy='mesh', tensor_parallel=2)
  layers = device_placement.put_state(mesh, params['layers'])
  assert_same_tree(layers, want['layers'])


def test_correction_biases_are_float32_in_all_exports(tmp_path):
  params = toy_deepseek.random_params(toy_deepseek.CFG)
  path = tmp_path / 'model'
  pretrained.save(path, params, toy_deepseek.CFG, dtype='bfloat16')
  tensors = safetensors.numpy.load_file(path / 'model.safetensors')
  dtypes = {name: str(tensor.dtype) for name, tensor in tensors.items()}
  biases = [x for x in dtypes if x.endswith('e_score_correction_bias')]
  assert len(biases) == 2
  for name in dtypes:
    assert dtypes[name] == ('float32' if name in biases else 'bfloat16')
  loaded, _, _ = pretrained.load(path)
  found, want = loaded['layers'], params['layers']
  np.testing.assert_array_equal(found['router_bias'], want['router_bias'])


SCALES = 'model.layers.0.mlp.up_proj.weight_scale_inv'
NO_SCALE = r'layers.0.mlp.up_proj.weight .*its scales _scale_inv are in none'


@pytest.mark.parametrize(
  'damage, message',
  [
    (
      lambda path: quantize(path, weight_block_size=[15, 10]),
      r'weight_scale_inv has the shape \[\d, \d\], but \[\d, \d\].*\[15, 10\]',
    ),
    (
      lambda path: quantize(path, without=SCALES),
      NO_SCALE,
    ),
    (
      lambda path: quantize(path, weight_block_size=None),
      'quantized by fp8 with weight_block_size None',
    ),
    (
      lambda path: quantize(path, quant_method='fbgemm_fp8'),
      'quantized by fbgemm_fp8 ',
    ),
    (
      lambda path: quantize(path, quant_method='mxfp4'),
      'has dtype F8_E4M3, but config.json has no quantization_config',
    ),
    (
      lambda path: quantize(
        path, quant_method='bitsandbytes', load_in_4bit=True
      ),
      'quantized by bitsandbytes .4 bits. ',
    ),
    (
      lambda path: quantize(path, quant_method='compressed-tensors'),
      'quantized by compressed-tensors .*name the model that was quantized',
    ),
    (
      lambda path: (quantize(path), unquantized_config(path)),
      'has dtype F8_E4M3, but config.json has no quantization_config',
    ),
  ],
)
def test_quantized_weights_that_cannot_be_read_are_named(
  damage, message, tmp_path
):
  path = write_directory(tmp_path)
  damage(path)
  with pytest.raises(errors.UserError, match=message):
    pretrained.open_model(path)


def unquantized_config(path):
  config = json.loads((path / 'config.json').read_text())
  del config['quantization_config']
  (path / 'config.json').write_text(json.dumps(config))


def shard(path, also=(), index=True):
  """Divides a directory into two files; those of `also` are in both."""
  tensors = safetensors.numpy.load_file(path / 'model.safetensors')
  (path / 'model.safetensors').unlink()
  file_of = {name: f'{n % 2}.safetensors' for n, name in enumerate(tensors)}
  for file in '0.safetensors', '1.safetensors':
    part = {x: a for x, a in tensors.items() if x in also or file_of[x] == file}
    safetensors.numpy.save_file(part, path / file)
  text = json.dumps(dict(weight_map=file_of))
  (path / 'model.safetensors.index.json').write_text(text)
  return file_of


def test_a_tensor_that_is_in_two_files_is_named(tmp_path):
  path, name = write_directory(tmp_path), 'model.norm.weight'
  shard(path, also=[name])
  message = f'{name} is in two files, 0.safetensors and 1.safetensors'
  with pytest.raises(errors.UserError, match=message):
    pretrained.open_model(path)


def test_a_tensor_that_its_file_does_not_have_is_named(tmp_path):
  path, name = write_directory(tmp_path), 'model.norm.weight'
  file_of = shard(path)
  others = {'0.safetensors': '1.safetensors', '1.safetensors': '0.safetensors'}
  file_of[name] = others[file_of[name]]
  text = json.dumps(dict(weight_map=file_of))
  (path / 'model.safetensors.index.json').write_text(text)
  message = f'says that {file_of[name]} has the tensor {name}, but it has not'
  with pytest.raises(errors.UserError, match=message):
    pretrained.open_model(path)


def test_a_truncated_file_is_named(tmp_path):
  path = write_directory(tmp_path)
  shard(path)
  data = (path / '1.safetensors').read_bytes()
  (path / '1.safetensors').write_bytes(data[:-9])
  with pytest.raises(errors.UserError, match='1.safetensors is not a complete'):
    pretrained.open_model(path)


def test_a_file_of_another_model_is_named_by_a_tensor(tmp_path):
  path = write_directory(tmp_path / 'a', 'qwen2')
  other = write_directory(tmp_path / 'b', 'qwen3')
  (other / 'model.safetensors').replace(path / 'model.safetensors')
  with pytest.raises(
    errors.UserError, match=r'has the shape \[61, 28\], but its'
  ):
    pretrained.open_model(path)


@pytest.mark.parametrize('saved', ['float32', 'float16', 'bfloat16'])
def test_the_model_of_a_run_has_the_dtype_of_its_beginning(
  saved, tmp_path, capsys
):
  whole = jax.device_get(transformer.init(jax.random.key(0), CFG))
  pretrained.save(tmp_path / 'init', whole, CFG, dtype=saved)
  params, cfg, _ = pretrained.load(tmp_path / 'init')
  params['embed'] += 1e-3
  tokenizer = tokenization.ByteTokenizer()
  for choice in 'auto', 'float32', 'bfloat16':
    dtype = choice
    if choice == 'auto':
      dtype = 'bfloat16' if saved == 'bfloat16' else 'float32'
    workdir = tmp_path / choice
    pretrained.save_result(workdir, params, cfg, tokenizer, choice)
    file = workdir / 'model' / 'model.safetensors'
    embed = safetensors.numpy.load_file(file)['model.embed_tokens.weight']
    np.testing.assert_array_equal(embed, params['embed'].astype(embed.dtype))
    assert embed.dtype == dtype
    is_said = (
      f'float32 weights are in {workdir}/check' in capsys.readouterr().out
    )
    assert is_said == (dtype == 'bfloat16')


@pytest.mark.parametrize(
  'ending, method', [('qweight', 'GPTQ or AWQ'), ('SCB', 'bitsandbytes')]
)
def test_quantized_tensors_that_no_config_explains_are_named(
  ending, method, tmp_path
):
  path = write_directory(tmp_path)
  tensors = safetensors.numpy.load_file(path / 'model.safetensors')
  tensors[f'model.layers.0.mlp.up_proj.{ending}'] = np.zeros(3, np.int32)
  safetensors.numpy.save_file(tensors, path / 'model.safetensors')
  message = f'has dtype I32, as in models that were quantized by {method}'
  with pytest.raises(errors.UserError, match=message):
    pretrained.open_model(path)
