"""The cost of programs by formula. FLOPs are exact; other figures are within
about a third of the TPU compiler's, to which their constants are fitted."""

import dataclasses
import math

from r1jax.models import tpu_attention
from r1jax.preflight import experts, layers
from r1jax.preflight.cost import Cost
from r1jax.preflight.layers import Sizes
from r1jax.preflight.plan import Plan


def costs(plan: Plan) -> list[Cost]:
  """The Cost of every program that the run calls."""
  sizes, calls = layers.sizes_of(plan), plan.calls()
  found = [
    fn(plan, sizes) for fn in (train, apply, score) if calls[fn.__name__]
  ]
  found += sampling(plan, sizes)
  return found + [evaluate(plan, sizes)] * bool(plan.config.eval.every)


def train(plan: Plan, sizes: Sizes) -> Cost:
  """One micro-batch. Its gradient is accumulated, or applied directly if the
  update has only one."""
  cfg, itemsize, weights = plan.cfg, plan.itemsize, sizes.parameters
  rows, length = plan.micro_batch_rows, plan.row_len
  tokens = rows * length
  batch = (7 * 4 + layers.routing_bytes(plan)) * tokens
  is_pmap = plan.config.parallel.strategy == 'pmap'
  parts = {'parameters': weights, 'optimiser': sizes.optimizer}
  donated, resident = sum(parts.values()), sizes.reference
  gradients = weights
  dcn = layers.sent(2, plan.pod.slices) * weights
  if plan.micro_batches > 1:
    parts = {'parameters': weights, 'accumulated gradients': weights}
    donated, resident, dcn = weights, sizes.optimizer + sizes.reference, 0.0
    if not is_pmap or plan.pod.devices == 1:
      gradients = 0.0  # they are added in place
  argument = sum(parts.values()) + batch
  _, layer, saved = layers.layer_bytes(plan, sizes, rows, length)
  chunks, logits = _head_chunks(plan, sizes)
  head = logits * (8 + itemsize) + sizes.head * (itemsize + 2 * 4)
  buffers = 2 * tokens * cfg.width * itemsize + max(head, layer)
  parts |= {'gradients': gradients, 'saved activations': saved}
  parts |= {'cast parameters': sizes.cast, 'buffers of head or layer': buffers}
  passes = 2 + (cfg.remat != 'none')
  hbm = passes * 2 * itemsize * cfg.layers * sizes.layer + 8 * weights
  hbm += (passes + 1) * layers.activation_traffic(plan, tokens, length)
  hbm += layers.traffic_of_rounds(plan, tokens, length, gradients=True)
  hbm += chunks * sizes.head * (3 * itemsize + 8)
  # Weights are gathered twice; some gradients are all-reduced before they are
  # sharded. Under pmap only full gradients are sent.
  bytes_per_element = 8 if is_pmap else 2 * itemsize + 5
  sent = layers.sent(bytes_per_element, dict(plan.axes)['data'])
  sent = sent * sizes.products + passes * sizes.sent_to_heads
  gathers = 16 if cfg.remat != 'none' else 12
  return Cost(
    name='train',
    argument=argument,
    output=donated,
    alias=donated,
    temp=gradients + saved + sizes.cast + buffers,
    resident=resident,
    flops=_train_flops(plan, sizes, tokens),
    hbm=hbm,
    ici=layers.sent_along_model(plan, tokens, length, gathers, True) + sent,
    dcn=dcn,
    parts=parts | dict(batch=batch),
  )


def _train_flops(plan, sizes, tokens):
  """Three forward passes of the layers (the backward pass is two), four of the
  head, and what remat computes again."""
  cfg, load = plan.cfg, experts.load(plan, tokens, plan.row_len)
  channels = experts.used_channels(plan, load)
  products, attend = layers.forward_flops(plan, tokens, plan.row_len)
  flops = 3 * (products + attend) + 4 * (2 * tokens * sizes.head)
  if cfg.remat == 'full':
    flops += products + attend
    if not plan.layer_sizes.norm_after:
      # The backward pass does not need a layer's last product.
      last = 2 * tokens * cfg.width * channels
      flops -= last * cfg.layers
  elif cfg.remat == 'dots':
    flops += attend
  if cfg.remat == 'dots' or (cfg.remat == 'none' and load.in_rounds):
    # The first product of experts is not saved.
    channels -= experts.other_channels(plan)
    flops += 4 * tokens * cfg.width * channels * cfg.layers
  if cfg.attention != 'einsum':
    # The backward pass of a kernel is 2.5 forward passes, that of splash in two
    # kernels 3.5.
    is_fused = cfg.attention == 'cudnn'
    is_fused |= plan.row_len < tpu_attention.FUSED_BACKWARD_LIMIT
    flops += (0.5 if is_fused else 1.5) * attend
  return flops


