"""The detector's network, its peaks by hand, and its weights file."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xmc_jax.data.embedded.scene_kinds import kinds
from xmc_jax.evals.networks import detector


def batch(rows=2):
  return np.random.default_rng(0).uniform(size=(rows, 64, 64, 3)).astype(np.float32)


def slow_peaks(maps, row):
  """Peaks of one image as a set of (kind, y, x), and their scores, cell by cell."""
  found = {}
  for y in range(16):
    for x in range(16):
      around = maps.center[row, max(y - 1, 0):y + 2, max(x - 1, 0):x + 2]
      if maps.center[row, y, x] == around.max():
        odds = np.exp(maps.kind[row, y, x] - maps.kind[row, y, x].max())
        sure = odds.max() / odds.sum() / (1 + np.exp(-maps.center[row, y, x]))
        found[int(odds.argmax()), y, x] = sure
  return found


def test_peaks_are_those_of_a_slow_loop():
  rng = np.random.default_rng(1)
  cells = np.stack(np.meshgrid(np.arange(16), np.arange(16), indexing='ij'), -1)
  maps = detector.DetectionMaps(*(rng.normal(size=(3, 16, 16, *more)).astype(np.float32) * 3
                         for more in ((), (5,))),
                       np.broadcast_to(np.tile(cells, 2), (3, 16, 16, 4)).astype(np.float32))
  objects = detector.peaks(jax.tree.map(jnp.asarray, maps))
  assert objects.kind.shape == objects.score.shape == (3, detector.MAX_OBJECTS)
  for row in range(3):
    wanted = sorted(slow_peaks(maps, row).items(), key=lambda item: -item[1])[:detector.MAX_OBJECTS]
    given = [(int(kind), int(box[0]), int(box[1]))
             for kind, box in zip(objects.kind[row], objects.box[row], strict=True)]
    assert given == [place for place, _ in wanted]
    np.testing.assert_allclose(objects.score[row], [sure for _, sure in wanted], rtol=1e-5)


@pytest.mark.slow
def test_maps_have_their_shapes_and_an_untrained_network_finds_nothing():
  module = detector.SceneDetector()
  variables = jax.jit(module.init)(jax.random.key(0), batch())
  maps = jax.jit(module.apply)(variables, batch())
  assert maps.center.shape == (2, 16, 16) and maps.kind.shape == (2, 16, 16, len(kinds()))
  assert maps.box.shape == (2, 16, 16, 4) and (maps.box[..., :2] < maps.box[..., 2:]).all()
  assert (detector.peaks(maps).score < 0.1).all()


def test_x_runs_to_the_right_and_y_downwards():
  centres = detector.cell_centers()
  np.testing.assert_allclose(centres[0, 15], [15.5 / 16, 0.5 / 16])
  np.testing.assert_allclose(centres[15, 0], [0.5 / 16, 15.5 / 16])
