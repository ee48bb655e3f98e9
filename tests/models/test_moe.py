"""The layer of experts equals a plain numpy loop over tokens and experts, in
every form of the products, with exact gradients."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.models import grouped, layer, model_config, moe, moe_config

MOE = moe.MoeConfig(
  experts=12,
  experts_per_token=3,
  ffn=5,
  score='sigmoid',
  normalize=True,
  scale=2.5,
  groups=4,
  top_groups=2,
  correction_bias=True,
  shared_ffn=7,
)
CFG = model_config.ModelConfig(vocab_size=9, width=8, layers=2)
KINDS = dict(
  deepseek_v3=MOE,
  deepseek_v2=dataclasses.replace(
    MOE, score='softmax', group_score='max', correction_bias=False, scale=1.0
  ),
  qwen3=dataclasses.replace(
    MOE, score='softmax', groups=1, correction_bias=False, shared_ffn=0
  ),
  not_normalized=dataclasses.replace(MOE, normalize=False, groups=1),
  gpt_oss=dataclasses.replace(
    MOE,
    score='softmax',
    groups=1,
    correction_bias=False,
    shared_ffn=0,
    linear_bias=True,
    activation=moe_config.Activation(alpha=1.7, limit=0.8, up_offset=1.0),
  ),
)
LAYOUTS = list(zip(KINDS, [False, True, False, True, True]))
B, T = 2, 11


class Layer(layer.Layer):
  moe: moe.MoeConfig

  @layer.nn.compact
  def __call__(self, h_BTD, routing_BTE=None, pos_BT=None):
    if pos_BT is None:
      pos_BT = jnp.zeros(h_BTD.shape[:2], jnp.int32)
    return moe.layer(self.cfg, self.moe, self, h_BTD, pos_BT, routing_BTE)


def make(kind, dtype='float32'):
  """(params, h_BTD), all random."""
  h_BTD = jnp.zeros((1, 1, CFG.width))
  shapes = jax.eval_shape(Layer(CFG, kind).init, jax.random.key(0), h_BTD)
  noise = np.random.default_rng(0).standard_normal
  params = jax.tree.map(
    lambda a: np.float32(0.5 * noise(a.shape)), shapes['params']
  )
  return params, np.float32(noise((B, T, CFG.width))).astype(dtype)


@functools.partial(jax.jit, static_argnums=(0, 1))
def apply(cfg, kind, params, h_BTD, routing_BTE=None, pos_BT=None):
  args = dict(params=params), h_BTD, routing_BTE, pos_BT
  return Layer(cfg, kind).apply(*args)


def silu(x):
  return x / (1 + np.exp(-x))


def gated(kind, gate, up):
  """What an expert computes of its projections."""
  if not kind.linear_bias:
    return silu(gate) * up
  gate, up = np.minimum(gate, 0.8), np.clip(up, -0.8, 0.8)
  return gate / (1 + np.exp(-1.7 * gate)) * (up + 1)


def chosen_experts(kind, choice_E):
  """The ids by sorting, the lowest first among equals."""
  group_size = kind.experts // kind.groups

  def score_of_group(group):
    best = np.sort(choice_E[group * group_size :][:group_size])[::-1]
    return best[:2].sum() if kind.group_score == 'top2' else best[0]

  groups = sorted(range(kind.groups), key=lambda g: -score_of_group(g))
  kept = groups[: kind.top_groups]
  ids = [e for e in range(kind.experts) if e // group_size in kept]
  return sorted(ids, key=lambda e: -choice_E[e])[: kind.experts_per_token]


def reference(kind, params, h_D):
  """(output, ids) of a token in float64."""
  p = {k: np.asarray(a, np.float64) for k, a in params.items()}
  logit_E = h_D @ p['router'] + p.get('router_linear_bias', 0)
  score_E = 1 / (1 + np.exp(-logit_E))
  if kind.score == 'softmax':
    score_E = np.exp(logit_E) / np.exp(logit_E).sum()
  choice_E = score_E + (p['router_bias'] if kind.correction_bias else 0)
  ids = chosen_experts(kind, choice_E)
  weights = score_E[ids]
  if kind.normalize:
    weights = weights / weights.sum()
  out_D = np.zeros_like(h_D)
  for e, weight in zip(ids, weights * kind.scale):
    gate_up = np.einsum('d,dnf->nf', h_D, p['experts_gate_up'][e])
    down = p['experts_down'][e]
    if kind.linear_bias:
      gate, up = gate_up + p['experts_gate_up_bias'][e]
      out_D += weight * (gated(kind, gate, up) @ down)
      out_D += weight * p['experts_down_bias'][e]
    else:
      out_D += weight * (gated(kind, *gate_up) @ down)
  if kind.shared_ffn:
    gate, up = np.einsum('d,dnf->nf', h_D, p['shared_gate_up'])
    out_D += (silu(gate) * up) @ p['shared_down']
  return out_D, ids


@pytest.mark.parametrize('name', ['deepseek_v3', 'gpt_oss'])
def test_a_decode_step_on_a_tpu_computes_the_same_layer(name):
  kind, cfg = KINDS[name], dataclasses.replace(CFG, tpu_layout=True)
  params, h_BTD = make(kind)
  h_B1D = h_BTD[:, :1]
  for a, b in zip(
    apply(cfg, kind, params, h_B1D), apply(CFG, kind, params, h_B1D)
  ):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name, cpu_layout', LAYOUTS)
def test_the_layer_is_the_weighted_sum_of_the_chosen_experts(name, cpu_layout):
  kind, cfg = KINDS[name], dataclasses.replace(CFG, cpu_layout=cpu_layout)
  params, h_BTD = make(kind)
  out, ids = apply(cfg, kind, params, h_BTD)
  for b in range(B):
    for t in range(T):
      want, want_ids = reference(kind, params, np.float64(h_BTD[b, t]))
      assert ids[b, t].tolist() == want_ids
      np.testing.assert_allclose(out[b, t], want, rtol=0, atol=2e-5)


def dense(kind, params, h_BTD, id_BTE):
  """The same function by products with all experts."""
  score = h_BTD @ params['router']
  if kind.linear_bias:
    score += params['router_linear_bias'][None, None]
  if kind.score == 'sigmoid':
    score = jax.nn.sigmoid(score)
  else:
    score = jax.nn.softmax(score)
  weight = jnp.take_along_axis(score, id_BTE, axis=2)
  if kind.normalize:
    weight /= weight.sum(axis=2, keepdims=True)
  one_hot = jax.nn.one_hot(id_BTE, kind.experts)
  weight = (weight[..., None] * one_hot).sum(axis=2) * kind.scale
  gate, up = jnp.einsum('btd,ednf->nbtef', h_BTD, params['experts_gate_up'])
  if kind.linear_bias:
    bias = params['experts_gate_up_bias']
    gate, up = gate + bias[None, None, :, 0], up + bias[None, None, :, 1]
    gate, up = jnp.minimum(gate, 0.8), jnp.clip(up, -0.8, 0.8)
    x = gate * jax.nn.sigmoid(1.7 * gate) * (up + 1) * weight[..., None]
  else:
    x = jax.nn.silu(gate) * up * weight[..., None]
  out = jnp.einsum('btef,efd->btd', x, params['experts_down'])
  if kind.linear_bias:
    out += weight @ params['experts_down_bias']
  if kind.shared_ffn:
    gate, up = jnp.einsum('btd,dnf->nbtf', h_BTD, params['shared_gate_up'])
    out += (jax.nn.silu(gate) * up) @ params['shared_down']
  return out


@pytest.mark.parametrize('name, cpu_layout', LAYOUTS)
def test_gradients_are_those_of_products_with_all_experts(name, cpu_layout):
  kind, cfg = KINDS[name], dataclasses.replace(CFG, cpu_layout=cpu_layout)
  params, h_BTD = make(kind)
  id_BTE = apply(cfg, kind, params, h_BTD)[1]
  noise = np.random.default_rng(3).standard_normal(h_BTD.shape)

  @jax.jit
  def both(params, h_BTD):
    def loss(params, h_BTD):
      return (apply(cfg, kind, params, h_BTD)[0] * noise).sum()

    def exact(params, h_BTD):
      return (dense(kind, params, h_BTD, id_BTE) * noise).sum()

    return jax.grad(loss, (0, 1))(params, h_BTD), jax.grad(exact, (0, 1))(
      params, h_BTD
    )

  found, want = both(params, h_BTD)
  for a, b in zip(*map(jax.tree.leaves, (found, want)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
  if kind.correction_bias:
    np.testing.assert_array_equal(found[0]['router_bias'], 0)


def test_no_routed_expert_computes_padding():
  kind = KINDS['qwen3']
  params, h_BTD = make(kind)
  pos_BT = np.arange(T)[None] - np.array([[4], [0]])
  out, _ = apply(CFG, kind, params, h_BTD, pos_BT=pos_BT)
  want, _ = apply(CFG, kind, params, h_BTD)
  np.testing.assert_array_equal(out[pos_BT < 0], 0)
  is_token = pos_BT >= 0
  np.testing.assert_allclose(out[is_token], want[is_token], rtol=0, atol=1e-6)


def test_equal_scores_choose_the_lowest_ids():
  kind = dataclasses.replace(MOE, groups=3, top_groups=2)
  score_TE = jnp.array([[0.5] * 12, [0.1] * 4 + [0.7] * 8])
  ids = moe.choose(kind, score_TE, jnp.zeros(12)).tolist()
  assert ids == [[0, 1, 2], [4, 5, 6]]


def test_the_bias_chooses_and_the_scores_weigh():
  kind = dataclasses.replace(MOE, groups=1, scale=1.0)
  score_TE = jnp.linspace(0.1, 0.4, 12)[None]
  id_TE = moe.choose(kind, score_TE, jnp.zeros(12).at[2].set(9.0))
  assert id_TE.tolist() == [[2, 11, 10]]
  chosen = score_TE[0, id_TE[0]]
  weight = moe.weights(kind, score_TE, id_TE)[0]
  np.testing.assert_allclose(weight, chosen / chosen.sum(), rtol=1e-6)


def test_given_experts_have_the_weights_of_the_live_scores():
  kind = KINDS['deepseek_v3']
  params, h_BTD = make(kind)
  random = np.random.default_rng(5)
  id_BTE = np.stack([random.permutation(12)[:3] for _ in range(B * T)]).reshape(
    B, T, 3
  )
  out, ids = apply(CFG, kind, params, h_BTD, jnp.uint8(id_BTE))
  own_choice = apply(CFG, kind, params, h_BTD)[1]
  np.testing.assert_array_equal(ids, own_choice)
  want = dense(kind, params, h_BTD, jnp.array(id_BTE))
  np.testing.assert_allclose(out, want, rtol=0, atol=2e-5)


def test_the_router_is_float32_in_a_bfloat16_model():
  kind, cfg = KINDS['qwen3'], dataclasses.replace(CFG, dtype='bfloat16')
  params, h_BTD = make(kind, jnp.bfloat16)
  out, ids = apply(cfg, kind, params, h_BTD)
  assert out.dtype == jnp.bfloat16
  exact = np.float64(h_BTD) @ np.float64(params['router'])
  want = np.argsort(-exact, axis=-1, kind='stable')[..., :3]
  np.testing.assert_array_equal(ids, want)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize(
  'size_E', [[3, 0, 14, 1], [0, 0, 0, 0], [26, 0, 0, 0], [0, 9, 8, 9]]
)
@pytest.mark.parametrize('form', ['ragged', 'blocks'])
def test_rows_of_a_group_are_multiplied_by_its_matrix(form, size_E, dtype):
  random = np.random.default_rng(0)
  x_MD = jnp.array(random.standard_normal((26, 6)), dtype)
  w_EDF = jnp.array(random.standard_normal((4, 6, 5)), dtype)
  g_MF = random.standard_normal((26, 5)).astype('f')
  expert_M = np.repeat(np.arange(5), [*size_E, 26 - sum(size_E)])
  out, vjp = jax.vjp(
    lambda x, w: grouped.dot(form, x, w, jnp.array(size_E)), x_MD, w_EDF
  )
  assert out.dtype == jnp.float32
  dx, dw = vjp(g_MF)
  assert dx.dtype == dtype and dw.dtype == dtype
  x, w, g = (np.float64(a) for a in (x_MD, w_EDF, g_MF.astype(dtype)))
  near = dict(rtol=0, atol=1e-5 if dtype == 'float32' else 0.05)
  for e in range(4):
    own = expert_M == e
    np.testing.assert_allclose(out[own], x[own] @ w[e], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.float64(dx)[own], g[own] @ w[e].T, **near)
    np.testing.assert_allclose(np.float64(dw)[e], x[own].T @ g[own], **near)
  np.testing.assert_array_equal(np.float64(out)[expert_M == 4], 0)
  np.testing.assert_array_equal(np.float64(dx)[expert_M == 4], 0)
