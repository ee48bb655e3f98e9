"""A policy: parameters, a ModelConfig and the tokenizer that goes with them."""

import dataclasses
from typing import Literal, NamedTuple

import jax

from r1jax import errors
from r1jax.checkpoints import pretrained, tokenization
from r1jax.config import option
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.models import gpu_attention, mla, transformer
from r1jax.models.families import deepseek, llama
from r1jax.models.moe import MoeConfig


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
  """How a model is computed. Results differ by rounding only."""

  dtype: Literal['float32', 'bfloat16'] = option(
    'float32', 'of matrix products: float32 or bfloat16'
  )
  scan_layers: bool = option(
    True, 'one compiled layer while training', is_free=True
  )
  scan_decode: bool = option(
    False, 'one compiled layer while decoding', is_free=True
  )
  remat: Literal['none', 'full', 'dots'] = option(
    'none', 'recompute in the backward pass: none, full, dots', is_free=True
  )
  attention: Literal['auto', 'einsum', 'splash', 'cudnn'] = option(
    'auto',
    'einsum, splash (a kernel of TPUs), cudnn (kernels of GPUs), auto',
    is_free=True,
  )
  absorbed: bool = option(
    True,
    'latent attention decodes with the latents, not with expanded keys',
    is_free=True,
  )
  keep_mtp: bool = option(
    False,
    'read and export the module of multi-token prediction',
    fixed='model',
  )
  head_chunk: int = option(
    128, 'columns of logits in memory', minimum=1, is_free=True
  )
  families: dict[str, str] = option(
    {},
    'your readers of other architectures, by architecture',
    is_code=True,
    fixed='model',
  )


@dataclasses.dataclass(frozen=True)
class ScratchConfig:
  """A small random model. Its tokens are bytes, four tags and extra_tokens."""

  family: Literal['llama', 'deepseek'] = option(
    'llama', 'llama, or deepseek: all keys below', fixed='model'
  )
  layers: int = option(2, 'layers', minimum=1, fixed='model')
  width: int = option(96, 'model width', minimum=1, fixed='model')
  heads: int = option(4, 'attention heads', minimum=1, fixed='model')
  ffn: int = option(256, 'feed-forward width', minimum=1, fixed='model')
  extra_tokens: tuple[str, ...] = option(
    (), 'texts that are one token each', fixed='model'
  )
  kv_lora_rank: int = option(
    32, "channels of the keys' latent", minimum=1, fixed='model'
  )
  q_lora_rank: int = option(
    0, "channels of the queries' latent; 0: none", minimum=0, fixed='model'
  )
  dense_layers: int = option(
    1, 'first layers without experts', minimum=0, fixed='model'
  )
  experts: int = option(8, 'routed experts', minimum=1, fixed='model')
  experts_per_token: int = option(
    2, 'routed experts of a token', minimum=1, fixed='model'
  )
  expert_ffn: int = option(
    64, 'feed-forward width of an expert', minimum=1, fixed='model'
  )
  shared_experts: int = option(
    1, 'experts of all tokens', minimum=0, fixed='model'
  )
  groups: int = option(2, 'groups of experts', minimum=1, fixed='model')
  mtp_layers: int = option(
    0,
    'modules of multi-token prediction: 0 or 1',
    maximum=1,
    minimum=0,
    fixed='model',
  )
  top_groups: int = option(
    1, 'groups from which the experts of a token come', minimum=1, fixed='model'
  )


class Policy(NamedTuple):
  params: dict  # unread leaves, see unread.py, or numpy arrays
  cfg: transformer.ModelConfig
  tokenizer: Tokenizer


def load(
  init: str, compute: ComputeConfig, scratch: ScratchConfig | None, seed: int
) -> Policy:
  """The policy of config.init: a path, a hub name, or, with `scratch`, the name
  'scratch'. Raises UserError for a reward model: see load_with_tokenizer."""
  if init == 'scratch' and scratch is not None:
    return _from_scratch(scratch, compute, seed)
  policy = load_with_tokenizer(init, compute)
  if policy.cfg.score:
    raise errors.UserError(
      f'{init} is a reward model, which gives scores, no text: name a policy '
      'here, and this one in config.reward_models'
    )
  return policy


def load_with_tokenizer(init: str, compute: ComputeConfig) -> Policy:
  """The model of a path or a hub name, which may also be a reward model
  (cfg.score). Raises UserError without a tokenizer or an end token."""
  if init in ('', 'scratch'):
    raise errors.UserError(
      f"config.init is '{init}': name the directory of a trained model, a GGUF "
      'file or a model of the hub (ORG/NAME)'
    )
  params, cfg, tokenizer = pretrained.open_model(
    init, compute.families, compute.keep_mtp
  )
  if tokenizer is None:
    raise errors.UserError(
      f'{init} holds no tokenizer: put its tokenizer.json beside the weights'
    )
  if not tokenizer.eos_ids:
    raise errors.UserError(
      f'the tokenizer of {init} names no end token: give it an eos_token'
    )
  cfg = _for_these_devices(cfg, compute)
  return Policy(params, cfg, tokenizer)


