"""An out-of-memory error says which part was too large and which keys make it
smaller."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from r1jax import errors
from r1jax.training import memory_errors

CONFIG = toy.built('rl', 'init=a/model', 'micro_batch_size=8')


def caught(fail, part='update', config=CONFIG):
  with pytest.raises(errors.OutOfMemory) as error:
    with memory_errors.explained(part, config):
      fail()
  code, sentence = errors.exit_status(error.value)
  assert code == errors.USER_ERROR and '\n' not in sentence
  return sentence


def raising(text):
  def fail():
    raise jax.errors.JaxRuntimeError(f'RESOURCE_EXHAUSTED: {text}')

  return fail


def test_an_array_that_no_device_can_hold_is_explained():
  sentence = caught(lambda: jnp.zeros((1 << 23, 1 << 22)).block_until_ready())
  start = (
    'out of memory in the update: 128 TiB could not be allocated. To make '
  )
  assert sentence.startswith(start)
  assert 'lower config.micro_batch_size (now 8)' in sentence
  assert 'config.compute.remat=full (now none, recomputes' in sentence


def test_an_error_of_a_program_in_the_background_is_explained():
  def fail():
    raise jax.errors.JaxRuntimeError(
      'INTERNAL: Error dispatching computation: Out of memory allocating '
      '31460425728 bytes.'
    )

  assert 'in the rollout: 29.3 GiB could not be' in caught(fail, 'rollout')


def test_memory_of_the_host_is_explained():
  sentence = caught(
    lambda: np.zeros((1 << 23, 1 << 22)), 'loading of the model'
  )
  assert '256. TiB could not be allocated' in sentence
  assert 'a smaller model as config.init (a/model)' in sentence


@pytest.mark.parametrize(
  'text, size',
  [
    (
      'Out of memory while trying to allocate 17179869184 bytes.',
      '16 GiB could not be allocated',
    ),
    (
      'XLA:TPU compile permanent error. Ran out of memory in memory space hbm. '
      'Used 20.31G of 15.75G hbm. Exceeded hbm capacity by 4.56G.',
      'the program needs 20.31G of 15.75G on a device',
    ),
    (
      'Attempting to allocate 1.50G. That was not possible. There are 1.23G '
      'free.',
      '1.50G could not be allocated',
    ),
    ('Failed to allocate request for 2.00GiB (2147483648B)', 'Failed to alloc'),
  ],
)
def test_the_size_is_that_of_the_error(text, size):
  assert f'in the rollout: {size}' in caught(raising(text), 'rollout') or (
    size in caught(raising(text), 'rollout')
  )


def test_only_keys_that_the_stage_has_are_named():
  rl, sft = (
    memory_errors.advice('update', x) for x in (CONFIG, toy.built('sft'))
  )
  assert 'config.sample.max_new_tokens' in rl and 'config.max_len' not in rl
  assert 'config.max_len' in sft and 'config.sample' not in sft


def test_nothing_is_said_of_a_key_that_cannot_be_smaller():
  config = toy.built('rl', 'init=a', 'micro_batch_size=1', 'compute.remat=full')
  advice = memory_errors.advice('update', config)
  assert 'micro_batch_size' not in advice and 'remat' not in advice
  assert advice.endswith('or more devices, or devices with more memory')


@pytest.mark.parametrize('part', memory_errors.KEYS)
def test_every_key_is_one_of_a_stage(part):
  known = set()
  for name in 'rl', 'sft', 'reject', 'evaluate', 'reward_model':
    options = toy.stage(name).Config()
    known |= {key for key, _, _ in memory_errors.configs.named_options(options)}
  assert set(memory_errors.KEYS[part].split()) <= known
  assert memory_errors.advice(part, CONFIG)


def test_other_errors_are_left_alone():
  for error in ValueError('x'), jax.errors.JaxRuntimeError('INTERNAL: x'):
    with pytest.raises(type(error)):
      with memory_errors.explained('update', CONFIG):
        raise error
  quota = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: too many requests')
  assert not errors.is_out_of_memory(quota)


def test_the_innermost_part_is_named():
  with pytest.raises(errors.OutOfMemory, match='in the rollout'):
    with memory_errors.explained('update', CONFIG):
      with memory_errors.explained('rollout', CONFIG):
        raise MemoryError


def test_an_error_outside_of_all_parts_is_no_traceback():
  code, sentence = errors.exit_status(MemoryError('of a page'))
  assert code == 2 and sentence.startswith('out of memory (MemoryError: of a')
