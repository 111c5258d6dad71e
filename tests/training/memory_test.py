"""A step that does not fit is refused before it runs, with what to change."""
import jax
import pytest

from xmc_jax.training import memory
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError


class Fake:
  """A program whose step costs this, or whose compilation fails so."""

  def __init__(self, cost=None, error=None):
    self.mesh, self._cost, self._error = make_mesh(jax.devices()[:1]), cost, error

  def compile(self):
    if self._error:
      raise self._error
    return self

  def cost(self):
    return self._cost


def test_the_hosts_memory_is_shared_by_its_devices():
  one, eight = (memory.available(make_mesh(jax.devices()[:n])) for n in (1, 8))
  assert 1e9 < eight and abs(8 * eight - one) < 8


def test_a_step_that_fits_is_returned():
  fits = Fake({'argument_bytes': 10, 'temp_bytes': 20})
  assert memory.needed(fits.cost()) == 30 and memory.compile_to_fit(fits) is fits
  assert memory.compile_to_fit(silent := Fake({'flops': 1})) is silent


def test_one_that_does_not_is_the_users_to_change():
  have = memory.available(make_mesh(jax.devices()[:1]))
  with pytest.raises(UserError, match=r'needs [\d,.]+ GB .* has [\d,.]+ GB; make it smaller: '
                                      r'--config.batch_size; --config.microbatches=2'):
    memory.compile_to_fit(Fake({'argument_bytes': have, 'temp_bytes': 1}))


def test_a_compiler_that_finds_no_room_is_understood_and_other_failures_pass():
  full = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm')
  with pytest.raises(UserError, match='does not fit .* as its compiler says; make it smaller'):
    memory.compile_to_fit(Fake(error=full))
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    memory.compile_to_fit(Fake(error=jax.errors.JaxRuntimeError('INTERNAL: broken')))
