"""A model in Python: logits, log-probabilities, responses, files."""

import copy
import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
import toy_checkpoint
import toy_model
import toy_sampling

import r1jax
from r1jax.api import model as models
from r1jax.checkpoints import pretrained
from r1jax.checkpoints.policy import Policy
from r1jax.training import metrics

TOKENIZER = toy_sampling.TOKENIZER
# Rows of three lengths; none is a power of 2.
ROWS = [[5, 7, 11], [3, 256, 0, 9, 40], list(range(20, 39))]
NEW = 8  # tokens of most responses, whose programs are shared


@pytest.fixture(scope='module')
def model():
  """A random model whose table has more ids than its tokenizer."""
  ids = TOKENIZER.vocab_size
  cfg = dataclasses.replace(
    toy_sampling.CFG, vocab_size=ids + 3, real_vocab=ids, max_len=80
  )
  params = toy_model.random_params(cfg)
  params['embed'] *= 1.5  # so that the distributions are less uniform
  return models.Model(Policy(params, cfg, TOKENIZER))


def refuses(sentence):
  return pytest.raises(r1jax.UserError, match=sentence)


def test_logits_are_those_of_the_forward_pass_over_the_real_ids(model):
  logits_BTV = model.logits(ROWS)
  assert logits_BTV.shape == (3, 19, TOKENIZER.vocab_size)
  assert logits_BTV.dtype == np.float32
  for row, logits_TV in zip(ROWS, logits_BTV):
    tokens_BT = jnp.array([row])
    pos_BT = jnp.arange(len(row))[None]
    want = toy_model.logits(model.params, model.cfg, tokens_BT, pos_BT)[0]
    want = want[:, : TOKENIZER.vocab_size]
    np.testing.assert_allclose(logits_TV[: len(row)], want, 1e-6, 4e-6)


def test_logprobs_are_the_log_softmax_of_the_logits_one_column_earlier(model):
  logp_BT = model.logprobs(ROWS)
  assert logp_BT.shape == (3, 19) and logp_BT.dtype == np.float32
  all_BTV = jax.nn.log_softmax(model.logits(ROWS))
  for row, logp_T, all_TV in zip(ROWS, logp_BT, all_BTV):
    want = [all_TV[t, token] for t, token in enumerate(row[1:])]
    np.testing.assert_allclose(logp_T[1 : len(row)], want, atol=1e-5)
    assert logp_T[0] == 0 and not logp_T[len(row) :].any()


def test_rows_may_be_an_array(model):
  ids_BT = np.array(ROWS[2]).reshape(1, -1).repeat(2, axis=0)
  np.testing.assert_allclose(
    model.logprobs(ids_BT)[1], model.logprobs(ROWS)[2], atol=1e-6
  )


@pytest.mark.parametrize(
  'rows, sentence',
  [
    (
      [[1, 2], [3, TOKENIZER.vocab_size]],
      'row 1 has the id 265: the model has',
    ),
    ([[1, -1]], 'row 0 has the id -1'),
    ([1, 2, 3], 'row 0 is not a list of ids'),
    ([[]], 'row 0 is not a list of ids'),
    ([[0.5]], 'row 0 is not a list of ids'),
    (['ab'], 'row 0 is not a list of ids'),
    ([], 'there are no rows'),
    ([[1] * 81], 'the longest row has 81 tokens: the model has 80 positions'),
  ],
)
def test_wrong_ids_are_refused(model, rows, sentence):
  for function in (model.logits, model.logprobs):
    with refuses(sentence):
      function(rows)


def test_the_samplers_log_probabilities_are_those_of_logprobs(model):
  prompts = ['12', 'some text', '=']
  groups = model.generate(prompts, group=2, max_new_tokens=NEW)
  for prompt, group in zip(prompts, groups):
    start = len(prompt)
    for response in group:
      ids = TOKENIZER.encode(prompt) + response.ids
      logp = model.logprobs([ids])[0, start:]
      np.testing.assert_allclose(response.logprobs, logp, atol=1e-4)
      assert response.finished == (response.ids[-1] in TOKENIZER.eos_ids)
      text_ids = response.ids[: len(response.ids) - response.finished]
      assert response.text == TOKENIZER.decode(text_ids)


