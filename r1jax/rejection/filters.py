"""Which of a policy's samples are fit to be learnt from (R1, B.3.3), and which
of those are kept, so that no prompt and no domain outweighs the others."""

import collections
import dataclasses
import re

from r1jax.config import option
from r1jax.data import record_files, templates
from r1jax.rewards import language, repetition

FENCE = re.compile(r'```|^ {0,3}~~~', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class FilterConfig:
  """R1 names what it drops, not where it draws the lines: these are ours."""

  language: float = option(
    0.95,
    "least share of its prompt's language in the thinking: a foreign word in "
    'twenty is a term, more is a mixture; 0: any',
    least=0,
  )
  paragraph: int = option(
    1000,
    'most characters of the thinking between two blank lines, some 170 English '
    'words; 0: any',
    least=0,
  )
  code: bool = option(False, 'keep thinking with fenced code blocks')
  window: int = option(
    40, 'characters of the pieces that may not come again and again', least=1
  )
  repeated: float = option(
    0.2,
    'most share of these pieces that stood before: good reasoning repeats '
    'phrases, a loop nearly everything; 1: any',
    least=0,
  )


def fault(c, record, text):
  """The first reason not to learn from a response, or ''."""
  thinking, rest = language.thinking(text), templates.think_split(text)[1]
  if language.mixed(thinking, language.target(record), c.language):
    return 'mixed languages'
  if c.paragraph and longest_paragraph(thinking) > c.paragraph:
    return 'long paragraph'
  if not c.code and FENCE.search(thinking):
    return 'code block'
  if max(repetition.repeated(x, c.window) for x in (thinking, rest)) > (
    c.repeated
  ):
    return 'repetition'
  return ''


def longest_paragraph(text):
  """The most characters between two blank lines."""
  longest = length = 0
  for line in text.split('\n'):
    length = length + len(line) if line.strip() else 0
    longest = max(longest, length)
  return longest


def balance(samples, per_prompt, per_domain, seed):
  """The samples, those that are too many with a reason of their own.

  Of a prompt the first `per_prompt` different responses are kept as they were
  drawn, which is by chance and favours no length. Of a domain in per_domain so
  many: one of each prompt before the second of any, prompts by the seed.
  """
  reasons, ranked, kept = {}, [], collections.defaultdict(list)
  for n, sample in enumerate(samples):
    if sample['reason']:
      continue
    mine = kept[sample['number']]
    if sample['response'] in mine:
      reasons[n] = 'duplicate'
    elif len(mine) == per_prompt:
      reasons[n] = 'enough of its prompt'
    else:
      ranked.append((len(mine), n))
      mine.append(sample['response'])
  place = record_files.prompt_indices(seed, 0, len(samples), len(samples))
  room = dict(per_domain)
  for _, n in sorted(ranked, key=lambda x: (x[0], place[x[1]])):
    domain = samples[n]['domain']
    if domain in room:
      room[domain] -= 1
      if room[domain] < 0:
        reasons[n] = 'enough of its domain'
  return [
    dict(sample, reason=reasons.get(n, sample['reason']))
    for n, sample in enumerate(samples)
  ]


def reasons(samples):
  """'3 truncated, 1 accuracy': how many are rejected for what."""
  counts = collections.Counter(x['reason'] for x in samples if x['reason'])
  return ', '.join(f'{n} {name}' for name, n in counts.most_common())


def tally(k, samples, chosen, mixed):
  """What became of the samples: by reason, by domain, and how many prompts
  have how many of their k samples accepted, the balance left aside."""

  def domains(rows):
    return collections.Counter(x['domain'] for x in rows)

  kept = [x for x in chosen if not x['reason']]
  drawn, of_kept, of_mixed = map(domains, (samples, kept, mixed))
  accepted = collections.Counter(
    dict.fromkeys((x['number'] for x in samples), 0)
  )
  accepted.update(x['number'] for x in samples if not x['reason'])
  prompts = collections.Counter(accepted.values())
  why = collections.Counter(x['reason'] for x in chosen if x['reason'])
  return dict(
    samples=len(samples),
    kept=len(kept),
    mixed=len(mixed),
    reasons=dict(why.most_common()),
    domains={
      name: dict(samples=drawn[name], kept=of_kept[name], mixed=of_mixed[name])
      for name in sorted({*drawn, *of_mixed})
    },
    accepted_per_prompt={f'{n}/{k}': prompts[n] for n in range(k + 1)},
  )
