"""What `config.negatives` makes of the losses, and which values of it are refused."""
import jax
import numpy as np
import pytest
import toys

from xmc_jax import config as defaults
from xmc_jax import methods
from xmc_jax.methods import xmc_gan
from xmc_jax.training.mesh import make_mesh
from xmc_jax.training.optim import make_optimizers
from xmc_jax.training.program import Program
from xmc_jax.types import UserError

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def discriminator(text_folder):
  """(negatives, rows of the batch) -> metrics of the discriminator's phase, same networks."""
  config = toys.tiny_config(text_folder)
  method = methods.build(config)
  program = Program(method.objective, make_optimizers(config.optim), 0.9, method.frozen_spec,
                    method.batch_spec, make_mesh(jax.devices()[:1]))
  networks, frozen = toys.state(program).networks, method.load_frozen()
  params, stats = ({k: getattr(p, part) for k, p in networks.items()}
                   for part in ('params', 'stats'))
  batch = {k: v[0] for k, v in toys.batch(method.batch_spec).items()}

  def run(negatives, rows):
    config.negatives = negatives
    phase = methods.build(config).objective.rounds[0][0]
    rows = {k: v[rows] for k, v in batch.items()}
    forward = jax.jit(lambda *args: phase.forward(*args).metrics)
    return jax.device_get(forward(params, stats, frozen, rows, jax.random.key(0)))
  return run


def test_local_negatives_are_the_mean_of_separate_batches(discriminator):
  # Terms of real pairs: the discriminator mixes no rows, so that half a batch is seen as in the
  # whole one.
  whole, local = discriminator('global', slice(None)), discriminator('local:4', slice(None))
  halves = [discriminator('global', rows) for rows in (slice(0, 4), slice(4, 8))]
  for term in ('d/sentence', 'd/word'):
    np.testing.assert_allclose(local[term], np.mean([h[term] for h in halves]), rtol=1e-5)
    assert abs(local[term] - whole[term]) > 0.1
  assert local['d/hinge'] == whole['d/hinge']


@pytest.mark.parametrize('negatives', ['', 'local', 'local:', 'local:1', 'local:0', 'local:-4',
                                       'local:4.0', 'Global', 'global:4', 'local:4 '])
def test_negatives_that_make_no_sense_are_refused(negatives):
  with pytest.raises(UserError, match=f"negatives={negatives}: .* 'global', or 'local:N'"):
    defaults.negatives_group(negatives)


def test_rows_that_contrast_are_read():
  assert [defaults.negatives_group(n) for n in ('global', 'local:2', 'local:128')] == [None, 2, 128]


@pytest.mark.parametrize(
  'settings, message',
  [
    ({'negatives': 'everything'}, '--config.negatives=everything: .* local:8'),
    ({'negatives': 'local:3'}, '--config.negatives=local:3: 3 does not divide the batch size 8'),
    ({'negatives': 'local:16'}, 'local:16: 16 does not divide the batch size 8; .* or global'),
    (
      {'model.bn_group_size': 3},
      '--config.model.bn_group_size=3: does not divide the batch size 8; choose a '
      'divisor, or None for global statistics',
    ),
    ({'model.bn_group_size': 0}, 'bn_group_size=0: must be at least 1'),
  ],
)
def test_groups_that_do_not_make_the_batch_are_refused(settings, message):
  config = xmc_gan.config()
  config.batch_size = 8
  defaults.check(config)
  config.update_from_flattened_dict(settings)
  with pytest.raises(UserError, match=message):
    defaults.check(config)


@pytest.mark.parametrize('settings', [
    {'negatives': 'local:4', 'model.bn_group_size': 2}, {'negatives': 'local:8'},
    {'model.bn_group_size': 8}, {'model.bn_group_size': 64}])
def test_groups_that_make_the_batch_are_taken(settings):
  config = xmc_gan.config()
  config.batch_size = 8
  config.update_from_flattened_dict(settings)
  defaults.check(config)
