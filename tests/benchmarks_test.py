"""The benchmarks as they are called, on a tiny config; and what they call the arrays they find."""
import importlib
import json
import os
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest
import tiny
import toys

pytestmark = pytest.mark.slow

BENCHMARKS = tiny.ROOT / 'benchmarks'
# Cached programs keep the names of operations only if these are part of the key.
ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1',
               'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
               'JAX_COMPILATION_CACHE_DIR': os.environ['XMC_JAX_CACHE'],
               'JAX_COMPILATION_CACHE_INCLUDE_METADATA_IN_KEY': '1',
               'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
# A machine that has nothing but JAX, Flax, Optax, ml_collections and safetensors.
BARE = """
import runpy, sys
absent = ('tensorflow', 'tensorflow_datasets', 'clu', 'orbax', 'PIL', 'tokenizers', 'tensorboard',
          'h5py')
sys.modules |= dict.fromkeys(absent)
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition('/')[0])
runpy.run_path(sys.argv[0], run_name='__main__')
assert not [name for name in sys.modules if name.split('.')[0] in absent and sys.modules[name]]
"""


@pytest.fixture
def config_file(tmp_path, text_folder):
  """A config file whose get_config() gives `toys.tiny_config`."""
  file = tmp_path / 'tiny_config.py'
  file.write_text(f'import sys\nsys.path.insert(0, {str(tiny.ROOT / "tests")!r})\nimport toys\n'
                  f'get_config = lambda: toys.tiny_config({str(text_folder)!r}).lock()\n')
  return file


def call(script, *argv):
  """Exit code, lines of JSON and errors of a benchmark, on a bare machine of one CPU device."""
  done = subprocess.run([sys.executable, '-c', BARE, str(BENCHMARKS / script), *map(str, argv)],
                        env=os.environ | ENVIRONMENT, capture_output=True, text=True, cwd=tiny.ROOT)
  return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.thorough
def test_train_step_tells_cost_and_time_of_both_twins(config_file, tmp_path):
  code, lines, errors = call(
      'train_step.py', '--config', config_file, '--config.model.z_features=4', '--batch_sizes', '4',
      '--reference', '--steps', '3', '--profile', tmp_path / 'trace')
  assert code == 0, errors
  fast, reference = lines
  assert (fast['impl'], reference['impl']) == ('auto', 'reference')
  for line in lines:
    assert (line['px'], line['width'], line['dtype'], line['rows']) == (32, 4, 'float32', 4)
    assert (line['devices'], line['device'], line['jax']) == (1, 'cpu', jax.__version__)
    assert min(line[key] for key in ('flops', 'bytes_accessed', 'argument_bytes', 'temp_bytes',
                                     'compile_seconds', 'step_seconds')) > 0
    assert line['images_per_second'] * line['step_seconds'] == pytest.approx(2 * 4, rel=0.02)
    assert line['flops_per_second'] * line['step_seconds'] == pytest.approx(line['flops'], rel=0.02)
    assert 'mfu' not in line and 'unknown_loops' not in line and 'uncounted' not in line
  assert fast['flops'] != reference['flops']       # which is less is a matter of size
  assert fast['ratio'] > 0 and 'ratio' not in reference
  assert list((tmp_path / 'trace').rglob('*.xplane.pb'))


@pytest.mark.parametrize('argv, said', [
    (['--batch_size=8', '--cost-only'], '--config is missing'),
    (['--config', 'nowhere.py'], 'nowhere.py'),
    (['--batch_sizes=8,many'], 'batch_sizes'),
    (['--config', 'configs/demo.py', '--rows=8'], 'rows'),
    (['--config', 'configs/demo.py', '--config.batch_sizes=8'], 'batch_sizes'),
    (['--config', 'configs/demo.py', '--config.model.dtype=float8'], 'float8')])
def test_mistakes_end_with_code_two(argv, said, monkeypatch, capsys):
  monkeypatch.chdir(tiny.ROOT)
  monkeypatch.setattr(sys, 'argv', ['train_step.py', *argv])
  with pytest.raises(SystemExit) as end:
    load(monkeypatch, 'train_step').main()
  told = capsys.readouterr()
  assert (end.value.code, told.out) == (2, '') and said in told.err.splitlines()[-1]


def test_devices_that_do_not_divide_the_rows_end_a_process_with_code_two():
  code, lines, errors = call('collectives.py', '--config', 'configs/demo.py', '--devices=3')
  assert (code, lines) == (2, []) and 'devices, 3' in errors.splitlines()[-1]
  assert 'Traceback' not in errors


