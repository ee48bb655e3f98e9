"""Sampler: records become prompts, sampled rows become texts, and a sample does
not depend on the other records of its call."""

import dataclasses

import jax
import numpy as np
import pytest
import toy_model
import toy_sampling
from toy_sampling import TOKENIZER, Response

from r1jax import errors
from r1jax.data import templates
from r1jax.distributed import device_placement
from r1jax.rewards import registry
from r1jax.sampling import decode, generate

PROMPT = templates.PromptConfig(template='plain', prefill='<think>', max_len=6)
RECORDS = [
  dict(id=f'r/{n}', prompt=prompt, answer=str(n))
  for n, prompt in enumerate(['12345', '7', '314', '42', '0'])
]
CONFIG = decode.SampleConfig(
  max_new_tokens=7, decode_slots=3, refill_interval=3, kv_windows=1
)


def test_texts_have_the_prefill_and_no_end_token(monkeypatch):
  fake = toy_sampling.fake_decode(
    monkeypatch,
    [
      Response('a</think><answer>0</answer>'),
      Response('a</think><answer>1</answer>', eos=False),  # a stop string
      Response('b</think>', finished=False, eos=False),
      Response(''),
    ],
  )
  samples = toy_sampling.sampler(PROMPT, CONFIG).sample(
    {}, RECORDS[:2], np.array([7, 8]), jax.random.key(3), 2
  )
  assert samples.texts == [
    '<think>a</think><answer>0</answer>',
    '<think>a</think><answer>1</answer>',
    '<think>b</think>',
    '<think>',
  ]
  ids = [record['id'] for record in samples.records]
  assert ids == ['r/0', 'r/0', 'r/1', 'r/1']
  assert samples.length_N.tolist() == [6, 5, 2, 1]  # with the end token
  prompts, key_P2 = fake.calls[0]
  assert prompts.number_P.tolist() == [7, 8]
  assert prompts.first_member_P.tolist() == [0, 0]
  assert prompts.length_P.tolist() == [6, 2]
  assert prompts.max_new_tokens_P.tolist() == [7, 7]
  np.testing.assert_array_equal(
    key_P2, np.tile(jax.random.key_data(jax.random.key(3)), (2, 1))
  )


@pytest.mark.parametrize('prefill', ['', '<think>', '<think>\n'])
def test_texts_begin_with_the_think_tag_of_the_prompt_template(
  monkeypatch, prefill
):
  fake = toy_sampling.fake_decode(
    monkeypatch, [Response('a</think><answer>0</answer>')]
  )
  prompt = dataclasses.replace(
    PROMPT, template='{question}<think>\n', prefill=prefill
  )
  samples = toy_sampling.sampler(prompt, CONFIG).sample(
    {}, RECORDS[1:2], np.array([0]), jax.random.key(3), 1
  )
  assert samples.texts == ['<think>\na</think><answer>0</answer>']
  names = dict.fromkeys(['format', 'think_format', 'accuracy'], 1.0)
  records = [dict(samples.records[0], answer='0')]
  reward_N, _ = registry.weighted_rewards(names, records, samples.texts)
  assert reward_N.tolist() == [3]
  assert fake.calls[0][0].length_P.tolist() == [3]  # 7<think>\n


def test_prompts_that_fill_up_the_devices_have_no_samples(monkeypatch):
  responses = [Response(str(n)) for n in range(8)]
  fake = toy_sampling.fake_decode(monkeypatch, responses)
  samples = toy_sampling.sampler(PROMPT, CONFIG, devices=4).sample(
    {}, RECORDS[:3], np.arange(3), jax.random.key(0), 2
  )
  prompts, key_P2 = fake.calls[0]
  assert len(prompts.tokens_PL) == len(key_P2) == 4
  assert samples.texts == [f'<think>{n}' for n in range(6)]
  assert len(samples.records) == len(samples.rows.tokens_BL) == 6
  assert samples.rows.steps.tolist() == toy_sampling.STEPS


def test_rows_end_by_the_tokenizers_or_the_configs_end_tokens():
  sampler = toy_sampling.sampler(PROMPT, CONFIG)
  assert sampler.sample_config.eos_ids == TOKENIZER.eos_ids
  config = dataclasses.replace(CONFIG, eos_ids=(4, 5))
  sampler = toy_sampling.sampler(PROMPT, config)
  assert sampler.sample_config.eos_ids == (4, 5)


