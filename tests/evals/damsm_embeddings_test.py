"""Codes of a DAMSM's folder: of unit length, whatever the batch; images find their captions."""
import dataclasses
import itertools

import jax
import numpy as np
import pytest
import toys
from toy_backbone import TOY

from xmc_jax.data import vocabulary
from xmc_jax.encoders import damsm, image_backbones
from xmc_jax.evals import extra_metrics
from xmc_jax.evals.damsm_embeddings import DamsmCodes
from xmc_jax.evals.extract import Collector
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


def test_codes_have_unit_length_and_do_not_depend_on_the_batch(folder):
  few, many = DamsmCodes(folder, batch=2), DamsmCodes(folder, batch=7)
  for a, b in ((few.images(images()), many.images(images())),
               (few.captions(CAPTIONS), many.captions(CAPTIONS))):
    assert a.shape == (5, 4)
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(a, b, atol=1e-6)
  assert np.abs(few.captions(['two dogs']) - few.captions(['a dog'])).max() > 1e-3


def test_they_are_the_networks_own(folder):
  module, variables = damsm.load(damsm.find(folder))
  code = module.apply(variables, images() / np.float32(255), method='image')[0]
  np.testing.assert_allclose(DamsmCodes(folder).images(images()),
                             code / np.linalg.norm(code, axis=1, keepdims=True), atol=1e-6)


def test_the_reader_of_an_evaluation_sees_the_same(folder):
  embeddings = DamsmCodes(folder)

  class Real:
    what = 'images'

    def __len__(self):
      return 5

    def read(self, rows):
      return images()[rows]
  found = Collector([embeddings.reader()], make_mesh(jax.devices()[:1]))(Real())['damsm']
  np.testing.assert_allclose(found, embeddings.images(images()), atol=1e-6)


class Heldout:
  """150 rows of the five images, each with a caption of its own."""
  name = 'toy'
  images = np.tile(images(), (30, 1, 1, 1))


def test_the_measure_counts_images_that_find_their_caption(folder):
  four = itertools.product(('red', 'dog', 'apple', 'two'), repeat=4)
  captions = [' '.join(words) for words in itertools.islice(four, 150)]
  given = dict.fromkeys(field.name for field in dataclasses.fields(extra_metrics.Setting))
  given |= dict(text_encoder=str(folder), heldout=Heldout(), rows=np.arange(150), seed=0,
                captions=captions)
  measure = extra_metrics.MEASURES['damsm'](extra_metrics.Setting(**given))
  texts = DamsmCodes(folder).captions(captions)
  found = {score.metric: score.value for score in measure.score({'damsm': texts})}
  assert found['DAMSM R-precision-100 (in training)'] > 0.9        # a caption finds itself
  assert found['DAMSM R-precision-100 (in training) of real'] < 0.2
  assert measure.facts['network'] == 'damsm' and len(measure.facts['weights_sha256']) == 64


def test_a_folder_without_one_is_told(tmp_path):
  with pytest.raises(UserError, match='There is no DAMSM'):
    DamsmCodes(tmp_path)
