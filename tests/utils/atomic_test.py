"""Files that appear when they are whole."""
import contextlib
import errno
import multiprocessing
import os
import pathlib
import platform
import signal
import subprocess

import pytest
from etils import epath

from xmc_jax.types import UserError
from xmc_jax.utils import atomic


@pytest.mark.parametrize('kind', [pathlib.Path, epath.Path])
def test_a_file_has_its_name_only_at_the_end(tmp_path, kind):
  path = kind(tmp_path / 'new' / 'a.txt')
  with atomic.whole(path) as unfinished:
    unfinished.write_text('words')
    assert not path.exists() and unfinished.parent == path.parent
  assert path.read_text() == 'words' and os.listdir(tmp_path / 'new') == ['a.txt']


def test_an_error_leaves_what_was_there(tmp_path):
  path = tmp_path / 'a.txt'
  atomic.save(path, 'äfter')
  assert path.read_bytes() == b'\xc3\xa4fter'
  for error in (ValueError, KeyboardInterrupt):
    with pytest.raises(error), atomic.whole(path) as unfinished:
      unfinished.write_bytes(b'half')
      raise error
  assert path.read_bytes() == b'\xc3\xa4fter' and os.listdir(tmp_path) == ['a.txt']


def _killed(path):
  with atomic.whole(path) as unfinished:
    unfinished.write_bytes(b'half')
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_leaves_a_file_that_is_told_by_its_name(tmp_path):
  path = tmp_path / 'a.txt'
  atomic.save(path, b'whole')
  process = multiprocessing.get_context('spawn').Process(target=_killed, args=(path,))
  process.start()
  process.join()
  assert process.exitcode == -signal.SIGKILL and path.read_bytes() == b'whole'
  left, = tmp_path.glob(f'*{atomic.UNFINISHED}')
  with atomic.whole(path) as mine:
    mine.write_bytes(b'new')
    assert mine != left
  assert path.read_bytes() == b'new'


@pytest.mark.parametrize('kind', [pathlib.Path, epath.Path])
def test_a_folder_in_the_place_of_the_file_is_an_error_with_its_number(tmp_path, kind):
  place = tmp_path / 'place'
  place.mkdir()
  with pytest.raises(IsADirectoryError) as error:
    atomic.save(kind(place), 'words')
  assert (error.value.errno, error.value.filename) == (errno.EISDIR, str(place))
  assert os.listdir(tmp_path) == ['place']


def test_a_folder_that_cannot_be_made_is_an_error_of_the_system(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(OSError):
    atomic.save(tmp_path / 'file' / 'a.txt', '')


def contents(folder):
  return {path.relative_to(folder).as_posix(): path.read_text()
          for path in folder.rglob('*') if path.is_file()}


def test_a_folder_takes_the_place_of_another_when_it_is_whole(tmp_path):
  for words in ('one', 'two'):
    with atomic.whole_folder(tmp_path / 'model') as unfinished:
      atomic.save(unfinished / 'in' / 'a.txt', words)
      assert ('model' in os.listdir(tmp_path)) == (words == 'two')
    assert contents(tmp_path) == {'model/in/a.txt': words}


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize('where', ['in the block', 'at the rename'])
def test_an_error_leaves_the_folder_that_was_there(tmp_path, monkeypatch, where, error):
  atomic.save(tmp_path / 'model' / 'a.txt', 'old')
  rename = pathlib.Path.rename

  def broken(path, target):
    if path.name.endswith(atomic.UNFINISHED):
      raise error
    return rename(path, target)
  with pytest.raises(error), atomic.whole_folder(tmp_path / 'model') as unfinished:
    atomic.save(unfinished / 'a.txt', 'new')
    if where == 'in the block':
      raise error
    monkeypatch.setattr(pathlib.Path, 'rename', broken)
  assert contents(tmp_path) == {'model/a.txt': 'old'}


def test_a_kill_between_the_renames_loses_nothing(tmp_path):
  ended = subprocess.Popen(['true'])
  ended.wait()
  beside = f'.model.{platform.node()}-{ended.pid}'
  atomic.save(tmp_path / f'{beside}.old' / 'a.txt', 'old')
  atomic.save(tmp_path / f'{beside}{atomic.UNFINISHED}' / 'a.txt', 'half')
  with pytest.raises(ValueError), atomic.whole_folder(tmp_path / 'model'):
    assert contents(tmp_path) == {'model/a.txt': 'old'}
    raise ValueError
  assert contents(tmp_path) == {'model/a.txt': 'old'}


@pytest.mark.parametrize('kind', [pathlib.Path, epath.Path])
def test_a_link_stays_one_and_pipes_and_devices_are_not_replaced(tmp_path, kind):
  (tmp_path / 'real').write_text('old')
  (tmp_path / 'link').symlink_to(tmp_path / 'real')
  atomic.save(kind(tmp_path / 'link'), 'new')
  assert (tmp_path / 'link').is_symlink() and (tmp_path / 'real').read_text() == 'new'
  os.mkfifo(tmp_path / 'pipe')
  for path in (tmp_path / 'pipe', pathlib.Path('/dev/null')):
    with pytest.raises(OSError, match='a pipe or a device'):
      atomic.save(kind(path), 'words')
    assert not path.is_file()


@pytest.mark.parametrize('content, words', [
    ((), None), (('mark', 'own'), None), (('own',), 'is not a site'),
    (('mark', 'thesis'), 'holds thesis, which is no part of a site')])
def test_only_what_was_written_before_is_replaced(tmp_path, content, words):
  atomic.check_replaceable(tmp_path / 'missing', {'mark', 'own'}, 'mark', 'a site')
  for name in content:
    (tmp_path / name).write_text('')
  with pytest.raises(UserError, match=words) if words else contextlib.nullcontext():
    atomic.check_replaceable(tmp_path, {'mark', 'own'}, 'mark', 'a site')
