"""CLIP score: closed forms, and embeddings that do not depend on the batch size."""
import dataclasses

import jax
import numpy as np
import pytest
import tiny

from xmc_jax.data.text import Tokenizer
from xmc_jax.encoders import clip
from xmc_jax.encoders.clip_inputs import preprocess
from xmc_jax.evals import clip_score, embeddings
from xmc_jax.types import UserError

CAPTIONS = ['a cat', 'the dog', '', 'a photo of the cat', 'a photo of the cat']


@pytest.fixture(name='folder', scope='module')
def _folder(tmp_path_factory):
  tool = tiny.script('tools/clip_goldens.py')
  sizes = {'vocab_size': 514 + len(tool.MERGES), 'max_position_embeddings': 77}
  config = tool.QUICK | {'text_config': tool.QUICK['text_config'] | sizes}
  return tool.write(tmp_path_factory.mktemp('clip'), config)


def test_other_weights_under_a_published_name_are_refused(tmp_path, monkeypatch):
  (tmp_path / clip.BASE).mkdir()
  for name in ('config.json', 'tokenizer.json', 'pytorch_model.bin'):
    (tmp_path / clip.BASE / name).write_text('{}')
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  with pytest.raises(UserError, match=f'is not that of {clip.BASE}: its sha256 is'):
    embeddings.of_clip()


def test_a_missing_network_is_told_by_its_own_name(tmp_path, monkeypatch):
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))
  with pytest.raises(UserError, match=f'xmc weights get {clip.LARGE}'):
    embeddings.of_clip(clip.LARGE)


def images(n=5, size=(20, 20)):
  return np.random.default_rng(0).integers(0, 256, (n, *size, 3), np.uint8)


def at_degrees(*angles):
  radians = np.deg2rad(angles)
  return np.stack([np.cos(radians), np.sin(radians)], 1)


def test_the_score_is_the_mean_cosine_with_its_standard_error():
  image, text = at_degrees(0, 0, 0, 0), at_degrees(60, 60, 90, 180)
  mean, error = clip_score.clip_score(3 * image, 0.1 * text)
  assert mean == pytest.approx(100 * (0.5 + 0.5 + 0 - 1) / 4)
  assert error == pytest.approx(100 * np.std([0.5, 0.5, 0, -1], ddof=1) / 2)


def test_hessels_score_is_two_and_a_half_times_the_positive_cosine():
  image, text = at_degrees(0, 0), at_degrees(60, 180)
  mean, error = clip_score.clip_score(image, text, 2.5, nonnegative=True)
  assert mean == pytest.approx(1.25 / 2)
  assert error == pytest.approx(1.25 / 2)


def test_the_standard_error_is_that_of_repeated_draws():
  rng = np.random.default_rng(0)
  draws = [clip_score.clip_score(*rng.normal(size=(2, 50, 8)), 1.0) for _ in range(400)]
  means, errors = np.transpose(draws)
  assert means.std() == pytest.approx(errors.mean(), rel=0.1)


def test_wrong_rows_are_refused_and_nan_is_not_hidden():
  with pytest.raises(UserError, match='needs at least 2 images, not 1'):
    clip_score.clip_score(np.ones((1, 4)), np.ones((1, 4)))
  with pytest.raises(ValueError, match='same shape'):
    clip_score.clip_score(np.ones((3, 4)), np.ones((2, 4)))
  images = np.ones((3, 4))
  images[1] = np.nan
  assert np.isnan(clip_score.clip_score(images, np.ones((3, 4)), nonnegative=True)).all()


@pytest.mark.slow
@pytest.mark.parametrize('batch', [1, 2, 5, 8])
def test_embeddings_are_the_networks_at_unit_length_for_any_batch(folder, batch):
  module, variables = clip.load(folder)
  encoder = embeddings.of_clip(folder, batch)
  image = module.apply(variables, preprocess(images(), 14), method='image')
  text = module.apply(variables, Tokenizer(folder, 77).encode(CAPTIONS)[0], method='text')
  for found, wanted in ((encoder.images(images()), image), (encoder.captions(CAPTIONS), text)):
    assert found.shape == (5, 10) and found.dtype == np.float32
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
  np.testing.assert_array_equal(encoder.captions(CAPTIONS)[3], encoder.captions(CAPTIONS)[4])


def test_one_shape_is_compiled(folder):
  encoder = embeddings.of_clip(folder, 2)
  shapes, own = set(), encoder.extractor
  encoder.extractor = dataclasses.replace(
      own, apply=lambda variables, x: (shapes.add(x.shape), own.apply(variables, x))[1])
  assert len(encoder.images(images(3))) == 3
  assert shapes == {(2, 14, 14, 3)}


def test_the_prefix_stands_before_each_caption(folder):
  encoder = embeddings.of_clip(folder, 2)
  written = [f'A photo depicts {caption}' for caption in CAPTIONS]
  found = encoder.captions(CAPTIONS, clip_score.PREFIX)
  np.testing.assert_array_equal(found, encoder.captions(written))
  assert np.abs(found - encoder.captions(CAPTIONS)).max() > 1e-3


def test_images_of_several_sizes_and_cmmds_crop(folder):
  crop, encoder = embeddings.of_clip(folder, 2, crop_first=True), embeddings.of_clip(folder, 2)
  wide, square = images(1, (20, 31))[0], images(1)[0]
  found = crop.images([wide, square])
  np.testing.assert_allclose(
    found, encoder.images([wide[:, 5:25], square]), atol=1e-6)
  assert np.abs(found - encoder.images([wide, square]))[0].max() > 1e-3


def test_weights_are_arguments_of_the_program(folder):
  extractor = embeddings.of_clip(folder, 2).extractor
  text = extractor.apply.lower(
    extractor.variables, jax.ShapeDtypeStruct((2, 14, 14, 3), np.float32)).as_text()
  assert 'dense<"0x' not in text
