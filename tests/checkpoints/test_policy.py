"""A policy is loaded with its tokenizer, or made from scratch."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from r1jax import errors
from r1jax.checkpoints import policy, pretrained, tokenization
from r1jax.models import transformer

COMPUTE = policy.ComputeConfig()
SCRATCH = policy.ScratchConfig(layers=1, width=12, heads=3, ffn=20)


def load(init='scratch', seed=0, scratch=SCRATCH, **compute):
  compute = dataclasses.replace(COMPUTE, **compute)
  return policy.load(init, compute, scratch, seed)


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
  path = tmp_path_factory.mktemp('policy') / 'model'
  pretrained.save(path, *load())
  return path


@pytest.fixture
def copied(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / 'model')


def edit(path, **changes):
  settings = json.loads(path.read_text()) | changes
  path.write_text(json.dumps(settings))


def test_scratch_is_a_function_of_the_seed_and_is_saved_bit_for_bit(saved):
  params, cfg, tokenizer = load()
  again, other, read = load(), load(seed=1), load(str(saved))
  assert again[1] == cfg == read[1]
  assert tokenizer.vocab_size == cfg.vocab_size == 261
  leaves = [jax.tree.leaves(x) for x in (again[0], read[0], params)]
  for same, loaded, first in zip(*leaves):
    np.testing.assert_array_equal(same, first)
    np.testing.assert_array_equal(loaded, first)
    assert isinstance(first, np.ndarray) and first.dtype == np.float32
  assert np.abs(other[0]['embed'] - params['embed']).max() > 0.1


def test_compute_options_come_from_the_config_and_sizes_from_the_checkpoint(
  saved,
):
  cfg = load(
    str(saved),
    scratch=None,
    dtype='bfloat16',
    remat='dots',
    head_chunk=7,
    scan_layers=False,
  )[1]
  assert (cfg.dtype, cfg.remat, cfg.head_chunk) == ('bfloat16', 'dots', 7)
  assert not cfg.scan_layers and (cfg.width, cfg.ffn) == (12, 20)


def test_real_vocab_is_that_of_the_tokenizer_in_a_padded_vocabulary(copied):
  params, cfg, tokenizer = load(str(copied))
  wide = params | dict(embed=np.pad(params['embed'], ((0, 59), (0, 0))))
  path = copied.with_name('wide')
  pretrained.save(
    path, wide, dataclasses.replace(cfg, vocab_size=320), tokenizer
  )
  cfg = load(str(path))[1]
  assert (cfg.vocab_size, cfg.real_vocab) == (320, 261)


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(init=''), "config.init is '': name the directory"),
    (dict(scratch=None), "config.init is 'scratch': name the directory"),
    (dict(init='/nowhere/model'), '/nowhere/model does not exist'),
    (
      dict(scratch=dataclasses.replace(SCRATCH, width=15)),
      'config.scratch.width is 15: it must be a multiple of twice.*3',
    ),
  ],
  ids=str,
)
def test_errors_say_what_to_change(change, message):
  with pytest.raises(errors.UserError, match=message):
    load(**change)


def test_tokenizer_and_model_must_agree_in_vocabulary(copied):
  edit(copied / 'config.json', vocab_size=200)
  with pytest.raises(errors.UserError, match='has 261 ids, its model only 200'):
    load(str(copied))


def test_a_tokenizer_may_have_a_few_ids_more_than_its_model(copied, capsys):
  tokenizer = tokenization.load(copied)
  vocab = dict(tokenizer.backend.get_vocab())
  last = max(vocab, key=vocab.get)
  limited = tokenization.LimitedTokenizer(tokenizer, tokenizer.vocab_size - 1)
  assert limited.encode('12+3') == tokenizer.encode('12+3')
  with pytest.raises(errors.UserError, match='embeddings of 260 ids only'):
    limited.encode(f'1 {last} 2')
  model = pretrained.load(copied)
  pretrained.save(copied / 'small', *cut(model[0], model[1], 260))
  for name in 'tokenizer.json', 'tokenizer_config.json':
    shutil.copy(copied / name, copied / 'small')
  policy_ = load(str(copied / 'small'))
  assert policy_.cfg.real_vocab == policy_.tokenizer.vocab_size == 260
  assert 'no embedding of the last 1 tokens' in capsys.readouterr().out


def cut(params, cfg, ids):
  """The model with the first ids alone."""
  tables = {x: params[x][:ids] for x in ('embed', 'head') if x in params}
  return params | tables, dataclasses.replace(cfg, vocab_size=ids, real_vocab=0)


def test_a_model_without_a_tokenizer_is_refused(copied):
  (copied / 'tokenizer.json').unlink()
  with pytest.raises(errors.UserError, match='holds no tokenizer: put its'):
    load(str(copied))


def test_a_tokenizer_without_an_end_token_is_refused(copied):
  edit(copied / 'tokenizer_config.json', eos_token=None)
  edit(copied / 'generation_config.json', eos_token_id=None)
  edit(copied / 'config.json', eos_token_id=None)
  with pytest.raises(errors.UserError, match='names no end token'):
    load(str(copied))


def test_rows_longer_than_the_context_are_refused(copied):
  edit(copied / 'config.json', max_position_embeddings=33)
  _, cfg, _ = load(str(copied))
  policy.check_length(cfg, 33)
  with pytest.raises(errors.UserError, match='34 tokens, but the model has 33'):
    policy.check_length(cfg, 34)


def test_extra_tokens_are_one_token_each():
  scratch = dataclasses.replace(SCRATCH, extra_tokens=('one, ', '一、'))
  _, cfg, tokenizer = load(scratch=scratch)
  assert len(tokenizer.encode('<think>one, 一、one, ')) == 4
  assert tokenizer.decode(tokenizer.encode('一、one, x')) == '一、one, x'
  assert cfg.vocab_size == tokenizer.vocab_size == 256 + 1 + 4 + 2


def test_load_refuses_a_reward_model(tmp_path):
  params, cfg, tokenizer = load()
  facts = dict(kind='pairwise')
  pretrained.save(
    tmp_path / 'model',
    *transformer.with_score(params, cfg),
    tokenizer,
    reward=facts,
  )
  with pytest.raises(errors.UserError, match='gives scores, no text'):
    load(str(tmp_path / 'model'))
  loaded = policy.load_with_tokenizer(str(tmp_path / 'model'), COMPUTE)
  assert loaded.cfg.score


def test_a_small_deepseek_is_made_from_scratch_and_saved(tmp_path):
  scratch = dataclasses.replace(SCRATCH, family='deepseek', layers=2)
  params, cfg, tokenizer = load(scratch=scratch, absorbed=False)
  assert not cfg.absorbed and cfg.moe.shared_ffn == 64
  assert params['layers']['experts_down'].shape == (1, 8, 64, 12)
  pretrained.save(tmp_path / 'model', params, cfg, tokenizer)
  read = load(str(tmp_path / 'model'))
  assert read.cfg == dataclasses.replace(cfg, absorbed=True)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(groups=3), 'groups is 3: it must divide'),
    (dict(top_groups=3), 'top_groups is 3: there are 2 groups'),
    (dict(experts_per_token=5), 'experts_per_token is 5: there are 4 experts'),
    (dict(dense_layers=4), 'dense_layers is 4: the model has 1 layers'),
  ],
)
def test_experts_from_scratch_that_do_not_fit_are_refused(changes, message):
  scratch = dataclasses.replace(SCRATCH, family='deepseek', **changes)
  with pytest.raises(errors.UserError, match=message):
    load(scratch=scratch)
