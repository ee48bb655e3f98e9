"""The TPU compiler on small programs, against recorded texts and counts by
hand."""

import pathlib

import preflight_programs
import pytest

from r1jax.preflight.compiler import traffic

pytestmark = pytest.mark.tpu
TEXTS = pathlib.Path(__file__).parent / 'hlo'


@pytest.mark.parametrize('name', preflight_programs.AXES)
def test_the_compiler_still_gives_the_recorded_traffic(name):
  program = getattr(preflight_programs, name)().lower().compile()
  new = traffic.measure(program.as_text(), preflight_programs.AXES[name])
  old = traffic.measure(
    (TEXTS / f'{name}.txt').read_text(), preflight_programs.AXES[name]
  )
  assert new.hbm == pytest.approx(old.hbm, rel=0.01)
  assert {k: tuple(v) for k, v in new.table.items()} == {
    k: tuple(v) for k, v in old.table.items()
  }


def test_a_donated_cache_is_in_place():
  m = preflight_programs.decode().lower().compile().memory_analysis()
  assert m.alias_size_in_bytes == m.output_size_in_bytes == 8 * 8192 * 512 * 2
