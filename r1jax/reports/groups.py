"""The responses of a run by step and prompt, as the script of a page reads them:
whole groups where they are logged, else the samples that are."""

import collections
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

STEPS = 40  # of a run that a page shows
GROUPS = 8  # of a step
PROBLEMS = 40  # of an evaluated set
CHARACTERS = 20_000  # of a text; the middle of a longer one is left out
TOKENS = 6_000  # of a response with numbers of its tokens
CHOICE = 60  # characters of a prompt in the list of prompts
PER_TOKEN = 'ratio', 'entropy', 'logprob'

Groups = list[dict[str, Any]]  # for the script


def of_run(
  name: str,
  group_lines: Sequence[dict],
  sample_lines: Sequence[dict] = (),
  token_lines: Sequence[dict] = (),
  count: int = STEPS,
) -> Groups:
  """The groups of about `count` steps of a run: the lines of groups.jsonl or,
  in a run that has none, those of samples.jsonl; those of tokens.jsonl are in
  place of the others of their steps."""
  by_step: dict[int, list[dict]] = collections.defaultdict(list)
  for line in group_lines or _gathered(sample_lines):
    by_step[line['step']].append(line)
  with_tokens = collections.defaultdict(list)
  for line in token_lines:
    with_tokens[line['step']].append(line)
  by_step |= with_tokens
  steps = {*spread(sorted(by_step), count), *with_tokens}
  found = []
  for step in sorted(steps):
    for line in by_step[step][:GROUPS]:
      found.append(group(name, f'step {step:,}', line))
  return found


def of_problems(
  name: str, lines: Sequence[Mapping[str, Any]], samples: int
) -> Groups:
  """The problems of an evaluated set, `samples` adjacent lines each."""
  found = []
  for start in spread(range(0, len(lines), samples), PROBLEMS):
    own = lines[start : start + samples]
    made = dict(id=own[0]['id'], prompt=own[0]['prompt'])
    made['answer'] = own[0].get('answer')
    made['samples'] = [_evaluated(line) for line in own]
    found.append(group(name, f'problem {start // samples + 1:,}', made))
  return found


def group(run: str, title: str, line: Mapping[str, Any]) -> dict[str, Any]:
  """A line of groups.jsonl for the script."""
  prompt, samples = prompt_text(line['prompt']), line['samples']
  first_line = ' '.join(prompt.split())[:CHOICE]
  remarks = [f'{line["id"]}.']
  if line.get('is_part'):
    remarks.append(f'{len(samples)} of its responses are logged.')
  return dict(
    run=run,
    title=title,
    name=first_line or str(line['id']),
    prompt=shortened(prompt),
    gold=gold_text(line.get('answer')),
    remark=' '.join(remarks),
    responses=_merged([response(sample) for sample in samples]),
  )


def response(sample: Mapping[str, Any]) -> dict[str, Any]:
  """A response for the script, with numbers of its tokens if it has them."""
  end = 'finished' if sample['finished'] else 'truncated'
  made = dict(
    text=shortened(sample['response']),
    reward=sample.get('reward'),
    advantage=sample.get('advantage'),
    parts=sample['rewards'],
    remark=f'{sample["length"]} tokens, {end}',
  )
  if 'tokens' in sample:
    made['tokens'] = _without_middle(sample['tokens'], _left_out_token)
    for name in PER_TOKEN:
      numbers = [_rounded(x) for x in sample[name]]
      made[name] = _without_middle(numbers, _left_out_number)
  return made


def _merged(responses):
  """The responses by falling reward; equal ones once, with their number."""
  counts = collections.Counter((x['text'], x['reward']) for x in responses)
  merged = {(x['text'], x['reward']): x for x in reversed(responses)}
  made = []
  for one in reversed(merged.values()):
    count = counts[one['text'], one['reward']]
    times = f', {count} times' if count > 1 else ''
    made.append(dict(one, remark=one['remark'] + times))
  return sorted(made, key=_falling_reward)


def _falling_reward(made):
  reward = made['reward']
  is_number = isinstance(reward, int | float) and math.isfinite(reward)
  return -reward if is_number else math.inf


def prompt_text(prompt: Any) -> str:
  """A prompt as text; of a conversation each message after its role."""
  if isinstance(prompt, str):
    return prompt
  if isinstance(prompt, list) and all(isinstance(x, dict) for x in prompt):
    messages = []
    for message in prompt:
      messages.append(f'[{message.get("role")}] {message.get("content")}')
    return '\n\n'.join(messages)
  return json.dumps(prompt, ensure_ascii=False)


def gold_text(answer: Any) -> str | None:
  """A gold answer as text; alternatives are separated by 'or'."""
  if answer is None:
    return None
  answers = answer if isinstance(answer, list) else [answer]
  return shortened(' or '.join(map(str, answers)), 2_000)


def plain_answer(answer: Any) -> Any:
  """A gold answer as JSON; that of a user's own scorer may be any object."""
  if answer is None or isinstance(answer, str | int | float):
    return answer
  return [str(x) for x in (answer if isinstance(answer, list) else [answer])]


def shortened(text: str, limit: int = CHARACTERS) -> str:
  """The beginning and the end of a long text."""
  if len(text) <= limit:
    return text
  head = limit * 2 // 3
  tail = limit - head
  left_out = f'\n\n[… {len(text) - head - tail:,} characters left out …]\n\n'
  return text[:head] + left_out + text[-tail:]


def spread(items: Sequence[Any], count: int) -> list[Any]:
  """At most `count` of the items, evenly spaced, with the first and the last."""
  if len(items) <= count:
    return list(items)
  places = np.linspace(0, len(items) - 1, count).round().astype(int)
  return [items[n] for n in places]


def _evaluated(line):
  """A line of an evaluation as a sample of a group."""
  parts = {}
  for name in ('accuracy', 'format', 'language'):
    if name in line:
      parts[name] = line[name]
  return dict(line, rewards=parts)


def _gathered(sample_lines):
  """The lines of samples.jsonl as parts of groups, by step and record."""
  found: dict[Any, dict] = {}
  for line in sample_lines:
    key = line['step'], str(line['id'])
    made = dict(
      step=line['step'],
      id=line['id'],
      prompt=line['prompt'],
      samples=[],
      is_part=True,
    )
    found.setdefault(key, made)['samples'].append(line)
  return list(found.values())


def _rounded(number):
  return None if number is None else float(f'{number:.4g}')


def _without_middle(items, left_out):
  """The beginning and the end of a long list, and what stands between them."""
  if len(items) <= TOKENS:
    return list(items)
  head = TOKENS * 2 // 3
  tail = TOKENS - head
  return [*items[:head], left_out(len(items) - head - tail), *items[-tail:]]


def _left_out_token(count):
  return f'\n\n[… {count:,} tokens left out …]\n\n'


def _left_out_number(count):
  return None
