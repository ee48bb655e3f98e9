"""Loads a policy for a stage, checks it against the run, makes its Sampler.

`config` is that of a stage, with init, seed, prompt, sample and compute.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from r1jax.checkpoints import policy
from r1jax.checkpoints.policy import Policy
from r1jax.data import templates
from r1jax.distributed import device_placement
from r1jax.distributed.device_placement import Placement
from r1jax.models.transformer import ModelConfig
from r1jax.sampling.generate import Sampler


class SamplingModel(NamedTuple):
  sampler: Sampler
  params: dict  # on the devices


def load_policy(
  config: Any, placement: Placement, records: Sequence, max_new_tokens: int
) -> tuple[Policy, int]:
  """(the policy of config.init, the number of tokens of the longest prompt).

  Raises UserError if a prompt is longer than config.prompt.max_len, or if
  check_policy does.
  """
  model = policy.load(config.init, config.compute, None, config.seed)
  prompts = templates.encode_prompts(model.tokenizer, records, config.prompt)
  width = max(len(ids) for ids in prompts)
  tokens = width + max_new_tokens + config.prompt.results_len
  check_policy(placement, model.params, model.cfg, tokens)
  return model, width


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
