"""DAMSM: network sizes, saved folders, padding, image sizes, errors."""
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from toy_backbone import TOY

from xmc_jax.encoders import damsm, image_backbones
from xmc_jax.types import UserError


@pytest.fixture(name='module')
def _module(monkeypatch):
  monkeypatch.setitem(image_backbones.BACKBONES, 'toy', TOY)
  return damsm.Damsm(7, 'toy', embedding=6, width=4)


def variables(module):
  return damsm.with_backbone(damsm.create(module, jax.random.key(0)),
                             image_backbones.find(module.backbone_name).load())


@pytest.mark.parametrize('words, text', [(5_450, 2_075_320), (27_297, 8_629_420)])
def test_the_published_networks_have_the_published_numbers_of_parameters(words, text):
  module = damsm.Damsm(words, 'inception-torchvision')
  spec = damsm.spec(module)['params']
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  assert (count(spec['captions']), count(spec['images'])) == (text, 721_152)
  embed = lambda v, x: module.apply(v, x, method='image')
  embedding, regions = jax.eval_shape(embed, {'params': spec}, jnp.zeros((2, 256, 256, 3)))
  assert embedding.shape == (2, 256) and regions.shape == (2, 17 * 17, 256)


@pytest.mark.parametrize('name, regions', [('squeezenet', (15 * 15, 256)),
                                           ('vgg16-backbone', (16 * 16, 512))])
def test_small_backbones_have_the_expected_regions(name, regions):
  assert image_backbones.find(name).shapes() == (regions, 512)


@pytest.mark.slow
def test_both_encoders_give_words_and_regions_in_one_space(module):
  given = variables(module)
  mask = np.arange(4) < np.array([[4], [2]])
  tokens = np.where(mask, 3, 0)
  words, sentence = module.apply(given, tokens, mask, method='text')
  assert words.shape == (2, 4, 4) and sentence.shape == (2, 4) and not np.any(words[1, 2:])
  embedding, regions = module.apply(given, toys.numbers(0).random((2, 8, 8, 3)), method='image')
  assert embedding.shape == (2, 4) and regions.shape == (2, 16, 4)
  assert {x.dtype for x in (words, sentence, embedding, regions)} == {jnp.dtype('float32')}


def test_tokens_at_padding_change_nothing(module):
  given, mask = variables(module), np.arange(4) < np.array([[4], [2]])
  for one, other in zip(*(module.apply(given, np.where(mask, 3, filler), mask, method='text')
                          for filler in (0, 6))):
    np.testing.assert_array_equal(one, other)


def test_dropout_depends_on_the_key_of_each_caption_only(module):
  given, mask = variables(module), np.ones((3, 4), bool)
  tokens = np.full((3, 4), 2)
  run = lambda rngs: module.apply(given, tokens, mask, rngs, method='text').sentence
  rngs = jax.random.split(jax.random.key(0), 3)
  dropped, turned = run(rngs), run(rngs[::-1])
  np.testing.assert_allclose(dropped, turned[::-1], atol=1e-6)
  assert np.abs(dropped - run(None)).max() > 1e-4 and np.abs(dropped[0] - dropped[1]).max() > 1e-4


def test_images_are_resized_corner_on_corner():
  # A ramp stays a ramp with the same ends; of 3 pixels, 5: halfway between neighbours.
  x = jnp.array([0.0, 1, 4])[None, None, :, None] * jnp.ones((1, 3, 1, 1))
  found = image_backbones.resize(x, 5)[0, 2, :, 0]
  np.testing.assert_allclose(found, [0, 0.5, 1, 2.5, 4], atol=1e-6)
  np.testing.assert_array_equal(image_backbones.resize(x, 3), x)


def test_images_are_resized_center_on_center():
  # Of 2 pixels, 4: the new centers lie a quarter of a pixel beside the old ones.
  x = jnp.array([0.0, 4])[None, None, :, None] * jnp.ones((1, 2, 1, 1))
  found = image_backbones.resize(x, 4, corners=False)[0, 2, :, 0]
  np.testing.assert_allclose(found, [0, 1, 3, 4], atol=1e-6)


def test_a_damsm_resizes_as_it_is_told(module):
  given, images = variables(module), jnp.array(toys.numbers(0).random((2, 5, 5, 3)), jnp.float32)
  side = image_backbones.find(module.backbone_name).side
  embed = lambda network, x: network.apply(given, x, method='image').embedding
  found = embed(module.clone(corners=False), images)
  before = image_backbones.resize(images, side, corners=False)
  np.testing.assert_allclose(found, embed(module, before), rtol=1e-5, atol=1e-6)
  assert np.abs(found - embed(module, images)).max() > 1e-4


def test_resize_is_that_of_torch():
  torch = pytest.importorskip('torch')
  x = toys.normal(0, 2, 7, 5, 3)
  for side, corners in ((4, True), (11, True), (4, False), (11, False)):
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x.transpose(0, 3, 1, 2)), (side, side), mode='bilinear',
        align_corners=corners)
    np.testing.assert_allclose(image_backbones.resize(jnp.array(x), side, corners=corners),
                               theirs.numpy().transpose(0, 2, 3, 1), atol=1e-5)


def test_gradients_reach_the_pixels(module):
  given, images = variables(module), jnp.array(toys.numbers(0).random((2, 5, 5, 3)), jnp.float32)
  grads = jax.grad(lambda x: sum(jnp.sum(part ** 2) for part in module.apply(
      given, x, method='image')))(images)
  assert np.mean(np.abs(grads).sum(-1) > 0) > 0.9      # a ReLU or two may be closed


def test_a_folder_that_is_saved_is_loaded_as_it_was(module, tmp_path):
  params = damsm.create(module, jax.random.key(3))
  damsm.save(tmp_path / 'run' / 'encoder', module, params, '{}')
  folder = damsm.find(tmp_path / 'run')                   # of a run, or the folder itself
  assert folder == damsm.find(tmp_path / 'run' / 'encoder')
  assert sorted(p.name for p in folder.iterdir()) == sorted(damsm.FILES)
  found, loaded = damsm.load(folder)
  assert found == module
  wanted = damsm.with_backbone(params, image_backbones.find('toy').load())
  assert jax.tree.structure(loaded) == jax.tree.structure(wanted)
  jax.tree.map(np.testing.assert_array_equal, loaded, wanted)


@pytest.mark.parametrize('spoil, message', [
    (lambda f: (f / 'tokenizer.json').unlink(), 'tokenizer.json is missing; train one first'),
    (lambda f: rewrite(f, backbone_sha256='abc'), r'toy .* not those .* sha256 is abc'),
    (lambda f: rewrite(f, vocabulary=8), 'does not match its config.json.* shape'),
    (lambda f: rewrite(f, model_type='bert'), 'model_type is bert'),
    (lambda f: (f / 'config.json').write_text(
        (f / 'config.json').read_text().replace('backbone_sha256', 'x')), 'backbone_sha256'),
    (lambda f: (f / 'config.json').write_text('{'), 'config.json cannot be read')])
def test_folders_that_are_refused(module, tmp_path, spoil, message):
  damsm.save(tmp_path, module, damsm.create(module, jax.random.key(0)), '{}')
  spoil(tmp_path)
  with pytest.raises(UserError, match=message):
    damsm.load(damsm.find(tmp_path))


def rewrite(folder, **facts):
  path = folder / 'config.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_an_unknown_backbone_is_named():
  with pytest.raises(UserError, match="no image backbone 'resnet'; choose one of inception-"):
    image_backbones.find('resnet')
