"""Records in, sampled texts with their arrays and rewards out: what rl, reject
and evaluate share."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from r1jax import data, errors, hosts, rewarded, sample, templates, turns
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
  tool: str = option('', "calculator: a response may call it; '': none")
  calls: int = option(4, 'calls of the tool in a response at most', least=1)
  result_len: int = option(32, 'most tokens of a result with its tags', least=1)

  @property
  def results_len(self):
    """The most tokens that a response has beside those that were drawn."""
    return self.calls * self.result_len if self.tool else 0


@dataclasses.dataclass(frozen=True)
class Samples:
  """One row a sample, the samples of a prompt side by side; host arrays."""

  records: list
  texts: list  # prefill included, end token removed
  rollout: sample.Rollout
  judged: Callable  # () -> (reward_N, the unweighted rewards by name)

  @property
  def reward_N(self):
    """The rewards, waited for; NaN where nothing could be judged."""
    return self.judged()[0]

  @property
  def parts(self):
    return self.judged()[1]

  @property
  def length_N(self):
    """Tokens that the policy drew."""
    return self.rollout.mask_BL.sum(axis=1)


def known(reward_N, parts):
  """Rewards that are there already, as Samples hold them."""
  return lambda: (reward_N, parts)


def at_once(judge):
  """A judge(records, texts) -> (reward_N, parts) as a Generator takes it; each
  host judges rows of its own."""

  def reward(records, texts):
    own = hosts.share(len(texts))
    found = judge(records[own], texts[own])
    return known(*rewarded.everyones(*found))

  return reward


def join(many, take):
  """The rows `take` of several Samples laid end to end."""
  pick = lambda arrays: np.concatenate(arrays)[take]
  bare = [x.rollout.replace(steps=None, live=None) for x in many]
  rollout = jax.tree.map(lambda *arrays: pick(arrays), *bare)
  flat = lambda lists: [x for part in lists for x in part]
  parts = {name: pick([x.parts[name] for x in many]) for name in many[0].parts}
  reward_N = pick([x.reward_N for x in many])
  return Samples(
    [flat(x.records for x in many)[n] for n in take],
    [flat(x.texts for x in many)[n] for n in take],
    rollout.replace(
      steps=np.concatenate([x.rollout.steps for x in many]),
      live=np.concatenate([x.rollout.live for x in many]),
    ),
    known(reward_N, parts),
  )


def summary(samples):
  """The means of rewards, length and truncation."""
  return {
    'reward': mean(samples.reward_N),
    'unjudged': np.isnan(samples.reward_N).mean(),
    'length': samples.length_N.mean(),
    'truncated': 1 - samples.rollout.finished_B.mean(),
  } | {f'reward/{name}': mean(x) for name, x in samples.parts.items()}


def mean(x_N):
  """The mean over the samples that have a number; NaN where none has."""
  known_N = x_N[~np.isnan(x_N)]
  return known_N.mean() if known_N.size else np.float32(np.nan)


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
      rewards={
        name: float(x[n])
        for name, x in samples.parts.items()
        if not np.isnan(x[n])
      },
      finished=bool(samples.rollout.finished_B[n]),
      length=int(samples.length_N[n]),
    )
    for n in range(0, len(samples.texts), every)[:count]
  ]


def encode(words, records, c):
  """The prompt's ids for each record."""
  rows = []
  for record in records:
    text = templates.render(
      c.template, words, record['prompt'], turns.earlier(record)
    )
    ids = words.encode(text + c.prefill)
    if not 0 < len(ids) <= c.max_len:
      raise errors.UserError(
        f'the prompt of record {record["id"]} has {len(ids)} tokens; '
        f'config.prompt.max_len allows 1 to {c.max_len}: raise it or drop the '
        'record'
      )
    rows.append(ids)
  return rows


def make_decode(cfg, group, sc):
  """The pure (params, (Prompts, key_P2)) -> Rollout of a device; its counts
  have an axis of devices."""

  def decode(params, rows):
    prompts, key_P2 = rows
    key = jax.random.wrap_key_data(key_P2[0])
    out = sample.sample(params, cfg, prompts, key, group, sc)
    return out.replace(steps=out.steps[None], live=out.live[None])

  return decode


class Generator:
  """Samples of a policy's answers, rewarded.

  map_rows(make, cfg) places make(cfg), a fn(params, rows) -> rows, on the
  devices, each of which decodes its own prompts with slots of its own; shards
  is their number. width holds the longest prompt of the run, so that every call
  has one shape. reward is a (records, texts) -> judged, as Samples hold it.
  """

  def __init__(self, map_rows, shards, cfg, words, prompt, sc, reward, width):
    self.map_rows, self.shards, self.width = map_rows, shards, width
    self._placed = functools.cache(self._place)
    self.cfg, self.words, self.prompt = cfg, words, prompt
    self.reward = reward
    self.tool = turns.find_tool(prompt, words) if prompt.tool else None
    stops = prompt.stop + ((self.tool.end,) if self.tool else ())
    self.sc = dataclasses.replace(
      sc,
      ends=sc.ends or words.eos_ids,
      stops=sc.stops + tuple(tuple(words.encode(x)) for x in stops),
    )

  def __call__(
    self, params, records, numbers, key, group, temperature, max_new
  ):
    """`group` samples of each record; numbers are the records' in the run,
    from which, with the key, every random number is derived."""
    sc = dataclasses.replace(self.sc, temperature=temperature, max_new=max_new)
    rows = encode(self.words, records, self.prompt)
    zero_P = np.zeros(len(rows), np.int32)
    draw = functools.partial(self._draw, params, key, sc)
    rollout = draw(group, self.width, rows, numbers, zero_P, zero_P + max_new)
    if self.tool:
      rollout = turns.answer_calls(
        self.prompt, self.tool, self.words, draw, rollout, numbers, max_new
      )
    records = [record for record in records for _ in range(group)]
    texts = self._texts(rollout)
    return Samples(records, texts, rollout, self.reward(records, texts))

  def _draw(self, params, key, sc, group, width, rows, *arrays):
    """A Rollout from rows of ids and their numbers, members and rooms."""
    fill = -len(rows) % self.shards  # so that every device has as many
    tokens_PL, _ = data.pad_rows(rows + rows[:1] * fill, width)
    length_P = np.array([len(ids) for ids in rows + rows[:1] * fill], np.int32)
    more = [np.append(a, a[:1].repeat(fill)).astype(np.int32) for a in arrays]
    key_P2 = np.tile(jax.random.key_data(key), (len(tokens_PL), 1))
    rollout = self._placed(group, sc)(
      params, (sample.Prompts(tokens_PL, length_P, *more), key_P2)
    )
    return _first(rollout, len(rows) * group)

  def _place(self, group, sc):
    make = functools.partial(make_decode, group=group, sc=sc)
    return self.map_rows(make, self.cfg)

  def _texts(self, rollout):
    """From the first drawn token to the last real one, results included."""
    texts = []
    for tokens_L, mask_L, pos_L, finished in zip(
      rollout.tokens_BL, rollout.mask_BL, rollout.pos_BL, rollout.finished_B
    ):
      ids = tokens_L[mask_L.argmax() : (pos_L >= 0).sum()].tolist()
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