def test_temperature_0_takes_the_most_probable_token(model):
  ((response,),) = model.generate(['ab'], temperature=0.0, max_new_tokens=NEW)
  ids = TOKENIZER.encode('ab')
  for token in response.ids:
    assert token == model.logits([ids])[0, -1].argmax()
    ids.append(token)


def test_a_response_is_a_function_of_the_seed_and_its_place(model):
  short = dict(max_new_tokens=NEW)
  three = model.generate(['1', '22', '333'], group=2, **short)
  alone = model.generate(['1'], group=2, **short)
  assert [x.ids for x in alone[0]] == [x.ids for x in three[0]]
  assert three[0][0].ids != three[0][1].ids
  other = model.generate(['1'], group=2, seed=1, **short)
  assert [x.ids for x in other[0]] != [x.ids for x in alone[0]]


def test_prompts_of_similar_lengths_and_counts_share_a_program(model):
  model.generate(['1', '2', '3'], max_new_tokens=3)
  model.logits(ROWS)
  before = len(metrics.compilations)
  model.generate(['1' * 9, '2', '3', '4'], max_new_tokens=3, seed=2)
  model.logits([[1] * 30] * 4)
  assert len(metrics.compilations) == before


def test_a_response_has_the_prefill_and_ends_at_a_stop_string(model):
  ((response,),) = model.generate(['ab'], temperature=0.0, max_new_tokens=NEW)
  stop = TOKENIZER.decode(response.ids[2:3])
  ((cut,),) = model.generate(
    ['ab'], temperature=0.0, max_new_tokens=NEW, stop=stop
  )
  assert cut.ids == response.ids[: response.ids.index(response.ids[2]) + 1]
  assert cut.finished
  ((filled,),) = model.generate(
    ['ab'],
    temperature=0.0,
    max_new_tokens=NEW,
    prefill='7',
    template='{question}',
  )
  ((whole,),) = model.generate(['ab7'], temperature=0.0, max_new_tokens=NEW)
  assert filled.text == f'7{whole.text}' and filled.ids == whole.ids


@pytest.mark.parametrize(
  'prompts, keys, sentence',
  [
    ('text', {}, r"must be a list, not 'text': write \['text'\]"),
    ([3], {}, 'prompt 0 is 3: it must be a text or a record'),
    ([dict(question='x')], {}, "prompt 0 has no key 'prompt'"),
    (['x'], dict(group=0), 'group is 0'),
    (['x'], dict(max_new_tokens=0), 'max_new_tokens is 0'),
    (['x'], dict(temperature=-1.0), 'temperature is -1.0'),
    (['x'], dict(template='chatt'), "did you mean 'chat'"),
    (['x'], dict(max_new_tokens=80), 'with a response of 80 has 81 tokens'),
    (['', 'x'], {}, "prompt 0: 'prompt' must be a text, not blank"),
  ],
)
def test_what_cannot_be_generated_is_refused(model, prompts, keys, sentence):
  with refuses(sentence):
    model.generate(prompts, **keys)


def test_no_prompts_have_no_responses(model):
  assert model.generate([]) == []


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_a_saved_model_is_the_same_in_its_dtype(model, dtype, tmp_path):
  model.save(tmp_path / 'out', dtype=dtype)
  config = json.loads((tmp_path / 'out/config.json').read_text())
  assert config['torch_dtype'] == dtype
  params, _, _ = pretrained.load(tmp_path / 'out')
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a, b.astype(dtype)),
    params,
    model.params,
  )
  loaded = r1jax.load(tmp_path / 'out')
  np.testing.assert_allclose(
    loaded.logits(ROWS),
    model.logits(ROWS),
    atol=0.2 if dtype != 'float32' else 0,
  )
  with refuses('is not empty'):
    model.save(tmp_path / 'out')


