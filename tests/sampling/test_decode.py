"""A sample is a function of the key, its prompt and its number in the group
only, and the sampler's log-probabilities are those of the trainer."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_model

from r1jax import errors
from r1jax.distributed import device_placement, hosts, watchdog
from r1jax.models import transformer
from r1jax.models.families import llama
from r1jax.sampling import decode, decoder, token_sampling
from r1jax.training import metrics

CFG = llama.Config(
  vocab_size=28,
  width=12,
  layers=2,
  heads=6,
  kv_heads=2,
  head_dim=4,
  ffn=10,
  head_chunk=4,
)
CONFIG = decode.SampleConfig(
  max_new_tokens=9, decode_slots=5, refill_interval=3, kv_windows=1
)
LENGTH_P = np.array([1, 6, 3, 4, 2, 5, 1, 3])
NUMBER_P = np.array([3, 0, 7, 1, 12, 5, 2, 40])  # in the stream of prompts
GROUP_SIZE = 3
P, WIDTH = 8, 6
B = P * GROUP_SIZE
KEY = jax.random.key(11)
EOS_IDS = (5, 11, 2)


@functools.cache
def params():
  return toy_model.random_params(CFG)


def make_prompts(**arrays):
  return decode.Prompts(
    **{name: jnp.array(a, jnp.int32) for name, a in arrays.items()}
  )


def prompts(order=slice(None)):
  random = np.random.default_rng(1)
  tokens_PL = random.integers(0, CFG.vocab_size, (P, WIDTH))
  return make_prompts(
    tokens_PL=tokens_PL[order],
    length_P=LENGTH_P[order],
    number_P=NUMBER_P[order],
    first_member_P=np.zeros(P),
    max_new_tokens_P=np.full(P, 99),
  )


def sample(model=(), **changes):
  """SampledRows on the host, with changes of CONFIG and, as a dict, of CFG."""
  cfg = dataclasses.replace(CFG, **dict(model))
  config = dataclasses.replace(CONFIG, **changes)
  rows = decode.sample(params(), cfg, prompts(), KEY, GROUP_SIZE, config)
  return jax.device_get(rows)


@pytest.fixture(scope='module')
def endless():
  """Rows without end tokens: all have max_new_tokens sampled tokens."""
  rows = sample()
  assert not rows.finished_B.any()
  assert (rows.mask_BL.sum(axis=1) == CONFIG.max_new_tokens).all()
  return rows


def sampled_ids(rows):
  """The sampled ids of every row."""
  return [ids[mask].tolist() for ids, mask in zip(rows.tokens_BL, rows.mask_BL)]


def sampled_logp(rows):
  """The log-probabilities of these ids."""
  return [logp[mask] for logp, mask in zip(rows.logp_BL, rows.mask_BL)]


def assert_same(a, b):
  assert sampled_ids(a) == sampled_ids(b)
  for x, y in zip(sampled_logp(a), sampled_logp(b)):
    np.testing.assert_allclose(x, y, atol=1e-5)
  np.testing.assert_array_equal(a.finished_B, b.finished_B)


def assert_consistent(rows):
  """All arrays agree: prompt, then sampled tokens, then padding."""
  length_B = np.repeat(LENGTH_P, GROUP_SIZE)[:, None]
  count_B = rows.mask_BL.sum(axis=1, keepdims=True)
  column_L = np.arange(rows.mask_BL.shape[1])[None]
  prompt_BL, real_BL = column_L < length_B, column_L < length_B + count_B
  np.testing.assert_array_equal(rows.mask_BL, real_BL & ~prompt_BL)
  np.testing.assert_array_equal(rows.pos_BL, np.where(real_BL, column_L, -1))
  assert not rows.tokens_BL[~real_BL].any()
  assert not rows.logp_BL[~rows.mask_BL].any()
  assert (rows.logp_BL[rows.mask_BL] < 0).all()
  assert rows.live == rows.mask_BL.sum() <= rows.steps * CONFIG.decode_slots


def test_rows_are_prompt_then_sample_then_padding(endless):
  assert_consistent(endless)
  tokens_BL = np.repeat(prompts().tokens_PL, GROUP_SIZE, axis=0)
  for row, tokens, length in zip(
    endless.tokens_BL, tokens_BL, np.repeat(LENGTH_P, GROUP_SIZE)
  ):
    np.testing.assert_array_equal(row[:length], tokens[:length])


@functools.cache
def rows_with_ends(temperature, top_p=1.0, top_k=0, real_vocab=0):
  """Rows of which most end early, at different lengths."""
  return sample(
    model=dict(real_vocab=real_vocab),
    temperature=temperature,
    top_p=top_p,
    top_k=top_k,
    eos_ids=EOS_IDS,
  )


@pytest.mark.parametrize(
  'temperature, changes',
  [(0.6, dict(top_p=0.9, top_k=9)), (1.0, dict()), (1.3, dict(real_vocab=23))],
  ids=str,
)
def test_sampler_logp_equals_trainer_logp(temperature, changes):
  rows = rows_with_ends(temperature, **changes)
  assert 0 < rows.finished_B.sum() < B
  assert_consistent(rows)
  cfg = dataclasses.replace(CFG, real_vocab=changes.get('real_vocab', 0))
  assert rows.tokens_BL[rows.mask_BL].max() < changes.get('real_vocab', 28)
  logp_BL, _ = toy_model.logprobs(
    params(), cfg, rows.tokens_BL, rows.pos_BL, temperature
  )
  error = np.abs(logp_BL - rows.logp_BL)[rows.mask_BL]
  assert error.max() <= 1e-4
  assert error.mean() <= 1e-6


def test_a_tokens_key_derives_from_prompt_number_member_and_position(endless):
  logits_BLV = toy_model.logits(
    params(), CFG, endless.tokens_BL, endless.pos_BL
  )

  def token_key(b, t):
    prompt_key = jax.random.fold_in(KEY, NUMBER_P[b // GROUP_SIZE])
    sample_key = jax.random.fold_in(prompt_key, b % GROUP_SIZE)
    return jax.random.fold_in(sample_key, t)

  index = np.argwhere(endless.mask_BL)
  keys = jnp.stack([token_key(b, t) for b, t in index])
  logits = logits_BLV[index[:, 0], index[:, 1] - 1]
  token, _ = jax.jit(token_sampling.sample_token, static_argnums=(2, 3, 4))(
    logits, keys, CONFIG.temperature, CONFIG.top_p, CONFIG.top_k
  )
  np.testing.assert_array_equal(token, endless.tokens_BL[endless.mask_BL])


def test_keys_are_unique_over_a_run():
  def key_data(step, prompt, member, position):
    key = jax.random.key(0)
    for i in (step, prompt, member, position):
      key = jax.random.fold_in(key, i)
    return jax.random.key_data(key)

  numbers = np.indices((6, 12, 9, 30)).reshape(4, -1)
  keys = np.asarray(jax.jit(jax.vmap(key_data))(*numbers))
  assert len(np.unique(keys, axis=0)) == numbers.shape[1] == 6 * 12 * 9 * 30


LAYOUTS = [
  dict(decode_slots=1, refill_interval=1, kv_windows=2),
  dict(decode_slots=64, refill_interval=16, kv_windows=4),
  dict(decode_slots=7, kv_windows=2, model=dict(scan_layers=False)),
  dict(decode_slots=3, kv_windows=2, model=dict(cpu_layout=True)),
  dict(decode_slots=3, kv_windows=2, model=dict(tpu_layout=True)),
  dict(
    decode_slots=3,
    kv_windows=2,
    model=dict(tpu_layout=True, scan_layers=False),
  ),
]


@pytest.mark.parametrize('layout', LAYOUTS, ids=str)
def test_samples_do_not_depend_on_slots_refills_windows_or_layout(
  layout, endless
):
  rows = sample(**layout)
  assert_same(rows, endless)
  slots = min(layout['decode_slots'], B)
  assert rows.live == B * CONFIG.max_new_tokens <= rows.steps * slots
  assert slots > 1 or rows.steps == rows.live
  assert slots < B or rows.steps == CONFIG.max_new_tokens


ORDER = np.array([5, 2, 7, 0, 3, 6, 1, 4])


def run(one, order=slice(None)):
  """The rows of a Decoder."""
  weights = device_placement.put_state(one.placement, params())
  key_P2 = np.tile(jax.random.key_data(KEY), (P, 1))
  return one.run(weights, jax.device_get(prompts(order)), key_P2)


@pytest.mark.parametrize(
  'strategy, tensor_parallel', [('pmap', 1), ('mesh', 1), ('mesh', 2)]
)
def test_samples_do_not_depend_on_order_and_devices(strategy, tensor_parallel):
  """On four devices whose loops end at different times. This would hang if the
  loop had a collective between devices that sample different rows."""
  placement = device_placement.placement(
    device_placement.ParallelConfig(
      strategy=strategy, tensor_parallel=tensor_parallel
    ),
    jax.devices()[:4],
  )
  config = dataclasses.replace(
    CONFIG, eos_ids=EOS_IDS, decode_slots=2, refill_interval=1
  )
  rows = run(decoder.Decoder(placement, CFG, GROUP_SIZE, config), ORDER)
  assert rows.steps.size == placement.num_shards and len(set(rows.steps)) > 1
  assert rows.live.sum() == rows.mask_BL.sum()
  index_PG = np.arange(B).reshape(P, GROUP_SIZE)[np.argsort(ORDER)]
  bare = rows.replace(steps=None, live=None)
  in_order = jax.tree.map(lambda a: a[index_PG.ravel()], bare)
  assert_same(in_order, rows_with_ends(1.0))


def test_devices_that_share_a_key_head_sample_as_one_device():
  cfg, found = dataclasses.replace(CFG, kv_heads=1), []
  config = dataclasses.replace(CONFIG, eos_ids=EOS_IDS)
  for strategy, devices in ('pmap', 1), ('mesh', 2):
    parallel = device_placement.ParallelConfig(strategy, devices)
    placement = device_placement.placement(parallel, jax.devices()[:devices])
    weights = toy_model.random_params(cfg)
    weights = device_placement.put_state(placement, weights)
    one = decoder.Decoder(placement, cfg, GROUP_SIZE, config)
    key_P2 = np.tile(jax.random.key_data(KEY), (P, 1))
    found.append(one.run(weights, jax.device_get(prompts()), key_P2))
  assert_same(*found)


def truncate(ids, eos_ids, stops):
  """(ids up to the first end token or stop sequence, whether one ends it)."""
  for n, token in enumerate(ids):
    head = ids[: n + 1]
    if token in eos_ids or any(head[-len(s) :] == list(s) for s in stops):
      return head, True
  return ids, False


def assert_truncated(rows, endless, eos_ids=(), stops=()):
  """The rows are those of `endless` up to their ends: [(ids, ended)]."""
  want = [truncate(ids, eos_ids, stops) for ids in sampled_ids(endless)]
  assert sampled_ids(rows) == [ids for ids, _ in want]
  np.testing.assert_array_equal(rows.finished_B, [ended for _, ended in want])
  for logp, whole in zip(sampled_logp(rows), sampled_logp(endless)):
    np.testing.assert_allclose(logp, whole[: len(logp)], atol=1e-5)
  assert_consistent(rows)
  return want


def test_a_row_ends_with_its_first_end_token(endless):
  """Id 0 is an end token and the padding. One end token is the first sampled
  token of a row, one is the last possible token, and some rows have none."""
  ids = sampled_ids(endless)
  late = next(row[-1] for row in ids if row[-1] not in row[:-1])
  first = next(row[0] for row in ids if late not in row)
  eos_ids = (0, first, late)
  want = assert_truncated(sample(eos_ids=eos_ids), endless, eos_ids)
  lengths = {(len(row), ended) for row, ended in want}
  assert {
    (1, True),
    (CONFIG.max_new_tokens, True),
    (CONFIG.max_new_tokens, False),
  } <= lengths
  assert any(row[-1] == 0 for row, ended in want if ended)


def test_a_row_ends_with_its_first_stop_sequence(endless):
  """Of one id or several. A sequence that begins in the prompt is no end."""
  ids = sampled_ids(endless)
  last_of_prompt = int(prompts().tokens_PL[1, LENGTH_P[1] - 1])
  across = (last_of_prompt, ids[GROUP_SIZE][0])
  several = tuple(ids[4][2:5])
  others = ids[GROUP_SIZE] + ids[4]
  single = next(
    row[-1] for row in ids if row[-1] not in row[:-1] and row[-1] not in others
  )
  stops = (across, several, (single,))
  rows = sample(stop_token_sequences=stops)
  want = assert_truncated(rows, endless, stops=stops)
  assert len(want[GROUP_SIZE][0]) > 1
  assert want[4] == (ids[4][:5], True)
  assert any(row[-1] == single for row, _ in want)
  assert not all(ended for _, ended in want)


def test_a_stop_sequence_does_not_begin_in_the_slots_earlier_sample(endless):
  """With one slot, row 4 begins where row 3 ends. Row 0 has an end token."""
  ids = sampled_ids(endless)
  across = (ids[3][-1], ids[4][0])
  eos_id = next(n for n in ids[0] if n not in ids[3] + ids[4])
  rows = sample(
    model=dict(scan_layers=False, cpu_layout=True),
    eos_ids=(eos_id,),
    stop_token_sequences=(across,),
    decode_slots=1,
    kv_windows=2,
  )
  want = assert_truncated(rows, endless, (eos_id,), (across,))
  assert want[3:5] == [(ids[3], False), (ids[4], False)]
  assert want[0][1]


def test_a_sample_of_one_token_is_the_first_token_of_a_longer_one(endless):
  rows = sample(max_new_tokens=1)
  assert sampled_ids(rows) == [ids[:1] for ids in sampled_ids(endless)]


def test_temperature_zero_is_the_argmax_of_the_full_forward():
  rows = sample(temperature=0.0)
  logits_BLV = toy_model.logits(params(), CFG, rows.tokens_BL, rows.pos_BL)
  argmax_BL = np.argmax(logits_BLV, axis=-1)[:, :-1]
  mask_BL = rows.mask_BL[:, 1:]
  np.testing.assert_array_equal(
    argmax_BL[mask_BL], rows.tokens_BL[:, 1:][mask_BL]
  )
  ids = sampled_ids(rows)
  assert all(ids[b] == ids[b - b % GROUP_SIZE] for b in range(B))


def test_each_prompt_is_prefilled_once(monkeypatch):
  calls = []

  def forward(params, cfg, tokens_BT, pos_BT, past=None):
    calls.append((tokens_BT.shape, past is not None))
    return original(params, cfg, tokens_BT, pos_BT, past)

  original = transformer.forward
  monkeypatch.setattr(transformer, 'forward', forward)

  def run(params, rows):
    return decode.sample.__wrapped__(params, CFG, rows, KEY, GROUP_SIZE, CONFIG)

  jax.eval_shape(run, params(), prompts())
  assert calls[0] == ((P, WIDTH), False)
  assert set(calls[1:]) == {((CONFIG.decode_slots, 1), True)}


def test_new_prompts_and_keys_compile_nothing(endless):
  size = decode.sample._cache_size()
  rows = decode.sample(
    params(), CFG, prompts(ORDER), jax.random.key(99), GROUP_SIZE, CONFIG
  )
  assert decode.sample._cache_size() == size
  assert sampled_ids(rows) != sampled_ids(endless)


SLOTS, COLUMNS = 13, 97


@functools.cache
def compiled(dtype, cpu_layout, kv_windows):
  """({computation: its lines}, the entry computation) of the decode loop."""
  cfg = dataclasses.replace(
    CFG, scan_layers=False, dtype=dtype, cpu_layout=cpu_layout
  )
  config = dataclasses.replace(
    CONFIG,
    decode_slots=SLOTS,
    max_new_tokens=COLUMNS - WIDTH,
    kv_windows=kv_windows,
  )
  program = decode.sample.lower(
    params(), cfg, prompts(), KEY, GROUP_SIZE, config
  )
  parts = re.findall(
    r'^(ENTRY )?%?([\w.-]+) \(.*?\{\n(.*?)^\}',
    program.compile().as_text(),
    re.MULTILINE | re.DOTALL,
  )
  entry = next(name for is_entry, name, _ in parts if is_entry)
  return {name: lines.splitlines() for _, name, lines in parts}, entry


def cache_operations(lines, columns):
  """The operations whose result is the keys or values of one layer."""
  shape = rf'\w+\[(?:1,)?{SLOTS},{CFG.kv_heads},{columns},{CFG.head_dim}\]'
  found = [re.search(rf'= {shape}\S* ([\w-]+)\(', line) for line in lines]
  # These two move no data.
  names = 'get-tuple-element', 'bitcast'
  return [m[1] for m in found if m and m[1] not in names]


on_cpu = pytest.mark.skipif(
  jax.default_backend() != 'cpu', reason="reads the text of XLA's CPU backend"
)


@on_cpu
@pytest.mark.parametrize(
  'dtype, cpu_layout, kv_windows',
  [('float32', True, 1), ('bfloat16', True, 2), ('float32', False, 2)],
)
def test_no_decode_step_copies_a_cache(dtype, cpu_layout, kv_windows):
  """In the loop over tokens and the loops of its writes, one operation makes each
  of the 2 N caches: the write, which is not a copy."""
  parts, _ = compiled(dtype, cpu_layout, kv_windows)
  every_line = '\n'.join(sum(parts.values(), []))
  bodies = set(re.findall(r'body=%?([\w.-]+)', every_line))
  for columns in [-(-COLUMNS // kv_windows), COLUMNS]:
    steps = [
      cache_operations(parts[body], columns)
      for body in bodies
      if ' conditional(' not in '\n'.join(parts[body])
    ]
    found = sum(steps, [])
    assert found == ['fusion'] * 2 * CFG.layers


@on_cpu
def test_with_one_window_no_refill_copies_a_cache():
  parts, entry = compiled('float32', True, 1)
  for name, lines in parts.items():
    assert name == entry or 'copy' not in cache_operations(lines, COLUMNS)


def test_a_row_continues_from_any_token_as_if_sampled_at_once(endless):
  """It needs the prompt's number and its own number in the group only."""
  count = 3  # tokens that are sampled already
  start_B = np.argmax(endless.mask_BL, axis=1)
  rows = make_prompts(
    tokens_PL=endless.tokens_BL,
    length_P=start_B + count,
    number_P=np.repeat(NUMBER_P, GROUP_SIZE),
    first_member_P=np.tile(np.arange(GROUP_SIZE), P),
    max_new_tokens_P=np.full(B, CONFIG.max_new_tokens - count),
  )
  out = decode.sample(params(), CFG, rows, KEY, 1, CONFIG)
  width = endless.tokens_BL.shape[1]
  later_BL = np.arange(width) >= (start_B + count)[:, None]
  want_BL = endless.mask_BL & later_BL
  np.testing.assert_array_equal(out.mask_BL[:, :width], want_BL)
  np.testing.assert_array_equal(out.tokens_BL[:, :width], endless.tokens_BL)
  np.testing.assert_allclose(
    out.logp_BL[:, :width], endless.logp_BL * want_BL, atol=1e-5
  )


