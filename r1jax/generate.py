"""Records in, sampled texts with their arrays and rewards out: what rl, reject
and evaluate share."""

import dataclasses
import functools

import jax
import numpy as np

from r1jax import errors, sample, templates
from r1jax.config import option


@dataclasses.dataclass(frozen=True)
class PromptConfig:
  template: str = option(
    'r1_zero', "r1_zero, plain, chat, or a text with '{question}'"
  )
  prefill: str = option('', 'begins every response, e.g. <think>')
  stop: tuple[str, ...] = option((), 'texts that end a response, as ids alone')
  max_len: int = option(
    512, 'most tokens of a prompt, prefill included', least=1
  )


@dataclasses.dataclass(frozen=True)
class Samples:
  """One row a sample, the samples of a prompt side by side; host arrays."""

  records: list
  texts: list  # prefill included, end token removed
  rollout: sample.Rollout
  reward_N: np.ndarray
  parts: dict  # the unweighted rewards by name

  @property
  def length_N(self):
    """Tokens that the policy drew."""
    return self.rollout.mask_BL.sum(axis=1)


def join(many, take):
  """The rows `take` of several Samples laid end to end."""
  pick = lambda arrays: np.concatenate(arrays)[take]
  bare = [x.rollout.replace(steps=None, live=None) for x in many]
  rollout = jax.tree.map(lambda *arrays: pick(arrays), *bare)
  flat = lambda lists: [x for part in lists for x in part]
  return Samples(
    [flat(x.records for x in many)[n] for n in take],
    [flat(x.texts for x in many)[n] for n in take],
    rollout.replace(
      steps=np.concatenate([x.rollout.steps for x in many]),
      live=np.concatenate([x.rollout.live for x in many]),
    ),
    pick([x.reward_N for x in many]),
    {name: pick([x.parts[name] for x in many]) for name in many[0].parts},
  )


def summary(samples):
  """The means of rewards, length and truncation."""
  return {
    'reward': samples.reward_N.mean(),
    'length': samples.length_N.mean(),
    'truncated': 1 - samples.rollout.finished_B.mean(),
  } | {f'reward/{name}': x.mean() for name, x in samples.parts.items()}


def lines(samples, step, count):
  """`count` of the samples, from all over them, for samples.jsonl."""
  every = max(1, len(samples.texts) // max(1, count))
  return [
    dict(
      step=step,
      id=samples.records[n]['id'],
      prompt=samples.records[n]['prompt'],
      response=samples.texts[n],
      reward=float(samples.reward_N[n]),
      rewards={name: float(x[n]) for name, x in samples.parts.items()},
      finished=bool(samples.rollout.finished_B[n]),
      length=int(samples.length_N[n]),
    )
    for n in range(0, len(samples.texts), every)[:count]
  ]


def encode(words, records, c):
  """The prompt's ids for each record."""
  rows = []
  for record in records:
    text = templates.render(c.template, words, record['prompt'])
    ids = words.encode(text + c.prefill)
    if not 0 < len(ids) <= c.max_len:
      raise errors.UserError(
        f'the prompt of record {record["id"]} has {len(ids)} tokens; '
        f'config.prompt.max_len allows 1 to {c.max_len}: raise it or drop the '
        'record'
      )
    rows.append(ids)
  return rows


class Generator:
  """Samples of a policy's answers, rewarded.

  map_loops places fn(params, rows) -> rows on the devices, each of which
  decodes its own prompts with slots of its own; shards is their number. width
  holds the longest prompt of the run, so that every call has one shape. reward
  is a (records, texts) -> (reward_N, parts by name).
  """

  def __init__(self, map_loops, shards, cfg, words, prompt, sc, reward, width):
    self.map_loops, self.shards, self.width = map_loops, shards, width
    self._placed = functools.cache(self._place)
    self.cfg, self.words, self.prompt = cfg, words, prompt
    self.reward = reward
    self.sc = dataclasses.replace(
      sc,
      ends=sc.ends or words.eos_ids,
      stops=sc.stops + tuple(tuple(words.encode(x)) for x in prompt.stop),
    )

  def __call__(
    self, params, records, numbers, key, group, temperature, max_new
  ):
    """`group` samples of each record; numbers are the records' in the run,
    from which, with the key, every random number is derived."""
    sc = dataclasses.replace(self.sc, temperature=temperature, max_new=max_new)
    fill = -len(records) % self.shards  # so that every device has as many
    prompts = encode(self.words, records + records[:1] * fill, self.prompt)
    numbers = np.append(numbers, np.zeros(fill)).astype(np.int32)
    tokens_PL = np.zeros((len(prompts), self.width), np.int32)
    for row_L, ids in zip(tokens_PL, prompts):
      row_L[: len(ids)] = ids
    length_P = np.array([len(ids) for ids in prompts], np.int32)
    key_P2 = np.tile(jax.random.key_data(key), (len(prompts), 1))
    rollout = self._placed(group, sc)(
      params, (sample.Prompts(tokens_PL, length_P, numbers), key_P2)
    )
    rollout = _first(rollout, len(records) * group)
    records = [record for record in records for _ in range(group)]
    texts = self._texts(rollout)
    return Samples(records, texts, rollout, *self.reward(records, texts))

  def _place(self, group, sc):
    def decode(params, rows):
      prompts, key_P2 = rows
      key = jax.random.wrap_key_data(key_P2[0])
      out = sample.sample(params, self.cfg, prompts, key, group, sc)
      return out.replace(steps=out.steps[None], live=out.live[None])

    return self.map_loops(decode)

  def _texts(self, rollout):
    texts = []
    for tokens_L, mask_L, finished in zip(
      rollout.tokens_BL, rollout.mask_BL, rollout.finished_B
    ):
      ids = tokens_L[mask_L].tolist()
      if finished and ids[-1] in self.sc.ends:
        ids.pop()
      texts.append(self.prompt.prefill + self.words.decode(ids))
    return texts


def _first(rollout, rows):
  """Without the samples of the prompts that filled up the devices."""
  bare = rollout.replace(steps=None, live=None)
  return jax.tree.map(lambda a: a[:rows], bare).replace(
    steps=rollout.steps, live=rollout.live
  )