@pytest.mark.parametrize('saved', ['float32', 'bfloat16'])
def test_a_saved_model_has_the_dtype_of_its_checkpoint(model, saved, tmp_path):
  copied = copy.copy(model)
  copied.cfg = dataclasses.replace(model.cfg, saved_dtype=saved)
  copied.save(tmp_path / 'out')
  config = json.loads((tmp_path / 'out/config.json').read_text())
  assert config['torch_dtype'] == saved


def test_an_unknown_dtype_is_refused(model, tmp_path):
  with refuses("dtype is 'int8': it can be auto, float32, bfloat16 or float16"):
    model.save(tmp_path / 'out', dtype='int8')
  with refuses("dtype is 'float16': it can be float32 or bfloat16"):
    r1jax.load(tmp_path, dtype='float16')


def test_the_finished_run_its_steps_and_its_last_step_are_loaded(base):
  run = r1jax.load(base)
  last, step_60 = r1jax.load(f'{base}@last'), r1jax.load(f'{base}@60')
  for other in (last, step_60):
    np.testing.assert_array_equal(run.logits(ROWS), other.logits(ROWS))
  assert (run.logits(ROWS) != r1jax.load(f'{base}@50').logits(ROWS)).any()


@pytest.mark.parametrize(
  'name, sentence',
  [
    ('@7', '@7: there is no such checkpoint; there are the steps 50, 60'),
    ('@best', 'no checkpoint has a held-out score; there are the steps 50, 60'),
    ('@newest', 'there is no such checkpoint'),
    ('@²', 'there is no such checkpoint'),
    ('x@50', 'x is not the work directory of a run'),
  ],
)
def test_steps_that_are_not_there_are_refused(base, name, sentence):
  with refuses(sentence):
    r1jax.load(f'{base}{name}')


@pytest.mark.parametrize('step', ['', '@last', '@best', '@7'])
def test_a_run_without_checkpoints_is_refused(base, tmp_path, step):
  shutil.copy(base / 'config.json', tmp_path)
  with refuses('no checkpoint yet: wait until its first'):
    r1jax.load(f'{tmp_path}{step}')


@pytest.mark.parametrize('part', ['state', 'manifest'])
def test_a_damaged_checkpoint_is_refused(base, tmp_path, part):
  shutil.copytree(base, tmp_path / 'run')
  for file in toy.files(tmp_path / 'run/checkpoints/50' / part):
    for position in np.linspace(0.1, 0.9, 40):  # in parameters and moments
      toy_checkpoint.flip_bit(file, position)
  # A damaged manifest makes the step incomplete.
  sentence = 'is damaged' if part == 'state' else 'there are the steps 60, and'
  with refuses(sentence):
    r1jax.load(f'{tmp_path}/run@50')


def test_matrix_products_in_bfloat16_differ_by_rounding(base):
  exact, rounded = r1jax.load(base), r1jax.load(base, dtype='bfloat16')
  difference = abs(exact.logprobs(ROWS) - rounded.logprobs(ROWS)).max()
  assert 1e-5 < difference < 0.5


def test_many_rows_and_prompts_are_computed_in_calls_of_one_size(
  model, monkeypatch
):
  """So memory does not grow with their number; the results are the same."""
  rows = [[n, n + 1, n + 2] for n in range(1, 8)]
  prompts = [str(n) for n in range(4)]

  def results():
    texts = [
      [response.text for response in group]
      for group in model.generate(prompts, group=2, max_new_tokens=NEW)
    ]
    return model.logits(rows), model.logprobs(rows), texts

  logits, logprobs, texts = results()
  monkeypatch.setattr('r1jax.api.model.ROWS_PER_CALL', 2)
  split_logits, split_logprobs, split_texts = results()
  assert split_texts == texts
  np.testing.assert_allclose(split_logits, logits, atol=1e-5)
  np.testing.assert_allclose(split_logprobs, logprobs, atol=1e-5)
