import collections
import itertools
import re

import numpy as np
import pytest

from xmc_jax.data import source as sources
from xmc_jax.data.embedded import emoji_scenes, scene_words
from xmc_jax.data.embedded.scene_kinds import kinds
from xmc_jax.data.embedded.scene_layout import (
  BACKGROUNDS,
  SIDES,
  SIZES,
  Group,
  Scene,
  heldout_pairs,
)
from xmc_jax.types import UserError

NUMBERS = {'a': 1, 'an': 1, 'two': 2, 'three': 3, 'four': 4}
NOUNS = {noun: i for i, kind in enumerate(kinds()) for noun in (kind.noun, kind.plural)}
LONGEST_FIRST = '|'.join(sorted(map(re.escape, NOUNS), key=len, reverse=True))
THING = re.compile(rf'\b(an?|two|three|four) (?:(small|large) )?({LONGEST_FIRST})\b')
RELATION = re.compile(r' (to the left of|to the right of|above|below) ')
N = 400


@pytest.fixture(scope='module', params=sources.SPLITS)
def scenes(request):
  return sources.load('emoji_scenes', request.param, 64)


@pytest.fixture(scope='module')
def train():
  return sources.load('emoji_scenes', 'train', 64)


@pytest.fixture(scope='module')
def pairs():
  return sources.load('emoji_scenes', 'train', 64, pairs=True)


def said(caption):
  """What a caption says of the objects: {kind: (number, size or "")}."""
  objects = caption.split(' on ')[0]  # without "an orange background"
  return {NOUNS[noun]: (NUMBERS[number], size) for number, size, noun in THING.findall(objects)}


def centres(source, index, kind):
  found, boxes = source.boxes(index)
  x0, y0, x1, y1 = boxes[found == kind].T
  return (x0 + x1) / 2, (y0 + y1) / 2


def test_captions_name_all_objects_with_their_number(scenes):
  for i in range(N):
    found, boxes = scenes.boxes(i)
    numbers = {int(kind): int((found == kind).sum()) for kind in found}
    assert 1 <= len(found) <= 4 and boxes.shape == (len(found), 4)
    captions = scenes.captions(i)
    assert len(set(captions)) == 5
    for caption in captions:
      assert {kind: number for kind, (number, _) in said(caption).items()} == numbers, caption


def test_plurals_follow_the_numbers(train):
  for i in range(N):
    for number, _, noun in THING.findall(train.captions(i)[0]):
      kind = kinds()[NOUNS[noun]]
      assert noun == (kind.noun if NUMBERS[number] == 1 else kind.plural)


def test_sizes_are_true(scenes):
  seen = set()
  for i in range(N):
    found, boxes = scenes.boxes(i)
    for kind, (_, size) in said(scenes.captions(i)[0]).items():
      longer = (boxes[found == kind, 2:] - boxes[found == kind, :2]).max(1)
      sides = SIDES[SIZES.index(size or 'medium')]
      assert np.isclose(longer[:, None], sides, atol=1e-5).any(1).all()
      seen.add(size)
  assert seen == {'small', '', 'large'}


def test_relations_are_true(scenes):
  seen = set()
  for i in range(N):
    for caption in scenes.captions(i):
      word = RELATION.search(caption)
      if word is None:
        continue
      left = THING.findall(caption[:word.start()])[-1]
      right = THING.findall(caption[word.end():])[0]
      (ax, ay), (bx, by) = (centres(scenes, i, NOUNS[thing[2]]) for thing in (left, right))
      assert {'to the left of': ax.max() < bx.min() - 0.14, 'above': ay.max() < by.min() - 0.14,
              'to the right of': ax.min() > bx.max() + 0.14,
              'below': ay.min() > by.max() + 0.14}[word[1]], caption
      seen.add(word[1])
  assert len(seen) == 4


def test_places_of_single_objects_are_true(train):
  seen = set()
  for i in range(2 * N):
    found, _ = train.boxes(i)
    if len(found) > 1:
      continue
    (x,), (y,) = centres(train, i, found[0])
    place = train.captions(i)[0].split(kinds()[found[0]].noun)[1]
    seen.add(place)
    assert (x < 1 / 3) == ('left' in place) and (x >= 2 / 3) == ('right' in place)
    assert (y < 1 / 3) == ('top' in place) and (y >= 2 / 3) == ('bottom' in place)
  assert len(seen) >= 6


def test_backgrounds_are_true(train):
  for i in range(50):
    words = train.captions(i)[2].split(' on ')[-1]
    names = re.findall('|'.join(sorted(BACKGROUNDS, key=len, reverse=True)), words)
    corner = np.abs(train.image(i)[[0, -1], [0, -1]].astype(int) -
                    [BACKGROUNDS[names[0]], BACKGROUNDS[names[-1]]])
    found, boxes = train.boxes(i)
    if (boxes[:, :2] > 0.05).all() and (boxes[:, 2:] < 0.95).all():
      assert corner.max() <= 1, words


def test_labels_are_the_kinds_shown(scenes):
  assert len(scenes.class_names) == len(kinds()) == 114
  for i in range(50):
    label = scenes.label(i)
    assert label.dtype == np.float32 and set(np.unique(label)) == {0, 1}
    assert set(np.flatnonzero(label)) == set(scenes.boxes(i)[0])


def test_boxes_lie_in_the_image_and_apart(scenes):
  for i in range(N):
    _, boxes = scenes.boxes(i)
    assert boxes.min() >= 0 and boxes.max() <= 1 and (boxes[:, :2] < boxes[:, 2:]).all()
    for a, b in itertools.combinations(boxes, 2):
      common = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
      smaller = min((box[2:] - box[:2]).prod() for box in (a, b))
      assert common <= 0.081 * smaller


