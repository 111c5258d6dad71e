"""DF-GAN's method, alone and below the framework of two branches: order, losses, devices, torch."""
import dataclasses
import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
import toys

from xmc_jax import methods
from xmc_jax.config import check
from xmc_jax.methods import df_gan, scl
from xmc_jax.networks.base import DiscriminatorOutput, ForwardOutputs
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow

ROWS = 8
SETTINGS = {'batch_size': ROWS, 'model.size': 32, 'model.width': 4, 'model.z_features': 5,
            'text.words': 13, 'text.length': toys.LENGTH, 'image.encoder': 'squeezenet'}


def small(**settings):
  config = df_gan.config()
  config.update_from_flattened_dict(SETTINGS | settings)
  check(config)
  return config


def framework():
  config = scl.config(small())
  config.scl.unicl = 0.1
  check(config)
  return config


def program_of(method, rate):
  return Program(method.objective, dict.fromkeys('gd', optax.sgd(rate)), 0.0, method.frozen_spec,
                 method.batch_spec, make_mesh(jax.devices()[:1]))


def batch(method, seed):
  """As a loader gives it: with labels and partners if the method asks for them."""
  found = {}
  for i, prefix in enumerate(('', 'partner_')):
    if f'{prefix}image' in method.batch_spec:
      found |= {f'{prefix}{k}': v for k, v in toys.batch(method.batch_spec, 2 * seed + i).items()}
  labels = toys.numbers(seed).integers(0, 3, (1, ROWS)).astype(np.int32)
  return {k: found.get(k, labels) for k in method.batch_spec}


@functools.cache
def trained(make, devices):
  method = methods.build(make())
  return toys.two_steps(method, devices, functools.partial(batch, method))


@pytest.mark.thorough
def test_eight_devices_are_one():      # of the framework, see scl_method_test.py
  toys.same_on_all_devices(trained(small, 1), trained(small, 8))


def test_a_step_is_one_round_of_discriminator_then_generator():
  of = lambda config: [[(p.name, p.updates) for p in phases]
                       for phases in methods.build(config).objective.rounds]
  assert of(small()) == of(framework()) == [[('discriminator', ('d',)), ('generator', ('g',))]]
  accuracies = {f'discriminator/accuracy/{k}' for k in ('real', 'fake', 'wrong')}
  losses = {'discriminator/d/hinge', 'discriminator/d/ma_gp', 'generator/g/hinge'}
  totals = {
    f'{phase}_{k}' for phase in ('discriminator/d', 'generator/g') for k in ('loss', 'grad_max')
  }
  assert trained(small, 1)[2].keys() == accuracies | losses | totals
  names = toys.metric_names(program_of(methods.build(framework()), 1.0))
  assert names == accuracies | losses | totals | {'generator/g/supcon_fake', 'generator/g/unicl'}


def test_no_image_network_and_no_average_without_need():
  _, (networks, ema), _, frozen = trained(small, 1)
  jax.tree.map(np.testing.assert_array_equal, ema['g'], networks['g'].params)
  assert frozen.keys() == {'text'}
  assert methods.build(framework()).frozen_spec.keys() == {'text', 'image'}


class Toy:
  """In place of the networks: images are g, a discriminator's logit of x is d x, and real ones are
  1.

  Wrong pairs have the logit d / 4.
  """
  z_features, sample = 1, None

  def __init__(self, *networks):
    del networks

  def init(self, rng, batch):
    return {'g': {'params': {'x': jnp.float32(0.5)}}, 'd': {'params': {'x': jnp.float32(0.25)}}}

  def generate(self, params, stats, frozen, batch, rngs):
    return ForwardOutputs(batch, None, (params['g']['x'],)), stats

  def discriminate(self, params, stats, frozen, generated):
    view = lambda x: DiscriminatorOutput((x * jnp.ones(ROWS),))
    d, (g,) = params['d']['x'], generated.fake
    return dataclasses.replace(generated, d_real=view(d), d_fake=view(d * g), d_wrong=view(d / 4),
                               grad_norm_sq=d ** 2 * jnp.ones(ROWS)), stats


