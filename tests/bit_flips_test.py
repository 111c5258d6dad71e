"""What tools/bit_flips.py does to a file, and what it takes for a failure."""
from random import Random

import pytest
import tiny

from xmc_jax.types import UserError

tool = tiny.script('tools/bit_flips.py')


def test_every_damage_changes_the_bytes():
  data = bytes(range(1, 200))
  found = dict(tool.damages(data, 5, 3, Random(0)))
  assert len(found) == 5 + 3 + 2 and data not in found.values()
  after = [found[name] for name in found if name.startswith('bit ')]
  assert all(sum((a ^ b).bit_count() for a, b in zip(data, x, strict=True)) == 1 for x in after)
  assert list(dict(tool.damages(b'', 5, 3, Random(0)))) == ['removed']


@pytest.mark.parametrize('found, said, right', [
    (1, '', 'harmless'), (1, 'the checkpoint of step 3 is damaged (x)', 'older, told'),
    (2, 'the checkpoint of step 3 is damaged (x)', 'SILENT'), (2, '', 'SILENT'),
    (2, 'config.steps changed from 3 to 4', 'SILENT'),
    (1, 'frozen.text changed from a to b', 'change told'),
    (2, 'config.steps changed from 3 to 4\nconfig.seed changed from 1 to 2', 'change told')])
def test_verdict(found, said, right):
  assert tool.verdict(found, 1, said) == right


def test_an_attempt_tells_sentences_from_tracebacks():
  def fail(error):
    raise error
  assert tool.attempt(lambda: fail(UserError('gone')))[::2] == ('refused', 'gone')
  assert tool.attempt(lambda: fail(KeyError('x')))[0] == 'TRACEBACK'
  assert tool.attempt(lambda: print('hello') or 5) == (None, 5, 'hello\n')
