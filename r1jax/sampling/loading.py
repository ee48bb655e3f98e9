"""Loads a policy for a stage, checks it against the run, makes its Sampler.

`config` is that of a stage, with init, seed, skip_bad_records, drop_too_long,
prompt, sample and compute.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from r1jax.checkpoints import policy
from r1jax.checkpoints.policy import Policy
from r1jax.data import templates
from r1jax.data.formats import Record
from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement
from r1jax.models import transformer
from r1jax.models.transformer import ModelConfig
from r1jax.sampling import page_table
from r1jax.sampling.generate import Sampler


class SamplingModel(NamedTuple):
  sampler: Sampler
  params: dict  # on the devices


def load_policy(
  config: Any, placement: Placement, records: Sequence, max_new_tokens: int
) -> tuple[Policy, int, list[Record]]:
  """(the policy of config.init, the number of tokens of the longest prompt, the
  records whose prompts are not too long).

  Raises UserError if check_policy does, or if prompts are longer than
  config.prompt.max_len and neither config.skip_bad_records nor drop_too_long
  leaves them out, or if config.sample.cache_tokens is too small.
  """
  model = policy.load(config.init, config.compute, None, config.seed)
  kept, width = templates.fitting(
    model.tokenizer,
    records,
    config.prompt,
    config.skip_bad_records,
    config.drop_too_long,
  )
  tokens = width + max_new_tokens + config.prompt.results_len
  page_table.check(config.sample, tokens)
  check_policy(placement, model.params, model.cfg, tokens)
  return model, width, kept


def check_policy(
  placement: Placement, params: dict, cfg: ModelConfig, max_tokens: int
) -> None:
  """Raises UserError if rows of max_tokens exceed the model's context, or if
  the mesh does not divide its parameters."""
  policy.check_length(cfg, max_tokens)
  device_placement.shardings(placement, params)


def make_sampler(
  config: Any, placement: Placement, model: Policy, prompt_width: int
) -> Sampler:
  """The Sampler of a policy. The caller puts its parameters on the devices."""
  options = config.prompt, config.sample, prompt_width
  scan_layers = config.compute.scan_decode
  return Sampler(placement, model.cfg, model.tokenizer, *options, scan_layers)


def put_frozen(placement: Placement, model: Policy) -> dict:
  """The parameters of a policy that is not trained, on the devices."""
  params = transformer.frozen(model.params, model.cfg)
  return device_placement.put_state(placement, params)
