"""A policy is a model with the tokenizer that belongs to it."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from r1jax import errors
from r1jax.checkpoints import policy, pretrained
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


def test_scratch_is_a_function_of_the_seed_and_is_read_back_bit_for_bit(saved):
  params, cfg, words = load()
  again, other, read = load(), load(seed=1), load(str(saved))
  assert again[1] == cfg == read[1]
  assert words.vocab_size == cfg.vocab_size == 261
  leaves = [jax.tree.leaves(x) for x in (again[0], read[0], params)]
  for same, loaded, first in zip(*leaves):
    np.testing.assert_array_equal(same, first)
    np.testing.assert_array_equal(loaded, first)
    assert isinstance(first, np.ndarray) and first.dtype == np.float32
  assert np.abs(other[0]['embed'] - params['embed']).max() > 0.1


def test_how_it_is_computed_comes_from_the_config_what_it_is_does_not(saved):
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


def test_ids_that_no_tokenizer_knows_are_left_out(copied):
  """A vocabulary padded for the hardware: the head hides what lies beyond."""
  params, cfg, words = load(str(copied))
  wide = params | dict(embed=np.pad(params['embed'], ((0, 59), (0, 0))))
  pretrained.save(copied, wide, dataclasses.replace(cfg, vocab_size=320), words)
  cfg = load(str(copied))[1]
  assert (cfg.vocab_size, cfg.real_vocab) == (320, 261)


@pytest.mark.parametrize(
  'change, words',
  [
    (dict(dtype='float16'), 'config.compute.dtype can be float32 or bfloat16'),
    (dict(remat='fulll'), 'config.compute.remat none, full or dots'),
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
def test_what_cannot_be_loaded_is_refused_with_what_to_change(change, words):
  with pytest.raises(errors.UserError, match=words):
    load(**change)


def test_tokenizer_and_model_must_agree_in_vocabulary(copied):
  edit(copied / 'config.json', vocab_size=200)
  with pytest.raises(errors.UserError, match='has 261 ids, its model only 200'):
    load(str(copied))


def test_a_model_without_a_tokenizer_is_no_policy(copied):
  (copied / 'tokenizer.json').unlink()
  with pytest.raises(errors.UserError, match='holds no tokenizer: put its'):
    load(str(copied))


def test_a_policy_must_know_how_to_end(copied):
  edit(copied / 'tokenizer_config.json', eos_token=None)
  edit(copied / 'generation_config.json', eos_token_id=None)
  edit(copied / 'config.json', eos_token_id=None)
  with pytest.raises(errors.UserError, match='names no end token'):
    load(str(copied))


def test_rows_must_fit_the_positions_that_the_model_knows(copied):
  edit(copied / 'config.json', max_position_embeddings=33)
  _, cfg, _ = load(str(copied))
  policy.check_length(cfg, 33)
  with pytest.raises(errors.UserError, match='34 tokens; the model knows 33'):
    policy.check_length(cfg, 34)


def test_words_of_a_fresh_policy_are_one_token_each():
  scratch = dataclasses.replace(SCRATCH, words=('one, ', '一、'))
  _, cfg, words = load(scratch=scratch)
  assert len(words.encode('<think>one, 一、one, ')) == 4
  assert words.decode(words.encode('一、one, x')) == '一、one, x'
  assert cfg.vocab_size == words.vocab_size == 256 + 1 + 4 + 2


def test_a_reward_model_is_no_policy(tmp_path):
  params, cfg, words = load()
  facts = dict(kind='pairwise')
  pretrained.save(
    tmp_path / 'model',
    *transformer.with_score(params, cfg),
    words,
    reward=facts,
  )
  with pytest.raises(errors.UserError, match='gives scores and no text'):
    load(str(tmp_path / 'model'))
  assert policy.load(str(tmp_path / 'model'), COMPUTE, None, 0, True)[1].score
