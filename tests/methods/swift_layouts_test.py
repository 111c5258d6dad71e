"""Swift with layouts: what learns from them, what a caption's image depends on, and refusals."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from xmc_jax import methods
from xmc_jax.data import source as sources
from xmc_jax.networks import swift_layout
from xmc_jax.training.mesh import make_mesh
from xmc_jax.types import UserError


@pytest.fixture(scope='module')
def tiny(text_folder):
  return functools.partial(toys.swift_config, text_folder, **{
      'model.objects': 3, 'model.classes': 2})


@pytest.mark.slow
def test_layouts_are_learned_beside_the_images(tiny):
  method = methods.build(tiny())
  first, (networks, _), metrics, _ = toys.two_steps(method, 1)
  assert metrics['generator/g/objects'] > 0
  before, after = first[0]['g'].params, networks['g'].params
  assert after.keys() == {'generator', 'encoder', 'layout'}
  for part in ('layout', 'generator'):
    moved = [np.abs(a - b).max() > 0
             for a, b in zip(jax.tree.leaves(before[part]), jax.tree.leaves(after[part]))]
    assert np.mean(moved) > 0.9
  assert not np.array_equal(before['generator']['codes']['kind']['embedding'][1],
                            after['generator']['codes']['kind']['embedding'][1])


@pytest.mark.slow
@pytest.mark.thorough
def test_eight_devices_are_one(tiny):
  trained = lambda devices: toys.two_steps(methods.build(tiny()), devices)
  toys.same_on_all_devices(trained(1), trained(8))


@pytest.mark.parametrize('settings, learned', [
    ({}, True), ({'terms.objects': 0.0}, False), ({'model.objects': 0}, False)])
def test_layouts_are_learned_only_where_they_are_asked_for(tiny, settings, learned):
  config = tiny(**settings)
  program = methods.program(methods.build(config), config, make_mesh(jax.devices()[:1]))
  assert ('generator/g/objects' in toys.metric_names(program)) == learned


def test_an_image_is_drawn_from_its_caption_and_noise_alone(tiny):
  """The layout of a sample is drawn by the last part of the noise, the style by the first."""
  method = methods.build(tiny())
  assert method.z_features == 5 + 3 * swift_layout.NUMBERS
  spec = jax.eval_shape(method.objective.init, jax.random.key(0),
                        {k: jnp.zeros(v.shape[1:], v.dtype) for k, v in method.batch_spec.items()})
  params, stats = ({'g': toys.fill(spec['g'][name])} if name in spec['g'] else {'g': {}}
                   for name in ('params', 'stats'))
  frozen = toys.fill(method.frozen_spec)
  batch = {k: v[0] for k, v in toys.batch(method.batch_spec).items() if k in ('tokens', 'mask')}
  sample = jax.jit(lambda z: method.sample(params['g'], stats['g'], frozen, batch, z))
  z = jnp.asarray(np.random.default_rng(0).normal(size=(8, method.z_features)), jnp.float32)
  images = sample(z)
  assert images.shape == (8, 32, 32, 3) and 0 <= images.min() and images.max() <= 1
  np.testing.assert_array_equal(sample(z), images)
  for change in (z.at[:, :5].add(1.0), z.at[:, 5:].multiply(-1)):
    assert (np.abs(sample(change) - images).max((1, 2, 3)) > 1e-5).all()


def test_layouts_need_the_number_of_kinds(tiny):
  with pytest.raises(UserError, match='model.objects=3: .*set --config.model.classes'):
    methods.build(tiny(**{'model.classes': None}))


@pytest.mark.parametrize('name, settings, words', [
    ('emoji', {}, 'no boxes of objects.*set --config.model.objects=0'),
    ('emoji_scenes', {'model.classes': 114}, 'set --config.model.objects=4'),
    ('emoji_scenes', {'model.objects': 4}, '--config.model.classes=114')])
def test_data_must_have_such_layouts(tiny, name, settings, words):
  config = tiny(**settings)
  config.data.name = name
  with pytest.raises(UserError, match=words):
    methods.check_objects(methods.build(config), config, sources.load(name, 'train', 32))


def test_scenes_have_the_layouts_that_the_config_asks_for(tiny):
  config = tiny(**{'model.objects': 4, 'model.classes': 114})
  methods.check_objects(methods.build(config), config, sources.load('emoji_scenes', 'train', 32))
  plain = tiny(**{'model.objects': 0})
  methods.check_objects(methods.build(plain), plain, sources.load('emoji', 'train', 32))
