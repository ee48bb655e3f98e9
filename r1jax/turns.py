"""Several turns: those before a prompt, and those between a model and a tool
within one response."""

import re

import numpy as np

from r1jax import errors, sample, tools

RESULTS = re.compile('(' + tools.RESULT.format('.*?') + ')', re.DOTALL)


def earlier(record):
  """The turns before the prompt: none, or those under the key 'turns'."""
  turns = record.get('turns', [])
  known = lambda x: (
    isinstance(x, dict)
    and x.get('role') in ('system', 'user', 'assistant')
    and isinstance(x.get('content'), str)
  )
  if not isinstance(turns, list) or not all(map(known, turns)):
    raise errors.UserError(
      f'the turns of record {record["id"]} must be a list of '
      '{"role": "system", "user" or "assistant", "content": a text}'
    )
  return turns


def find_tool(c, words):
  """The Tool that a PromptConfig names."""
  if c.tool not in tools.TOOLS:
    raise errors.UserError(
      f"config.prompt.tool is '{c.tool}'; it can be {', '.join(tools.TOOLS)}"
    )
  least = len(words.encode(tools.FAILED))
  if c.result_len < least:
    raise errors.UserError(
      f'config.prompt.result_len is {c.result_len}: {tools.FAILED} alone has '
      f'{least} tokens'
    )
  return tools.TOOLS[c.tool]


def split_results(c, response):
  """[(text, whether the model wrote it)] of a response with a tool's results."""
  parts = RESULTS.split(response) if c.tool else [response]
  return [(text, n % 2 == 0) for n, text in enumerate(parts) if text]


def answer_calls(c, tool, words, draw, rollout, numbers, max_new):
  """Rows that end with a call get its result, and are drawn on from there while
  there are calls and room; a call that is left unanswered is no end.

  draw(group, width, rows, numbers, members, rooms) -> Rollout. A result's
  tokens are not the policy's: mask_BL is False on them. A token's key comes
  from its position, so that a row is the same however it was cut into turns.
  """
  B = len(rollout.tokens_BL)
  group, end = B // len(numbers), words.encode(tool.end)
  width = rollout.tokens_BL.shape[1] + c.results_len
  rollout = _widen(rollout, width)
  numbers_B = np.repeat(numbers, group)
  members_B = np.tile(np.arange(group), len(numbers))
  for turn in range(c.calls + 1):
    length_B = (rollout.pos_BL >= 0).sum(axis=1)
    room_B = max_new - rollout.mask_BL.sum(axis=1)
    rows = [row[:n].tolist() for row, n in zip(rollout.tokens_BL, length_B)]
    calls_B = np.array([row[-len(end) :] == end for row in rows])
    calls_B &= rollout.finished_B
    on_B = calls_B & (room_B > 0) & (turn < c.calls)
    rollout = rollout.replace(finished_B=rollout.finished_B & (~calls_B | on_B))
    if not on_B.any():
      break
    # The others are drawn along, one token each: the program stays the same.
    rows = [
      row + _result(c, tool, words, row) if on else row[:1]
      for row, on in zip(rows, on_B)
    ]
    rooms_B = np.where(on_B, room_B, 1)
    more = draw(1, width, rows, numbers_B, members_B, rooms_B)
    rollout = _join(rollout, _widen(more, width), on_B)
  return rollout


def _result(c, tool, words, row):
  ids = words.encode(tool.result(words.decode(row)))
  return ids if len(ids) <= c.result_len else words.encode(tools.FAILED)


def _widen(rollout, width):
  """The per-token arrays cut or padded to `width` columns."""
  fit = lambda a, fill: np.pad(
    a[:, :width],
    ((0, 0), (0, max(0, width - a.shape[1]))),
    constant_values=fill,
  )
  return rollout.replace(
    tokens_BL=fit(rollout.tokens_BL, 0),
    pos_BL=fit(rollout.pos_BL, -1),
    logp_BL=fit(rollout.logp_BL, 0),
    mask_BL=fit(rollout.mask_BL, False),
  )


def _join(old, new, on_B):
  """The rows `on_B` as drawn on; what was drawn before keeps its numbers."""
  on_B1 = on_B[:, None]
  return sample.Rollout(
    tokens_BL=np.where(on_B1, new.tokens_BL, old.tokens_BL),
    pos_BL=np.where(on_B1, new.pos_BL, old.pos_BL),
    logp_BL=np.where(on_B1 & new.mask_BL, new.logp_BL, old.logp_BL),
    mask_BL=old.mask_BL | (on_B1 & new.mask_BL),
    finished_B=np.where(on_B, new.finished_B, old.finished_B),
    steps=old.steps + new.steps,
    live=old.live + new.live,
  )
