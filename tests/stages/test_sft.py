"""Supervised fine-tuning trains on the tokens of the responses alone."""

import dataclasses
import re

import jax
import numpy as np
import pytest
import toy
import toy_metrics
import toy_model

from r1jax import errors, files
from r1jax.api import work_directory
from r1jax.checkpoints import policy, pretrained, tokenization
from r1jax.distributed import device_placement, hosts
from r1jax.models.families import llama
from r1jax.reports import metric_texts
from r1jax.stages import sft
from r1jax.supervised import sft_rows

TOKENIZER = tokenization.ByteTokenizer()
CONFIG = dataclasses.replace(
  toy.built('sft'), micro_batch_size=2, batch_size=4, max_len=20
)


def encode(records, config=CONFIG):
  rows = sft_rows.encode(TOKENIZER, records, config, 'the data')
  return list(rows.ids), list(rows.masks)


def dataset_of(records, config=CONFIG):
  rows = sft_rows.encode(TOKENIZER, records, config, 'the data')
  return sft_rows.Dataset(config=config, rows=rows)


RECORDS = [
  dict(id='r/0', prompt='12', response='<think>1</think><answer>3</answer>'),
  dict(id='r/1', prompt='9', response='9'),
  dict(id='r/2', prompt='4567', response='no'),
]


def test_a_run_lowers_the_loss_and_leaves_the_model(base):
  lines = files.read_jsonl(base / 'metrics.jsonl')
  assert all(map(metric_texts.meaning, lines[-1])), lines[-1]
  assert [line['step'] for line in lines] == list(range(1, 61))
  assert lines[0]['loss'] > 5 and lines[-1]['loss'] < 1.5
  lr = [line['lr'] for line in lines]
  assert lr == sorted(lr, reverse=True) and lr[0] > 9 * lr[-1]
  params, cfg, tokenizer = pretrained.load(base / 'model')
  assert (cfg.width, cfg.layers, cfg.vocab_size) == (
    16,
    1,
    tokenizer.vocab_size,
  )
  # The format is learnt: tags have a high probability where they belong.
  text = '314<think>348</think><answer>8</answer><|end|>'
  ids = np.array([tokenizer.encode(text)])
  logp_BL, _ = toy_model.logprobs(params, cfg, ids, np.arange(ids.size)[None])
  tags = [n for n, i in enumerate(ids[0]) if i > 256]
  assert logp_BL[0, tags].min() > -0.7


def test_the_same_command_again_reports_the_result_and_changes_nothing(
  base, capsys
):
  before = toy.files(base)
  toy.run('sft', base)
  assert f'{base} is finished' in capsys.readouterr().out
  assert toy.files(base) == before


def test_a_row_is_prompt_response_and_one_end_token():
  rows, masks = encode(RECORDS)
  assert [TOKENIZER.decode(row) for row in rows] == [
    '12<think>1</think><answer>3</answer><|end|>',
    '99<|end|>',
    '4567no<|end|>',
  ]
  assert [mask.index(True) for mask in masks] == [2, 1, 4]
  assert all(all(mask[mask.index(True) :]) for mask in masks)


@pytest.mark.parametrize('end', ['<|end|>', '<|end|>\n', '<|end|><|end|> '])
def test_an_end_token_of_a_response_occurs_once(end):
  records = [dict(id='r', prompt='1', response=f'2\n{end}')]
  rows, masks = encode(records)
  assert TOKENIZER.decode(rows[0]) == '12\n<|end|>'
  assert masks == [[False, True, True, True]]


def test_a_prefill_occurs_once_and_is_not_trained_on():
  prompt = dataclasses.replace(CONFIG.prompt, prefill='<think>')
  config = dataclasses.replace(CONFIG, prompt=prompt)
  rows, masks = encode(RECORDS[:1], config)
  assert (
    TOKENIZER.decode(rows[0]) == '12<think>1</think><answer>3</answer><|end|>'
  )
  assert [mask.index(True) for mask in masks] == [3]


@pytest.mark.parametrize('end', ['<think>', '<think>\n'])
def test_a_think_tag_of_the_template_occurs_once_and_is_not_trained_on(end):
  prompt = dataclasses.replace(
    CONFIG.prompt, template='{question}' + end, max_len=99
  )
  config = dataclasses.replace(CONFIG, prompt=prompt)
  record = RECORDS[0]
  bare = dict(record, response=record['response'].removeprefix('<think>'))
  spaced = dict(record, response=end + bare['response'])
  rows, masks = encode([record, bare, spaced], config)
  for row, mask in zip(rows, masks):
    assert TOKENIZER.decode(row) == (
      f'12{end}1</think><answer>3</answer><|end|>'
    )
    assert mask.index(True) == len(TOKENIZER.encode('12' + end))


