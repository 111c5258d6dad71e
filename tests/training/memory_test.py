"""A step that does not fit is refused before it runs, with what to change."""
import jax
import ml_collections
import pytest

from xmc_jax.training import memory
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Memory
from xmc_jax.types import UserError

CONFIG = ml_collections.ConfigDict({'model': {'bn_group_size': None}})


class Fake:
  """A program whose step needs this memory, or whose compilation fails so."""

  def __init__(self, memory=None, error=None):
    self.mesh, self._memory, self._error = make_mesh(jax.devices()[:1]), memory, error

  def compile(self):
    if self._error:
      raise self._error
    return self

  def memory(self):
    return self._memory


def test_the_hosts_memory_is_shared_by_its_devices():
  one, eight = (memory.available(make_mesh(jax.devices()[:n])) for n in (1, 8))
  assert 1e9 < eight and abs(8 * eight - one) < 8


def test_a_step_that_fits_is_returned():
  have = memory.available(make_mesh(jax.devices()[:1]))
  for fits in (Fake(Memory(10, 20)), Fake(Memory(have - 1, 1)), Fake(None)):
    assert memory.compile_to_fit(fits, CONFIG) is fits


def test_the_summary_has_both_parts():
  assert memory.summary(Memory(12_300_000, 4_560_000_000)) == (
      'memory: 12 MB of state, weights and batch, 4,560 MB of temporaries, on each device')
  assert memory.summary(None) == ''


def test_one_that_does_not_is_the_users_to_change():
  have = memory.available(make_mesh(jax.devices()[:1]))
  with pytest.raises(UserError, match=r'needs [\d,.]+ GB .* has [\d,.]+ GB; make it smaller: '
                                      r'--config.batch_size; --config.microbatches=2'):
    memory.compile_to_fit(Fake(Memory(have, 1)), CONFIG)


def test_a_compiler_that_finds_no_room_is_understood_and_other_failures_pass():
  full = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm')
  with pytest.raises(UserError, match='does not fit .* compiler; make it smaller'):
    memory.compile_to_fit(Fake(error=full), CONFIG)
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    memory.compile_to_fit(Fake(error=jax.errors.JaxRuntimeError('INTERNAL: broken')), CONFIG)


def test_only_keys_that_the_config_has_are_named():
  have = memory.available(make_mesh(jax.devices()[:1]))
  told = []
  for model in ({}, {'remat': 'nothing'}, {'bn_group_size': None, 'remat': 'nothing'}):
    with pytest.raises(UserError) as error:
      memory.compile_to_fit(Fake(Memory(have, 1)), ml_collections.ConfigDict({'model': model}))
    told.append([name in str(error.value) for name in ('remat', 'microbatches', 'batch_size')])
  assert told == [[False, False, True], [True, False, True], [True, True, True]]
