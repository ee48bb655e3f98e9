"""Bytes, FLOPs and traffic of a run's programs by formula: no compiler, nothing
allocated. Letters as in model.py; bytes are those of one device.

FLOPs are exact. The rest is good to a third or so: its small constants come
from what the compiler of TPUs makes of these programs, and the compiler's word
stands above it.
"""

import math

from r1jax.models import attention
from r1jax.preflight import cost, sizes


def costs(plan):
  """The Cost of every program that the run calls."""
  s = sizes.of(plan)
  programs, calls = (train, apply, score, prefill, decode), plan.calls()
  return [made(plan, s) for made in programs if calls[made.__name__]]


def resident(plan, s, name):
  """Bytes that lie beside a program's arguments: all of state and reference
  that it is not given."""
  reference = s.parameters * plan.has_reference
  if name == 'apply' or (name == 'train' and plan.micro_batches == 1):
    return reference
  return s.optimiser + reference


def train(plan, s):
  cfg, w, m = plan.cfg, sizes.width(plan), plan.c.parallel.tensor_parallel
  b, T = plan.micro_rows, plan.row_len
  batch = 7 * 4 * b * T
  work, kept = layer_work(plan, s, b, T)
  back = b * min(cfg.head_chunk, T) * s.table / cfg.width * (8 + w)
  back += s.table * (w + 2 * 4)
  hidden = 2 * b * T * cfg.width * w
  parts = [
    ('parameters', s.parameters),
    ('optimiser', s.optimiser),
    ('gradients', s.parameters),
    ('kept for backward', kept),
    ("parameters in the products' dtype", cast(s, w)),
    ('work of head or layer', hidden + max(back, work)),
    ('batch', batch),
  ]
  taken = s.parameters + s.optimiser  # in one program with the update
  if plan.micro_batches > 1:
    taken = 2 * s.parameters  # adds to the gradients so far
    parts[1] = ('gradients so far', s.parameters)
  given = taken if plan.micro_batches == 1 else s.parameters
  tokens = b * T
  forward = layer_flops(plan, tokens, T)
  head = 2 * tokens * s.table
  # Nothing of the backward pass needs the last product of a layer again.
  last = 2 * tokens * cfg.width * cfg.ffn / m * cfg.layers
  attend = attention_flops(plan, tokens, T)
  again = dict(none=0, full=forward - last, dots=attend)
  flops = 3 * forward + again[cfg.remat] + 4 * head
  if cfg.attention == 'splash':
    # Backward is 2.5 forwards, 3.5 where its kernel is not fused.
    flops += (0.5 if T < attention.LONG else 1.5) * attend
  # Weights gathered twice, and gradients, of which some are summed whole and
  # then cut; of replicas gradients alone, whole.
  each = 8 if plan.c.parallel.strategy == 'pmap' else 2 * w + 5
  passes = 2 + (cfg.remat != 'none')
  hbm = passes * weights_read(plan, s, w) + 8 * s.parameters
  hbm += (passes + 1) * activations_moved(plan, tokens, T)
  hbm += math.ceil(T / cfg.head_chunk) * s.table * (3 * w + 8)
  return cost.Cost(
    'train',
    taken + batch,
    given,
    given,
    sum(n for _, n in parts) - taken - batch,
    resident(plan, s, 'train'),
    flops,
    hbm,
    wire_model(plan, tokens, 16 if cfg.remat != 'none' else 12)
    + wire_data(plan, each) * (cfg.layers * s.layer + s.table),
    between_slices(plan, s) * (plan.micro_batches == 1),
    parts=tuple(parts),
  )


def between_slices(plan, s):
  """Bytes of gradients that go from one slice to another."""
  n = plan.pod.slices
  return 2 * (n - 1) / n * s.parameters


