"""A model in Python: loads it, computes logits and log-probabilities, samples
responses, saves it."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from r1jax import errors
from r1jax.api import work_directory
from r1jax.api.work_directory import Dtype
from r1jax.checkpoints import pretrained
from r1jax.checkpoints.policy import Policy
from r1jax.config import MAX_SEED
from r1jax.data import batching, record_files, templates
from r1jax.data.templates import PromptConfig
from r1jax.distributed import device_placement, programs
from r1jax.models import token_logprobs, transformer
from r1jax.models.transformer import ModelConfig
from r1jax.sampling import generate
from r1jax.sampling.decode import SampleConfig
from r1jax.sampling.generate import Sampler, Samples

MIN_WIDTH = 16  # of padded rows
# More rows or prompts are computed in several calls, so that memory does not
# grow with their number.
ROWS_PER_CALL = 64
Rows = np.ndarray | Sequence[Sequence[int]]


class Response(NamedTuple):
  """A sampled response."""

  text: str  # with its opening in the prompt, without the end token
  ids: list[int]  # of the tokens after the prompt, the end token included
  logprobs: np.ndarray  # of each id, as sampled; 0 for the results of a tool
  finished: bool  # False if max_new_tokens ended it


class Model:
  """A policy on the first device of this process. Make one with r1jax.load()."""

  def __init__(self, policy: Policy) -> None:
    self.placement = device_placement.placement(
      device_placement.ParallelConfig(), jax.devices()[:1]
    )
    self.cfg, self.tokenizer = policy.cfg, policy.tokenizer
    self.params = device_placement.put_state(self.placement, policy.params)
    self._samplers: dict[tuple, Sampler] = {}

  def __repr__(self) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
    return (
      f'Model({count:,} parameters, {self.cfg.layers} layers, '
      f'{self.vocab_size} ids, {self.cfg.dtype})'
    )

  @property
  def vocab_size(self) -> int:
    """The number of ids, without those that pad the vocabulary."""
    return self.cfg.real_vocab or self.cfg.vocab_size

  def logits(self, ids_BT: Rows) -> np.ndarray:
    """float32 logits [B, T, V] over the tokenizer's V ids. Those in column t
    are about the token in column t + 1. Rows may have different lengths; what
    follows the end of a row has no meaning."""
    tokens_BT, pos_BT = self._padded(ids_BT)
    B, T = len(ids_BT), max(map(len, ids_BT))
    logits_BTV = np.empty((B, T, self.vocab_size), np.float32)
    for part in _slices(B):
      part_BTV = np.asarray(
        _logits(self.params, self.cfg, tokens_BT[part], pos_BT[part])
      )
      out_BTV = logits_BTV[part]
      out_BTV[...] = part_BTV[: len(out_BTV), :T, : self.vocab_size]
    return logits_BTV

  def logprobs(self, ids_BT: Rows) -> np.ndarray:
    """float32 [B, T]: in column t log p(token t | tokens before t). It is 0 in
    column 0 and after the end of a row. Rows may have different lengths."""
    tokens_BT, pos_BT = self._padded(ids_BT)
    B, T = len(ids_BT), max(map(len, ids_BT))
    parts = [
      np.asarray(_logprobs(self.params, self.cfg, tokens_BT[n], pos_BT[n]))
      for n in _slices(B)
    ]
    return np.concatenate(parts)[:B, :T]

  def generate(
    self,
    prompts: Sequence[str | dict],
    group: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
    template: str = 'plain',
    stop: str | Sequence[str] = (),
    prefill: str = '',
  ) -> list[list[Response]]:
    """A list of `group` responses to each prompt, which is a text or a record.
    Temperature 0 takes the most probable tokens. The template is 'plain',
    'chat', 'r1_zero' or a text with {question}; each text of `stop` ends a
    response, which begins with `prefill`."""
    prompt = PromptConfig(
      template=template,
      prefill=prefill,
      stop_strings=(stop,) if isinstance(stop, str) else tuple(stop),
    )
    sample = SampleConfig(
      max_new_tokens=max_new_tokens, temperature=temperature
    )
    return self.sample(prompts, group, seed, prompt, sample)

  def sample(
    self,
    prompts: Sequence[str | dict],
    group: int,
    seed: int,
    prompt: PromptConfig,
    sample: SampleConfig,
  ) -> list[list[Response]]:
    """generate() with the sections `prompt` and `sample` of a config."""
    numbers = dict(group=group, max_new_tokens=sample.max_new_tokens)
    for name, number in numbers.items():
      if number < 1:
        raise errors.UserError(f'{name} is {number}: it must be at least 1')
    if sample.temperature < 0:
      raise errors.UserError(
        f'temperature is {sample.temperature}: it must be at least 0'
      )
    if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
      raise errors.UserError(
        f'seed is {seed!r}: it must be an integer from 0 to {MAX_SEED}'
      )
    generate.check(prompt, sample)
    records = _records(prompts)
    if not records:
      return []
    prompt = dataclasses.replace(prompt, max_len=self.cfg.max_len)
    sampler = self._sampler(records, prompt, sample)
    found = []
    for start in range(0, len(records), ROWS_PER_CALL):
      part = records[start : start + ROWS_PER_CALL]
      samples = sampler.sample(
        self.params,
        part,
        start + np.arange(len(part)),
        jax.random.key(seed),
        group,
        # Few different numbers of prompts, so that few programs are compiled.
        num_prompts=min(_bucket(len(records), 1), ROWS_PER_CALL),
      )
      first = range(0, len(part) * group, group)
      found += [_responses(samples, n, group) for n in first]
    return found

  def save(
    self,
    directory: str | Path,
    dtype: Literal['auto', 'float32', 'bfloat16', 'float16'] = 'auto',
  ) -> None:
    """Writes a Hugging Face directory, which transformers and r1jax open. 'auto'
    is bfloat16 if the model was loaded from bfloat16 or float8, else float32."""
    if dtype not in ('auto', 'float32', 'bfloat16', 'float16'):
      raise errors.UserError(
        f'dtype is {dtype!r}: it can be auto, float32, bfloat16 or float16'
      )
    if dtype == 'auto':
      is_bfloat16 = self.cfg.saved_dtype == 'bfloat16'
      dtype = 'bfloat16' if is_bfloat16 else 'float32'
    pretrained.save(
      directory, self.params, self.cfg, self.tokenizer, dtype=dtype
    )

  def _padded(self, ids_BT):
    """(tokens_BT, pos_BT) with numbers of rows and columns that are powers of
    2, so that few programs are compiled. Raises UserError for wrong ids."""
    rows = [np.asarray(row) for row in ids_BT]
    for n, row in enumerate(rows):
      if row.ndim != 1 or not row.size or row.dtype.kind not in 'iu':
        raise errors.UserError(
          f'row {n} is not a list of ids: give rows, such as [[1, 2, 3], [4, 5]]'
        )
      wrong = row[(row < 0) | (row >= self.vocab_size)]
      if wrong.size:
        raise errors.UserError(
          f'row {n} has the id {wrong[0]}: the model has the ids 0 to '
          f'{self.vocab_size - 1}'
        )
    if not rows:
      raise errors.UserError('there are no rows of ids')
    longest = max(map(len, rows))
    self._check_length(longest, 'the longest row')
    width = min(_bucket(longest), self.cfg.max_len)
    rows += [rows[0][:0]] * (_bucket(len(rows), 1) - len(rows))
    tokens_BT, mask_BT = batching.pad_rows(rows, width)
    return tokens_BT, np.where(mask_BT, np.arange(width), -1)

  def _sampler(self, records, prompt, sample):
    """The Sampler for these records, from an earlier call if that fits."""
    longest, rest = 0, sample.max_new_tokens + prompt.results_len
    for n, record in enumerate(records):
      made = templates.make_prompt(self.tokenizer, record, prompt)
      length = len(self.tokenizer.encode(made.full_text))
      what = f'prompt {n}, of {length} tokens, with a response of {rest}'
      self._check_length(length + rest, what)
      longest = max(longest, length)
    width = min(_bucket(longest), self.cfg.max_len - rest)
    key = prompt, sample, width
    if key not in self._samplers:
      self._samplers[key] = Sampler(
        self.placement, self.cfg, self.tokenizer, prompt, sample, width
      )
    return self._samplers[key]

  def _check_length(self, length, what):
    if length > self.cfg.max_len:
      raise errors.UserError(
        f'{what} has {length} tokens: the model has {self.cfg.max_len} '
        'positions'
      )


def load(source: str | Path, dtype: Dtype = 'float32') -> Model:
  """The model of a directory, a GGUF file or a hub name (ORG/NAME), or of a
  run: RUN is its result, RUN@STEP a checkpoint, RUN@best the one with the
  highest held-out score, RUN@last the newest. The dtype is that of the matrix
  products."""
  if not isinstance(source, str | Path) or not str(source):
    raise errors.UserError(
      f'load: no source is given ({source!r}): name the directory of a model or '
      'a run, RUN@STEP, a GGUF file, or ORG/NAME'
    )
  if dtype not in ('float32', 'bfloat16'):
    raise errors.UserError(f'dtype is {dtype!r}: it can be float32 or bfloat16')
  programs.compilation_cache()
  return Model(work_directory.load(str(source), dtype))


def _records(prompts):
  """Records with ids, of texts and records."""
  if isinstance(prompts, str | Mapping):
    raise errors.UserError(
      f'the prompts must be a list, not {prompts!r}: write [{prompts!r}]'
    )
  records = []
  for n, prompt in enumerate(prompts):
    record = dict(prompt=prompt) if isinstance(prompt, str) else prompt
    if not isinstance(record, Mapping):
      raise errors.UserError(
        f'prompt {n} is {prompt!r}: it must be a text or a record'
      )
    records.append(record_files.own_record(record, f'prompt {n}', str(n)))
  return records


def _responses(samples: Samples, start: int, group: int) -> list[Response]:
  """The responses of the rows from `start` on."""
  rows, responses = samples.rows, []
  for n in range(start, start + group):
    first, end = rows.mask_BL[n].argmax(), (rows.pos_BL[n] >= 0).sum()
    responses.append(
      Response(
        text=samples.texts[n],
        ids=rows.tokens_BL[n, first:end].tolist(),
        logprobs=rows.logp_BL[n, first:end],
        finished=bool(rows.finished_B[n]),
      )
    )
  return responses


def _bucket(length: int, minimum: int = MIN_WIDTH) -> int:
  """The smallest power of 2 that is not below the length or the minimum."""
  return max(1 << max(length - 1, 0).bit_length(), minimum)


def _slices(rows):
  """Slices of at most ROWS_PER_CALL rows."""
  return [slice(n, n + ROWS_PER_CALL) for n in range(0, rows, ROWS_PER_CALL)]


@functools.partial(jax.jit, static_argnames='cfg')
def _logits(params: dict, cfg: ModelConfig, tokens_BT: Any, pos_BT: Any) -> Any:
  hidden_BTD = transformer.forward(params, cfg, tokens_BT, pos_BT).hidden_BTD
  return transformer.unembed(params, cfg, hidden_BTD)


@functools.partial(jax.jit, static_argnames='cfg')
def _logprobs(
  params: dict, cfg: ModelConfig, tokens_BT: Any, pos_BT: Any
) -> Any:
  return token_logprobs.logprobs(params, cfg, tokens_BT, pos_BT)[0]
