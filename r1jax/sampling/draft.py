"""Speculative sampling with drafts of the module of multi-token prediction.

Each step drafts the next token d ~ q and computes the model's distributions p
after the last token and after d in one forward call. It accepts d with
probability min(1, p(d) / q(d)), and then samples one more token; else it
samples the token from norm(max(p - q, 0)) (arXiv:2211.17192). Either way tokens
are distributed as without drafts. Which token is a draft depends on where the
sample begins, so a row that is continued has other draws than a whole one.
"""

import jax.numpy as jnp
from jax import Array

from r1jax.models import transformer
from r1jax.sampling import decode_step, token_sampling
from r1jax.sampling.decode_state import (
  Prefilled,
  Prompts,
  SampleConfig,
  Slots,
  StepTokens,
)


def prefill(
  params: dict,
  cfg: transformer.ModelConfig,
  prompts: Prompts,
  pos_PL: Array,
  out: transformer.Output,
) -> Prefilled:
  """The prompts' caches, of the model and of the module, and the module's
  hidden states for the first sampled tokens."""
  next_PL = transformer.next_tokens(prompts.tokens_PL)
  module = transformer.mtp_forward(params, cfg, next_PL, pos_PL, out.hidden_BTD)
  # A prompt of one token has no such column. Any distribution may draft.
  column_P = jnp.maximum(prompts.length_P - 2, 0)
  draft_PD = jnp.take_along_axis(
    module.hidden_BTD, column_P[:, None, None], axis=1
  )[:, 0]
  return Prefilled(cache=(out.cache, module.cache), draft_PD=draft_PD)


def step(
  params: dict,
  cfg: transformer.ModelConfig,
  config: SampleConfig,
  cache: transformer.Cache,
  slots: Slots,
) -> tuple[transformer.Cache, Slots, StepTokens]:
  """decode_step.step, with one or two tokens in every slot.

  `cache` are those of the model and of the module. slots.draft_BD is the
  module's hidden state, whose logits are those of the draft. The columns of a
  draft that is not accepted are written again by the next step.
  """
  (model_cache, module_cache), live_B = cache, slots.live_B
  truncation = config.temperature, config.top_p, config.top_k
  pos_BT = slots.pos_B[:, None] + jnp.arange(2)[None]
  key_B = decode_step.fold_in(slots.key_B, pos_BT[:, 1])
  uniform_5B = token_sampling.uniform(key_B, 5)
  logits_BV = transformer.unembed(params, cfg, slots.draft_BD[:, None])[:, 0]
  q_BV = token_sampling.probabilities(logits_BV, *truncation)
  draft_B = token_sampling.invert(q_BV, uniform_5B[:2])

  tokens_BT = jnp.stack([slots.token_B, draft_B], axis=1)
  out = transformer.forward(params, cfg, tokens_BT, pos_BT, model_cache)
  logits_BTV = transformer.unembed(params, cfg, out.hidden_BTD)
  p_BV = token_sampling.probabilities(logits_BTV[:, 0], *truncation)
  first_B, is_accepted_B = verify(p_BV, q_BV, draft_B, uniform_5B[2:])
  first_logp_B = token_sampling.logp(
    logits_BTV[:, 0], first_B, config.temperature
  )
  key_B = decode_step.fold_in(slots.key_B, pos_BT[:, 1] + 1)
  second_B, second_logp_B = token_sampling.sample_token(
    logits_BTV[:, 1], key_B, *truncation
  )

  next_BT = jnp.stack([first_B, second_B], axis=1)
  module = transformer.mtp_forward(
    params, cfg, next_BT, pos_BT, out.hidden_BTD, module_cache
  )
  first, second = (module.hidden_BTD[:, t] for t in range(2))
  slots = decode_step.append(config, slots, first_B, live_B)
  has_second_B = slots.live_B & is_accepted_B
  slots = decode_step.append(config, slots, second_B, has_second_B)
  slots = slots.replace(
    draft_BD=jnp.where(is_accepted_B[:, None], second, first)
  )
  tokens = StepTokens(
    token_BT=next_BT,
    logp_BT=jnp.stack([first_logp_B, second_logp_B], axis=1),
    pos_BT=pos_BT + 1,
    live_BT=jnp.stack([live_B, has_second_B], axis=1),
    routing=decode_step.routing_of(cfg, out),
  )
  return (out.cache, module.cache), slots, tokens


def verify(
  p_BV: Array, q_BV: Array, draft_B: Array, uniform_3B: Array
) -> tuple[Array, Array]:
  """(token_B, whether it is the accepted draft): token ~ p for draft ~ q."""
  p_B, q_B = (
    jnp.take_along_axis(prob_BV, draft_B[:, None], axis=1)[:, 0]
    for prob_BV in (p_BV, q_BV)
  )
  is_accepted_B = uniform_3B[0] * q_B < p_B
  rest_BV = jnp.maximum(p_BV - q_BV, 0)
  # No mass is left if p and q differ by rounding only.
  has_rest_B1 = jnp.any(rest_BV > 0, axis=1, keepdims=True)
  rest_BV = jnp.where(has_rest_B1, rest_BV, p_BV)
  other_B = token_sampling.invert(rest_BV, uniform_3B[1:])
  return jnp.where(is_accepted_B, draft_B, other_B), is_accepted_B