def apply(plan: Plan, sizes: Sizes) -> Cost:
  """The optimiser, after the last of several micro-batches."""
  weights, state = sizes.parameters, sizes.parameters + sizes.optimizer
  parts = {'parameters': weights, 'optimiser': sizes.optimizer}
  parts |= {'gradients': weights, 'sum of gradients': 2 * weights}
  return Cost(
    name='apply',
    argument=state + weights,
    output=state,
    alias=state,
    temp=2 * weights,
    resident=sizes.reference,
    hbm=2 * state + 3 * weights,
    dcn=layers.sent(2, plan.pod.slices) * weights,
    parts=parts,
  )


def score(plan: Plan, sizes: Sizes) -> Cost:
  """Log-probabilities of one micro-batch."""
  itemsize, length = plan.itemsize, plan.row_len
  tokens = plan.micro_batch_rows * length
  layer, _, _ = layers.layer_bytes(plan, sizes, plan.micro_batch_rows, length)
  chunks, logits = _head_chunks(plan, sizes)
  head = logits * 8 + itemsize * sizes.head
  buffers = 2 * tokens * plan.cfg.width * itemsize + max(head, layer)
  flops = sum(layers.forward_flops(plan, tokens, length))
  hbm = 2 * itemsize * plan.cfg.layers * sizes.layer
  hbm += layers.activation_traffic(plan, tokens, length)
  hbm += layers.traffic_of_rounds(plan, tokens, length)
  hbm += chunks * sizes.head * itemsize
  parts = {'parameters': sizes.parameters, 'cast parameters': sizes.cast}
  parts |= {'buffers of head or layer': buffers}
  return Cost(
    name='score',
    argument=sizes.parameters + 8 * tokens,
    output=4 * tokens,
    temp=sizes.cast + buffers,
    resident=sizes.optimizer + sizes.reference,
    flops=flops + 2 * tokens * sizes.head,
    hbm=hbm,
    ici=layers.sent_along_model(plan, tokens, length, 6) + sizes.sent_to_gather,
    parts=parts,
  )


def _head_chunks(plan, sizes):
  """(chunks in which the head computes the logits, logits of a chunk)."""
  chunk, length = plan.cfg.head_chunk, plan.row_len
  rows, vocab_size = plan.micro_batch_rows, sizes.head / plan.cfg.width
  return math.ceil(length / chunk), rows * min(chunk, length) * vocab_size


def gather(plan: Plan, sizes: Sizes) -> Cost:
  """The weights of a rollout, gathered over 'data'."""
  weights = sizes.rollout_weights
  # The layers pass one after another from the layout of the collective to their
  # own, beside the embedding or the head.
  passing = 0.0
  if sizes.sent_to_gather:
    passing = 2 * plan.itemsize * (sizes.layer + sizes.head)
  return Cost(
    name='gather',
    argument=sizes.parameters,
    output=weights,
    temp=passing,
    resident=sizes.optimizer + sizes.reference,
    hbm=2 * plan.itemsize * sizes.products,
    ici=sizes.sent_to_gather,
    parts={
      'parameters': sizes.parameters,
      'rollout weights': weights,
      'weights in the layout of the collective': passing,
    },
  )


def prefill(plan: Plan, sizes: Sizes) -> Cost:
  """The program before the decode loop."""
  prompts, length = plan.prompts, plan.config.prompt.max_len
  tokens = prompts * length
  work, _, _ = layers.layer_bytes(plan, sizes, prompts, length)
  # The weights are gathered.
  work += 2 * tokens * plan.cfg.width * plan.itemsize
  work -= 2 * plan.itemsize * sizes.layer
  weights = {'rollout weights': sizes.rollout_weights}
  state = _decode_state(plan)
  flops = sum(layers.forward_flops(plan, tokens, length))
  return Cost(
    name='prefill',
    argument=sizes.rollout_weights + 8 * tokens,
    output=sum(state.values()),
    temp=work,
    resident=sizes.parameters + sizes.optimizer + sizes.reference,
    flops=flops + layers.module_flops(plan, tokens, length, flops),
    hbm=layers.activation_traffic(plan, tokens, length),
    ici=layers.sent_along_model(plan, tokens, length, 6),
    parts=weights | state | {'buffers of prefill': work},
  )