def test_a_thinking_after_one_that_the_template_closed_is_refused():
  template = '{question}<think>\n\n</think>\n\n'
  prompt = dataclasses.replace(CONFIG.prompt, template=template, max_len=99)
  config = dataclasses.replace(CONFIG, prompt=prompt)
  with pytest.raises(errors.UserError, match='begins with <think>, but its'):
    encode(RECORDS[:1], config)
  rows, _ = encode([dict(RECORDS[0], response='<think></think>3')], config)
  text = TOKENIZER.decode(rows[0])
  assert text == '12<think>\n\n</think>\n\n3<|end|>'


def test_response_tokens_have_equal_weights_and_prompt_tokens_none():
  dataset = dataset_of(RECORDS * 2)
  rows = dataset.rows.ids[:4]
  starts = [mask.index(True) for mask in dataset.rows.masks[:4]]
  parts, tokens, _ = dataset.micro_batches(range(4))
  assert [len(part['tokens_BL']) for part in parts] == [2, 2]
  assert tokens == sum(map(len, rows))
  found = []
  for part in parts:
    for n, pos_L in enumerate(part['pos_BL']):
      row = part['tokens_BL'][n, pos_L >= 0].tolist()
      found.append(row)
      start = starts[rows.index(row)]
      weight_L = part['weight_BL'][n]
      here = np.flatnonzero(weight_L)
      assert here.tolist() == list(range(start, len(row)))
      want = 1 / (tokens - sum(starts))
      np.testing.assert_allclose(weight_L[here], want, rtol=1e-6)
      assert (pos_L[len(row) :] == -1).all()
  assert sorted(found) == sorted(rows)


def test_batches_of_tokens_have_the_rows_one_after_another():
  """The weights of each row's tokens are those of rows of their own."""
  config = dataclasses.replace(
    CONFIG, tokens_per_micro_batch=80, length_buckets=1
  )
  dataset = dataset_of(RECORDS * 2)
  want = {}
  for part in dataset.micro_batches(range(4))[0]:
    for n, pos_L in enumerate(part['pos_BL']):
      real_L = pos_L >= 0
      row = tuple(part['tokens_BL'][n, real_L].tolist())
      want[row] = part['weight_BL'][n, real_L]
  packed = dataclasses.replace(dataset, config=config, num_shards=2)
  parts, tokens, padding = packed.micro_batches(range(4))
  found, computed = [], 0
  for part in parts:
    computed += part['pos_BL'].size
    assert len(part['pos_BL']) % 2 == 0
    for n, pos_L in enumerate(part['pos_BL']):
      starts = np.flatnonzero(pos_L == 0)
      for start, end in zip(starts, [*starts[1:], (pos_L >= 0).sum()]):
        row = tuple(part['tokens_BL'][n, start:end].tolist())
        found.append(row)
        np.testing.assert_array_equal(
          part['weight_BL'][n, start:end], want[row]
        )
        assert pos_L[start:end].tolist() == list(range(end - start))
  rows = [tuple(row) for row in dataset.rows.ids[:4]]
  assert sorted(found) == sorted(rows)
  assert padding == pytest.approx(1 - tokens / computed)


def test_a_token_that_is_only_in_prompts_is_no_target():
  """With a head of zeros the gradient of a row is large if its id is a target.
  An id in prompts alone has the gradient of an id that does not occur."""
  config = dataclasses.replace(CONFIG, micro_batch_size=3)
  dataset = dataset_of(RECORDS, config)
  (part,), _, _ = dataset.micro_batches(range(3))
  cfg = llama.Config(
    vocab_size=TOKENIZER.vocab_size,
    width=8,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=4,
    ffn=12,
    tie_embeddings=False,
  )
  params = toy_model.random_params(cfg)

  def loss(head):
    return sft.loss(cfg, params | dict(head=head), part)[0]

  value, grad_VD = jax.jit(jax.value_and_grad(loss))(0 * params['head'])
  np.testing.assert_allclose(value, np.log(TOKENIZER.vocab_size), rtol=1e-5)
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
def test_a_record_without_a_usable_response_is_refused_by_id(record, words):
  with pytest.raises(errors.UserError, match=words):
    encode([record])


def test_a_row_may_have_max_len_tokens():
  row = dict(id='x', prompt='1', response='1' * 18)
  assert len(encode([row])[0][0]) == 20


