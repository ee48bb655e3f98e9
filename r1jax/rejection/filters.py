"""Filters of rejection sampling (R1, B.3.3), and the balance of what passes. A
sample has its prompt's 'number', 'response', 'domain', and 'reason': why it is
rejected, or ''."""

import collections
import dataclasses
import re
from collections.abc import Mapping

from r1jax.config import option
from r1jax.data import record_files, templates
from r1jax.rewards import language, penalties
from r1jax.rewards.verdict import Record, Records

FENCE = re.compile(r'```|^ {0,3}~~~', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class FilterConfig:
  """Limits of the thinking. R1 names the filters; their thresholds are ours:
  one foreign term in twenty words, 170 words between two blank lines."""

  language: float = option(0.95, 'min. share of the target; 0: off', minimum=0)
  paragraph: int = option(1000, 'max. characters of one; 0: off', minimum=0)
  code: bool = option(False, 'accept fenced code blocks in the thinking')
  window: int = option(40, 'characters of an n-gram for `repeated`', minimum=1)
  repeated: float = option(0.2, 'max. share of repeats; 1: off', minimum=0)


def reject_reason(config: FilterConfig, record: Record, text: str) -> str:
  """The first filter that rejects a response, or ''."""
  thinking, rest = language.thinking(text), templates.think_split(text)[1]
  words = language.count(thinking)
  if words[language.target(record)] < config.language * sum(words.values()):
    return 'mixed languages'
  if config.paragraph and longest_paragraph(thinking) > config.paragraph:
    return 'long paragraph'
  if not config.code and FENCE.search(thinking):
    return 'code block'
  for part in (thinking, rest):
    if penalties.repeated_share(part, config.window) > config.repeated:
      return 'repetition'
  return ''


def longest_paragraph(text: str) -> int:
  """The max. number of characters between two blank lines."""
  longest = length = 0
  for line in text.split('\n'):
    length = length + len(line) if line.strip() else 0
    longest = max(longest, length)
  return longest


def balance(
  samples: Records, per_prompt: int, per_domain: Mapping[str, int], seed: int
) -> list[dict]:
  """The samples, with a reason added to those in excess.

  Keeps the first per_prompt distinct responses of each prompt, then per_domain
  of each domain, taking one per prompt in seeded order before second ones.
  """
  balanced = [dict(sample) for sample in samples]
  order = record_files.prompt_indices(seed, 0, len(samples), len(samples))
  kept: dict[int, list[str]] = collections.defaultdict(list)  # by prompt
  ranked = []  # (rank within its prompt, place in the order, sample)
  for n, sample in enumerate(balanced):
    responses = kept[sample['number']]
    if sample['reason']:
      continue
    if sample['response'] in responses:
      sample['reason'] = 'duplicate'
    elif len(responses) == per_prompt:
      sample['reason'] = 'enough of its prompt'
    else:
      ranked.append((len(responses), order[n], n))
      responses.append(sample['response'])
  remaining = dict(per_domain)
  for _, _, n in sorted(ranked):
    domain = samples[n]['domain']
    if domain in remaining:
      remaining[domain] -= 1
      if remaining[domain] < 0:
        balanced[n]['reason'] = 'enough of its domain'
  return balanced


def summarize_reasons(samples: Records) -> str:
  """The number of rejected samples by reason: '3 truncated, 1 accuracy'."""
  return ', '.join(f'{n} {reason}' for reason, n in _reasons(samples).items())


def tally(k: int, samples: Records, balanced: Records, mixed: Records) -> dict:
  """The content of counts.json, with k samples for each prompt; prompts are
  counted by how many of their samples pass before `balance`."""
  kept = [x for x in balanced if not x['reason']]
  domains: dict[str, dict] = collections.defaultdict(dict)
  for domain in sorted({x['domain'] for x in [*samples, *mixed]}):
    for name, rows in dict(samples=samples, kept=kept, mixed=mixed).items():
      domains[domain][name] = sum(x['domain'] == domain for x in rows)
  accepted = collections.Counter({x['number']: 0 for x in samples})
  accepted.update(x['number'] for x in samples if not x['reason'])
  prompts = collections.Counter(accepted.values())
  counts: dict = dict(samples=len(samples), kept=len(kept), mixed=len(mixed))
  counts |= dict(reasons=_reasons(balanced), domains=domains)
  counts['accepted_per_prompt'] = {f'{n}/{k}': prompts[n] for n in range(k + 1)}
  return counts


def _reasons(samples):
  """The number of rejected samples by reason, most first."""
  reasons = [x['reason'] for x in samples if x['reason']]
  return dict(collections.Counter(reasons).most_common())
