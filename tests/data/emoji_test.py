import sys
import types

import numpy as np
import pytest
from PIL import Image

from xmc_jax.data import source as sources
from xmc_jax.data.embedded import emoji, emoji_assets
from xmc_jax.types import UserError


@pytest.fixture(scope='module')
def splits():
  return {split: sources.load('emoji', split, 64) for split in sources.SPLITS}


def test_splits_share_the_images(splits):
  train, heldout = splits['train'], splits['heldout']
  hexcodes = [{split.record(i)['hexcode'] for i in range(len(split))} for split in (train, heldout)]
  assert not hexcodes[0] & hexcodes[1] and len(hexcodes[0] | hexcodes[1]) == 1911
  assert 0.08 < len(heldout) / 1911 < 0.12
  assert train.class_names == heldout.class_names and len(train.class_names) == 99
  seen = {image.tobytes() for image in train.images}
  assert not seen & {image.tobytes() for image in heldout.images}
  subgroups = {train.record(i)['subgroup'] for i in range(len(train))}
  assert subgroups == set(train.class_names)


def test_a_known_image(splits):
  train = splits['train']
  (index,) = [i for i in range(len(train)) if train.record(i)['name'] == 'red apple']
  assert train.captions(index) == (
      'red apple', 'an emoji of a red apple', 'red apple, diet, food',
      'a picture of a red apple, a fruit', 'a small picture of a red apple on white')
  assert train.class_names[train.label(index)] == 'food-fruit'
  image = train.image(index)
  assert image.shape == (64, 64, 3) and image.dtype == np.uint8
  np.testing.assert_array_equal(image[0, 0], [255, 255, 255])
  red, green, blue = image[36, 32].astype(int)
  assert red > 180 and red > 2 * max(green, blue)


def test_all_captions(splits):
  for split in splits.values():
    for i in range(len(split)):
      captions = split.captions(i)
      assert len(captions) == len(set(captions)) == 5
      assert all(c == c.strip() and len(c) > 1 for c in captions)
      assert not any(mark in caption for caption in captions for mark in '’“”\n')


@pytest.mark.parametrize('name, phrase', [
    ('fox', 'a fox'), ('owl', 'an owl'), ('unicorn', 'a unicorn'), ('grapes', 'grapes'),
    ('glasses', 'glasses'), ('bus', 'a bus'), ('octopus', 'an octopus'), ('sun', 'the sun'),
    ('flag of Chad', 'the flag of Chad'), ('x-ray', 'an x-ray'), ('broccoli', 'broccoli'),
    ('flag of the United States', 'the flag of the United States'),
    ('man with red hair', 'a man with red hair'), ('bald woman', 'a bald woman'),
    ('woman running facing right', 'a woman running facing right'), ('Santa Claus', 'Santa Claus'),
    ('family of a man and a boy', 'a family of a man and a boy'), ('people hugging',) * 2,
    ('Leo', 'the zodiac sign Leo'), ("clock at one o'clock", "a clock at one o'clock")])
def test_names_and_phrases(name, phrase):
  phrases = {record['name']: record['phrase'] for record in emoji_assets.records()}
  assert phrases.get(name) == phrase


@pytest.mark.parametrize('name, allowed', [
    ('fox', True), ('red apple', True), ('rocket', True), ('left arrow', False),
    ('flag of Chad', False), ("clock at one o'clock", False), ('waxing crescent moon', False),
    ('backhand index pointing left', False), ('man walking facing right', False),
    ('1st place medal', False), ('stop sign', False), ('blue circle', False)])
def test_flips(name, allowed):
  (record,) = [record for record in emoji_assets.records() if record['name'] == name]
  assert emoji.may_flip(record) == allowed


def test_flippable_is_per_example(splits):
  train = splits['train']
  assert train.flippable.shape == (len(train),) and 0.3 < train.flippable.mean() < 0.8


def test_sizes_and_groups(splits):
  small = sources.load('emoji', 'heldout', 32, groups=('food-drink', 'animals-nature'))
  assert small.images.shape == (len(small), 32, 32, 3) and len(small) < len(splits['heldout'])
  assert {name.split('-')[0] for name in small.class_names} == {
      'animal', 'plant', 'food', 'drink', 'dishware'}
  full = splits['heldout']
  (where,) = [i for i in range(len(full)) if full.record(i) == small.record(0)]
  mean = full.image(where).reshape(32, 2, 32, 2, 3).mean((1, 3))
  assert np.abs(small.image(0) - mean).max() <= 1
  assert sources.load('emoji', 'heldout', 128, groups=('flags',)).image(0).shape == (128, 128, 3)


def test_transparent_pixels_are_white():
  clear = Image.new('RGBA', (64, 64), (255, 0, 0, 0))
  assert (emoji.on_white(clear, 64) == 255).all()
  half = Image.new('RGBA', (64, 64), (255, 0, 0, 128))
  np.testing.assert_allclose(emoji.on_white(half, 16)[3, 3], [255, 127, 127], atol=1)


def test_user_errors(monkeypatch):
  class NoImages(list):
    name = 'no_images'
  module = types.ModuleType('no_images.here')
  module.load = lambda split, size: NoImages()
  monkeypatch.setitem(sys.modules, 'no_images.here', module)
  with pytest.raises(UserError, match="no group 'animals'; choose from smileys-emotion, "):
    sources.load('emoji', 'train', 64, groups=('animals',))
  with pytest.raises(UserError, match='groups: is empty; choose from smileys-emotion, '):
    sources.load('emoji', 'train', 64, groups=())
  with pytest.raises(UserError, match="'no_images' has no examples of the split 'train'"):
    sources.load('no_images.here', 'train', 64)
  with pytest.raises(UserError, match='data.name=coco2: there is no .*choose one of emoji, emo'):
    sources.load('coco2', 'train', 64)
  with pytest.raises(UserError, match='data.name=my.birds: the module my.birds cannot be imported'):
    sources.load('my.birds', 'train', 64)
  with pytest.raises(UserError, match='data.plan: the module has no function load'):
    sources.load('xmc_jax.data.plan', 'train', 64)
  with pytest.raises(UserError, match="split 'test' does not exist; choose one of train, heldout"):
    sources.load('emoji', 'test', 64)
  with pytest.raises(UserError, match='model.size=4: images must have at least 8 pixels'):
    sources.load('emoji', 'train', 4)
  with pytest.raises(UserError, match="does not take these options: .*'colour'"):
    sources.load('emoji', 'train', 64, colour=True)
