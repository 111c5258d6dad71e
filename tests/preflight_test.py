"""`xmc train --check` finds what is planted, one mistake at a time and several together."""
import importlib.metadata
import re
import shutil
import sys
import types

import jax
import noise_records
import pytest
import tiny

from xmc_jax import preflight
from xmc_jax.cli.main import main
from xmc_jax.utils.lock import locked

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('compiled_once')]


class Plan:
  """A tiny run that may begin, and the means to plant mistakes in it."""

  def __init__(self, folder, encoder, patch):
    self.folder, self.workdir, self.encoder, self.patch = folder, folder / 'run', encoder, patch
    self.settings, self.open = {'data__loader': 'arrays'}, []
    patch.setattr(preflight, 'SECONDS', 0.1)
    patch.setattr(preflight, 'product_rate', lambda dtype: 1e10)      # takes seconds

  def check(self, capsys):
    """Exit code, table and lines of what is wrong."""
    code = main([*tiny.train_argv(self.workdir, self.encoder, **self.settings), '--check'])
    told = capsys.readouterr()
    return code, told.out, told.err.partition('not ready')[2].splitlines()[1:]


@pytest.fixture
def plan(tmp_path, encoder_folder, monkeypatch):
  return Plan(tmp_path, encoder_folder, monkeypatch)


def old_package(plan):
  version = importlib.metadata.version
  plan.patch.setattr(importlib.metadata, 'requires', lambda name: ['flax<0.13,>=0.12',
                                                                   'clu>=9; extra == "train"'])
  plan.patch.setattr(importlib.metadata, 'version',
                     lambda name: '0.11.2' if name == 'flax' else version(name))


def plugin_of_another_jax(plan):
  plugin = types.SimpleNamespace(name='jax-cuda13-plugin', version='0.1.0')
  plan.patch.setattr(importlib.metadata, 'distributions', lambda: [plugin])


def overlooked_gpu(plan):
  (plan.folder / 'nvidia0').touch()
  plan.patch.setitem(preflight.ACCELERATORS, f'{plan.folder}/nvidia*', 'gpu')
  plan.patch.setattr(preflight, 'chosen_platforms', lambda: [])


def odd_batch(plan):
  plan.settings['batch_size'] = 12


def no_data(plan):
  plan.settings |= {'data__name': 'records', 'data__options__folder': plan.folder / 'nowhere'}