@pytest.mark.parametrize('strategy', ['pmap', 'mesh'])
def test_rows_do_not_depend_on_the_calls_of_the_loop(strategy, monkeypatch):
  """Bit for bit, with one compiled program. Each call has a heartbeat."""
  parallel = device_placement.ParallelConfig(strategy=strategy)
  placement = device_placement.placement(parallel, jax.devices()[:2])
  config = dataclasses.replace(CONFIG, eos_ids=EOS_IDS, decode_slots=2)
  one, beats = decoder.Decoder(placement, CFG, GROUP_SIZE, config), []
  monkeypatch.setattr(hosts, 'gather', lambda x: beats.append(x) or [x])
  monkeypatch.setattr(decoder, 'CALL_SECONDS', 0)
  one.segments = np.iinfo(np.int32).max
  at_once, compiled = run(one), len(metrics.compilations)
  assert len(beats) == one.segments == 1
  by_segments = run(one)
  assert len(beats) > 6 and one.segments == 1
  assert len(metrics.compilations) == compiled
  jax.tree.map(np.testing.assert_array_equal, at_once, by_segments)


@pytest.mark.parametrize('devices', [1, 2])
def test_a_program_for_longer_rows_is_compiled_when_one_is_so_long(devices):
  """Rows of 15 columns in windows of 4, 8, 12 and 15; the devices' prompts have
  different lengths."""
  placement = device_placement.placement(
    device_placement.ParallelConfig(), jax.devices()[:devices]
  )
  short = dataclasses.replace(CONFIG, kv_windows=4, refill_interval=2)
  one = decoder.Decoder(placement, CFG, GROUP_SIZE, short)
  assert one.windows(jax.device_get(prompts())) == (4, 8, 12, 15)
  cut = [1, 2, 1, 2, 1, 2, 1, 2], [4, 4, 4, 4, 4, 4, 5, 4]
  few = jax.device_get(prompts()).replace(
    length_P=np.array(cut[0]), max_new_tokens_P=np.array(cut[1])
  )
  key_P2 = np.tile(jax.random.key_data(KEY), (P, 1))
  weights = device_placement.put_state(placement, params())
  one.run(weights, few, key_P2)
  assert sorted(one.programs) == [4, 8]
  rows = run(one)
  assert sorted(one.programs) == [4, 8, 12, 15]
  whole = dataclasses.replace(short, kv_windows=1)
  want = run(decoder.Decoder(placement, CFG, GROUP_SIZE, whole))
  assert_same(rows.replace(steps=None, live=None), want)