def apply(plan, s):
  state = s.parameters + s.optimiser
  given = state + s.parameters
  return cost.Cost(
    'apply',
    given,
    state,
    state,
    2 * s.parameters,
    resident(plan, s, 'apply'),
    hbm=given + state + 2 * s.parameters,
    dcn=between_slices(plan, s),
    parts=(
      ('parameters', s.parameters),
      ('optimiser', s.optimiser),
      ('gradients', s.parameters),
      ('their sum', 2 * s.parameters),
    ),
  )


def score(plan, s):
  cfg, w = plan.cfg, sizes.width(plan)
  b, T = plan.micro_rows, plan.row_len
  tokens = b * T
  work, _ = layer_work(plan, s, b, T, backward=False)
  head = b * min(cfg.head_chunk, T) * s.table / cfg.width * 8
  head += w * s.table
  parts = [
    ('parameters', s.parameters),
    ("parameters in the products' dtype", cast(s, w)),
    ('work of head or layer', 2 * tokens * cfg.width * w + max(head, work)),
  ]
  hbm = weights_read(plan, s, w) + activations_moved(plan, tokens, T)
  hbm += math.ceil(T / cfg.head_chunk) * s.table * w
  return cost.Cost(
    'score',
    s.parameters + 8 * tokens,
    4 * tokens,
    0,
    parts[1][1] + parts[2][1],
    resident(plan, s, 'score'),
    layer_flops(plan, tokens, T) + 2 * tokens * s.table,
    hbm,
    wire_model(plan, tokens, 6) + wire_gathered(plan, s, w),
    parts=tuple(parts),
  )


def prefill(plan, s):
  """The part of sampling before its loop, the weights' gathering included; its
  memory is decode's, for they are one program."""
  cfg, w = plan.cfg, sizes.width(plan)
  tokens = plan.prompts * plan.prompt_len
  elements = cfg.layers * s.layer + s.table
  return cost.Cost(
    'prefill',
    flops=layer_flops(plan, tokens, plan.prompt_len),
    hbm=2 * w * elements + activations_moved(plan, tokens, plan.prompt_len),
    ici=wire_model(plan, tokens, 6) + wire_gathered(plan, s, w),
  )


def decode(plan, s):
  """A step of the loop, with the memory of the whole program."""
  cfg, w, S = plan.cfg, sizes.width(plan), plan.slots
  b, T = plan.prompts, plan.prompt_len
  work, _ = layer_work(plan, s, b, T, backward=False)
  work += 2 * b * T * cfg.width * w - 2 * w * s.layer  # none is gathered
  logits = 3 * 4 * S * cfg.vocab_size
  # One weight of all layers is copied into the layout of the loop, or taken
  # apart where layers are unrolled: the down projection, or the gate and up.
  copied = (
    w * cfg.layers * cfg.width * cfg.ffn / plan.c.parallel.tensor_parallel
  )
  copied *= 1 if plan.c.compute.scan_decode else 2
  out = plan.samples * plan.row_len * 13
  parts = [
    ('parameters', s.parameters),
    ('rollout weights', s.weights),
    ('keys and values of prompts', s.prompt_kv),
    ('cache', s.cache),
    ('work of prefill or logits', max(work - s.cache, logits)),
    ('a copy of a weight', copied),
    ('samples', 2 * out),
  ]
  attend = 4 * S * plan.row_len * cfg.heads * cfg.head_dim * cfg.layers
  # Weights but for the embedding's table, the whole cache, each read once.
  embed = 0 if cfg.tie_embeddings else s.embed * w
  return cost.Cost(
    'decode',
    s.parameters + 8 * b * T,
    out,
    0,
    sum(n for _, n in parts) - s.parameters - out,
    resident(plan, s, 'decode'),
    product_flops(plan, S)
    + 2 * S * s.table
    + attend / plan.c.parallel.tensor_parallel,
    s.weights - embed + s.cache,
    wire_model(plan, S, 4) + wire_part(plan) * 4 * S * cfg.vocab_size,
    parts=tuple(parts),
  )


