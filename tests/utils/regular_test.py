"""Pipes in the place of files are refused; to open one would wait for a writer forever."""
import os
import threading

import pytest

from xmc_jax.cli import config_file
from xmc_jax.data import records
from xmc_jax.evals.statistics import Moments
from xmc_jax.report.report import report
from xmc_jax.training import durable
from xmc_jax.types import UserError
from xmc_jax.utils import disk, hashing, json_lines, lock
from xmc_jax.weight_files import files, pickles, torch_files


@pytest.fixture
def pipe(tmp_path):
  """Makes a pipe; whoever opens it gets nothing, instead of waiting."""
  def make(name):
    path = tmp_path / name
    os.mkfifo(path)

    def write_nothing():
      while path.exists():
        path.open('wb').close()
    threading.Thread(target=write_nothing, daemon=True).start()
    return path
  yield make
  for path in tmp_path.iterdir():
    path.unlink()


READERS = {
    'metrics.jsonl': json_lines.read, 'new.jsonl': lambda path: json_lines.append(path, [{}]),
    'old.jsonl': json_lines.keep, 'model.safetensors': files.read_safetensors,
    'model.pth': torch_files.read, 'lists.pickle': pickles.read,
    'train-00000.rec': lambda path: records.open_shard(path, None),
    'stats.npz': lambda path: Moments.load(path, '--reference'),
    'config.json': lambda path: config_file.load_saved(path.parent),
    'hashed': hashing.file_sha256, '.lock': lambda path: lock.locked(path.parent).__enter__()}


@pytest.mark.parametrize('name', READERS)
def test_a_pipe_is_refused(pipe, name):
  path = pipe(name)
  with pytest.raises(UserError, match=f'{name}|--workdir') as error, disk.errors_told():
    READERS[name](path)
  assert 'it is a pipe' in str(error.value)


def test_checksums_in_a_pipe_are_damage(pipe):
  assert 'it is a pipe' in durable.damage(pipe(durable.CHECKSUMS).parent)


def test_a_report_reads_no_pipe(pipe, tmp_path):
  json_lines.append(tmp_path / 'metrics.jsonl', [{'step': 1, 'a': 1.0}])
  pipe('config.json')
  with pytest.raises(UserError, match='config.json: cannot be read .*pipe'):
    report([tmp_path])
