import numpy as np
import pytest

from xmc_jax.data import arrays, layouts
from xmc_jax.data import source as sources
from xmc_jax.data.plan import Plan
from xmc_jax.data.text import Tokenizer
from xmc_jax.types import UserError


def test_rows_are_in_order_of_kind_then_y_then_x():
  boxes = np.array([[0.5, 0.6, 0.7, 0.7], [0.1, 0.2, 0.2, 0.6], [0.1, 0.6, 0.3, 0.7]])
  found = layouts.layout([4, 7, 4], boxes, 4)
  np.testing.assert_allclose(found, [[5, 0.65, 0.2, 0.2], [5, 0.65, 0.6, 0.2],
                                     [8, 0.4, 0.15, 0.4], [0, 0, 0, 0]], atol=1e-6)


def test_a_mirrored_layout_is_that_of_the_mirrored_boxes():
  random = np.random.default_rng(0)
  low = random.uniform(0, 0.5, (5, 2))
  boxes = np.concatenate([low, low + random.uniform(0.1, 0.5, (5, 2))], -1)
  mirrored = boxes.copy()
  mirrored[:, [0, 2]] = 1 - boxes[:, [2, 0]]
  kinds = [3, 1, 3, 0, 1]
  np.testing.assert_allclose(layouts.layout(kinds, boxes, 6, mirrored=True),
                             layouts.layout(kinds, mirrored, 6), atol=1e-6)


def test_an_image_without_objects_has_rows_of_zeros():
  assert not layouts.layout([], np.zeros((0, 4)), 3).any()


def test_of_scenes_each_object_covers_pixels_that_differ_from_the_background():
  scenes = sources.load('emoji_scenes', 'train', 64, examples=40)
  found = layouts.layouts(scenes, range(40), [False] * 40)
  assert found.shape == (40, scenes.most_objects, layouts.COLUMNS)
  for index, rows in enumerate(found):
    kinds, _ = scenes.boxes(index)
    assert sorted(kinds + 1) == rows[rows[:, 0] > 0, 0].tolist()
    image = scenes.image(index).astype(int)
    for _, y, x, side in rows[rows[:, 0] > 0]:
      top, left = (max(0, int(64 * (c - side / 2))) for c in (y, x))
      bottom, right = (int(64 * (c + side / 2)) for c in (y, x))
      inside = image[top:bottom, left:right].reshape(-1, 3)
      assert inside.std(0).max() > 5


class _Flippable:
  """Scenes of which mirror images may be made, without captions that say left or right."""
  flippable = True
  images = None

  def __init__(self, scenes):
    self._scenes = scenes
    self.size, self.most_objects, self.boxes = scenes.size, scenes.most_objects, scenes.boxes
    self.image, self.label = scenes.image, scenes.label
    self.class_names, self.name = scenes.class_names, scenes.name

  def captions(self, index):
    return ('a thing',)


def test_batches_hold_the_layouts_of_their_images(encoder_folder):
  scenes = _Flippable(sources.load('emoji_scenes', 'train', 16, examples=8))
  plan = Plan(np.array([5, 2]), np.zeros(2), np.array([False, True]), np.zeros((2, 2)))
  batch = arrays.make_rows(scenes, Tokenizer(encoder_folder, 8), plan)
  kinds, boxes = scenes.boxes(2)
  np.testing.assert_array_equal(batch['objects'][1],
                                layouts.layout(kinds, boxes, 4, mirrored=True))
  np.testing.assert_array_equal(batch['objects'][0], layouts.layout(*scenes.boxes(5), 4))


@pytest.mark.parametrize('classes', [[0, 1, 2, 3, 4], [114], [-1]])
def test_boxes_that_do_not_fit_are_refused(classes, monkeypatch):
  scenes = sources.load('emoji_scenes', 'train', 16, examples=3)
  monkeypatch.setattr(scenes, 'boxes', lambda index: (
      np.array(classes), np.tile(np.array([[0.1, 0.1, 0.4, 0.4]]), (len(classes), 1))))
  with pytest.raises(UserError, match=r'emoji_scenes: boxes\(2\) .* 4 at most .* 0 to 113'):
    layouts.layouts(scenes, [2], [False])


@pytest.mark.slow
def test_both_loaders_give_the_same_layouts(encoder_folder):
  pytest.importorskip('tensorflow')
  from xmc_jax.data import pipeline
  scenes = sources.load('emoji_scenes', 'train', 16, examples=30)
  made = []
  for loader in ('arrays', 'tf_data'):
    with pipeline.batches(scenes, Tokenizer(encoder_folder, 8), seed=3, start=2, rounds=2, rows=4,
                          loader=loader) as batches:
      made.append([next(batches) for _ in range(3)])
  for a, b in zip(*made):
    assert a.keys() == b.keys() and a['objects'].shape == (2, 4, 4, 4)
    np.testing.assert_array_equal(a['objects'], b['objects'])
