"""Checkpoints: what is saved comes back, and what is not a checkpoint is never taken for one."""
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmc_jax.training.checkpoint import Checkpoints
from xmc_jax.training.optim import make_optimizers
from xmc_jax.training.state import NetworkState, TrainState
from xmc_jax.types import UserError


def make_state(seed=0, width=300, averaged=('g',)):
  """A state of two networks: bfloat16 and float32 leaves, optimiser states, a typed key."""
  keys = jax.random.split(jax.random.key(seed), 3)
  params = {'dense': {'kernel': jax.random.normal(keys[0], (7, width)),
                      'bias': jax.random.normal(keys[1], (width,), jnp.bfloat16)}}
  spec = dict(lr=1e-3, b1=0.9, b2=0.99, muon=0.9)      # Muon's moments for some, Adam's for others
  opt_state = make_optimizers({'g': spec})['g'].init(params)
  stats = {'batch_stats': {'mean': jax.random.normal(keys[2], (width,))}}
  networks = {'d': NetworkState(params, {}, opt_state), 'g': NetworkState(params, stats, opt_state)}
  ema = {name: jax.tree.map(lambda x: x * 2, params) for name in averaged}
  return TrainState(jnp.asarray(seed, jnp.int32), jax.random.key(seed), networks, ema)


def abstract(tree):
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


def sampler_of(state):
  return abstract({'params': state.networks['g'].params, 'stats': state.networks['g'].stats})


def words(tree):
  """The bytes of every leaf on the host."""
  raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
  return [np.array(raw(x)).tobytes() for x in jax.tree.leaves(tree)]


@pytest.fixture
def folder(tmp_path):
  """Three checkpoints, of steps 2, 4 and 6."""
  with Checkpoints(tmp_path / 'checkpoints', every=2) as checkpoints:
    for step in range(1, 7):
      checkpoints.save(step, make_state(step), {'position': step})
  return tmp_path / 'checkpoints'


def test_restores_bits_dtypes_structure_and_shardings(folder):
  state = make_state(6)
  with Checkpoints(folder, every=2) as checkpoints:
    restored = checkpoints.restore(abstract(state))
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  assert words(restored) == words(state)
  assert [x.dtype for x in jax.tree.leaves(restored)] == [x.dtype for x in jax.tree.leaves(state)]
  assert all(x.committed for x in jax.tree.leaves(restored))


def test_only_large_arrays_are_cut_into_parts_for_the_devices(tmp_path, caplog):
  mesh = jax.make_mesh((8,), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
  whole = lambda shape: jax.device_put(np.arange(np.prod(shape), dtype=np.float32).reshape(shape),
                                       jax.NamedSharding(mesh, jax.P()))
  for name, shape, cut in (('small', (8, 24, 13), False), ('large', (8, 1 << 18), True)):
    state = {'x': whole(shape)}
    with jax.log_compiles(), caplog.at_level('WARNING'):
      with Checkpoints(tmp_path / name, every=1) as checkpoints:
        checkpoints.save(1, state, {})
    assert ('slice' in caplog.text) == cut, caplog.text
    with Checkpoints(tmp_path / name, every=None) as checkpoints:
      assert words(checkpoints.restore(abstract(state))) == words(state)


def test_restores_into_other_shardings_than_saved(folder):
  devices = jax.devices()
  if len(devices) < 2:
    pytest.skip('needs two devices')
  mesh = jax.make_mesh((2,), ('data',), axis_types=(jax.sharding.AxisType.Auto,),
                       devices=devices[:2])
  rows, everywhere = (jax.NamedSharding(mesh, spec) for spec in (jax.P(None, 'data'), jax.P()))
  like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(
      x.shape, x.dtype, sharding=rows if x.ndim == 2 else everywhere), make_state(6))
  with Checkpoints(folder, every=None) as checkpoints:
    restored = checkpoints.restore(like)
  assert words(restored) == words(make_state(6))
  for leaf, wanted in zip(jax.tree.leaves(restored), jax.tree.leaves(like)):
    assert leaf.sharding.is_equivalent_to(wanted.sharding, leaf.ndim)


