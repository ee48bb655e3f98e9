"""Records in, sampled texts with their arrays out. The rl, reject and evaluate
stages share this."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from r1jax.data import batching, templates
from r1jax.data.templates import PromptConfig
from r1jax.distributed import programs
from r1jax.distributed.device_placement import Placement
from r1jax.models import transformer
from r1jax.sampling import decode, tool_calls
from r1jax.sampling.decode import SampleConfig, SampledRows

Record = dict


@dataclasses.dataclass(frozen=True)
class Samples:
  """One row a sample, the samples of a prompt side by side; host arrays."""

  records: list[Record]
  texts: list[str]  # prefill included, end token removed
  rows: SampledRows

  @property
  def length_N(self) -> np.ndarray:
    """The number of tokens that the policy sampled."""
    return self.rows.mask_BL.sum(axis=1)


class Sampler:
  """Samples responses of one model on the devices of a placement.

  Every device decodes its own prompts, with decode slots of its own. All calls
  have prompts of `prompt_width` columns, the longest prompt of the run, so that
  they share one compiled program.
  """

  def __init__(
    self,
    placement: Placement,
    cfg: transformer.ModelConfig,
    tokenizer,
    prompt: PromptConfig,
    sample: SampleConfig,
    prompt_width: int,
    scan_layers: bool = False,
  ):
    self.placement, self.tokenizer = placement, tokenizer
    self.prompt, self.prompt_width = prompt, prompt_width
    self.cfg = decode_config(placement, cfg, scan_layers)
    self.tool = tool_calls.find_tool(prompt, tokenizer) if prompt.tool else None
    stop_strings = prompt.stop_strings
    if self.tool:
      stop_strings += (self.tool.end,)
    self.sample_config = dataclasses.replace(
      sample,
      eos_ids=sample.eos_ids or tokenizer.eos_ids,
      stop_token_sequences=sample.stop_token_sequences
      + tuple(tuple(tokenizer.encode(text)) for text in stop_strings),
    )
    self._programs: dict[tuple[int, SampleConfig], Callable] = {}

  def sample(
    self,
    params: dict,
    records: Sequence[Record],
    prompt_numbers: np.ndarray,
    key: jax.Array,
    group_size: int,
    temperature: float | None = None,
    max_new_tokens: int | None = None,
  ) -> Samples:
    """`group_size` samples of each record.

    prompt_numbers are the records' numbers in the run. Every random number is
    derived from them and the key. temperature and max_new_tokens stand in for
    those of the config.
    """
    config = self.sample_config
    if temperature is not None:
      config = dataclasses.replace(config, temperature=temperature)
    if max_new_tokens is not None:
      config = dataclasses.replace(config, max_new_tokens=max_new_tokens)
    prompts = templates.encode_prompts(self.tokenizer, records, self.prompt)
    zero_P = np.zeros(len(prompts), np.int32)
    rows = self._decode(
      params,
      key,
      config,
      group_size,
      self.prompt_width,
      prompts,
      prompt_numbers,
      zero_P,
      zero_P + config.max_new_tokens,
    )
    if self.tool:
      rows = self._tool_loop(params, key, config, rows, prompt_numbers)
    return Samples(
      records=[record for record in records for _ in range(group_size)],
      texts=self._texts(rows),
      rows=rows,
    )

  def _tool_loop(self, params, key, config, rows, prompt_numbers):
    """Rows that end with a call get its result and are continued from there,
    while calls and tokens are left. A call that is not answered is not an end.

    A token's key comes from its position, so a row is the same however it was
    cut into turns.
    """
    group_size = len(rows.tokens_BL) // len(prompt_numbers)
    number_B = np.repeat(prompt_numbers, group_size)
    member_B = np.tile(np.arange(group_size), len(prompt_numbers))
    width = rows.tokens_BL.shape[1] + self.prompt.results_len
    rows = tool_calls.with_width(rows, width)
    for turn in range(self.prompt.calls + 1):
      room_B = config.max_new_tokens - rows.mask_BL.sum(axis=1)
      call_B = tool_calls.ends_with_call(self.tool, self.tokenizer, rows)
      answer_B = call_B & (room_B > 0) & (turn < self.prompt.calls)
      rows = rows.replace(finished_B=rows.finished_B & (~call_B | answer_B))
      if not answer_B.any():
        break
      more = self._decode(
        params,
        key,
        config,
        1,
        width,
        # The other rows sample one token each: the program stays the same.
        tool_calls.with_results(
          self.prompt, self.tool, self.tokenizer, rows, answer_B
        ),
        number_B,
        member_B,
        np.where(answer_B, room_B, 1),
      )
      more = tool_calls.with_width(more, width)
      rows = tool_calls.continued(rows, more, answer_B)
    return rows

  def _decode(
    self,
    params,
    key,
    config,
    group_size,
    width,
    prompts,
    number_P,
    member_P,
    room_P,
  ):
    """SampledRows of prompts of ids, with their numbers, first group members
    and numbers of tokens that they may sample."""
    fill = -len(prompts) % self.placement.num_shards  # as many on every device
    prompts = [*prompts, *prompts[:1] * fill]
    tokens_PL, _ = batching.pad_rows(prompts, width)
    length_P = np.array([len(ids) for ids in prompts], np.int32)
    rest = [
      np.append(a, a[:1].repeat(fill)).astype(np.int32)
      for a in (number_P, member_P, room_P)
    ]
    key_P2 = np.tile(jax.random.key_data(key), (len(prompts), 1))
    rows = programs.run_rows(
      self.placement,
      self._program(group_size, config),
      params,
      (decode.Prompts(tokens_PL, length_P, *rest), key_P2),
    )
    return _first_rows(rows, (len(prompts) - fill) * group_size)

  def _program(self, group_size, config):
    """The compiled decode loop, made once for each group size and config."""
    if (group_size, config) not in self._programs:
      self._programs[group_size, config] = programs.rows_program(
        self.placement, make_decode(self.cfg, group_size, config)
      )
    return self._programs[group_size, config]

  def _texts(self, rows):
    """From the first sampled token to the last real one, results included."""
    texts = []
    for tokens_L, mask_L, pos_L, finished in zip(
      rows.tokens_BL, rows.mask_BL, rows.pos_BL, rows.finished_B
    ):
      ids = tokens_L[mask_L.argmax() : (pos_L >= 0).sum()].tolist()
      if finished and ids[-1] in self.sample_config.eos_ids:
        ids.pop()
      texts.append(self.prompt.prefill + self.tokenizer.decode(ids))
    return texts


def decode_config(
  placement: Placement, cfg: transformer.ModelConfig, scan_layers: bool
) -> transformer.ModelConfig:
  """The model's config as the decode loop of a device uses it."""
  return dataclasses.replace(
    programs.shard_config(placement, cfg), scan_layers=scan_layers, remat='none'
  )


