"""A work directory of rl as a run leaves it, written without a run."""

import dataclasses
import json

import toy

from r1jax import config as configs
from r1jax import files
from r1jax.checkpoints import policy, pretrained
from r1jax.checkpoints.policy import ComputeConfig, ScratchConfig
from r1jax.training import checkpoint, config_changes, run_record
from r1jax.training.run_record import RunRecord

SCRATCH = ScratchConfig(layers=2, width=16, heads=2, ffn=24)
COMMIT = '0123456789abcdef' * 2
EVALUATED = {
  0: {'eval/pass1': 0.125, 'eval/low': 0.05, 'eval/high': 0.25},
  2: {'eval/pass1': 0.75, 'eval/low': 0.5, 'eval/high': 0.875},
  4: {'eval/pass1': 0.5, 'eval/low': 0.25, 'eval/high': 0.625},
}


def scratch(seed=0):
  """A small policy with a tokenizer of bytes."""
  return policy.load('scratch', ComputeConfig(), SCRATCH, seed)


def write_run(folder, *changes, is_finished=True):
  """The directory of a run of four steps, whose checkpoints have the weights of
  different seeds: 2, with the highest score, and 4, its result."""
  base, run = folder / 'base', folder / 'zero'
  pretrained.save(base, *scratch(seed=1))
  config = toy.built('rl', f'init={base}', *changes)
  content = config_changes.plain(dataclasses.asdict(config))
  default = config_changes.plain(dataclasses.asdict(type(config)()))
  record = RunRecord(
    config=content, changed=configs.changes(default, content), inputs={}
  )
  run_record.write(run, record)
  manager = checkpoint.open_manager(run / 'checkpoints', 2, 1)
  for step in (2, 4):
    state = dict(train=dict(params=scratch(seed=step).params))
    score = EVALUATED[step]['eval/pass1']
    checkpoint.save(manager, step, state, dict(step=step), score)
  checkpoint.close(manager)
  means = {'eval/reward': 0.5, 'eval/problems': 11, 'eval/unscored': 0.0}
  lines = [dict(step=n) | EVALUATED[n] | means for n in EVALUATED]
  files.write_jsonl(run / 'metrics.jsonl', lines)
  start = dict(step=0, commit=COMMIT, host='secret', packages=dict(jax='1.2.3'))
  (run / 'starts.jsonl').write_text(json.dumps(start) + '\n')
  if is_finished:
    pretrained.save(run / 'model', *scratch(seed=4))
  return run
