"""Checks whether an ideal response is possible with this prompt, tokenizer and
rewards. Functions return the problem, or ''."""

from collections.abc import Mapping, Sequence

from r1jax.data import gold_answers, templates
from r1jax.data.templates import Prompt
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.rewards import registry
from r1jax.rewards.registry import Reward
from r1jax.rl.rl_config import Config

# The rewards that a perfect response has in full.
FULL_REWARDS = 'accuracy', 'format', 'think_format'


def end_token_problem(config: Config, tokenizer: Tokenizer) -> str:
  """Responses must end with an id that can be sampled, and that the chat
  template puts at the end of a message."""
  eos_ids = config.sample.eos_ids or tokenizer.eos_ids
  if not eos_ids and not config.prompt.stop_strings:
    return 'neither an end token nor config.prompt.stop_strings'
  unknown = [n for n in eos_ids if not 0 <= n < tokenizer.vocab_size]
  if unknown:
    return f'{unknown} are not ids of the tokenizer: they are never sampled'
  if config.prompt.template != 'chat':
    return ''
  turns = ('user', 'a'), ('assistant', 'MARK'), ('user', 'b')
  text = tokenizer.chat([dict(role=x, content=text) for x, text in turns])
  first = tokenizer.encode(text.partition('MARK')[2])[:1]
  if not first or first[0] in eos_ids:
    return ''
  return (
    f'the chat template ends a message with {named_ids(tokenizer, first)}, '
    f'responses end with {named_ids(tokenizer, eos_ids)}: set '
    'config.sample.eos_ids'
  )


def named_ids(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
  """Ids with the texts of their tokens: 2 '</s>', 3 'a'."""
  return ', '.join(f'{n} {tokenizer.decode([n])!r}' for n in ids)


def problem(
  config: Config,
  tokenizer: Tokenizer,
  record: dict,
  prompt: Sequence[int],
  rules: Mapping[str, Reward] = {},
) -> str:
  """The problem of the ideal response to a record with this prompt. `rules` are
  those of the run's verifiers."""
  opening = templates.make_prompt(tokenizer, record, config.prompt).opening
  text, missing = _rewarded_response(config, record, opening, rules)
  if missing:
    return f'{text!r} gets no {", ".join(missing)}'
  sampled = text[len(opening) :]
  ids = tokenizer.encode(tokenizer.decode(prompt) + sampled)
  response, limit = ids[len(prompt) :], config.sample.max_new_tokens
  if ids[: len(prompt)] != list(prompt):
    return (
      'the tokenizer joins the end of the prompt and the beginning of the '
      'response to one token: change config.prompt.template or prefill'
    )
  if tokenizer.decode(response) != sampled:
    return f'the tokenizer does not preserve {text!r}'
  if len(response) + 1 > limit:
    have = f'the response has {len(response)} tokens'
    return f'{have}; config.sample.max_new_tokens is {limit}'
  # Stop strings are compared as ids.
  stops = [tokenizer.encode(text) for text in config.prompt.stop_strings]
  stops += [list(ids) for ids in config.sample.stop_token_sequences]
  if not stops or any(response[-len(stop) :] == stop for stop in stops):
    return ''
  tail = [tokenizer.decode([n]) for n in response[-4:]]
  return f'none of config.prompt.stop_strings ends the response: it ends {tail}'


def thinking_problem(config: Config, made: Prompt, question: str) -> str:
  """A prompt that closes the thinking leaves nothing to think; one that opens
  it before other text hides the tag."""
  _, asked, tail = made.text.rpartition(question)
  if asked and tail.count('<think>') > tail.count('</think>'):
    return (
      f'the prompt template opens <think> before its end, {tail[-60:]!r}: only '
      'a tag at the end counts; set config.prompt.prefill to what follows the '
      'question from the tag on'
    )
  weights = [config.rewards, *config.by_domain.values()]
  has_language = any('language' in x for x in weights)
  if '</think>' not in made.opening or not has_language:
    return ''
  return (
    f'{describe_opening(config, made)}: the reward language of its thinking '
    'is always 0; use a template that thinks, or drop the reward'
  )


def describe_opening(config: Config, made: Prompt) -> str:
  """What the responses to a prompt begin with."""
  if not made.opening:
    return 'nothing precedes what is sampled'
  source, prefill = 'config.prompt.prefill', config.prompt.prefill
  if made.is_opened:
    source = 'the prompt template'
    if prefill:
      source += f' (config.prompt.prefill={prefill!r} repeats no tag)'
  if '</think>' in made.opening:
    return f'{source} gives empty thinking, {made.opening!r}'
  return f'{source} gives {made.opening!r}, which counts as the response'


def _rewarded_response(config, record, opening, rules):
  """(a response, the rewards that it does not get in full). Its answer is the
  gold answer, plain or boxed."""
  table = registry.weights_for(config.rewards, config.by_domain, record)
  names = [name for name in table if name in FULL_REWARDS]
  weights = {name: 1.0 for name in names or ['format']}
  gold = str(gold_answers.alternatives(record.get('answer', ''))[0])
  thinking = '<think>\nSo.\n</think>\n'
  if '</think>' in opening:
    thinking = ''
  elif '<think>' in opening:
    thinking = 'So.\n</think>\n'
  for answer in (gold, f'\\boxed{{{gold}}}'):
    text = f'{opening}{thinking}<answer>{answer}</answer>'
    _, parts = registry.weighted_rewards(weights, [record], [text], rules=rules)
    missing = [name for name in names if parts[name][0] != 1]
    if not missing:
      break
  return text, missing
