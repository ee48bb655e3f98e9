"""Runs the decode loop on the devices of a placement. The loop returns to the
host every few seconds, so that a long rollout shows that it makes progress and
ends soon after SIGTERM."""

import dataclasses
import threading
import time
from collections.abc import Callable

import jax
import numpy as np

from r1jax import errors
from r1jax.distributed import device_placement, hosts, programs, watchdog
from r1jax.distributed.device_placement import Placement
from r1jax.distributed.programs import Kind
from r1jax.models import transformer
from r1jax.models.transformer import ModelConfig
from r1jax.sampling import decode, decode_start, page_table, refill
from r1jax.sampling.decode import Prompts, SampleConfig, SampledRows

CALL_SECONDS = 10.0  # that a call of the loop takes, about


class Decoder:
  """The compiled programs of one group size and config. Every device samples
  for its own prompts."""

  def __init__(
    self,
    placement: Placement,
    cfg: ModelConfig,
    group_size: int,
    config: SampleConfig,
  ):
    cfg = programs.shard_config(placement, cfg)
    cfg = dataclasses.replace(cfg, remat='none')

    loop_cfg = transformer.decoding_config(cfg)

    def gather(params, rows):  # pmap needs an argument with an axis of devices
      return transformer.for_decoding(params, cfg, config.draft)[0]

    def start(params, rows):
      return decode_start.start(
        params, loop_cfg, *_read(rows), group_size, config
      )

    def sampled_rows(rows, state):
      out = decode.sampled_rows(rows[0], state, group_size)
      counts = out.steps, out.live, out.restarted
      steps, live, restarted = jax.tree.map(lambda count: count[None], counts)
      return out.replace(steps=steps, live=live, restarted=restarted)

    program = programs.device_program
    own: tuple[Kind, Kind] = ('device', 'device')
    self.placement, self.cfg = placement, loop_cfg
    self.group_size, self.config = group_size, config
    self.gather = program(placement, gather, ('params', 'rows'), ('device',))
    self.start = program(placement, start, ('device', 'rows'), own)
    self.sampled_rows = program(
      placement, sampled_rows, ('rows', 'device'), ('rows',)
    )
    self.segments = 1  # of the next call; all hosts have the same number
    self.programs: dict[int, Callable] = {}

  def advance(self, window: int) -> Callable:
    """The program that decodes until a row needs more than `window` columns of
    the cache. Each is compiled when the first row is so long: the first tokens
    need only one."""
    if window not in self.programs:

      def advance(params, rows, prefilled, state, segments):
        prompts, key = _read(rows)
        return decode.advance(
          params,
          self.cfg,
          prompts,
          prefilled,
          key,
          state,
          segments,
          self.group_size,
          self.config,
          window,
        )

      self.programs[window] = programs.device_program(
        self.placement,
        advance,
        ('device', 'rows', 'device', 'device', 'scalar'),
        ('device', 'device'),
        donate=(3,),
      )
    return self.programs[window]

  def windows(self, prompts: Prompts) -> tuple[int, ...]:
    """decode.windows of a device; `prompts` are those of all devices."""
    slots, columns = decode_start.cache_sizes(
      len(prompts.length_P) // self.placement.num_shards,
      prompts.tokens_PL.shape[1],
      self.group_size,
      self.config,
    )
    return decode.windows(self.cfg, self.config, slots, columns)

  def run(
    self, params: dict, prompts: Prompts, key_P2: np.ndarray
  ) -> SampledRows:
    """Samples on all devices: host arrays, whose steps and live have an axis of
    devices. Raises errors.Terminated on all hosts if one received SIGTERM,
    unless this is a thread beside the main thread. A collective."""
    max_new_P = np.minimum(prompts.max_new_tokens_P, self.config.max_new_tokens)
    page_table.check(self.config, int(np.max(prompts.length_P + max_new_P)))
    rows = device_placement.put_rows(self.placement, (prompts, key_P2))
    params = self.gather(params, rows)
    prefilled, state = self.start(params, rows)
    is_unfinished, windows = True, self.windows(prompts)
    columns = prompts.length_P.max() + refill.segment_tokens(self.config)
    while is_unfinished:
      window = windows[np.searchsorted(windows[:-1], columns)]
      began = time.monotonic()
      state, counts = self.advance(window)(
        params, rows, prefilled, state, np.int32(self.segments)
      )
      parts = [np.ravel(part.data) for part in counts.addressable_shards]
      own = np.max(parts, axis=0).tolist()
      seconds = time.monotonic() - began
      is_unfinished, columns = self._agree(seconds, *own)
    return device_placement.get_rows(
      self.placement, self.sampled_rows(rows, state)
    )

  def _agree(self, seconds, count, own_unfinished, own_columns):
    """(whether any host has unfinished samples, the columns that the next segment
    needs). Sets the segments of the next call by the time of this one. A
    collective."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    terminating = in_main_thread and watchdog.terminate_requested()
    facts = hosts.gather(
      [count, seconds, own_unfinished, own_columns, terminating]
    )
    counts, times, unfinished, columns, requested = zip(*facts)
    if any(requested) and any(unfinished):
      raise errors.Terminated
    self.segments = max(1, int(CALL_SECONDS * max(counts) / max(times)))
    return any(unfinished), max(columns)


def _read(rows):
  """(prompts, key) of a device's rows."""
  prompts, key_P2 = rows
  return prompts, jax.random.wrap_key_data(key_P2[0])
