"""A sample is a function of (key, prompt, number in its group) and of nothing
else, and what is said about it is what the trainer would say."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from r1jax.distributed import device_placement, programs
from r1jax.models import transformer
from r1jax.sampling import decode, token_sampling

CFG = transformer.ModelConfig(
  vocab_size=28,
  width=12,
  layers=2,
  heads=6,
  kv_heads=2,
  head_dim=4,
  ffn=10,
  head_chunk=4,
)
SC = decode.SampleConfig(
  max_new_tokens=9, decode_slots=5, refill_interval=3, kv_windows=2
)
LENGTH = np.array([1, 6, 3, 4, 2, 5, 1, 3])
INDEX = np.array([3, 0, 7, 1, 12, 5, 2, 40])  # of the prompts in their run
GROUP = 3
P, WIDTH = 8, 6
B = P * GROUP
KEY = jax.random.key(11)
ENDS = (5, 11, 2)


@functools.cache
def params():
  shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(0), CFG))
  noise = np.random.default_rng(0).standard_normal
  return jax.tree.map(lambda a: np.float32(0.4 * noise(a.shape)), shapes)


def prompts(order=slice(None)):
  random = np.random.default_rng(1)
  tokens_PL = random.integers(0, CFG.vocab_size, (P, WIDTH))
  member_P, room_P = np.zeros(P), np.full(P, 99)
  arrays = tokens_PL, LENGTH, INDEX, member_P, room_P
  return decode.Prompts(*(jnp.array(a[order], jnp.int32) for a in arrays))


def roll(rows=None, form=(), **changes):
  """The rollout on the host, under a changed SampleConfig and ModelConfig."""
  cfg = dataclasses.replace(CFG, **dict(form))
  sc = dataclasses.replace(SC, **changes)
  out = decode.sample(params(), cfg, rows or prompts(), KEY, GROUP, sc)
  return jax.device_get(out)


@pytest.fixture(scope='module')
def endless():
  """Every row has all its max_new_tokens tokens."""
  out = roll()
  assert not out.finished_B.any()
  assert (out.mask_BL.sum(axis=1) == SC.max_new_tokens).all()
  return out


def drawn(out):
  """The drawn ids of every row, and their log-probabilities."""

  def take(a):
    return [row[mask] for row, mask in zip(a, out.mask_BL)]

  return [list(map(int, row)) for row in take(out.tokens_BL)], take(out.logp_BL)


def same(a, b, tolerance=1e-5):
  assert drawn(a)[0] == drawn(b)[0]
  for x, y in zip(drawn(a)[1], drawn(b)[1]):
    np.testing.assert_allclose(x, y, atol=tolerance)
  np.testing.assert_array_equal(a.finished_B, b.finished_B)


def assert_consistent(out, length_P):
  """Prompt first, then what was drawn, then padding, and each array says so."""
  length_B = np.repeat(length_P, GROUP)[:, None]
  count_B = out.mask_BL.sum(axis=1, keepdims=True)
  column_L = np.arange(out.mask_BL.shape[1])[None]
  prompt_BL, real_BL = column_L < length_B, column_L < length_B + count_B
  np.testing.assert_array_equal(out.mask_BL, real_BL & ~prompt_BL)
  np.testing.assert_array_equal(out.pos_BL, np.where(real_BL, column_L, -1))
  assert not out.tokens_BL[~real_BL].any()
  assert not out.logp_BL[~out.mask_BL].any()
  assert (out.logp_BL[out.mask_BL] < 0).all()
  assert out.live == out.mask_BL.sum() <= out.steps * SC.slots


def test_rows_are_prompt_then_sample_then_padding(endless):
  assert_consistent(endless, LENGTH)
  tokens_BL = np.repeat(prompts().tokens_PL, GROUP, axis=0)
  for row, tokens, length in zip(
    endless.tokens_BL, tokens_BL, np.repeat(LENGTH, GROUP)
  ):
    np.testing.assert_array_equal(row[:length], tokens[:length])


@functools.cache
def ended(temperature, top_p=1.0, top_k=0, real_vocab=0):
  """A rollout in which most rows end early, each at a time of its own."""
  return roll(
    temperature=temperature,
    top_p=top_p,
    top_k=top_k,
    ends=ENDS,
    form=dict(real_vocab=real_vocab),
  )


@pytest.mark.parametrize(
  'temperature, changes',
  [(0.6, dict(top_p=0.9, top_k=9)), (1.0, dict()), (1.3, dict(real_vocab=23))],
  ids=str,
)
def test_sampler_logp_equals_trainer_logp(temperature, changes):
  out = ended(temperature, **changes)
  assert 0 < out.finished_B.sum() < B
  assert_consistent(out, LENGTH)
  cfg = dataclasses.replace(CFG, real_vocab=changes.get('real_vocab', 0))
  assert out.tokens_BL[out.mask_BL].max() < changes.get('real_vocab', 28)
  logp_BL, _ = jax.jit(transformer.logprobs, static_argnums=(1, 4))(
    params(), cfg, out.tokens_BL, out.pos_BL, temperature
  )
  error = np.abs(logp_BL - out.logp_BL)[out.mask_BL]
  assert error.max() <= 1e-4
  assert error.mean() <= 1e-6


@functools.partial(jax.jit, static_argnames='cfg')
def full_logits(params, cfg, tokens_BL, pos_BL):
  """Column t: of the token at t + 1, as the whole row's forward sees it."""
  hidden_BLD, _ = transformer.forward(params, cfg, tokens_BL, pos_BL)
  return transformer.unembed(params, cfg, hidden_BLD)


