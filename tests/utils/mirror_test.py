"""Folders in a bucket are copied once, whole, and again where they changed."""
import io
import os
import pathlib
import platform
import subprocess
import sys
import threading

import noise_records
import pytest
import tiny
from etils import epath

from xmc_jax.cli.main import main
from xmc_jax.data import prepared, records
from xmc_jax.data import source as sources
from xmc_jax.types import UserError
from xmc_jax.utils import atomic, mirror
from xmc_jax.weight_files import files

HOLD = ('import pathlib, sys\nfrom xmc_jax.utils.lock import turn\n'
        'with turn(pathlib.Path(sys.argv[1])):\n  print("held", flush=True)\n  sys.stdin.read()\n')


@epath.register_path_cls('bucket://')
class Bucket:
  """The part of epath's paths that is used: a folder of the disk behind the URL bucket://."""
  root = pathlib.Path()
  broken: str | None = None      # the name of a file that cannot be read
  short: str | None = None       # and of one that ends early, without an error

  def __init__(self, url):
    self.url, self.name = url.rstrip('/'), url.rstrip('/').rpartition('/')[2]
    self.path = self.root / self.url.removeprefix('bucket://')

  def joinpath(self, *parts):
    return Bucket('/'.join([self.url, *parts]))

  __truediv__ = joinpath

  def __str__(self):
    return self.url

  def expanduser(self):
    return self

  def is_dir(self):
    return self.path.is_dir()

  def is_file(self):
    return self.path.is_file()

  def iterdir(self):
    return (self / path.name for path in self.path.iterdir())

  def glob(self, pattern):
    return (self / path.name for path in self.path.glob(pattern))

  def stat(self):
    return epath.Path(self.path).stat()

  def open(self, mode):
    if self.name == self.broken:
      raise ConnectionError('the line is dead')
    return io.BytesIO(b'x') if self.name == self.short else self.path.open(mode)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  monkeypatch.setattr(Bucket, 'root', tmp_path / 'bucket')
  monkeypatch.setenv('XMC_JAX_CACHE', str(tmp_path / 'cache'))
  folder = tmp_path / 'bucket' / 'my' / 'set'
  (folder / 'more').mkdir(parents=True)
  for name in ('a.rec', 'b.rec', 'manifest.json', 'more/c.txt', '.hidden'):
    (folder / name).write_text(name)
  return folder


def contents(folder):
  return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob('*')
          if path.is_file() and not path.name.startswith('.')}


def copied():
  return mirror.local('bucket://my/set', '--flag')


def test_a_local_folder_stays_where_it_is(tmp_path, bucket):
  assert mirror.local(tmp_path, '--flag') == tmp_path
  assert mirror.local('~/x', '--flag') == pathlib.Path('~/x').expanduser()
  assert not (tmp_path / 'cache').exists()


def test_files_are_copied_once_and_again_where_they_changed(tmp_path, bucket):
  folder = copied()
  assert folder == tmp_path / 'cache' / 'buckets' / 'bucket' / 'my' / 'set'
  names = ['a.rec', 'b.rec', 'manifest.json', 'more/c.txt']
  assert contents(folder) == {name: name for name in names}
  before = {name: (folder / name).stat().st_ino for name in names}
  (bucket / 'a.rec').write_text('A.REC')                # of the same length
  os.utime(bucket / 'a.rec', (1, 1))
  (bucket / 'more' / 'c.txt').unlink()
  (folder / 'b.rec').write_text('cut')
  (folder / 'own.txt').write_text('not from the bucket')
  copied()
  assert contents(folder) == {'a.rec': 'A.REC', 'b.rec': 'b.rec', 'own.txt': 'not from the bucket',
                              'manifest.json': 'manifest.json'}
  assert (folder / 'manifest.json').stat().st_ino == before['manifest.json']


def test_a_folder_that_is_copied_to_itself_stays_as_it_is(tmp_path, bucket):
  (tmp_path / 'link').symlink_to(bucket)
  before = contents(bucket)
  for folder in (bucket, tmp_path / 'link'):
    assert mirror.copy(folder, bucket, '--data') == 4
    assert contents(bucket) == before


def test_what_a_killed_copy_left_is_removed(bucket):
  ended = subprocess.Popen(['true'])
  ended.wait()
  names = [f'.c.txt.{platform.node()}-{ended.pid}', f'.c.txt.{platform.node()}-{os.getppid()}',
           f'.c.txt.elsewhere-{ended.pid}']
  left, of_a_process_that_runs, of_another_host = (
      copied() / 'more' / f'{name}{atomic.UNFINISHED}' for name in names)
  for path in (left, of_a_process_that_runs, of_another_host):
    path.write_text('half')
  copied()
  assert not left.exists() and of_a_process_that_runs.exists() and of_another_host.exists()


