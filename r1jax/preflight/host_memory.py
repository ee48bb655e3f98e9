"""The memory of hosts: what a run needs to load, to run and to export, by
formula."""

from r1jax.preflight import layers
from r1jax.preflight.plan import Plan

# Python, jax, libtpu, compiled programs and compilations.
PROCESS = 4e9
# Bytes of a token in the sampled rows, without the ids of its experts.
SAMPLED = 13
# Old and reference log-probabilities, advantages, weights.
COLUMNS = 5 * 4


def needs(plan: Plan) -> dict[str, float]:
  """Bytes that the host with the highest need has in use, by phase."""
  sizes, config = layers.sizes_of(plan), plan.config
  # A checkpoint is written in the background from copies of the host's part of
  # the state. Under pmap one replica is written.
  devices = plan.pod.host_devices
  if config.parallel.strategy == 'pmap':
    devices = 1
  state = (sizes.parameters + sizes.optimizer) * devices
  if not config.teacher:
    state += sizes.reference * devices
  # With max_staleness the next rollout is sampled before the updates.
  rollouts = 1 + config.grpo.max_staleness
  rows = rollouts * config.grpo.prompts_per_step * config.grpo.group_size
  # The sampled rows are on the host as the devices return them and joined.
  token = 2 * (SAMPLED + layers.routing_bytes(plan)) + COLUMNS
  # Tensors are gathered and written one by one, each host one at a time: the
  # array, the view of it that is written, and the devices' copy.
  embedding = plan.cfg.vocab_size * plan.cfg.width
  largest = (
    3 * 4.0 * max(embedding, 2 * plan.cfg.width * plan.cfg.layer_sizes.ffn)
  )
  return dict(
    # The shards of the devices are read one after another.
    load=PROCESS + layers.largest_shard(plan),
    run=PROCESS + state + rows * plan.row_len * token,
    export=PROCESS + largest,
  )
