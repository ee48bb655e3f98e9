"""The reward of a trained model: its input, and its score as a reward."""

import json

import jax
import numpy as np
import pytest

from r1jax import errors
from r1jax.checkpoints import policy, pretrained
from r1jax.data import templates
from r1jax.distributed import device_placement
from r1jax.models import transformer
from r1jax.rewards import reward_model

COMPUTE = policy.ComputeConfig()
METADATA = dict(part='summary', template='plain', prefill='', centre=0.25)
RECORDS = [
  dict(id=f'r/{n}', prompt=prompt, answer='4')
  for n, prompt in enumerate(['2+2', '7', 'what is it?', '11', '0'])
]
TEXTS = [
  '<think>1</think><answer>4</answer>',
  '<think>a longer thought</think> seven ',
  'no thought',
  '<think>it never ends',
  '<think>2</think>' + 'very long ' * 9,
]
# The scored text after each prompt; the fourth response has no summary.
SUMMARIES = ['4', 'seven', 'no thought', '', ('very long ' * 9).strip()]


@pytest.fixture(scope='module')
def policy_model():
  scratch = policy.ScratchConfig(layers=1, width=12, heads=3, ffn=20)
  return policy.load('scratch', COMPUTE, scratch, seed=0)


@pytest.fixture(scope='module')
def made(policy_model):
  """(params, cfg, tokenizer) of a reward model with a random score head."""
  params, cfg, tokenizer = policy_model
  params, cfg = transformer.with_score(params, cfg)
  noise = np.random.default_rng(0).standard_normal
  return params | dict(score=np.float32(noise(12))), cfg, tokenizer


def save(path, made, **changes):
  pretrained.save(path / 'model', *made, METADATA | changes)
  return path / 'model'


def load(path, micro_batch_size=2, strategy='pmap', devices=1):
  placement = device_placement.placement(
    device_placement.ParallelConfig(strategy), jax.devices()[:devices]
  )
  return reward_model.RewardModel(path, COMPUTE, placement, micro_batch_size)


forward = jax.jit(transformer.forward, static_argnames='cfg')


def expected_reward(made, text, centre):
  """The reward of a row, computed from the hidden state of its last token."""
  params, cfg, tokenizer = made
  ids = tokenizer.encode(text)
  tokens_BL = np.array([ids + [0] * (128 - len(ids))])
  hidden_BLD = forward(params, cfg, tokens_BL, np.arange(128)[None]).hidden_BTD
  score = np.dot(np.float64(hidden_BLD[0, len(ids) - 1]), params['score'])
  return 1 / (1 + np.exp(centre - score))


def test_a_reward_is_the_sigmoid_of_the_score_of_prompt_and_summary(
  made, tmp_path
):
  reward_N = load(save(tmp_path, made))(RECORDS, TEXTS)
  assert reward_N.dtype == np.float32 and reward_N.shape == (5,)
  want = [
    expected_reward(made, f'{x["prompt"]}{summary}<|end|>', 0.25)
    if summary
    else 0
    for x, summary in zip(RECORDS, SUMMARIES)
  ]
  np.testing.assert_allclose(reward_N, want, rtol=1e-5)
  assert len({*reward_N}) == 5 and (reward_N < 1).all()


def test_part_response_scores_thinking_and_prefill_once(made, tmp_path):
  path = save(tmp_path, made, part='response', prefill='<think>', centre=0.0)
  texts = TEXTS[:1] + [TEXTS[1].removeprefix('<think>')] + TEXTS[3:4]
  reward_N = load(path)(RECORDS[:3], texts)
  want = [
    expected_reward(made, f'{record["prompt"]}{text}<|end|>', 0.0)
    for record, text in zip(RECORDS, TEXTS[:2] + TEXTS[3:4])
  ]
  np.testing.assert_allclose(reward_N, want, rtol=1e-5)


def test_a_think_tag_of_the_template_is_scored_once(made, tmp_path):
  template = '{question}<think>\n'
  texts = ['<think>\n1</think>4', '1</think>4']
  for part, want in (
    ('response', '2+2<think>\n1</think>4<|end|>'),
    ('summary', '2+24<|end|>'),
  ):
    path = save(tmp_path / part, made, template=template, part=part, centre=0.0)
    reward_N = load(path)(RECORDS[:1] * 2, texts)
    expected = expected_reward(made, want, 0.0)
    np.testing.assert_allclose(reward_N, [expected] * 2, rtol=1e-5)