def test_rows_end_by_stop_sequences_and_encoded_stop_strings():
  sampler = toy_sampling.sampler(
    dataclasses.replace(PROMPT, stop_strings=('</answer>', '.\n')),
    dataclasses.replace(CONFIG, stop_token_sequences=((1, 2),)),
  )
  assert sampler.sample_config.stop_token_sequences == (
    (1, 2),
    tuple(TOKENIZER.encode('</answer>')),
    (ord('.'), ord('\n')),
  )


@pytest.mark.parametrize(
  'prompt, sample, message',
  [
    (dict(stop_strings=('a', '')), {}, 'has an empty entry'),
    ({}, dict(stop_token_sequences=((1,), ())), 'has an empty entry'),
    ({}, dict(top_p=0.0), 'judge.sample.top_p is 0.0'),
    ({}, dict(top_p=1.5), 'judge.sample.top_p is 1.5'),
  ],
)
def test_invalid_values_are_refused(prompt, sample, message):
  prompt = dataclasses.replace(PROMPT, **prompt)
  sample = dataclasses.replace(CONFIG, **sample)
  with pytest.raises(errors.UserError, match=message):
    generate.check(prompt, sample, 'config.judge')


def test_a_sample_does_not_depend_on_the_other_records():
  """On four devices, one of which has only a prompt that fills it up."""
  sampler = toy_sampling.sampler(PROMPT, CONFIG, devices=4)
  params = device_placement.put_state(
    sampler.placement, toy_model.random_params(toy_sampling.CFG)
  )

  def sample(index):
    samples = sampler.sample(
      params,
      [RECORDS[n] for n in index],
      10 + np.array(index),
      jax.random.key(5),
      3,
    )
    tokens = {}
    for n, record in enumerate(samples.records):
      ids_L = samples.rows.tokens_BL[n][samples.rows.mask_BL[n]]
      tokens[record['id'], n % 3] = tuple(ids_L.tolist())
    return tokens

  four, three = sample([0, 1, 2, 3]), sample([3, 1, 0])
  assert len(four) == 12 and len(three) == 9
  assert len(set(four.values())) == 12
  assert three == {name: four[name] for name in three}


def test_a_model_whose_logits_are_not_finite_gives_no_texts():
  sampler = toy_sampling.sampler(PROMPT, CONFIG)
  params = toy_model.random_params(sampler.cfg)
  params['norm'] = params['norm'] * 3e38  # finite
  params['embed'] = params['embed'] * 1e3
  with pytest.raises(
    errors.UserError, match='log-probabilities are not finite'
  ):
    sampler.sample(params, RECORDS[:1], np.array([0]), jax.random.key(0), 1)


def test_take_counts_through_several_samples(monkeypatch):
  toy_sampling.fake_decode(
    monkeypatch,
    [Response('a'), Response('b', finished=False)],
    [Response('c'), Response('d'), Response('e'), Response('f')],
  )
  sampler, key = toy_sampling.sampler(PROMPT, CONFIG), jax.random.key(0)
  first = sampler.sample({}, RECORDS[:1], np.arange(1), key, 2)
  second = sampler.sample({}, RECORDS[1:3], np.arange(2), key, 2)
  taken = generate.take([first, second], np.array([1, 2, 5]))
  assert taken.texts == ['<think>b<|end|>', '<think>c', '<think>f']
  assert [record['id'] for record in taken.records] == ['r/0', 'r/1', 'r/2']
  assert taken.rows.finished_B.tolist() == [False, True, True]
  assert taken.rows.tokens_BL[:, 0].tolist() == [ord('1'), ord('7'), ord('3')]
  assert taken.rows.steps.tolist() == toy_sampling.STEPS * 2


def test_a_last_chunk_uses_the_program_of_the_others(monkeypatch):
  """Its additional prompts sample one token each, which is dropped."""
  fake = toy_sampling.fake_decode(
    monkeypatch, [Response(str(n)) for n in range(8)]
  )
  samples = toy_sampling.sampler(PROMPT, CONFIG).sample(
    {}, RECORDS[:3], np.arange(3), jax.random.key(3), 2, num_prompts=4
  )
  assert samples.texts == [f'<think>{n}' for n in range(6)]
  prompts, _ = fake.calls[0]
  assert prompts.tokens_PL.shape == (4, 6)
  assert prompts.max_new_tokens_P.tolist() == [7, 7, 7, 1]
