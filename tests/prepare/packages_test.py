import package_archives as packages
import package_files as made
import pytest

from xmc_jax.types import UserError

FILES = {'usr/': b'', 'usr/a.txt': b'one', 'usr/b.txt': b'two' * 400_000, 'usr/c.txt': 'a.txt'}


@pytest.mark.parametrize('suffix', ['.xz', '.gz'])
def test_a_deb(tmp_path, suffix):
  path = made.deb(tmp_path / 'x_1_all.deb', {f'./{k}': v for k, v in FILES.items()}, suffix)
  assert packages.read(path, lambda name: True) == {'usr/a.txt': b'one',
                                                    'usr/b.txt': b'two' * 400_000}
  assert list(packages.read(path, lambda name: 'b' in name)) == ['usr/b.txt']


def test_a_tgz_of_npm(tmp_path):
  path = made.npm(tmp_path / 'x.tgz', '@a/x', '1.0.0', {'img/1.png': b'1', 'README.md': b'2'})
  wanted = lambda name: name.startswith('img/')
  assert packages.read_npm(path, '@a/x', '1.0.0', wanted) == {'img/1.png': b'1'}
  with pytest.raises(UserError, match=r'x\.tgz is @a/x@1.0.0, not @a/x@1.1.0; run `npm pack'):
    packages.read_npm(path, '@a/x', '1.1.0', wanted)


@pytest.mark.parametrize('kind', ['tgz', 'deb'])
def test_every_cut_is_noticed(tmp_path, kind):
  """Also one inside the header of a file, where `tarfile` by itself takes it for the end."""
  path = tmp_path / f'x.{kind}'
  files = {f'{i}.txt': bytes([i]) * 100 for i in range(9)}
  made.deb(path, files, '.gz') if kind == 'deb' else made.npm(path, 'x', '1', files)
  data = path.read_bytes()
  assert len(packages.read(path, lambda name: True)) >= 9
  last = data.index(b'_extra') if kind == 'deb' else len(data)
  for length in range(0, last - 1, 7):
    path.write_bytes(data[:length])
    with pytest.raises(UserError, match=rf'x\.{kind} is damaged or incomplete'):
      packages.read(path, lambda name: True)


@pytest.mark.parametrize('members, told', [
    ([('debian-binary', b'2.0\n')], 'has no data.tar'),
    ([('data.tar.zst', b'123')], 'data.tar.zst, but only .xz and .gz are supported'),
    ([('data.tar.xz', b'no xz at all')], 'damaged')])
def test_debs_that_cannot_be_read(tmp_path, members, told):
  path = tmp_path / 'x.deb'
  path.write_bytes(made.ar(members))
  with pytest.raises(UserError, match=told):
    packages.read(path, lambda name: True)


def test_a_damaged_file_and_a_web_page(tmp_path):
  path = made.npm(tmp_path / 'x.tgz', 'x', '1', {'a': bytes(range(256)) * 9})
  data = bytearray(path.read_bytes())
  data[-6] ^= 255      # of the checksum
  path.write_bytes(data)
  with pytest.raises(UserError, match='damaged'):
    packages.read(path, lambda name: True)
  for name in ('y.tgz', 'y.deb'):
    (tmp_path / name).write_bytes(b'<html>Not found</html>' * 9)
    with pytest.raises(UserError, match=f'{name} is damaged'):
      packages.read(tmp_path / name, lambda name: True)


def test_a_missing_package_tells_the_command(tmp_path):
  with pytest.raises(UserError, match=(r'has no a-x-1\.0\.tgz; run `npm pack @a/x@1\.0` in that '
                                       r'folder \(or download from https://www\.npmjs\.com/package/@a/x')):
    packages.npm(tmp_path, '@a/x', '1.0')
  with pytest.raises(UserError, match=r'`apt-get download x` in .*https://packages\.debian\.org/x\)'):
    packages.debian(tmp_path, 'x')
  with pytest.raises(UserError, match='none is not a folder; make it and run `npm pack x@1` in it'):
    packages.npm(tmp_path / 'none', 'x', '1')
  first = made.deb(tmp_path / 'x_1_all.deb', {})
  assert packages.debian(tmp_path, 'x') == first
  made.deb(tmp_path / 'x_2_all.deb', {})
  with pytest.raises(UserError, match='several x_.*: x_1_all.deb, x_2_all.deb; keep one'):
    packages.debian(tmp_path, 'x')