def test_the_reward_does_not_depend_on_the_records_answer(made, tmp_path):
  reward = load(save(tmp_path, made))
  others = [dict(x, answer='5' * 20, domain='general') for x in RECORDS]
  np.testing.assert_array_equal(reward(RECORDS, TEXTS), reward(others, TEXTS))


@pytest.mark.parametrize(
  'layout',
  [
    dict(micro_batch_size=1),
    dict(micro_batch_size=8, devices=4),
    dict(micro_batch_size=4, devices=2, strategy='mesh'),
  ],
)
def test_a_reward_does_not_depend_on_neighbours_or_devices(
  layout, made, tmp_path
):
  path = save(tmp_path, made)
  want = load(path)(RECORDS, TEXTS)
  back = load(path, **layout)(RECORDS[::-1], TEXTS[::-1])
  np.testing.assert_allclose(back[::-1], want, rtol=1e-5)


def test_a_row_longer_than_the_context_loses_its_first_tokens(made, tmp_path):
  path = save(tmp_path, made)
  settings = json.loads((path / 'config.json').read_text())
  settings['max_position_embeddings'] = 20
  (path / 'config.json').write_text(json.dumps(settings))
  got = load(path)(RECORDS, TEXTS)
  row = RECORDS[4]['prompt'] + SUMMARIES[4]
  want = expected_reward(made, f'{row[-19:]}<|end|>', 0.25)
  np.testing.assert_allclose(got[4], want, rtol=1e-5)
  np.testing.assert_allclose(
    got[0], expected_reward(made, '2+24<|end|>', 0.25), rtol=1e-5
  )


def test_a_summary_is_the_text_after_the_thinking_without_tags():
  for text, summary in zip(TEXTS, SUMMARIES):
    assert reward_model.scored_text(text, 'summary') == summary
    assert reward_model.scored_text(text, 'response') == text


def test_a_row_is_prompt_text_and_one_end_token(policy_model):
  tokenizer = policy_model.tokenizer
  prompt = templates.PromptConfig(template='Q: {question} A: ')
  rows = reward_model.encode(
    tokenizer, prompt, 'summary', RECORDS[2:4], TEXTS[2:4]
  )
  assert tokenizer.decode(rows[0]) == 'Q: what is it? A: no thought<|end|>'
  assert rows[1] == []


def test_the_sigmoid_does_not_overflow():
  got = reward_model.sigmoid(np.float32([-1e4, -np.log(3), 0, np.log(3), 1e4]))
  np.testing.assert_allclose(got, [0, 0.25, 0.5, 0.75, 1], atol=1e-7)


def edit(path, **changes):
  settings = json.loads(path.read_text()) | changes
  path.write_text(json.dumps(settings))


DAMAGES = [
  (lambda p: (p / 'reward.json').unlink(), 'there is no .*reward.json'),
  (lambda p: (p / 'reward.json').write_text('{'), 'not readable JSON'),
  (lambda p: edit(p / 'reward.json', part='half'), 'a part .summary or resp'),
  (lambda p: edit(p / 'reward.json', centre=None), 'and a centre'),
  (
    lambda p: edit(p / 'config.json', vocab_size=200),
    'its tokenizer has 261 ids, its model only 200',
  ),
  (lambda p: (p / 'tokenizer.json').unlink(), 'holds no tokenizer'),
]


@pytest.mark.parametrize('damage, message', DAMAGES)
def test_a_damaged_reward_model_is_refused(damage, message, made, tmp_path):
  path = save(tmp_path, made)
  damage(path)
  with pytest.raises(errors.UserError, match=message):
    load(path)


def test_a_policy_is_not_a_reward_model(policy_model, tmp_path):
  path = save(tmp_path, policy_model)
  with pytest.raises(errors.UserError, match='has no score head'):
    load(path)


def test_one_text_has_one_reward_in_a_call(made, tmp_path):
  """Alone, in its group and beside longer texts, which pad it further."""
  model = load(save(tmp_path, made), micro_batch_size=4)
  text, longer = (
    '<think>1</think>' + 'seven ' * 5,
    '<think>1</think>' + 'x' * 90,
  )
  records = [RECORDS[0]] * 7
  reward_N = model(records, [text, text, longer, text, text, text, text])
  assert len(set(np.delete(reward_N, 2).tolist())) == 1
  assert reward_N[2] != reward_N[0]
  np.testing.assert_allclose(
    model(records[:1], [text]), reward_N[:1], rtol=1e-5
  )
