"""Images in zips and folders: found by name, damage told, usable by threads and processes."""
import concurrent.futures
import os
import pickle
import zipfile

import pytest

from xmc_jax.prepare import archives
from xmc_jax.prepare.original import BadImage
from xmc_jax.types import UserError

CONTENT = {f'{i}.jpg': bytes([i]) * (1000 + i) for i in range(50)}


@pytest.fixture
def archive(tmp_path):
  path = tmp_path / 'images.zip'
  with zipfile.ZipFile(path, 'w') as file:
    file.mkdir('deep/')
    for name, content in CONTENT.items():
      file.writestr(f'deep/{name}', content)
  return path


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'more').mkdir()
  (tmp_path / 'more' / 'x.jpg').write_bytes(b'x')
  (tmp_path / 'more' / '3.jpg').write_bytes(b'other')
  return tmp_path / 'more'


def test_places_are_searched_in_their_order(archive, folder):
  assert archives.ImageStore([archive, folder]).read('3.jpg') == CONTENT['3.jpg']
  images = archives.ImageStore([folder, archive])
  assert images.read('3.jpg') == b'other' and images.read('x.jpg') == b'x'
  assert images.read('49.jpg') == CONTENT['49.jpg']
  with pytest.raises(BadImage, match='50.jpg is not in .*more, .*images.zip'):
    images.read('50.jpg')


def test_a_zip_with_two_images_of_one_name_is_refused_unless_they_are_equal(tmp_path):
  path = tmp_path / 'images.zip'
  with zipfile.ZipFile(path, 'w') as file:
    contents = {'a/1.jpg': b'one', 'b/1.jpg': b'two', 'a/2.jpg': b'2', 'b/2.jpg': b'2'}
    for name, content in contents.items():
      file.writestr(name, content)
  images = archives.ImageStore([path])
  assert images.read('2.jpg') == b'2'
  with pytest.raises(UserError, match='several files 1.jpg: a/1.jpg, b/1.jpg'):
    images.read('1.jpg')


def test_a_wrong_checksum_is_a_bad_image(archive):
  data = bytearray(archive.read_bytes())
  data[data.index(CONTENT['7.jpg']) + 5] ^= 1
  archive.write_bytes(data)
  images = archives.ImageStore([archive])
  with pytest.raises(BadImage, match='7.jpg in .*images.zip is damaged .*CRC'):
    images.read('7.jpg')
  assert images.read('8.jpg') == CONTENT['8.jpg']


def test_threads_share_one(archive):
  images = archives.ImageStore([archive])
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = pool.map(images.read, list(CONTENT) * 20)
    assert list(found) == list(CONTENT.values()) * 20


def test_a_copy_opens_the_zip_for_itself(archive, monkeypatch):
  images = archives.ImageStore([archive])
  images.read('1.jpg')
  assert len(pickle.dumps(images)) < 500
  assert pickle.loads(pickle.dumps(images)).read('1.jpg') == CONTENT['1.jpg']
  opened = []
  monkeypatch.setattr(archives, '_open', lambda path: opened.append(path) or zipfile.ZipFile(path))
  images.read('2.jpg')
  assert opened == []
  monkeypatch.setattr(os, 'getpid', lambda: -1)       # as after a fork
  assert images.read('2.jpg') == CONTENT['2.jpg'] and opened == [archive]


def test_files_inside_and_outside_of_a_zip(archive, folder):
  assert archives.read(archive, 'deep/4.jpg') == CONTENT['4.jpg']
  assert archives.read(folder / 'x.jpg', 'whatever') == b'x'
  with pytest.raises(UserError, match='has no member deep/77.jpg'):
    archives.read(archive, 'deep/77.jpg')
  (folder / 'no.zip').write_bytes(b'<html>404</html>')
  with pytest.raises(UserError, match='no.zip is damaged'):
    archives.read(folder / 'no.zip', 'x')
  with pytest.raises(UserError, match='no.zip is damaged'):
    archives.ImageStore([folder / 'no.zip']).check()
  with pytest.raises(UserError, match='gone does not exist'):
    archives.ImageStore([folder / 'gone']).check()


def test_the_first_of_several_names_is_taken(archive, tmp_path):
  assert archives.find(tmp_path, ['none', 'images.zip'], 'x.org') == archive
  with pytest.raises(UserError, match=r'has no a.zip \(nor b, c\); download it from x.org'):
    archives.find(tmp_path, ['a.zip', 'b', 'c'], 'x.org')
