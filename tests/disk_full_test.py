"""A full disk is told in one sentence, and a run goes on after room was made."""
import errno
import json
import os
import shutil

import pytest
import tiny

from xmc_jax.cli.main import main
from xmc_jax.evals import results
from xmc_jax.training import checkpoint, metric_writer
from xmc_jax.types import UserError
from xmc_jax.utils import atomic, disk, json_lines


def no_space(*_, **__):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_its_file_and_other_errors_pass(tmp_path, monkeypatch, number):
  def full(_):
    raise OSError(number, os.strerror(number))
  with monkeypatch.context() as patch:
    patch.setattr(atomic, 'sync', full)
    with pytest.raises(UserError, match=f'a.txt .*{os.strerror(number)}.*make room'):
      with disk.errors_told():
        atomic.save(tmp_path / 'a.txt', 'x')
  assert list(tmp_path.iterdir()) == []
  with pytest.raises(PermissionError), disk.errors_told():
    raise PermissionError(errno.EACCES, 'no')


def test_the_words_of_tensorstore_are_left_out():
  error = ValueError('RESOURCE_EXHAUSTED: Error writing "a/0" in OCDBT database at local file '
                     '"/x/": Failed to write 9 bytes: No space left on device [os_error_code=28]')
  assert checkpoint._reason(error) == os.strerror(errno.ENOSPC)


def told(capsys, argv):
  """The one sentence with which a command ends."""
  assert main(argv) == 2
  error = capsys.readouterr().err
  assert error.startswith('xmc: ') and error.count('\n') == 1, error
  assert os.strerror(errno.ENOSPC) in error
  return error


def metrics(workdir):
  lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').open()]
  return [{key: value for key, value in line.items() if '/' in key or key == 'step'}
          for line in lines]


@pytest.fixture(scope='module')
def straight(tmp_path_factory, encoder_folder):
  """Metrics and last state of a run that never lacked room."""
  run = tmp_path_factory.mktemp('straight')
  assert main(tiny.train_argv(run, encoder_folder, steps=6, data__loader='arrays')) == 0
  return metrics(run), tiny.saved_state(run, 6)


WRITES = {      # file in the sentence: what fails, at which call
    'config.json': (atomic, 'save', 1), 'metrics.jsonl': (json_lines, 'append', 2),
    'checkpoints': (atomic, 'sync_tree', 1), 'heldout_00000006.png': (atomic, 'save', None),
    'tensorboard': (metric_writer, '_board', 1)}


@pytest.mark.slow
@pytest.mark.usefixtures('compiled_once')
@pytest.mark.parametrize('file', WRITES)
def test_training_goes_on_exactly_after_room_was_made(
    trained, straight, tmp_path, encoder_folder, monkeypatch, capsys, file):
  run = shutil.copytree(trained, tmp_path / 'run')
  argv = tiny.train_argv(run, encoder_folder, steps=6, data__loader='arrays')
  module, name, at = WRITES[file]
  original, calls = getattr(module, name), []

  def write(*args, **options):
    calls.append(args)
    if len(calls) == at or at is None and file in str(args[0]):
      error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
      error.filename = str(args[0])
      raise error
    return original(*args, **options)
  with monkeypatch.context() as patch:
    patch.setattr(module, name, write)
    assert file in told(capsys, argv)
  assert main(argv) == 0
  assert (metrics(run), tiny.saved_state(run, 6)) == straight


@pytest.mark.slow
def test_images_and_scores(trained, tmp_path, monkeypatch, capsys):
  run = shutil.copytree(trained, tmp_path / 'run')
  with monkeypatch.context() as patch:
    patch.setattr(atomic, 'sync', no_space)
    assert '000_a_cat_0.png' in told(capsys, ['xmc', 'sample', f'--workdir={run}', 'a cat'])
    with pytest.raises(UserError, match='scores.jsonl.*No space'):
      results.append(run, [{'a': 1}])
    pytest.importorskip('matplotlib')
    assert 'report.html' in told(capsys, ['xmc', 'report', str(run)])
  assert not (run / 'samples.png').exists() and results.read(run) == []


# Shards that were open at the error are closed by the garbage collector.
@pytest.mark.filterwarnings('ignore::ResourceWarning')
def test_prepared_sets(tmp_path, monkeypatch, capsys):
  import numpy as np
  from PIL import Image
  for i in range(20):
    Image.fromarray(np.full((32, 32, 3), i, np.uint8)).save(tmp_path / f'{i}.png')
    (tmp_path / f'{i}.txt').write_text(f'a picture of {i}')
  argv = ['xmc', 'prepare', 'folder', f'--source={tmp_path}', f'--out={tmp_path / "out"}',
          '--size=32', '--workers=1']
  for file in ('train-00000.rec', 'manifest.json', 'tokenizer.json', 'bad.jsonl'):
    rename = type(tmp_path).replace

    def replace(self, target, file=file, rename=rename):
      return no_space() if os.path.basename(target) == file else rename(self, target)
    with monkeypatch.context() as patch:
      patch.setattr(type(tmp_path), 'replace', replace)
      assert 'out' in told(capsys, argv)
  assert main(argv) == 0
