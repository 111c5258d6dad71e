"""The three files of docs/new_method.md, written where it says, train with no other change."""
import re

import numpy as np
import pytest
import tiny

from xmc_jax import methods, networks
from xmc_jax.cli.main import main
from xmc_jax.sampling import TextToImage

pytestmark = pytest.mark.slow

PAGE = tiny.ROOT / 'docs/new_method.md'
MOST = 51      # lines, without imports


def blocks():
  """(path, code) of the page's files, in order."""
  heading = r'`((?:xmc_jax|configs)/\S+\.py)`\n.*?```python\n(.*?)```'
  return re.findall(heading, PAGE.read_text(), re.S)


@pytest.fixture
def written(tmp_path, monkeypatch):
  """A folder with the page's files, where the package finds them beside its own."""
  for path, code in blocks():
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(code)
  for package in (networks, methods):
    folder = tmp_path / package.__name__.replace('.', '/')
    monkeypatch.setattr(package, '__path__', [*package.__path__, str(folder)])
  (tmp_path / 'configs/scl.py').write_text((tiny.ROOT / 'configs/scl.py').read_text())
  return tmp_path


def test_it_is_as_short_as_it_says():
  lines = [line for _, code in blocks() for line in code.splitlines()
           if line.strip() and not line.startswith(('from ', 'import '))]
  assert len(blocks()) == 3 and len(lines) <= MOST


@pytest.mark.parametrize('config, parts', [('small.py', 1), ('small.py', 2), ('scl.py:small', 1)])
def test_it_trains_alone_in_parts_and_in_the_framework(written, encoder_folder, config, parts):
  run = written / 'run'
  assert main(['xmc', 'train', f'--config={written / "configs" / config}', f'--workdir={run}',
               f'--config.batch_size={8 * parts}', '--config.steps=2',
               '--config.data.loader=arrays', '--config.grid=4', f'--config.microbatches={parts}',
               f'--config.text.encoder={encoder_folder}', '--config.text.length=8']) == 0
  found = TextToImage.load(run).generate(['a red apple'])
  assert found.shape == (1, 32, 32, 3) and np.isfinite(found).all()
