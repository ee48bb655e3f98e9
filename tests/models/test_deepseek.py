"""DeepSeek models compute what transformers computes, with and without a cache,
and are read and written as it reads and writes them."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from golden import make_deepseek, reference
from toy_deepseek import CFG, GOLDEN, KINDS, random_params, write_directory
from toy_pretrained import all_logits, assert_same_tree

from r1jax import errors
from r1jax.checkpoints import policy, pretrained
from r1jax.models import (
  attention,
  mla,
  registry,
  token_logprobs,
  tpu_attention,
  transformer,
)
from r1jax.models.families import deepseek
from r1jax.preflight import published, shapes
from r1jax.preflight.chips import CHIPS
from r1jax.sampling import token_sampling


@functools.partial(jax.jit, static_argnames='cfg')
def decode(params, cfg, tokens_BT):
  """(logits_BTV, cache) of a decode loop that is given the tokens."""
  params, cfg = transformer.for_decoding(params, cfg)
  B, T = tokens_BT.shape
  cache = transformer.init_cache(cfg, B, T + 3)

  def step(cache, inputs):
    token_B, pos = inputs
    pos_B1 = jnp.full((B, 1), pos)
    out = transformer.forward(params, cfg, token_B[:, None], pos_B1, cache)
    return out.cache, transformer.unembed(params, cfg, out.hidden_BTD)[:, 0]

  inputs = tokens_BT.T, jnp.arange(T)
  cache, logits_TBV = jax.lax.scan(step, cache, inputs)
  return logits_TBV.swapaxes(0, 1), cache


def assert_same_function(logits_TV, kind):
  """The logits and greedy tokens of transformers."""
  entry, start = GOLDEN[kind], len(reference.PROMPT)
  want = np.array(entry['logits_every'])
  got = logits_TV[:: make_deepseek.EVERY]
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
  greedy = np.asarray(logits_TV)[start - 1 : -1].argmax(axis=1)
  np.testing.assert_array_equal(greedy, entry['tokens'][start:])


@pytest.mark.parametrize('kind', KINDS)
def test_logits_and_greedy_tokens_are_those_of_transformers(kind, tmp_path):
  params, cfg, _ = pretrained.load(write_directory(tmp_path, kind))
  logits_TV = all_logits(params, cfg, GOLDEN[kind]['tokens'])
  assert_same_function(logits_TV, kind)


@pytest.mark.parametrize(
  'kind', ['v3_yarn', pytest.param('v2_lite', marks=pytest.mark.slow)]
)
def test_the_decode_loop_gives_the_tokens_of_transformers(kind, tmp_path):
  params, cfg, _ = pretrained.load(write_directory(tmp_path, kind))
  logits_BTV, _ = decode(params, cfg, jnp.array([GOLDEN[kind]['tokens']]))
  assert_same_function(logits_BTV[0], kind)


@pytest.mark.parametrize('kind', KINDS)
def test_save_writes_the_tensors_that_were_loaded(kind, tmp_path):
  source = write_directory(tmp_path / 'in', kind)
  params, cfg, _ = pretrained.load(source)
  pretrained.save(tmp_path / 'out', params, cfg)
  read, name = safetensors.numpy.load_file, 'model.safetensors'
  assert_same_tree(read(source / name), read(tmp_path / 'out' / name))
  loaded, cfg_loaded, _ = pretrained.load(tmp_path / 'out')
  assert_same_tree(loaded, params)
  assert cfg_loaded == dataclasses.replace(cfg, mtp_layers=0)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
  'scan, absorbed',
  [
    pytest.param(True, True, marks=SLOW),
    (True, False),
    (False, True),
    pytest.param(False, False, marks=SLOW),
  ],
)
def test_decoding_equals_the_full_forward_in_both_forms(scan, absorbed):
  params, random = random_params(CFG), np.random.default_rng(1)
  tokens_BT = jnp.array(random.integers(0, 28, (2, 7)))
  pos_BT = jnp.broadcast_to(jnp.arange(7)[None], (2, 7))
  out = jax.jit(transformer.forward, static_argnames='cfg')(
    params, CFG, tokens_BT, pos_BT
  )
  want = transformer.unembed(params, CFG, out.hidden_BTD)
  form = dataclasses.replace(CFG, scan_layers=scan, absorbed=absorbed)
  logits_BTV, cache = decode(params, form, tokens_BT)
  np.testing.assert_allclose(logits_BTV, want, rtol=0, atol=1e-5)
  if not scan:  # the cache of a model of unrolled layers, as a stack
    cache = [(jnp.stack([leaf for (leaf,) in part]),) for part in cache]
  for (decoded,), (prefilled,) in zip(cache, out.cache):
    np.testing.assert_allclose(
      decoded[..., :7, :], prefilled, rtol=0, atol=1e-5
    )


# Without these the order of a sum depends on the number of rows (YNNPACK), and
# loops over other shapes contract other products with sums (FMA).
EXACT = dict(xla_cpu_experimental_ynn_fusion_type='', xla_cpu_max_isa='AVX')


def test_expanded_decoding_has_the_bits_of_the_full_forward():
  cfg = dataclasses.replace(
    CFG, absorbed=False, cpu_layout=True, scan_layers=False
  )
  params, random = random_params(cfg), np.random.default_rng(1)
  tokens_BT = jnp.array(random.integers(0, 28, (2, 7)))

  def sampled(params, cfg, tokens_BT):
    logits_BTV, _ = decode(params, cfg, tokens_BT)
    logp = functools.partial(token_sampling.logp, temperature=1.0)
    return jax.vmap(logp, 1, 1)(logits_BTV[:, :-1], tokens_BT[:, 1:])

  def trained(params, cfg, tokens_BT):
    pos_BT = jnp.broadcast_to(jnp.arange(7)[None], (2, 7))
    return token_logprobs.logprobs(params, cfg, tokens_BT, pos_BT)[0][:, 1:]

  exact = functools.partial(
    jax.jit, static_argnames='cfg', compiler_options=EXACT
  )
  args = params, cfg, tokens_BT
  np.testing.assert_array_equal(exact(sampled)(*args), exact(trained)(*args))


def test_absorbed_attention_equals_expanded_attention():
  cfg = dataclasses.replace(CFG, scan_layers=False)
  noise = np.random.default_rng(2).standard_normal
  w_RHC = jnp.float32(noise((12, 4, 5 + 7)) / 12**0.5)
  q_BTHC, latent_BTR = jnp.float32(noise((3, 1, 4, 11))), noise((3, 1, 18))
  past = (jnp.float32(noise((3, 1, 9, 18))),)
  args = w_RHC, q_BTHC, jnp.float32(latent_BTR), jnp.array([[8], [0], [3]])
  attend = jax.jit(mla.attend, static_argnums=0)
  absorbed, expanded = (
    attend(dataclasses.replace(cfg, absorbed=form), *args, past)[0]
    for form in (True, False)
  )
  np.testing.assert_allclose(absorbed, expanded, rtol=0, atol=1e-6)


def test_splash_takes_keys_and_values_of_different_widths():
  cfg = dataclasses.replace(CFG, qk_nope_head_dim=8, qk_rope_head_dim=4)
  noise = np.random.default_rng(3).standard_normal
  w_RHC = jnp.float32(noise((12, 4, 8 + 7)) / 12**0.5)
  q_BTHC = jnp.float32(noise((2, 9, 4, 12)))
  latent = jnp.float32(noise((2, 1, 9, 16)))
  pos_BT = transformer.positions(np.arange(9) < np.array([[9], [6]]))
  q, kv = q_BTHC[:, :, :, None], mla._expanded(cfg, w_RHC, latent)
  visible_BTS = attention.visible(pos_BT, pos_BT)
  want = attention.attend(cfg.form, q, kv, visible_BTS)
  got = tpu_attention.splash(cfg.form, q, kv, pos_BT, interpret=True)
  real = np.asarray(pos_BT) >= 0
  np.testing.assert_allclose(got[real], want[real], rtol=0, atol=1e-5)


R1 = published.config('deepseek-ai/DeepSeek-R1')


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_r1_has_its_published_number_of_parameters():
  cfg = registry.model_config(R1, 'R1')
  params = shapes.parameters(cfg)
  assert count(params) == 671_026_419_200
  layer = {k: v.size // 58 for k, v in params['layers'].items()}
  names = 'q_a', 'q_a_norm', 'q_b', 'kv_a', 'kv_a_norm', 'kv_b', 'out'
  assert sum(layer[name] for name in names) == 187_107_328
  experts = {n for n in layer if n.split('_')[0] in ('experts', 'shared')}
  experts |= {'router', 'router_bias'}
  assert sum(layer[name] for name in experts) == 11_320_164_608
  np.testing.assert_allclose(cfg.form.scale, 0.13523378, rtol=1e-7)


def test_the_module_of_r1_has_its_published_number_of_parameters():
  compute = policy.ComputeConfig(keep_mtp=True)
  cfg = shapes.computed('deepseek-ai/DeepSeek-R1', compute, CHIPS['v5e'])
  module = shapes.parameters(cfg)['mtp']
  assert round(count(module) / 1e9, 2) == 11.61


def test_a_token_of_r1_uses_its_published_number_of_parameters():
  cfg = registry.model_config(R1, 'R1')
  outer, layer = 2 * cfg.vocab_size * cfg.width, cfg.layer_sizes
  used = cfg.layers * (layer.weights + layer.replicated) + outer
  assert round(used / 1e9, 2) == 37.55
  assert round((used - outer / 2) / 1e9, 1) == 36.6


def test_the_cache_holds_576_numbers_of_a_token_and_layer():
  cfg = registry.model_config(R1, 'R1')
  cfg = dataclasses.replace(cfg, dtype='bfloat16')
  cache = jax.eval_shape(lambda: transformer.init_cache(cfg, 3, 32768))
  assert count(cache) == 3 * 32768 * 61 * 576
  assert 2 * count(cache) == 3 * 32768 * 70_272
  assert cfg.layer_sizes.cache == 576


V2_LITE = dict(
  architectures=['DeepseekV2ForCausalLM'],
  hidden_size=2048,
  intermediate_size=10944,
  moe_intermediate_size=1408,
  num_hidden_layers=27,
  first_k_dense_replace=1,
  num_attention_heads=16,
  num_key_value_heads=16,
  q_lora_rank=None,
  n_routed_experts=64,
  n_shared_experts=2,
  num_experts_per_tok=6,
  n_group=1,
  topk_group=1,
  scoring_func='softmax',
  topk_method='greedy',
  norm_topk_prob=False,
  routed_scaling_factor=1.0,
  vocab_size=102400,
)
V2 = V2_LITE | dict(
  hidden_size=5120,
  intermediate_size=12288,
  moe_intermediate_size=1536,
  num_hidden_layers=60,
  num_attention_heads=128,
  num_key_value_heads=128,
  q_lora_rank=1536,
  n_routed_experts=160,
  n_group=8,
  topk_group=3,
  topk_method='group_limited_greedy',
  routed_scaling_factor=16.0,
)


@pytest.mark.parametrize(
  'values, total', [(V2_LITE, 15_706_484_224), (V2, 235_741_434_880)]
)
def test_v2_has_its_published_number_of_parameters(values, total):
  cfg = registry.model_config(R1 | values, 'V2')
  assert count(shapes.parameters(cfg)) == total


BAD = [
  ('n_group', 3, 'n_group 3, which does not divide 16 experts'),
  ('n_group', 16, 'n_group 16, but a group needs two of the 16 experts'),
  ('topk_group', 5, 'topk_group 5, but there are 4 groups'),
  ('num_experts_per_tok', 9, 'but a token can choose among 8 experts'),
  ('first_k_dense_replace', 5, 'but the model has 4 layers'),
  ('num_key_value_heads', 2, 'but latent attention has 4 heads'),
  ('qk_rope_head_dim', 7, 'needs it even'),
  ('scoring_func', 'softmax', "only 'sigmoid' is supported"),
  ('moe_layer_freq', 2, 'only 1 is supported'),
]


@pytest.mark.parametrize('key, value, message', BAD)
def test_sizes_that_do_not_fit_are_refused(key, value, message):
  config = GOLDEN['v3_yarn']['config'] | {key: value}
  with pytest.raises(errors.UserError, match=re.escape(message)):
    registry.model_config(config, 'config.json')


@pytest.mark.parametrize(
  'key, value, message',
  [
    ('topk_method', 'noaux_tc', 'group_limited_greedy are supported'),
    ('norm_topk_prob', True, 'only False is supported'),
  ],
)
def test_v2_is_refused_with_settings_of_v3(key, value, message):
  config = GOLDEN['v2']['config'] | {key: value}
  with pytest.raises(errors.UserError, match=message):
    registry.model_config(config, 'config.json')


def test_layers_with_experts_must_follow_the_dense_ones():
  kinds = ['dense', 'sparse', 'dense']
  config = GOLDEN['glm']['config'] | dict(mlp_layer_types=kinds)
  with pytest.raises(errors.UserError, match='then sparse ones'):
    registry.model_config(config, 'config.json')


def test_modules_of_multi_token_prediction_are_not_extra_tensors(tmp_path):
  module = {'model.layers.4.eh_proj.weight': np.ones((32, 64), np.float32)}
  path = write_directory(tmp_path / 'one', 'v3_yarn', module)
  params, cfg, _ = pretrained.load(path)
  assert params['layers']['norm1'].shape == (2, 32) and cfg.mtp_layers == 1
  changes = dict(num_nextn_predict_layers=0)
  path = write_directory(tmp_path / 'none', 'v3_yarn', module, **changes)
  assert pretrained.load(path)[1] == cfg  # the config has forgotten it


@pytest.fixture(scope='module')
def with_module(tmp_path_factory):
  """A directory of a model with a module of multi-token prediction."""
  kind = make_deepseek.MTP_KIND
  cfg = registry.model_config(GOLDEN[kind]['config'], kind)
  shapes = {t.name: t.shape for t in deepseek.hf_tensors(cfg)}
  module = make_deepseek.weights(make_deepseek.module_shapes(shapes))
  path = tmp_path_factory.mktemp('with_module')
  return write_directory(path, kind, module)


def test_the_module_of_multi_token_prediction_is_that_of_transformers(
  with_module,
):
  params, cfg, _ = pretrained.load(with_module, keep_mtp=True)
  entry = GOLDEN[make_deepseek.MTP_KIND]
  tokens_BT = jnp.array([entry['tokens']])
  pos_BT = jnp.arange(tokens_BT.shape[1])[None]

  @jax.jit
  def outputs(params):
    hidden = transformer.forward(params, cfg, tokens_BT, pos_BT).hidden_BTD
    args = params, cfg, transformer.next_tokens(tokens_BT), pos_BT, hidden
    out = transformer.mtp_forward(*args)
    logits = transformer.unembed(params, cfg, out.hidden_BTD)
    args = params, cfg, hidden, tokens_BT, pos_BT
    return logits[0], token_logprobs.mtp_logprobs(*args)[0]

  logits_TV, logp_T = outputs(params)
  got = logits_TV[: -1 : make_deepseek.EVERY]
  want = np.array(entry['mtp_logits_every'])
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
  logp_TV = jax.nn.log_softmax(logits_TV)
  for t in (2, 9):
    want = logp_TV[t - 2, entry['tokens'][t]]
    np.testing.assert_allclose(logp_T[t], want, rtol=0, atol=1e-5)
  assert logp_T[0] == logp_T[1] == 0


def test_the_module_is_exported_unchanged_if_it_is_kept(with_module, tmp_path):
  params, cfg, _ = pretrained.load(with_module, keep_mtp=True)
  pretrained.save(tmp_path / 'out', params, cfg)
  read, name = safetensors.numpy.load_file, 'model.safetensors'
  assert_same_tree(read(with_module / name), read(tmp_path / 'out' / name))
  assert pretrained.load(tmp_path / 'out', keep_mtp=True)[1] == cfg


def test_a_module_that_is_not_there_cannot_be_kept(tmp_path):
  for kind in 'v2_lite', 'v3_yarn':
    path = write_directory(tmp_path / kind, kind, num_nextn_predict_layers=1)
    with pytest.raises(errors.UserError, match='keep_mtp to False'):
      pretrained.load(path, keep_mtp=True)


@pytest.mark.parametrize('kind', ['v3_yarn', 'glm'])
def test_keys_that_a_config_lacks_have_the_values_of_transformers(kind):
  values = GOLDEN[kind]['config'] | dict(routed_scaling_factor=None)
  del values['routed_scaling_factor']
  want = dict(v3_yarn=2.5, glm=1.8)[kind]
  assert registry.model_config(values, '').moe.scale == want
