"""Records become prompts, drawn rows become texts with rewards; a sample is the
same in whatever company it is drawn."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from r1jax import errors
from r1jax.checkpoints import tokenization
from r1jax.data import templates
from r1jax.distributed import device_placement, programs
from r1jax.models import transformer
from r1jax.rewards import registry
from r1jax.sampling import decode, generate

WORDS = tokenization.ByteTokenizer()
PROMPT = templates.PromptConfig(template='plain', prefill='<think>', max_len=6)
RECORDS = [
  dict(id=f'r/{n}', prompt=prompt, answer=str(n))
  for n, prompt in enumerate(['12345', '7', '314', '42', '0'])
]
SC = decode.SampleConfig(
  max_new_tokens=7, decode_slots=3, refill_interval=3, kv_windows=1
)


def test_a_prompt_is_template_and_prefill_without_an_end_token():
  rows = templates.encode_prompts(WORDS, RECORDS[:2], PROMPT)
  assert [WORDS.decode(ids) for ids in rows] == ['12345<think>', '7<think>']
  assert len(rows[1]) == 2  # a tag is one id


def test_a_prompt_longer_than_the_limit_is_refused_with_its_record():
  templates.encode_prompts(WORDS, RECORDS, PROMPT)
  c = dataclasses.replace(PROMPT, max_len=5)
  with pytest.raises(errors.UserError, match='record r/0 has 6.*allows 1 to 5'):
    templates.encode_prompts(WORDS, RECORDS, c)
  with pytest.raises(errors.UserError, match='record r/9 has 0'):
    bare = dataclasses.replace(PROMPT, prefill='')
    templates.encode_prompts(WORDS, [dict(id='r/9', prompt='')], bare)


def made_of(responses, prompts, group):
  """The rollout that draws these (ids, finished) after these prompts."""
  width = 6 + SC.max_new_tokens
  tokens_BL = np.zeros((len(responses), width), np.int32)
  mask_BL, pos_BL = np.zeros(tokens_BL.shape, bool), tokens_BL - 1
  for n, (ids, _) in enumerate(responses):
    start = prompts.length_P[n // group]
    tokens_BL[n, :start] = prompts.tokens_PL[n // group, :start]
    tokens_BL[n, start : start + len(ids)] = ids
    mask_BL[n, start : start + len(ids)] = True
    pos_BL[n, : start + len(ids)] = np.arange(start + len(ids))
  return decode.SampledRows(
    tokens_BL=tokens_BL,
    pos_BL=pos_BL,
    logp_BL=-1.0 * mask_BL,
    mask_BL=mask_BL,
    finished_B=np.array([finished for _, finished in responses]),
    steps=np.array([9, 11]),
    live=np.array([20, 17]),
  )


class Decoder:
  """In place of the decode loop: says what it is told, notes what it gets."""

  def __init__(self, responses, group):
    self.responses, self.group, self.calls = responses, group, []

  def __call__(self, make, cfg):
    def loop(params, rows):
      self.calls.append(rows)
      return made_of(self.responses, rows[0], self.group)

    return loop


def generator(decoder, shards=1, **changes):
  return generate.Generator(
    decoder,
    shards,
    None,
    WORDS,
    PROMPT,
    dataclasses.replace(SC, **changes),
    generate.at_once(
      functools.partial(
        registry.weighted_rewards, dict(accuracy=1.0, format=0.5)
      )
    ),
    6,
  )


def ids(text, end=True):
  return WORDS.encode(text) + list(WORDS.eos_ids) * end


def test_texts_have_the_prefill_and_no_end_token_and_are_rewarded():
  decoder = Decoder(
    [
      (ids('a</think><answer>0</answer>'), True),
      (ids('a</think><answer>1</answer>', end=False), True),  # by a stop
      (ids('b</think>', end=False), False),
      (ids(''), True),
    ],
    group=2,
  )
  out = generator(decoder)(
    None, RECORDS[:2], np.array([7, 8]), jax.random.key(3), 2, 1.0, 7
  )
  assert out.texts == [
    '<think>a</think><answer>0</answer>',
    '<think>a</think><answer>1</answer>',
    '<think>b</think>',
    '<think>',
  ]
  assert [record['id'] for record in out.records] == [
    'r/0',
    'r/0',
    'r/1',
    'r/1',
  ]
  assert out.parts['accuracy'].tolist() == [1, 0, 0, 0]
  assert out.parts['format'].tolist() == [1, 1, 0, 0]
  assert out.reward_N.tolist() == [1.5, 0.5, 0, 0]
  assert out.length_N.tolist() == [6, 5, 2, 1]  # the end token was drawn too
  prompts, key_P2 = decoder.calls[0]
  assert prompts.index_P.tolist() == [7, 8]
  assert prompts.length_P.tolist() == [6, 2]
  np.testing.assert_array_equal(
    key_P2, np.tile(jax.random.key_data(jax.random.key(3)), (2, 1))
  )


def test_prompts_that_fill_up_the_devices_leave_no_samples():
  decoder = Decoder([(ids(str(n)), True) for n in range(8)], group=2)
  out = generator(decoder, shards=4)(
    None, RECORDS[:3], np.arange(3), jax.random.key(0), 2, 1.0, 7
  )
  prompts, key_P2 = decoder.calls[0]
  assert len(prompts.tokens_PL) == len(key_P2) == 4
  assert out.texts == [f'<think>{n}' for n in range(6)]
  assert (
    len(out.records) == len(out.rollout.tokens_BL) == len(out.reward_N) == 6
  )
  assert out.rollout.steps.tolist() == [9, 11]


def test_rows_end_with_the_tokenizers_end_or_the_configs_and_with_stop_texts():
  made = generator(None)
  assert made.sc.ends == WORDS.eos_ids
  assert generator(None, ends=(4, 5)).sc.ends == (4, 5)
  prompt = dataclasses.replace(PROMPT, stop=('</answer>', '.\n'))
  made = generate.Generator(
    None,
    1,
    None,
    WORDS,
    prompt,
    dataclasses.replace(SC, stops=((1, 2),)),
    None,
    6,
  )
  assert made.sc.stops == (
    (1, 2),
    tuple(WORDS.encode('</answer>')),
    (ord('.'), ord('\n')),
  )


def test_a_sample_does_not_depend_on_the_records_drawn_with_it():
  """Nor on the devices, one of which has a prompt that only fills it up."""
  cfg = transformer.ModelConfig(
    vocab_size=WORDS.vocab_size,
    width=12,
    layers=1,
    heads=2,
    kv_heads=2,
    head_dim=6,
    ffn=16,
    scan_layers=False,
  )
  place = device_placement.placement(device_placement.ParallelConfig())
  assert place.rows == 4
  generator = generate.Generator(
    functools.partial(programs.map_rows, place),
    4,
    cfg,
    WORDS,
    PROMPT,
    SC,
    generate.at_once(
      functools.partial(registry.weighted_rewards, dict(format=1.0))
    ),
    6,
  )
  params = device_placement.put_state(
    place, transformer.init(jax.random.key(0), cfg)
  )

  def draw(take):
    records, numbers = [RECORDS[n] for n in take], 10 + np.array(take)
    out = generator(params, records, numbers, jax.random.key(5), 3, 1.0, 7)
    return {
      record['id'] + f'/{n % 3}': tokens_L[mask_L].tolist()
      for n, (record, tokens_L, mask_L) in enumerate(
        zip(out.records, out.rollout.tokens_BL, out.rollout.mask_BL)
      )
    }

  all_four, three = draw([0, 1, 2, 3]), draw([3, 1, 0])
  assert len(all_four) == 12 and len(three) == 9
  assert len({str(tokens) for tokens in all_four.values()}) == 12
  assert three == {name: all_four[name] for name in three}


def rolled():
  decoder = Decoder([(ids(str(n)), n % 3 > 0) for n in range(10)], group=2)
  return generator(decoder)(
    None, RECORDS, np.arange(5), jax.random.key(0), 2, 1.0, 7
  )


def test_the_summary_is_made_of_means():
  out = rolled()
  line = generate.summary(out)
  assert line == {
    'reward': 0.0,
    'unjudged': 0.0,
    'length': 2.0,
    'truncated': pytest.approx(0.4),
    'reward/accuracy': 0.0,
    'reward/format': 0.0,
  }


@pytest.mark.parametrize(
  'count, rows',
  [(0, []), (1, [0]), (3, [0, 3, 6]), (10, [*range(10)]), (99, [*range(10)])],
)
def test_lines_come_from_all_over_the_samples(count, rows):
  lines = generate.lines(rolled(), 20, count)
  assert [line['id'] for line in lines] == [f'r/{n // 2}' for n in rows]
  if count == 3:
    cut, (_, line, _) = rolled().texts[3], lines
    assert cut == '<think>3<|end|>'  # not ended by it: the row was cut
    assert line == dict(
      step=20,
      id='r/1',
      prompt='7',
      response=cut,
      reward=0.0,
      rewards=dict(accuracy=0.0, format=0.0),
      finished=False,
      length=2,
    )
