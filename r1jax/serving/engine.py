"""Continuous batching: requests wait in a bounded queue, share the decode
slots, and leave them when they end, are cancelled or run out of time."""

import collections
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from r1jax.checkpoints.policy import Policy
from r1jax.data import batching
from r1jax.distributed import device_placement
from r1jax.models import transformer
from r1jax.sampling import loading
from r1jax.sampling.decode_state import SampleConfig
from r1jax.serving import slots
from r1jax.serving.request import Finish, Request, Ticket, Token, Update

MIN_WIDTH = 16  # of padded prompts; the others are its multiples by powers of 2
SEGMENT = 8  # decode steps between two looks at the requests


class QueueFull(Exception):
  """As many requests wait as may."""


class Stopped(Exception):
  """The engine takes no more requests."""


class Counts(NamedTuple):
  """What an engine does at a moment."""

  running: int
  waiting: int
  finished: int  # requests since the start, in any way
  tokens: int  # sampled since the start


class Engine:
  """Decodes requests with one model on the first device. submit(), cancel() and
  counts() may be called from any thread; run_once() from one only."""

  def __init__(
    self,
    policy: Policy,
    eos_ids: tuple[int, ...],
    num_slots: int,
    max_len: int,
    max_waiting: int = 256,
    timeout: float = math.inf,
    segment: int = SEGMENT,
  ) -> None:
    self.tokenizer = policy.tokenizer
    self.max_len = min(max_len, policy.cfg.max_len)
    self.vocab_size = policy.cfg.real_vocab or policy.cfg.vocab_size
    cfg = dataclasses.replace(policy.cfg, scan_layers=False, remat='none')
    placement = device_placement.placement(
      device_placement.ParallelConfig(), jax.devices()[:1]
    )
    params = loading.put_frozen(placement, policy)
    self.params = jax.jit(_for_decoding, static_argnums=1)(params, cfg)
    self.cfg = transformer.decoding_config(cfg)
    self.config = SampleConfig(eos_ids=eos_ids)
    self.timeout, self.segment = timeout, segment
    self.max_waiting = max_waiting
    self._state = slots.empty(self.cfg, num_slots, self.max_len)
    self._rows: list[Ticket | None] = [None] * num_slots
    self._waiting: collections.deque[Ticket] = collections.deque()
    self._changed = threading.Condition()  # of all below, and of _waiting
    self._is_stopped = False
    self._finished = self._tokens = 0

  @property
  def cache_bytes(self) -> int:
    """The memory of the keys and values of all slots."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(self._state.cache))

  def counts(self) -> Counts:
    running = sum(ticket is not None for ticket in self._rows)
    return Counts(running, len(self._waiting), self._finished, self._tokens)

  def submit(
    self, requests: Sequence[Request], receive: Sequence[Callable]
  ) -> list[Ticket]:
    """Puts requests into the queue, all or none. receive[n](update) is called
    with what arrives of requests[n]. Raises QueueFull or Stopped."""
    deadline = time.monotonic() + self.timeout
    tickets = [
      Ticket(request, self.tokenizer, call, deadline)
      for request, call in zip(requests, receive, strict=True)
    ]
    with self._changed:
      if self._is_stopped:
        raise Stopped
      if len(self._waiting) + len(tickets) > self.max_waiting:
        raise QueueFull
      self._waiting += tickets
      self._changed.notify()
    return tickets

  def cancel(self, tickets: Sequence[Ticket]) -> None:
    """Ends requests soon. Those that have ended are left as they are."""
    with self._changed:
      for ticket in tickets:
        ticket.is_cancelled = True
      self._changed.notify()

  def stop(self) -> None:
    """Takes no more requests from here on."""
    with self._changed:
      self._is_stopped = True
      self._changed.notify()

  def wait(self, seconds: float) -> None:
    """Waits until there may be something to do."""
    with self._changed:
      if not self._waiting and not any(self._rows):
        self._changed.wait(seconds)

  def stream(self, request: Request) -> Iterator[Update]:
    """The updates of one request, for a thread that does all the work itself.
    Leaving the loop over them cancels the request."""
    updates: collections.deque[Update] = collections.deque()
    tickets = self.submit([request], [updates.append])
    is_finished = False
    try:
      while not is_finished:
        self.run_once()
        while updates:
          update = updates.popleft()
          is_finished = update.finish != ''
          yield update
    finally:
      if not is_finished:
        self.cancel(tickets)
        self.run_once()

  def run_once(self) -> None:
    """Lets requests that have ended leave, waiting ones enter, and decodes a
    segment."""
    now = time.monotonic()
    self._drop(lambda ticket: ticket.reason_to_leave(now))
    self._admit()
    keep_B = np.array([ticket is not None for ticket in self._rows])
    if not keep_B.any():
      return
    self._state, tokens = slots.advance(
      self.params, self.cfg, self.config, self.segment, self._state, keep_B
    )
    self._deliver(jax.device_get(tokens))

  def cancel_all(self) -> None:
    """Ends all requests. In the thread of run_once()."""
    self._drop(lambda ticket: 'cancelled')

  def fail(self) -> None:
    """Ends all requests with an error, after one that run_once() has raised."""
    self.stop()
    self._drop(lambda ticket: 'error')

  def _drop(self, reason_of: Callable[[Ticket], Finish]) -> None:
    """Ends the requests for which there is a reason."""
    for row, ticket in enumerate(self._rows):
      if ticket is not None and reason_of(ticket):
        self._rows[row] = None
        self._finish(ticket, Update('', [], reason_of(ticket)))
    with self._changed:
      gone = [ticket for ticket in self._waiting if reason_of(ticket)]
      for ticket in gone:
        self._waiting.remove(ticket)
    for ticket in gone:
      self._finish(ticket, Update('', [], reason_of(ticket)))

  def _admit(self):
    """Fills free slots with waiting requests."""
    for row, ticket in enumerate(self._rows):
      if ticket is None and self._waiting:
        with self._changed:
          self._rows[row] = self._waiting.popleft()
        self._enter(row, self._rows[row])

  def _enter(self, row, ticket):
    """Prefills a request. It leaves at once if it samples no token."""
    request, prompt = ticket.request, None
    rows, _ = batching.pad_rows([request.prompt], self._width(request))
    length = np.int32(len(request.prompt))
    if request.prompt_logprobs:
      prompt = self._score(request, rows[0], length)
    if not request.max_tokens:
      self._rows[row] = None
      self._finish(ticket, Update('', [], 'length', prompt))
      return
    if prompt:
      ticket.receive(Update('', [], '', prompt))
    new = slots.NewRow(
      tokens_T=rows[0],
      length=length,
      slot=np.int32(row),
      max_tokens=np.int32(request.max_tokens),
      seed=np.uint32(request.seed),
      number=np.int32(request.number),
      member=np.int32(request.member),
      temperature=np.float32(request.temperature),
      top_p=np.float32(request.top_p),
      top_k=np.int32(request.top_k),
      wants_top=np.bool_(request.top_logprobs > 0),
    )
    self._state = slots.admit(self.params, self.cfg, self._state, new)

  def _width(self, request):
    width = MIN_WIDTH
    while width < len(request.prompt):
      width *= 2
    return min(width, self.max_len)

  def _score(self, request, tokens_T, length):
    """The tokens of a prompt with their log-probabilities."""
    logp_T, top = jax.device_get(
      slots.score(self.params, self.cfg, tokens_T, length)
    )
    count, tokens = request.top_logprobs, [Token(request.prompt[0], None, [])]
    for n, i in enumerate(request.prompt[1:], start=1):
      best = _best(count, top.ids[n], top.logps[n])
      tokens.append(Token(i, float(logp_T[n]), best))
    return tokens

  def _deliver(self, segment):
    """Hands the tokens of a segment to their requests."""
    for row, ticket in enumerate(self._rows):
      if ticket is None:
        continue
      count, tokens = ticket.request.top_logprobs, []
      for t in np.flatnonzero(segment.is_live[:, row]):
        best = _best(count, segment.top.ids[t, row], segment.top.logps[t, row])
        logp = float(segment.logps[t, row])
        tokens.append(Token(int(segment.ids[t, row]), logp, best))
      update = ticket.add(tokens, self.config.eos_ids)
      self._tokens += len(update.tokens)
      if update.finish:
        self._rows[row] = None
        self._finish(ticket, update)
      else:
        ticket.receive(update)

  def _finish(self, ticket, update):
    self._finished += 1
    ticket.receive(update)


def _for_decoding(params, cfg):
  return transformer.for_decoding(params, cfg)[0]


def _best(count, ids_K, logp_K):
  """The first `count` of the most probable ids."""
  pairs = zip(ids_K[:count].tolist(), logp_K[:count].tolist())
  return [(i, logp) for i, logp in pairs if math.isfinite(logp)]
