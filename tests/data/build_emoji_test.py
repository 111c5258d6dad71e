import sys

import numpy as np
import pytest
import tiny
from PIL import Image

from xmc_jax.data.embedded import emoji_assets

pytestmark = pytest.mark.slow

TOOLS = tiny.ROOT / 'tools'


@pytest.fixture(scope='module')
def build():
  sys.path.insert(0, str(TOOLS))
  try:
    yield tiny.script('tools/build_emoji.py')
  finally:
    sys.path.remove(str(TOOLS))


def filled(*colours):
  """64 x 64 pixels in stripes of equal width."""
  pixels = np.zeros((64, 64, 4), np.uint8)
  for i, colour in enumerate(colours):
    pixels[:, 64 * i // len(colours):64 * (i + 1) // len(colours)] = colour
  return Image.fromarray(pixels)


CLEAR, RED, BLUE, GREEN = (0, 0, 0, 0), (220, 30, 30, 255), (30, 60, 220, 255), (40, 160, 60, 255)


@pytest.mark.parametrize('stripes, names', [
    ((RED,), ['red']), ((CLEAR, CLEAR, BLUE), ['blue']),
    ((RED, BLUE) * 2 + (RED,), ['red', 'blue']),
    ((RED, BLUE, GREEN), []), ((CLEAR,), []), (((130, 80, 50, 255),), ['brown']),
    (((250, 210, 50, 255),), ['yellow']), (((160, 160, 160, 255), RED), ['red']),
    (((0, 0, 0, 255), (255, 255, 255, 255)), ['black', 'white'])])
def test_colours(build, stripes, names):
  assert build.colors(filled(*stripes)) == names


def test_twins_and_their_split(build):
  images = {'1F6B6': filled(RED), '1F6B6-200D-27A1-FE0F': filled(BLUE), '1F600': filled(GREEN),
              '1F601': filled(GREEN), '1F602': filled(RED, BLUE)}
  leader = build.twins(images)
  assert leader == {'1F6B6': '1F6B6', '1F6B6-200D-27A1-FE0F': '1F6B6', '1F600': '1F600',
                    '1F601': '1F600', '1F602': '1F602'}
  records = [{'hexcode': code, 'subgroup': 'one'} for code in images]
  build.HELDOUT = 0.34
  held = build.heldout(records, leader)
  assert len({leader[code] for code in held}) == 1
  assert held == {code for code in images if leader[code] in {leader[c] for c in held}}


def test_keywords_add_words(build):
  assert build.keywords(['run', 'lol', 'fast', 'faster', 'marathon'], 'man running') == [
      'fast', 'marathon']


def test_the_assets_fit_together():
  records = emoji_assets.records()
  assert len(records) == 1911
  assert len({record['hexcode'] for record in records}) == 1911
  for i in (0, 1000, 1910):
    image = emoji_assets.image(i)
    assert image.mode == 'RGBA' and image.size == (64, 64)
    assert image.getchannel('A').getextrema() == (0, 255)
