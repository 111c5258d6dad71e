"""The benchmark of the input pipeline runs and says what it measured; no time is looked at."""
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

from xmc_jax.data import records

pytestmark = pytest.mark.slow

SCRIPT = tiny.ROOT / 'benchmarks' / 'input.py'


@pytest.fixture(scope='module')
def script():
  return tiny.script('benchmarks/input.py')


def test_a_case_prints_one_line(encoder_folder):
  done = subprocess.run(
      [sys.executable, SCRIPT, '--data', 'jpeg,emoji_scenes', '--sizes', '32', '--rows', '4',
       '--storage', 'margin', '--loaders', 'arrays', '--partners', 'jaccard', '--seconds', '0.1',
       '--encoder', encoder_folder], capture_output=True, text=True, timeout=120)
  assert done.returncode == 0, done.stderr
  jpeg, scenes = (json.loads(line) for line in done.stdout.splitlines())
  assert jpeg['storage'] == 'margin' and scenes['data'] == 'emoji_scenes'
  for case in (jpeg, scenes):
    assert case['examples'] >= 8 and case['examples'] % 8 == 0
    assert case['examples_per_second_per_core'] > 0 and case['examples_per_second'] > 0
  # 8 rows of two images, each with 17 tokens, their mask and the amounts of 80 classes
  assert jpeg['batch_bytes'] == 8 * 2 * (32 * 32 * 3 + 17 * 5 + 80 * 4)
  assert 800 < jpeg['bytes_per_example'] < 8000


@pytest.mark.parametrize('storage, stored', [
    ('square', (64, 64)), ('short', (85, 64)), ('margin', (101, 76)), ('original', (640, 480))])
def test_images_are_stored_as_said(script, tmp_path, monkeypatch, storage, stored):
  monkeypatch.setattr(script, 'KINDS', 1)
  monkeypatch.setattr(script, 'IMAGES', 2)
  script.write_folder(str(tmp_path), 64, storage)
  source = records.load('train', 64, str(tmp_path))
  image = Image.open(io.BytesIO(source._shards[0].image(1)))
  assert image.format == 'JPEG' and image.size == stored
  assert source.image(1).shape == (64, 64, 3) and len(source.captions(1)) == 5


def test_images_take_as_many_bytes_as_photographs(script):
  """0.36 bytes a pixel at 256 x 256 and quality 90, as scikit-image's photographs."""
  random, sizes = np.random.default_rng(3), []
  for _ in range(4):
    file = io.BytesIO()
    script.synthetic_image(random).resize((256, 256), Image.Resampling.LANCZOS).save(
        file, 'JPEG', quality=script.QUALITY)
    sizes.append(len(file.getvalue()) / 256**2)
  assert 0.32 < np.mean(sizes) < 0.40
