"""Tool calls within responses: finds calls, appends their results, and joins
the rows that were continued. The loop over calls is in generate.Sampler."""

import re

import numpy as np

from r1jax import errors
from r1jax.data import tools
from r1jax.data.record_files import Record
from r1jax.data.templates import PromptConfig
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import hosts, watchdog
from r1jax.sampling.decode import SampledRows

RESULTS = re.compile('(' + tools.RESULT.format('.*?') + ')', re.DOTALL)


def check(prompt: PromptConfig, tokenizer: Tokenizer) -> None:
  """Refuses a tool of config.prompt that cannot be used."""
  tools.load(prompt.tool)
  shortest = len(tokenizer.encode(tools.FAILED))
  if prompt.result_len < shortest:
    raise errors.UserError(
      f'config.prompt.result_len is {prompt.result_len}, but the result '
      f'{tools.FAILED} of a failed call has {shortest} tokens: raise it'
    )


def split_results(prompt: PromptConfig, response: str) -> list:
  """[(text, whether the model wrote it)]: a response, split at the results."""
  parts = RESULTS.split(response) if prompt.tool else [response]
  return [(text, n % 2 == 0) for n, text in enumerate(parts) if text]


def ends_with_call(
  prompt: PromptConfig, tokenizer: Tokenizer, rows: SampledRows
) -> np.ndarray:
  """Which finished rows end with a call of the tool: [B] bool."""
  end = tokenizer.encode(tools.load(prompt.tool).end)
  call_B = [ids[-len(end) :] == end for ids in _ids(rows)]
  return np.array(call_B) & rows.finished_B


def prompts_with_results(
  prompt: PromptConfig,
  tokenizer: Tokenizer,
  records_B: list[Record],
  rows: SampledRows,
  answer_B: np.ndarray,
) -> list[list[int]]:
  """The ids of the rows `answer_B`, each with the result of its last call, and
  the first id of the other rows. A result longer than config.prompt.result_len
  is replaced by tools.FAILED. A collective: each host calls the tool for its
  own rows."""
  ids_B = _ids(rows)
  calls = [
    (n, tokenizer.decode(ids_B[n])) for n in np.flatnonzero(answer_B).tolist()
  ]
  own = calls[hosts.own_rows(len(calls))]
  tool, texts = tools.load(prompt.tool), []
  problem = None
  try:
    for n, text in own:
      with watchdog.calling_user_code():
        texts.append(tools.result(tool, text, records_B[n]))
  except errors.UserError as error:
    problem = error
  hosts.raise_on_all(problem)
  results: list[str] = []
  for host_texts in hosts.gather(texts):
    results += host_texts
  prompts = [ids[:1] for ids in ids_B]
  for (n, _), text in zip(calls, results, strict=True):
    result = tokenizer.encode(text)
    if len(result) > prompt.result_len:
      result = tokenizer.encode(tools.FAILED)
    prompts[n] = ids_B[n] + result
  return prompts


def with_width(rows: SampledRows, width: int) -> SampledRows:
  """The rows with their per-token arrays truncated or padded to `width`."""
  fill = dict(tokens_BL=0, pos_BL=-1, logp_BL=0, mask_BL=False)
  padding, arrays = ((0, 0), (0, width)), {}
  for name, value in fill.items():
    a_BL = np.pad(getattr(rows, name), padding, constant_values=value)
    arrays[name] = a_BL[:, :width]
  if rows.routing is not None:
    # The experts of a token differ.
    more = np.broadcast_to(
      np.arange(rows.routing.shape[-1], dtype=rows.routing.dtype),
      (len(rows.routing), width, *rows.routing.shape[2:]),
    )
    routing = np.concatenate([rows.routing, more], axis=1)
    arrays['routing'] = routing[:, :width]
  return rows.replace(**arrays)


def join(
  old: SampledRows, new: SampledRows, answer_B: np.ndarray
) -> SampledRows:
  """The rows `old`, and in place of `answer_B` their continuations in `new`.

  Earlier tokens keep their log-probabilities. Tokens of a result are in
  tokens_BL and pos_BL, but mask_BL is False: the model did not sample them.
  """
  answer_B1 = answer_B[:, None]
  routing = old.routing
  if routing is not None:
    # Also the experts of the tokens that `old` computed: all but the last.
    length_B1 = (old.pos_BL >= 0).sum(axis=1, keepdims=True)
    column_1L = np.arange(old.pos_BL.shape[1])[None]
    is_new_BL = answer_B1 & (column_1L >= length_B1 - 1)
    routing = np.where(is_new_BL[:, :, None, None], new.routing, routing)
  return SampledRows(
    tokens_BL=np.where(answer_B1, new.tokens_BL, old.tokens_BL),
    pos_BL=np.where(answer_B1, new.pos_BL, old.pos_BL),
    logp_BL=np.where(answer_B1 & new.mask_BL, new.logp_BL, old.logp_BL),
    mask_BL=old.mask_BL | (answer_B1 & new.mask_BL),
    finished_B=np.where(answer_B, new.finished_B, old.finished_B),
    steps=old.steps + new.steps,
    live=old.live + new.live,
    restarted=_sum(old.restarted, new.restarted),
    routing=routing,
  )


def _sum(a, b):
  return None if a is None else a + b


def _ids(rows):
  """The ids of each row, without its padding."""
  length_B = (rows.pos_BL >= 0).sum(axis=1)
  return [row[:n].tolist() for row, n in zip(rows.tokens_BL, length_B)]
