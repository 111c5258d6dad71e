"""Embeddings of a DAMSM: unit length, any batch size; images retrieve their captions."""
import dataclasses
import itertools
import types

import jax
import numpy as np
import pytest
import toys
from toy_backbone import TOY

from xmc_jax.data import vocabulary
from xmc_jax.encoders import damsm, image_backbones
from xmc_jax.evals import embeddings, extra_metrics
from xmc_jax.evals.extract import FeatureCollector
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError

CAPTIONS = ('a red apple', 'two dogs', 'a dog', 'an apple', 'red red red')


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setitem(image_backbones.BACKBONES, 'toy', TOY)
  words = vocabulary.word_level(vocabulary.collect(CAPTIONS))
  module = damsm.Damsm(words.get_vocab_size(), 'toy', embedding=6, width=4)
  damsm.save(tmp_path / 'encoder', module, damsm.create(module, jax.random.key(0)),
             words.to_str())
  return tmp_path


def images(n=5):
  return toys.numbers(0).integers(0, 256, (n, 8, 8, 3)).astype(np.uint8)


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(folder):
  few, many = (embeddings.of_damsm(folder, batch=n) for n in (2, 7))
  for a, b in ((few.images(images()), many.images(images())),
               (few.captions(CAPTIONS), many.captions(CAPTIONS))):
    assert a.shape == (5, 4)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(a, b, atol=1e-6)
  assert np.abs(few.captions(['two dogs']) - few.captions(['a dog'])).max() > 1e-3


def test_they_are_the_networks_own(folder):
  module, variables = damsm.load(damsm.find(folder))
  embedding = module.apply(variables, images() / np.float32(255), method='image')[0]
  np.testing.assert_allclose(embeddings.of_damsm(folder).images(images()),
                             embedding / np.linalg.norm(embedding, axis=1, keepdims=True),
                             atol=1e-6)


def test_the_extractor_gives_the_same(folder):
  network = embeddings.of_damsm(folder)

  class Real:
    name = 'images'

    def __len__(self):
      return 5

    def read(self, indices):
      return images()[indices]
  found = FeatureCollector([network.extractor], make_mesh(jax.devices()[:1]))(Real())['damsm']
  np.testing.assert_allclose(found, network.images(images()), atol=1e-6)


class Heldout:
  """150 rows of the five images, each with a caption of its own."""
  name = 'toy'
  images = np.tile(images(), (30, 1, 1, 1))

  def label(self, index):
    return np.zeros(3, np.float32)      # several classes an image


def test_the_metric_counts_images_that_find_their_caption(folder):
  four = itertools.product(('red', 'dog', 'apple', 'two'), repeat=4)
  captions = [' '.join(words) for words in itertools.islice(four, 150)]
  given = dict.fromkeys(field.name for field in dataclasses.fields(extra_metrics.EvalContext))
  given |= dict(text_encoder=str(folder), heldout=Heldout(), indices=np.arange(150), seed=0,
                captions=captions)
  metric = extra_metrics.EXTRA_METRICS['damsm'](extra_metrics.EvalContext(**given))
  texts = embeddings.of_damsm(folder).captions(captions)
  found = {score.metric: score.value for score in metric.score({'damsm': texts})}
  assert found['DAMSM R-precision-100 (in training)'] > 0.9        # a caption finds itself
  assert found['DAMSM R-precision-100 (in training) of real'] < 0.2
  assert metric.facts['network'] == 'damsm' and len(metric.facts['weights_sha256']) == 64


@pytest.mark.parametrize('label, share', [
    (lambda i: np.int32(i % 2), 1.0), (lambda i: np.int32(0), 0.0),
    (lambda i: np.eye(2, dtype=np.float32)[i % 2], 0.0)])
def test_other_captions_are_of_other_classes_where_images_have_one(label, share):
  """All captions of a kind of image look alike, so one of the same kind would be a tie: a miss."""
  embedded = np.eye(2, dtype=np.float32)[np.arange(300) % 2]
  given = dict.fromkeys(field.name for field in dataclasses.fields(extra_metrics.EvalContext))
  given |= dict(heldout=types.SimpleNamespace(label=label), indices=np.arange(300), seed=0,
                captions=[f'caption {i}' for i in range(300)])
  found = extra_metrics._r_precision(extra_metrics.EvalContext(**given), embedded, embedded)
  assert found[0] == share


def test_a_folder_without_a_damsm_is_refused(tmp_path):
  with pytest.raises(UserError, match='there is no DAMSM'):
    embeddings.of_damsm(tmp_path)
