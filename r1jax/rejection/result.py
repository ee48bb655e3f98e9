"""The files of the reject stage: kept records, rejected samples and counts."""

import json
from pathlib import Path

from r1jax import errors, files
from r1jax.data import record_files
from r1jax.rejection import filters, llm_judge
from r1jax.rejection.reject_config import Config
from r1jax.rewards.verdict import Records

# The keys of rejected.jsonl, and of records.jsonl, which the sft stage reads.
REJECTED_KEYS = 'id', 'response', 'reason'
KEYS = 'id', 'turns', 'prompt', 'answer', 'response', 'domain'


def write(
  config: Config, records: Records, mix: Records, samples: Records, folder: Path
) -> None:
  """Balances the samples and writes the files, records.jsonl last: its
  existence marks the run as finished. Raises UserError if no sample is kept."""
  chosen = filters.balance(
    samples, config.per_prompt, config.per_domain, config.seed
  )
  kept = [records[x['number']] | x for x in chosen if not x['reason']]
  rejected = [_only(REJECTED_KEYS, x) for x in chosen if x['reason']]
  files.write_jsonl(folder / 'rejected.jsonl', rejected)
  counts = filters.tally(config.samples, samples, chosen, mix)
  files.write_text(folder / 'counts.json', json.dumps(counts, indent=2) + '\n')
  reasons = filters.summarize_reasons(chosen)
  print(f'kept {len(kept)} of {len(samples)} samples; rejected: {reasons}')
  needs_judge = [llm_judge.needs_judge(config.judge, x) for x in records]
  judged = {x['reason'] for x in samples if needs_judge[x['number']]}
  if judged & {'no verdict', '', 'incorrect'} == {'no verdict'}:
    raise errors.UserError(
      f'the LLM judge gave no verdict, see {folder / "chunks"}: change '
      'config.judge.init, .question_template or .prompt, with a new --workdir'
    )
  if not kept:
    raise errors.UserError(
      f'none of the {len(samples)} samples was kept ({reasons}), see '
      f'{folder / "rejected.jsonl"}: raise config.samples, or lower '
      'config.min_rewards or config.filters, with a new --workdir'
    )
  rows = [_only(KEYS, row) for row in (*kept, *mix)]
  order = record_files.prompt_indices(config.seed, 0, len(rows), len(rows))
  files.write_jsonl(folder / 'records.jsonl', [rows[n] for n in order])


def _only(keys, row):
  """The row with these keys alone."""
  return {key: row[key] for key in keys if key in row}