def damaged_data(plan):
  folder = noise_records.make_folder(plan.folder / 'noise')
  shard = folder / 'train-00002.rec'
  data = bytearray(shard.read_bytes())
  data[len(data) // 3] ^= 255
  shard.write_bytes(data)
  plan.settings |= {'data__name': 'records', 'data__options__folder': folder}


def no_weights(plan):
  plan.encoder = shutil.copytree(plan.encoder, plan.folder / 'bert')
  (plan.encoder / 'model.safetensors').unlink()


def damaged_weights(plan):
  plan.encoder = shutil.copytree(plan.encoder, plan.folder / 'bert')
  (plan.encoder / 'model.safetensors').write_bytes(b'\0' * 40)


def no_access(plan):
  (plan.folder / 'file').touch()
  plan.workdir = plan.folder / 'file' / 'run'


def full_disk(plan):
  plan.patch.setattr(shutil, 'disk_usage', lambda path: types.SimpleNamespace(free=1_000_000))


def little_memory(plan):
  plan.patch.setattr('xmc_jax.training.memory.available', lambda mesh: 1_000_000)


def busy_folder(plan):
  lock = locked(plan.workdir)
  lock.__enter__()
  plan.open.append(lock)


def other_model(plan):
  plan.settings['model__width'] = 8
  plan.workdir = plan.trained


def other_weights_to_begin_with(plan):
  plan.settings |= {'model__width': 8, 'init': plan.trained}


def no_tensorflow(plan):
  plan.settings['data__loader'] = 'tf_data'
  plan.patch.setitem(sys.modules, 'tensorflow', None)
  plan.patch.delitem(sys.modules, 'xmc_jax.data.tf_data', raising=False)


def few_real_images(plan):
  plan.settings |= {'data__name': 'emoji_scenes', 'data__options__heldout_examples': 4,
                    'evals__protocol': 'offline', 'evals__every': 2}


def unknown_protocol(plan):
  plan.settings['evals__protocol'] = 'offlin'


def best_without_evaluations(plan):
  plan.settings['evals__best'] = 'FID'


MISTAKES = {                  # and words of the line that tells each
    few_real_images: 'too few images',
    unknown_protocol: 'evals.protocol=offlin',
    best_without_evaluations: 'evals.best=FID needs --config.evals.every',
    old_package: 'flax 0.11.2 is installed.*pip install',
    plugin_of_another_jax: 'jax-cuda13-plugin 0.1.0.*jaxlib.*pip install',
    overlooked_gpu: r'nvidia0, but JAX sees only.*pip install',
    odd_batch: 'batch_size=12.*multiple',
    no_data: 'nowhere.*manifest',
    damaged_data: 'train-00002.rec.*damaged|damaged.*train-00002.rec',
    no_weights: 'model.safetensors',
    damaged_weights: 'model.safetensors',
    no_access: '--workdir=.*cannot be written',
    full_disk: 'MB are free.*--config.keep',
    little_memory: 'memory.*--config.batch_size',
    busy_folder: 'in use by another training',
    other_model: 'another model',
    other_weights_to_begin_with: '--config.init=.*other networks',
    no_tensorflow: 'tensorflow.*pip install',
}


@pytest.mark.parametrize('mistake', MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_alone_is_the_only_line(plan, mistake, capsys, trained):
  plan.trained = trained
  mistake(plan)
  code, table, wrong = plan.check(capsys)
  assert code == 2 and 'versions' in table and 'ready' not in table
  assert len(wrong) == 1 and re.search(MISTAKES[mistake], wrong[0], re.IGNORECASE), wrong


@pytest.mark.parametrize('mistakes', [
    (old_package, plugin_of_another_jax, overlooked_gpu, odd_batch, no_data, damaged_weights,
     busy_folder, full_disk),
    (no_weights, no_access, odd_batch, damaged_data),
    (little_memory, full_disk, no_tensorflow, old_package)],
    ids=lambda mistakes: ' '.join(mistake.__name__ for mistake in mistakes))
def test_mistakes_together_have_a_line_each(plan, mistakes, capsys):
  for mistake in mistakes:
    mistake(plan)
  code, _, wrong = plan.check(capsys)
  assert code == 2 and len(wrong) == len(mistakes), wrong
  for mistake in mistakes:
    assert any(re.search(MISTAKES[mistake], line, re.IGNORECASE) for line in wrong), mistake


def test_a_run_that_may_begin_is_ready_and_nothing_is_trained(plan, capsys):
  code, table, wrong = plan.check(capsys)
  assert code == 0 and not wrong, wrong
  for name in ('versions', 'devices', 'data, train', 'data, heldout', 'frozen text', 'checkpoints',
               'disk', 'memory', 'compiled', 'estimate', 'input'):
    assert re.search(rf'^{name} +\S', table, re.MULTILINE), f'{name} is not in:\n{table}'
  assert table.splitlines()[-1].startswith('ready') and 'TFLOP' in table
  assert {path.name for path in plan.workdir.iterdir()} <= {'.lock'}


def test_what_spoils_a_training_is_told_and_ends_nothing(plan, capsys):
  plan.settings |= {'data__name': 'emoji_scenes', 'data__options__examples': 4}
  code, table, wrong = plan.check(capsys)
  assert code == 0 and 'warning: the batch size 8 exceeds the 4 images' in table


@pytest.mark.parametrize('settings, number', [
    ({'keep': 2}, 3), ({'keep': 2, 'keep_every': 4, 'steps': 12}, 6),
    ({'keep': 2, 'evals__every': 5, 'evals__protocol': 'offline'}, 4)])
def test_the_disk_needs_room_for_all_checkpoints_that_stay(plan, capsys, settings, number):
  plan.settings |= settings
  table = plan.check(capsys)[1]
  assert re.search(rf'checkpoints .* MB for {number}\n', table), table


def test_a_run_that_is_there_says_from_where_it_resumes(plan, capsys, trained):
  plan.workdir, plan.settings = trained, plan.settings | {'steps': 8}
  code, table, _ = plan.check(capsys)
  assert code == 0 and re.search(r'resumes +from step 4', table) and 'for 4 steps' in table


def test_a_slow_input_is_a_warning(plan, capsys):
  plan.patch.setattr(preflight, 'product_rate', lambda dtype: 1e18)
  code, table, _ = plan.check(capsys)
  assert code == 0 and re.search('^warning: the input gives .* examples/s', table, re.MULTILINE)


def test_products_are_timed_on_all_devices():
  assert len(jax.local_devices()) == 8 and 1e8 < preflight.product_rate('float32') < 1e14


def test_all_hosts_are_looked_at(tmp_path, encoder_folder):
  """Two processes with another seed, another folder and, on one, no weights."""
  bare = shutil.copytree(encoder_folder, tmp_path / 'bare')
  (bare / 'model.safetensors').unlink()
  port = tiny.free_port()
  processes = [tiny.start([
      *tiny.train_argv(tmp_path / f'run{i}', encoder, seed=i, data__loader='arrays'), '--check',
      '--processes=2', f'--coordinator=127.0.0.1:{port}', f'--process={i}'])
      for i, encoder in enumerate((encoder_folder, bare))]
  for process in processes:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 2, output
    for words in ('config.seed differs', 'process 1 cannot see in', r'process 1 on .*safetensors'):
      assert re.search(words, output), output
    assert 'Traceback' not in output
