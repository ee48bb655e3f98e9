"""Rejection sampling: a policy's correct and readable responses, balanced and
mixed with other records, for sft to learn from (R1, B.3.3)."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np

from r1jax import (
  config as configs,
)
from r1jax import (
  data,
  errors,
  files,
  filters,
  generate,
  hosts,
  judge,
  metrics,
  parallel,
  policy,
  reject_config,
  rewards,
  spmd,
  verifiers,
)
from r1jax.reject_config import Config

KEYS = 'id', 'turns', 'prompt', 'answer', 'response', 'domain'  # as sft reads


@dataclasses.dataclass(frozen=True)
class Run:
  """What stays the same from the first chunk of a run to the last."""

  c: Config
  records: list
  draw: Callable  # (records, numbers, key) -> k samples of each
  ask: Callable  # the same of the judge, one sample a question
  fits: Callable  # (question) -> whether the judge's prompt holds it
  key: jax.Array


def run(config, workdir):
  """Leaves records.jsonl for sft, and beside it rejected.jsonl, counts.json."""
  c = configs.build(Config, config)
  workdir = pathlib.Path(workdir)
  place = parallel.placement(c.parallel)
  reject_config.check(c)
  records, mixed = reject_config.load(c)
  judged = [x for x in records if judge.judges(c.judge, x)]
  model, referee, width = load_models(c, place, records, judged)
  with verifiers.opened(c.verify, records) as judges:
    tier = judges.tier and judges.tier.name
    hosts.agree(workdir, config=c, records=records + mixed, sandbox=tier)
    hosts.once(lambda: configs.claim(workdir, Config, config))
    if hosts.once((workdir / 'records.jsonl').exists):
      print(f'{workdir} is finished: see {workdir / "records.jsonl"}')
      return
    draw = generator(
      c, place, model, c.prompt, c.sample,
      generate.at_once(functools.partial(score, c, judges.rules)), width, c.k,
    )  # fmt: skip
    ask = generator(
      c, place, referee, c.judge.prompt, c.judge.sample,
      lambda *_: generate.known(None, {}), c.judge.prompt.max_len, 1,
    ) if judged else None  # fmt: skip
    fits = functools.partial(judge.fits, c.judge, referee[2])
    r = Run(c, records, draw, ask, fits, jax.random.key(c.seed))
    samples = sample_all(r, workdir / 'chunks')
    hosts.once(lambda: finish(r, mixed, samples, workdir))


def load_models(c, place, records, judged):
  """(the policy, the judge, the longest prompt), all of them checked."""
  model = policy.load(c.init, c.compute, None, c.seed)
  width = max(map(len, generate.encode(model[2], records, c.prompt)))
  policy.check_length(model[1], width + c.sample.max_new + c.prompt.results_len)
  parallel.shardings(place, model[0])  # Refuses what the mesh cannot cut.
  referee = model
  if judged:
    if c.judge.init != c.init:
      referee = policy.load(c.judge.init, c.compute, None, c.seed)
      parallel.shardings(place, referee[0])
    judge.check_room(c.judge, referee, judged)
  return model, referee, width


def generator(c, place, model, prompt, sc, reward, width, group):
  """(records, numbers, key) -> `group` samples of each."""
  params, cfg, words = model
  cfg = dataclasses.replace(
    cfg, scan_layers=c.compute.scan_decode, remat='none'
  )
  generated = generate.Generator(
    functools.partial(spmd.map_rows, place), place.rows, cfg, words,
    prompt, sc, reward, width,
  )  # fmt: skip
  params = parallel.put_state(place, params)
  return lambda records, numbers, key: generated(
    params, records, numbers, key, group, sc.temperature, sc.max_new
  )


def score(c, rules, records, texts):
  """(None, the rewards of c.need by name); where the judge has the word the
  accuracy is infinite."""
  parts = {}
  for name in c.need:
    rows = [
      n for n, record in enumerate(records)
      if name != 'accuracy' or not judge.judges(c.judge, record)
    ]  # fmt: skip
    parts[name] = np.full(len(texts), np.inf, np.float32)
    parts[name][rows], _ = rewards.total(
      {name: 1.0}, [records[n] for n in rows], [texts[n] for n in rows],
      more=rules,
    )  # fmt: skip
  return None, parts


def sample_all(r, folder):
  """Every sample, with the reason to reject it, chunk by chunk: those of an
  earlier process are read from their files."""
  hosts.once(lambda: folder.mkdir(exist_ok=True))
  done = hosts.once(lambda: [path.name for path in folder.iterdir()])
  c, total, samples = r.c, len(r.records), []
  began, first = time.time(), 0
  for start in range(0, total, c.questions):
    path = folder / f'{start // c.questions:05}.jsonl'
    if path.name in done:
      samples += metrics.read(path)
      first = start + c.questions
      continue
    if start and start == first:
      print(f'going on from prompt {start} of {folder.parent}')
    now = time.time()
    chunk = one_chunk(r, start)
    hosts.once(lambda: files.write_jsonl(path, chunk))
    samples += chunk
    rate = sum(x['length'] for x in chunk) / (time.time() - now)
    passed = np.mean([not x['reason'] for x in samples])
    end = min(start + c.questions, total)
    speed = dict(tokens_per_s=rate)
    line = metrics.progress(end, total, speed, began, first)
    print(
      f'prompts{line.removeprefix("step")}  accepted {passed:.1%}  rejected: '
      f'{filters.reasons(samples)}',
      flush=True,
    )
    hosts.boundary()
  return samples


def one_chunk(r, start):
  """The samples of the prompts from `start` on, filtered and judged."""
  c = r.c
  records = r.records[start : start + c.questions]
  numbers = start + np.arange(len(records))
  drawn = r.draw(records, numbers, jax.random.fold_in(r.key, 0))
  chunk = [
    dict(
      number=start + n // c.k,
      sample=n % c.k,
      response=drawn.texts[n],
      length=int(drawn.length_N[n]),
      reason=reason(c, drawn, n),
    )
    for n in range(len(drawn.texts))
  ]
  asked = []
  for n, line in enumerate(chunk):
    if not line['reason'] and judge.judges(c.judge, drawn.records[n]):
      question = judge.question(c.judge, drawn.records[n], line['response'])
      if r.fits(question):
        asked.append((line, question))
      else:
        line['reason'] = 'too long for the judge'
  found = judge.verdicts(
    c.judge, r.ask, [question for _, question in asked],
    [line['number'] * c.k + line['sample'] for line, _ in asked],
    jax.random.fold_in(r.key, 1), c.questions,
  )  # fmt: skip
  for (line, _), word in zip(asked, found):
    line['reason'] = '' if word == 'correct' else word
  return chunk


def reason(c, drawn, n):
  """Why a sample is rejected before the judge is asked, or ''."""
  if not drawn.rollout.finished_B[n]:
    return 'truncated'
  for name, least in c.need.items():
    if np.isnan(drawn.parts[name][n]):
      return 'not judged'
    if drawn.parts[name][n] < np.float32(least):
      return name
  return filters.fault(c.filters, drawn.records[n], drawn.texts[n])


def finish(r, mixed, samples, workdir):
  """Balances, counts, and writes; records.jsonl is last, the sign of the end."""
  c = r.c
  samples = [
    dict(x, id=f'{record["id"]}/{x["sample"]}', domain=record['domain'])
    for x in samples
    for record in [r.records[x['number']]]
  ]
  chosen = filters.balance(samples, c.per_prompt, c.per_domain, c.seed)
  kept = [r.records[x['number']] | x for x in chosen if not x['reason']]
  rejected = [x for x in chosen if x['reason']]
  rejected = only(('id', 'response', 'reason'), rejected)
  files.write_jsonl(workdir / 'rejected.jsonl', rejected)
  counts = filters.tally(c.k, samples, chosen, mixed)
  text = json.dumps(counts, indent=2) + '\n'
  files.write_text(workdir / 'counts.json', text)
  said = filters.reasons(chosen)
  print(f'kept {len(kept)} of {len(samples)} samples; rejected: {said}')
  answers = {
    x['reason']
    for x in samples
    if judge.judges(c.judge, r.records[x['number']])
  }
  if 'no verdict' in answers and not answers & {'', 'incorrect'}:
    raise errors.UserError(
      'the judge never answered: no reply to any question held a verdict; '
      f'nothing is lost, the samples are in {workdir / "chunks"}: try another '
      'config.judge.init, judge.ask or judge.prompt with a new --workdir'
    )
  if not kept:
    raise errors.UserError(
      f'none of the {len(samples)} samples was kept ({said}), see '
      f'{workdir / "rejected.jsonl"}: raise config.k, train config.init '
      'further, or ask for less by config.need or config.filters, with a new '
      '--workdir'
    )
  records = kept + mixed
  order = data.prompt_indices(c.seed, 0, len(records), len(records))
  rows = only(KEYS, [records[n] for n in order])
  files.write_jsonl(workdir / 'records.jsonl', rows)


def only(keys, rows):
  """Of each row these keys."""
  return [{key: row[key] for key in keys if key in row} for row in rows]
