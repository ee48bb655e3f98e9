"""Calls of a tool within a response: finding them, and putting results behind
them. The loop is Sampler.sample's."""

import re

import numpy as np

from r1jax import errors
from r1jax.data.templates import PromptConfig
from r1jax.sampling import tools
from r1jax.sampling.decode import SampledRows

RESULTS = re.compile('(' + tools.RESULT.format('.*?') + ')', re.DOTALL)


def find_tool(prompt: PromptConfig, tokenizer) -> tools.Tool:
  """The Tool that a PromptConfig names."""
  if prompt.tool not in tools.TOOLS:
    raise errors.UserError(
      f"config.prompt.tool is '{prompt.tool}'; it can be {', '.join(tools.TOOLS)}"
    )
  least = len(tokenizer.encode(tools.FAILED))
  if prompt.result_len < least:
    raise errors.UserError(
      f'config.prompt.result_len is {prompt.result_len}: {tools.FAILED} alone has '
      f'{least} tokens'
    )
  return tools.TOOLS[prompt.tool]


def split_results(
  prompt: PromptConfig, response: str
) -> list[tuple[str, bool]]:
  """[(text, whether the model wrote it)] of a response with a tool's results."""
  parts = RESULTS.split(response) if prompt.tool else [response]
  return [(text, n % 2 == 0) for n, text in enumerate(parts) if text]


def ends_with_call(tool, tokenizer, rows: SampledRows) -> np.ndarray:
  """Which finished rows end with a call of the tool: [B] bool."""
  end = tokenizer.encode(tool.end)
  call_B = [ids[-len(end) :] == end for ids in _ids(rows)]
  return np.array(call_B) & rows.finished_B


def with_results(
  prompt: PromptConfig, tool, tokenizer, rows: SampledRows, answer_B: np.ndarray
) -> list[list[int]]:
  """The rows `answer_B` with the results of their calls, as prompts; of the
  other rows the first token."""
  prompts = []
  for ids, answer in zip(_ids(rows), answer_B):
    if answer:
      prompts.append(ids + _result(prompt, tool, tokenizer, ids))
    else:
      prompts.append(ids[:1])
  return prompts


def with_width(rows: SampledRows, width: int) -> SampledRows:
  """The per-token arrays cut or padded to `width` columns."""
  return rows.replace(
    tokens_BL=_fit(rows.tokens_BL, width, 0),
    pos_BL=_fit(rows.pos_BL, width, -1),
    logp_BL=_fit(rows.logp_BL, width, 0),
    mask_BL=_fit(rows.mask_BL, width, False),
  )


def continued(
  old: SampledRows, new: SampledRows, answer_B: np.ndarray
) -> SampledRows:
  """The rows `answer_B` as they were continued; earlier tokens keep their
  log-probabilities. A result's tokens are not the policy's: mask_BL is False.
  """
  answer_B1 = answer_B[:, None]
  return SampledRows(
    tokens_BL=np.where(answer_B1, new.tokens_BL, old.tokens_BL),
    pos_BL=np.where(answer_B1, new.pos_BL, old.pos_BL),
    logp_BL=np.where(answer_B1 & new.mask_BL, new.logp_BL, old.logp_BL),
    mask_BL=old.mask_BL | (answer_B1 & new.mask_BL),
    finished_B=np.where(answer_B, new.finished_B, old.finished_B),
    steps=old.steps + new.steps,
    live=old.live + new.live,
  )


def _ids(rows):
  """The ids of each row, without its padding."""
  length_B = (rows.pos_BL >= 0).sum(axis=1)
  return [row[:n].tolist() for row, n in zip(rows.tokens_BL, length_B)]


def _result(prompt, tool, tokenizer, ids):
  result = tokenizer.encode(tool.result(tokenizer.decode(ids)))
  if len(result) <= prompt.result_len:
    return result
  return tokenizer.encode(tools.FAILED)


def _fit(a_BL, width, fill):
  more = max(0, width - a_BL.shape[1])
  return np.pad(a_BL[:, :width], ((0, 0), (0, more)), constant_values=fill)
