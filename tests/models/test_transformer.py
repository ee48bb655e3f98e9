"""The forward pass equals a plain numpy implementation, with padding on either
side, with a cache, and in every form of the computation."""

import dataclasses
import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
import toy_model

from r1jax.models import gqa, layer, rope, token_logprobs, transformer
from r1jax.models.families import gemma, llama, olmo2

CFG = llama.Config(
  vocab_size=23,
  width=12,
  layers=2,
  heads=6,
  kv_heads=2,
  head_dim=4,
  ffn=10,
  head_chunk=4,
)
LLAMA3 = rope.Rope(50.0, rope.Llama3Scaling(8.0, 1.0, 4.0, 16))
SHORT = gqa.LayerKind(rope.Rope(30.0), window=3)  # shorter than the rows
NO_ROPE = gqa.LayerKind(None)
MIXED = dict(kinds=(SHORT, NO_ROPE), kind_N=(0, 1))
SIZES = dict(vocab_size=23, width=12, layers=3, heads=6, kv_heads=2, ffn=10)
GEMMA = gemma.Config(
  **SIZES,
  head_dim=4,
  head_chunk=4,
  query_scalar=6,
  score_softcap=1.5,
  final_softcap=2.5,
  kinds=(SHORT, gqa.LayerKind(rope.Rope(70.0, rope.LinearScaling(3.0)))),
  kind_N=(0, 1, 0),
)
OLMO2 = olmo2.Config(**SIZES, head_dim=4, head_chunk=4, qk_norm_heads=True)
VARIANTS = dict(
  plain=dict(),
  multi_head=dict(kv_heads=6),
  one_key_head=dict(kv_heads=1),
  qkv_bias=dict(qkv_bias=True),
  qk_norm=dict(qk_norm=True),
  untied=dict(tie_embeddings=False),
  llama3=dict(kinds=(gqa.LayerKind(LLAMA3),)),
  partial=dict(kinds=(gqa.LayerKind(rope.Rope(partial=0.5)),)),
  windows=MIXED,
  gemma=dict(base=GEMMA),
  gemma_qk_norm=dict(base=GEMMA, qk_norm=True),
  olmo2=dict(base=OLMO2),
)
LENGTHS = np.array([9, 4, 1])


def make(base=CFG, **changes):
  """A config, and parameters all of which are random."""
  cfg = dataclasses.replace(base, **changes)
  return cfg, toy_model.random_params(cfg, seed=1)


def rows(side='right', extra=0):
  """(tokens_BL, mask_BL) of rows of LENGTHS, padded on one side."""
  L = LENGTHS.max() + extra
  tokens_BL = np.full((3, L), 7)
  mask_BL = np.zeros((3, L), bool)
  for b, length in enumerate(LENGTHS):
    here = slice(0, length) if side == 'right' else slice(L - length, L)
    tokens_BL[b, here] = np.random.default_rng(b).integers(0, 23, length)
    mask_BL[b, here] = True
  return tokens_BL, mask_BL


@functools.partial(jax.jit, static_argnames='cfg')
def logits(params, cfg, tokens_BT, pos_BT):
  out = transformer.forward(params, cfg, tokens_BT, pos_BT)
  return transformer.unembed(params, cfg, out.hidden_BTD)


def by_row(x_BL, mask_BL):
  return [np.asarray(x)[np.asarray(m)] for x, m in zip(x_BL, mask_BL)]


unembed = jax.jit(transformer.unembed, static_argnames='cfg')
logprobs = jax.jit(
  token_logprobs.logprobs, static_argnames=('cfg', 'temperature')
)


def close(a, b, tolerance=2e-5):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=0, atol=tolerance)


