"""Memory and speeds of each kind of chip, and the chips of a topology."""

import dataclasses
import itertools
import math
import re

from r1jax import errors

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device, as JAX counts devices. Bytes, and bytes or FLOPs a second."""

  name: str
  hbm_capacity: float  # usable by a program
  flop_rate: float  # of bfloat16 matrix products
  hbm_bandwidth: float
  ici_bandwidth: float  # of a collective along one mesh axis: two links
  dcn_bandwidth: float
  devices_per_host: int
  devices_per_chip: int
  topology_axes: int  # numbers in a topology: 2 or 3 on TPUs, else 1
  gpu_capability: float  # the compute capability of a GPU, else 0

  @property
  def is_tpu(self) -> bool:
    return self.topology_axes > 1

  @property
  def backend(self) -> str:
    """As jax names it; that of the placeholder is 'gpu' too."""
    return 'tpu' if self.is_tpu else 'gpu'


# TPUs: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}, "System
# architecture". Usable HBM is the limit in the compiler's out-of-memory errors
# (libtpu 0.0.42). ICI: half of a chip's documented bidirectional bandwidth (v4
# and v5p 2,400 and 4,800 Gbps, v5e 400 GB/s, v6e 800, tpu7x 1,200) over its
# links (4 on a 2D torus, 6 on a 3D torus), times the two links of an axis. DCN:
# the NICs of a host over its chips (v5e 2 x 100 Gbps over 8, v6e 4 x 200 over
# 8); the others from jax-ml.github.io/scaling-book. A tpu7x chip is two devices,
# each with half of the chip. The cpu is a placeholder, so that the formulas can
# be tried anywhere.
# GPUs: NVIDIA's data sheets and architecture papers, dense bfloat16 products that
# are summed in float32; NVLink in one direction (h100, h200, a100), else PCIe 4
# (the T4 has PCIe 3). Usable memory is what the driver reports less about 3 %,
# with XLA_PYTHON_CLIENT_MEM_FRACTION=.97; jax's default is 0.75. The T4 has no
# bfloat16: XLA computes such products in float32, which has no tensor cores.
# Columns: the fields of Chip after its name.
_TABLE = {
  'v4': (30.75 * GIB, 275e12, 1.228e12, 1.0e11, 6.25e9, 4, 1, 3, 0),
  'v5e': (15.75 * GIB, 197e12, 8.19e11, 1.0e11, 3.125e9, 4, 1, 2, 0),
  'v5p': (95.74 * GIB, 459e12, 2.765e12, 2.0e11, 6.25e9, 4, 1, 3, 0),
  'v6e': (31.25 * GIB, 918e12, 1.64e12, 2.0e11, 1.25e10, 4, 1, 2, 0),
  'tpu7x': (94.75 * GIB, 1.153e15, 3.69e12, 1.0e11, 6.25e9, 8, 2, 3, 0),
  'h100': (78 * GIB, 989e12, 3.35e12, 4.5e11, 5.0e10, 8, 1, 1, 9.0),
  'h200': (139 * GIB, 989e12, 4.8e12, 4.5e11, 5.0e10, 8, 1, 1, 9.0),
  'a100': (38.5 * GIB, 312e12, 1.555e12, 3.0e11, 1.56e9, 8, 1, 1, 8.0),
  'a100-80g': (77.5 * GIB, 312e12, 2.039e12, 3.0e11, 3.1e9, 8, 1, 1, 8.0),
  'l4': (21.5 * GIB, 121e12, 3.0e11, 2.5e10, 1.56e9, 8, 1, 1, 8.9),
  't4': (14.3 * GIB, 8.1e12, 3.2e11, 1.2e10, 3.1e9, 4, 1, 1, 7.5),
  'rtx3090': (23 * GIB, 71e12, 9.36e11, 2.5e10, 1.25e9, 8, 1, 1, 8.6),
  'rtx4090': (23 * GIB, 165e12, 1.008e12, 2.5e10, 1.25e9, 8, 1, 1, 8.9),
  'cpu': (16 * GIB, 1e11, 2e10, 1e10, 1e9, 1, 1, 1, 0),
}
CHIPS = {name: Chip(name, *row) for name, row in _TABLE.items()}

# The slices that Google offers: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,
# tpu7x}, "Configurations", and types-topologies. On a 3D torus those of at least
# 64 chips are AxBxC of multiples of 4 with A <= B <= C, at most LARGEST.
SLICES_2D = '1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16'.split()
SMALL_3D = '2x2x1 2x2x2 2x2x4 2x4x4'.split()
LARGEST = {'v4': (16, 16, 16), 'v5p': (16, 16, 24), 'tpu7x': (16, 24, 24)}

# Bytes of host memory for each device: the memory of a machine type over its
# devices, where types differ that of the smallest. TPUs: "Plan TPUs in GKE"
# (cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus) and "TPU machines"
# (docs.cloud.google.com/compute/docs/tpus/tpu-machines): ct4p-hightpu-4t 407 GB,
# ct5lp-hightpu-{1t,4t,8t} 48, 192, 384, ct5p-hightpu-4t 448,
# ct6e-standard-{1t,4t,8t} 176, 720, 1,440, tpu7x-standard-4t 960. GPUs: "GPU
# machine types" (cloud.google.com/compute/docs/gpus): a3-highgpu-8g 1,872 GB,
# a3-ultragpu-8g 2,952, a2-highgpu-1g 85, a2-ultragpu-1g 170, g2-standard-4 16;
# the T4's is Colab's 12.7 GB, an RTX has a PC's 32. The cpu is a placeholder.
HOST_MEMORY = {
  'v4': 407e9 / 4,
  'v5e': 48e9,
  'v5p': 448e9 / 4,
  'v6e': 176e9,
  'tpu7x': 960e9 / 8,
  'h100': 1872e9 / 8,
  'h200': 2952e9 / 8,
  'a100': 85e9,
  'a100-80g': 170e9,
  'l4': 16e9,
  't4': 12.7e9,
  'rtx3090': 32e9,
  'rtx4090': 32e9,
  'cpu': 16e9,
}


@dataclasses.dataclass(frozen=True)
class Pod:
  """`slices` slices of one topology, like v5e:16x16."""

  chip: Chip
  topology: str
  slices: int

  @property
  def slice_devices(self) -> int:
    chips = math.prod(map(int, self.topology.split('x')))
    return chips * self.chip.devices_per_chip

  @property
  def devices(self) -> int:
    return self.slices * self.slice_devices

  @property
  def hosts(self) -> int:
    return max(1, self.devices // self.chip.devices_per_host)

  @property
  def host_devices(self) -> int:
    """Devices of one host."""
    return min(self.slice_devices, self.chip.devices_per_host)

  @property
  def host_memory(self) -> float:
    """Bytes of memory of one host."""
    return HOST_MEMORY[self.chip.name] * self.host_devices

  @property
  def name(self) -> str:
    suffix = f' x {self.slices} slices' if self.slices > 1 else ''
    return f'{self.chip.name}:{self.topology}{suffix}'


def pod(topology: str, slices: int = 1) -> Pod:
  """The Pod of a text like v5e:16x16, v5p:8x8x8 or h100:8."""
  match = re.fullmatch(r'([\w-]+):(\d+(?:x\d+){0,2})', topology)
  if not match or match[1] not in CHIPS:
    raise errors.UserError(
      f'--topology {topology}: write CHIP:SHAPE, like v5e:16x16 or h100:8; '
      f'known chips are {", ".join(CHIPS)}'
    )
  chip = CHIPS[match[1]]
  if chip.is_tpu and match[2] not in offered(chip):
    raise errors.UserError(
      f'--topology {topology}: there is no such slice; those of {chip.name} are '
      f'{_offer(chip)}'
    )
  if not chip.is_tpu and not re.fullmatch('[1-9][0-9]*', match[2]):
    raise errors.UserError(
      f'--topology {topology}: write one number above 0, like {chip.name}:8'
    )
  return Pod(chip=chip, topology=match[2], slices=slices)


def offered(chip: Chip) -> list[str]:
  """The slices of a kind of TPU, from the smallest to the largest; of equally
  many chips the most compact is first."""
  if chip.topology_axes == 2:
    return SLICES_2D
  sides = [range(4, side + 1, 4) for side in LARGEST[chip.name]]
  cubes = [
    sizes
    for sizes in itertools.product(*sides)
    if sizes == tuple(sorted(sizes))
  ]
  cubes.sort(key=lambda sizes: (math.prod(sizes), sum(sizes)))
  return SMALL_3D + ['x'.join(map(str, sizes)) for sizes in cubes]


def larger(pod: Pod) -> list[str]:
  """The topologies with twice and four times the chips."""
  chip, count = pod.chip, pod.slice_devices // pod.chip.devices_per_chip
  if not chip.is_tpu:
    return [str(2 * count), str(4 * count)]
  found: dict[int, str] = {}  # by the number of chips
  for topology in offered(chip):
    chips = math.prod(map(int, topology.split('x')))
    found.setdefault(chips, topology)
  return [found[n] for n in (2 * count, 4 * count) if n in found]


def _offer(chip):
  if chip.topology_axes == 2:
    return ', '.join(SLICES_2D)
  largest = 'x'.join(map(str, LARGEST[chip.name]))
  return (
    f'{", ".join(SMALL_3D)} and AxBxC of multiples of 4 with A <= B <= C, '
    f'from 4x4x4 to {largest}'
  )