def test_windows_of_a_small_cache_are_not_worth_programs():
  config = dataclasses.replace(CONFIG, kv_windows=2)
  assert decode.windows(CFG, config, 5, 15) == (8, 15)
  assert decode.windows(CFG, config, 1, 15) == (8, 15)
  big = dataclasses.replace(CFG, vocab_size=2**14)
  assert decode.windows(big, config, 5, 15) == (15,)


def test_windows_of_short_rows_are_not_worth_programs():
  config = dataclasses.replace(CONFIG, kv_windows=0)
  assert decode.windows(CFG, config, 5, 95) == (95,)
  assert decode.windows(CFG, config, 5, 97) == (49, 97)
  assert decode.windows(CFG, config, 5, 400) == (100, 200, 300, 400)


def test_sigterm_ends_a_rollout_between_two_calls_of_the_loop(monkeypatch):
  placement = device_placement.placement(
    device_placement.ParallelConfig(), jax.devices()[:1]
  )
  one = decoder.Decoder(placement, CFG, GROUP_SIZE, CONFIG)
  monkeypatch.setattr(watchdog, 'terminate_requested', lambda: True)
  with pytest.raises(errors.Terminated):
    run(one)
  one.segments = np.iinfo(np.int32).max  # It ends in this call.
  assert run(one).mask_BL.any()
