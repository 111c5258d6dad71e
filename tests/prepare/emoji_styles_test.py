import io
import pickle

import package_files as made
import pytest
from emoji_styles import reader as emoji_styles
from PIL import Image

from xmc_jax.data.embedded import emoji_assets
from xmc_jax.prepare.images import Storage, store
from xmc_jax.types import UserError

RED, BLUE, GREEN = (220, 30, 30), (30, 60, 220), (40, 160, 60)
FOX, KEY_1, APPLE, CHAD = '1F98A', '0031-FE0F-20E3', '1F34E', '1F1F9-1F1E9'
ENGLAND = '1F3F4-E0067-E0062-E0065-E006E-E0067-E007F'
NOTO, FLUENT, TWEMOJI = emoji_styles.STYLES


def pack(folder, style, images):
  name = style.package.lstrip('@').replace('/', '-')
  return made.npm(folder / f'{name}-{style.version}.tgz', style.package, style.version,
                  {f'{style.folder}{stem.lower()}{style.suffix}': data
                   for stem, data in images.items()})


@pytest.fixture
def few(tmp_path):
  webp = made.image(BLUE, (256, 264), 'WEBP')
  pack(tmp_path, NOTO, {FOX: made.image(RED), KEY_1: made.image(BLUE), APPLE: b'no image',
                        CHAD: made.image(GREEN), f'{FOX}-1F3FB': made.image(RED)})
  pack(tmp_path, FLUENT, {'31-fe0f-20e3': webp, '0031-fe0f-20e3': webp, FOX: webp, CHAD: webp,
                          ENGLAND[:-6].replace('-E', '_e'): webp, 'readme': b'', 'ffff': b''})
  pack(tmp_path, TWEMOJI, {FOX: made.image(GREEN), ENGLAND: made.image(RED)})
  return emoji_styles.open(tmp_path)


def all_of(original):
  return {raw.name: raw for split in ('train', 'heldout')
          for raw in original.examples(split, 0, original.counts[split])}


def test_what_is_read_and_left_out(few):
  england = '1F3F4-E0067-E0062-E0065-E006E-E0067'
  assert set(all_of(few)) == {'Noto/1F98A', 'Noto/31-20E3', 'Noto/1F34E', f'Noto/{CHAD}',
                              'Fluent/1F98A', 'Fluent/31-20E3', 'Twemoji/1F98A',
                              f'Twemoji/{england}'}
  assert few.left_out == {
      'Noto, skin tones': 1, 'Fluent, second files of one emoji': 1,
      'Fluent, flags, in another style': 2, 'Fluent, images without a name': 2}
  assert sorted(few.files) == ['emoji-datasource-google-16.0.0.tgz',
                               'emoji-datasource-twitter-16.0.0.tgz',
                               'lobehub-fluent-emoji-3d-1.1.0.tgz']
  assert len(few.class_names) == 99


def test_captions_of_three_styles(few):
  raws = all_of(few)
  assert raws['Fluent/1F98A'].captions == (
      'a 3d style fox', 'an emoji of a fox in 3d style', 'fox, animal, face, 3d style',
      'a 3d picture of a fox, a mammal', 'a fox, mostly blue, 3d style', 'a fox, a Fluent emoji')
  assert 'a fox, mostly green, flat style' in raws['Twemoji/1F98A'].captions
  assert raws[f'Noto/{CHAD}'].captions[0] == 'the flag of Chad in shaded style'
  apple = raws['Noto/1F34E']
  assert 'a small shaded drawing of a red apple' in apple.captions
  assert few.class_names[apple.labels[0]] == 'food-fruit' and apple.flippable
  assert not raws[f'Noto/{CHAD}'].flippable
  assert apple.more == {'style': 'shaded', 'hexcode': APPLE, 'emoji': 'red apple',
                        'group': 'food-drink'}


def test_every_emoji_has_six_captions_in_every_style():
  for record in emoji_assets.records():
    for style in emoji_styles.STYLES:
      captions = emoji_styles.write_captions(record, style)
      assert len(captions) == len(set(captions)) == 6
      assert all(style.word in caption for caption in captions[:5]) and style.family in captions[5]


def test_a_clear_half_is_white(few):
  stored = store(all_of(few)['Fluent/1F98A'].image(), Storage(64, codec='png'))
  image = Image.open(io.BytesIO(stored.data))
  assert image.mode == 'RGB' and min(image.size) == 64
  assert image.getpixel((5, 30)) == (255, 255, 255)
  assert max(abs(a - b) for a, b in zip(image.getpixel((58, 30)), BLUE, strict=True)) < 3


def test_splits_are_those_of_the_embedded_set(tmp_path):
  records = emoji_assets.records()[::9]
  every = {record['hexcode']: made.image((i, 0, 99), (8, 8))
           for i, record in enumerate(records)}
  twin = [next(r['hexcode'] for r in records if r['heldout'] == held) for held in (True, False)]
  for style in emoji_styles.STYLES:
    pack(tmp_path, style, every)
  pack(tmp_path, TWEMOJI, every | {twin[0]: every[twin[1]]})
  original = emoji_styles.open(tmp_path)
  held = {r['hexcode'] for r in records if r['heldout']}
  hexcodes = {split: [raw.more['hexcode'] for raw in original.examples(split, 0, 9999)]
           for split in ('train', 'heldout')}
  assert set(hexcodes['heldout']) == held and not held & set(hexcodes['train'])
  assert hexcodes['heldout'].count(twin[0]) == 2
  assert original.left_out['held-out images that training has too'] == 1
  flags = sum(r['subgroup'] in ('country-flag', 'subdivision-flag') for r in records)
  assert sum(original.counts.values()) == 3 * len(records) - flags - 1


def test_examples_are_the_same_after_a_journey(few):
  there = pickle.loads(pickle.dumps(few))
  count = few.counts['train']
  parts = [*there.examples('train', 0, 2), *there.examples('train', 2, count)]
  told = lambda raws: [(raw.name, raw.captions, raw.image()) for raw in raws]
  assert told(parts) == told(few.examples('train', 0, count))


def test_user_errors(tmp_path):
  with pytest.raises(UserError, match='`npm pack emoji-datasource-google@16.0.0`'):
    emoji_styles.open(tmp_path)
  for style in emoji_styles.STYLES:
    pack(tmp_path, style, {FOX: b''})
  pack(tmp_path, FLUENT, {})
  with pytest.raises(UserError, match='lobehub-fluent-emoji-3d-1.1.0.tgz has no images assets/'):
    emoji_styles.open(tmp_path)
