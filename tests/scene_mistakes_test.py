"""Wrong captions of scenes for tools/train_matcher.py are wrong, and in one thing only."""
import re
import sys

import numpy as np
import pytest
import tiny

sys.path.append(str(tiny.ROOT / 'tools'))

import scene_mistakes

from xmc_jax.data import source
from xmc_jax.data.embedded.scene_words import OPPOSITE, relation, write_captions

NUMBERS = {'a': 1, 'an': 1, 'two': 2, 'three': 3, 'four': 4}


@pytest.fixture(scope='module')
def scenes():
  return source.load('emoji_scenes', 'train', 64)


def counted(caption):
  """The numbers of objects that a caption says, without its background."""
  objects = re.sub(r',? on an? .*background.*|^a picture of ', '', caption)
  objects = re.sub('(slice|bunch) of|in the .*', '', objects)
  return [NUMBERS[word] for word in objects.split() if word in NUMBERS]


@pytest.mark.parametrize('caption', range(5))
def test_two_captions_each_with_one_mistake(scenes, caption):
  random = np.random.default_rng(caption)
  for index in range(60):
    right = scenes.captions(index)[caption]
    number, other = scene_mistakes.captions(scenes, index, caption, random)
    assert len({right, number, other}) == 3
    differing = [a != b for a, b in zip(counted(right), counted(number), strict=True)]
    assert sum(differing) == 1, (right, number)
    assert counted(right) == counted(other), (right, other)


@pytest.mark.parametrize('change', scene_mistakes.OTHERS)
def test_what_a_change_leaves_alone(scenes, change):
  random = np.random.default_rng(0)
  for index in range(60):
    scene = scenes.scene(index)
    changed = change(scene, random)
    of = lambda scene, name: [getattr(group, name) for group in scene.groups]
    differing = [name for name in ('kind', 'size', 'boxes') if of(scene, name) != of(changed, name)]
    differing += ['background'] if scene.background != changed.background else []
    assert differing == [{'mirrored': 'boxes'}.get(change.__name__, change.__name__)]


def test_in_a_mirror_the_relation_is_the_opposite(scenes):
  seen = 0
  for index in range(60):
    scene = scenes.scene(index)
    if len(scene.groups) > 1 and (word := relation(*scene.groups[:2])):
      mirrored = scene_mistakes.mirrored(scene, np.random.default_rng(0))
      opposite = OPPOSITE[word]
      assert word in write_captions(scene)[0] and opposite in write_captions(mirrored)[0]
      seen += 1
  assert seen > 10


def test_a_size_is_never_taken_away(scenes):
  """A small dog is a dog."""
  random = np.random.default_rng(0)
  for index in range(60):
    changed = scene_mistakes.size(scenes.scene(index), random)
    before = [group.size for group in scenes.scene(index).groups]
    after = [group.size for group in changed.groups]
    ((old, new),) = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert new in (0, 2) and new != old