def make_decode(
  cfg: transformer.ModelConfig, group_size: int, config: SampleConfig
) -> Callable:
  """The pure (params, (Prompts, key_P2)) -> SampledRows of a device. Its counts
  have an axis of devices."""

  def decode_on_device(params, rows):
    prompts, key_P2 = rows
    key = jax.random.wrap_key_data(key_P2[0])
    out = decode.sample(params, cfg, prompts, key, group_size, config)
    return out.replace(steps=out.steps[None], live=out.live[None])

  return decode_on_device


def take(samples: Sequence[Samples], index_N: np.ndarray) -> Samples:
  """The samples `index_N` of several Samples laid end to end."""
  records, texts = [], []
  for part in samples:
    records += part.records
    texts += part.texts

  def take_leaf(*arrays):
    return np.concatenate(arrays)[index_N]

  bare = [part.rows.replace(steps=None, live=None) for part in samples]
  return Samples(
    records=[records[n] for n in index_N],
    texts=[texts[n] for n in index_N],
    rows=jax.tree.map(take_leaf, *bare).replace(
      steps=np.concatenate([part.rows.steps for part in samples]),
      live=np.concatenate([part.rows.live for part in samples]),
    ),
  )


def _first_rows(rows, count):
  """Without the samples of the prompts that filled up the devices."""
  bare = rows.replace(steps=None, live=None)
  return jax.tree.map(lambda a: a[:count], bare).replace(
    steps=rows.steps, live=rows.live
  )
