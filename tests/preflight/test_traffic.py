"""HBM bytes and collectives of compiled programs, against counts by hand."""

import pathlib

import pytest
from preflight_programs import AXES

from r1jax.preflight.compiler import collectives, hlo, traffic

TEXTS = pathlib.Path(__file__).parent / 'hlo'
MIB = 2**20


def measured(name):
  return traffic.measure((TEXTS / f'{name}.txt').read_text(), AXES[name])


def rows(found):
  return {
    (key.kind, key.dtype, key.axes, key.group): (count, size)
    for key, (count, size) in found.table.items()
  }


def test_collectives_of_a_loop_are_multiplied_by_its_length():
  assert rows(measured('layers')) == {
    ('all-gather', 'bf16', 'data', 2): (5, 5 * 2 * MIB),
    ('all-reduce', 'bf16', 'model', 2): (5, 5 * 2 * MIB),
  }


def test_weights_and_rows_are_read_from_hbm_once():
  """Activations between the layers stay in on-chip memory."""
  weights, x = 5 * 512 * 1024 * 2, 1024 * 1024 * 2
  assert measured('layers').hbm == pytest.approx(weights + 2 * x, rel=1e-4)


def test_each_chip_sends_only_its_shard_between_slices():
  found = measured('slices')
  assert rows(found) == {
    ('reduce-scatter', 'f32', 'data', 4): (1, MIB),
    ('send', 'f32', 'slice', 2): (1, MIB),
    ('all-gather', 'f32', 'data', 4): (1, 4 * MIB),
  }
  assert found.sent() == (3 * MIB + 3 * MIB, MIB)
  # Reduce-scatter 4 + 1, send 1, receive 1, all-gather 1, copy of the output 4.
  assert found.hbm == pytest.approx(12 * MIB, rel=1e-6)


def test_a_loop_of_unknown_length_is_counted_apart():
  """The cache is read and written once; the loop has it in on-chip memory."""
  found, cache = measured('decode'), 8 * 8192 * 512 * 2
  assert found.hbm == pytest.approx(2 * cache + 512 * 512 * 2, rel=1e-4)
  assert [loop.hbm < 100 for loop in found.loops] == [True]


ASYNC = """
HloModule jit_f

%start (p.1: bf16[4,8]) -> (bf16[4,8], bf16[8,8], u32[]) {
  %p.1 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %gather.1 = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} all-gather(%p.1), channel_id=1, \
replica_groups={{0,2},{1,3}}, dimensions={0}
  ROOT %call.1 = (bf16[4,8]{1,0:T(8,128)(2,1)}, \
bf16[8,8]{1,0:T(8,128)(2,1)S(1)}, u32[]{:S(2)}) custom-call(%gather.1), \
custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (p.2: bf16[4,8], p.3: bf16[8,8], p.4: f32[16]) -> \
(f32[16], bf16[4,8], bf16[8,8]) {
  %p.2 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %p.3 = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %p.4 = f32[16]{0:T(128)} parameter(2)
  %gather.2 = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} all-gather(%p.2), channel_id=1, \
replica_groups={{0,2},{1,3}}, dimensions={0}
  %twice = f32[16]{0:T(128)} add(%p.4, %p.4)
  ROOT %tuple.2 = (f32[16]{0:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}, \
bf16[8,8]{1,0:T(8,128)(2,1)S(1)}) tuple(%twice, %p.2, %gather.2)
}

%done (p.5: bf16[4,8], p.6: bf16[8,8]) -> bf16[8,8] {
  %p.5 = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %p.6 = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %gather.3 = bf16[8,8]{1,0:T(8,128)(2,1)} all-gather(%p.5), channel_id=1, \
replica_groups={{0,2},{1,3}}, dimensions={0}
  ROOT %call.2 = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} custom-call(%p.5, %p.6, \
%gather.3), custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.body (p.7: f32[16]) -> f32[4] {
  %p.7 = f32[16]{0:T(128)} parameter(0)
  %sum = f32[16]{0:T(128)} all-reduce(%p.7), channel_id=3, \
replica_groups=[1,4]<=[4], to_apply=%add
  ROOT %part = f32[4]{0:T(128)} dynamic-slice(%sum), dynamic_slice_sizes={4}
}

ENTRY %main (a: bf16[4,8], b: f32[16]) -> f32[4] {
  %a = bf16[4,8]{1,0:T(8,128)(2,1)} parameter(0)
  %b = f32[16]{0:T(128)} parameter(1)
  %kernel = f32[16]{0:T(128)} custom-call(%b), \
custom_call_target="tpu_custom_call", backend_config="a text of
}}, three
lines"
  %s = (bf16[4,8]{1,0:T(8,128)(2,1)}, bf16[8,8]{1,0:T(8,128)(2,1)S(1)}, \
u32[]{:S(2)}) fusion(%a), kind=kCustom, calls=%start
  %s.0 = bf16[4,8]{1,0:T(8,128)(2,1)} get-tuple-element(%s), index=0
  %s.1 = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%s), index=1
  %m = (f32[16]{0:T(128)}, bf16[4,8]{1,0:T(8,128)(2,1)}, \
bf16[8,8]{1,0:T(8,128)(2,1)S(1)}) fusion(%s.0, %s.1, %kernel), kind=kLoop, \
calls=%async_collective_fusion.2
  %m.0 = f32[16]{0:T(128)} get-tuple-element(%m), index=0
  %d = bf16[8,8]{1,0:T(8,128)(2,1)S(1)} fusion(%s.0, %s.1), kind=kCustom, \
calls=%done
  ROOT %r = f32[4]{0:T(128)} fusion(%m.0), kind=kLoop, \
calls=%all-reduce-scatter.body
}
"""


