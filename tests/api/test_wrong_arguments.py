"""Wrong arguments are answered by a sentence, before anything is written."""

import pytest

import r1jax

CONFIG = r1jax.configure('sft')


@pytest.mark.parametrize(
  'name, arguments, keys, sentence',
  [
    ('run', [dict(steps=3), 'w'], {}, "the config is dict {'steps': 3}: give"),
    ('run', [None, 'w'], {}, 'the config is NoneType None: give'),
    ('run', [CONFIG, None], {}, 'the work directory is None: give'),
    ('run', [CONFIG, ''], {}, "the work directory is '': give"),
    ('run', [CONFIG, 'w'], dict(change=['steps=20']), 'change is list'),
    ('run', [CONFIG, 'w'], dict(change={3: 4}), 'change is dict {3: 4}'),
    ('run', [CONFIG, 'w'], dict(records=[]), 'no records are given'),
    ('run', [CONFIG, 'w'], dict(records=iter(())), 'no records are given'),
    ('run', [CONFIG, 'w'], dict(records=3), 'records is int 3: give a list'),
    ('run', [CONFIG, 'w'], dict(records=dict(prompt='1')), 'records is dict'),
    ('run', [CONFIG, 'w'], dict(records=[{}, 1]), 'record 1 is int 1: give'),
    ('open_run', [None], {}, 'the work directory is None: give'),
    ('load', [''], {}, "load: no source is given ('')"),
    ('load', [None], {}, 'load: no source is given (None)'),
  ],
)
def test_a_wrong_argument_is_refused(
  name, arguments, keys, sentence, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(r1jax.UserError) as error:
    getattr(r1jax, name)(*arguments, **keys)
  assert sentence in str(error.value)
  assert not list(tmp_path.iterdir())
