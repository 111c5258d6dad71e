"""A part of tools/fuzz.py: malformed inputs end in one sentence, never in a traceback."""
import pytest
import tiny

fuzz = tiny.script('tools/fuzz.py')


@pytest.mark.slow
def test_malformed_inputs(tmp_path, capsys):
  failures, accepted, refused = fuzz.run(tmp_path, cases=2 * len(fuzz.KINDS), seed=1,
                                         kinds=list(fuzz.KINDS))
  assert failures == 0, capsys.readouterr().out
  assert len(accepted) + sum(refused.values()) == 2 * len(fuzz.KINDS)


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