def test_updates_that_are_not_finite_end_the_run(tmp_path, capsys):
  """Steps are computed from epochs: 3 * 64 rows are 6 batches of 32."""
  with pytest.raises(errors.UserError) as error:
    toy.run(
      'sft',
      tmp_path,
      'data=toy:running_sum?count=64&digits=3',
      'steps=0',
      'epochs=3',
      'optim.lr=3e38',
      'optim.schedule=constant',
      'optim.patience=3',
    )
  assert 'the last 3 updates up to step 4' in str(error.value)
  assert '--change optim.lr=VALUE' in str(error.value)
  assert 'step 3/6' in capsys.readouterr().out
  lines = files.read_jsonl(tmp_path / 'metrics.jsonl')
  assert [line['skipped'] for line in lines] == [0, 1, 2, 3]
  assert lines[0]['loss'] > 1
  assert not (tmp_path / 'model').exists()


def test_results_of_a_tool_are_not_trained_on():
  config = dataclasses.replace(
    CONFIG,
    prompt=dataclasses.replace(CONFIG.prompt, tool='calculator'),
    max_len=99,
  )
  response = '<think><calc>1+1</calc><result>2</result></think>2'
  row = dict(id='x', prompt='1', response=response)
  ((ids,), (mask,)) = encode([row], config)
  trained = [i for i, is_sampled in zip(ids, mask) if is_sampled]
  assert TOKENIZER.decode(ids[:-1]) == '1' + response
  assert TOKENIZER.decode(trained[:-1]) == response.replace(
    '<result>2</result>', ''
  )
  assert trained[-1] == TOKENIZER.eos_ids[0]


HELD_OUT = (
  'steps=6',
  'eval.held_out=9',
  'eval.every=2',
  'save_every=2',
  'keep=1',
)


def test_held_out_loss_is_that_of_the_rows_in_one_batch():
  params, cfg, _ = policy.load('scratch', CONFIG.compute, CONFIG.scratch, 0)
  rows = sft_rows.encode(TOKENIZER, RECORDS, CONFIG, 'the data')
  placement = device_placement.placement(CONFIG.parallel, jax.devices()[:1])
  params = device_placement.put_state(placement, params)
  program = sft_rows.loss_program(placement, cfg)
  held_out = sft_rows.HeldOut(rows, placement, program)
  found = sft_rows.held_out_metrics(CONFIG, held_out, params)
  config = dataclasses.replace(CONFIG, micro_batch_size=3)
  (part,), _, _ = dataset_of(RECORDS, config).micro_batches(range(3))
  want = float(sft.loss(cfg, params, part)[0])
  assert found['loss'] == pytest.approx(want, rel=1e-5)
  assert found['perplexity'] == pytest.approx(np.exp(want), rel=1e-4)
  assert found['loss_low'] < want < found['loss_high']
  assert found['records'] == 3


def test_held_out_records_choose_the_best_checkpoint(tmp_path, capsys):
  """Here the worst, so that it is not the last."""
  lines = toy.run('sft', tmp_path, *HELD_OUT, 'eval.best=eval/perplexity')
  losses = {x['step']: x['eval/loss'] for x in lines if 'eval/loss' in x}
  assert list(losses) == [0, 2, 4, 6] and losses[2] > losses[6]
  assert all(map(metric_texts.meaning, lines[-1])), lines[-1]
  assert work_directory.step_of(work_directory.read(tmp_path), 'best') == 2
  printed = capsys.readouterr().out
  assert re.search(
    r'eval/perplexity 4\d\d\.\d+ -> \d+\.\d+ \(steps 0 and 6\)', printed
  )


def test_sigterm_in_a_held_out_evaluation_changes_nothing(
  tmp_path, monkeypatch
):
  whole = toy.run('sft', tmp_path / 'whole', *HELD_OUT)
  calls = iter([False, False, True])  # in that of step 4

  def terminate():
    if next(calls):
      raise errors.Terminated

  with monkeypatch.context() as patch:
    patch.setattr(hosts, 'raise_if_terminating', terminate)
    with pytest.raises(errors.Terminated):
      toy.run('sft', tmp_path / 'run', *HELD_OUT)
  lines = toy.run('sft', tmp_path / 'run', *HELD_OUT)
  joined: dict = {}
  for line in lines:
    joined.setdefault(line['step'], {}).update(line)
  for ours, theirs in zip(joined.values(), whole, strict=True):
    assert toy_metrics.without_timings(ours) == toy_metrics.without_timings(
      theirs
    )


@pytest.mark.parametrize(
  'changes, message',
  [
    (['eval.best=-eval/loss'], 'config.eval.best needs held-out records'),
    (
      ['eval.held_out=3', 'eval.best=loss'],
      "'loss', which is no .* did you mean 'eval/loss'",
    ),
    (['eval.held_out=640'], 'cannot hold out 640 of 478'),
  ],
)
def test_held_out_records_that_cannot_be_are_refused(
  changes, message, tmp_path
):
  with pytest.raises(errors.UserError, match=message):
    toy.run('sft', tmp_path, *changes)