def _from_scratch(scratch, compute, seed):
  if scratch.width % (2 * scratch.heads):
    raise errors.UserError(
      f'config.scratch.width is {scratch.width}: it must be a multiple of '
      f'twice config.scratch.heads ({scratch.heads})'
    )
  special = *tokenization.TAGS, *scratch.extra_tokens
  tokenizer = tokenization.ByteTokenizer(special)
  sizes = dict(
    vocab_size=tokenizer.vocab_size,
    real_vocab=tokenizer.vocab_size,
    width=scratch.width,
    layers=scratch.layers,
    heads=scratch.heads,
    ffn=scratch.ffn,
  )
  cfg = SCRATCH[scratch.family](scratch, sizes)
  params = jax.device_get(transformer.init(jax.random.key(seed), cfg))
  cfg = _for_these_devices(cfg, compute)
  return Policy(params, cfg, tokenizer)


def _llama(scratch, sizes):
  head_dim = scratch.width // scratch.heads
  return llama.Config(**sizes, kv_heads=scratch.heads, head_dim=head_dim)


def _deepseek(scratch, sizes):
  """Channels of a head are as in DeepSeek-V3: rotated ones are half as many as
  the others."""
  head_dim = scratch.width // scratch.heads
  _check_experts(scratch)
  experts = MoeConfig(
    experts=scratch.experts,
    experts_per_token=scratch.experts_per_token,
    ffn=scratch.expert_ffn,
    score='sigmoid',
    normalize=True,
    scale=2.5,
    groups=scratch.groups,
    top_groups=scratch.top_groups,
    correction_bias=True,
    shared_ffn=scratch.shared_experts * scratch.expert_ffn,
  )
  return deepseek.Config(
    **sizes,
    q_lora_rank=scratch.q_lora_rank,
    kv_lora_rank=scratch.kv_lora_rank,
    qk_nope_head_dim=head_dim,
    qk_rope_head_dim=max(2, head_dim // 4 * 2),
    v_head_dim=head_dim,
    dense_layers=scratch.dense_layers,
    moe=experts,
    mtp_layers=scratch.mtp_layers,
    keep_mtp=scratch.mtp_layers > 0,
  )


def _check_experts(scratch):
  experts, groups = scratch.experts, scratch.groups
  top_groups, chosen = scratch.top_groups, scratch.experts_per_token
  if experts % groups:
    raise errors.UserError(
      f'config.scratch.groups is {groups}: it must divide '
      f'config.scratch.experts ({experts})'
    )
  if top_groups > groups:
    raise errors.UserError(
      f'config.scratch.top_groups is {top_groups}: there are {groups} groups'
    )
  choices = top_groups * experts // groups
  if chosen > choices:
    raise errors.UserError(
      f'config.scratch.experts_per_token is {chosen}: there are {choices} '
      'experts in the best groups'
    )
  if scratch.dense_layers > scratch.layers:
    raise errors.UserError(
      f'config.scratch.dense_layers is {scratch.dense_layers}: the model has '
      f'{scratch.layers} layers'
    )


SCRATCH = dict(llama=_llama, deepseek=_deepseek)


def with_compute(
  cfg: transformer.ModelConfig,
  compute: ComputeConfig,
  backend: str,
  gpu_capability: float = 0.0,
) -> transformer.ModelConfig:
  """cfg with the options of `compute`, for the devices of a jax backend; with
  'gpu' of this compute capability."""
  options = dataclasses.asdict(compute)
  del options['scan_decode'], options['families']  # not of the model
  del options['keep_mtp']  # decided when the model was opened
  if not isinstance(cfg, mla.MlaConfig):
    del options['absorbed']
  options |= dict(cpu_layout=backend == 'cpu', tpu_layout=backend == 'tpu')
  cfg = dataclasses.replace(cfg, **options)
  obstacle = f'the devices are of the kind {backend}'
  if backend == 'gpu' and compute.attention != 'einsum':
    obstacle = gpu_attention.obstacle(cfg, gpu_capability)
  if compute.attention == 'cudnn' and obstacle:
    raise errors.UserError(
      f'config.compute.attention is cudnn, but {obstacle}: set it to auto'
    )
  if compute.attention == 'auto':
    kernel = 'einsum' if obstacle else 'cudnn'
    attention = 'splash' if backend == 'tpu' else kernel
    cfg = dataclasses.replace(cfg, attention=attention)
  return cfg


def _for_these_devices(cfg, compute):
  backend, capability = jax.default_backend(), 0.0
  if backend == 'gpu':
    capability = float(jax.local_devices()[0].compute_capability)
  cfg = with_compute(cfg, compute, backend, capability)
  if (backend, compute.attention, cfg.attention) == ('gpu', 'auto', 'einsum'):
    obstacle = gpu_attention.obstacle(cfg, capability)
    print(f'attention is computed without the kernels of GPUs: {obstacle}')
  return cfg


def check_mtp(cfg: transformer.ModelConfig, coef: float, key: str) -> None:
  """Raises UserError if the loss of multi-token prediction has a weight in the
  training of a model without its module."""
  if coef and not cfg.keep_mtp:
    raise errors.UserError(
      f'{key} is {coef}, but the model has no module of multi-token prediction '
      'in memory: set config.compute.keep_mtp, or a coefficient of 0'
    )


def check_length(cfg: transformer.ModelConfig, tokens: int) -> None:
  """Raises UserError if rows of `tokens` tokens exceed the model's context."""
  if tokens > cfg.max_len:
    raise errors.UserError(
      f'prompt and response may have {tokens} tokens, but the model has '
      f'{cfg.max_len} positions: lower config.prompt.max_len or config.sample.'
      'max_new_tokens, or raise max_position_embeddings of its config.json'
    )
