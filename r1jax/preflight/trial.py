"""A few responses of a small model, sampled on this machine: whether sampler
and trainer agree, and how many groups have no gradient."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from r1jax.checkpoints import policy
from r1jax.checkpoints.policy import Policy
from r1jax.data import record_files, templates
from r1jax.distributed import device_placement
from r1jax.rewards import registry
from r1jax.rewards.registry import Reward
from r1jax.rl import grpo
from r1jax.rl.rl_config import Config
from r1jax.sampling.generate import Sampler, Samples

MAX_PARAMETERS = 2e8
RECORDS, SAMPLES, TOKENS = 8, 8, 256  # maxima; SAMPLES of each record


def load(config: Config) -> Policy:
  """The policy of config.init, with its parameters in host memory."""
  model = policy.load(config.init, config.compute, None, config.seed)
  return model._replace(params=jax.tree.map(np.asarray, model.params))


def sample(config: Config, model: Policy, records: list[dict]) -> Samples:
  """SAMPLES responses to each of a few records, on one device."""
  count = min(RECORDS, len(records))
  index = record_files.prompt_indices(config.seed, 0, count, len(records))
  chosen = [records[i] for i in index]
  prompts = templates.encode_prompts(model.tokenizer, chosen, config.prompt)
  width, parallel = max(map(len, prompts)), device_placement.ParallelConfig()
  placement = device_placement.placement(parallel, jax.local_devices()[:1])
  prompt = dataclasses.replace(config.prompt, tool='')
  options = dataclasses.replace(
    config.sample,
    decode_slots=RECORDS * SAMPLES,
    max_new_tokens=min(config.sample.max_new_tokens, TOKENS),
  )
  sampler = Sampler(
    placement, model.cfg, model.tokenizer, prompt, options, width, True
  )
  key = jax.random.key(config.seed)
  return sampler.sample(model.params, chosen, np.arange(count), key, SAMPLES)


def logp_errors(config: Config, model: Policy, samples: Samples) -> np.ndarray:
  """|log p(sampler) - log p(trainer)| of the tokens of a sample per record."""
  rows = jax.tree.map(lambda a: a[::SAMPLES], samples.rows)
  columns = dict(tokens_BL=rows.tokens_BL, pos_BL=rows.pos_BL)
  logprobs = jax.jit(grpo.make_logprobs(model.cfg, config.sample.temperature))
  logp_BL = np.asarray(logprobs(model.params, columns))
  return np.abs(logp_BL - rows.logp_BL)[rows.mask_BL]


def pass_rates(
  config: Config, samples: Samples, rules: Mapping[str, Reward]
) -> np.ndarray | None:
  """The share of correct samples of each record, [P]; None if accuracy is not
  among the rewards. `rules` are those of the run's verifiers."""
  by_domain = {name: _rules(x) for name, x in config.by_domain.items()}
  _, parts = registry.weighted_rewards(
    _rules(config.rewards), samples.records, samples.texts, by_domain, rules
  )
  if 'accuracy' not in parts:
    return None
  correct_PG = np.nan_to_num(parts['accuracy']).reshape(-1, SAMPLES) > 0.5
  return correct_PG.mean(axis=1)


def _rules(weights):
  """The weights of rewards that need no trained model."""
  return {name: w for name, w in weights.items() if name in registry.REWARDS}


def dead_share(rate_P: np.ndarray, group_size: int) -> float:
  """mean(p^G + (1 - p)^G): the expected share of groups whose samples are all
  correct or all incorrect."""
  return float(np.mean(rate_P**group_size + (1 - rate_P) ** group_size))