def reference_rotation(setting, cfg, length):
  """exp(i angle) [T, R / 2] of a row."""
  half = int(cfg.head_dim * setting.partial) // 2
  freq = setting.theta ** (-np.arange(half) / half)
  s = setting.scaling
  if isinstance(s, rope.LinearScaling):
    freq = freq / s.factor
  elif s:
    for i, f in enumerate(freq):
      periods = s.original_max_position_embeddings * f / (2 * np.pi)
      if periods < s.low_freq_factor:
        freq[i] = f / s.factor
      elif periods < s.high_freq_factor:
        part = (periods - s.low_freq_factor) / (
          s.high_freq_factor - s.low_freq_factor
        )
        freq[i] = (1 - part) * f / s.factor + part * f
  return np.exp(1j * np.arange(length)[:, None] * freq)


def reference_attention(cfg, w, kind, h, norm):
  """The sum over heads [T, D] of a layer, with loops over heads and tokens."""
  T, group = len(h), cfg.heads // cfg.kv_heads
  is_gemma = isinstance(cfg, gemma.Config)
  scale = (cfg.query_scalar if is_gemma else cfg.head_dim) ** -0.5
  cap = cfg.score_softcap if is_gemma else 0

  def rotate(x):
    if kind.rope is None:
      return x
    rotation = reference_rotation(kind.rope, cfg, T)
    half = rotation.shape[1]
    z = (x[:, :half] + 1j * x[:, half : 2 * half]) * rotation
    return np.concatenate([z.real, z.imag, x[:, 2 * half :]], axis=1)

  qkv = np.einsum('td,dkgc->tkgc', h, w['qkv']) + w.get('qkv_bias', 0)
  q, k = qkv[:, :, :group], qkv[:, :, group]
  if cfg.qk_norm:
    q, k = norm(q, w['q_norm']), norm(k, w['k_norm'])
  if cfg.qk_norm_heads:
    q = norm(q.reshape(T, -1), w['q_norm_heads'].reshape(-1)).reshape(q.shape)
    k = norm(k.reshape(T, -1), w['k_norm_heads'].reshape(-1)).reshape(k.shape)
  attention = np.zeros((T, cfg.width))
  for head in range(cfg.heads):
    n, g = head // group, head % group
    query, key, value = (
      rotate(q[:, n, g]),
      rotate(k[:, n]),
      qkv[:, n, group + 1],
    )
    for t in range(T):
      first = max(0, t + 1 - kind.window) if kind.window else 0
      score = key[first : t + 1] @ query[t] * scale
      score = cap * np.tanh(score / cap) if cap else score
      prob = np.exp(score - score.max())
      mixed = prob / prob.sum() @ value[first : t + 1]
      attention[t] += mixed @ w['out'][n, g]
  return attention


def reference_logits(params, cfg, tokens):
  """logits_LV of one row in float64. A family's norms are those of its layers'
  leaves."""
  p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  is_gemma = isinstance(cfg, gemma.Config)

  def norm(x, w):
    w = w + is_gemma
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w

  def maybe_norm(x, w, name):
    return norm(x, w[name]) if name in w else x

  x = p['embed'][tokens] * (np.sqrt(cfg.width) if is_gemma else 1)
  for n in range(cfg.layers):
    kind = cfg.kinds[cfg.kind_N[n] if cfg.kind_N else 0]
    w = {name: a[n] for name, a in p['layers'].items()}
    h = maybe_norm(x, w, 'norm1')
    h = reference_attention(cfg, w, kind, h, norm)
    x = x + maybe_norm(h, w, 'norm1_after')
    h = maybe_norm(x, w, 'norm2')
    gate, up = h @ w['gate_up'][:, 0], h @ w['gate_up'][:, 1]
    if is_gemma:
      cubic = gate + 0.044715 * gate**3
      act = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * cubic))
    else:
      act = gate / (1 + np.exp(-gate))
    x = x + maybe_norm((act * up) @ w['down'], w, 'norm2_after')
  head = p['embed'] if cfg.tie_embeddings else p['head']
  out = norm(x, p['norm']) @ head.T
  if is_gemma and cfg.final_softcap:
    return cfg.final_softcap * np.tanh(out / cfg.final_softcap)
  return out


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_variant_equals_the_reference(variant):
  cfg, params = make(**VARIANTS[variant])
  tokens_BL, mask_BL = rows()
  pos_BL = transformer.positions(mask_BL)
  got = by_row(logits(params, cfg, tokens_BL, pos_BL), mask_BL)
  for tokens, ours in zip(by_row(tokens_BL, mask_BL), got):
    np.testing.assert_allclose(
      ours, reference_logits(params, cfg, tokens), rtol=0, atol=5e-5
    )


