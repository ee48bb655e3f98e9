"""The Sampler: samples responses to records."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import numpy as np

from r1jax import errors
from r1jax.data import batching, templates, tools
from r1jax.data.record_files import Record
from r1jax.data.templates import PromptConfig
from r1jax.data.tokenizer_protocol import Tokenizer
from r1jax.distributed.device_placement import Placement
from r1jax.models.transformer import ModelConfig
from r1jax.sampling import page_table, tool_calls
from r1jax.sampling.decode import Prompts, SampleConfig, SampledRows
from r1jax.sampling.decoder import Decoder


@dataclasses.dataclass(frozen=True)
class Samples:
  """One row a sample; the samples of a prompt are adjacent. Host arrays."""

  records: list[Record]
  texts: list[str]  # responses with their opening, without the end token
  rows: SampledRows

  @functools.cached_property
  def length_N(self) -> np.ndarray:
    """The number of sampled tokens."""
    return self.rows.mask_BL.sum(axis=1)


class Sampler:
  """Samples responses of one model on the devices of a placement.

  Every device decodes its own prompts, in its own decode slots. All prompts are
  padded to prompt_width, so that all calls share a compiled program.
  """

  def __init__(
    self,
    placement: Placement,
    cfg: ModelConfig,
    tokenizer: Tokenizer,
    prompt: PromptConfig,
    sample: SampleConfig,
    prompt_width: int,
    scan_layers: bool = False,
  ):
    self.placement, self.tokenizer = placement, tokenizer
    self.prompt, self.prompt_width = prompt, prompt_width
    self.cfg = dataclasses.replace(cfg, scan_layers=scan_layers)
    stop_strings = prompt.stop_strings
    if prompt.tool:
      tool_calls.check(prompt, tokenizer)
      stop_strings += (tools.load(prompt.tool).end,)
    ids = [*sample.eos_ids, *itertools.chain(*sample.stop_token_sequences)]
    wrong = [i for i in ids if not 0 <= i < cfg.vocab_size]
    if wrong:
      raise errors.UserError(
        f'config.sample.eos_ids or stop_token_sequences has the id {wrong[0]}; '
        f'the model has the ids 0 to {cfg.vocab_size - 1}'
      )
    if sample.draft and not cfg.keep_mtp:
      raise errors.UserError(
        'config.sample.draft is True, but the model has no module of multi-'
        'token prediction in memory: set config.compute.keep_mtp to True, or '
        'config.sample.draft to False'
      )
    page_table.check_kernel(self.cfg, sample)
    stops = [tuple(tokenizer.encode(text)) for text in stop_strings]
    self.sample_config = dataclasses.replace(
      sample,
      eos_ids=sample.eos_ids or tokenizer.eos_ids,
      stop_token_sequences=(*sample.stop_token_sequences, *stops),
    )
    self._decoders: dict[tuple[int, SampleConfig], Decoder] = {}

  def sample(
    self,
    params: dict,
    records: Sequence[Record],
    prompt_numbers: np.ndarray,
    key: jax.Array,
    group_size: int,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
    num_prompts: int = 0,
  ) -> Samples:
    """Samples `group_size` responses to each record.

    prompt_numbers are the records' positions in the run's stream of prompts;
    all random numbers derive from them and the key. temperature and
    max_new_tokens replace those of the config. Fewer than num_prompts records
    are sampled by the program for num_prompts, so that the last chunk of many
    needs no program of its own.
    """
    config = self.sample_config
    if temperature is not None:
      config = dataclasses.replace(config, temperature=temperature)
    if max_new_tokens is not None:
      config = dataclasses.replace(config, max_new_tokens=max_new_tokens)
    made = [
      templates.make_prompt(self.tokenizer, record, self.prompt)
      for record in records
    ]
    ids = templates.encode_made(
      self.tokenizer, records, made, self.prompt.max_len
    )
    zero_P = np.zeros(len(ids), np.int32)
    max_new_tokens_P = zero_P + config.max_new_tokens
    prompts = make_prompts(
      ids, self.prompt_width, prompt_numbers, zero_P, max_new_tokens_P
    )
    rows = self._decode(params, prompts, key, group_size, config, num_prompts)
    if self.prompt.tool:
      rows = self._tool_loop(
        params,
        rows,
        records,
        prompt_numbers,
        key,
        config,
        num_prompts * group_size,
      )
    if not np.isfinite(rows.logp_BL[rows.mask_BL]).all():
      raise errors.UserError(
        'the model samples tokens whose log-probabilities are not finite, so '
        'its texts mean nothing: its weights are damaged, or too large for '
        f'{self.cfg.dtype}'
      )
    return Samples(
      records=[record for record in records for _ in range(group_size)],
      texts=[
        made[n // group_size].opening + self._sampled_text(rows, n)
        for n in range(len(rows.tokens_BL))
      ],
      rows=rows,
    )

  def _tool_loop(
    self, params, rows, records, prompt_numbers, key, config, num_rows
  ):
    """Appends the result to each row that ends with a tool call and continues
    sampling it, until no row ends with a call or config.prompt.calls is
    reached. A row whose last call has no result is not finished.

    The key of a token derives from its position, so a row does not depend on
    the number of parts in which it was sampled.
    """
    prompt, tokenizer = self.prompt, self.tokenizer
    group_size = len(rows.tokens_BL) // len(prompt_numbers)
    number_B = np.repeat(prompt_numbers, group_size)
    records_B = [record for record in records for _ in range(group_size)]
    member_B = np.tile(np.arange(group_size), len(prompt_numbers))
    width = rows.tokens_BL.shape[1] + prompt.results_len
    rows = tool_calls.with_width(rows, width)
    for calls in range(prompt.calls + 1):
      left_B = config.max_new_tokens - rows.mask_BL.sum(axis=1)
      call_B = tool_calls.ends_with_call(prompt, tokenizer, rows)
      answer_B = call_B & (left_B > 0) & (calls < prompt.calls)
      rows = rows.replace(finished_B=rows.finished_B & (~call_B | answer_B))
      if not answer_B.any():
        break
      ids = tool_calls.prompts_with_results(
        prompt, tokenizer, records_B, rows, answer_B
      )
      # The other rows sample one token each, so that all calls have one shape.
      left_B = np.where(answer_B, left_B, 1)
      prompts = make_prompts(ids, width, number_B, member_B, left_B)
      more = self._decode(params, prompts, key, 1, config, num_rows)
      rows = tool_calls.join(rows, tool_calls.with_width(more, width), answer_B)
    return rows

  def _decode(self, params, prompts, key, group_size, config, num_prompts):
    """The SampledRows of prompts, which are padded with copies of the first to
    num_prompts and a multiple of the shards. These sample one token each, which
    is dropped."""
    count = len(prompts.tokens_PL)
    fill = max(num_prompts - count, 0)
    fill += -(count + fill) % self.placement.num_shards
    first = jax.tree.map(lambda a: a[:1].repeat(fill, axis=0), prompts)
    first = first.replace(max_new_tokens_P=np.ones(fill, np.int32))
    prompts = jax.tree.map(lambda *a: np.concatenate(a), prompts, first)
    key_P2 = np.tile(jax.random.key_data(key), (count + fill, 1))
    if (group_size, config) not in self._decoders:
      self._decoders[group_size, config] = Decoder(
        self.placement, self.cfg, group_size, config
      )
    rows = self._decoders[group_size, config].run(params, prompts, key_P2)
    return _take_rows(rows, slice(count * group_size))

  def _sampled_text(self, rows, n):
    """The text from the first sampled token on, results of tools included."""
    first, end = rows.mask_BL[n].argmax(), (rows.pos_BL[n] >= 0).sum()
    ids = rows.tokens_BL[n, first:end].tolist()
    if rows.finished_B[n] and ids[-1] in self.sample_config.eos_ids:
      ids.pop()
    return self.tokenizer.decode(ids)


def check(
  prompt: PromptConfig, sample: SampleConfig, section: str = 'config'
) -> None:
  """Refuses values of config.prompt and config.sample that cannot work."""
  if not all([*prompt.stop_strings, *sample.stop_token_sequences]):
    raise errors.UserError(
      f'{section}.prompt.stop_strings or {section}.sample.stop_token_sequences '
      'has an empty entry, which would end every response at once: leave it out'
    )
  if not 0 < sample.top_p <= 1:
    why = f'{sample.top_p}: it must be above 0 and at most 1'
    raise errors.UserError(f'{section}.sample.top_p is {why}')


def make_prompts(ids, width, number_P, first_member_P, max_new_tokens_P):
  """Prompts of `width` columns from rows of ids, on the host."""
  return Prompts(
    tokens_PL=batching.pad_rows(ids, width)[0],
    length_P=np.array([len(row) for row in ids], np.int32),
    number_P=number_P.astype(np.int32),
    first_member_P=first_member_P.astype(np.int32),
    max_new_tokens_P=max_new_tokens_P.astype(np.int32),
  )


def take(samples: Sequence[Samples], index_N: np.ndarray) -> Samples:
  """The samples `index_N` of several Samples, counted through all of them. The
  counts of decode steps are those of all samples."""
  records, texts = [], []
  for part in samples:
    records += part.records
    texts += part.texts
  rows = jax.tree.map(
    lambda *arrays: np.concatenate(arrays), *[part.rows for part in samples]
  )
  return Samples(
    records=[records[n] for n in index_N],
    texts=[texts[n] for n in index_N],
    rows=_take_rows(rows, index_N),
  )


def _take_rows(rows, index):
  """Some of the rows, with the counts of decode steps of all."""
  counts = dict(steps=rows.steps, live=rows.live, restarted=rows.restarted)
  bare = rows.replace(**dict.fromkeys(counts))
  return jax.tree.map(lambda a: a[index], bare).replace(**counts)
