import io
import pickle

import numpy as np
import package_files as made
import pytest
from PIL import Image
from tuxpaint import reader as tuxpaint

from xmc_jax.prepare.original import BadImage
from xmc_jax.types import UserError

RED = (200, 0, 0)
OWL = 'An owl.\nde.utf8=Eine Eule.\n'


def stamps(folder, files):
  made.deb(folder / 'tuxpaint-stamps-default_2022.06.04-1_all.deb', {
      f'./usr/share/tuxpaint/stamps/{name}': text if isinstance(text, bytes) else text.encode()
      for name, text in files.items()})
  return tuxpaint.open(folder)


@pytest.fixture
def few(tmp_path):
  image = made.image(RED)
  return stamps(tmp_path, {
      'animals/birds/owl.png': image, 'animals/birds/owl.txt': OWL,
      'animals/birds/owl.dat': 'noflip\nscale 30%', 'animals/birds/owl.ogg': 'hoo',
      'animals/birds/cartoon/owl.png': image, 'animals/birds/cartoon/owl.txt': OWL,
      'food/pie.png': b'no image', 'food/pie.txt': 'A pie! It’s hot.\n',
      'food/pie.dat': 'colorable\nnomirror\n', 'food/pie.svg': '<svg/>',
      'town/bus.png': image, 'town/bus.txt': 'A bus.\n', 'town/bus_mirror.png': image,
      'town/car.png': image, 'town/car.txt': 'A car that drives left.\n',
      'town/hut.svg': '<svg/>', 'town/hut.txt': 'A hut.\n', 'town/mute.png': image,
      'town/only.png': image, 'town/only.txt': 'de.utf8=Nur deutsch\n',
      'symbols/letters/a.png': image, 'symbols/letters/a.txt': 'The letter A.\n'})


def all_of(original):
  return {raw.name: raw for split in ('train', 'heldout')
          for raw in original.examples(split, 0, original.counts[split])}


def test_what_is_read_and_left_out(few):
  raws = all_of(few)
  assert list(raws) and set(raws) == {'animals/birds/owl.png', 'animals/birds/cartoon/owl.png',
                                      'food/pie.png', 'town/bus.png', 'town/car.png'}
  assert few.left_out == {'SVG drawings': 1, 'SVG drawings of stamps that are there as PNG': 1,
                          'images in place of a mirror image': 1, 'stamps without a text': 2,
                          'symbols': 1}
  assert few.class_names == ('animals/birds', 'food', 'town')
  assert {name: few.class_names[raw.labels[0]] for name, raw in raws.items()} == {
      name: name.rsplit('/', 1)[0].replace('/cartoon', '') for name in raws}
  assert list(few.files) == ['tuxpaint-stamps-default_2022.06.04-1_all.deb']


def test_captions_and_mirrors(few):
  raws = all_of(few)
  assert raws['animals/birds/owl.png'].captions == ('An owl.', 'An owl, animals, birds')
  assert raws['food/pie.png'].captions == ('A pie! It’s hot.', 'A pie!', 'A pie, food')
  assert {name for name, raw in raws.items() if raw.flippable} == {
      'animals/birds/owl.png', 'animals/birds/cartoon/owl.png'}


def test_a_broken_image_is_told(few):
  with pytest.raises(BadImage, match='cannot identify'):
    all_of(few)['food/pie.png'].image()


def test_one_text_is_on_one_side_and_a_tenth_is_held_out(tmp_path):
  image = made.image(RED, (8, 8))
  files = {f'a/{i}{side}.{kind}': image if kind == 'png' else f'Thing {i}. Side {side}.'
           for i in range(300) for side in 'lr' for kind in ('png', 'txt')}
  original = stamps(tmp_path, files)
  sides = {split: {raw.name[2:-5] for raw in original.examples(split, 0, 600)}
           for split in ('train', 'heldout')}
  assert not sides['train'] & sides['heldout']
  assert len(sides['train']) + len(sides['heldout']) == 300 and 15 < len(sides['heldout']) < 48
  assert sum(original.counts.values()) == 600


def test_examples_are_the_same_after_a_journey(few):
  there = pickle.loads(pickle.dumps(few))
  count = few.counts['train']
  parts = [*there.examples('train', 0, 2), *there.examples('train', 2, count)]
  assert [raw.name for raw in parts] == [raw.name for raw in few.examples('train', 0, count)]
  raw = next(raw for raw in parts if raw.name == 'town/bus.png')
  assert raw.image() == all_of(few)['town/bus.png'].image()


def test_a_stamp_in_a_white_square():
  """64 x 20 px, the left half clear: 32 x 20 are left, in a square of 32 / 0.92."""
  square = np.asarray(Image.open(io.BytesIO(tuxpaint.square(made.image(RED, (64, 20))))))
  assert square.shape == (35, 35, 3)
  ys, xs = np.nonzero((square != 255).any(-1))
  assert (xs.min(), xs.max(), ys.min(), ys.max()) == (1, 32, 7, 26)
  assert (square[7:27, 1:33] == RED).all()


@pytest.mark.parametrize('data, told', [
    (made.image((255, 255, 255)), 'differs from white'),
    (made.image(RED, (1, 4))[:-30], 'Error'), (b'', 'cannot identify')])
def test_images_that_cannot_be_used(data, told):
  with pytest.raises(BadImage, match=told):
    tuxpaint.square(data)


def test_a_clear_image():
  file = io.BytesIO()
  Image.new('RGBA', (9, 9)).save(file, 'PNG')
  with pytest.raises(BadImage, match='nothing in it is opaque'):
    tuxpaint.square(file.getvalue())


@pytest.mark.parametrize('text, first', [
    ('Eat!', 'Eat!'), ('Cent sign. 100 cents.', 'Cent sign.'), ('Adenium (Rose)', 'Adenium (Rose)'),
    ('A “Stop.” Go on.', 'A “Stop.”'), ('Worth $1.00 today. Yes.', 'Worth $1.00 today.'),
    ('Boom!!! Run.', 'Boom!!!')])
def test_first_sentences(text, first):
  assert tuxpaint.first_sentence(text) == first


def test_user_errors(tmp_path):
  with pytest.raises(UserError, match='`apt-get download tuxpaint-stamps-default`'):
    tuxpaint.open(tmp_path)
  with pytest.raises(UserError, match='has no stamps below usr/share/tuxpaint/stamps/'):
    stamps(tmp_path, {'readme.ogg': ''})