@pytest.mark.thorough
def test_collectives_tells_what_is_moved_and_what_for(config_file):
  code, lines, errors = call('collectives.py', '--config', config_file, '--devices', '2')
  assert code == 0, errors
  [line] = lines
  assert (line['devices'], line['rows']) == (2, 8)
  assert sum(line['sent_by_kind'].values()) == line['sent'] == sum(line['sent_for'].values())
  # Two rounds of 8 captions of 6 words of 8 features and their mask; a device sends half of them.
  assert line['sent_for']['words'] == line['words_once'] == 2 * 8 * 6 * (4 * 8 + 1) // 2
  # Besides the words, the loss moves a few numbers per row: less than a row of features for each.
  assert 0 < line['sent_for']['word_loss'] < line['words_once']
  assert {'hinge_d', 'hinge_g', 'nt_xent', 'batch_norm'} <= line['sent_for'].keys()
  assert line['sent_for']['gradients'] == pytest.approx(line['gradients_once'], rel=0.01)
  assert line['gradients_once'] > 0.5 * line['sent']
  assert line['image_or_region_shaped'] == []
  assert [a['sent'] for a in line['largest']] == sorted(
      (a['sent'] for a in line['largest']), reverse=True)


def test_collectives_starts_a_process_for_every_number_of_devices(config_file, monkeypatch):
  collectives, started = load(monkeypatch, 'collectives'), []
  monkeypatch.setattr(sys, 'argv', ['collectives.py', f'--config={config_file}', '--devices=1,4'])
  monkeypatch.setattr(subprocess, 'run', lambda argv, check: (
      started.append(argv), types.SimpleNamespace(returncode=0))[1])
  collectives.main()
  assert started == [[sys.executable, *sys.argv, f'--devices={n}'] for n in (1, 4)]


def load(monkeypatch, script):
  monkeypatch.syspath_prepend(str(BENCHMARKS))
  monkeypatch.delitem(sys.modules, script, raising=False)
  return importlib.import_module(script)


@pytest.fixture
def sizes(monkeypatch, tiny_config):
  """The module, and sizes of 8 rows of 32 px on two devices with one parameter, [3, 3, 4, 8]."""
  collectives = load(monkeypatch, 'collectives')
  network = types.SimpleNamespace(
    params={'kernel': jax.ShapeDtypeStruct((3, 3, 4, 8), jnp.float32)}
  )
  state = types.SimpleNamespace(networks={'g': network})
  return collectives, collectives.Sizes(tiny_config, state, 2)


@pytest.mark.parametrize('kind, shape, name, why', [
    ('all-gather', (8, toys.LENGTH, toys.TEXT_FEATURES), 'jit(run)/jvp(joint)/Bert/norm/add',
     'words'),
    ('all-gather', (1, 8, toys.LENGTH), 'jit(run)/squeeze', 'words'),
    ('all-reduce', (8,), 'jit(run)/jvp(joint)/word_loss/jit(log_softmax)/reduce_max', 'word_loss'),
    ('all-reduce', (), 'jit(run)/jvp(joint)/vmap(nt_xent)/reduce_sum', 'nt_xent'),
    ('all-reduce', (8,), 'jit(run)/transpose(jvp(joint))/nt_xent/dot_general', 'nt_xent'),
    ('all-reduce', (1, 4), 'jit(run)/jvp(joint)/XmcGenerator/norm_out/norm/reduce_sum',
     'batch_norm'),
    ('all-reduce', (3, 3, 4, 8), 'jit(run)/transpose(jvp(joint))/while/body/closed_call/checkpoint/'
     'XmcGenerator/block_0/norm_in/gamma/dot_general', 'gradients'),
    ('all-gather', (3, 4, 3, 8), 'jit(run)/add', 'parameters'),
    ('all-reduce', (), 'jit(run)/jvp(joint)/reduce_sum', 'other')])
def test_purposes(sizes, kind, shape, name, why):
  collectives, sizes = sizes
  assert collectives.purpose(kind, shape, name, sizes) == why


@pytest.mark.parametrize('shape, yes', [
    ((8, 32, 32, 3), True), ((4, 16, 16, 8), True), ((1, 4, 8, 8, 16), True),
    ((32, 32, 3), True), ((8, 256, 8), True), ((4 * 256, 8), True), ((8, 6, 256, 8), True),
    ((8, 6, 8), False), ((8 * 6, 8), False), ((256, 8), False), ((8, 8), False), ((), False),
    ((3, 3, 4, 8), False), ((16, 16), False)])
def test_images_and_regions_are_seen_by_their_shapes(sizes, shape, yes):
  collectives, sizes = sizes
  assert collectives.is_image('all-gather', shape, 'word', sizes) == yes
  assert not collectives.is_image('all-reduce', shape, 'gradients', sizes)
