"""Parity with transformers (`make test-torch`).

R1JAX_TORCH_PYTHON is an interpreter with torch and transformers, and
R1JAX_TORCH_MODEL, which is optional, a real checkpoint.
"""

import json
import os
import pathlib
import subprocess

import jax
import numpy as np
import pytest
import safetensors.numpy
import toy_deepseek
import toy_mxfp4
import toy_pretrained
from golden import make_deepseek

from r1jax.checkpoints import pretrained, tokenization
from r1jax.models import transformer
from r1jax.rewards import reward_model

pytestmark = pytest.mark.torch
TEXTS = (
  'Natalia sold clips to 48 of her friends in April,\n'
  'and half as many in May. ',
  "naïve — 你好，世界 🙂 we'll <think>x²</think>\t 12+34=46",
)
# Loads DIRECTORY and saves it as DIRECTORY.saved. Writes the logits of the ids in
# argv[2], and for each text on stdin its ids, the ids with 64 greedy tokens, and
# the logits in float32 and float64.
OPEN = """
import json, pathlib, sys
import numpy, torch, transformers
directory = pathlib.Path(sys.argv[1])
model = transformers.AutoModelForCausalLM.from_pretrained(
  directory, dtype=torch.float32, experts_implementation='eager'
)
model.save_pretrained(f'{directory}.saved')
if len(sys.argv) > 2:
  with torch.no_grad():
    logits = model(torch.tensor([json.loads(sys.argv[2])])).logits[0]
  numpy.save(directory.with_suffix('.npy'), logits.numpy())
texts = json.load(sys.stdin)
if texts:
  tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
for i, text in enumerate(texts):
  ids = tokenizer.encode(text, add_special_tokens=False)
  ids = torch.tensor([ids])
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
# Writes the tensors of the models of directories as they are in memory.
STATES = """
import sys
import safetensors.torch, torch, transformers
for directory in sys.argv[1:]:
  model = transformers.AutoModelForCausalLM.from_pretrained(
    directory, dtype=torch.float32
  )
  state = {k: v.contiguous() for k, v in model.state_dict().items()}
  safetensors.torch.save_file(state, directory + '.safetensors')
"""
# Writes what the weights in MXFP4 of a directory stand for.
DEQUANTIZE = """
import sys
import safetensors.torch, torch
from transformers.integrations import mxfp4
tensors = safetensors.torch.load_file(sys.argv[1] + '/model.safetensors')
names = [k.removesuffix('_blocks') for k in tensors if k.endswith('_blocks')]
safetensors.torch.save_file({
  name: mxfp4.dequantize_convertops(
    tensors[f'{name}_blocks'], tensors[f'{name}_scales'], torch.bfloat16
  ) for name in names
}, sys.argv[1] + '.safetensors')
"""
# The scores of rows of ids. Each row is a batch, so none is padded.
SCORE = """
import json, sys
import torch, transformers
model = transformers.AutoModelForSequenceClassification.from_pretrained(
  sys.argv[1], dtype=torch.float32, experts_implementation='eager'
)
with torch.no_grad():
  rows = [model(torch.tensor([ids])).logits for ids in json.load(sys.stdin)]
