"""`xmc report`: images drawn of captions, beside real and nearest training images."""
import base64
import io
import shutil

import numpy as np
import pytest
from pages import make, parse
from PIL import Image

from xmc_jax.cli.main import main
from xmc_jax.data import source as sources
from xmc_jax.report import drawn
from xmc_jax.report.report import report
from xmc_jax.sampling import TextToImage
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def tiny_run(trained, tmp_path_factory):
  return shutil.copytree(trained, tmp_path_factory.mktemp('runs') / 'tiny')


def cards(path):
  """[(caption, {label: img})] of the page, and its text."""
  root = parse(path)
  return [(card.find('figcaption')[0].text(), {
      div.find('small')[0].text(): div.find('img')[0]
      for div in card.find('div')[0].find('div')}) for card in root.find('figure', class_='card')
          ], root.text()


def pixels(image):
  data = image.attributes['src'].removeprefix('data:image/jpeg;base64,')
  return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), np.float32)


def near(image, wanted):
  return np.abs(pixels(image) - np.asarray(wanted, np.float32)).mean() < 12      # of a JPEG


def test_own_captions_come_first_then_heldout_ones_beside_their_images(tiny_run, tmp_path):
  file = tmp_path / 'captions.txt'
  file.write_text('two yellow stars\n')
  out = tmp_path / 'page.html'
  assert main(['xmc', 'report', str(tiny_run), '--caption=a red apple', f'--captions={file}',
               '--draw=3', f'--out={out}']) == 0
  found, text = cards(out)
  assert [caption for caption, _ in found[:2]] == ['a red apple', 'two yellow stars']
  assert [list(images) for _, images in found] == 2 * [['drawn', 'nearest']] + 3 * [
      ['drawn', 'real', 'nearest']]
  wanted = TextToImage.load(tiny_run).generate([caption for caption, _ in found])
  heldout = sources.load('emoji', 'heldout', 32)
  for (caption, images), image in zip(found, wanted, strict=True):
    assert images['drawn'].attributes['alt'] == caption
    assert near(images['drawn'], 255 * image)
    if real := images.get('real'):
      assert real.attributes['alt'] == f'Real image: {caption}'
      assert any(caption in heldout.captions(i) and near(real, heldout.image(i))
                 for i in range(len(heldout)))
  assert 'averaged weights of step 4' in text and 'Nearest is the one of all 1,713' in text


def test_several_runs_draw_the_same_captions(tiny_run, trained, tmp_path):
  other = shutil.copytree(trained, tmp_path / 'other')
  shutil.rmtree(other / 'checkpoints' / '4')
  without = make(tmp_path / 'without')
  found, text = cards(report([tiny_run, other, without], out=tmp_path / 'page.html', draw=1))
  assert [list(images) for _, images in found] == [
      ['tiny', 'other', 'real', 'nearest to tiny', 'nearest to other']]
  assert 'other draws with the averaged weights of step 2' in text
  assert 'without draws no images: it has no checkpoints.' in text


def test_without_data_that_is_said_and_own_captions_are_drawn(tiny_run, tmp_path, monkeypatch):
  def gone(*_, **__):
    raise UserError('the data are gone; run xmc prepare')
  monkeypatch.setattr(drawn.sources, 'load', gone)
  found, text = cards(report([tiny_run], out=tmp_path / 'page.html', captions=['a red apple']))
  assert [(caption, list(images)) for caption, images in found] == [('a red apple', ['drawn'])]
  for what in ('held-out captions and real images', 'nearest training images'):
    assert f'There are no {what}: the data are gone; run xmc prepare.' in text


def test_without_the_text_encoder_that_is_said(tiny_run, tmp_path):
  found, text = cards(report([tiny_run], out=tmp_path / 'page.html', text_encoder='/gone'))
  assert not found and 'tiny draws no images: ' in text and '/gone' in text


def test_an_unreadable_caption_is_refused(tiny_run, tmp_path):
  with pytest.raises(UserError, match='яблоко'):
    report([tiny_run], out=tmp_path / 'page.html', captions=['яблоко'])
  assert not (tmp_path / 'page.html').exists()


def test_nothing_is_drawn_if_nothing_is_asked_for(tiny_run, tmp_path, monkeypatch):
  monkeypatch.setattr(drawn, 'TextToImage', None)
  _, text = cards(report([tiny_run], out=tmp_path / 'page.html', draw=0))
  assert 'Drawn from captions' not in text


def test_the_nearest_training_image_is_the_one_that_was_copied():
  source = sources.load('emoji', 'train', 32)
  copied = [3, 700, 1500]
  noise = np.random.default_rng(0).integers(-9, 9, (3, 32, 32, 3))
  fakes = np.clip(source.images[copied] + noise, 0, 255).astype(np.uint8)
  found, note = drawn._nearest(fakes, source, np.arange(len(source)), drawn._rows(source.images))
  for (image, caption), index in zip(found, copied, strict=True):
    np.testing.assert_array_equal(image, source.image(index))
    assert caption == source.captions(index)[0]
  indices = np.array([0, 3, 1500])
  found, note = drawn._nearest(fakes, source, indices, drawn._rows(source.images[indices]))
  np.testing.assert_array_equal(found[2][0], source.image(1500))
  assert '3 of the 1,713' in note