def test_each_token_is_drawn_with_the_key_of_its_prompt_sample_and_position(
  endless,
):
  logits_BLV = full_logits(params(), CFG, endless.tokens_BL, endless.pos_BL)

  def key(b, t):
    prompt_key = jax.random.fold_in(KEY, INDEX[b // GROUP])
    sample_key = jax.random.fold_in(prompt_key, b % GROUP)
    return jax.random.fold_in(sample_key, t)

  where = np.argwhere(endless.mask_BL)
  keys = jnp.stack([key(b, t) for b, t in where])
  logits = logits_BLV[where[:, 0], where[:, 1] - 1]
  token, _ = jax.jit(token_sampling.sample_token, static_argnums=2)(
    logits, keys, SC
  )
  np.testing.assert_array_equal(token, endless.tokens_BL[endless.mask_BL])


def test_keys_are_unique_over_a_run():
  def data(step, prompt, number, position):
    key = jax.random.key(0)
    for i in (step, prompt, number, position):
      key = jax.random.fold_in(key, i)
    return jax.random.key_data(key)

  numbers = np.indices((6, 12, 9, 30)).reshape(4, -1)
  keys = np.asarray(jax.jit(jax.vmap(data))(*numbers))
  assert len(np.unique(keys, axis=0)) == numbers.shape[1] == 6 * 12 * 9 * 30


LAYOUTS = [
  dict(slots=1, refill_interval=1, windows=1),
  dict(slots=64, refill_interval=16, windows=4),
  dict(slots=7, form=dict(scan_layers=False)),
  dict(slots=3, form=dict(cpu_layout=True)),
]


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_samples_do_not_depend_on_slots_refills_windows_or_form(
  layout, endless
):
  out = roll(**layout)
  same(out, endless)
  slots = min(layout.get('slots', SC.slots), B)
  assert out.live == B * SC.max_new_tokens <= out.steps * slots
  assert slots > 1 or out.steps == out.live
  assert slots < B or out.steps == SC.max_new_tokens


ORDER = np.array([5, 2, 7, 0, 3, 6, 1, 4])


@pytest.mark.parametrize(
  'kind, model_axis', [('pmap', 1), ('mesh', 1), ('mesh', 2)]
)
def test_samples_do_not_depend_on_order_and_devices(kind, model_axis):
  """On four devices whose loops end at different times. Were anything passed
  between groups of devices that draw rows of their own, this would hang."""
  place = device_placement.placement(
    device_placement.ParallelConfig(strategy=kind, tensor_parallel=model_axis),
    jax.devices()[:4],
  )
  sc = dataclasses.replace(SC, ends=ENDS, slots=2, refill_interval=1)

  def make(cfg):
    def rollout(params, rows):
      out = decode.sample(params, cfg, rows, KEY, GROUP, sc)
      return out.replace(steps=out.steps[None], live=out.live[None])

    return rollout

  weights = device_placement.put_state(place, params())
  rows = jax.device_get(prompts(ORDER))
  out = programs.map_rows(place, make, CFG)(weights, rows)
  assert out.steps.size == place.rows and len(set(out.steps)) > 1
  assert out.live.sum() == out.mask_BL.sum()
  back = np.argsort(np.repeat(ORDER, GROUP) * GROUP + np.tile(range(GROUP), P))

  def by_row(a):
    return a[back] if a.shape[0] == B else a

  same(jax.tree.map(by_row, out), ended(1.0))


def cut(tokens, ends=(), stops=()):
  """The row as it must end: (tokens up to an end or a stop, found one)."""
  for i, token in enumerate(tokens):
    so_far = tokens[: i + 1]
    if token in ends or any(so_far[-len(s) :] == list(s) for s in stops):
      return so_far, True
  return tokens, False


def assert_cut(out, endless, ends=(), stops=()):
  want = [cut(row, ends, stops) for row in drawn(endless)[0]]
  rows, logp = drawn(out)
  assert rows == [tokens for tokens, _ in want]
  np.testing.assert_array_equal(out.finished_B, [found for _, found in want])
  for ours, whole in zip(logp, drawn(endless)[1]):
    np.testing.assert_allclose(ours, whole[: len(ours)], atol=1e-5)
  assert_consistent(out, LENGTH)
  return want


def last_slot_end(rows):
  """An id that some row draws last and not before."""
  return next(row[-1] for row in rows if row[-1] not in row[:-1])


def test_a_row_ends_with_its_first_end_token(endless):
  """0 is an end and the padding; one end comes as the first token of a row, one
  at the last slot of a row, and some rows never end."""
  rows, _ = drawn(endless)
  late = last_slot_end(rows)
  first = next(row[0] for row in rows if late not in row)
  ends = (0, first, late)
  want = assert_cut(roll(ends=ends), endless, ends)
  lengths = {(len(tokens), found) for tokens, found in want}
  assert {
    (1, True),
    (SC.max_new_tokens, True),
    (SC.max_new_tokens, False),
  } <= lengths
  assert any(tokens[-1] == 0 for tokens, found in want if found)


def test_a_row_ends_with_its_first_stop_sequence(endless):
  """Of one id, of several, and not where it began in the prompt."""
  rows, _ = drawn(endless)
  across = (int(prompts().tokens_PL[1, LENGTH[1] - 1]), rows[GROUP][0])
  several = tuple(rows[4][2:5])
  others = rows[GROUP] + rows[4]
  alone = next(
    row[-1] for row in rows if row[-1] not in row[:-1] and row[-1] not in others
  )
  stops = (across, several, (alone,))
  want = assert_cut(roll(stops=stops), endless, (), stops)
  assert len(want[GROUP][0]) > 1
  assert want[4] == (rows[4][:5], True)
  assert any(tokens[-1] == alone for tokens, _ in want)
  assert not all(found for _, found in want)


def test_a_stop_does_not_begin_in_the_row_before(endless):
  """One slot, so that row 4 begins where row 3 has just ended; in a form of its
  own, with an end beside."""
  rows, _ = drawn(endless)
  across = (rows[3][-1], rows[4][0])
  ends = (
    next(t for t in range(28) if t in rows[0] and t not in sum(rows[3:5], [])),
  )
  form = dict(scan_layers=False, cpu_layout=True)
  out = roll(ends=ends, stops=(across,), slots=1, form=form)
  want = assert_cut(out, endless, ends, (across,))
  assert want[3:5] == [(rows[3], False), (rows[4], False)]
  assert want[0][1]


def test_one_token_is_the_first_of_many(endless):
  out = roll(max_new_tokens=1, windows=1)
  first = [row[:1] for row in drawn(endless)[0]]
  assert drawn(out)[0] == first


def test_temperature_zero_is_the_argmax_of_the_full_forward():
  out = roll(temperature=0.0, windows=1)
  logits_BLV = full_logits(params(), CFG, out.tokens_BL, out.pos_BL)
  likeliest = np.argmax(logits_BLV, axis=-1)[:, :-1]
  drawn_BL = out.mask_BL[:, 1:]
  np.testing.assert_array_equal(
    likeliest[drawn_BL], out.tokens_BL[:, 1:][drawn_BL]
  )
  rows, _ = drawn(out)
  assert all(rows[b] == rows[b - b % GROUP] for b in range(B))


def test_each_prompt_is_prefilled_once(monkeypatch):
  calls = []

  def forward(params, cfg, tokens_BT, pos_BT, past=None):
    calls.append((tokens_BT.shape, past is not None))
    return original(params, cfg, tokens_BT, pos_BT, past)

  original = transformer.forward
  monkeypatch.setattr(transformer, 'forward', forward)

  def run(p, rows):
    return decode.sample.__wrapped__(p, CFG, rows, KEY, GROUP, SC)

  jax.eval_shape(run, params(), prompts())
  assert calls[0] == ((P, WIDTH), False)
  assert set(calls[1:]) == {((SC.slots, 1), True)}


def test_new_prompts_and_keys_compile_nothing(endless):
  size = decode.sample._cache_size()
  out = decode.sample(
    params(), CFG, prompts(ORDER), jax.random.key(99), GROUP, SC
  )
  assert decode.sample._cache_size() == size
  assert drawn(out)[0] != drawn(endless)[0]


SLOTS, COLUMNS = 13, 97


@functools.cache
def compiled(dtype, cpu_layout, windows):
  """{computation: its lines} of the decode loop, and the name of the first."""
  cfg = dataclasses.replace(
    CFG, scan_layers=False, dtype=dtype, cpu_layout=cpu_layout
  )
  sc = dataclasses.replace(
    SC, slots=SLOTS, max_new_tokens=COLUMNS - WIDTH, windows=windows
  )
  program = decode.sample.lower(params(), cfg, prompts(), KEY, GROUP, sc)
  parts = re.findall(
    r'^(ENTRY )?%?([\w.-]+) \(.*?\{\n(.*?)^\}',
    program.compile().as_text(),
    re.MULTILINE | re.DOTALL,
  )
  entry = next(name for first, name, _ in parts if first)
  return {name: lines.splitlines() for _, name, lines in parts}, entry


def makers(lines, columns):
  """The operations whose result is the keys or values of one layer."""
  shape = rf'\w+\[{SLOTS},{CFG.kv_heads},{columns},{CFG.head_dim}\]'
  found = [re.search(rf'= {shape}\S* ([\w-]+)\(', line) for line in lines]
  return [m[1] for m in found if m and m[1] != 'get-tuple-element']


on_cpu = pytest.mark.skipif(
  jax.default_backend() != 'cpu', reason="reads the text of XLA's CPU backend"
)


@on_cpu
@pytest.mark.parametrize(
  'dtype, cpu_layout, windows',
  [('float32', True, 1), ('bfloat16', True, 2), ('float32', False, 2)],
)
def test_no_decode_step_copies_a_cache(dtype, cpu_layout, windows):
  """In the loop over tokens each of the 2 N caches is the result of one
  operation, the write, and that is not a copy."""
  parts, _ = compiled(dtype, cpu_layout, windows)
  every_line = '\n'.join(sum(parts.values(), []))
  bodies = set(re.findall(r'body=%?([\w.-]+)', every_line))
  for columns in [-(-COLUMNS // windows), COLUMNS]:
    steps = [
      makers(parts[body], columns)
      for body in bodies
      if ' conditional(' not in '\n'.join(parts[body])
    ]
    assert [made for made in steps if made] == [['fusion'] * 2 * CFG.layers]


@on_cpu
def test_with_one_window_a_refill_copies_no_cache_either():
  parts, entry = compiled('float32', True, 1)
  for name, lines in parts.items():
    assert name == entry or 'copy' not in makers(lines, COLUMNS)


def test_a_row_goes_on_from_any_of_its_tokens_as_if_drawn_at_once(endless):
  """Its key needs the prompt's number and its own in the group, no more."""
  drawn = 3
  start_B = np.argmax(endless.mask_BL, axis=1)
  member_B = np.tile(np.arange(GROUP), P)
  rows = decode.Prompts(
    jnp.array(endless.tokens_BL),
    jnp.array(start_B + drawn, jnp.int32),
    jnp.repeat(jnp.array(INDEX, jnp.int32), GROUP),
    jnp.array(member_B, jnp.int32),
    jnp.full(P * GROUP, SC.max_new_tokens - drawn, jnp.int32),
  )
  out = decode.sample(params(), CFG, rows, KEY, 1, SC)
  width = endless.tokens_BL.shape[1]
  column_L = np.arange(width)
  here = (column_L < (start_B + SC.max_new_tokens)[:, None]) & (
    column_L >= (start_B + drawn)[:, None]
  )
  np.testing.assert_array_equal(out.mask_BL[:, :width], here)
  np.testing.assert_array_equal(out.tokens_BL[:, :width], endless.tokens_BL)
  np.testing.assert_allclose(
    out.logp_BL[:, :width], endless.logp_BL * here, atol=1e-5
  )
