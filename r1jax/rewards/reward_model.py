"""Rewards of trained models: what the reward_model stage left, as a function
of (records, texts). The record's answer is not shown to a reward model."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from r1jax import errors
from r1jax.checkpoints import hf_files, policy
from r1jax.data import batching, templates
from r1jax.distributed import device_placement, programs
from r1jax.distributed.device_placement import Placement
from r1jax.models import transformer

PARTS = 'summary', 'response'
# Rows are padded to one of these, so that few programs are compiled. The paper
# has no limit at inference: ours is the positions that the model knows.
WIDTHS = [16 << i for i in range(17)]


class RewardModel:
  """A trained reward model on the devices: a Reward.

  A reward is sigmoid(score - centre): the chance of being preferred to a
  response of the average held-out score (pairwise), or of being safe
  (pointwise). So reward models have one scale, which the paper leaves open.
  What is too long loses its beginning. Thinking that never ends leaves no
  summary, and its reward is 0.
  """

  def __init__(
    self,
    placement: Placement,
    params: dict,
    cfg: transformer.ModelConfig,
    tokenizer,
    facts: dict,
    micro_batch_size: int,
  ):
    self.placement, self.cfg, self.tokenizer = placement, cfg, tokenizer
    self.params = device_placement.put_state(placement, params)
    self.part, self.centre = facts['part'], facts['centre']
    self.prompt = templates.PromptConfig(
      template=facts['template'], prefill=facts['prefill'], max_len=WIDTHS[-1]
    )
    self.micro_batch_size = micro_batch_size
    self.program = scores_program(placement, cfg)

  def __call__(
    self, records: Sequence[dict], texts: Sequence[str]
  ) -> np.ndarray:
    rows = encode(self.tokenizer, self.prompt, self.part, records, texts)
    rows = [row[-self.cfg.max_len :] for row in rows]
    score_N = score_rows(
      self.placement, self.program, self.params, rows, self.micro_batch_size
    )
    chance_N = sigmoid(score_N - self.centre)
    return np.where([bool(row) for row in rows], chance_N, 0).astype(np.float32)


def load(
  path: str,
  compute: policy.ComputeConfig,
  placement: Placement,
  micro_batch_size: int,
) -> RewardModel:
  """The RewardModel of a directory that the reward_model stage has written."""
  facts = _read_facts(path)
  params, cfg, tokenizer = policy.load(str(path), compute, None, 0, True)
  if not cfg.score:
    raise errors.UserError(
      f'{path} has a reward.json, but its model has no score head: give the '
      'directory as the reward_model stage has written it'
    )
  return RewardModel(placement, params, cfg, tokenizer, facts, micro_batch_size)


def _read_facts(path):
  path = pathlib.Path(path) / 'reward.json'
  if not path.is_file():
    raise errors.UserError(
      f'there is no {path}: a reward model is the directory model/ in the '
      '--workdir of the reward_model stage'
    )
  facts = hf_files.read_json(path)
  good = (
    isinstance(facts.get('template'), str)
    and isinstance(facts.get('prefill'), str)
    and isinstance(facts.get('centre'), float)
    and facts.get('part') in PARTS
  )
  if not good:
    raise errors.UserError(
      f'{path} must name a template, a prefill, a part ({" or ".join(PARTS)}) '
      'and a centre, as the reward_model stage writes them'
    )
  return facts


def judged(text, part):
  """The part of a response that is scored; a summary has no tags of its own."""
  if part == 'response':
    return text
  rest = templates.think_split(text)[1]
  return rest.replace('<answer>', '').replace('</answer>', '').strip()


def encode(words, prompt, part, records, texts):
  """A row of ids for each text: prompt, what is judged, end token; an empty row
  where there is nothing to judge. A truncated text gets the end token too."""
  bare = templates.PromptConfig(
    template=prompt.template, max_len=prompt.max_len
  )
  prompts = templates.encode_prompts(words, records, bare)
  rows = []
  for ids, text in zip(prompts, texts, strict=True):
    if part == 'response':
      text = prompt.prefill + text.removeprefix(prompt.prefill)
    text = judged(text, part)
    row = ids + words.encode(text) + [words.eos_ids[0]]
    rows.append(row if text else [])
  return rows


def pad(rows, width):
  """(tokens_BL, pos_BL) of rows of ids, padded on the right."""
  tokens_BL, mask_BL = batching.pad_rows(rows, width)
  pos_BL = np.where(mask_BL, np.arange(width, dtype=np.int32), np.int32(-1))
  return tokens_BL, pos_BL


def scores_program(
  placement: Placement, cfg: transformer.ModelConfig
) -> Callable:
  """The compiled (params, (tokens_BL, pos_BL)) -> score_B."""
  cfg = programs.shard_config(placement, cfg)

  def scores_fn(params, rows):
    return transformer.scores(params, cfg, *rows)

  return programs.rows_program(placement, scores_fn)


def score_rows(
  placement: Placement,
  program: Callable,
  params: dict,
  rows: Sequence[Sequence[int]],
  micro_batch_size: int,
) -> np.ndarray:
  """The scores of rows of ids, `micro_batch_size` rows at a time."""
  score_N = np.zeros(len(rows), np.float32)
  lengths = [len(row) for row in rows]
  for row_B, width in batching.micro_batches(lengths, micro_batch_size, WIDTHS):
    batch = pad([rows[n] if n >= 0 else [] for n in row_B], width)
    score_B = programs.run_rows(placement, program, params, batch)
    score_N[row_B[row_B >= 0]] = score_B[row_B >= 0]
  return score_N


def sigmoid(x):
  return 0.5 * (1 + np.tanh(0.5 * x))