print(json.dumps([row.tolist() for row in rows]))
"""


@pytest.fixture(scope='module')
def python():
  if 'R1JAX_TORCH_PYTHON' not in os.environ:
    pytest.skip('R1JAX_TORCH_PYTHON is not set')
  return os.environ['R1JAX_TORCH_PYTHON']


def open_in_transformers(python, directory, texts=(), ids=(0,)):
  """The tensors of a directory that transformers loads and saves again."""
  subprocess.run(
    [python, '-c', OPEN, str(directory), json.dumps(ids)],
    input=json.dumps(texts),
    text=True,
    check=True,
  )
  return safetensors.numpy.load_file(f'{directory}.saved/model.safetensors')


def run_script(python, name, directory):
  """Runs golden/NAME.py, which writes files to a directory."""
  tests = pathlib.Path(__file__).parents[1]
  command = [python, '-m', f'golden.{name}', str(directory)]
  subprocess.run(command, check=True, cwd=tests)


@pytest.fixture(scope='module')
def made(python, tmp_path_factory):
  path = tmp_path_factory.mktemp('made')
  run_script(python, 'make_convert', path)
  return path


@pytest.mark.parametrize('family', toy_pretrained.FAMILIES)
def test_a_checkpoint_of_transformers_gives_its_logits(family, made):
  params, cfg, _ = pretrained.load(made / family)
  entry = json.loads((made / 'convert.json').read_text())[family]
  toy_pretrained.assert_same_function(params, cfg, entry)


@pytest.mark.parametrize('family', toy_pretrained.FAMILIES)
def test_transformers_loads_what_save_wrote(family, python, made, tmp_path):
  params, cfg, _ = pretrained.load(made / family)
  pretrained.save(tmp_path / 'out', params, cfg)
  entry = json.loads((made / 'convert.json').read_text())[family]
  reopened = open_in_transformers(python, tmp_path / 'out', ids=entry['tokens'])
  logits_TV = np.load(tmp_path / 'out.npy')
  np.testing.assert_allclose(
    logits_TV[::10], entry['logits_every_10'], rtol=0, atol=1e-5
  )
  want = safetensors.numpy.load_file(made / family / 'model.safetensors')
  toy_pretrained.assert_same_tree(reopened, want)


@pytest.mark.parametrize('family', toy_pretrained.FAMILIES)
def test_transformers_gives_a_reward_model_the_same_scores(
  family, python, made, tmp_path
):
  params, cfg, _ = pretrained.load(made / family)
  params, cfg = transformer.with_score(params, cfg)
  noise = np.random.default_rng(0).standard_normal(cfg.width)
  params |= dict(score=noise.astype(np.float32))
  pretrained.save(tmp_path / 'out', params, cfg)
  # Longer than the original length of LongRoPE, or of one token.
  rows = [[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9], [8]]
  tokens_BL, pos_BL = reward_model.pad(rows, 8)
  ours_B = transformer.scores(params, cfg, tokens_BL, pos_BL)
  stdout = subprocess.run(
    [python, '-c', SCORE, str(tmp_path / 'out')],
    input=json.dumps(rows),
    text=True,
    check=True,
    capture_output=True,
  ).stdout
  theirs_B11 = np.array(json.loads(stdout))
  assert theirs_B11.shape == (3, 1, 1) and np.abs(theirs_B11).min() > 0.01
  np.testing.assert_allclose(ours_B, theirs_B11[:, 0, 0], rtol=0, atol=1e-4)


def test_deepseek_models_are_those_of_transformers_and_it_opens_their_exports(
  python, tmp_path
):
  run_script(python, 'make_deepseek', tmp_path)
  entries = json.loads((tmp_path / 'deepseek.json').read_text())
  directories, worst = [], 0.0
  for kind, entry in entries.items():
    golden = toy_deepseek.GOLDEN[kind]
    assert entry['tokens'] == golden['tokens']
    source, export = tmp_path / kind, tmp_path / f'{kind}_export'
    params, cfg, _ = pretrained.load(source)
    logits_TV = toy_pretrained.all_logits(params, cfg, entry['tokens'])
    want = np.array(entry['logits_every'])
    difference = np.abs(logits_TV[:: make_deepseek.EVERY] - want).max()
    worst = max(worst, difference)
    pretrained.save(export, params, cfg)
    directories += [str(source), str(export)]
  print(f'max |difference of logits| {worst:.2g}')
  assert worst <= 1e-5
  subprocess.run([python, '-c', STATES, *directories], check=True)
  for kind in entries:
    want, reopened = (
      safetensors.numpy.load_file(tmp_path / f'{name}.safetensors')
      for name in (kind, f'{kind}_export')
    )
    toy_pretrained.assert_same_tree(reopened, want)


def test_weights_in_mxfp4_are_those_of_transformers(python, tmp_path):
  params = jax.device_get(transformer.init(jax.random.key(0), toy_mxfp4.CFG))
  source, export = tmp_path / 'in', tmp_path / 'out'
  toy_mxfp4.write_directory(source, params)
  subprocess.run([python, '-c', DEQUANTIZE, str(source)], check=True)
  params, cfg, _ = pretrained.load(source)
  pretrained.save(export, params, cfg)
  saved = safetensors.numpy.load_file(export / 'model.safetensors')
  theirs = safetensors.numpy.load_file(f'{source}.safetensors')
  assert len(theirs) == 4
  for name, want in theirs.items():
    np.testing.assert_array_equal(saved[name], want.astype(np.float32))


def test_a_real_checkpoint_and_its_export_give_the_same_logits(
  python, tmp_path
):
  if 'R1JAX_TORCH_MODEL' not in os.environ:
    pytest.skip('R1JAX_TORCH_MODEL is not set')
  params, cfg, tokenizer = pretrained.load(os.environ['R1JAX_TORCH_MODEL'])
  pretrained.save(tmp_path / 'out', params, cfg, tokenizer)
  open_in_transformers(python, tmp_path / 'out', TEXTS)
  assert tokenizer.chat([dict(role='user', content=TEXTS[0])])
  reloaded = tokenization.load(tmp_path / 'out')
  real = tokenizer.vocab_size
  for i, text in enumerate(TEXTS):
    want = np.load(tmp_path / f'out.{i}.npz')
    ids, tokens = want['ids'].tolist(), want['tokens'].tolist()
    assert tokenizer.encode(text) == reloaded.encode(text) == ids
    logits_TV = toy_pretrained.all_logits(params, cfg, tokens)
    mine, exact = logits_TV[:, :real], want['exact'][:, :real]
    theirs = want['logits'][:, :real]

    def rms(a):
      return np.sqrt(np.mean((a - exact) ** 2))

    print(
      f'{len(tokens)} tokens: max |difference of logits| '
      f'{np.abs(mine - theirs).max():.2g}; rms difference from float64: '
      f'{rms(mine):.2g}, of transformers {rms(theirs):.2g}'
    )
    # The first tokens of SmolLM2 have huge activations: transformers' own
    # float32 logits differ from its float64 logits by 1e-4 there.
    assert np.abs(mine - theirs).max() <= 3e-4 and rms(mine) <= 2 * rms(theirs)
    greedy = logits_TV[len(ids) - 1 : -1].argmax(axis=1)
    np.testing.assert_array_equal(greedy, tokens[len(ids) :])