def test_saves_at_multiples_and_when_forced_and_keeps_the_newest(tmp_path):
  with Checkpoints(tmp_path, every=5, keep=2) as checkpoints:
    assert checkpoints.latest() is None
    saved = [step for step in range(1, 12) if checkpoints.save(step, make_state(), {})]
    assert saved == [5, 10]
    assert checkpoints.save(11, make_state(), {}, force=True)
    assert not checkpoints.save(11, make_state(), {}, force=True)
    assert checkpoints.latest() == 11
  assert sorted(os.listdir(tmp_path)) == ['10', '11']


def test_multiples_and_the_best_stay_beside_the_newest(tmp_path):
  with Checkpoints(tmp_path, every=1, keep=2, keep_every=4) as checkpoints:
    for step in range(1, 12):
      checkpoints.save(step, make_state(), {})
      if step == 6:
        checkpoints.best = 5
    assert checkpoints.steps() == [4, 5, 8, 10, 11]
    checkpoints.best = 11
    checkpoints.save(12, make_state(), {})
    assert checkpoints.steps() == [4, 8, 11, 12]
  with Checkpoints(tmp_path, every=1, keep=1) as checkpoints:
    checkpoints.best = 8
    checkpoints.save(13, make_state(), {})
    assert checkpoints.steps() == [8, 13]
    checkpoints.best = 13
    checkpoints.prune()
    assert checkpoints.steps() == [13]


def test_meta_is_of_its_step(folder):
  with Checkpoints(folder, every=2) as checkpoints:
    assert checkpoints.meta() == {'position': 6}
    assert checkpoints.meta(2) == {'position': 2}
    with pytest.raises(TypeError):
      checkpoints.save(8, make_state(), {'not json': object()})


def test_donating_the_state_after_a_save_is_safe(tmp_path):
  advance = jax.jit(lambda kernel: kernel * 2 + 1, donate_argnums=0)
  kernel, expected = jnp.arange(300_000, dtype=jnp.float32), {}
  with Checkpoints(tmp_path, every=1, keep=6) as checkpoints:
    for step in range(1, 7):
      expected[step] = np.array(kernel)
      checkpoints.save(step, {'kernel': kernel}, {})
      kernel = advance(kernel)
    for step in range(1, 7):
      restored = checkpoints.restore(abstract({'kernel': kernel}), step)
      np.testing.assert_array_equal(restored['kernel'], expected[step])


def test_leftover_temporary_folder_is_ignored(folder):
  leftover = folder / '8.orbax-checkpoint-tmp'
  shutil.copytree(folder / '6', leftover)
  with Checkpoints(folder, every=None) as reader:
    assert reader.latest() == 6
    assert leftover.exists()
  with Checkpoints(folder, every=2) as checkpoints:
    assert checkpoints.latest() == 6
    assert checkpoints.save(8, make_state(8), {})
    assert checkpoints.latest() == 8
    assert words(checkpoints.restore(abstract(make_state(8)))) == words(make_state(8))


def test_reader_sees_new_steps_and_makes_no_folder(tmp_path):
  with Checkpoints(tmp_path / 'run', every=None) as reader:
    assert reader.latest() is None
    assert not (tmp_path / 'run').exists()
    with pytest.raises(UserError, match='there is no checkpoint in .*run'):
      reader.restore(abstract(make_state()))
    with Checkpoints(tmp_path / 'run', every=1) as writer:
      writer.save(1, make_state(1), {})
      writer.wait()
      assert reader.latest() == 1
    with pytest.raises(UserError, match='no checkpoint of step 3 .* choose one of 1'):
      reader.restore(abstract(make_state()), 3)