def test_an_asynchronous_collective_counts_once_and_a_fused_scatter_is_one():
  found = traffic.measure(ASYNC, AXES['layers'])
  assert rows(found) == {
    ('all-gather', 'bf16', 'data', 2): (1, 128),
    ('reduce-scatter', 'f32', 'data+model', 4): (1, 16),
  }
  # In tiles of 128 lanes, a float32 vector has 512 bytes and the bfloat16 matrix
  # 8 x 128 x 2. Kernel 512 + 512; all-gather 2,048; the sum in the fusion and
  # the reduce-scatter 512 + 512 each.
  assert found.hbm == 3 * 1024 + 2048


@pytest.mark.parametrize(
  'shape, size, stored',
  [
    ('bf16[2,4096,64]{2,1,0:T(8,128)(2,1)}', 2**20, 2**21),  # channels in lanes
    ('bf16[2,4096,64]{1,2,0:T(8,128)(2,1)S(1)}', 2**20, 2**20),
    ('f32[3,5]{0,1:T(2,128)}', 60, 4 * 6 * 128),
    ('pred[16]{0:T(512)(128)(4,1)}', 16, 512),
    ('s32[]{:T(128)}', 4, 4),
    ('f32[3,5]{1,0}', 60, 60),
    ('f32[3,5]', 60, 60),
  ],
)
def test_bytes_in_memory_are_those_of_whole_tiles(shape, size, stored):
  text = f'ENTRY %main (x: f32[]) -> f32[] {{\n  ROOT %x = {shape} copy()\n}}\n'
  (op,) = hlo.parse(text).computations['main'].ops
  assert (op.bytes, op.stored) == (size, stored)


@pytest.mark.parametrize(
  'groups, ids',
  [
    ('replica_groups={{0,2},{1,3}}, x', [0, 2]),
    ('replica_groups=[2,2]<=[4], x', [0, 1]),
    ('replica_groups=[2,2]<=[2,2]T(1,0), x', [0, 2]),
    ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", [0, 2]),
    (
      "replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}",
      [0, 1],
    ),
    ('source_target_pairs={{1,3},{3,1}}', [1, 3]),
    ('replica_groups={}, x', [0, 1, 2, 3]),
  ],
)
def test_groups_are_read_in_every_notation(groups, ids):
  assert collectives.group_of(f', channel_id=1, {groups}', 4) == ids


def test_axes_are_those_along_which_the_devices_differ():
  axes = ('slice', 2), ('data', 4), ('model', 2)
  assert collectives.axes_of([0, 1], axes) == 'model'
  assert collectives.axes_of([0, 2, 4, 6], axes) == 'data'
  assert collectives.axes_of([0, 8], axes) == 'slice'
  assert collectives.axes_of(range(16), axes) == 'slice+data+model'


def test_only_a_constant_bound_gives_the_length_of_a_loop():
  module = hlo.parse((TEXTS / 'layers.txt').read_text())
  loops = [
    hlo.trip_count(module, op)
    for computation in module.computations.values()
    for op in computation.ops
    if op.kind == 'while'
  ]
  assert loops == [5]


@pytest.mark.parametrize(
  'kind, size', [('all-gather', 75), ('all-reduce', 150), ('send', 100)]
)
def test_a_ring_of_four_sends_three_quarters(kind, size):
  assert collectives.Collective(kind, 'bf16', 'data', 4).bytes_sent(100) == size
  scatter = collectives.Collective('reduce-scatter', 'bf16', 'data', 4)
  assert scatter.bytes_sent(25) == 75
