"""Lines of text files, as editors of all systems write them."""
import pytest

from xmc_jax.types import UserError
from xmc_jax.utils.text_lines import numbered_lines, read_lines, read_text


@pytest.mark.parametrize('data, lines', [
    (b'', []), (b'a', ['a']), (b'a\nb\n', ['a', 'b']), (b'a\r\nb\r\n', ['a', 'b']),
    (b'a\rb\r', ['a', 'b']),
    (b'\xef\xbb\xbfa\nb', ['a', 'b']), (b'\n \t\n  a  b \n\r\n', ['a  b']),
    ('a\u2028b\u0085c\x0bd\x0ce\x1cf\n'.encode(), ['a\u2028b\u0085c\x0bd\x0ce\x1cf']),
    ('caf\u00e9\n\u72ac'.encode(), ['caf\u00e9', '\u72ac'])])
def test_lines(tmp_path, data, lines):
  (tmp_path / 'a.txt').write_bytes(data)
  assert read_lines(tmp_path / 'a.txt') == lines


def test_numbers_count_blank_lines_and_lines_keep_their_white_space():
  assert list(numbered_lines('\n a \r\n\n\tb\rc')) == [(2, ' a '), (4, '\tb'), (5, 'c')]


@pytest.mark.parametrize('data, line, byte', [
    (b'caf\xe9', 1, '0xe9'), (b'a\nb\r\ncaf\xe9\nd', 3, '0xe9'),
    (b'\xef\xbb\xbfa\n\xe9b', 2, '0xe9'), (b'\xff\xfea\x00', 1, '0xff'),
    (b'a\n\xe2\x82', 2, '0xe2')])
def test_what_is_not_utf8_is_named_with_its_line(tmp_path, data, line, byte):
  (tmp_path / 'a.txt').write_bytes(data)
  words = rf'^--captions: .*a\.txt, line {line}: byte {byte} is not UTF-8'
  with pytest.raises(UserError, match=words):
    read_text(tmp_path / 'a.txt', '--captions')
  with pytest.raises(UserError, match=rf'^/.*a\.txt, line {line}: '):
    read_lines(tmp_path / 'a.txt')


def test_a_pointer_of_git_lfs_is_no_text(tmp_path):
  (tmp_path / 'a.txt').write_bytes(b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
  with pytest.raises(UserError, match=r'^--captions: .*a\.txt is not the file .*git lfs pull'):
    read_lines(tmp_path / 'a.txt', '--captions')


def test_files_that_cannot_be_read(tmp_path):
  for path in (tmp_path / 'none.txt', tmp_path):
    with pytest.raises(UserError, match=rf'{path.name}: cannot be read'):
      read_lines(path)