def largest_file(folder):
  return max((p for p in folder.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)


def cut(path):
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


@pytest.mark.parametrize('damage', [
    lambda step: cut(largest_file(step / 'state')),
    lambda step: cut(step / 'state' / 'manifest.ocdbt'),
    lambda step: (step / 'state' / '_METADATA').unlink(),
    lambda step: shutil.rmtree(step / 'state'),
], ids=['array cut', 'manifest cut', 'tree missing', 'all missing'])
# Orbax leaves coroutines behind when one of them fails.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_damaged_state_names_the_step_and_the_one_before(folder, damage):
  damage(folder / '6')
  with Checkpoints(folder, every=2) as checkpoints:
    with pytest.raises(UserError) as error:
      checkpoints.restore(abstract(make_state()))
    message = str(error.value)
    assert 'step 6 is damaged' in message and str(folder / '6') in message
    assert 'resume from the previous complete checkpoint, step 4' in message
    assert len(message) < 600 and '\n' not in message
    assert words(checkpoints.restore(abstract(make_state()), 4)) == words(make_state(4))


def test_damaged_meta_of_the_only_checkpoint(tmp_path):
  with Checkpoints(tmp_path, every=1) as checkpoints:
    checkpoints.save(1, make_state(), {'config': 'x' * 100})
    checkpoints.wait()
    cut(tmp_path / '1' / 'meta' / 'metadata')
    with pytest.raises(UserError, match='step 1 is damaged.*to train from the beginning'):
      checkpoints.meta()


def test_a_checkpoint_that_a_training_deletes_meanwhile_is_not_called_damaged(folder):
  with Checkpoints(folder, every=None) as reader:
    assert reader.latest() == 6
    shutil.rmtree(folder / '6')
    reader.steps = lambda: [3, 6]      # as a moment before
    for read in (lambda: reader.meta(6), lambda: reader.restore(abstract(make_state()), 6)):
      with pytest.raises(UserError, match='step 6 has been deleted from .* --step'):
        read()


def test_checkpoint_of_another_model_names_leaves(folder):
  other_dtype = abstract(make_state()).replace(step=jax.ShapeDtypeStruct((), jnp.float32))
  with Checkpoints(folder, every=2) as checkpoints:
    with pytest.raises(UserError) as error:
      checkpoints.restore(abstract(make_state(width=8)))
    for other, sentence in [
        (abstract(make_state(averaged=('d', 'g'))), r'ema/d/dense/bias is absent there'),
        (abstract(make_state(averaged=())), r'ema/g/dense/bias is \[300\] bfloat16 there and'),
        (other_dtype, r'step is \[\] int32 there and \[\] float32 here')]:
      with pytest.raises(UserError, match=sentence):
        checkpoints.restore(other)
  message = str(error.value)
  assert 'ema/g/dense/kernel is [7, 300] float32 there and [7, 8] float32 here' in message
  assert '--workdir' in message and '--config' in message and 'that differ: 13)' in message


def test_sampler_reads_averaged_parameters_and_live_statistics(folder):
  state = make_state(6)
  with Checkpoints(folder, every=None) as checkpoints:
    averaged = checkpoints.restore_sampler(sampler_of(state))
    live = checkpoints.restore_sampler(sampler_of(state), 4, live=True)
    discriminator = checkpoints.restore_sampler(
        abstract({'params': state.networks['d'].params, 'stats': {}}), network='d')
    with pytest.raises(UserError, match='ema/g/dense/bias is'):
      checkpoints.restore_sampler(sampler_of(make_state(width=8)))
  assert averaged.keys() == live.keys() == discriminator.keys() == {'params', 'stats'}
  assert words(averaged['params']) == words(state.ema['g'])
  assert words(averaged['stats']) == words(state.networks['g'].stats)
  assert words(live['params']) == words(make_state(4).networks['g'].params)
  assert words(live['stats']) == words(make_state(4).networks['g'].stats)
  assert (
    words(discriminator['params']) == words(state.networks['d'].params)
    and discriminator['stats'] == {}
  )


def test_directory_that_cannot_be_made_or_is_lost(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='file/checkpoints .*give a --workdir that can'):
    Checkpoints(tmp_path / 'file' / 'checkpoints', every=1)
  with Checkpoints(tmp_path / 'run', every=1) as checkpoints:
    (tmp_path / 'run').rmdir()
    with pytest.raises(UserError, match=r'could not be written to .*run \(it is gone\)'):
      checkpoints.save(1, make_state(), {})