def test_losses_and_their_order_are_the_papers(monkeypatch):
  # Discriminator, once: 1 - d + (1 + d g + 1 + d / 4) / 2 + 2 d^6,
  #   derivative -1 + g / 2 + 1 / 8 + 12 d^5.   Generator: -d g, derivative -d.
  monkeypatch.setattr(df_gan, 'OneStageNetworks', Toy)
  method = methods.build(small())
  g, d, rate = 0.5, 0.25, 1e-2
  program = program_of(method, rate)
  state, metrics = program.compile()(program.init(0), toys.fill(method.frozen_spec),
                                     toys.batch(method.batch_spec))
  loss = 1 - d + (1 + d * g + 1 + d / 4) / 2 + 2 * d ** 6
  np.testing.assert_allclose(metrics['discriminator/d_loss'], loss, rtol=1e-6)
  d -= rate * (-1 + g / 2 + 1 / 8 + 12 * d ** 5)
  np.testing.assert_allclose(metrics['generator/g_loss'], -d * g, rtol=1e-6)
  np.testing.assert_allclose(state.networks['d'].params['x'], d, rtol=1e-6)
  np.testing.assert_allclose(state.networks['g'].params['x'], g + rate * d, rtol=1e-6)


def test_two_steps_are_torchs(monkeypatch):
  """Losses and weights, by steepest descent, of the PyTorch step that the benchmark measures."""
  torch = pytest.importorskip('torch')
  monkeypatch.syspath_prepend(str(tiny.ROOT / 'benchmarks'))
  families = importlib.import_module('torch_networks.families')
  config, rate = small(), 0.3
  method = methods.build(config)
  program = program_of(method, rate)
  compiled, state, frozen = program.compile(), toys.state(program), toys.fill(method.frozen_spec, 1)
  in_torch = lambda state: families.FAMILIES['df_gan'](
      config, jax.tree.map(np.array, {k: p.params for k, p in state.networks.items()}), frozen)
  first, twin = in_torch(state), in_torch(state)
  twin.optimizers = {name: torch.optim.SGD(getattr(twin, name).parameters(), rate) for name in 'gd'}
  for i in range(2):
    rows, z = toys.batch(method.batch_spec, i), noise(method, state)
    state, metrics = compiled(state, frozen, rows)
    found = twin.step(torch.tensor(2 * rows['image'][0] - 1).permute(0, 3, 1, 2),
                      torch.tensor(rows['tokens'][0]), torch.tensor(rows['mask'][0]),
                      torch.tensor(z))
    assert found == pytest.approx({'discriminator': float(metrics['discriminator/d_loss']),
                                   'generator': float(metrics['generator/g_loss'])}, rel=1e-4)
  ours = in_torch(state)
  for name in 'gd':
    before, here, there = (torch.nn.utils.parameters_to_vector(getattr(x, name).parameters())
                           for x in (first, ours, twin))
    assert (here - there).abs().max() < 1e-5 * (there - before).abs().max()


def noise(method, state):
  """What the next step draws, [b, z]."""
  rng = jax.random.fold_in(jax.random.fold_in(state.rng, state.step), 0)
  rngs = jax.random.split(jax.random.fold_in(rng, 0), ROWS)
  return np.array(jax.vmap(lambda rng: jax.random.normal(rng, (method.z_features,)))(rngs))


@pytest.mark.parametrize('settings, message', [
    ({'model.size': 48}, '--config.model.size=48: df_gan is built for 32, 64, 128, 256 px'),
    ({'microbatches': 2}, '--config.microbatches=2: .* whole batch'),
    ({'batch_size': 1}, '--config.batch_size=1: .* 2 or more')])
def test_mistakes_in_the_config_are_named(settings, message):
  with pytest.raises(UserError, match=message):
    methods.build(small(**settings))
