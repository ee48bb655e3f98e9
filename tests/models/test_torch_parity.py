"""Against transformers itself: R1JAX_TORCH_PYTHON names an interpreter that has
it (`make test-torch`), R1JAX_TORCH_MODEL optionally a real checkpoint."""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest
import safetensors.numpy
from checkpoints import test_pretrained as test_convert
from golden import make_convert

from r1jax.checkpoints import pretrained, tokenization
from r1jax.models import transformer
from r1jax.rewards import reward_model

pytestmark = pytest.mark.torch
TEXTS = (
  'Natalia sold clips to 48 of her friends in April,\nand half as many in May. ',
  "naïve — 你好，世界 🙂 we'll <think>x²</think>\t 12+34=46",
)
# Opens DIRECTORY; writes its tensors, and for each text of stdin its ids, 64
# greedy tokens after it, and the logits after every token in float32 and 64.
OPEN = """
import json, pathlib, sys
import numpy, safetensors.torch, torch, transformers
directory = pathlib.Path(sys.argv[1])
model = transformers.AutoModelForCausalLM.from_pretrained(
  directory, dtype=torch.float32
)
named = {k: v.contiguous() for k, v in dict(model.named_parameters()).items()}
safetensors.torch.save_file(named, directory.with_suffix('.safetensors'))
texts = json.load(sys.stdin)
if texts:
  words = transformers.AutoTokenizer.from_pretrained(directory)
for i, text in enumerate(texts):
  ids = torch.tensor([words.encode(text, add_special_tokens=False)])
  tokens = model.generate(
    ids, do_sample=False, max_new_tokens=64, min_new_tokens=64, pad_token_id=0
  )
  with torch.no_grad():
    logits = model(tokens).logits[0].numpy()
    exact = model.double()(tokens).logits[0].numpy()
  model.float()
  numpy.savez(
    f'{directory}.{i}.npz', ids=ids[0], tokens=tokens[0], logits=logits,
    exact=exact,
  )
"""
# The scores of rows of ids, one at a time: a batch would need a padding token.
SCORE = """
import json, sys
import torch, transformers
model = transformers.AutoModelForSequenceClassification.from_pretrained(
  sys.argv[1], dtype=torch.float32
)
with torch.no_grad():
  rows = [model(torch.tensor([ids])).logits for ids in json.load(sys.stdin)]
print(json.dumps([row.tolist() for row in rows]))
"""


@pytest.fixture(scope='module')
def python():
  if 'R1JAX_TORCH_PYTHON' not in os.environ:
    pytest.skip('R1JAX_TORCH_PYTHON names no interpreter with transformers')
  return os.environ['R1JAX_TORCH_PYTHON']


def open_in_transformers(python, directory, texts=()):
  """The tensors that transformers finds in a directory."""
  subprocess.run(
    [python, '-c', OPEN, str(directory)],
    input=json.dumps(texts),
    text=True,
    check=True,
  )
  return safetensors.numpy.load_file(directory.with_suffix('.safetensors'))


@pytest.fixture(scope='module')
def made(python, tmp_path_factory):
  path = tmp_path_factory.mktemp('made')
  script = pathlib.Path(make_convert.__file__)
  subprocess.run([python, str(script), str(path)], check=True)
  return path


@pytest.mark.parametrize('family', test_convert.FAMILIES)
def test_checkpoints_of_transformers_compute_the_same_here(family, made):
  params, cfg, _ = pretrained.load(made / family)
  entry = json.loads((made / 'convert.json').read_text())[family]
  test_convert.assert_same_function(params, cfg, entry)


@pytest.mark.parametrize('family', test_convert.FAMILIES)
def test_transformers_reopens_what_save_wrote(family, python, made, tmp_path):
  params, cfg, _ = pretrained.load(made / family)
  pretrained.save(tmp_path / 'out', params, cfg)
  reopened = open_in_transformers(python, tmp_path / 'out')
  want = safetensors.numpy.load_file(made / family / 'model.safetensors')
  test_convert.assert_same_tree(reopened, want)


@pytest.mark.parametrize('family', test_convert.FAMILIES)
def test_transformers_gives_a_reward_model_the_same_scores(
  family, python, made, tmp_path
):
  params, cfg, _ = pretrained.load(made / family)
  params, cfg = transformer.with_score(params, cfg)
  noise = np.random.default_rng(0).standard_normal(cfg.width)
  params |= dict(score=noise.astype(np.float32))
  pretrained.save(tmp_path / 'out', params, cfg)
  rows = [[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5], [8]]
  tokens_BL, pos_BL = reward_model.pad(rows, 8)
  ours_B = transformer.scores(params, cfg, tokens_BL, pos_BL)
  said = subprocess.run(
    [python, '-c', SCORE, str(tmp_path / 'out')],
    input=json.dumps(rows),
    text=True,
    check=True,
    capture_output=True,
  ).stdout
  theirs_B11 = np.array(json.loads(said))
  assert theirs_B11.shape == (3, 1, 1) and np.abs(theirs_B11).min() > 0.1
  np.testing.assert_allclose(ours_B, theirs_B11[:, 0, 0], rtol=0, atol=1e-4)


def test_a_real_checkpoint_and_its_export_compute_the_same(python, tmp_path):
  if 'R1JAX_TORCH_MODEL' not in os.environ:
    pytest.skip('R1JAX_TORCH_MODEL names no checkpoint')
  params, cfg, words = pretrained.load(os.environ['R1JAX_TORCH_MODEL'])
  pretrained.save(tmp_path / 'out', params, cfg, words)
  open_in_transformers(python, tmp_path / 'out', TEXTS)
  assert words.chat([dict(role='user', content=TEXTS[0])])
  again, real = tokenization.load(tmp_path / 'out'), words.vocab_size
  for i, text in enumerate(TEXTS):
    want = np.load(tmp_path / f'out.{i}.npz')
    ids, tokens = want['ids'].tolist(), want['tokens'].tolist()
    assert words.encode(text) == again.encode(text) == ids
    logits_TV = test_convert.all_logits(params, cfg, tokens)
    mine, exact = logits_TV[:, :real], want['exact'][:, :real]
    theirs = want['logits'][:, :real]

    def rms(a):
      return np.sqrt(np.mean((a - exact) ** 2))

    print(
      f'{len(tokens)} tokens: max |difference of logits| '
      f'{np.abs(mine - theirs).max():.2g}; from float64 ours {rms(mine):.2g} '
      f'(rms), transformers {rms(theirs):.2g}'
    )
    # On the first tokens of SmolLM2, where activations are huge, transformers'
    # float32 is itself 1e-4 from its float64: ours may be as noisy, not wrong.
    assert np.abs(mine - theirs).max() <= 3e-4 and rms(mine) <= 2 * rms(theirs)
    greedy = logits_TV[len(ids) - 1 : -1].argmax(axis=1)
    np.testing.assert_array_equal(greedy, tokens[len(ids) :])
