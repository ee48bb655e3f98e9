"""Rewards of trained reward models (R1, eq. 8 to 10): directories of the
reward_model stage, with a model that has a score head, and reward.json."""

import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from r1jax import errors
from r1jax.checkpoints import hf_files, policy
from r1jax.checkpoints.policy import ComputeConfig
from r1jax.data import batching, run_date, templates
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed import device_placement, programs
from r1jax.distributed.device_placement import Placement
from r1jax.models import transformer
from r1jax.models.transformer import ModelConfig
from r1jax.rewards.verdict import Records, Texts

Rows = Sequence[Sequence[int]]  # of ids

# Rows are padded to one of these lengths, so that few programs are compiled.
WIDTHS = [16 << i for i in range(17)]


class RewardModel:
  """A trained reward model on the devices of a placement: a Reward.

  The reward is sigmoid(score - centre): the probability to be preferred to a
  response of the average held-out score (pairwise), or to be safe (pointwise),
  or 0 without a summary. Rows longer than the context are truncated on the
  left.
  """

  def __init__(
    self, path: str, compute: ComputeConfig, placement: Placement, size: int
  ) -> None:
    file = pathlib.Path(path) / 'reward.json'
    if not file.is_file():
      raise errors.UserError(
        f'there is no {file}: give the model/ of a reward_model run'
      )
    metadata = hf_files.read_json(file)
    types = dict(template=str, prefill=str, centre=float)
    valid = all(isinstance(metadata.get(key), types[key]) for key in types)
    valid = valid and math.isfinite(metadata['centre'])
    if not valid or metadata.get('part') not in ('summary', 'response'):
      raise errors.UserError(
        f'{file} must name a template, a prefill, a part (summary or response) '
        'and a centre, as the reward_model stage writes them'
      )
    self.part, self.centre = metadata['part'], metadata['centre']
    self.date = str(metadata.get('date', ''))  # that of its training
    self.prompt = templates.PromptConfig(
      template=metadata['template'],
      system=str(metadata.get('system', '')),
      prefill=metadata['prefill'],
      max_len=WIDTHS[-1],
    )
    params, cfg, self.tokenizer = policy.load_with_tokenizer(str(path), compute)
    if not cfg.score:
      raise errors.UserError(
        f'{path} has no score head: give the model/ of a reward_model run'
      )
    self.placement, self.micro_batch_size = placement, size
    self.params = device_placement.put_state(
      placement, transformer.frozen(params, cfg)
    )
    self.program, self.max_len = scores_program(placement, cfg), cfg.max_len

  def __call__(self, records: Records, texts: Texts) -> np.ndarray:
    """The reward of each text, float32 [N]."""
    with run_date.at(self.date):
      rows = encode(self.tokenizer, self.prompt, self.part, records, texts)
    rows = [row[-self.max_len :] for row in rows]
    score_N = score_rows(
      self.placement, self.program, self.params, rows, self.micro_batch_size
    )
    reward_N = sigmoid(score_N - self.centre)
    return np.where(list(map(len, rows)), reward_N, 0).astype(np.float32)


def scored_text(text: str, part: str) -> str:
  """The response, or its summary: the text after the thinking, tags removed."""
  if part == 'response':
    return text
  _, rest = templates.think_split(text)
  return rest.replace('<answer>', '').replace('</answer>', '').strip()


def encode(
  tokenizer: Tokenizer,
  prompt: templates.PromptConfig,
  part: str,
  records: Records,
  texts: Texts,
) -> list[list[int]]:
  """A row of ids for each text: prompt, scored text, EOS token (also if it was
  truncated). Empty if there is no text to score."""
  made = [templates.make_prompt(tokenizer, x, prompt) for x in records]
  return encode_made(tokenizer, prompt, part, records, texts, made)


def encode_made(
  tokenizer: Tokenizer,
  prompt: templates.PromptConfig,
  part: str,
  records: Records,
  texts: Texts,
  made: Sequence[templates.Prompt],
) -> list[list[int]]:
  """`encode` of texts whose prompts are made already."""
  without_opening = [x._replace(opening='') for x in made]
  prompts = templates.encode_made(
    tokenizer, records, without_opening, prompt.max_len
  )
  rows = []
  for ids, text, one in zip(prompts, texts, made, strict=True):
    text = templates.without_end(tokenizer, text)
    if part == 'response':
      text = templates.with_opening(text, one.opening)
    text = scored_text(text, part)
    row = ids + tokenizer.encode(text) + [tokenizer.eos_ids[0]]
    rows.append(row if text else [])
  return rows


def pad(rows: Rows, width: int) -> tuple[np.ndarray, np.ndarray]:
  """(tokens_BL, pos_BL) of rows of ids, padded on the right."""
  tokens_BL, mask_BL = batching.pad_rows(rows, width)
  pos_BL = np.where(mask_BL, np.arange(width, dtype=np.int32), np.int32(-1))
  return tokens_BL, pos_BL


def scores_program(placement: Placement, cfg: ModelConfig) -> Callable:
  """The compiled (params, (tokens_BL, pos_BL)) -> score_B."""
  cfg = programs.shard_config(placement, cfg)
  return programs.rows_program(
    placement, lambda params, rows: transformer.scores(params, cfg, *rows)
  )


def score_rows(
  placement: Placement, program: Callable, params: dict, rows: Rows, size: int
) -> np.ndarray:
  """The scores of rows of ids, float32 [N], in micro-batches of this size.
  Equal rows are scored once: in micro-batches of other widths their scores
  would differ by rounding, and so would those of a group of equal responses."""
  distinct = list(dict.fromkeys(tuple(row) for row in rows))
  score_N = np.zeros(len(distinct), np.float32)
  lengths = [len(row) for row in distinct]
  for row_B, width in batching.micro_batches(lengths, size, WIDTHS):
    batch = pad([distinct[n] if n >= 0 else [] for n in row_B], width)
    score_B = programs.run_rows(placement, program, params, batch)
    score_N[row_B[row_B >= 0]] = score_B[row_B >= 0]
  place = {row: n for n, row in enumerate(distinct)}
  return score_N[[place[tuple(row)] for row in rows]]


def sigmoid(x: np.ndarray) -> np.ndarray:
  """1 / (1 + exp(-x)), without overflow."""
  return 0.5 * (1 + np.tanh(0.5 * x))
