"""llama.cpp opens the GGUF files that r1jax writes: the same ids of texts, the
same logits, the same greedy tokens, the same prompts."""

import dataclasses
import json
import os
import subprocess

import jax
import numpy as np
import pytest
import toy_export
import toy_pretrained
import toy_tokenizers

from r1jax.checkpoints import gguf_writer, pretrained, tokenization
from r1jax.export import command
from r1jax.models import transformer

pytestmark = pytest.mark.users
TEXTS = (
  "We'll add 1234567 and 89, I'M sure\n\n  stop\t\ttabs \n",
  'x²=½·π, naïve café, 你好，世界。 Привет 🙂 éa',
  '<think>\n12 + 30 = 42 </think> <|user|> a<|end|> b',
  '   leading, trailing   ',
)
NEW = 24  # greedy tokens
# Prints the ids of each text in argv[2], the logits after each of the first
# text's ids, the greedy tokens after them, and the prompt of the chat template.
# Ids that pad the vocabulary are left out: r1jax never samples them.
OPEN = """
import json, sys
import llama_cpp
from llama_cpp import llama_chat_format
model = llama_cpp.Llama(
  sys.argv[1], n_ctx=256, logits_all=True, verbose=False, n_threads=1,
  n_threads_batch=1,
  type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32,
)
texts = json.loads(sys.argv[2])
ids = [model.tokenize(x.encode(), add_bos=False, special=True) for x in texts]
model.eval(ids[0])
size = int(sys.argv[4])
logits = model.scores[: len(ids[0]), :size].tolist()
tokens = []
for _ in range(int(sys.argv[3])):
  scores = model.scores[model.n_tokens - 1, :size]
  tokens.append(int(scores.argmax()))
  model.eval(tokens[-1:])
prompt, template = '', model.metadata.get('tokenizer.chat_template')
if template:
  make = llama_chat_format.Jinja2ChatFormatter(template, '', '')
  messages = [dict(role='user', content=texts[0])]
  prompt = make(messages=messages).prompt
print(json.dumps(dict(ids=ids, logits=logits, tokens=tokens, prompt=prompt)))
"""


def opened(path, vocab_size, texts=TEXTS):
  """What llama.cpp finds in a file."""
  arguments = str(path), json.dumps(texts), str(NEW), str(vocab_size)
  process = subprocess.run(
    [os.environ['R1JAX_USERS_PYTHON'], '-c', OPEN, *arguments],
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert process.returncode == 0, process.stderr
  return json.loads(process.stdout)


def greedy(params, cfg, ids):
  """(the logits of the ids, the greedy tokens after them)."""
  row, count = [*ids, *[0] * NEW], len(ids)
  for n in range(count, len(row)):
    logits_TV = toy_pretrained.all_logits(params, cfg, row)
    row[n] = int(logits_TV[n - 1, : cfg.real_vocab].argmax())
  return logits_TV[:count, : cfg.real_vocab], row[count:]


def write(path, family, tokenizer, **changes):
  """A file of a random model of a family, whose vocabulary is padded; (params,
  cfg) of it as r1jax reads it."""
  folder = toy_pretrained.write_directory(path / 'hf', family, **changes)
  _, cfg, _ = pretrained.load(folder)
  size = tokenizer.vocab_size
  cfg = dataclasses.replace(cfg, vocab_size=size + 3, real_vocab=size)
  params = jax.device_get(transformer.init(jax.random.key(0), cfg))
  file = path / 'model.gguf'
  gguf_writer.save(file, params, cfg, tokenizer, 'float32')
  return file, *pretrained.load(file)


CHANGES = dict(
  llama3=dict(
    rope_parameters=dict(
      rope_type='llama3',
      rope_theta=5e5,
      factor=8.0,
      low_freq_factor=1.0,
      high_freq_factor=4.0,
      original_max_position_embeddings=8192,
    )
  ),
  mistral=dict(sliding_window=None),
  gemma2=dict(query_pre_attn_scalar=10),
  gemma3=dict(query_pre_attn_scalar=10, layer_types=['sliding_attention'] * 3),
)


@pytest.mark.parametrize(
  'family',
  ['llama3', 'llama_tied', 'qwen2', 'qwen3', 'qwen3_moe', 'mistral']
  + ['gemma2', 'gemma3'],
)
def test_a_model_of_each_architecture_has_the_same_greedy_tokens(
  family, tmp_path
):
  tokenizer = tokenization.ByteTokenizer()
  changes = CHANGES.get(family, {})
  file, params, cfg, again = write(tmp_path, family, tokenizer, **changes)
  found = opened(file, tokenizer.vocab_size)
  assert found['ids'] == [tokenizer.encode(text) for text in TEXTS]
  assert found['ids'] == [again.encode(text) for text in TEXTS]
  logits_TV, tokens = greedy(params, cfg, found['ids'][0])
  # llama.cpp looks up GELU in a table of float16.
  atol = 5e-3 if family.startswith('gemma') else 2e-4
  np.testing.assert_allclose(found['logits'], logits_TV, rtol=0, atol=atol)
  assert found['tokens'] == tokens


@pytest.mark.parametrize(
  'kind',
  ['llama-bpe', 'qwen2', 'gpt-2', 'smollm', 'deepseek-v3']
  + ['sentencepiece', 'sentencepiece with a prefix'],
)
def test_a_tokenizer_of_each_kind_has_the_same_ids(kind, tmp_path):
  if kind.startswith('sentencepiece'):
    has_prefix = kind.endswith('prefix')
    tokenizer = toy_tokenizers.sentencepiece(tmp_path, has_prefix)
  else:
    tokenizer = toy_tokenizers.byte_level(kind)
  file, *_ = write(tmp_path, 'qwen2', tokenizer)
  found = opened(file, tokenizer.vocab_size)
  assert found['ids'] == [tokenizer.encode(text) for text in TEXTS]


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_an_exported_run_has_the_prompts_of_training(dtype, tmp_path):
  run = toy_export.write_run(
    tmp_path, 'prompt.template=r1_zero', 'prompt.prefill="<think>"'
  )
  output = tmp_path / 'out'
  command.run(
    [str(run), '--step=best', '--format=gguf', f'--dtype={dtype}']
    + ['--output', str(output), '--shard-size=20KB']
  )
  first = sorted(output.glob('*.gguf'))[0]
  params, cfg, tokenizer = pretrained.load(first)
  found = opened(first, tokenizer.vocab_size, ('What is 12 * 7?',))
  assert found['prompt'].endswith('User: What is 12 * 7?. Assistant:<think>')
  assert found['ids'] == [tokenizer.encode('What is 12 * 7?')]
  logits_TV, tokens = greedy(params, cfg, found['ids'][0])
  # llama.cpp rounds the inputs of products to the dtype of the weights.
  atol = dict(float32=2e-4, bfloat16=0.1, float16=0.01)[dtype]
  np.testing.assert_allclose(found['logits'], logits_TV, rtol=0, atol=atol)
  if dtype == 'float32':
    assert found['tokens'] == tokens