def test_a_copy_that_breaks_off_has_no_manifest_and_goes_on(bucket, monkeypatch):
  folder = copied()
  (bucket / 'manifest.json').write_text('another')
  (bucket / 'b.rec').write_text('another b')
  (bucket / 'a.rec').write_text('another a')
  monkeypatch.setattr(Bucket, 'broken', 'b.rec')
  with pytest.raises(UserError, match=r'--flag=bucket://my/set: cannot be copied to .*the line is '
                                      'dead.*goes on where it stopped'):
    copied()
  assert not (folder / 'manifest.json').exists()
  assert (folder / 'a.rec').read_text() == 'another a' and (folder / 'b.rec').read_text() == 'b.rec'
  assert not list(folder.glob('.*partial'))
  before = (folder / 'a.rec').stat().st_ino
  monkeypatch.setattr(Bucket, 'broken', None)
  assert contents(copied()) == {'a.rec': 'another a', 'b.rec': 'another b',
                                'manifest.json': 'another', 'more/c.txt': 'more/c.txt'}
  assert (folder / 'a.rec').stat().st_ino == before


def test_a_file_that_ends_early_is_not_kept(bucket, monkeypatch):
  monkeypatch.setattr(Bucket, 'short', 'a.rec')
  with pytest.raises(UserError, match='a.rec has 1 bytes in place of 5'):
    copied()
  monkeypatch.setattr(Bucket, 'short', None)
  assert contents(copied())['a.rec'] == 'a.rec'


def test_processes_of_a_host_take_turns(bucket):
  folder = copied()
  (bucket / 'a.rec').write_text('another')
  other = subprocess.Popen([sys.executable, '-c', HOLD, str(folder / '.lock')], text=True,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
  assert other.stdout.readline() == 'held\n'
  thread = threading.Thread(target=copied)
  thread.start()
  thread.join(0.3)
  assert thread.is_alive() and (folder / 'a.rec').read_text() == 'a.rec'
  other.communicate('')
  thread.join(60)
  assert (folder / 'a.rec').read_text() == 'another'


@pytest.mark.parametrize('url, words', [
    ('bucket://my/other', 'there are no files in it'), ('bucket://my/empty', 'there are no files'),
    ('bucket://', 'names no folder of a bucket'), ('bucket://my/../x', 'names no folder'),
    ('nothing://my/set', 'cannot be copied')])
def test_folders_that_are_refused(bucket, url, words):
  (bucket.parent / 'empty').mkdir()
  with pytest.raises(UserError, match=f'--flag={url}.*{words}'):
    mirror.local(url, '--flag')


def test_a_data_set_is_found_and_read_in_a_bucket(tmp_path, bucket, monkeypatch):
  folder = noise_records.make_folder(tmp_path / 'bucket' / 'sets' / 'cub-32')
  url = 'bucket://sets/cub-32'
  here = records.load('train', 32, folder=str(folder))
  for found in (sources.load('records', 'train', 32, folder=url), load_by_name(monkeypatch)):
    assert found.sha256 == here.sha256
    assert (found.image(1) == here.image(1)).all() and found.captions(1) == here.captions(1)
  assert sources.absolute('cub', 32, {}) == {'folder': url}
  with pytest.raises(UserError, match='in bucket://sets'):
    prepared.find('cub', 64)


def load_by_name(monkeypatch):
  monkeypatch.setenv('XMC_JAX_DATA', 'bucket://sets')
  return sources.load('cub', 'train', 32)


def test_weights_are_found_in_a_bucket(tmp_path, bucket, monkeypatch):
  monkeypatch.setenv('XMC_JAX_WEIGHTS', 'bucket://my/set')
  first, last = files.folders()
  assert contents(first)['more/c.txt'] == 'more/c.txt' and last == tmp_path / 'cache' / 'weights'
  (bucket / 'more' / 'c.txt').unlink()
  assert (files.folders()[0] / 'more' / 'c.txt').exists()      # one look a process


def test_preparation_does_not_write_to_a_bucket(tmp_path, monkeypatch, capsys):
  monkeypatch.setenv('XMC_JAX_DATA', 'gs://b/data')
  assert main(['xmc', 'prepare', 'folder', '--source', str(tiny.ROOT / 'docs')]) == 2
  assert 'cannot write to gs://b/data' in capsys.readouterr().err