def cast(s, w):
  """Bytes of the parameters as they travel, cast before the layers' loop."""
  return s.parameters * w / 4 if w < 4 else 0


def layer_work(plan, s, b, T, backward=True):
  """(bytes that one layer works with, bytes kept of all layers for backward)
  for b rows of T tokens."""
  cfg, w, m = plan.cfg, sizes.width(plan), plan.c.parallel.tensor_parallel
  tokens, D, F = b * T, cfg.width, cfg.ffn / m
  heads, keys = cfg.heads / m * cfg.head_dim, cfg.kv_heads / m * cfg.head_dim
  between = tokens * D * w / (m if T % m == 0 else 1)
  products = tokens * (heads + 2 * keys + 2 * F) * 4 + 2 * tokens * D * 4
  scores = tokens * T * cfg.heads / m
  work = tokens * 2 * F * (4 + w) + tokens * (heads + 2 * keys) * 2 * w
  work += 2 * w * s.layer
  if backward:
    work += tokens * F * 3 * w + 4 * 2 * D * F + tokens * D * 10 * w
  splash = cfg.attention == 'splash'
  if not splash:
    work += scores * ((8 + 2 * w) if backward else (4 + w))
  elif backward and T < attention.LONG:
    work += math.ceil(T / 512) * tokens * heads * w  # parts of dq
  kept = between
  if cfg.remat == 'dots':
    kept += products
  elif cfg.remat == 'none':
    kept += products + tokens * (4 * D + 3 * F + 3 * heads) * w
    kept += 0 if splash else scores * w
  return work, cfg.layers * kept * backward


def attention_flops(plan, tokens, T):
  """Of all layers, forward; the kernel leaves out what the mask hides."""
  cfg = plan.cfg
  part = 2 if cfg.attention == 'splash' else 4
  heads = cfg.heads * cfg.head_dim / plan.c.parallel.tensor_parallel
  return part * tokens * T * heads * cfg.layers


def layer_flops(plan, tokens, T):
  return product_flops(plan, tokens) + attention_flops(plan, tokens, T)


def product_flops(plan, tokens):
  """Of all layers' weights, forward."""
  cfg = plan.cfg
  wide = (2 * cfg.heads + 2 * cfg.kv_heads) * cfg.head_dim + 3 * cfg.ffn
  return (
    2 * tokens * cfg.width * wide / plan.c.parallel.tensor_parallel * cfg.layers
  )


def weights_read(plan, s, w):
  """Bytes of weights that one pass over the layers writes and reads."""
  return 2 * w * plan.cfg.layers * s.layer


def activations_moved(plan, tokens, T):
  """Bytes of activations of one forward pass that go through HBM."""
  cfg, w, m = plan.cfg, sizes.width(plan), plan.c.parallel.tensor_parallel
  heads = (cfg.heads + 2 * cfg.kv_heads) * cfg.head_dim / m
  moved = tokens * (8 * cfg.width + 4 * heads + 4 * cfg.ffn / m) * w
  if cfg.attention != 'splash':
    moved += 4 * tokens * T * cfg.heads / m * 4
  return cfg.layers * moved


def wire_part(plan):
  m = plan.c.parallel.tensor_parallel
  return (m - 1) / m


def wire_model(plan, tokens, exchanges):
  """Bytes sent over 'model': an exchange gathers a layer's activations; a
  scattered sum is two, for the compiler sums them whole."""
  cfg = plan.cfg
  one = tokens * cfg.width * sizes.width(plan) * wire_part(plan)
  return exchanges * cfg.layers * one


def wire_data(plan, bytes_each):
  """Bytes sent over 'data' for each element of a weight."""
  data = dict(plan.axes)['data']
  return bytes_each * (data - 1) / data


def wire_gathered(plan, s, w):
  """Bytes sent where every weight is gathered once; a replica has it all."""
  if plan.c.parallel.strategy == 'pmap':
    return 0
  return wire_data(plan, w) * (plan.cfg.layers * s.layer + s.table)
