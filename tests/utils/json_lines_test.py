"""Files of JSON lines that are cut by kills and full disks."""
import errno
import pathlib

import numpy as np
import pytest
from etils import epath

from xmc_jax.types import UserError
from xmc_jax.utils import atomic, json_lines


@pytest.fixture
def path(tmp_path):
  return epath.Path(tmp_path) / 'run' / 'lines.jsonl'


def test_lines_come_back_and_a_missing_file_has_none(path):
  assert json_lines.read(path) == []
  json_lines.append(path, [{'a': 1}, {'b': 'x\u2028y'}])
  json_lines.append(path, [{'c': None}])
  assert json_lines.read(path) == [{'a': 1}, {'b': 'x\u2028y'}, {'c': None}]


@pytest.mark.parametrize('half', [b'{"b": ', b'{"b": 2', b'5', b'{', b'\xff', b'{"b": "x\xe2\x80'])
def test_half_a_line_is_ignored_and_nothing_is_glued_to_it(path, half):
  json_lines.append(path, [{'a': 1}])
  path.write_bytes(path.read_bytes() + half)
  assert json_lines.read(path) == [{'a': 1}]
  json_lines.keep(path)
  json_lines.append(path, [{'c': 3}])
  assert json_lines.read(path) == [{'a': 1}, {'c': 3}]


def test_a_last_line_that_lacks_its_end_is_kept(path):
  json_lines.append(path, [{'a': 1}, {'b': 2}])
  path.write_bytes(path.read_bytes()[:-1])
  assert json_lines.read(path) == [{'a': 1}, {'b': 2}]
  json_lines.keep(path)
  json_lines.append(path, [{'c': np.int64(3), 'd': np.float32(0.5), 'e': np.bool_(True)}])
  assert json_lines.read(path) == [{'a': 1}, {'b': 2}, {'c': 3, 'd': 0.5, 'e': True}]


def test_unwanted_lines_are_dropped_and_a_good_file_is_not_written_again(path):
  json_lines.keep(path)
  assert not path.exists()
  json_lines.append(path, [{'a': i} for i in range(4)])
  before = path.stat()
  json_lines.keep(path, lambda line: line != b'{}')
  assert path.stat() == before
  json_lines.keep(path, lambda line: b'2' not in line)
  assert json_lines.read(path) == [{'a': 0}, {'a': 1}, {'a': 3}]


@pytest.mark.parametrize('line', [b'x', b'5', b'[{}]', b'\xff', b'{"a": 1}{"b": 2}', 9999 * b'['])
def test_a_line_that_is_no_object_is_named(path, line):
  path.parent.mkdir()
  path.write_bytes(b'{}\n\n' + line + b'\n{}\n')
  with pytest.raises(UserError, match='lines.jsonl, line 3'):
    json_lines.read(path)


def test_a_folder_in_the_place_of_the_file_is_told_as_one(path):
  path.mkdir(parents=True)
  with pytest.raises(UserError, match=r'lines.jsonl: cannot be read \(Is a directory\)'):
    json_lines.read(path)


def test_objects_may_have_to_be_as_they_should(path):
  def check(line):
    if 'b' in line:
      raise ValueError('it has b')
  json_lines.append(path, [{'a': 1}, {'b': 2}])
  with pytest.raises(UserError, match='line 2.*it has b'):
    json_lines.read(path, check)


def test_a_full_disk_leaves_the_lines_that_were_there(path, monkeypatch):
  json_lines.append(path, [{'a': 1}])

  def full(_):
    raise OSError(errno.ENOSPC, 'No space left on device')
  with monkeypatch.context() as patch:
    patch.setattr(atomic, 'sync', full)
    with pytest.raises(OSError, match='No space') as raised:
      json_lines.append(path, [{'b': 2}, {'c': 3}])
  assert raised.value.filename == str(path)
  assert pathlib.Path(path).read_text() == '{"a": 1}\n'
