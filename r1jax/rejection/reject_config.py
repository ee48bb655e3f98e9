"""What the reject stage is told, and what it refuses before it begins."""

from __future__ import annotations

import dataclasses

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.config import option
from r1jax.data import record_files, tasks, templates
from r1jax.distributed import device_placement
from r1jax.rejection import filters, llm_judge
from r1jax.rewards import language, registry, verifiers
from r1jax.sampling import decode


@dataclasses.dataclass(frozen=True)
class Config:
  init: str = option('', "a model's directory, GGUF file or hub name")
  data: str = option('', 'records: a path, toy:… or gym:…')
  samples: int = option(
    16, "samples a prompt; the paper does not say: RL's group", least=1
  )
  prompts_per_chunk: int = option(
    32, 'prompts sampled at one time and saved together', least=1
  )
  seed: int = option(0, 'of everything that is drawn', least=0)
  min_rewards: dict[str, float] = option(
    dict(accuracy=1.0, format=1.0), 'least value by name of reward'
  )
  per_prompt: int = option(
    1, 'most responses kept of a prompt; the paper does not say', least=1
  )
  per_domain: dict[str, int] = option(
    {}, "most responses kept by domain; it names all of the data's, or none"
  )
  mix: str = option('', 'records with responses of their own to mix in')
  mix_count: int = option(0, 'how many of them, by the seed; 0: all', least=0)
  filters: filters.FilterConfig = filters.FilterConfig()
  judge: llm_judge.JudgeConfig = llm_judge.JudgeConfig()
  prompt: templates.PromptConfig = templates.PromptConfig()
  sample: decode.SampleConfig = decode.SampleConfig()
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


def check(c):
  """Refuses what cannot work, with a sentence."""
  for name, x in (('', c), ('judge.', c.judge)):
    if not all(x.prompt.stop_strings + x.sample.stop_token_sequences):
      raise errors.UserError(
        f'config.{name}prompt.stop_strings or config.{name}sample.stop_token_sequences has an empty '
        'entry, which would end every response at once: leave it out'
      )
    if not 0 < x.sample.top_p <= 1:
      raise errors.UserError(
        f'config.{name}sample.top_p is {x.sample.top_p}: it must be above 0 '
        'and at most 1'
      )
  if c.sample.temperature == 0 and c.samples > 1:
    raise errors.UserError(
      f'config.sample.temperature is 0, which draws the same {c.samples} times: set '
      'it above 0, or config.k to 1'
    )
  for name, most in c.per_domain.items():
    if most < 1:
      raise errors.UserError(
        f'config.per_domain.{name} is {most}; it must be at least 1'
      )
  if c.mix_count and not c.mix:
    raise errors.UserError(
      f'config.mix_count is {c.mix_count}, but config.mix names no records'
    )


def load(c):
  """(records to sample, records to mix in), all checked."""
  records = tagged(
    tasks.load_records(c.data, c.seed), registry.REASONING_DOMAINS[0]
  )
  for record in records:
    language.target(record)
    if c.per_domain and record['domain'] not in c.per_domain:
      raise errors.UserError(
        f'record {record["id"]} has the domain {record["domain"]!r}, which '
        f'config.per_domain does not name ({", ".join(c.per_domain)}): add it'
      )
  for name in (*c.per_domain, *c.judge.domains):
    if name not in [record['domain'] for record in records]:
      raise errors.UserError(
        f'config.per_domain or config.judge.domains names {name!r}, but no '
        f'record of {c.data} is of that domain: leave it out'
      )
  judged = [x for x in records if llm_judge.judges(c.judge, x)]
  llm_judge.check(c.judge, judged)
  ruled = [x for x in records if not llm_judge.judges(c.judge, x)]
  registry.check_rewards(c.min_rewards, ruled)
  return records, load_mix(c, records) if c.mix else []


def tagged(records, domain):
  """The records, each with its own domain or else this one."""
  for record in records:
    if not isinstance(record.get('domain', domain), str):
      raise errors.UserError(
        f'record {record["id"]} has the domain {record["domain"]!r}: make it a '
        'text, or leave the key out'
      )
  return [dict(domain=domain) | record for record in records]


def load_mix(c, records):
  """The records to mix in, drawn by the seed."""
  mixed = tagged(tasks.load_records(c.mix, c.seed), 'general')
  size = c.mix_count or len(mixed)
  if size > len(mixed):
    raise errors.UserError(
      f'config.mix_count is {size}, but {c.mix} has {len(mixed)} records: ask '
      'for fewer'
    )
  ids = {f'{x["id"]}/{n}' for x in records for n in range(c.samples)}
  for record in mixed:
    if not isinstance(record.get('response'), str):
      raise errors.UserError(
        f'record {record["id"]} of {c.mix} has no response to mix in: give it '
        'one, or leave it out'
      )
    if record['id'] in ids:
      raise errors.UserError(
        f'the id {record["id"]} of {c.mix} is also that of a sample of '
        f'{c.data}: rename it'
      )
  return [
    mixed[n] for n in record_files.prompt_indices(c.seed, 0, size, len(mixed))
  ]
