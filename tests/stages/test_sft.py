"""Supervised fine-tuning learns the responses, and them alone."""

import dataclasses

import jax
import numpy as np
import pytest
import toy

from r1jax import errors, files
from r1jax.checkpoints import pretrained, tokenization
from r1jax.models import transformer
from r1jax.stages import sft

WORDS = tokenization.ByteTokenizer()
C = dataclasses.replace(
  toy.built('sft'), micro_batch_size=2, batch_size=4, max_len=20
)
RECORDS = [
  dict(id='r/0', prompt='12', response='<think>1</think><answer>3</answer>'),
  dict(id='r/1', prompt='9', response='9'),
  dict(id='r/2', prompt='4567', response='no'),
]


def test_a_run_lowers_the_loss_and_leaves_the_model(base):
  lines = files.read_jsonl(base / 'metrics.jsonl')
  assert [line['step'] for line in lines] == list(range(1, 61))
  assert lines[0]['loss'] > 5 and lines[-1]['loss'] < 1.5
  lr = [line['lr'] for line in lines]
  assert lr == sorted(lr, reverse=True) and lr[0] > 9 * lr[-1]
  params, cfg, words = pretrained.load(base / 'model')
  assert (cfg.width, cfg.layers, cfg.vocab_size) == (16, 1, words.vocab_size)
  # The form is learnt: each tag is likely where it stands.
  text = '314<think>348</think><answer>8</answer><|end|>'
  ids = np.array([words.encode(text)])
  logp_BL, _ = transformer.logprobs(params, cfg, ids, np.arange(ids.size)[None])
  tags = [n for n, i in enumerate(ids[0]) if i > 256]
  assert logp_BL[0, tags].min() > -0.7


def test_the_same_command_again_says_finished_and_changes_nothing(base, capsys):
  before = toy.files(base)
  toy.run('sft', base)
  assert f'{base} is finished' in capsys.readouterr().out
  assert toy.files(base) == before


def test_a_row_is_prompt_response_and_one_end_token():
  rows, learns = sft.encode(WORDS, RECORDS, C)
  assert [WORDS.decode(row) for row in rows] == [
    '12<think>1</think><answer>3</answer><|end|>',
    '99<|end|>',
    '4567no<|end|>',
  ]
  assert [learn.index(True) for learn in learns] == [2, 1, 4]
  assert all(all(learn[learn.index(True) :]) for learn in learns)


def test_a_prefill_stands_once_and_is_not_learnt():
  prompt = dataclasses.replace(C.prompt, prefill='<think>')
  c = dataclasses.replace(C, prompt=prompt)
  rows, learns = sft.encode(WORDS, RECORDS[:1], c)
  assert WORDS.decode(rows[0]) == '12<think>1</think><answer>3</answer><|end|>'
  assert [learn.index(True) for learn in learns] == [3]


def test_each_response_token_weighs_the_same_and_the_prompt_nothing():
  rows, learns = sft.encode(WORDS, RECORDS * 2, C)
  starts = [learn.index(True) for learn in learns]
  parts = sft.batch(rows[:4], learns[:4], C)
  assert [len(index) for index, _ in parts] == [2, 2]
  counts = [len(row) - start for row, start in zip(rows[:4], starts[:4])]
  for index, part in parts:
    for n, row in enumerate(index):
      weight_L = part['weight_BL'][n]
      here = np.flatnonzero(weight_L)
      assert here.tolist() == list(range(starts[row], len(rows[row])))
      np.testing.assert_allclose(weight_L[here], 1 / sum(counts), rtol=1e-6)
      np.testing.assert_array_equal(
        part['tokens_BL'][n, : len(rows[row])], rows[row]
      )
      assert (part['pos_BL'][n, len(rows[row]) :] == -1).all()


def test_what_stands_in_the_prompt_does_not_train_itself():
  """Under a head of zeros a row of its gradient is large for an id that some
  target is; one that stands in prompts alone is like one that is nowhere."""
  rows, learns = sft.encode(WORDS, RECORDS, C)
  ((_, part),) = sft.batch(
    rows, learns, dataclasses.replace(C, micro_batch_size=3)
  )
  cfg = transformer.ModelConfig(
    vocab_size=WORDS.vocab_size,
    width=8,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=4,
    ffn=12,
    tie_embeddings=False,
  )
  params = transformer.init(jax.random.key(0), cfg)

  def loss(head):
    return sft.loss_fn(cfg)(params | dict(head=head), part)[0]

  value, grad_VD = jax.jit(jax.value_and_grad(loss))(0 * params['head'])
  np.testing.assert_allclose(value, np.log(WORDS.vocab_size), rtol=1e-5)
  size_V = np.linalg.norm(grad_VD, axis=1)
  assert size_V[ord('4')] == pytest.approx(size_V[ord('z')], rel=1e-4)
  assert size_V[ord('o')] > 5 * size_V[ord('z')]


@pytest.mark.parametrize(
  'record, words',
  [
    (dict(id='x/1', prompt='1', answer='1'), 'record x/1 of .* no response'),
    (dict(id='x/2', prompt='1', response='1' * 19), 'x/2 has 21.*allows 20'),
  ],
)
def test_a_record_that_cannot_be_learnt_is_named(record, words):
  with pytest.raises(errors.UserError, match=words):
    sft.encode(WORDS, [record], C)


def test_a_row_may_fill_its_limit():
  row = dict(id='x', prompt='1', response='1' * 18)
  assert len(sft.encode(WORDS, [row], C)[0][0]) == 20


def test_a_loss_that_explodes_ends_the_run(tmp_path, capsys):
  """And steps follow from epochs: 64 rows three times are 6 batches of 32."""
  with pytest.raises(errors.UserError) as error:
    toy.run(
      'sft',
      tmp_path,
      'data=toy:running_sum?count=64&digits=3',
      'steps=0',
      'epochs=3',
      'optim.lr=1e999',
      'optim.schedule=constant',
      'optim.patience=3',
    )
  assert 'the last 3 updates up to step 4' in str(error.value)
  assert 'lower config.optim.lr' in str(error.value)
  assert 'step 3/6' in capsys.readouterr().out
  lines = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert [line['skipped'] for line in lines] == [0, 1, 2, 3]
  assert lines[0]['loss'] > 1 and lines[-1]['loss'] is None
  assert not (tmp_path / 'model').exists()


def test_a_tools_results_are_context_and_not_learnt():
  c = dataclasses.replace(
    C, prompt=dataclasses.replace(C.prompt, tool='calculator'), max_len=99
  )
  response = '<think><calc>1+1</calc><result>2</result></think>2'
  row = dict(id='x', prompt='1', response=response)
  ((ids,), (learn,)) = sft.encode(WORDS, [row], c)
  learnt = [i for i, own in zip(ids, learn) if own]
  assert WORDS.decode(ids[:-1]) == '1' + response
  assert WORDS.decode(learnt[:-1]) == response.replace('<result>2</result>', '')
  assert learnt[-1] == WORDS.eos_ids[0]
