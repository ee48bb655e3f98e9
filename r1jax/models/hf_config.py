"""config.json of a Hugging Face directory: its keys to a ModelConfig and back."""

import functools
import math

from r1jax import errors
from r1jax.models import rope, transformer

FAMILIES = dict(  # what a family adds to Llama's
  Llama=dict(qkv_bias=False, qk_norm=False),
  Qwen2=dict(qkv_bias=True, qk_norm=False),
  Qwen3=dict(qkv_bias=False, qk_norm=True),
)
HEADS = dict(ForCausalLM=False, ForSequenceClassification=True)  # a score?
ARCHITECTURES = {
  family + head: dict(adds, score=score)
  for head, score in HEADS.items()
  for family, adds in FAMILIES.items()
}
# Keys that change what is computed, with the one value that is supported.
ONLY = dict(
  hidden_act='silu',
  attention_bias=False,
  mlp_bias=False,
  partial_rotary_factor=1.0,
  quantization_config=None,
)


def model_config(config, source):
  """ModelConfig from the keys of config.json; what cannot be computed here is
  refused. `source` is for the sentence."""
  number = functools.partial(_number, source, config)

  def refuse(key, why):
    raise errors.UserError(
      f'{source}: its config has {key} {config.get(key)!r}, {why}'
    )

  named = config.get('architectures')
  arch = named[0] if isinstance(named, list) and named else None
  if arch not in ARCHITECTURES:
    refuse('architectures', f'but r1jax reads {", ".join(ARCHITECTURES)}')
  for key, supported in ONLY.items():
    if config.get(key) not in (None, supported):
      refuse(key, f'but only {supported!r} is supported')
  windows = ['sliding'] if config.get('use_sliding_window') else []
  if set(config.get('layer_types') or windows) - {'full_attention'}:
    refuse('sliding_window', 'but only full attention is supported')
  width, heads = number('hidden_size'), number('num_attention_heads')
  kv_heads = number('num_key_value_heads', heads)
  head_dim = number('head_dim', width // heads)
  if heads % kv_heads:
    refuse('num_key_value_heads', f'which does not divide {heads} heads')
  if head_dim % 2:
    refuse('head_dim', 'but rotary positions need an even number')
  theta, scaling = _rope(config, source)
  return transformer.ModelConfig(
    vocab_size=number('vocab_size'),
    width=width,
    layers=number('num_hidden_layers'),
    heads=heads,
    kv_heads=kv_heads,
    head_dim=head_dim,
    ffn=number('intermediate_size'),
    rope_theta=theta,
    rope_scaling=scaling,
    norm_eps=number('rms_norm_eps', 1e-6, kind=float),
    # A model with a score has no table of its own for words to come.
    tie_embeddings=bool(config.get('tie_word_embeddings'))
    or ARCHITECTURES[arch]['score'],
    max_len=number('max_position_embeddings', 2048),
    **ARCHITECTURES[arch],
  )


def _rope(config, source):
  """(theta, rope.Scaling or None) of either dialect: rope_theta beside
  rope_scaling, or transformers 5's rope_parameters with both."""
  said = config.get('rope_parameters') or config.get('rope_scaling') or {}
  if not isinstance(said, dict):
    raise errors.UserError(f'{source}: its rope settings are {said!r}')
  number = functools.partial(_number, source, said, kind=float)
  theta = _number(source, config, 'rope_theta', 10000.0, kind=float)
  theta = number('rope_theta', theta)
  kind = said.get('rope_type', said.get('type', 'default'))
  if number('partial_rotary_factor', 1.0) != 1:
    raise errors.UserError(f'{source}: partial rotary is not supported')
  if kind == 'default':
    return theta, None
  if kind != 'llama3':
    raise errors.UserError(
      f'{source}: its rope is scaled by {kind!r}; only llama3 is supported'
    )
  return theta, rope.Scaling(
    factor=number('factor'),
    low_freq_factor=number('low_freq_factor'),
    high_freq_factor=number('high_freq_factor'),
    original_max_len=number('original_max_position_embeddings', kind=int),
  )


def _number(source, table, key, default=None, kind=int):
  value = table.get(key)
  value = default if value is None else value
  good = isinstance(value, (int, kind)) and not isinstance(value, bool)
  if not good or not 0 < value < math.inf:
    raise errors.UserError(
      f'{source}: its config has {key} {value!r}, which must be a number '
      'above 0'
    )
  return kind(value)


def config_json(cfg, dtype, tok):
  """The config.json of a ModelConfig, in the dialect that every transformers
  reads."""
  kind = dict(qkv_bias=cfg.qkv_bias, qk_norm=cfg.qk_norm, score=cfg.score)
  archs = [arch for arch, adds in ARCHITECTURES.items() if adds == kind]
  assert archs, 'no architecture has both qkv_bias and qk_norm'
  scaling = cfg.rope_scaling and dict(
    rope_type='llama3',
    factor=cfg.rope_scaling.factor,
    low_freq_factor=cfg.rope_scaling.low_freq_factor,
    high_freq_factor=cfg.rope_scaling.high_freq_factor,
    original_max_position_embeddings=cfg.rope_scaling.original_max_len,
  )
  # One label, or transformers makes a score of two numbers.
  labels = dict(id2label={'0': 'score'}, label2id=dict(score=0))
  return dict(
    architectures=archs,
    model_type=archs[0].partition('For')[0].lower(),
    vocab_size=cfg.vocab_size,
    hidden_size=cfg.width,
    num_hidden_layers=cfg.layers,
    num_attention_heads=cfg.heads,
    num_key_value_heads=cfg.kv_heads,
    head_dim=cfg.head_dim,
    intermediate_size=cfg.ffn,
    hidden_act='silu',
    rms_norm_eps=cfg.norm_eps,
    rope_theta=cfg.rope_theta,
    rope_scaling=scaling,
    max_position_embeddings=cfg.max_len,
    tie_word_embeddings=cfg.tie_embeddings,
    torch_dtype=str(dtype),
    bos_token_id=None,
    eos_token_id=list(tok.eos_ids) if tok else None,
    **(labels if cfg.score else {}),
  )
