"""A step that does not fit is refused before it runs, with what to change."""
import jax
import pytest

from xmc_jax import methods
from xmc_jax.cli import config_file
from xmc_jax.training import memory
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Memory
from xmc_jax.types import UserError
from xmc_jax.utils import machine

ADVICE = memory.less({'bn_group_size': None}, microbatches=True)


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


@pytest.mark.parametrize('limit, have', [
    ('1000000\n', 1_000_000), ('max\n', None), (None, None), (str(2**63), None)])
def test_a_container_has_what_it_may_use(tmp_path, monkeypatch, limit, have):
  whole, file = machine.memory(), tmp_path / 'memory.max'
  if limit:
    file.write_text(limit)
  monkeypatch.setattr(machine, '_LIMITS', (file,))
  assert memory.available(make_mesh(jax.devices()[:1])) == (have or whole)


def test_a_step_that_fits_is_returned():
  have = memory.available(make_mesh(jax.devices()[:1]))
  for fits in (Fake(Memory(10, 20)), Fake(Memory(have - 1, 1)), Fake(None)):
    assert memory.compile_to_fit(fits, ADVICE) is fits


def test_the_summary_has_both_parts():
  assert memory.summary(Memory(12_300_000, 4_560_000_000)) == (
      'memory: 12 MB of state, weights and batch, 4,560 MB of temporaries, on each device')
  assert memory.summary(None) == ''


def test_one_that_does_not_is_the_users_to_change():
  have = memory.available(make_mesh(jax.devices()[:1]))
  with pytest.raises(UserError, match=r'needs [\d,.]+ GB .* has [\d,.]+ GB; make it smaller: '
                                      r'--config.batch_size; --config.microbatches=2'):
    memory.compile_to_fit(Fake(Memory(have, 1)), ADVICE)


def test_a_compiler_that_finds_no_room_is_understood_and_other_failures_pass():
  full = jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm')
  with pytest.raises(UserError, match='does not fit .* compiler; make it smaller'):
    memory.compile_to_fit(Fake(error=full), ADVICE)
  with pytest.raises(jax.errors.JaxRuntimeError, match='INTERNAL'):
    memory.compile_to_fit(Fake(error=jax.errors.JaxRuntimeError('INTERNAL: broken')), ADVICE)


def told(name):
  """Whether the advice for a config names these."""
  config = config_file.load(name)
  text = memory.less(config.model, methods.build(config).microbatches)
  names = 'remat', 'microbatches', 'bn_group_size', 'batch_size', 'shard'
  return [word in text for word in names]


def test_only_what_the_config_can_change_is_named():
  assert told('emoji64') == [True, True, True, True, True]
  assert told('damsm_emoji') == [False, True, False, True, True]      # no BatchNorm over examples
  assert told('df_gan_emoji') == [False, False, False, True, True]
  assert told('attngan_emoji') == [True, False, False, True, True]
