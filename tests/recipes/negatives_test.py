"""What `config.negatives` makes of the losses, and which values of it are refused."""
import jax
import numpy as np
import pytest
import toys

from xmc_jax import config as defaults
from xmc_jax import recipes
from xmc_jax.engine.mesh import make_mesh
from xmc_jax.engine.optim import make_optimizers
from xmc_jax.engine.program import Program
from xmc_jax.types import UserError


@pytest.fixture(scope='module')
def critic(text_folder):
  """(negatives, rows of the batch) -> metrics of the critic's phase, of the same networks."""
  config = toys.tiny_config(text_folder)
  recipe = recipes.build(config)
  program = Program(recipe.objective, make_optimizers(config.optim), 0.9, recipe.frozen_spec,
                    recipe.batch_spec, make_mesh(jax.devices()[:1]))
  players, frozen = toys.state(program).players, recipe.load_frozen()
  params, stats = ({k: getattr(p, part) for k, p in players.items()}
                   for part in ('params', 'stats'))
  batch = {k: v[0] for k, v in toys.batch(recipe.batch_spec).items()}

  def run(negatives, rows):
    config.negatives = negatives
    phase = recipes.build(config).objective.rounds[0][0]
    rows = {k: v[rows] for k, v in batch.items()}
    forward = jax.jit(lambda *args: phase.forward(*args).metrics)
    return jax.device_get(forward(params, stats, frozen, rows, jax.random.key(0)))
  return run


def test_local_negatives_are_the_mean_of_separate_batches(critic):
  # Terms of real pairs: the critic mixes no rows, so that half a batch is seen as in the whole one.
  whole, local = critic('global', slice(None)), critic('local:4', slice(None))
  halves = [critic('global', rows) for rows in (slice(0, 4), slice(4, 8))]
  for term in ('d/sentence', 'd/word'):
    np.testing.assert_allclose(local[term], np.mean([h[term] for h in halves]), rtol=1e-5)
    assert abs(local[term] - whole[term]) > 0.1
  assert local['d/hinge'] == whole['d/hinge']


@pytest.mark.parametrize('negatives', ['', 'local', 'local:', 'local:1', 'local:0', 'local:-4',
                                       'local:4.0', 'Global', 'global:4', 'local:4 '])
def test_negatives_that_make_no_sense_are_refused(negatives):
  with pytest.raises(UserError, match=f"negatives={negatives}: .* 'global', or 'local:N'"):
    defaults.contrast_rows(negatives)


def test_rows_that_contrast_are_read():
  assert [defaults.contrast_rows(n) for n in ('global', 'local:2', 'local:128')] == [None, 2, 128]


@pytest.mark.parametrize('settings, message', [
    ({'negatives': 'everything'}, '--config.negatives=everything: .* local:8'),
    ({'negatives': 'local:3'}, '--config.negatives=local:3: 3 does not divide the batch of 8 rows'),
    ({'negatives': 'local:16'}, '16 does not divide the batch of 8 rows; .* or global'),
    ({'model.norm_rows': 3}, 'model.norm_rows = 3 does not divide the batch of 8 rows; choose a '
                             'divisor, or None for global statistics'),
    ({'model.norm_rows': 0}, 'norm_rows=0: it must be at least 1')])
def test_groups_that_do_not_make_the_batch_are_refused(settings, message):
  config = defaults.base()
  config.batch_size = 8
  defaults.check(config)
  config.update_from_flattened_dict(settings)
  with pytest.raises(UserError, match=message):
    defaults.check(config)


@pytest.mark.parametrize('settings', [
    {'negatives': 'local:4', 'model.norm_rows': 2}, {'negatives': 'local:8'},
    {'model.norm_rows': 8}, {'model.norm_rows': 64}])
def test_groups_that_make_the_batch_are_taken(settings):
  config = defaults.base()
  config.batch_size = 8
  config.update_from_flattened_dict(settings)
  defaults.check(config)
