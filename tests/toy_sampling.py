"""A Sampler of the byte tokenizer whose decode loop returns given responses."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from r1jax.checkpoints import tokenization
from r1jax.distributed import device_placement
from r1jax.models.families import llama
from r1jax.sampling import decode, decoder, generate

TOKENIZER = tokenization.ByteTokenizer(
  (*tokenization.TAGS, '<calc>', '</calc>', '<result>', '</result>')
)
CFG = llama.Config(
  vocab_size=TOKENIZER.vocab_size,
  width=12,
  layers=1,
  heads=2,
  kv_heads=2,
  head_dim=6,
  ffn=16,
  scan_layers=False,
)
PROMPT_WIDTH = 6
STEPS, LIVE = [9, 11], [20, 17]  # of all fake rollouts


@dataclasses.dataclass(frozen=True)
class Response:
  text: str
  finished: bool = True
  eos: bool = True  # the response has an end token


@dataclasses.dataclass
class FakeDecode:
  """Stands in for Decoder.run: notes its prompts and keys, and returns rows with
  the next of the given lists of responses."""

  responses: list[Sequence[Response]]
  calls: list[tuple[decode.Prompts, np.ndarray]]

  def run(self, params, prompts, key_P2):
    self.calls.append((prompts, key_P2))
    return sampled_rows(prompts, self.responses[len(self.calls) - 1])


def sampled_rows(
  prompts: decode.Prompts, responses: Sequence[Response], max_new_tokens=12
) -> decode.SampledRows:
  """Rows of the prompts and their responses, as many for each prompt."""
  group_size = len(responses) // len(prompts.tokens_PL)
  tokens_BL = np.pad(
    np.repeat(prompts.tokens_PL, group_size, axis=0),
    ((0, 0), (0, max_new_tokens)),
  )
  mask_BL, pos_BL = np.zeros(tokens_BL.shape, bool), np.full_like(tokens_BL, -1)
  starts = np.repeat(prompts.length_P, group_size)
  for n, (start, response) in enumerate(zip(starts, responses)):
    ids = TOKENIZER.encode(response.text)
    if response.eos:
      ids += TOKENIZER.eos_ids
    end = start + len(ids)
    tokens_BL[n, start:end] = ids
    mask_BL[n, start:end] = True
    pos_BL[n, :end] = np.arange(end)
  return decode.SampledRows(
    tokens_BL=tokens_BL,
    pos_BL=pos_BL,
    logp_BL=-1.0 * mask_BL,
    mask_BL=mask_BL,
    finished_B=np.array([response.finished for response in responses]),
    steps=np.array(STEPS),
    live=np.array(LIVE),
  )


def sampler(prompt, sample, devices=1) -> generate.Sampler:
  return generate.Sampler(
    device_placement.placement(
      device_placement.ParallelConfig(), jax.devices()[:devices]
    ),
    CFG,
    TOKENIZER,
    prompt,
    sample,
    PROMPT_WIDTH,
  )


def fake_decode(monkeypatch, *responses: Sequence[Response]) -> FakeDecode:
  fake = FakeDecode(responses=list(responses), calls=[])
  monkeypatch.setattr(decoder.Decoder, 'run', lambda self, *a: fake.run(*a))
  return fake
