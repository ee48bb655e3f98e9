"""What one chip of each kind has, and how many chips a topology has."""

import dataclasses
import math
import re

from r1jax import errors

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device, as JAX counts devices. Bytes, and bytes or FLOPs a second."""

  name: str
  hbm: float  # usable by a program
  flops: float  # bfloat16 products
  hbm_speed: float
  ici_speed: float  # of a collective along one axis: two links, one direction
  dcn_speed: float
  host: int  # devices of a host
  cores: int = 1  # devices of what a topology's numbers count
  tpu: bool = True


# TPUs: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}, "System
# architecture"; usable HBM is the limit in the compiler's own refusals (libtpu
# 0.0.42). ICI: half of a chip's documented bidirectional bandwidth (v4 and v5p
# 2,400 and 4,800 Gbps, v5e 400 GB/s, v6e 800, tpu7x 1,200) over its links (4 on
# a 2D torus, 6 on a 3D one), times the two links of an axis. DCN: the NICs of a
# host over its chips (v5e 2 x 100 Gbps over 8, v6e 4 x 200 over 8); the others
# from jax-ml.github.io/scaling-book. GPUs: NVIDIA's data sheets of the SXM
# boards, dense bfloat16, NVLink 900 GB/s in both directions together.
CHIPS = {
  chip.name: chip
  for chip in (
    Chip('v4', 30.75 * GIB, 275e12, 1.228e12, 1.0e11, 6.25e9, 4),
    Chip('v5e', 15.75 * GIB, 197e12, 8.19e11, 1.0e11, 3.125e9, 4),
    Chip('v5p', 95.74 * GIB, 459e12, 2.765e12, 2.0e11, 6.25e9, 4),
    Chip('v6e', 31.25 * GIB, 918e12, 1.64e12, 2.0e11, 1.25e10, 4),
    # A chip is two devices, each with half of it.
    Chip('tpu7x', 94.75 * GIB, 1.153e15, 3.69e12, 1.0e11, 6.25e9, 8, cores=2),
    Chip('h100', 78 * GIB, 989e12, 3.35e12, 4.5e11, 5.0e10, 8, tpu=False),
    Chip('h200', 139 * GIB, 989e12, 4.8e12, 4.5e11, 5.0e10, 8, tpu=False),
    # A stand-in, so that the arithmetic can be tried anywhere.
    Chip('cpu', 16 * GIB, 1e11, 2e10, 1e10, 1e9, 1, tpu=False),
  )
}


@dataclasses.dataclass(frozen=True)
class Pod:
  """`slices` slices of one topology, like v5e:16x16."""

  chip: Chip
  topology: str
  slices: int

  @property
  def slice_devices(self):
    return math.prod(map(int, self.topology.split('x'))) * self.chip.cores

  @property
  def devices(self):
    return self.slices * self.slice_devices

  @property
  def hosts(self):
    return max(1, self.devices // self.chip.host)

  @property
  def name(self):
    many = f' x {self.slices} slices' if self.slices > 1 else ''
    return f'{self.chip.name}:{self.topology}{many}'


def pod(topology, slices=1):
  """The Pod of a text like v5e:16x16, v5p:8x8x8 or h100:8."""
  found = re.fullmatch(r'(\w+):(\d+(?:x\d+){0,2})', topology)
  if not found or found[1] not in CHIPS:
    raise errors.UserError(
      f'--topology {topology}: write CHIP:SHAPE, like v5e:16x16 or h100:8; '
      f'known chips are {", ".join(CHIPS)}'
    )
  chip, shape = CHIPS[found[1]], found[2]
  sizes = [int(n) for n in shape.split('x')]
  wanted = 1
  if chip.tpu:
    wanted = 2 if chip.name in ('v5e', 'v6e') else 3
  if len(sizes) != wanted or min(sizes) < 1:
    example = {1: '8', 2: '16x16', 3: '4x4x8'}[wanted]
    raise errors.UserError(
      f'--topology {topology}: a {chip.name} topology has {wanted} numbers '
      f'above 0, like {chip.name}:{example}'
    )
  if slices < 1:
    raise errors.UserError(f'--slices is {slices}; it must be at least 1')
  return Pod(chip, shape, slices)
