"""Could a perfect response be written, end, and be rewarded under this prompt,
this tokenizer and these rewards?"""

from r1jax import errors
from r1jax.data import templates
from r1jax.rewards import registry

RECORDS = 64  # how many are looked at
# Rewards that a perfect response has whole.
WHOLE = 'accuracy', 'format', 'think_format'


def checks(Check, c, words, records):
  """The Checks of prompts, end tokens and ideal responses."""
  some = records[:: max(1, len(records) // RECORDS)][:RECORDS]
  try:
    prompts = templates.encode_prompts(words, some, c.prompt)
  except errors.UserError as error:
    yield Check('prompts', False, str(error))
    return
  longest = max(map(len, prompts))
  yield Check(
    'prompts',
    True,
    f'{longest} tokens at most in {len(some)} records, {c.prompt.max_len} '
    'allowed',
  )
  yield Check('end token', *ending(c, words))
  asked = [(r, p) for r, p in zip(some, prompts) if not registry.is_code(r)]
  if not asked:
    yield Check('ideal responses', None, 'the records ask for programs')
    return
  found = [ideal(c, words, record, prompt) for record, prompt in asked]
  bad = [problem for problem in found if problem]
  if bad:
    yield Check(
      'ideal responses', False, f'{len(bad)} of {len(found)} fail: {bad[0]}'
    )
  else:
    yield Check(
      'ideal responses',
      True,
      f'{len(found)} of {len(found)} end, fit and get every reward',
    )


def ending(c, words):
  """(good, text): whether the ids that end a row can be drawn, and are those
  that the chat template ends a turn with."""
  ends = c.sample.eos_ids or words.eos_ids
  if not ends and not c.prompt.stop_strings:
    return False, 'neither an end token nor config.prompt.stop_strings'
  lost = [n for n in ends if not 0 <= n < words.vocab_size]
  if lost:
    return False, f'{lost} are no ids of the tokenizer, so they are never drawn'
  named = ', '.join(f'{n} {words.decode([n])!r}' for n in ends)
  if c.prompt.template == 'chat':

    def user(text):
      return dict(role='user', content=text)

    turn = dict(role='assistant', content='MARK')
    rest = words.chat([user('a'), turn, user('b')]).partition('MARK')[2]
    first = words.encode(rest)[:1]
    if first and first[0] not in ends:
      return False, (
        f'the chat template ends a turn with {first[0]} '
        f'{words.decode(first)!r}, rows end with {named}: set '
        'config.sample.eos_ids'
      )
  return True, named or 'none: stop texts alone end a response'


def ideal(c, words, record, prompt):
  """What is wrong with the response that should get everything; '' if
  nothing."""
  weights = c.by_domain.get(record.get('domain'), c.rewards)
  asked = [name for name in weights if name in WHOLE]
  text, short = '', ''
  for answer in (str(record.get('answer', '')), boxed(record)):
    text = written(c, answer)
    _, parts = registry.weighted_rewards(
      {n: 1.0 for n in asked or ['format']}, [record], [text]
    )
    lost = [name for name in asked if not parts[name][0] == 1]
    short = f'record {record["id"]}: {text!r} gets no {", ".join(lost)}'
    if not lost:
      break
  else:
    return short
  ids = words.encode(words.decode(prompt) + text.removeprefix(c.prompt.prefill))
  new = ids[len(prompt) :]
  if ids[: len(prompt)] != list(prompt):
    return (
      f'record {record["id"]}: the tokenizer joins the end of the prompt with '
      'the beginning of the response: end the template or the prefill otherwise'
    )
  if words.decode(new) != text.removeprefix(c.prompt.prefill):
    return f'record {record["id"]}: {text!r} does not survive the tokenizer'
  if len(new) + 1 > c.sample.max_new_tokens:
    return f'record {record["id"]}: {len(new)} tokens, max_new_tokens is {c.sample.max_new_tokens}'
  return unstopped(c, words, new)


def unstopped(c, words, new):
  """What keeps stop texts from ending these ids; '' where one does, or none is
  set."""
  stops = [words.encode(text) for text in c.prompt.stop_strings]
  stops += [list(ids) for ids in c.sample.stop_token_sequences]
  if not stops or any(new[-len(stop) :] == stop for stop in stops):
    return ''
  tail = [words.decode([n]) for n in new[-4:]]
  return (
    f'no stop of config.prompt.stop_strings ends it: the tokenizer writes its end as '
    f'{tail}'
  )


def written(c, answer):
  """Thinking and answer in their tags, after the prefill."""
  text = f'<think>\nSo.\n</think>\n<answer>{answer}</answer>'
  prefill = c.prompt.prefill
  return text if text.startswith(prefill) else prefill + text


def boxed(record):
  return f'\\boxed{{{record.get("answer", "")}}}'