def test_held_out_pairs():
  assert 0.07 < len(heldout_pairs()) / (114 * 113 / 2) < 0.13
  for split in sources.SPLITS:
    source = sources.load('emoji_scenes', split, 64)
    shown = [sorted(group.kind for group in source.scene(i).groups) for i in range(2000)]
    with_pair = [not heldout_pairs().isdisjoint(itertools.combinations(few, 2)) for few in shown]
    assert all(with_pair) if split == 'heldout' else not any(with_pair)
  assert {kind for pair in heldout_pairs() for kind in pair} == set(range(114))


def test_objects_are_drawn_in_their_boxes(train):
  for i in range(50):
    scene = train.scene(i)
    empty = np.clip(train._backdrop(scene.background), 0, 255) + 0.5
    changed = np.abs(train.image(i).astype(int) - empty.astype(np.uint8)).max(2) > 3
    inside = np.zeros((64, 64), bool)
    for x0, y0, x1, y1 in train.boxes(i)[1] * 64:
      box = np.s_[max(int(y0) - 1, 0):int(y1) + 2, max(int(x0) - 1, 0):int(x1) + 2]
      inside[box] = True
      assert changed[box].mean() > 0.1
    assert not changed[~inside].any()


def test_scenes_are_a_function_of_seed_split_and_index(train):
  again = sources.load('emoji_scenes', 'train', 64)
  for i in (700, 3, 700, 0):
    np.testing.assert_array_equal(train.image(i), again.image(i))
    assert train.captions(i) == again.captions(i)
  other = sources.load('emoji_scenes', 'train', 64, seed=1)
  assert [train.scene(i) for i in range(9)] != [other.scene(i) for i in range(9)]
  large = sources.load('emoji_scenes', 'train', 128)
  assert large.image(5).shape == (128, 128, 3) and large.scene(5) == train.scene(5)
  small = large.image(5).reshape(64, 2, 64, 2, 3).mean((1, 3))
  assert np.abs(small - train.image(5)).mean() < 6


def test_words_of_one_scene():
  owl, fish = NOUNS['owl'], NOUNS['fish']
  box = lambda x, y: (x - 0.1, y - 0.1, x + 0.1, y + 0.1)
  scene = Scene((Group(owl, 2, (box(0.2, 0.5),)), Group(fish, 0, (box(0.6, 0.2), box(0.8, 0.8)))),
                ('orange',))
  assert scene_words.write_captions(scene) == (
      'a large owl to the left of two small fish', 'two fish to the right of an owl',
      'an owl and two fish on an orange background', 'a picture of two small fish and a large owl',
      'a large owl to the left of two small fish, on an orange background')
  alone = Scene((Group(owl, 1, (box(0.5, 0.9),)),), ('white', 'blue'))
  assert scene_words.write_captions(alone)[0] == 'an owl at the bottom'
  assert scene_words.write_captions(alone)[2] == 'an owl on a background fading from white to blue'


def test_lengths_and_user_errors():
  assert len(emoji_scenes.load('train', examples=7, heldout_examples=3)) == 7
  assert len(emoji_scenes.load('heldout', examples=7, heldout_examples=3)) == 3
  with pytest.raises(UserError, match='examples >= 1.* not 0, 5000 and 0'):
    sources.load('emoji_scenes', 'train', 64, examples=0)


def test_pairs_are_scenes_of_training_and_others_that_differ_in_one_thing(train, pairs):
  assert len(pairs) == 2 * len(train) and pairs.together == 2
  seen = collections.Counter()
  for i in range(N):
    first, second = pairs.scene(2 * i), pairs.scene(2 * i + 1)
    assert first == train.scene(i)
    of = lambda scene: [[(g.kind, g.size, len(g.boxes))[k] for g in scene.groups] for k in range(3)]
    names = ('kind', 'size', 'number')
    differing = [name for name, a, b in zip(names, of(first), of(second)) if a != b]
    differing += ['background'] * (first.background != second.background)
    assert len(differing) <= 1
    if not differing:                       # the other way round
      assert [[(1 - x1, 1 - y1, 1 - x0, 1 - y0) for x0, y0, x1, y1 in group.boxes]
              for group in first.groups] == [[*group.boxes] for group in second.groups]
    seen[(*differing, 'mirrored')[0]] += 1
    chosen = sorted(group.kind for group in second.groups)
    assert heldout_pairs().isdisjoint(itertools.combinations(chosen, 2))
    assert sum(len(group.boxes) for group in second.groups) <= 5
  assert seen.keys() == {'kind', 'size', 'number', 'background', 'mirrored'}
  assert min(seen.values()) > N / 40 and seen['number'] > N / 5


def test_captions_of_a_pair_say_the_difference(pairs):
  for i in range(0, N, 2):
    first, second = pairs.captions(i), pairs.captions(i + 1)
    assert len(first) == len(second) > 0
    assert all(a != b for a, b in zip(first, second))
    for example, captions in ((i, first), (i + 1, second)):
      for number, caption in enumerate(captions):
        truth = pairs.truth(example, number)
        assert truth.counts == {kind: count for kind, (count, _) in said(caption).items()}
        assert truth.sizes == {kind: size for kind, (_, size) in said(caption).items() if size}
        assert (truth.relation is None) == (RELATION.search(caption) is None)


def test_heldout_scenes_have_no_pairs():
  plain, pairs = (sources.load('emoji_scenes', 'heldout', 64, pairs=pairs)
                  for pairs in (False, True))
  assert len(plain) == len(pairs) and sources.fingerprint(plain) == sources.fingerprint(pairs)
