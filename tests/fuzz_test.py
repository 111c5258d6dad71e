"""What tools/fuzz.py takes for a failure."""
import pytest
import tiny

fuzz = tiny.script('tools/fuzz.py')


@pytest.mark.parametrize('code, error, wrong', [
    (0, '', ''), (0, 'a warning', ''), (2, 'xmc: wrong\n', ''), (2, 'xmc sample: wrong\n', ''),
    (1, 'xmc: wrong', 'code 1'), (2, 'Traceback (most recent call last)', 'traceback'),
    (2, '', 'no single sentence'), (2, 'xmc: a\nxmc: b\n', 'no single sentence'),
    (-1, '', 'code -1'), (2, 'wrong\n', 'no single sentence')])
def test_verdict(code, error, wrong):
  assert fuzz.verdict(fuzz.Case('case', []), code, error, 'hash') == wrong


def test_verdict_of_another_image(tmp_path):
  image = tmp_path / 'image.png'
  image.write_bytes(b'1')
  case = fuzz.Case('case', [], image)
  assert fuzz.verdict(case, 0, '', fuzz.digest(image)) == ''
  expected = fuzz.digest(image)
  image.write_bytes(b'2')
  assert fuzz.verdict(case, 0, '', expected) == 'another image'
