"""The config of the reject stage and the records that it reads."""

import dataclasses

from r1jax import errors
from r1jax.checkpoints import policy
from r1jax.config import MAX_SEED, option
from r1jax.data import record_files, tasks, templates
from r1jax.data.bad_records import BadRecords
from r1jax.distributed import device_placement
from r1jax.rejection import llm_judge
from r1jax.rejection.filters import FilterConfig
from r1jax.rewards import language, registry, verifiers
from r1jax.rewards.verdict import Record
from r1jax.sampling import decode, generate


@dataclasses.dataclass(frozen=True)
class Config:
  """The config of the reject stage."""

  init: str = option(
    '', "a model's directory, GGUF file or hub name", reads='model'
  )
  data: str = option(
    '', 'records: a path, hf://…, toy:… or gym:…', is_code=True, reads='records'
  )
  data_map: dict[str, str] = option(
    {}, "columns of data, e.g. {'prompt': 'question'}"
  )
  skip_bad_records: bool = option(
    False, 'leave out, and count, records that cannot be used'
  )
  drop_too_long: bool = option(
    False, 'leave out, and count, records that are too long'
  )
  samples: int = option(16, 'samples for a prompt, as many as in RL', minimum=1)
  prompts_per_chunk: int = option(32, 'prompts saved at one time', minimum=1)
  seed: int = option(0, 'of all random numbers', minimum=0, maximum=MAX_SEED)
  min_rewards: dict[str, float] = option(
    dict(accuracy=1.0, format=1.0), 'min. value by name of reward', is_code=True
  )
  per_prompt: int = option(1, 'max. responses kept of a prompt', minimum=1)
  per_domain: dict[str, int] = option({}, 'max. responses kept of each domain')
  mix: str = option(
    '',
    'records with responses, added to the kept samples',
    is_code=True,
    reads='records',
  )
  mix_count: int = option(0, 'number of records of mix; 0: all', minimum=0)
  filters: FilterConfig = FilterConfig()
  judge: llm_judge.JudgeConfig = llm_judge.JudgeConfig()
  prompt: templates.PromptConfig = templates.PromptConfig()
  sample: decode.SampleConfig = decode.SampleConfig()
  verify: verifiers.VerifyConfig = verifiers.VerifyConfig()
  compute: policy.ComputeConfig = policy.ComputeConfig()
  parallel: device_placement.ParallelConfig = device_placement.ParallelConfig()


def check(config: Config) -> None:
  """Refuses values that cannot work."""
  generate.check(config.prompt, config.sample)
  generate.check(config.judge.prompt, config.judge.sample, 'config.judge')
  if config.sample.temperature == 0 and config.samples > 1:
    raise errors.UserError(
      'config.sample.temperature is 0, so all samples of a prompt are equal: '
      'set it above 0, or config.samples to 1'
    )
  for name, count in config.per_domain.items():
    if count < 1:
      raise errors.UserError(f'config.per_domain.{name} is {count}: raise it')
  if config.mix_count and not config.mix:
    raise errors.UserError(
      f'config.mix_count is {config.mix_count}, but config.mix names no records'
    )


def load(config: Config) -> tuple[list[Record], list[Record]]:
  """(records to sample, records to mix in), all checked."""
  bad, records = BadRecords(config.skip_bad_records), []
  columns, domain = config.data_map, registry.REASONING_DOMAINS[0]
  for record in _load(config, config.data, columns, domain, bad):
    with bad.noted(record['id']):
      language.target(record)  # refuses an unknown language
      llm_judge.needs_judge(config.judge, record)  # refuses an unknown value
      records.append(record)
  records = _good_records(config, records, bad)
  bad.finish(len(records), config.data)
  for record in records:
    if config.per_domain and record['domain'] not in config.per_domain:
      raise errors.UserError(
        f'record {record["id"]} has the domain {record["domain"]!r}, which '
        'config.per_domain does not name: add it'
      )
  domains = {record['domain'] for record in records}
  for domain in (*config.per_domain, *config.judge.domains):
    if domain not in domains:
      raise errors.UserError(
        f'config.per_domain or config.judge.domains names {domain!r}, but no '
        f'record of {config.data} is of that domain: leave it out'
      )
  return records, _load_mix(config, records) if config.mix else []


def _good_records(config, records, bad):
  """The records whose gold can be read by the LLM judge or the verifier."""
  judged = [x for x in records if llm_judge.needs_judge(config.judge, x)]
  others = [x for x in records if not llm_judge.needs_judge(config.judge, x)]
  good = llm_judge.check(config.judge, judged, bad)
  good += registry.check_rewards(
    config.min_rewards, others, bad=bad, verify=config.verify
  )
  numbers = set(map(id, good))
  return [x for x in records if id(x) in numbers]


def verified_records(config: Config, records: list[Record]) -> list[Record]:
  """The records whose accuracy a verifier decides, not the LLM judge."""
  verified = registry.verified_records(config.min_rewards, records)
  return [x for x in verified if not llm_judge.needs_judge(config.judge, x)]


def _load_mix(config, records):
  """config.mix_count records of config.mix, chosen by the seed."""
  bad, mixed = BadRecords(config.skip_bad_records), []
  sample_ids = set()
  for record in records:
    sample_ids.update(f'{record["id"]}/{n}' for n in range(config.samples))
  for record in _load(config, config.mix, {}, 'general', bad):
    with bad.noted(record['id']):
      _check_mixed(config, record, sample_ids)
      mixed.append(record)
  bad.finish(len(mixed), config.mix)
  count = config.mix_count or len(mixed)
  if count > len(mixed):
    raise errors.UserError(
      f'config.mix_count is {count}, but {config.mix} has only {len(mixed)} '
      'records: lower it'
    )
  index = record_files.prompt_indices(config.seed, 0, count, len(mixed))
  return [mixed[n] for n in index]


def _check_mixed(config, record, sample_ids):
  name = f'record {record["id"]} of {config.mix}'
  if not isinstance(record.get('response'), str):
    raise errors.UserError(f'{name} has no response: give it one, or drop it')
  if record['id'] in sample_ids:
    raise errors.UserError(
      f'the id of {name} is also that of a sample of {config.data}: rename it'
    )


def _load(config, path, columns, default, bad):
  """The records of a path, with the default domain where they have none."""
  records = []
  for record in tasks.load_records(path, config.seed, bad, columns):
    with bad.noted(record['id']):
      if not isinstance(record.get('domain', default), str):
        raise errors.UserError(
          f'record {record["id"]} has the domain {record["domain"]!r}, not a '
          'text'
        )
      records.append(dict(domain=default) | record)
  return records
