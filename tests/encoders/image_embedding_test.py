"""Image networks of the losses: their inputs, outputs and weight files."""
import dataclasses

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
import torch_writer
from flax import linen as nn
from PIL import Image

from xmc_jax.encoders import image_embedding, registry, resnet, vgg
from xmc_jax.encoders.features import Features
from xmc_jax.types import UserError
from xmc_jax.weight_files import torch_files
from xmc_jax.weight_files.files import fingerprint

pytestmark = pytest.mark.slow

NARROW = ((3, 4), (4,), (5, 5, 5, 5), (6,), (6, 8))


@pytest.fixture(name='put')
def _put(tmp_path, monkeypatch):
  """Writes a state dict where the weights of a name are looked for, whatever its hash."""
  monkeypatch.setenv('XMC_JAX_WEIGHTS', str(tmp_path))

  def put(name, state, zipped, **changes):
    entry = registry.entry(name)
    source = dataclasses.replace(entry.sources[0], sha256='', **changes)
    monkeypatch.setitem(registry.ENTRIES, name, dataclasses.replace(entry, sources=(source,)))
    torch_writer.write(tmp_path / source.file, state, zipped)
  return put


def vgg_state(stages):
  """A random state dict of torchvision's VGG with these stages, classifier included."""
  shapes, at, width = {}, 0, 3
  for widths in stages:
    for out in widths:
      shapes |= {f'features.{at}.weight': (out, width, 3, 3), f'features.{at}.bias': (out,)}
      at, width = at + 2, out
    at += 1
  sizes = [width * 49, 12, 12, 9]
  for i, layer in enumerate((0, 3, 6)):
    shapes |= {f'classifier.{layer}.weight': (sizes[i + 1], sizes[i]),
               f'classifier.{layer}.bias': (sizes[i + 1],)}
  return networks.random_state(shapes)


@pytest.mark.parametrize('zipped', [True, False])
def test_vgg19_is_its_convolutions_from_torchvisions_file(put, monkeypatch, zipped):
  state, whole = vgg_state(NARROW), vgg.Vgg(NARROW, hidden=12, classes=9)

  put('vgg19', state, zipped,
      load=lambda path: (whole, vgg.from_torch(torch_files.read(path), whole)))
  monkeypatch.setitem(image_embedding.EMBEDDERS, 'vgg19', dataclasses.replace(
    image_embedding.EMBEDDERS['vgg19'], network=lambda dtype: vgg.VggConvs(NARROW, dtype, None)))
  image = image_embedding.build('vgg19')
  variables = image.load()
  assert set(variables['params']) == {f'conv_{i}' for i in range(10)}
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda x: x.shape, image.spec())
  images = networks.images(48) / 255
  embeddings = jax.jit(image.embed)(variables, images)
  wanted = vgg.VggConvs(NARROW).apply(vgg.from_torch(state, vgg.VggConvs(NARROW)),
                                   (images - np.float32(vgg.MEAN)) / np.float32(vgg.STD)).pool
  networks.assert_near(embeddings, wanted)


@pytest.mark.parametrize('zipped', [True, False])
def test_resnet50_is_its_logits_at_224_pixels_from_torchvisions_file(put, zipped):
  state = networks.random_state(networks.golden('resnet50')[0])
  put('resnet50', state, zipped)
  image = image_embedding.build('resnet50')
  variables = image.load()
  assert fingerprint(variables) == fingerprint(resnet.from_torch(state, resnet.ResNet50()))
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda x: x.shape, image.spec())


class Mirror(nn.Module):
  """A network that returns its input."""

  def __call__(self, x):
    return Features(-x, x)


def test_resnet50_gets_standardized_images_of_224_pixels():
  image = dataclasses.replace(image_embedding.build('resnet50'), network=Mirror())
  pillow = Image.Resampling.BILINEAR      # antialiased, half-pixel centers
  for side in (64, 256, 224):
    x = networks.images(side, rows=1) / 255
    large = np.stack([Image.fromarray(x[0, :, :, c]).resize((224, 224), pillow)
                      for c in range(3)], -1)
    wanted = (large - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(image.embed({}, x)[0], wanted, atol=1e-3)


def test_the_vggs_do_not_resize_images():
  image = dataclasses.replace(image_embedding.build('vgg19'), network=Mirror())
  assert image.embed({}, networks.images(64)).shape == (2, 64, 64, 3)


@pytest.mark.parametrize('name', image_embedding.EMBEDDERS)
def test_sizes_are_those_of_the_table_of_weights(name):
  image, entry = image_embedding.build(name, jnp.bfloat16), registry.entry(name)
  images = jax.ShapeDtypeStruct((1, entry.side, entry.side, 3), jnp.float32)
  whole = jax.eval_shape(entry.module().init, jax.random.key(0), images)
  for part, layers in image.spec().items():
    assert layers == {layer: whole[part][layer] for layer in layers}
  images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
  embeddings = jax.eval_shape(image.embed, image.spec(), images)
  assert embeddings.shape == (2, 1000 if name == 'resnet50' else 512)
  assert embeddings.dtype == jnp.float32


def test_parameters_are_those_of_the_published_networks():
  spec = lambda name: image_embedding.build(name).spec()['params']
  count = lambda name: sum(x.size for x in jax.tree.leaves(spec(name)))
  assert {name: count(name) for name in image_embedding.EMBEDDERS} == {
    'vgg16-backbone': 14_714_688, 'vgg19': 20_024_384, 'resnet50': 25_557_032}


def test_another_name_is_refused():
  with pytest.raises(UserError, match='image.encoder=vgg11: choose one of vgg16-backbone, vgg19'):
    image_embedding.build('vgg11')


def test_a_fingerprint_is_of_names_shapes_and_numbers():
  tree = {'params': {'b': np.arange(6, dtype=np.float32).reshape(2, 3), 'a': np.float32(1)}}
  same = {'params': {'a': jnp.float32(1), 'b': jnp.arange(6.0).reshape(2, 3)}}
  assert fingerprint(tree) == fingerprint(same) and len(fingerprint(tree)) == 64
  others = [{'params': {'a': tree['params']['a'], 'b': changed}} for changed in (
    np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(6, dtype=np.int32).reshape(2, 3),
    np.float32([[0, 1, 2], [3, 4, 5.5]]))]
  others.append({'params': {'a': tree['params']['a'], 'c': tree['params']['b']}})
  assert len({fingerprint(other) for other in [tree, *others]}) == 5