def test_llama3_scaling_divides_keeps_and_interpolates_frequencies():
  plain, scaled = (
    rope.cos_sin(setting, 8, jnp.array([[1]]))[1][0, 0]
    for setting in (rope.Rope(50.0), LLAMA3)
  )
  share = np.arcsin(scaled) / np.arcsin(plain)
  np.testing.assert_allclose(share[[2, 3]], 1 / 8, rtol=1e-3)
  assert share[0] > share[1] > 1 / 8 - 1e-3


def test_positions_count_the_real_tokens():
  mask_BL = jnp.array([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
  pos_BL = transformer.positions(mask_BL)
  assert pos_BL.dtype == jnp.int32
  np.testing.assert_array_equal(
    pos_BL, [[-1, 0, 1, 2], [0, 1, -1, -1], [-1, -1, -1, -1]]
  )


def test_a_token_does_not_change_earlier_outputs():
  cfg, params = make()
  tokens_BL, mask_BL = rows()
  pos_BL = transformer.positions(mask_BL)
  before = logits(params, cfg, tokens_BL, pos_BL)
  tokens_BL[:, 5] += 1  # a real token in the first row, padding in the others
  after = logits(params, cfg, tokens_BL, pos_BL)
  for b, length in enumerate((5, 4, 1)):
    np.testing.assert_array_equal(before[b, :length], after[b, :length])
  assert np.abs(before[0, 5:] - after[0, 5:]).max(axis=-1).min() > 1e-3


@pytest.mark.parametrize(
  'side, extra', [('left', 0), ('left', 3), ('right', 5)]
)
def test_padding_does_not_change_logprobs(side, extra):
  cfg, params = make()

  def run(side, extra):
    tokens_BL, mask_BL = rows(side, extra)
    pos_BL = transformer.positions(mask_BL)
    logp, entropy = logprobs(params, cfg, tokens_BL, pos_BL)
    assert not np.any(np.where(pos_BL > 0, 0, logp))
    assert not np.any(np.where(pos_BL > 0, 0, entropy))
    return [by_row(a, mask_BL) for a in (logp, entropy)]

  close(run(side, extra), run('right', 0))
  alone = rows()[0][1:2, :4]
  logp, entropy = logprobs(params, cfg, alone, jnp.arange(4)[None])
  padded_logp, padded_entropy = run(side, extra)
  close([logp[0], entropy[0]], [padded_logp[1], padded_entropy[1]])


def value_and_grads(params, cfg):
  tokens_BL, mask_BL = rows()
  pos_BL = transformer.positions(mask_BL)

  def loss(params):
    logp_BL, entropy_BL = logprobs(params, cfg, tokens_BL, pos_BL, 0.7)
    total = jnp.sum(jnp.sin(logp_BL)) + jnp.sum(jnp.sin(entropy_BL))
    return total, (logp_BL, entropy_BL)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)


FORMS = [
  dict(remat='full'),
  dict(remat='dots', scan_layers=False),
  dict(cpu_layout=True, scan_layers=False),
]


PLAIN = dict(qkv_bias=True, qk_norm=True)
# Kinds of layers that differ are traced in scanned layers, static in others.
MODELS = dict(
  mixed=PLAIN | MIXED, gemma=dict(base=GEMMA), olmo2=dict(base=OLMO2)
)


@pytest.fixture(scope='module')
def plain_form():
  cfg, params = make(**PLAIN)
  return value_and_grads(params, cfg)


def reference_loss(params, cfg):
  """The loss of value_and_grads, in float64."""
  total = 0.0
  for tokens in by_row(*rows()):
    scores = reference_logits(params, cfg, tokens)[:-1] / 0.7
    logp_TV = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    total += np.sin(logp_TV[np.arange(len(tokens) - 1), tokens[1:]]).sum()
    total += np.sin(-(np.exp(logp_TV) * logp_TV).sum(axis=-1)).sum()
  return total


@pytest.mark.parametrize('model, scan', [('mixed', True), ('gemma', False)])
def test_gradients_equal_finite_differences_of_the_reference(model, scan):
  """Central differences along a random direction in each leaf."""
  cfg, params = make(**MODELS[model], scan_layers=scan)
  _, grads = value_and_grads(params, cfg)
  leaves, tree = jax.tree.flatten(params)
  for i, grad in enumerate(jax.tree.leaves(grads)):
    direction = np.random.default_rng(i).standard_normal(grad.shape)

    def at(step):
      moved = list(leaves)
      moved[i] = moved[i] + step * direction
      return reference_loss(jax.tree.unflatten(tree, moved), cfg)

    slope = (at(1e-5) - at(-1e-5)) / 2e-5
    size = np.linalg.norm(grad) * np.linalg.norm(direction)
    assert abs(np.vdot(grad, direction) - slope) < 1e-5 * size


@pytest.mark.parametrize('form', FORMS, ids=str)
def test_every_form_has_the_same_values_and_gradients(form, plain_form):
  cfg, params = make(**PLAIN, **form)
  close(value_and_grads(params, cfg), plain_form)


def test_bfloat16_is_near_float32_in_both_layouts(plain_form):
  for cpu_layout in (False, True):
    cfg, params = make(**PLAIN, dtype='bfloat16', cpu_layout=cpu_layout)
    (_, (logp, _)), grads = value_and_grads(params, cfg)
    assert {a.dtype for a in jax.tree.leaves(grads)} == {jnp.dtype('float32')}
    (_, (exact, _)), exact_grads = plain_form
    assert logp.dtype == jnp.float32
    np.testing.assert_allclose(logp, exact, atol=0.15)
    for got, want in zip(*map(jax.tree.leaves, (grads, exact_grads))):
      assert np.linalg.norm(got - want) < 0.1 * np.linalg.norm(want)


def dots(jaxpr):
  """Every matrix product of a jaxpr, those of its inner jaxprs included."""
  for eqn in jaxpr.eqns:
    if eqn.primitive.name == 'dot_general':
      yield eqn
    for inner in jax.extend.core.jaxprs_in_params(eqn.params):
      yield from dots(inner)


@pytest.mark.parametrize('cpu_layout', [False, True])
def test_bfloat16_products_output_float32_forward_and_backward(cpu_layout):
  cfg, params = make(dtype='bfloat16', cpu_layout=cpu_layout)
  tokens_BL, mask_BL = rows()

  def loss(p):
    return token_logprobs.logprobs(
      p, cfg, tokens_BL, transformer.positions(mask_BL)
    )[0].sum()

  found = list(dots(jax.make_jaxpr(jax.grad(loss))(params).jaxpr))
  small = [e for e in found if e.invars[0].aval.dtype == jnp.bfloat16]
  assert len(small) >= 7
  for eqn in found:
    assert eqn.outvars[0].aval.dtype == jnp.float32, eqn


@pytest.mark.parametrize(
  'model, scan, cpu_layout',
  [
    ('mixed', True, False),
    ('mixed', False, True),
    ('gemma', True, True),
    ('gemma', False, False),
    ('olmo2', False, True),
  ],
)
def test_decoding_with_a_cache_equals_the_full_forward(model, scan, cpu_layout):
  changes = MODELS[model] | dict(scan_layers=scan, cpu_layout=cpu_layout)
  cfg, params = make(**changes)
  tokens_BL, mask_BL = rows()
  full = by_row(
    logits(params, cfg, tokens_BL, transformer.positions(mask_BL)), mask_BL
  )
  # Values in columns that are not yet written must have no effect.
  cache = jax.tree.map(lambda a: a + 3, transformer.init_cache(cfg, 3, 12))

  @jax.jit
  def step(params, token_BT, pos_BT, cache):
    params, decode_cfg = transformer.for_decoding(params, cfg)
    return transformer.forward(params, decode_cfg, token_BT, pos_BT, cache)

  for t in range(9):
    pos_BT = jnp.minimum(t, LENGTHS - 1)[:, None]
    token_BT = jnp.take_along_axis(tokens_BL, pos_BT, axis=1)
    hidden, cache, _ = step(params, token_BT, pos_BT, cache)
    got = unembed(params, cfg, hidden)[:, 0]
    for b, length in enumerate(LENGTHS):
      if t < length:
        np.testing.assert_allclose(got[b], full[b][t], atol=2e-5)


@pytest.mark.parametrize('temperature', [1.0, 0.6])
def test_logprobs_equal_log_softmax_of_the_logits(temperature):
  cfg, params = make(real_vocab=19)
  tokens_BL, mask_BL = rows()
  tokens_BL, pos_BL = tokens_BL % 19, transformer.positions(mask_BL)
  out = logits(params, cfg, tokens_BL, pos_BL)[:, :-1, :19] / temperature
  logp_BTV = np.asarray(jax.nn.log_softmax(out))
  want = np.take_along_axis(logp_BTV, tokens_BL[:, 1:, None], axis=2)
  logp, entropy = logprobs(params, cfg, tokens_BL, pos_BL, temperature)
  real = np.asarray(pos_BL > 0)
  np.testing.assert_allclose(logp[:, 1:], want[..., 0] * real[:, 1:], atol=1e-5)
  want = -(np.exp(logp_BTV) * logp_BTV).sum(axis=-1)
  np.testing.assert_allclose(entropy[:, 1:], want * real[:, 1:], atol=1e-5)
  assert not logp[:, 0].any() and not entropy[:, 0].any()


scores = jax.jit(transformer.scores, static_argnames='cfg')


@pytest.mark.parametrize('side', ['right', 'left'])
def test_a_rows_score_is_that_of_its_last_token_and_0_without_tokens(side):
  cfg, params = make(score=True)
  tokens_BL, mask_BL = rows(side, extra=2)
  mask_BL[1] = False
  out = transformer.forward(
    params, cfg, tokens_BL, transformer.positions(mask_BL)
  )
  last = [np.flatnonzero(mask_L)[-1] for mask_L in mask_BL[[0, 2]]]
  want_B = np.asarray(out.hidden_BTD)[[0, 2], last] @ params['score']
  got_B = scores(params, cfg, tokens_BL, transformer.positions(mask_BL))
  np.testing.assert_allclose(got_B, [want_B[0], 0, want_B[1]], atol=1e-5)
  assert got_B.dtype == jnp.float32


def test_a_row_without_tokens_adds_nothing_to_the_gradient_of_scores():
  cfg, params = make(score=True)
  tokens_BL, mask_BL = rows()
  pos_BL = transformer.positions(mask_BL)

  @jax.jit
  @jax.grad
  def gradient(params, pos_BL, weight_B):
    score_B = scores(params, cfg, tokens_BL, pos_BL)
    return jnp.sum(weight_B * jnp.sin(1 + score_B))

  one_empty = gradient(params, pos_BL.at[1].set(-1), jnp.ones(3))
  close(one_empty, gradient(params, pos_BL, jnp.array([1.0, 0.0, 1.0])))
  all_empty = gradient(params, jnp.full_like(pos_BL, -1), jnp.ones(3))
  close(all_empty, jax.tree.map(np.zeros_like, params), tolerance=0)


def test_a_new_reward_model_has_the_hidden_states_of_its_policy_and_scores_0():
  cfg, params = make(tie_embeddings=False)
  score_params, score_cfg = transformer.with_score(params, cfg)
  assert score_cfg.score and 'head' not in score_params and 'head' in params
  tokens_BL, mask_BL = rows()
  pos_BL = transformer.positions(mask_BL)
  hidden, score_hidden = (
    transformer.forward(*model, tokens_BL, pos_BL)[0]
    for model in ((params, cfg), (score_params, score_cfg))
  )
  close(hidden, score_hidden, tolerance=0)
  assert not scores(score_params, score_cfg, tokens_BL, pos_BL).any()
  fresh = jax.eval_shape(lambda: transformer.init(jax.random.key(0), score_cfg))
  assert jax.tree.map(jnp.shape, score_params) == jax.tree.map(jnp.shape, fresh)


def test_parameters_are_float32_and_stacked_over_layers():
  cfg, _ = make(tie_embeddings=False, qkv_bias=True, qk_norm=True)
  shapes = {
    'embed': (23, 12),
    'head': (23, 12),
    'norm': (12,),
    'layers': {
      'norm1': (2, 12),
      'qkv': (2, 12, 2, 5, 4),
      'qkv_bias': (2, 2, 5, 4),
      'q_norm': (2, 4),
      'k_norm': (2, 4),
      'out': (2, 2, 3, 4, 12),
      'norm2': (2, 12),
      'gate_up': (2, 12, 2, 10),
      'down': (2, 10, 12),
    },
  }
  params = jax.eval_shape(lambda: transformer.init(jax.random.key(0), cfg))
  assert jax.tree.map(jnp.shape, params) == shapes
  assert {a.dtype for a in jax.tree.leaves(params)} == {jnp.dtype('float32')}


@pytest.mark.parametrize('scan_layers', [True, False])
def test_the_decode_loop_of_tpus_has_gate_and_up_before_the_channels(
  scan_layers,
):
  cfg = llama.Config(
    vocab_size=11,
    width=8,
    layers=3,
    heads=4,
    kv_heads=2,
    head_dim=2,
    ffn=10,
    tpu_layout=True,
    scan_layers=scan_layers,
  )
  params = transformer.init(jax.random.key(0), cfg)
  decoding, loop_cfg = transformer.for_decoding(params, cfg)
  assert loop_cfg == transformer.decoding_config(cfg)
  layers = decoding['layers']
  w = layers['gate_up'][1] if scan_layers else layers[1]['gate_up']
  np.testing.assert_array_equal(w[1], params['layers']['gate_up'][1, :, 1])
  tokens_BT = jnp.array([[1, 5, 2, 9, 3], [4, 4, 7, 0, 10]])
  pos_BT = jnp.broadcast_to(jnp.arange(5)[None], (2, 5))
  forward = jax.jit(transformer.forward, static_argnums=1)
  want = forward(params, cfg, tokens_BT, pos_BT).hidden_BTD
  got = forward(decoding, loop_cfg, tokens_BT, pos_BT).hidden_BTD
  np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
  'name, shape, want',
  [
    ('qkv', (4, 2, 3, 5), (2, 3, 5, 4)),
    ('gate_up', (4, 2, 5), (2, 5, 4)),
    ('out', (2, 3, 5, 4), (4, 2, 3, 5)),
    ('down', (5, 4), (4, 5)),
    ('shared_down', (5, 4), (5, 4)),
  ],
)
def test_the_decode_loop_of_cpus_has_outputs_before_inputs(name, shape, want):
  w = jnp.arange(np.prod(shape)).reshape(shape)
  first = layer.outputs_first(name, w)
  assert first.shape == want
  np.testing.assert_array_equal(layer.outputs_last(name, first), w)


@pytest.mark.parametrize(
  'name, shape, want',
  [
    ('gate_up', (4, 2, 5), (2, 4, 5)),
    ('experts_gate_up', (7, 3, 4, 2, 5), (7, 6, 4, 5)),
    ('down', (5, 4), (5, 4)),
  ],
)
def test_gates_come_before_all_ups(name, shape, want):
  w = jnp.arange(np.prod(shape)).reshape(shape)
  first = layer.gate_up_first(name, w)
  assert first.shape == want
  np.testing.assert_array_equal(layer.gate_up_last(name, first), w)
  if name != 'down':
    half = want[-3] // 2
    np.testing.assert_array_equal(
      first[..., :half, :, :].ravel(), w[..., 0, :].ravel()
    )
