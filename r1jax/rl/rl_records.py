"""The records that an rl run trains and evaluates on."""

from r1jax import errors
from r1jax.data import mixture, record_files
from r1jax.data.bad_records import BadRecords
from r1jax.data.formats import Record
from r1jax.evaluation import held_out
from r1jax.rewards import registry
from r1jax.rl import curriculum, rl_config
from r1jax.rl.rl_config import Config


def load_records(config: Config) -> tuple[list[Record], list[Record]]:
  """(training records, held-out records), golds and domains checked."""
  columns, mix = config.prompts_map, config.prompts_mix
  records = _good_records(config, config.prompts, mix, config.seed, columns)
  records = _ordered(config, records)
  if config.eval.data:
    columns = config.eval.data_map or columns
    held_out_records = _good_records(
      config, config.eval.data, {}, config.seed + 1, columns
    )
  else:
    records, held_out_records = record_files.split(
      records, config.eval.held_out, config.seed
    )
  check_records(config, records, held_out_records)
  return records, held_out_records


def check_records(
  config: Config, records: list[Record], held_out_records: list[Record]
) -> None:
  """Raises UserError if the records are too few to train or to evaluate on."""
  if not records:
    raise errors.UserError(f'no record of {config.prompts_name} can be used')
  if config.domains_from and not first_records(config, records):
    raise errors.UserError(
      f'all records of {config.prompts_name} are of domains of config.by_domain: '
      f'there is none for the steps before config.domains_from'
    )
  if config.eval.every:
    held_out.check_records(
      config.eval,
      rl_config.reward_tables(config.rewards, config.by_domain),
      (
        registry.weights_for(config.rewards, config.by_domain, record)
        for record in held_out_records
      ),
    )


def _good_records(config, source, mix, seed, columns):
  """The records of a source. Raises UserError for those that cannot be used, or
  leaves them out."""
  bad = BadRecords(config.skip_bad_records)
  records = mixture.load_records(source, mix, seed, bad, columns)
  records = registry.check_rewards(
    config.rewards,
    records,
    config.by_domain,
    config.reward_models,
    bad,
    config.verify,
  )
  bad.finish(len(records), mixture.name_of(source, mix))
  return records


def _ordered(config, records):
  """The records that have a difficulty, if a curriculum needs it. Raises
  UserError for the others, or leaves them out."""
  if not config.curriculum.difficulty:
    return records
  keys = {key: None for record in records for key in record}
  if config.curriculum.difficulty not in keys:
    raise errors.UserError(
      f'no record of {config.prompts_name} has the key '
      f'{config.curriculum.difficulty!r} of config.curriculum.difficulty: their '
      f'keys are {", ".join(keys)}'
    )
  bad, kept = BadRecords(config.skip_bad_records), []
  for record in records:
    with bad.noted(record['id']):
      curriculum.difficulty_of(config.curriculum, record)
      kept.append(record)
  bad.finish(len(kept), config.prompts_name)
  return kept


def verified_records(config: Config, records: list[Record]) -> list[Record]:
  """The records whose accuracy is among their rewards."""
  return registry.verified_records(config.rewards, records, config.by_domain)


def first_records(config: Config, records: list[Record]) -> list[Record]:
  """The records that are sampled before config.domains_from: those whose domain
  is not in config.by_domain."""
  return [x for x in records if x.get('domain') not in config.by_domain]
