"""What stays the same from the first step of an rl run to the last, and how it
draws its rollouts."""

import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import Executor

import jax
import numpy as np

from r1jax import (
  data,
  errors,
  generate,
  grpo,
  held_out,
  metrics,
  model,
  parallel,
  policy,
  rewarded,
  rl_config,
  spmd,
  verifiers,
)
from r1jax.rewards import preference


@dataclasses.dataclass(frozen=True)
class Run:
  """What stays the same from the first step of a run to the last."""

  c: rl_config.Config
  place: parallel.Placement  # of what learns
  drawing: parallel.Placement  # of what draws: the same devices, or others
  records: list
  first_records: list  # until config.domains_from
  held: list
  cfg: model.ModelConfig
  words: object  # the tokenizer
  generator: generate.Generator
  score: Callable  # (params, rows) -> logp_BL
  score_ref: Callable  # the same of the reference, which may be a teacher
  teacher: dict | None  # its parameters
  verifiers: verifiers.Verifiers | None
  executor: Executor | None = None
  writer: metrics.Writer | None = None
  step: Callable | None = None  # (state, micro-batches) -> (state, sums)
  saved: Callable = lambda step: False  # whether a step is on disk
  first: int = 0  # the step that this process began with
  started: float = 0.0  # and when

  @property
  def key(self):
    return jax.random.key(self.c.seed)

  def max_new(self, step):
    """The length allowed to a rollout that begins after `step` updates."""
    starts = [new for first, new in self.c.longer if first <= step]
    return starts[-1] if starts else self.c.sample.max_new

  def evaluate(self, params, step):
    key = jax.random.fold_in(jax.random.fold_in(self.key, 1), step)
    return held_out.evaluate(
      self.c.eval, self.generator, self.lend(params), self.held, key,
      self.max_new(step),
    )  # fmt: skip

  def lend(self, params):
    """The parameters where rollouts are drawn."""
    if self.drawing is self.place:
      return params
    return parallel.put_state(self.drawing, params)

  def start(self, fn, *args):
    """Calls fn at once, or in a thread where it has devices of its own; what is
    returned gives its result."""
    if self.drawing is not self.place:
      return self.executor.submit(fn, *args).result
    result = fn(*args)
    return lambda: result


def load(c, place, drawing, records, held, judges, executor):
  """(Run, parameters on the host): all that a rollout needs, as c says."""
  params, cfg, words = policy.load(c.init, c.compute, None, c.seed)
  width = max(map(len, generate.encode(words, records + held, c.prompt)))
  policy.check_length(cfg, width + max(c.lengths) + c.prompt.results_len)
  parallel.shardings(place, params)  # Refuses what the mesh cannot cut.
  models = {
    name: preference.load(
      path, c.compute, functools.partial(spmd.map_rows, drawing), c.micro,
      functools.partial(parallel.put_state, drawing),
    )
    for name, path in c.reward_models.items()
  }  # fmt: skip
  teacher, ref_cfg = (
    load_teacher(c, drawing, words) if c.teacher else (None, cfg)
  )
  make = functools.partial(grpo.make_score, temperature=c.sample.temperature)
  score = functools.partial(spmd.map_rows, drawing, make)
  generator = generate.Generator(
    functools.partial(spmd.map_rows, drawing), drawing.rows,
    dataclasses.replace(cfg, scan_layers=c.compute.scan_decode, remat='none'),
    words, c.prompt, c.sample,
    functools.partial(
      rewarded.later, executor, c.rewards, by_domain=c.by_domain,
      rules=judges.rules, models=models,
    ),
    width,
  )  # fmt: skip
  first = rl_config.first_records(c, records)
  return Run(
    c, place, drawing, records, first, held, cfg, words, generator,
    score(cfg), score(ref_cfg), teacher, judges, executor,
  ), params  # fmt: skip


def load_teacher(c, place, words):
  """(parameters, config) of the model in the reference's place."""
  params, cfg, theirs = policy.load(c.teacher, c.compute, None, c.seed)
  text = '12 <think>\n思考 naïve'
  if (theirs.vocab_size, theirs.encode(text)) != (
    words.vocab_size, words.encode(text),
  ):  # fmt: skip
    raise errors.UserError(
      f'config.teacher {c.teacher} and config.init {c.init} have different '
      'tokenizers: a teacher must speak of the same ids as its student'
    )
  return parallel.put_state(place, params), cfg


def draw(r, params, facts):
  """(samples, cursor) of a rollout's questions; with dynamic sampling more are
  drawn until enough groups are alive."""
  c, step = r.c, facts['step']
  key = jax.random.fold_in(jax.random.fold_in(r.key, 0), step)
  drawn, cursor, Q = [], facts['cursor'], c.grpo.questions
  records = r.records if step >= c.domains_from else r.first_records
  while True:
    index = data.prompt_indices(c.seed, cursor, Q, len(records))
    samples = r.generator(
      params, [records[i] for i in index], cursor + np.arange(Q), key,
      c.grpo.group, c.sample.temperature, r.max_new(step),
    )  # fmt: skip
    cursor += Q
    if not c.grpo.dynamic_tries:  # Nobody needs the rewards yet.
      return samples, cursor
    drawn.append(samples)
    alive = sum((~grpo.dead_groups(c.grpo, x.reward_N)).sum() for x in drawn)
    if alive >= Q or len(drawn) >= c.grpo.dynamic_tries:
      return grpo.choose(c.grpo, drawn), cursor
