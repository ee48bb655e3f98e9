"""The filters of rejection sampling, and the balance of its samples."""

import time

import numpy as np
import pytest

from r1jax.rejection import filters
from r1jax.rewards import penalties

EN = dict(id='r/1', prompt='How many are left?')
CONFIG = filters.FilterConfig(paragraph=100)
PLAIN = 'First we count what is there, then we take away what was sold. '


def think(text, rest='<answer>5</answer>'):
  return f'<think>{text}</think>{rest}'


def lines(n):
  return ' '.join(f'In step {i} we add {i * i} to it.' for i in range(n))


CASES = [
  (think(''), ''),
  (think('3 + 4 = 7'), ''),
  (think(PLAIN), ''),
  (think(PLAIN + '然后算总数'), 'mixed languages'),
  (think(PLAIN + 'потом'), 'mixed languages'),
  (think(PLAIN, '然后算总数'), ''),  # R1 drops a CoT, not a summary
  (think('\n\n'.join([PLAIN, 'Then we add up.', 'We see five.'])), ''),
  (think('we see that\n' * 10), 'long paragraph'),
  (think(lines(4)), 'long paragraph'),
  (think(PLAIN, lines(20)), ''),
  (think('we run\n```python\nprint(5)\n```\n'), 'code block'),
  (think('we run\n  ~~~\nprint(5)\n'), 'code block'),
  (think('it is about ~~~5 then'), ''),
  (think('we call `print(5)` here'), ''),
  (think('we run it', '```python\nprint(5)\n```'), ''),
  (think('we see it\n\n' * 30), 'repetition'),
  (think('1 ' * 49), 'repetition'),
  (think(PLAIN, 'it is five ' * 30), 'repetition'),
]


@pytest.mark.parametrize('text, reason', CASES)
def test_the_first_filter_that_rejects_is_the_reason(text, reason):
  assert filters.reject_reason(CONFIG, EN, text) == reason


def test_every_filter_can_be_switched_off():
  off = filters.FilterConfig(language=0.0, paragraph=0, code=True, repeated=1.0)
  assert not any(filters.reject_reason(off, EN, text) for text, _ in CASES)


def test_the_target_language_is_that_of_the_record():
  text = think('先数一数还有多少')
  assert filters.reject_reason(CONFIG, EN, text) == 'mixed languages'
  assert not filters.reject_reason(CONFIG, EN | dict(prompt='还剩多少？'), text)
  assert not filters.reject_reason(CONFIG, EN | dict(language='zh'), text)


def test_a_paragraph_ends_at_a_blank_line():
  assert filters.longest_paragraph('') == 0
  assert filters.longest_paragraph('ab\ncde\n \t\nfghi\n\n\nj') == 5
  assert filters.longest_paragraph('ab\n\nfghijk') == 6


def test_repetition_is_the_share_of_ngrams_that_occurred_earlier():
  assert (
    penalties.repeated_share('', 3) == penalties.repeated_share('ab', 3) == 0
  )
  assert penalties.repeated_share('abcdef', 3) == 0
  assert penalties.repeated_share('abcabc', 3) == 1 / 4  # abc bca cab abc
  assert penalties.repeated_share('a b\n\n a  b', 3) == 1 / 5  # 'a b' twice
  assert penalties.repeated_share('好' * 42, 40) == 2 / 3
  assert penalties.repeated_share(lines(300), 40) < 0.2


@pytest.mark.parametrize('piece', ['a', 'a ', '\n', '中', '```', '<think>'])
def test_hostile_texts_do_not_take_quadratic_time(piece):
  text = think((piece * 100_000)[:100_000])
  began = time.process_time()
  filters.reject_reason(CONFIG, EN, text)
  # All take less than 0.1 s; quadratic work would take minutes.
  assert time.process_time() - began < 20


def sample(number, response, domain='math', reason=''):
  return dict(number=number, response=response, domain=domain, reason=reason)


def reasons_of(samples, per_prompt=9, per_domain=None, seed=0):
  chosen = filters.balance(samples, per_prompt, per_domain or {}, seed)
  assert [x | dict(reason='') for x in chosen] == [
    x | dict(reason='') for x in samples
  ]
  return [x['reason'] for x in chosen]


def test_the_first_distinct_responses_of_a_prompt_are_kept():
  samples = [
    sample(0, 'a', reason='accuracy'),
    sample(0, 'b'),
    sample(0, 'b'),
    sample(0, 'a'),
    sample(0, 'c'),
    sample(1, 'b'),
  ]
  assert reasons_of(samples, per_prompt=2) == [
    'accuracy',
    '',
    'duplicate',
    '',
    'enough of its prompt',
    '',
  ]


def test_a_domain_keeps_one_response_of_each_prompt_before_a_second():
  samples = [
    sample(number, text, domain)
    for number, domain in enumerate(['math'] * 5 + ['code'] * 2 + ['logic'])
    for text in 'xyz'
  ]
  for seed in range(5):
    chosen = reasons_of(samples, 2, dict(math=7, code=1), seed)
    kept_PG = np.array(chosen).reshape(8, 3) == ''
    assert kept_PG[:5, 0].all() and kept_PG[:5, 1].sum() == 2
    assert kept_PG[5:7].sum() == 1 and kept_PG[5:7, 0].sum() == 1
    assert kept_PG[7].tolist() == [True, True, False]
  counts = {
    reason: chosen.count(reason) for reason in dict.fromkeys(chosen) if reason
  }
  assert counts == {'enough of its prompt': 8, 'enough of its domain': 6}


def test_the_seed_decides_which_prompts_a_domain_keeps():
  samples = [sample(number, 'x') for number in range(20)]
  reasons = [reasons_of(samples, 1, dict(math=5), seed) for seed in (0, 0, 1)]
  assert reasons[0] == reasons[1] != reasons[2]
  assert all(x.count('') == 5 for x in reasons)


def test_the_tally_counts_every_sample():
  samples = [
    sample(0, 'a'),
    sample(0, 'a'),
    sample(1, 'a', 'code', 'truncated'),
    sample(1, 'b', 'code'),
    sample(2, 'c', reason='format'),
    sample(2, 'd', reason='format'),
  ]
  chosen = filters.balance(samples, 1, {}, 0)
  assert (
    filters.summarize_reasons(chosen) == '2 format, 1 duplicate, 1 truncated'
  )
  assert filters.tally(2, samples, chosen, [dict(domain='general')]) == dict(
    samples=6,
    kept=2,
    mixed=1,
    reasons=dict(format=2, duplicate=1, truncated=1),
    domains=dict(
      code=dict(samples=2, kept=1, mixed=0),
      general=dict(samples=0, kept=0, mixed=1),
      math=dict(samples=4, kept=1, mixed=0),
    ),
    accepted_per_prompt={'0/2': 1, '1/2': 1, '2/2': 1},
  )
