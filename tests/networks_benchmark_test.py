"""The PyTorch steps that `benchmarks/networks.py` measures compute our losses. Needs torch."""
import importlib

import jax
import numpy as np
import pytest
import tiny
import toys
from flax import traverse_util

from xmc_jax import methods

pytestmark = pytest.mark.slow

torch = pytest.importorskip('torch')

ROWS, END = 4, 15
SIZES = {'model.size': 32, 'model.width': 4, 'batch_size': ROWS, 'text.length': toys.LENGTH,
         'optim.g.lr': 0.0, 'optim.d.lr': 0.0}
READS = {'model.z_features': 3, 'text.words': END + 1}      # with a DAMSM, which looks at nothing
DAMSM = READS | {'image.encoder': 'squeezenet', 'terms.damsm_mask_same_class': False}
STACKED = {'model.d_width': 4, 'model.residuals': 1, 'model.condition_features': 3, **DAMSM}
CLIP = {'clip.side': 16, 'clip.patch': 4, 'clip.width': 64, 'clip.layers': 3, 'clip.features': 6,
        'clip.text_width': 64, 'clip.text_layers': 1, 'clip.pieces': END + 1,
        'model.dtype': 'float32', 'text.encoder': ''}
CONFIGS = {'attngan': STACKED, 'dm_gan': STACKED, 'df_gan': READS, 'ssa_gan': DAMSM, 'galip': CLIP}
PHASES = {'ssa_gan': {'discriminator', 'penalty', 'generator'}}


@pytest.fixture
def load(monkeypatch):
  """Imports a module of the folder of the benchmarks."""
  monkeypatch.syspath_prepend(str(tiny.ROOT / 'benchmarks'))
  return importlib.import_module


def config_of(family):
  config = importlib.import_module(f'xmc_jax.methods.{family}').config()
  with config.unlocked():
    config.update_from_flattened_dict(SIZES | CONFIGS[family])
  return config


def world(method):
  """Random parameters, statistics and frozen weights; a batch of captions with END at the end."""
  spec = {k: jax.ShapeDtypeStruct(v.shape[1:], v.dtype) for k, v in method.batch_spec.items()}
  variables = toys.fill(jax.eval_shape(method.objective.init, jax.random.key(0), spec))
  params = {name: network.pop('params') for name, network in variables.items()}
  batch = toys.batch(spec)
  batch['tokens'][np.arange(ROWS), batch['mask'].sum(1) - 1] = END
  return params, variables, toys.fill(method.frozen_spec, 1), batch


@pytest.mark.parametrize('family', CONFIGS)
def test_the_losses_of_a_step_are_ours(family, load):
  config = config_of(family)
  method = methods.build(config)
  params, stats, frozen, batch = world(method)
  twin = load('torch_networks.families').FAMILIES[family](config, params, frozen)
  if 'spectral' in stats['d']:      # torch has found its vectors already
    stats['d']['spectral'] = traverse_util.unflatten_dict({
        path: twin.d.get_submodule('.'.join(path[:-1])).parametrizations.weight[0]._u.numpy()
        for path in traverse_util.flatten_dict(stats['d']['spectral'])})

  rng = jax.random.key(7)
  [phases] = method.objective.rounds

  @jax.jit
  def losses(*world):
    fakes, _ = phases[0].shared.run(*world)
    return {phase.name: sum(phase.forward(*world, fakes).losses.values()) for phase in phases}
  expected = {name: float(loss) for name, loss in losses(
      params, stats, frozen, batch, rng).items()}
  rngs = jax.random.split(jax.random.fold_in(rng, 0), ROWS)
  z = jax.vmap(lambda rng: jax.random.normal(rng, (method.z_features,)))(rngs)
  image = torch.tensor(2 * batch['image'] - 1).permute(0, 3, 1, 2)
  found = twin.step(image, torch.tensor(batch['tokens']), torch.tensor(batch['mask']),
                    torch.tensor(np.asarray(z)))
  assert found.keys() == PHASES.get(family, {'discriminator', 'generator'})
  # Spectral norms are those of one power iteration here and of several there.
  tolerance = 1e-3 if family == 'dm_gan' else 1e-4
  assert found == pytest.approx(expected, rel=tolerance)


def test_parameters_that_do_not_match_are_told(load):
  weights, layers = load('torch_networks.weights'), load('torch_networks.layers')
  module = layers.conv(2, 3, bias=True)
  kernel, bias = toys.normal(0, 3, 3, 2, 3), np.zeros(3, np.float32)
  weights.load(module, {'kernel': kernel, 'bias': bias})
  np.testing.assert_array_equal(module.weight.detach()[2, 1], kernel[:, :, 1, 2])
  with pytest.raises(ValueError, match='bias: in torch, not here'):
    weights.load(module, {'kernel': kernel})
  with pytest.raises(ValueError, match='kernel'):
    weights.load(module, {'kernel': kernel[:, :, :1], 'bias': bias})


@pytest.mark.parametrize('changes, said', [
    ({'image.encoder': 'inception-torchvision'}, 'image.encoder'),
    ({'model.dtype': 'bfloat16'}, 'model.dtype')])
def test_what_torch_cannot_do_is_refused(changes, said, load):
  config = config_of('ssa_gan')
  config.update_from_flattened_dict(changes)
  networks = load('networks')
  with pytest.raises(networks.UserError, match=said):
    networks.check(config)


def test_other_losses_are_refused(load):
  compared = load('networks').compared
  assert compared({'discriminator': 2.0}, {'discriminator': 2.01}) == pytest.approx(5e-3, rel=1e-3)
  with pytest.raises(RuntimeError, match='differ'):
    compared({'discriminator': 2.0}, {'discriminator': 2.1})
  with pytest.raises(RuntimeError, match='phases'):
    compared({'discriminator': 2.0}, {'penalty': 2.0})


@pytest.mark.parametrize('direction', ['forward', 'map', 'kernel'])
@pytest.mark.parametrize('channels_last', [False, True])
def test_convolutions_of_both_are_the_same(direction, channels_last, load):
  convolutions = load('convolutions')
  x, kernel, out = (toys.normal(i, *shape) for i, shape in enumerate(
      [(2, 5, 6, 3), (3, 3, 3, 4), (2, 5, 6, 4)]))
  wanted = convolutions.ours(x, kernel, out)[direction]()
  found = convolutions.torchs(x, kernel, out, channels_last)[direction]()
  np.testing.assert_allclose(convolutions.as_ours(direction, found), wanted, rtol=1e-4, atol=1e-5)