def _decode_state(plan):
  """The bytes of what prefill leaves for the decode loop."""
  layer = plan.layer_sizes
  column = plan.itemsize * plan.decode_layers * layer.cache
  if layer.cache_is_sharded:
    column /= plan.tensor_parallel
  return {
    'prompt cache': plan.prompts * plan.config.prompt.max_len * column,
    'cache': _cache_bytes(plan),
    'samples': plan.samples * plan.row_len * (13 + layers.routing_bytes(plan)),
  }


def _cache_bytes(plan):
  """The bytes of the whole cache."""
  sample = plan.config.sample
  if sample.cache_tokens:
    # A page is of no slot, see page_table.py.
    return layers.cache_bytes(plan, sample.pages + 1, sample.page_tokens)
  return layers.cache_bytes(plan, plan.decode_slots, plan.row_len)


def decode(plan: Plan, sizes: Sizes) -> Cost:
  """One step of the decode loop, with the memory of its program."""
  cfg, itemsize, slots = plan.cfg, plan.itemsize, plan.decode_slots
  devices, tokens = plan.tensor_parallel, slots * plan.step_tokens
  # The head is computed for the draft too.
  heads = tokens + slots * plan.config.sample.draft
  logits = 4 * heads * cfg.vocab_size
  # XLA copies the projections of attention, and the ids of experts, into the
  # layout of the loop.
  copied = itemsize * cfg.layers * cfg.width * plan.layer_sizes.projected
  copied /= devices
  copied += 2 * plan.samples * plan.row_len * layers.routing_bytes(plan)
  if plan.config.sample.cache_tokens and not plan.reads_filled_cache:
    # The pages of a layer, as rows and before their axes are swapped.
    rows = layers.cache_bytes(plan, slots, plan.row_len)
    copied += 2 * rows / plan.decode_layers
  # Slots are filled with the keys, then the values of prompts in float32.
  prompt_len = plan.config.prompt.max_len
  fill = 4 / itemsize * layers.cache_bytes(plan, slots, prompt_len)
  fill /= plan.layer_sizes.cache_arrays
  if plan.config.sample.cache_tokens:
    fill = 0  # They are filled page by page.
  weights, arrays = sizes.rollout_weights, _decode_state(plan)
  cache = arrays['cache']
  state = cache + arrays['samples']
  parts = {'rollout weights': weights} | arrays
  parts |= {'copied arrays': copied, 'filling of slots': fill}
  parts |= {'logits': 3 * logits}
  flops = layers.product_flops(plan, tokens, experts.decode_channels(plan))
  pairs = plan.read_share * tokens * plan.row_len
  attended = plan.layer_sizes.attended_in_decode
  flops += 2 * pairs * attended * cfg.layers / devices
  flops += layers.module_flops(plan, tokens, plan.step_tokens, flops)
  flops += 2 * heads * sizes.head
  # All weights but the embedding, and what is read of the cache, once. A draft
  # needs the head once more.
  head = sizes.head * itemsize
  unread = (0 if cfg.tie_embeddings else head) - plan.config.sample.draft * head
  sent = layers.sent_along_model(plan, tokens, plan.step_tokens, 4)
  return Cost(
    name='decode',
    argument=weights + sum(arrays.values()),
    output=state,
    alias=state,
    temp=copied + fill + 3 * logits,
    resident=sizes.parameters + sizes.optimizer + sizes.reference,
    flops=flops,
    hbm=weights - unread + plan.cache_share * cache,
    ici=sent + layers.sent(logits, devices),
    parts=parts,
  )


def sampling(plan: Plan, sizes: Sizes) -> list[Cost]:
  """The Cost of every program that samples."""
  return [gather(plan, sizes), prefill(plan, sizes), decode(plan, sizes)]


def evaluate(plan: Plan, sizes: Sizes) -> Cost:
  """A chunk of the held-out evaluation."""
  return chunk_cost(plan, sampling(plan.chunk, sizes))


def chunk_cost(plan: Plan, costs: list[Cost]) -> Cost:
  """The Cost of a chunk of the held-out evaluation, given those of its programs:
  all their calls, with the memory of the largest that differs from a rollout's."""
  calls = plan.chunk.calls()
  differing = [x for x in costs if x.name != 'gather']
  largest = max(differing, key=lambda x: (bool(x.refused), x.need))
  return dataclasses.replace(
    largest,
    name='evaluate',
    flops=sum(calls[x.name] * x.flops for x in costs),
    hbm=sum(calls[x.name] * x.hbm for x in costs),
    ici=sum(calls[x.name] * x.ici for x in costs),
    dcn=sum(calls[x.name] * x.dcn for x in costs),
    collectives=(),
  )
