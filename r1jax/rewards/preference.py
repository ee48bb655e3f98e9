"""Rewards of trained models: what the reward_model stage left, as a function
of (records, texts). The record's answer is not shown to a reward model."""

import pathlib

import jax
import numpy as np

from r1jax import data, errors, generate, hf_directory, model, policy, templates

PARTS = 'summary', 'response'
# Rows are padded to one of these, so that few programs are compiled. The paper
# has no limit at inference: ours is the positions that the model knows.
WIDTHS = [16 << i for i in range(17)]


def load(path, compute, map_rows, micro, put=jax.device_put):
  """The Reward of a directory that the reward_model stage has written.

  A reward is sigmoid(score - centre): the chance of being preferred to a
  response of the average held-out score (pairwise), or of being safe
  (pointwise). So reward models are of one scale, which the paper leaves open.
  What is too long loses its beginning; thinking that never ends leaves no
  summary, and its reward is 0.
  map_rows(make, cfg) places make(cfg), a fn(params, rows) -> rows, on the
  devices, put the parameters; `micro` rows are scored at one time.
  """
  facts = _read_facts(path)
  params, cfg, words = policy.load(str(path), compute, None, 0, True)
  if not cfg.score:
    raise errors.UserError(
      f'{path} has a reward.json, but its model has no score head: give the '
      'directory as the reward_model stage has written it'
    )
  prompt = generate.PromptConfig(
    template=facts['template'], prefill=facts['prefill'], max_len=WIDTHS[-1]
  )
  params, score = put(params), map_rows(make_score, cfg)

  def reward(records, texts):
    rows = encode(words, prompt, facts['part'], records, texts)
    rows = [row[-cfg.max_len :] for row in rows]
    chance_N = sigmoid(score_rows(score, params, rows, micro) - facts['centre'])
    return np.where([bool(row) for row in rows], chance_N, 0).astype(np.float32)

  return reward


def _read_facts(path):
  path = pathlib.Path(path) / 'reward.json'
  if not path.is_file():
    raise errors.UserError(
      f'there is no {path}: a reward model is the directory model/ in the '
      '--workdir of the reward_model stage'
    )
  facts = hf_directory.read_json(path)
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
  bare = generate.PromptConfig(template=prompt.template, max_len=prompt.max_len)
  prompts = generate.encode(words, records, bare)
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
  tokens_BL, mask_BL = data.pad_rows(rows, width)
  pos_BL = np.where(mask_BL, np.arange(width, dtype=np.int32), np.int32(-1))
  return tokens_BL, pos_BL


def make_score(cfg):
  """The pure (params, (tokens_BL, pos_BL)) -> score_B."""
  return lambda params, rows: model.scores(params, cfg, *rows)


def score_rows(score, params, rows, micro):
  """The scores of rows of ids, `micro` at a time."""
  score_N = np.zeros(len(rows), np.float32)
  lengths = [len(row) for row in rows]
  for index, width in data.micro_batches(lengths, micro, WIDTHS):
    part = [rows[n] if n >= 0 else [] for n in index]
    score_N[index[index >= 0]] = score(params, pad(part, width))[index >= 0]
  return score_N


def sigmoid(x):
  return 0.5 * (1 + np.tanh(0.5 * x))
